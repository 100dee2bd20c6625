"""adaptkit.cli.shell.questions: yes goes on; no, and nobody to answer, change nothing and say so."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from adaptkit.cli.shell import questions
from adaptkit.errors import Refused


@click.command()
def asking():
    questions.confirm("move it?")
    click.echo("moved")


@click.command()
def typing():
    click.echo(f"got {questions.password('ada.pem', variable='KEY_PASSWORD')}")


def test_yes_goes_on():
    assert CliRunner().invoke(asking, input="y\n").stdout == "moved\n"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("n\n", "nothing was changed: the answer was no"),
        (
            "",
            "nothing was changed: nobody answered, the input has ended\n  --yes goes on without asking",
        ),
    ],
)
def test_no_and_no_answer_are_error_messages(answer, message):
    done = CliRunner().invoke(asking, input=answer)
    assert isinstance(done.exception, Refused)
    assert str(done.exception) == message
    assert "moved" not in done.stdout


def test_a_closed_input_answers_no_question(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)  # as Python has it after `adaptkit rm naval <&-`
    with pytest.raises(Refused) as caught:
        questions.confirm("move it?")
    assert str(caught.value) == (
        "nothing was changed: nobody answered, the input is closed\n  --yes goes on without asking"
    )


def test_a_password_is_taken_and_a_missing_one_names_its_variable():
    assert CliRunner().invoke(typing, input="aye\n").stdout == "got aye\n"
    missing = CliRunner().invoke(typing, input="").exception
    assert isinstance(missing, Refused)
    assert missing.fix == "set KEY_PASSWORD"


def test_ctrl_c_at_the_question_interrupts(monkeypatch):
    def interrupt(_prompt):
        raise KeyboardInterrupt

    monkeypatch.setattr("click.termui.visible_prompt_func", interrupt)
    with pytest.raises(click.Abort):
        questions.confirm("move it?")
