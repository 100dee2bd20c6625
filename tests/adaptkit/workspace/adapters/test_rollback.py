"""rollback walks back along the history of an alias, and the log shows what it undid."""

from __future__ import annotations

import pytest
from artifacts import manifest
from command_line import Shell

from adaptkit import Workspace
from adaptkit.errors import Refused


@pytest.fixture
def moved(tmp_path):
    """prod was 1, 2, 3, 4."""
    with Workspace.open(tmp_path / ".adaptkit", notify=lambda _: None) as ws:
        for n in (1, 2, 3, 4):
            ws.registry.add_version("naval", manifest(f"bytes {n}"), alias="prod")
        yield ws


def test_a_second_rollback_goes_further_back_until_there_is_nothing_earlier(moved):
    assert [moved.rollback("naval", "prod").new for _ in range(3)] == [3, 2, 1]
    with pytest.raises(Refused, match="cannot roll back naval@prod: it has no earlier target"):
        moved.rollback("naval", "prod")


def test_a_move_after_a_rollback_is_a_new_step(moved):
    moved.rollback("naval", "prod")
    moved.rollback("naval", "prod")
    moved.alias("naval", "prod", 4)
    assert [moved.rollback("naval", "prod").new for _ in range(2)] == [2, 1]


def test_a_move_back_by_hand_is_a_step_that_can_be_rolled_back(moved):
    moved.alias("naval", "prod", 3)
    assert [moved.rollback("naval", "prod").new for _ in range(2)] == [4, 3]


def test_a_rollback_names_its_target_and_one_that_never_was_is_refused(moved):
    assert moved.rollback("naval", "prod", 2).new == 2
    with pytest.raises(Refused, match="to 3: before 2 it pointed at 1") as error:
        moved.rollback("naval", "prod", 3)
    assert error.value.fix.startswith("adaptkit alias naval prod 3 ")
    assert moved.rollback("naval", "prod").new == 1


def test_a_dropped_alias_is_rolled_back_to_where_it_was(moved):
    moved.alias("naval", "prod", None)
    assert moved.rollback("naval", "prod").new == 4


def test_a_rename_in_between_changes_nothing(moved):
    moved.rollback("naval", "prod")
    moved.rename("naval", "navy")
    assert moved.rollback("navy", "prod").new == 2


def test_the_log_shows_what_was_undone(moved):
    moved.rollback("naval", "prod", 2)
    moves = [(m.old, m.new, m.rollback, m.undone) for m in moved.log("naval").moves]
    assert moves == [
        (None, 1, False, False),
        (1, 2, False, False),
        (2, 3, False, True),
        (3, 4, False, True),
        (4, 2, True, False),
    ]
    shell = Shell(moved.home.path.parent)
    lines = shell.run("log", "naval").stdout.splitlines()
    assert lines[-2].endswith("(undone)")
    assert lines[-1].endswith("rolled back")
    assert shell.json("rollback", "naval", "prod", "--to", "1")["new"] == 1
