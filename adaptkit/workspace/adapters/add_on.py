"""Add many adapter folders with the workers of an executor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.formats import foreign_file
from adaptkit.adapters.ingest import PreparedAdapter
from adaptkit.errors import AdaptkitError
from adaptkit.workspace.adapters.add import not_added, take_in
from adaptkit.workspace.lookup.adapters import check_named_base
from adaptkit.workspace.lookup.bases import base_of
from adaptkit.workspace.tasks.add import AskedFolder, stored_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from adaptkit.extend import Executor
    from adaptkit.types import Quantisation
    from adaptkit.workspace.context.context import Context
    from adaptkit.workspace.results import Added


def add_on(
    context: Context,
    executor: Executor,
    folders: Sequence[tuple[Path, str]],
    here: Callable[[Path, str], Added | str],
    step: Callable[[int], Any],
    *,
    base: str | None,
    message: str,
    alias: str | None,
    include: Sequence[str],
    allow_pickle: bool,
    new_version: bool,
    force: bool,
    dialect: str | None,
    quantised: Quantisation | None,
) -> Iterator[Added | str]:
    """Folders with their names, in order: stored by workers, registered by this process; or the error message.

    What another tool wrote, or is for a base that is only at a URL, is added by `here`, in this process.
    """

    def asked(folder: Path) -> AskedFolder | str | None:
        try:
            with Adapter.open(folder, str(folder), allow_pickle=allow_pickle) as adapter:
                known = base_of(context, adapter, base)
                if not force:
                    check_named_base(context, adapter, base, known)
        except AdaptkitError as error:
            return not_added(folder, error)
        if quantised is not None:
            known = replace(known, identity=replace(known.identity, quantised=quantised))
        if known.shapes is not None and known.folder is None:
            return None  # the shapes of a large base are too many for a task
        return AskedFolder(
            str(folder.absolute()),
            replace(known, shapes=None),
            known.shapes is not None,
            tuple(include),
            allow_pickle,
            force,
            context.now(),
        )

    elsewhere = {
        number: asked(folder)
        for number, (folder, _) in enumerate(folders)
        if dialect is None and foreign_file(folder) is None
    }
    tasks = [one for one in elsewhere.values() if isinstance(one, AskedFolder)]
    stored = stored_on(executor, context.store.root, context.tmp, tasks)
    for number, (folder, name) in enumerate(folders):
        task = elsewhere.get(number)
        if task is None:
            yield here(folder, name)
            continue
        if isinstance(task, str):
            yield task
        else:
            prepared = next(stored)
            try:
                if isinstance(prepared, AdaptkitError):
                    raise prepared
                for text in prepared.warnings:
                    context.notify(f"{folder}: {text}")
                method = context.plugins.method(prepared.manifest.method)
                yield take_in(
                    context,
                    PreparedAdapter(
                        prepared.manifest, {}, method, prepared.warnings, prepared.skipped
                    ),
                    name,
                    message=message,
                    alias=alias,
                    new_version=new_version,
                    force=force,
                )
            except AdaptkitError as error:
                yield not_added(folder, error)
        step(1)
