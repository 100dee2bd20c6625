"""Plan a sweep and carry it out, step by step.

Notable choices:
- a task is known by its content: the digests that go in, what is done, and the versions of the code; a task whose
  result is known and still there is not done again, so a second run does nothing and a killed one goes on
- every step is an operation of `Workspace`, which leaves one result however often it is done
- what the steps name (strategies, parameters, suites, remotes, files) is looked at before the first of them begins
- planning is the same walk without doing: what a step would make is not known, so what follows from it waits
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from adaptkit.errors import AdaptkitError
from adaptkit.refs import check_name
from adaptkit.workspace.sweeps.checks import check_steps
from adaptkit.workspace.sweeps.file import Merge
from adaptkit.workspace.sweeps.journal import Journal
from adaptkit.workspace.sweeps.steps import DO
from adaptkit.workspace.sweeps.walk import Swept, Walk

if TYPE_CHECKING:
    from adaptkit.types import Version
    from adaptkit.workspace import Workspace
    from adaptkit.workspace.sweeps.file import Query, WrittenSweep

_GLOB = re.compile(r"[*?\[]")


def carry_out(
    workspace: Workspace, written: WrittenSweep, *, on: str | None = None, dry: bool = False
) -> Swept:
    """Carry a sweep out, or with `dry` only plan it; an error names the line of its step."""
    journal = Journal(workspace.home.path / "sweeps" / f"{written.file.name}.jsonl")
    walk = Walk(workspace, written, journal, on, dry)
    for name, query in written.file.sets.items():
        try:
            walk.sets[name] = members = found(workspace, query)
        except AdaptkitError as error:
            raise error.at(written.place("sets", name)) from error
        walk.names[name] = frozenset(one.name for one in members)
        if not members:
            place = written.place("sets", name)
            workspace.notify(f"{place}: no adapter fits the query, so the set '{name}' is empty")
    check_steps(walk)
    if dry:
        return _walked(walk)
    with journal.alone():
        return _walked(walk)


def found(workspace: Workspace, query: Query) -> tuple[Version, ...]:
    """What a query finds now, by name."""
    listed = workspace.list(
        base=query.base or None,
        tag=query.tag or None,
        metrics=query.metrics,
        every=bool(query.alias),
    )
    globs = [
        glob
        if _GLOB.search(glob)
        else workspace.version(check_name(glob)).name  # it may be renamed
        for glob in ((query.name,) if isinstance(query.name, str) else query.name)
    ]
    fitting = [
        version
        for version in listed
        if any(fnmatchcase(version.name, glob) for glob in globs)
        and (not query.alias or query.alias in version.aliases)
    ]
    return tuple(sorted(fitting, key=lambda version: version.name))


def _walked(walk: Walk) -> Swept:
    for number, action in enumerate(walk.file.actions, 1):
        walk.step = number
        empty = not walk.sets[action.of]
        try:
            DO[type(action)](walk, action)
        except AdaptkitError as error:
            raise error.at(walk.written.place("steps", number - 1)) from error
        if empty:
            what = action.name if isinstance(action, Merge) else action.of
            walk.add(what, "held", _why_empty(walk, action.of))
    last = [one for members in walk.sets.values() for one in members if not isinstance(one, str)]
    fresh = {one.ref: walk.workspace.version(one.ref) for one in last}
    return Swept(walk.file.name, tuple(walk.tasks), tuple(fresh.values()), walk.board)


def _why_empty(walk: Walk, of: str) -> str:
    gate = walk.emptied.get(of)
    return (
        f"'{of}' holds no adapter"
        if gate is None
        else f"the gate of step {gate} held all of '{of}'"
    )
