"""What a plugin does wrong, as an error that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptkit.errors import BadAdapter, PluginError, text_of
from adaptkit.extend.review import Objection

if TYPE_CHECKING:
    import click

    from adaptkit.extend import AdapterMethod, AdapterView


def recognises(plugin: str, method: AdapterMethod, view: AdapterView) -> bool:
    try:
        return method.recognises(view)
    except (KeyboardInterrupt, BadAdapter):  # the second is the adapter's fault, and says so
        raise
    except BaseException as error:
        raise PluginError(
            f"the plugin '{plugin}' broke on {view.label}",
            why=described(error),
            fix=f"ADAPTKIT_DISABLE_PLUGINS={plugin} goes on without it",
        ) from error


def as_objection(returned: object) -> Objection:
    if not isinstance(returned, Objection):
        raise TypeError(f"it returned {returned!r}, not an adaptkit.types.Objection")
    return returned


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
    return " ".join(f"{type(error).__name__}: {text_of(error)}".split()).removesuffix(":")
