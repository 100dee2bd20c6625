"""A workspace whose database somebody else wrote, as one in a clone, or a disk has damaged.

No command ends in a bug report, or acts on a terminal.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
from contextlib import closing
from itertools import islice, product

import pytest
from command_line import Shell, run
from damaged_rows import WRONG, columns_of, loosen, put
from hostile_text import acts

MADE = """\
demo fleet
init
add fleet/naval --name naval --alias prod --base fleet/ship
add fleet/medic --name medic --base fleet/ship
add fleet/medic --name old --base fleet/ship
rm old --yes
note naval --tag approved --metric accuracy=0.9
rename medic doctor
remote add team TEAM
push naval@prod team
base add fleet/ship --name ship
merge naval=0.5 doctor=0.5 --name both
alias both prod 1"""
READING = """\
list
list --all --json
list nav
show naval
show both --json
log naval
log both --graph
log --events
log --events --json
lineage both
lineage both --mermaid
diff naval doctor
path naval
export naval OUT
registry export LINES
status
info
verify
outdated
base list
base show ship
base verify naval --base fleet/ship
restore
card naval
gc --dry-run
fsck
fsck --json"""
WRITING = """\
merge naval doctor --name new
alias naval canary 1
rollback naval prod
note naval --tag x
restore old@1
rm doctor --yes
rename both all
push naval team
push both team
pull team:naval
lock
add fleet/naval --name naval
add fleet/medic --name naval
gc
fsck --repair
registry rebuild --from team"""
COMPLETED = ("show ", "show naval@", "restore ", "list --tag ", "pull ")
PAGE = 4096
COMMANDS = [*READING.splitlines(), *WRITING.splitlines(), *(f"TAB {one}" for one in COMPLETED)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    made = Shell(tmp_path_factory.mktemp("home"))
    for line in MADE.splitlines():
        made.run(*line.replace("TEAM", (made.folder / "team").as_uri()).split())
    (made.folder / "adaptkit.toml").write_text('[adapters]\nnaval = "team:naval"\n')
    database = made.home / "registry.db"
    with closing(sqlite3.connect(database)) as sql:
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    loosen(database)
    made.home.rename(made.folder / "pristine")
    return made


def typed(home, command):
    if not command.startswith("TAB "):
        return run(command.split(), home.folder, ADAPTKIT_HOME=str(home.home))
    words = f"adaptkit {command.removeprefix('TAB ')}"
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    return run(
        [],
        home.folder,
        ADAPTKIT_HOME=str(home.home),
        _ADAPTKIT_COMPLETE="bash_complete",
        **asked,
    )


@pytest.mark.parametrize(
    "step", [701, pytest.param(1, marks=pytest.mark.soak)], ids=["some", "all"]
)
def test_no_command_reports_a_bug_or_acts_whatever_a_row_holds(step, home):
    columns = list(columns_of(home.folder / "pristine" / "registry.db"))
    tried = 0
    for (table, column), kind, command in islice(product(columns, WRONG, COMMANDS), 0, None, step):
        as_it_was(home)
        put(home.home / "registry.db", table, column, WRONG[kind])
        tried += 1
        answers(home, command, f"{table}.{column} holds {kind}")
    assert tried > 100


def as_it_was(home):
    for left in (home.home, home.folder / "OUT"):
        shutil.rmtree(left, ignore_errors=True)
    (home.folder / "LINES").unlink(missing_ok=True)
    shutil.copytree(home.folder / "pristine", home.home)


def answers(home, command, damage):
    done = typed(home, command)
    shown = done.stdout + done.stderr
    case = f"{damage}: {command}\n{shown[-2000:]}"
    assert "this is a bug" not in shown, case
    assert "Traceback" not in shown, case
    assert done.returncode in {0, 1, 2}, case
    assert not acts(re.sub("\x1b\\[[0-9;]*m|\t", "", shown)), case


def damaged(data, choice):
    """The bytes of a database after a disk, or somebody, was at them."""
    changed, size = bytearray(data), len(data)
    pages = size // PAGE
    kind = choice.choice(["bits", "header", "schema", "cut", "page", "longer"])
    if kind == "bits":
        for _ in range(choice.choice([1, 10, 1000])):
            changed[choice.randrange(size)] ^= 1 << choice.randrange(8)
    elif kind in {"header", "schema"}:
        first, last = (18, 100) if kind == "header" else (100, 3 * PAGE)
        for _ in range(choice.choice([1, 2, 4])):
            changed[choice.randrange(first, last)] = choice.randrange(256)
    elif kind == "cut":
        del changed[choice.choice([0, 1, 16, 99, 100, PAGE, choice.randrange(size), size - 1]) :]
    elif kind == "page":
        at, other = (choice.randrange(pages) * PAGE for _ in range(2))
        put_there = [bytes(PAGE), data[other : other + PAGE], choice.randbytes(PAGE)]
        changed[at : at + PAGE] = choice.choice(put_there)
    else:
        changed += choice.randbytes(choice.choice([1, PAGE, 25 * PAGE]))
    return kind, bytes(changed)


@pytest.mark.parametrize("tries", [18, pytest.param(900, marks=pytest.mark.soak)])
def test_no_command_reports_a_bug_whatever_bytes_of_the_database_are_damaged(tries, home):
    data = (home.folder / "pristine" / "registry.db").read_bytes()
    for seed in range(tries):
        choice = random.Random(seed)
        as_it_was(home)
        kind, changed = damaged(data, choice)
        (home.home / "registry.db").write_bytes(changed)
        if choice.random() < 0.2:
            left = choice.choice([b"", choice.randbytes(100), bytes(10 * PAGE)])
            (home.home / "registry.db-wal").write_bytes(left)
        answers(home, choice.choice(COMMANDS), f"seed {seed}, {kind}")
