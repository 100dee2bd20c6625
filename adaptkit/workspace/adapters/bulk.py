"""Many adapters at once: add every folder of a directory, remove several versions or whole adapters."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.errors import AdaptkitError, BadReference, Conflict
from adaptkit.extend.artifact_files import CONFIG
from adaptkit.io.progress.progress import thread_safe
from adaptkit.io.safe_paths import user_path
from adaptkit.workspace.adapters.add import add, not_added
from adaptkit.workspace.adapters.remove import remove
from adaptkit.workspace.context.executor import executor_url
from adaptkit.workspace.context.home import FOLDER
from adaptkit.workspace.lookup.artifacts import find_version
from adaptkit.workspace.results import Added, AddedAll, RemovedAll
from adaptkit.workspace.tasks.run import open_executor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from adaptkit.types import Quantisation, Version
    from adaptkit.workspace.context.context import Context

_FIELD = re.compile(r"\{([^{}]*)\}")


def add_all(
    context: Context,
    paths: Sequence[str | os.PathLike[str]],
    *,
    name: str | None = None,
    name_from: str = "{dir}",
    recursive: bool = False,
    jobs: int = 4,
    base: str | None = None,
    message: str = "",
    alias: str | None = None,
    include: Sequence[str] = (),
    allow_pickle: bool = False,
    new_version: bool = False,
    force: bool = False,
    dialect: str | None = None,
    quantised: Quantisation | None = None,
    on: str | None = None,
) -> AddedAll:
    """Add every adapter in `paths`, `jobs` at a time; one that fails stops no other.

    With `recursive`, every adapter folder below them. A folder is named by `name_from`, of its own
    name `{dir}` and that of the folder it is in, `{parent}`; with one `name` all become versions of
    it, in order. `on` names an executor whose workers check, hash and store the folders; this process
    registers them. The other arguments are those of `add`.
    """
    on = executor_url(context, on)
    folders, left_out = _found([user_path(path) for path in paths], recursive=recursive)
    names = [name or _named(name_from, folder) for folder in folders]
    if name is None:
        _check_different(folders, names)
    for one in names:
        refs.check_name(one)
    if alias is not None:
        refs.check_alias(alias)
    how: dict[str, Any] = {
        "base": base,
        "message": message,
        "alias": alias,
        "include": include,
        "allow_pickle": allow_pickle,
        "new_version": new_version,
        "force": force,
        "dialect": dialect,
        "quantised": quantised,
    }
    executor = open_executor(context, on)
    if executor is not None and not executor.capabilities.shared_files:
        executor.shutdown()
        executor = None
        context.notify(f"added by this process: the workers do not see {context.store.root}")
    done: list[Added | str] = []
    with context.watch(f"adding {len(folders)} adapters", len(folders)) as progress:
        step = thread_safe(progress)

        def one_folder(folder: Path, called: str) -> Added | str:
            try:
                return add(context, folder, called, **how)
            except AdaptkitError as error:
                return not_added(folder, error)
            finally:
                step(1)

        if executor is not None:
            from adaptkit.workspace.adapters.add_on import add_on

            with executor:
                pairs = list(zip(folders, names, strict=True))
                return _all(add_on(context, executor, pairs, one_folder, step, **how), left_out)
        # the first alone: it loads the plugins and makes the home
        first = min(len(folders), 1 if name is None else len(folders))
        done = [one_folder(*pair) for pair in zip(folders[:first], names[:first], strict=True)]
        with ThreadPoolExecutor(jobs) as pool:
            done += pool.map(one_folder, folders[first:], names[first:])
    return _all(done, left_out)


def _all(done: Iterable[Added | str], left_out: Sequence[str]) -> AddedAll:
    results = list(done)
    return AddedAll(
        tuple(one for one in results if isinstance(one, Added)),
        tuple(one for one in results if isinstance(one, str)),
        tuple(left_out),
    )


def to_remove(
    context: Context, asked: Sequence[str], *, whole: bool = False
) -> tuple[Version, ...]:
    """The versions that references mean; with `whole`, every version of the adapters they name."""
    found = [find_version(context, ref) for ref in asked]
    if whole:
        names = dict.fromkeys(version.name for version in found)
        found = [v for name in names for v in context.registry.versions(name=name)]
    return tuple({version.ref: version for version in found}.values())


def remove_all(context: Context, asked: Sequence[str], *, whole: bool = False) -> RemovedAll:
    """Move several versions to the trash, or with `whole` every version of the adapters named.

    What was made from another goes before it, whatever the order; one that fails stops no other.
    """
    left = list(to_remove(context, asked, whole=whole))
    removed: list[Version] = []
    while left:
        failed: dict[str, tuple[Version, str]] = {}
        for version in reversed(left):
            try:
                removed.append(remove(context, version.ref))
            except AdaptkitError as error:
                failed[version.ref] = (version, error.summary)
        if len(failed) == len(left):
            return RemovedAll(tuple(removed), tuple(text for _, text in failed.values()))
        left = [version for version, _ in failed.values()]
    return RemovedAll(tuple(removed), ())


def _found(paths: Sequence[Path], *, recursive: bool) -> tuple[list[Path], list[str]]:
    """The folders (and files of other tools) that are adapters, and the plain files that are none."""
    if recursive:
        found = [folder for path in paths for folder in _below(path)]
        if not found:
            raise BadReference(
                f"there is no adapter below {', '.join(map(str, paths))}",
                why=f"no folder there holds {CONFIG}",
                fix="check the path for a typo",
            )
        return found, []
    kept = [path for path in paths if not path.is_file() or path.suffix == ".safetensors"]
    return kept, [str(path) for path in paths if path not in kept]


def _below(path: Path) -> list[Path]:
    found = []
    for folder, inner, files in os.walk(path):
        inner[:] = sorted(one for one in inner if one != FOLDER)
        if CONFIG in files:
            found.append(Path(folder))
            inner.clear()
    return found


def _named(template: str, folder: Path) -> str:
    whole = folder.absolute()
    own = whole.stem if whole.is_file() else whole.name
    values = {"dir": refs.as_name(own), "parent": refs.as_name(whole.parent.name)}

    def fill(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise BadReference(
                f"'{{{match[1]}}}' is unknown in the name '{template}'",
                why="a name is made from {dir} and {parent}",
                fix="for example --name-from '{parent}-{dir}'",
            )
        return values[match[1]]

    return _FIELD.sub(fill, template)


def _check_different(folders: Sequence[Path], names: Sequence[str]) -> None:
    first: dict[str, Path] = {}
    for folder, name in zip(folders, names, strict=True):
        if (other := first.setdefault(name, folder)) is not folder:
            raise Conflict(
                f"two adapters would be called '{name}'",
                why=f"{other} and {folder}",
                fix="--name-from '{parent}-{dir}' tells them apart; --name NAME makes them versions of one",
            )
