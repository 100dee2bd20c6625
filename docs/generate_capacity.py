"""The capacity table of docs/serving.md: what an adapter takes on the device, by base, rank and layers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The widths of a Llama-like base."""

    name: str
    layers: int
    hidden: int
    kv: int
    mlp: int
    weights_gb: float  # in bf16


# From each model's config.json.
BASES = (
    Shape("Llama 3.2 1B", 16, 2048, 512, 8192, 2.5),
    Shape("Llama 3.1 8B", 32, 4096, 1024, 14336, 16.1),
    Shape("Llama 3.1 70B", 80, 8192, 1024, 28672, 141.1),
)
GPU_GB, CACHE_GB = 80, 10  # an H100 or A100, and what is left for the key-value cache


def adapter_bytes(base: Shape, rank: int, layers: str) -> int:
    """Σ over the layers of rank × (inputs + outputs) × 2 bytes."""
    h, kv, m = base.hidden, base.kv, base.mlp
    attention = (h + h) + (h + kv) + (h + kv) + (h + h)
    sizes = {"q, v": (h + h) + (h + kv), "all linear": attention + 3 * (h + m)}
    return rank * sizes[layers] * base.layers * 2


def plan_text() -> str:
    """What `adaptkit serve --memory 8GiB` prints for the first base on a GPU, with 212 adapters of rank 16."""
    from adaptkit.serving.placement import CACHED_TOKENS, Need, Wide, lines, plan

    base, rank = BASES[0], 16
    h, kv, m = base.hidden, base.kv, base.mlp
    sizes = {
        "q_proj": (h, h),
        "k_proj": (kv, h),
        "v_proj": (kv, h),
        "o_proj": (h, h),
        "gate_proj": (m, h),
        "up_proj": (m, h),
        "down_proj": (h, m),
    }
    modules = {
        f"{layer}.{name}": Wide(*size, rank)
        for layer in range(base.layers)
        for name, size in sizes.items()
    }
    need = Need(
        base="ship",
        memory=8 << 30,
        weights=int(base.weights_gb * 1e9),
        cache_of_row=2 * 2 * base.layers * kv * CACHED_TOKENS,
        itemsize=2,
        modules=modules,
        adapters=212,
        on_cpu=False,
    )
    return "\n".join(lines(plan(need, rows=16, slots=None, host=None, most=212)))


def table() -> str:
    """Rows of base, rank and layers."""
    rows = [
        "| base | rank | layers | one adapter | slots in 80 GB beside the base and 10 GB of cache |",
        "|---|---|---|---|---|",
    ]
    for base in BASES:
        for rank, layers in ((8, "q, v"), (16, "all linear"), (64, "all linear")):
            size = adapter_bytes(base, rank, layers)
            room = (GPU_GB - CACHE_GB - base.weights_gb) * 1e9
            slots = f"{room / size:,.0f}" if room > 0 else "the base does not fit one"
            rows.append(f"| {base.name} | {rank} | {layers} | {size / 1e6:,.1f} MB | {slots} |")
    return "\n".join(rows)
