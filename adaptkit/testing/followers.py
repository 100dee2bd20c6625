"""What commands, reviews and followers of events must hold to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pytest

from adaptkit.extend.review import Delete, Merge, MoveAlias, Objection, Publish, Severity
from adaptkit.types import (
    BaseIdentity,
    Event,
    FileEntry,
    Manifest,
    Parent,
    Version,
    artifact_digest,
)

if TYPE_CHECKING:
    from pathlib import Path

    import click

    from adaptkit.extend.review import Action

_FILES = (FileEntry("adapter_config.json", 2, "0" * 64),)
_VERSION = Version(
    "fleet/naval",
    3,
    artifact_digest(_FILES),
    "lora",
    8,
    BaseIdentity("ship"),
    "2026-11-25T00:00:00Z",
)
_MANIFEST = Manifest(_VERSION.digest, _FILES, "lora", 8, _VERSION.base)
ACTIONS: tuple[Action, ...] = (
    Merge(
        (Parent(_VERSION.digest, 0.7, label="naval"),),
        (_VERSION.base,),
        {"strategy": "linear"},
        "a",
    ),
    Publish(_VERSION, _MANIFEST, "file:///mnt/team/naval"),
    Delete((_VERSION,)),
    MoveAlias("naval", "prod", 2, 3),
    MoveAlias("naval", "prod", 3, None, protected=True),
)
EVENTS = tuple(
    Event(verb, _VERSION.ref, _VERSION.digest, {}, _VERSION.created, "ada")
    for verb in (
        "added merged extracted pulled published proposed alias-moved noted deleted restored "
        "renamed signed base-added base-forgotten rebuilt imported repaired purged swept "
        "corrected "
        "a-verb-of-tomorrow"
    ).split()
)
Review = Callable[..., Iterable[Objection] | None]


class ReviewConformance:
    """Inherit, and give the fixture `review`, your hook."""

    @pytest.fixture
    def review(self) -> Review:
        """The review on trial."""
        raise NotImplementedError(
            "give your test class a fixture `review` that returns your `review` hook"
        )

    @pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
    def test_every_action_gets_objections_or_nothing(self, review: Review, action: Action) -> None:
        found = list(review(action=action) or ())
        for objection in found:
            assert isinstance(objection, Objection)
            assert objection.text.strip()
            assert objection.severity in tuple(Severity)

    @pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
    def test_it_says_the_same_when_asked_again(self, review: Review, action: Action) -> None:
        assert list(review(action=action) or ()) == list(review(action=action) or ())

    def test_an_action_of_tomorrow_is_let_pass(self, review: Review) -> None:
        unknown = dataclasses.make_dataclass("Unknown", [("name", str)], frozen=True)("naval")
        assert not list(review(action=unknown) or ()), "object only to actions that you know"


class EventConformance:
    """Inherit, and give the fixture `on_event`, your hook."""

    @pytest.fixture
    def on_event(self) -> Callable[..., object]:
        """The follower on trial."""
        raise NotImplementedError(
            "give your test class a fixture `on_event` that returns your `on_event` hook"
        )

    @pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.verb)
    def test_every_event_is_followed_those_of_tomorrow_too(
        self, on_event: Callable[..., object], event: Event
    ) -> None:
        assert on_event(event=event) is None


class CommandConformance:
    """Inherit, and give the fixture `command`, the click command that you add."""

    @pytest.fixture
    def command(self) -> click.Command:
        """The command on trial."""
        raise NotImplementedError(
            "give your test class a fixture `command` that returns your click command"
        )

    def test_it_has_a_name_and_help(self, command: click.Command) -> None:
        assert command.name
        assert command.name == command.name.lower()
        assert (command.help or "").strip(), "its docstring is its help"

    def test_its_help_is_shown_and_every_option_has_one(self, command: click.Command) -> None:
        from click.testing import CliRunner

        shown = CliRunner().invoke(command, ["--help"])
        assert shown.exit_code == 0, shown.output
        for option in command.params:
            if option.param_type_name == "option":
                assert getattr(option, "help", ""), f"{option.opts[0]} needs help=…"

    def test_wrong_usage_is_refused_without_a_traceback(
        self, command: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from click.testing import CliRunner

        monkeypatch.chdir(tmp_path)
        shown = CliRunner().invoke(command, ["--an-option-that-there-is-not"])
        assert shown.exit_code == 2, shown.output
        assert "Usage:" in shown.output
