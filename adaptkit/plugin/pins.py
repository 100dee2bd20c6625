"""Which distributions register plugins, as it was when they were first used.

A plugin is code that runs with the user's rights, so one that is new, or that registers something else than before, is
announced once. The list is kept in the user's own configuration folder.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from adaptkit.errors import AdaptkitError
from adaptkit.io.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from adaptkit.plugin.entry_points import EntryPoint

    Pins = Mapping[str, Mapping[str, str]]  # distribution → version, and what each plugin imports


def pins_of(entry_points: Iterable[EntryPoint]) -> dict[str, dict[str, str]]:
    """What each distribution other than adaptkit registers now: its version, and the plugins by name."""
    found: dict[str, dict[str, str]] = {}
    for entry in entry_points:
        if entry.third_party:
            name, version = entry.distribution()
            points = found.setdefault(name or entry.value, {"version": version})
            points[f"plugin {entry.name}"] = entry.value
    return found


def pins_file() -> Path:
    """Where the user's list is."""
    from platformdirs import user_config_path

    return user_config_path("adaptkit", appauthor=False) / "plugins.json"


def announce(now: Pins, file: Path) -> tuple[str, ...]:
    """One line for each distribution that is new or changed since it was pinned; they are pinned as they are now."""
    before = _read(file)
    lines = tuple(_line(name, before.get(name), pin) for name, pin in sorted(now.items()))
    if news := tuple(filter(None, lines)):
        with suppress(OSError, AdaptkitError):  # a read-only home is warned about again next time
            pin(now, file)
    return news


def pin(now: Pins, file: Path) -> None:
    """Pin these distributions as they are."""
    known = {**_read(file), **now}
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, (json.dumps(known, indent=2, sort_keys=True) + "\n").encode())
    file.chmod(0o600)


def _line(name: str, before: Mapping[str, str] | None, now: Mapping[str, str]) -> str:
    if before == now:
        return ""
    plugins = ", ".join(sorted(key.removeprefix("plugin ") for key in now if key != "version"))
    off = f"ADAPTKIT_DISABLE_PLUGINS={plugins.replace(', ', ',')} goes on without it"
    if before is None:
        return f"{name} {now['version']} is new here and runs as a plugin ({plugins}); {off}"
    was = before.get("version", "?")
    if {**before, "version": ""} == {**now, "version": ""}:
        return f"the plugin {name} changed from {was} to {now['version']}; {off}"
    return f"{name} {now['version']} registers other plugins than {was} did ({plugins}); {off}"


def _read(file: Path) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):  # none yet, or broken: everything is new
        return {}
    return (
        {name: pin for name, pin in found.items() if isinstance(pin, dict)}
        if isinstance(found, dict)
        else {}
    )
