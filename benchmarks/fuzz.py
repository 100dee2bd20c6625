"""Broken bytes in every kind of file that comes from elsewhere, counted by what became of them.

python benchmarks/fuzz.py [--examples 20000] [--kinds card lock]        prints rows of the table of docs/security.md, and writes them there
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "shared"))
from broken_bytes import READERS, fuzz  # noqa: E402

PAGE = ROOT / "docs" / "security.md"
HEAD = "| file | tried | read | refused | refused by |\n|---|---|---|---|---|\n"
TAIL = "\nNo other error came from any of them."


def row(kind: str, examples: int) -> str:
    """What became of so many broken files of one kind; one that is a bug ends the run."""
    with TemporaryDirectory() as folder:
        seen = fuzz(kind, Path(folder), examples)
    read, refused = seen.pop("read", 0), sum(seen.values())
    by = ", ".join(f"{name} {count:,}" for name, count in seen.most_common())
    return f"| {kind} | {read + refused:,} | {read:,} | {refused:,} | {by} |\n"


def write(made: str) -> None:
    """Put a row into the page, in place of an older one of its kind."""
    before, _, rest = PAGE.read_text().partition(HEAD)
    table, _, after = rest.partition(TAIL)
    rows = {line.split("|")[1].strip(): f"{line}\n" for line in table.splitlines() if line}
    rows[made.split("|")[1].strip()] = made
    PAGE.write_text(before + HEAD + "".join(rows[k] for k in READERS if k in rows) + TAIL + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--kinds", nargs="+", choices=READERS, default=list(READERS))
    asked = parser.parse_args()
    for kind in asked.kinds:
        write(made := row(kind, asked.examples))
        print(made, end="", flush=True)


if __name__ == "__main__":
    main()
