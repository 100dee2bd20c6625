"""What libraries log and warn about reaches a terminal in a form that does nothing there."""

from __future__ import annotations

import logging
import threading
import warnings

import pytest

from adaptkit.cli.shell.libraries import inert_libraries

HOSTILE = "\x1b]0;pwned\x07\u202e 100% \x9b2J"
SHOWN = r"\x1b]0;pwned\x07\u202e 100% \x9b2J"


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (HOSTILE, ()),
        ("the server says %s", (HOSTILE,)),
        ("the server says %s", (ValueError(HOSTILE),)),
        ("the server says %(what)s", ({"what": HOSTILE},)),
    ],
)
def test_what_a_library_logs_does_not_act_on_a_terminal(message, arguments, caplog):
    with inert_libraries():
        logging.getLogger("some.library").warning(message, *arguments)
    assert caplog.messages[0].removeprefix("the server says ") == SHOWN


def test_a_message_without_harm_keeps_its_arguments(caplog):
    with inert_libraries():
        logging.getLogger("uvicorn.access").warning('"%s %s" %d', "GET", "/v1/models", 200)
    assert caplog.messages == ['"GET /v1/models" 200']
    assert caplog.records[0].args == ("GET", "/v1/models", 200)


def test_what_a_library_warns_of_does_not_act_on_a_terminal():
    with inert_libraries():
        text = warnings.formatwarning(UserWarning(HOSTILE), UserWarning, "a.py", 1, line=HOSTILE)
    assert "\x1b" not in text
    assert f"UserWarning: {SHOWN}\n" in text


def test_a_thread_of_a_library_that_breaks_is_named_in_one_line(capsys):
    def broken():
        raise ValueError(HOSTILE)

    with inert_libraries():
        thread = threading.Thread(target=broken, name="uploader")
        thread.start()
        thread.join()
    assert capsys.readouterr().err == f"warning: uploader broke: ValueError: {SHOWN}\n"
