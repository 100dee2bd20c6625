"""`REMOTE:name` in a request: one pull for all that wait, and none of what cannot be served."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny

from adaptkit import Workspace, refs
from adaptkit.errors import BaseMismatch, NotFound, Refused
from adaptkit.serving.api.keys import EVERY, allowed
from adaptkit.serving.composition import parse
from adaptkit.workspace.serving import first_use
from adaptkit.workspace.serving.serve import WorkspaceAdapters

LENT = refs.parse("team:lent")


@pytest.fixture
def lent(workspace, fleet, served_base, tmp_path):
    with Workspace.init(tmp_path / "other", notify=lambda _: None) as other:
        other.add(fleet.adapters["naval"], "lent", base=str(served_base))
        other.push("lent", f"file://{tmp_path}/team/lent")
    workspace.add_remote("team", f"file://{tmp_path}/team")
    return workspace


def serving(workspace, base):
    return WorkspaceAdapters(workspace, workspace.base(str(base)).identity, folder=base)


def test_many_that_wait_pull_once(lent, served_base):
    adapters = serving(lent, served_base)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: adapters.resolve(LENT), range(8)))
    assert found == {("lent@1", lent.version("lent").digest)}
    assert [event.verb for event in lent.events()].count("pulled") == 1


def test_what_is_of_another_base_is_refused_and_not_pulled(lent, tmp_path):
    other = tiny.save_llama(tmp_path / "short", num_hidden_layers=1)
    with pytest.raises(BaseMismatch, match=r"cannot serve team:lent on this base: "):
        serving(lent, other).resolve(LENT)
    with pytest.raises(NotFound):
        lent.version("lent")


def test_what_is_too_large_is_refused_and_not_pulled(lent, served_base, monkeypatch):
    monkeypatch.setattr(first_use, "LARGEST", 1000)
    with pytest.raises(
        Refused, match=r"cannot fetch team:lent for a request(?s:.*)adaptkit pull team:lent"
    ):
        serving(lent, served_base).resolve(LENT)
    monkeypatch.undo()
    assert serving(lent, served_base).resolve(LENT)[0] == "lent@1"


def test_a_key_of_a_namespace_may_not_make_the_server_pull():
    assert allowed(parse("team:lent"), frozenset({EVERY}))
    assert not allowed(parse("team:lent"), frozenset({"default", "team"}))
