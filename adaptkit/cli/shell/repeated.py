"""What an option means that is given more than once.

click lets the last value win and says nothing. Here an option that takes a list between commas (its
metavar ends with ",…") takes the values one after the other, as one list; any other one is refused
unless all its values are equal. Of the options that may be repeated, those with a metavar such as
K=V take one value for each key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from click.core import ParameterSource

LONGEST_SHOWN = 40


class OneValue(click.Option):
    """An option that takes one value, or a switch with a counterpart such as --no-bf16."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Have the parser collect every value, where click's own keeps the last."""
        if not self.is_flag:
            parser.add_option(
                obj=self, opts=self.opts, dest=self.name, action="append", nargs=self.nargs
            )
            return
        for words, value in ((self.opts, True), (self.secondary_opts, False)):
            parser.add_option(
                obj=self, opts=words, dest=self.name, action="append_const", const=value
            )

    def consume_value(
        self, ctx: click.Context, opts: Mapping[str, Any]
    ) -> tuple[Any, ParameterSource]:
        """The one value that the parser's list stands for."""
        if isinstance(given := opts.get(str(self.name)), list):
            opts = {**opts, str(self.name): self._one_of(given, ctx)}
        return super().consume_value(ctx, opts)

    def _one_of(self, given: list[Any], context: click.Context) -> Any:
        values = list(dict.fromkeys(given))
        if len(values) == 1 or context.resilient_parsing:
            return values[-1]
        if self.metavar and self.metavar.endswith(",…"):
            return ",".join(values)
        if self.is_flag:
            both = f"{self.opts[0]} and {self.secondary_opts[0]} are both given: keep one"
            raise click.BadParameter(both, context, self)
        several = f"it takes one value and is given {len(values)}: {_shown(values)}"
        raise click.BadParameter(several, context, self)


class OneValueForKey(click.Option):
    """An option such as `--set FIELD=VALUE`, repeated for one key after the other."""

    def consume_value(
        self, ctx: click.Context, opts: Mapping[str, Any]
    ) -> tuple[Any, ParameterSource]:
        """The values, no two of them for the same key."""
        given, source = super().consume_value(ctx, opts)
        found: dict[str, str] = {}
        for text in given if isinstance(given, list) and not ctx.resilient_parsing else ():
            listed = text.split(",") if str(self.metavar).endswith(",…") else [text]
            for key, _, value in (one.partition("=") for one in listed):
                if found.setdefault(key, value) != value:
                    twice = f"'{key}' is given twice: {_shown([found[key], value])}"
                    raise click.BadParameter(twice, ctx, self)
        return given, source


def with_one_value(command: click.Command) -> click.Command:
    """The command, its options and those of the commands within it made to follow these rules."""
    for option in command.params:
        if type(option) is not click.Option or option.count:
            continue
        if option.multiple and "=" in str(option.metavar):
            option.__class__ = OneValueForKey
        elif option.multiple:
            continue
        elif not option.is_flag or option.secondary_opts:
            option.__class__ = OneValue
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        with_one_value(inner)
    return command


def _shown(values: list[Any]) -> str:
    texts = [" ".join(value) if isinstance(value, tuple) else str(value) for value in values]
    return ", ".join(
        f"'{text}'" if len(text) <= LONGEST_SHOWN else f"'{text[:LONGEST_SHOWN]}…'"
        for text in texts
    )
