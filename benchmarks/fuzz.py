"""Broken bytes in every kind of file that comes from elsewhere, counted by what became of them.

python benchmarks/fuzz.py [--examples 20000]        prints the table of docs/security.md, and writes it there
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=20_000)
    examples = parser.parse_args().examples
    table = HEAD
    for kind in READERS:
        table += (made := row(kind, examples))
        print(made, end="", flush=True)
    text = PAGE.read_text()
    before, _, rest = text.partition(HEAD)
    PAGE.write_text(before + table + TAIL + rest.partition(TAIL)[2])


if __name__ == "__main__":
    main()
