"""How each shell is asked and answered.

bash breaks a word at `@`, `:` and `=`, so that `naval@pr` reaches a completion as three words. Ours
reads the whole line instead, and offers only what follows the last break. click's script for fish cuts what is offered,
and its description, at the first comma; ours does not.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import ClassVar

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

_BREAKS = re.compile(r".*[@:=]", re.DOTALL)

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' response kind value
    response=$(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" %(complete_var)s=bash_complete "$1")
    for item in $response; do
        IFS=',' read -r kind value <<< "$item"
        if [[ $kind == dir ]]; then
            COMPREPLY=(); compopt -o dirnames
        elif [[ $kind == file ]]; then
            compopt -o default
        else
            COMPREPLY+=("$value")
        fi
    done
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[@:=] ]]; then compopt -o nospace; fi
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Bash(BashComplete):
    source_template: ClassVar[str] = _BASH

    def source(self) -> str:
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, and the one that it is in."""
        line = os.environ.get("COMP_LINE", "")
        before = line.encode()[: int(os.environ.get("COMP_POINT") or len(line))].decode(
            errors="ignore"
        )
        words = _words(before)
        incomplete = "" if not before or before[-1].isspace() else words.pop()
        self._skip = len(found.group()) if (found := _BREAKS.match(incomplete)) else 0
        return words[1:], incomplete

    def format_completion(self, item: CompletionItem) -> str:
        value = item.value[self._skip :] if item.type == "plain" else item.value
        return f"{item.type},{value}"


class _Fish(FishComplete):
    source_template: ClassVar[str] = FishComplete.source_template.replace(
        'string split "," ', 'string split --max 1 "," '
    )


def _words(text: str) -> list[str]:
    for closing in ("", "'", '"'):
        try:
            return shlex.split(text + closing)
        except ValueError:
            continue
    return text.split()


CLASSES: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": ZshComplete, "fish": _Fish}


def register() -> None:
    """Have click use these."""
    for name, kind in CLASSES.items():
        add_completion_class(kind, name)


def script(shell: str) -> str:
    """What a shell loads."""
    return CLASSES[shell](click.Group("adaptkit"), {}, "adaptkit", "_ADAPTKIT_COMPLETE").source()
