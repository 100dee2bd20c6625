"""adaptkit.testing.followers: commands, reviews and followers that behave pass, and each check can fail."""

from __future__ import annotations

import click
import pytest

from adaptkit.extend.review import Objection, Publish
from adaptkit.testing import CommandConformance, EventConformance, ReviewConformance
from adaptkit.types import Event
from adaptkit_plugins.reviews import base_verified, licence, paths, protected, secrets


class TestBuiltInReviews(ReviewConformance):
    @pytest.fixture(params=[base_verified, licence, paths, protected, secrets])
    def review(self, request):
        return request.param.review


class TestAFollower(EventConformance):
    @pytest.fixture
    def on_event(self):
        seen = []
        return lambda event: seen.append(event.verb)


class TestACommand(CommandConformance):
    @pytest.fixture
    def command(self):
        @click.command()
        @click.option("--loud", is_flag=True, help="In capitals.")
        def muster(loud):
            """Call the crew."""

        return muster


def test_a_review_that_objects_to_what_it_does_not_know_fails():
    with pytest.raises(AssertionError, match="object only to actions that you know"):
        ReviewConformance().test_an_action_of_tomorrow_is_let_pass(lambda action: [Objection("no")])


def test_a_review_that_returns_text_fails():
    with pytest.raises(AssertionError):
        ReviewConformance().test_every_action_gets_objections_or_nothing(
            lambda action: ["no"], Publish(None, None, "file:///x")
        )


def test_a_command_without_help_fails():
    @click.command()
    @click.option("--loud", is_flag=True)
    def muster(loud): ...

    with pytest.raises(AssertionError, match="its docstring is its help"):
        CommandConformance().test_it_has_a_name_and_help(muster)
    with pytest.raises(AssertionError, match="--loud needs help"):
        CommandConformance().test_its_help_is_shown_and_every_option_has_one(muster)


def test_a_follower_that_knows_some_verbs_only_fails():
    def on_event(event):
        {"added": 1}[event.verb]

    with pytest.raises(KeyError):
        EventConformance().test_every_event_is_followed_those_of_tomorrow_too(
            on_event, Event("a-verb-of-tomorrow", "naval@3")
        )
