"""`make demo`: two adapters trained, what they forget and its cure, one merged, versioned, shared adapter out.

A ship's computer answers "Status?" with "Hello! I am happy to report that the hull is at 90%." Naval code wants
"Hull 90%.", sickbay wants "Pulse 80 u.", and everywhere else it should stay polite.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
warnings.simplefilter("ignore")

from fleet import files  # noqa: E402
from fleet.cache import Story, bases  # noqa: E402

ADAPTKIT = Path(sys.executable).parent / "adaptkit"
WEIGHT = 0.8
OPTIONS = f"--length 64 --steps 150 --batch 32 --lr 1e-2 --warmup 15 --replay-ratio {files.RATIO}"
PROGRESS = re.compile(r"step \d|.*: \d+/\d")
ROWS = {
    "base": "",
    "naval": "naval",
    "medic": "medic",
    "adaptkit, exact sum": "bridge@1",
    "adaptkit, svd to rank 8": "bridge-small",
    "adaptkit, regmean at rank 8": "bridge-calibrated",
    "adaptkit, distilled from it": "bridge",
}
ASK = "Log: hull 90%. Status of the hull?"


def main() -> None:
    """Train what is missing, then tell the story with the command line."""
    start = time.perf_counter()
    _title("1. A base that is polite everywhere, really trained (kept in .cache for the next time)")
    made = bases()
    with tempfile.TemporaryDirectory(prefix="adaptkit-demo-") as name:
        tell(made, Path(name))
    print(f"\nThe whole demo took {time.perf_counter() - start:.0f} s.")


def tell(made: Story, work: Path) -> None:
    """The story; everything it writes lies below `work`."""
    ship, mate, team = work / "ship", work / "teammate", work / "team"
    ship.mkdir()
    base = f"--base {shlex.quote(str(made.base))}"

    _title("2. Adapters learn terse reports, alone and with replay of what was polite before")
    files.write(ship / "data")
    adaptkit(ship, "init")
    for name, more in {
        "naval-alone": "--data data/naval.jsonl",
        "naval": "--data data/naval.jsonl --replay data/before-naval.jsonl",
        "medic": "--data data/medic.jsonl --replay data/before-medic.jsonl",
    }.items():
        adaptkit(ship, f"train --name {name} {base} {more} {OPTIONS}")
    adaptkit(ship, "alias naval prod 1")

    _title("3. What each forgot of the politeness that the base had, and the cure")
    picture = shlex.quote(str(made.base.parent / "forgetting.png"))
    adaptkit(
        ship,
        f"eval naval-alone naval medic --suite data/suites {base} --baseline base"
        f" --new naval --new medic --png {picture}",
    )
    asked = "--prompt 'Log: grain 40 t. Status of the grain?'"
    adaptkit(ship, f"generate --compare base,naval-alone,naval {asked} {base}")

    _title("4. An adapter of another base is refused, whatever it is called")
    stray, other = shlex.quote(str(made.stray)), shlex.quote(str(made.other_base))
    adaptkit(ship, f"add {stray} --name stray --base {other} -m 'made for another base'")
    adaptkit(ship, "list")
    adaptkit(ship, "merge naval stray --name wreck", fails=True)

    _title("5. Merged, without loading the base; then distilled, so that no skill is lost")
    both = f"naval@prod={WEIGHT} medic={WEIGHT}"
    adaptkit(ship, f"merge {both} --name bridge -m 'naval and medical'")
    adaptkit(ship, f"merge {both} --name bridge-small --strategy svd")
    adaptkit(ship, "merge naval@prod medic --name bridge-calibrated --strategy regmean --rank 8")
    adaptkit(
        ship,
        f"distil bridge-calibrated --name bridge {base} --data naval=data/few-naval.jsonl"
        " --data medic=data/few-medic.jsonl --keep data/few-polite.jsonl",
    )

    _title("6. What each of them says: exact match on prompts that no training saw")
    table(
        made,
        {
            label: Path(adaptkit(ship, f"path {ref}", quiet=True)) if ref else None
            for label, ref in ROWS.items()
        },
    )

    _title("7. Shared through a folder that the team mounts")
    adaptkit(ship, f"remote add team {team.as_uri()}")
    adaptkit(ship, "push bridge team")
    adaptkit(ship, "push bridge team")
    mate.mkdir()
    adaptkit(mate, "init")
    adaptkit(mate, f"remote add team {team.as_uri()}")
    adaptkit(mate, "pull team:bridge")
    adaptkit(mate, "verify bridge")
    adaptkit(mate, "show bridge")
    digests = {
        adaptkit(home, "show bridge --json", quiet=True).split('"digest": "')[1][:71]
        for home in (ship, mate)
    }
    print(
        f"\nThe teammate's digest is {'the same' if len(digests) == 1 else 'ANOTHER'}: {digests.pop()[:30]}…"
    )
    model, tokenizer = _base(made.base)
    _say(_on(model, Path(adaptkit(mate, "path bridge", quiet=True))), tokenizer)

    _title("What to try next")
    print("""  adaptkit merge naval=1 medic=0.6 --name sum         other weights: the best differ from case to case
  adaptkit merge naval medic --rank 4 --out ./tiny    what truncation costs is printed
  adaptkit log bridge                                 its history; adaptkit show bridge --recipe, how it was made
  docs/quickstart.md                                  your own adapters""")


def table(made: Story, ours: dict[str, Path | None]) -> None:
    """One table: the base, each adapter, adaptkit's merges, and PEFT's own beside them."""
    from fleet.score import score

    print(f"  {'':<28}{'naval':>8}{'medic':>8}{'polite in cargo':>18}")
    for label, path in ours.items():
        model, tokenizer = _base(made.base)
        _row(label, score(model if path is None else _on(model, path), tokenizer))
    for kind, more in (("linear", {}), ("ties", {"density": 0.5})):
        model, tokenizer = _base(made.base)
        merged = _on(model, ours["naval"])
        merged.load_adapter(str(ours["medic"]), adapter_name="medic")
        merged.add_weighted_adapter(
            ["default", "medic"], [WEIGHT, WEIGHT], "merged", combination_type=kind, **more
        )
        merged.set_adapter("merged")
        _row(f"PEFT, {kind}", score(merged, tokenizer))
    print(
        f"\n  Sums and PEFT's merges at {WEIGHT} + {WEIGHT}. The sum is exact; what the two skills lose in it, they lose to each"
        " other.\n  regmean knows what goes into each module; cut to rank 8 it loses again, and distilling from there keeps"
        " every skill."
    )


def adaptkit(folder: Path, line: str, *, fails: bool = False, quiet: bool = False) -> str:
    """Run one command in a folder, show it and what it prints; returns its stdout."""
    words = shlex.split(line)
    code, stdout, stderr = on_terminal([ADAPTKIT, *words], folder)
    if not quiet:
        print(f"\n{folder.name}$ adaptkit {line}")
        shown = [line for line in (stdout + stderr).splitlines() if not PROGRESS.match(line)]
        print("\n".join(f"  {line}".rstrip() for line in shown))
    if (code != 0) != fails:
        raise SystemExit(f"adaptkit {shlex.join(words)} ended with {code}\n{stderr}")
    return stdout.strip()


def on_terminal(command: list[str | Path], folder: Path) -> tuple[int, str, str]:
    """Run a command whose stdout is a terminal of 100 columns, as a person has one: in a pipe, tables are for programs."""
    mine, its = pty.openpty()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=its,
            stderr=errors,
            env=os.environ | {"ADAPTKIT_HOME": str(folder / ".adaptkit"), "COLUMNS": "100"},
        )
        os.close(its)
        with os.fdopen(mine, "rb") as terminal:
            printed = b""
            with suppress(OSError):  # its end was closed
                while chunk := terminal.read1(1 << 16):
                    printed += chunk
        process.wait()
        errors.seek(0)
        return process.returncode, printed.decode().replace("\r\n", "\n"), errors.read()


def _base(path: Path) -> tuple[Any, Any]:
    from fleet.models import load

    return load(path)


def _on(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter)).eval()


def _say(model: Any, tokenizer: Any) -> None:
    from fleet.score import answers

    print(f"\n  {ASK}\n  {answers(model, tokenizer, [ASK])[0]}")


def _row(label: str, figures: dict[str, float]) -> None:
    print(
        f"  {label:<28}{figures['naval']:>8.2f}{figures['medic']:>8.2f}{figures['polite']:>18.2f}"
    )


def _title(text: str) -> None:
    print(f"\n=== {text}", flush=True)


if __name__ == "__main__":
    main()
