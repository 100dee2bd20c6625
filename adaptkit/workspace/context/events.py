"""Notify plugins of what happened, after the registry recorded it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptkit.types import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.workspace.context.context import Context


def emit(
    context: Context,
    verb: str,
    subject: str,
    digest: str = "",
    detail: Mapping[str, Any] | None = None,
    author: str = "",
) -> None:
    """Call `on_event` of every plugin; what one raises becomes a warning. `author` made the content."""
    facts = dict(detail or {})
    if context.plugins.disabled:
        facts["plugins_off"] = sorted(context.plugins.disabled)
    event = Event(verb, subject, digest, facts, context.now(), author, context.config.author)
    for text in context.plugins.emit(event):
        context.notify(text)
