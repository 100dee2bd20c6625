"""An option given twice: click would keep the last value and say nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import pytest
from command_line import run

from adaptkit.cli.app import app
from adaptkit.cli.shell.repeated import OneValueForKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _commands(group: click.Group) -> Iterator[click.Command]:
    yield group
    for name in group.list_commands(context := click.Context(group)):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command)
        else:
            yield command


def _parsed(name: str, *arguments: str) -> dict[str, Any]:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    with command.make_context(name, list(arguments)) as context:
        return context.params


def test_no_option_of_any_command_keeps_the_last_of_several_values() -> None:
    options = [
        (command.name, option.opts[-1], type(option), option)
        for command in _commands(app)
        for option in command.params
        if isinstance(option, click.Option) and option.name not in {"version", "help"}
    ]
    assert len(options) > 300
    loose = [
        (command, word)
        for command, word, kind, option in options
        if kind is click.Option
        and not option.multiple
        and not (option.is_flag and not option.secondary_opts)
    ]
    assert loose == []
    keyed = {(command, word) for command, word, kind, _ in options if kind is OneValueForKey}
    assert {("merge", "--param"), ("train", "--set"), ("note", "--metric")} <= keyed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["train", "--name", "x", "--rank", "4", "--rank=8"],
            "'--rank': it takes one value and is given 2: '4', '8'",
        ),
        (["train", "--bf16", "--no-bf16"], "--bf16 and --no-bf16 are both given: keep one"),
        (
            ["merge", "a", "b", "--into", "bake", "x", "--into", "bake", "y"],
            "is given 2: 'bake x', 'bake y'",
        ),
        (["--home", "a", "list", "--home", "b"], "'--home': it takes one value and is given 2"),
        (["merge", "a", "b", "-m", "one", "--message", "two"], "is given 2: 'one', 'two'"),
        (
            ["merge", "a", "b", "--param", "density=0.3", "--param", "density=0.5"],
            "'--param': 'density' is given twice: '0.3', '0.5'",
        ),
        (
            ["train", "--columns", "prompt=a,completion=b", "--columns", "prompt=c"],
            "'--columns': 'prompt' is given twice: 'a', 'c'",
        ),
        (
            ["distil", "x", "--base", "b", "--data", "naval=a", "--data", "naval=b"],
            "'--data': 'naval' is given twice: 'a', 'b'",
        ),
    ],
)
def test_two_values_where_one_is_taken_are_refused(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = run(arguments, tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_value_given_twice_is_that_value() -> None:
    given = _parsed(
        "train", "--rank", "8", "--rank", "8", "--bf16", "--bf16", "--set", "a=1", "--set", "a=1"
    )
    assert (given["rank"], given["bf16"], given["set"]) == (8, True, ("a=1", "a=1"))


def test_lists_between_commas_go_on_where_they_are_given_again() -> None:
    given = _parsed("train", "--target-modules", "q_proj,k_proj", "--target-modules", "v_proj")
    assert given["target_modules"] == "q_proj,k_proj,v_proj"
    given = _parsed(
        "generate", "--base", "b", "--prompt", "p", "--compare", "base", "--compare", "naval"
    )
    assert given["compare"] == "base,naval"


def test_options_left_out_have_their_defaults() -> None:
    given = _parsed("calibrate", "naval", "--base", "b", "--data", "d")
    assert (given["rows"], given["rank"], given["force"]) == (16, 64, False)
    assert _parsed("train")["bf16"] is None
