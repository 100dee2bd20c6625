"""Merges of the demo's two skills over seeds 0–4, data-free, by moments, weighed and distilled, into docs/calibrated-merging.md.

    python benchmarks/seeds.py [--seeds 0 1 …]      train what is missing (minutes a seed), measure, write the tables

The data-free strategies go into docs/strategies.md, too. What was measured is kept in .cache/seeds, so a run that was
broken off goes on where it was, and seeds may be measured one at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))
warnings.simplefilter("ignore")

CACHE = ROOT / ".cache" / "seeds"
PAGE = ROOT / "docs" / "calibrated-merging.md"
BEGIN, END = "<!-- table: benchmarks/seeds.py -->\n", "<!-- end of table -->"
SKILLS = ("naval", "medic", "polite")
DATA_FREE = (
    *("linear", "svd", "ties", "tsv", "iso_c", "iso_cts", "cart", "karcher"),
    *("wudi", "actmat", "svc", "lego", "robustmerge", "ctm"),
)
STRATEGIES = ROOT / "docs" / "strategies.md"
PEFT = [
    ("linear", 0.7, {}),
    ("ties", 1.0, {"density": 0.5}),
    ("svd", 0.8, {}),
]


def main() -> None:
    """Train, merge, ask, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    for seed in parser.parse_args().seeds:
        for start in ("one seed", "seeds of their own"):
            measure(seed, start)
    write()


def models(seed: int, start: str) -> tuple[Path, Path, Path]:
    """A base and two adapters on it; with one seed, the A of both start equal."""
    from fleet.models import make_adapter, make_base

    folder = CACHE / str(seed)
    base, naval = folder / "base", folder / "naval"
    medic = folder / ("medic" if start == "one seed" else "medic-own")
    _once(base, lambda out: make_base(out, seed=seed))
    _once(naval, lambda out: make_adapter(base, out, "naval", seed=seed))
    own = seed if start == "one seed" else 101 + 10 * seed
    _once(medic, lambda out: make_adapter(base, out, "medic", seed=own))
    return base, naval, medic


def _once(folder: Path, make: Callable[[Path], None]) -> None:
    if not folder.is_dir():
        work = folder.with_name(f".{folder.name}")
        work.mkdir(parents=True, exist_ok=True)
        make(work)
        work.rename(folder)


def measure(seed: int, start: str) -> None:
    """Every merge of one pair, asked; kept in a file."""
    from adaptkit import Workspace

    file = CACHE / f"{seed}-{start.replace(' ', '-')}.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    base, naval, medic = models(seed, start)
    with (
        tempfile.TemporaryDirectory(prefix="adaptkit-seeds-") as folder,
        Workspace.init(folder, notify=lambda _: None) as ws,
    ):
        ws.add(naval, "naval", base=str(base))
        ws.add(medic, "medic", base=str(base))

        def once(label: str, make: Callable[[], tuple[Path, Any]]) -> None:
            if label not in found:
                began = time.process_time()
                out, more = make()
                took = time.process_time() - began
                found[label] = [ask(base, out), took, more]
                file.write_text(json.dumps(found))

        def merged(name: str, weight: float, **how: Any) -> Callable[[], tuple[Path, Any]]:
            def make() -> tuple[Path, Any]:
                out = Path(folder) / f"{name.replace(':', '-')}-{weight}-{how.get('rank')}"
                ws.merge({"naval": weight, "medic": weight}, out=out, strategy=name, **how)
                return out, None

            return make

        for name in DATA_FREE:
            once(f"`{name}`, 0.8", merged(name, 0.8))
        for kind, weight, more in PEFT:
            once(
                f"PEFT itself, `{kind}`, {weight:g}",
                lambda kind=kind, weight=weight, more=more: (
                    peft(base, naval, medic, Path(folder), kind, weight, more),
                    None,
                ),
            )
        prompts(Path(folder))
        for name in ("naval", "medic"):
            ws.calibrate(name, base, Path(folder) / f"{name}-16.jsonl")
        once("`regmean`, 16 rows", merged("regmean", 1.0))
        once("`regmean`, 16 rows, rank 8", merged("regmean", 1.0, rank=8))
        once("`linear`, weighed, 32 prompts a skill", lambda: weighed(ws, base, Path(folder)))
        for source in ("regmean", "linear"):
            label = f"distilled from `{source}` at rank 8, 32 prompts a skill"
            once(label, lambda s=source: distilled(ws, base, Path(folder), s))


def prompts(folder: Path) -> None:
    """Rows that no score asks for: 16 with answers, 32 without, and as many polite ones of cargo to keep."""
    from fleet import logs

    for name, domain, terse in (
        ("naval", "ship", True),
        ("medic", "sickbay", True),
        ("rest", "cargo", False),
    ):
        rows = logs.rows(domain, terse=terse, held_out=False, count=2000, seed=7)
        unique = list({row.prompt: row for row in rows}.values())
        for count in (16, 32):
            lines = [
                {"prompt": row.prompt} | ({"completion": row.answer} if count == 16 else {})
                for row in unique[:count]
            ]
            (folder / f"{name}-{count}.jsonl").write_text(
                "".join(json.dumps(line) + "\n" for line in lines)
            )


def weighed(ws: Any, base: Path, folder: Path) -> tuple[Path, Any]:
    """The exact sum with weights by module, by null-space compression; with the report."""
    out, data = folder / "weighed", {skill: folder / f"{skill}-32.jsonl" for skill in SKILLS[:2]}
    done = ws.weigh({"naval": 0.8, "medic": 0.8}, base, data)
    ws.merge(done.sources, out=out, facts=done.facts)
    return out, done.report.to_json()


def distilled(ws: Any, base: Path, folder: Path, source: str) -> tuple[Path, Any]:
    """The merge at rank 8, distilled; with the report."""
    weight = 1.0 if source == "regmean" else 0.8
    name = f"{source}-distilled"
    ws.merge({"naval": weight, "medic": weight}, name=name, strategy=source, rank=8)
    data = {skill: folder / f"{skill}-32.jsonl" for skill in ("naval", "medic")}
    done = ws.distil(name, base, data, keep=folder / "rest-32.jsonl")
    return ws.path(name), done.report.to_json()


def peft(
    base: Path, naval: Path, medic: Path, folder: Path, kind: str, weight: float, more: Any
) -> Path:
    """PEFT's own `add_weighted_adapter`, saved."""
    from peft import PeftModel

    from fleet.models import load

    model, _ = load(base)
    both = PeftModel.from_pretrained(model, str(naval))
    both.load_adapter(str(medic), adapter_name="medic")
    both.add_weighted_adapter(
        ["default", "medic"], [weight, weight], "merged", combination_type=kind, **more
    )
    out = folder / f"peft-{kind}"
    both.save_pretrained(out, selected_adapters=["merged"])
    return out / "merged"


def ask(base: Path, adapter: Path) -> dict[str, float]:
    """Exact match on 90 held-out prompts of each skill."""
    from peft import PeftModel

    from fleet.models import load
    from fleet.score import score

    model, tokenizer = load(base)
    return score(PeftModel.from_pretrained(model, str(adapter)), tokenizer)


def write() -> None:
    """The table, from all that was ever measured here."""
    columns, seeds = {}, {}
    for start in ("one seed", "seeds of their own"):
        runs = [
            json.loads(file.read_text())
            for file in sorted(CACHE.glob(f"?-{start.replace(' ', '-')}.json"))
        ]
        seeds[start] = len(runs)
        for label in dict.fromkeys(label for run in runs for label in run):
            scores = [run[label][0] for run in runs if label in run]
            took = fmean(run[label][1] for run in runs if label in run)
            columns.setdefault(label, {})[start] = scores, took
    shown = [start for start in seeds if seeds[start]]
    head = [f"{skill}, {start}" for start in shown for skill in (*SKILLS, "worst of all")]
    lines = [
        f"| merge | {' | '.join(head)} | CPU seconds |",
        f"|---{'|---' * len(head)}|---|",
    ]
    for label, found in columns.items():
        cells = [label]
        for start in shown:
            scores = found.get(start, ([], 0.0))[0]
            cells += [f"{fmean(s[k] for s in scores):.2f}" if scores else "" for k in SKILLS]
            cells.append(f"{min(s[k] for s in scores for k in SKILLS):.2f}" if scores else "")
        lines.append(f"| {' | '.join(cells)} | {fmean(t for _, t in found.values()):.1f} |")
    counts = " and ".join(f"{seeds[start]} with {start}" for start in shown)
    said = f"Means over bases and pairs of adapters: {counts}. With one seed the A of both adapters start equal."
    _put(PAGE, "\n".join([said, "", *lines]) + "\n")
    data_free = [line for line in lines[2:] if line.split("`")[1:2] and _data_free(line)]
    _put(STRATEGIES, "\n".join([said, "", *lines[:2], *data_free]) + "\n")


def _data_free(line: str) -> bool:
    """Whether a row is of a strategy that needs neither data nor moments."""
    return any(line.startswith(f"| `{name}`, 0.8 |") for name in DATA_FREE)


def _put(path: Path, table: str) -> None:
    page = path.read_text()
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")
    print(f"{path.name}\n{table}")


if __name__ == "__main__":
    main()
