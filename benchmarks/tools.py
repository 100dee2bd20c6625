"""`make bench`: what PEFT, mergekit, kohya's scripts and adaptkit make of the demo's two adapters, into docs/tools.md.

PEFT runs in this process. mergekit runs as its own command, in an environment that this script makes under `.cache/`
(its dependencies pin other versions, so it borrows what is installed here). kohya's scripts are no package: their two
ways of merging are restated below, from networks/merge_lora.py and networks/svd_merge_lora.py of kohya-ss/sd-scripts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))
warnings.simplefilter("ignore")

if TYPE_CHECKING:
    from collections.abc import Callable

    from adaptkit.extend import Array
    from fleet.cache import Story

    Updates = dict[str, Array]

WEIGHT = 0.8
PAGE = ROOT / "docs" / "tools.md"
MERGEKIT = (
    "mergekit",
    "immutables",
    "pydantic<2.11",
    "pydantic-core==2.27.2",
    "annotated-types",
    "accelerate",
    "psutil",
    "scipy",
    "sentencepiece",
    "protobuf",
)


@dataclass(frozen=True)
class Result:
    """One merge: its update of every weight, seconds, bytes written, and how its model scores."""

    tool: str
    mode: str
    updates: Updates
    seconds: float
    written: int
    scores: dict[str, float]


def main() -> None:
    """Merge with everybody, ask, write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    from fleet.cache import story

    made = story()
    exact = _sum(_updates(made.naval), _updates(made.medic))
    with tempfile.TemporaryDirectory(prefix="adaptkit-tools-") as folder:
        results = [
            *_adaptkit(made, Path(folder)),
            *_peft(made, Path(folder)),
            *_mergekit(made, Path(folder)),
            *_kohya(made),
        ]
    PAGE.write_text(_page(results, exact))
    print(PAGE.read_text())


# ---------------------------------------------------------------- the tools


def _adaptkit(made: Story, folder: Path) -> list[Result]:
    from adaptkit import Workspace

    found = []
    cases: list[tuple[str, dict[str, Any]]] = [
        ("linear", {}),
        ("svd, rank 8", {"strategy": "svd", "rank": 8}),
        ("ties (core)", {"strategy": "ties", "space": "core"}),
        ("ties (knots)", {"strategy": "ties", "space": "knots"}),
        ("ties (dense), rank 8", {"strategy": "ties", "space": "dense", "rank": 8}),
        ("dare_ties (dense), rank 8", {"strategy": "dare_ties", "space": "dense", "rank": 8}),
    ]
    with Workspace.init(folder / "home", notify=lambda _: None) as ws:
        for mode, how in cases:
            out = folder / f"ours-{len(found)}"
            seconds = _timed(
                lambda out=out, how=how: ws.merge(
                    [f"{made.naval}={WEIGHT}", f"{made.medic}={WEIGHT}"], out=out, **how
                )
            )
            found.append(
                Result(
                    "adaptkit", mode, _updates(out), seconds, _size(out), _ask_adapter(made, out)
                )
            )
    return found


def _peft(made: Story, folder: Path) -> list[Result]:
    from peft import PeftModel

    from fleet.models import load

    found = []
    for mode, how in (
        ("linear", {}),
        ("svd", {}),
        ("cat", {}),
        ("ties", {"density": 0.5}),
        ("ties_svd", {"density": 0.5}),
        ("dare_ties", {"density": 0.5}),
    ):
        model, _ = load(made.base)
        merged = PeftModel.from_pretrained(model, str(made.naval))
        merged.load_adapter(str(made.medic), adapter_name="medic")
        seconds = _timed(
            lambda merged=merged, mode=mode, how=how: merged.add_weighted_adapter(
                ["default", "medic"], [WEIGHT, WEIGHT], "merged", combination_type=mode, **how
            )
        )
        out = folder / f"peft-{mode}"
        merged.save_pretrained(out, selected_adapters=["merged"])
        found.append(
            Result(
                "PEFT",
                mode,
                _updates(out / "merged"),
                seconds,
                _size(out),
                _ask_adapter(made, out / "merged"),
            )
        )
    return found


def _mergekit(made: Story, folder: Path) -> list[Result]:
    command = _mergekit_command()
    if command is None:
        print("mergekit could not be installed here: its rows are left out", file=sys.stderr)
        return []
    found = []
    for mode, more in (
        ("linear", {}),
        ("task_arithmetic", {}),
        ("ties", {"density": 0.5}),
        ("dare_ties", {"density": 0.5}),
    ):
        plan = {
            "merge_method": mode,
            "dtype": "float32",
            "models": [
                {"model": f"{made.base}+{adapter}", "parameters": {"weight": WEIGHT} | more}
                for adapter in (made.naval, made.medic)
            ],
        }
        if mode != "linear":
            plan |= {"base_model": str(made.base), "parameters": {"normalize": False}}
        (folder / f"{mode}.yml").write_text(json.dumps(plan))
        out, cache = folder / f"mergekit-{mode}", folder / f"cache-{mode}"
        run = lambda mode=mode, out=out, cache=cache: subprocess.run(  # noqa: E731
            [
                str(command),
                str(folder / f"{mode}.yml"),
                str(out),
                "--lora-merge-cache",
                str(cache),
                "--random-seed",
                "0",
            ],
            check=True,
            capture_output=True,
        )
        seconds = _timed(run)
        base, after = _weights(made.base), _weights(out)
        updates = {
            name: after[name] - base[name]
            for name in base
            if not np.array_equal(after[name], base[name])
        }
        found.append(
            Result(
                "mergekit",
                mode,
                updates,
                seconds,
                _size(out) + _size(cache),
                _ask_model(made, updates),
            )
        )
    return found


def _kohya(made: Story) -> list[Result]:
    def direct(pairs: list[tuple[Array, Array, float]]) -> Array:
        """merge_lora.py: the factors are summed apart, each with the weight, so that the product has it squared."""
        up = sum(WEIGHT * b * scale**0.5 for b, _, scale in pairs)
        down = sum(WEIGHT * a * scale**0.5 for _, a, scale in pairs)
        return np.asarray(up @ down)

    def svd(pairs: list[tuple[Array, Array, float]], rank: int = 8) -> Array:
        """svd_merge_lora.py: the dense sum is cut, and every factor's entries are clamped at the 0.99 quantile."""
        whole = sum(WEIGHT * scale * b @ a for b, a, scale in pairs)
        u, s, v = np.linalg.svd(np.asarray(whole), full_matrices=False)
        u, v = u[:, :rank] * s[:rank], v[:rank]
        high = float(np.quantile(np.concatenate([u.ravel(), v.ravel()]), 0.99))
        return np.asarray(np.clip(u, -high, high) @ np.clip(v, -high, high))

    found = []
    factors = [_factors(adapter) for adapter in (made.naval, made.medic)]
    for mode, make in (
        ("merge_lora (restated)", direct),
        ("svd_merge_lora, rank 8 (restated)", svd),
    ):
        updates: Updates = {}

        def work(make: Callable[..., Array] = make, updates: Updates = updates) -> None:
            updates |= {name: make([part[name] for part in factors]) for name in factors[0]}

        seconds = _timed(work)
        found.append(Result("kohya", mode, updates, seconds, 0, _ask_model(made, updates)))
    return found


def _mergekit_command() -> Path | None:
    place = ROOT / ".cache" / "mergekit"
    command = place / "bin" / "mergekit-yaml"
    if not command.exists():
        with suppress(subprocess.CalledProcessError):
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
            subprocess.run(
                [str(place / "bin" / "pip"), "install", "--quiet", "--no-deps", *MERGEKIT],
                check=True,
            )
            packages = next((place / "lib").glob("python3*")) / "site-packages"
            borrowed = next(path for path in map(Path, sys.path) if path.name == "site-packages")
            (packages / "borrowed.pth").write_text(f"{borrowed}\n")
    return command if command.exists() else None


# ---------------------------------------------------------------- measuring


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _factors(folder: Path) -> dict[str, tuple[Array, Array, float]]:
    """B, A and the scale of every module, as lora_up, lora_down and alpha / rank."""
    from adaptkit.adapters.adapter import Adapter
    from adaptkit.extend import LowRank
    from adaptkit.plugin.manager import Plugins

    with Adapter.open(folder) as adapter:
        method = Plugins.from_environment().method_for(adapter)
        deltas = {f"{m.name}.weight": method.delta(adapter, m) for m in method.modules(adapter)}
        return {
            name: (d.B.astype(np.float64), d.A.astype(np.float64), d.scale)
            for name, d in deltas.items()
            if isinstance(d, LowRank)
        }


def _updates(folder: Path) -> Updates:
    return {name: scale * b @ a for name, (b, a, scale) in _factors(folder).items()}


def _sum(one: Updates, two: Updates) -> Updates:
    return {name: WEIGHT * one[name] + WEIGHT * two[name] for name in one}


def _weights(folder: Path) -> Updates:
    from safetensors.numpy import load_file

    return {
        k: v.astype(np.float64)
        for file in sorted(folder.glob("*.safetensors"))
        for k, v in load_file(file).items()
    }


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def _ask_adapter(made: Story, adapter: Path) -> dict[str, float]:
    return _ask_model(made, _updates(adapter))


def _ask_model(made: Story, updates: Updates) -> dict[str, float]:
    """How the base scores with an update in its weights."""
    import torch

    from fleet.models import load
    from fleet.score import score

    model, tokenizer = load(made.base)
    with torch.no_grad():
        for name, update in updates.items():
            model.get_parameter(name).add_(torch.from_numpy(update).to(torch.float32))
    return score(model, tokenizer)


def _page(results: list[Result], exact: Updates) -> str:
    size = sum(float(np.linalg.norm(v)) ** 2 for v in exact.values()) ** 0.5
    lines = [
        "# Four tools, the same two adapters",
        "",
        "Written by `make bench` (`benchmarks/tools.py`): the demo's `naval` and `medic`, really trained, merged at "
        f"{WEIGHT} + {WEIGHT}.",
        "",
        "- *from the sum*: how far the result is from Σ wᵢ·sᵢ·Bᵢ·Aᵢ, relative to it, over all modules, in float64. Strategies that",
        "  mean to give something else than the sum are far from it on purpose; `linear`, `cat`, `svd` and kohya's mean the sum.",
        "- *rank*: the largest numerical rank of a module's update.",
        "- *naval, medic, polite*: exact match on 90 held-out prompts each. One seed of one tiny model.",
        "- *seconds*: the merge alone, once (mergekit: its command from start to end); *written*: bytes of tensors.",
        "- PEFT and mergekit really ran; kohya's scripts are no package, so their formulas are restated in the script.",
        "- mergekit's `linear` divides by the sum of the weights, and its modes work on full models: it writes one per adapter first.",
        "",
        "| tool | mode | from the sum | rank | naval | medic | polite | seconds | written |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        apart = (
            sum(float(np.linalg.norm(r.updates.get(n, 0.0) - v)) ** 2 for n, v in exact.items())
            ** 0.5
            / size
        )
        rank = max(
            (
                int(np.linalg.matrix_rank(v, tol=1e-4 * np.linalg.norm(v, 2)))
                for n, v in r.updates.items()
                if n in exact
            ),
            default=0,
        )
        a = r.scores
        written = f"{r.written / 1e3:,.0f} kB" if r.written else "–"
        lines.append(
            f"| {r.tool} | `{r.mode}` | {apart:.2g} | {rank} | {a['naval']:.2f} | {a['medic']:.2f} | {a['polite']:.2f} "
            f"| {r.seconds:.2g} | {written} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
