"""What a plugin does wrong, as an error that names it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from inspect import signature
from operator import attrgetter
from traceback import walk_tb
from typing import TYPE_CHECKING

from adaptkit import hookspecs
from adaptkit.errors import BadAdapter, PluginError, text_of
from adaptkit.extend.review import Objection

if TYPE_CHECKING:
    from collections.abc import Mapping

    import click

    from adaptkit.extend import AdapterMethod, AdapterView


def recognises(plugin: str, method: AdapterMethod, view: AdapterView) -> bool:
    try:
        return method.recognises(view)
    except (KeyboardInterrupt, BadAdapter):  # the second is the adapter's fault, and says so
        raise
    except BaseException as error:
        raise broke(plugin, described(error), f" on {view.label}") from error


def broke(plugin: str, why: str, where: str = "") -> PluginError:
    return PluginError(
        f"the plugin '{plugin}' broke{where}",
        why=why,
        fix=f"ADAPTKIT_DISABLE_PLUGINS={plugin} goes on without it",
    )


def as_objection(returned: object) -> Objection:
    if not isinstance(returned, Objection):
        raise TypeError(
            f"it returned {returned!r}, not an adaptkit.extend.review.Objection (or a list of them)"
        )
    return returned


def objections(listed: object) -> Iterable[Objection]:
    """What one review returned; a text, which is a list of letters to Python, is named whole."""
    if isinstance(listed, str | bytes) or not isinstance(listed, Iterable):
        listed = (listed,)
    return map(as_objection, listed)


def blamed(error: BaseException, modules: Mapping[str, str]) -> str | None:
    """The plugin in whose module an exception came up, or whose function could not be called; None where it is none's.

    `modules` has each plugin's module.
    """
    packages = {name: module.partition(".")[0] for name, module in modules.items()}
    for frame, _ in reversed(list(walk_tb(error.__traceback__))):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        for name, own in packages.items():
            if own == package:
                return name
    called = re.match(r"(\w+(?:\.\w+)*)\(\) (?:takes|got|missing)", str(error))
    if isinstance(error, TypeError) and called is not None:
        for name, module in modules.items():
            with suppress(AttributeError):
                attrgetter(called[1])(sys.modules.get(module))
                return name
    return None


def refusing_command(error: PluginError) -> click.Command:
    """A command that raises the error for its name."""
    import click

    def refuse() -> None:
        raise error

    return click.Command(
        None,
        callback=refuse,
        short_help=error.what,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


def described(error: BaseException) -> str:
    """What a plugin raised, on one line."""
    text = text_of(error)
    if odd := re.search(
        r"definition: (\w+)\(.*\)\s+Argument\(s\) \{(.*)\} are declared", text, re.DOTALL
    ):
        known = ", ".join(signature(getattr(hookspecs, odd[1])).parameters)
        return f"{odd[1]} has no argument {odd[2]}: it has {known}, which may be left out"
    return " ".join(f"{type(error).__name__}: {text}".split()).removesuffix(":")
