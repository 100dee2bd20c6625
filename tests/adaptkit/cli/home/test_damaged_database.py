"""A workspace whose database somebody else wrote, as one in a clone: no command ends in a bug report, or acts on a terminal."""

from __future__ import annotations

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
        for left in (home.home, home.folder / "OUT"):
            shutil.rmtree(left, ignore_errors=True)
        (home.folder / "LINES").unlink(missing_ok=True)
        shutil.copytree(home.folder / "pristine", home.home)
        put(home.home / "registry.db", table, column, WRONG[kind])
        done = typed(home, command)
        tried += 1
        shown = done.stdout + done.stderr
        case = f"{table}.{column} holds {kind}: {command}\n{shown[-2000:]}"
        assert "this is a bug" not in shown, case
        assert "Traceback" not in shown, case
        assert done.returncode in {0, 1, 2}, case
        assert not acts(re.sub("\x1b\\[[0-9;]*m|\t", "", shown)), case
    assert tried > 100
