"""`make bench`: every strategy on the demo's two trained adapters, PEFT's own merges beside them, into docs/strategies.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
warnings.simplefilter("ignore")

WEIGHT = 0.8
PICTURES = {
    "similarity": "`plot similarity`: the cosine of the updates. Near 0, as here, a sum disturbs neither; near 1 they say the same, "
    "and a sum says it twice as loudly; below 0 they undo each other.",
    "spectrum": "`plot spectrum`: the singular values of every module. Where the curves fall fast, a merge can be cut to a low "
    "rank; a flat curve loses what is cut.",
    "conflict": "`plot conflict`: the share of entries whose signs are opposite, module by module. One half is chance, as of updates that have nothing to do with each other; the nearer to it, the more "
    "strategies that elect signs (TIES and its kin) have to decide.",
}
PAGE = Path(__file__).parent.parent / "docs" / "strategies.md"
SEEDS = "## Over seeds"


def main() -> None:
    """Merge, ask, write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    from peft import PeftModel

    from adaptkit import Workspace
    from adaptkit.merge.comparing.plots import draw
    from fleet import logs
    from fleet.cache import story
    from fleet.models import load
    from fleet.score import score

    made = story()
    rows = []

    def ask(adapter: Path) -> dict[str, float]:
        model, tokenizer = load(made.base)
        return score(PeftModel.from_pretrained(model, str(adapter)), tokenizer)

    with (
        tempfile.TemporaryDirectory(prefix="adaptkit-strategies-") as folder,
        Workspace.init(folder, notify=lambda _: None) as ws,
    ):
        ws.add(made.naval, "naval", base=str(made.base))
        ws.add(made.medic, "medic", base=str(made.base))
        for name, domain in (("naval", "ship"), ("medic", "sickbay")):
            own = logs.rows(domain, terse=True, held_out=False, count=16, seed=7)
            data = Path(folder) / f"{name}.jsonl"
            lines = [{"prompt": row.prompt, "completion": row.answer} for row in own]
            data.write_text("".join(json.dumps(line) + "\n" for line in lines))
            ws.calibrate(name, made.base, data)
        (PAGE.parent / "pictures").mkdir(exist_ok=True)
        for kind in PICTURES:
            draw(
                kind,
                ws.diff([f"naval={WEIGHT}", f"medic={WEIGHT}"]),
                PAGE.parent / "pictures" / f"{kind}.png",
            )
        for name in ws.plugins.names("strategies"):
            for space in ws.plugins.strategy(name).spaces:
                if space != "dense" and ws.plugins.strategy(name).coefficients(
                    [1.0], ws.plugins.strategy(name).params()
                ):
                    if space != "core":
                        continue  # a sum is the same in every space
                elif space == "dense" and ws.plugins.strategy(name).spaces[0] == "core":
                    continue
                out = Path(folder) / f"{name.replace(':', '-')}-{space}"
                measured = ws.plugins.strategy(name).needs == "moments"
                weight = 1.0 if measured else WEIGHT
                report = ws.merge(
                    {"naval": weight, "medic": weight}, out=out, strategy=name, space=space
                ).report
                rows.append(
                    (
                        f"`{name}` (16 rows each, 1 + 1)" if measured else f"`{name}`",
                        space,
                        str(report.rank),
                        f"{report.error.total or 0:.2g}",
                        ask(out),
                    )
                )
    for kind, more in (
        ("linear", {}),
        ("ties", {"density": 0.5}),
        ("svd", {}),
        ("ties_svd", {"density": 0.5}),
    ):
        model, tokenizer = load(made.base)
        merged = PeftModel.from_pretrained(model, str(made.naval))
        merged.load_adapter(str(made.medic), adapter_name="medic")
        merged.add_weighted_adapter(
            ["default", "medic"], [WEIGHT, WEIGHT], "merged", combination_type=kind, **more
        )
        merged.set_adapter("merged")
        rows.append((f"PEFT itself, `{kind}`", "", "8", "", score(merged, tokenizer)))
    lines = [
        "# Strategies measured",
        "",
        f"Written by `make bench`: the demo's `naval` and `medic` adapters, really trained, at {WEIGHT} + {WEIGHT}, every strategy at",
        "its default parameters. Exact match on 90 held-out prompts each; alone both adapters have 1.00 of their own skill.",
        "One seed of one tiny model: it shows that strategies differ, not which one is best for yours. Over several seeds,",
        "by moments and distilled: [merges that keep every skill](calibrated-merging.md).",
        "",
        "| strategy | space | rank | loss of truncation | naval | medic | still polite in cargo |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {n} | {s} | {r} | {e} | {f['naval']:.2f} | {f['medic']:.2f} | {f['polite']:.2f} |"
            for n, s, r, e, f in rows
        ),
    ]
    lines += [
        "",
        "## The two adapters side by side",
        "",
        "Drawn by `adaptkit plot` from their factors alone.",
        "",
    ]
    for kind, what in PICTURES.items():
        lines += [f"![{kind}](pictures/{kind}.png)", "", what, ""]
    seeds = PAGE.read_text().partition(SEEDS)[2]  # benchmarks/seeds.py writes that part
    PAGE.write_text("\n".join(lines).rstrip() + f"\n\n{SEEDS}{seeds}")
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
