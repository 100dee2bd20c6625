"""The LoRA forward three ways: NumPy, a hand-written torch layer, and PEFT, on the same numbers.

    python examples/lora_from_scratch.py

y = W·x + (alpha / r)·B·(A·x): the base's matrix W stays as it is, and the two thin ones are what is trained.
"""

from __future__ import annotations

from typing import Any

import numpy as np

INPUTS, OUTPUTS, RANK, ALPHA, BATCH = 48, 32, 8, 16.0, 5


def numbers(seed: int = 0) -> dict[str, Any]:
    """A base matrix W, the factors A and B, and some inputs x, one a row."""
    rng = np.random.default_rng(seed)
    shapes = {
        "W": (OUTPUTS, INPUTS),
        "A": (RANK, INPUTS),
        "B": (OUTPUTS, RANK),
        "x": (BATCH, INPUTS),
    }
    return {
        name: (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        for name, shape in shapes.items()
    }


# ---------------------------------------------------------------- 1. NumPy


def lora_in_numpy(W: Any, A: Any, B: Any, x: Any) -> Any:
    """Two thin products beside the base's own; B·A is never formed."""
    return x @ W.T + (ALPHA / RANK) * (x @ A.T) @ B.T


# ---------------------------------------------------------------- 2. a torch layer


def layer_of_our_own(W: Any, A: Any, B: Any) -> Any:
    """A torch layer that wraps a linear one, which it freezes."""
    import torch
    from torch import nn

    class LoRALinear(nn.Module):
        """W frozen; A starts random and B at zero, so that training begins at the base itself."""

        def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
            super().__init__()
            self.base = base.requires_grad_(False)
            self.A = nn.Parameter(torch.randn(rank, base.in_features) / rank)
            self.B = nn.Parameter(torch.zeros(base.out_features, rank))
            self.scaling = alpha / rank

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.base(x) + self.scaling * (x @ self.A.T) @ self.B.T
            return out

    layer = LoRALinear(_linear(W), RANK, ALPHA)
    with torch.no_grad():
        layer.A.copy_(torch.from_numpy(A))
        layer.B.copy_(torch.from_numpy(B))
    return layer


# ---------------------------------------------------------------- 3. PEFT


def layer_of_peft(W: Any, A: Any, B: Any) -> Any:
    """The layer that PEFT puts in the place of the linear one."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch import nn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = _linear(W)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.proj(x)
            return out

    model = get_peft_model(
        Model(), LoraConfig(r=RANK, lora_alpha=int(ALPHA), target_modules=["proj"])
    )
    layer = model.base_model.model.proj
    with torch.no_grad():
        layer.lora_A["default"].weight.copy_(torch.from_numpy(A))
        layer.lora_B["default"].weight.copy_(torch.from_numpy(B))
    return model


def _linear(W: Any) -> Any:
    import torch
    from torch import nn

    linear = nn.Linear(W.shape[1], W.shape[0], bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(W))
    return linear


# ---------------------------------------------------------------- and merged


def merged(W: Any, A: Any, B: Any, x: Any) -> Any:
    """The update added to W for good: one matrix again, and no extra work when the model runs."""
    return x @ (W + (ALPHA / RANK) * B @ A).T


def compare() -> dict[str, float]:
    """The largest distance of each way from NumPy's in double precision."""
    import torch

    found = numbers()
    W, A, B, x = (found[name] for name in "WABx")
    exact = lora_in_numpy(*(found[name].astype(np.float64) for name in "WABx"))
    inputs = torch.from_numpy(x)
    with torch.no_grad():
        ways = {
            "NumPy": lora_in_numpy(W, A, B, x),
            "a layer of our own": layer_of_our_own(W, A, B)(inputs).numpy(),
            "PEFT": layer_of_peft(W, A, B)(inputs).numpy(),
            "merged into W": merged(W, A, B, x),
        }
    return {name: float(np.abs(got - exact).max()) for name, got in ways.items()}


def main() -> None:
    """Show that they agree, and what is trained."""
    for name, apart in compare().items():
        print(f"{name:<20} {apart:.1e} from the exact result")
    full, lora = OUTPUTS * INPUTS, RANK * (OUTPUTS + INPUTS)
    print(f"W has {full:,} parameters; A and B have {lora:,}")


if __name__ == "__main__":
    main()
