"""Everything adaptkit raises on purpose.

    AdaptkitError
    ├── BadReference        a reference that the grammar does not know
    ├── NotFound            an unknown name; the nearest known ones are shown
    ├── BadAdapter          an adapter directory that cannot be read
    │   ├── BadConfig       … because of adapter_config.json
    │   └── BadWeights      … because of the weights file
    ├── BadBase             a base model directory that cannot be read
    ├── BaseMismatch        two bases that are not one, or modules that do not fit the base
    ├── MergeError          a merge that cannot be made
    │   ├── Unmergeable     … because a method's updates cannot be combined
    │   ├── BadRecipe       … because of a weight, a parameter or a rank
    │   └── ExtrasConflict  … because tensors that are no deltas disagree
    ├── BakeError           an adapter that cannot become part of a base's weights
    ├── BadData             training or evaluation data that cannot be read; the line is named
    ├── TrainingError       training that cannot start, or that did not train
    ├── NoWorkspace         a home that does not exist, or is something else
    ├── BadProject          adaptkit.toml or adaptkit.lock that cannot be read; the line is named
    ├── BadSweep            a sweep file that cannot be read; what is wrong is named
    ├── Refused             a rule or a reviewing plugin refused
    ├── NoRoom              memory, slots or a queue are full now; later there may be room
    ├── Conflict            another writer was first (compare-and-swap, a lost race)
    ├── StoreError          the local content store
    │   └── Corrupt         bytes that are not what their digest says
    ├── RegistryError       the database
    │   ├── RegistryLocked  … is held by another process
    │   ├── RegistryTooNew  … was written by a newer adaptkit
    │   └── NotARegistry    … is something else
    ├── StorageError        a remote place
    │   └── Unresponsive    … that sends too slowly, or without an end
    ├── ExecutorError       workers that cannot be reached, or that went away
    │   └── TaskError       … one that refused its task, or an error that could not travel as it was
    ├── PluginError         a plugin that broke, or a name that two plugins claim
    └── MissingExtra        an optional library that is not installed

An error says what failed (with its name), why, and what to type next.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Self, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class AdaptkitError(Exception):
    """What failed, `why` it did, and what to type next (`fix`)."""

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what, why, fix)
        self.what, self.why, self.fix = what, why, fix

    @property
    def summary(self) -> str:
        """What failed and why, on one line, for a list of several failures."""
        return f"{self.what}: {self.why}" if self.why else self.what

    def about(self, old: str, new: str) -> Self:
        """The same error with `new` for `old` in its texts.

        A temporary folder means nothing to the reader.
        """
        texts = (text.replace(old, new) for text in (self.what, self.why, self.fix))
        return cast("Self", _rebuild(type(self), *texts))

    def at(self, place: str) -> Self:
        """The same error, with the place in a file that asks for what failed."""
        return cast("Self", _rebuild(type(self), f"{place}: {self.what}", self.why, self.fix))

    def __str__(self) -> str:
        return f"{self.summary}\n  {self.fix}" if self.fix else self.summary

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows (https://ipython.readthedocs.io, custom tracebacks): Python's words, no traceback."""
        texts = [in_python(text) for text in (self.summary, self.fix) if text]
        return [f"{type(self).__name__}: {texts[0]}", *(f"  {text}" for text in texts[1:])]

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.why, self.fix)


# Not compiled here: only a notebook needs them, and every command imports this module.
_PROGRAM = r"(\b(?:adaptkit|accelerate|git|hf|llama-server|lm-eval|pip|python|ray|torchrun|vllm) (?:[^,;)]|,(?! ))*)"
_OPTION = (
    r"(?P<drop>drop |leave out |without )?(?<![\w-])--(?P<name>[a-z][a-z0-9-]*)"
    r"(?:[ =](?P<value>-?[0-9][0-9.]*|'[^']*'|[\w.]+=\S*[^\s,;]|(?:[A-Z]+(?:\[[A-Z]+\])?)+\b|bake DIR|"
    r"(?!(?:and|is|it|of|or|out|to|with|without)\b)[a-z_:](?:[\w:+.,/-]*[\w+/])?(?=$|[,;.)]| --| of | or )))?"
)
FLAGS = frozenset(
    "allow-pickle as-latest clean create create-pr deep embeddings force fresh frozen heads keep-full move "
    "normalize new-version private repair resume skip-bad yes".split()
)
"""Options without a value that messages name."""
IN_PYTHON = {
    "for": "engine",
    "from": "dialect",
    "metric": "metrics",
    "param": "params",
    "suite": "suites",
    "tag": "tags",
    "to": "dialect",
    "yes": "confirmed",
}
"""Options that the Python interface has another word for."""
_WHOLE = {
    "--into bake DIR": "merge_into_model(…, out=DIR)",
    "--yes pushes": "older='keep-latest' pushes",
    "--as-latest": "older='as-latest'",
    "--disjoint": "missing='disjoint'",
}


def in_python(text: str) -> str:
    """An error message's text for a notebook: `--rank 8` is `rank=8`, and a command gets its `!`."""
    for option, call in _WHOLE.items():
        text = text.replace(option, call)
    text = re.sub(r"adaptkit --home (.+?) (init\b|…)", _opened, text)
    return "\n".join(map(_line_in_python, text.split("\n")))


def _opened(found: re.Match[str]) -> str:
    return f"Workspace.open({found[1]!r})" + (".create()" if found[2] == "init" else "")


def _line_in_python(line: str) -> str:
    parts, before = re.split(_PROGRAM, line), ""  # every second one is a command
    for place, part in enumerate(parts):
        if place % 2 == 0:
            parts[place] = re.sub(_OPTION, _keyword, part)
        elif part.startswith("adaptkit ") and (line.startswith(part) or before.endswith(": ")):
            parts[place] = f"!{part}"  # can be typed as it stands
        before = part
    return "".join(parts)


def _keyword(found: re.Match[str]) -> str:
    drop, option, value = found["drop"] or "", found["name"], found["value"]
    name = IN_PYTHON.get(option, option).replace("-", "_")
    if drop or (value is None and option not in FLAGS and not option.startswith("no-")):
        return f"{drop}{name}" + (f" {value}" if value else "")
    if option.startswith("no-"):
        return f"{name[3:]}=False"
    if option in FLAGS:
        return f"{name}=True" + (f" {value}" if value else "")
    assert value is not None
    key, equals, given = value.partition("=")
    if equals and name in {"data", "weigh"}:
        return f"data={{{key!r}: {given!r}}}"
    if equals and name in {"metrics", "params"}:
        return f"{name}={{{key!r}: {given}}}"
    as_it_is = value[0] in "-'0123456789" or value.isupper()
    return f"{name}={value if as_it_is else repr(value)}"


def _rebuild(kind: type[AdaptkitError], what: str, why: str, fix: str) -> AdaptkitError:
    """Unpickle any error of the tree, whatever its constructor takes (workers send them)."""
    error = kind.__new__(kind)
    AdaptkitError.__init__(error, what, why=why, fix=fix)
    return error


class BadReference(AdaptkitError):
    """A reference that the grammar does not know."""


class NotFound(AdaptkitError):
    """An unknown name. Lists the known ones, nearest first."""

    def __init__(
        self,
        kind: str,
        name: str,
        known: Iterable[str] = (),
        *,
        written: Mapping[str, str] | None = None,
        none: str = "there is none yet",
        fix: str = "",
    ) -> None:
        """`written` has names that are written in another way than they are compared; `none` is why where none is known."""
        names = [(written or {}).get(one, one) for one in nearest(name, known)]
        why = f"known {'is' if len(names) == 1 else 'are'} {', '.join(names)}" if names else none
        super().__init__(f"no {kind} called '{name}'", why=why, fix=fix)


def nearest(name: str, known: Iterable[str], show: int = 12) -> list[str]:
    """The known names, the most alike first, cut with an ellipsis after `show`."""
    from difflib import SequenceMatcher

    pool = sorted(set(known))
    pool.sort(key=lambda other: -SequenceMatcher(None, name.lower(), other.lower()).ratio())
    return pool[:show] + ([f"… ({len(pool) - show} more)"] if len(pool) > show else [])


class BadAdapter(AdaptkitError):
    """An adapter directory that cannot be read."""


class BadConfig(BadAdapter):
    """adapter_config.json is missing, broken or says something impossible."""


class BadWeights(BadAdapter):
    """The weights file is missing, broken, unsafe or says something impossible."""


class BadBase(AdaptkitError):
    """A base model directory that cannot be read."""


class BaseMismatch(AdaptkitError):
    """Two bases that are not one, or modules that do not fit the base."""


class MergeError(AdaptkitError):
    """A merge that cannot be made."""


class Unmergeable(MergeError):
    """A method's updates cannot be combined by what was asked for."""


class BadRecipe(MergeError):
    """A weight, parameter, rank or source of a merge that makes no sense."""


class ExtrasConflict(MergeError):
    """Tensors that are no deltas, or settings, that the parents disagree about."""


class BakeError(AdaptkitError):
    """An adapter that cannot become part of a base's weights."""


class BadData(AdaptkitError):
    """Training or evaluation data that cannot be read; the line is named."""


class TrainingError(AdaptkitError):
    """Training that cannot start, or that ended without having trained."""


class NoWorkspace(AdaptkitError):
    """A home that does not exist, or a folder that is something else."""


class BadProject(AdaptkitError):
    """`adaptkit.toml` or `adaptkit.lock` cannot be read; the line is named."""


class BadSweep(AdaptkitError):
    """A sweep file cannot be read, or says something impossible."""


class Refused(AdaptkitError):
    """A rule, or a reviewing plugin, refused."""


class NoRoom(AdaptkitError):
    """Memory, slots or a queue are full now; later there may be room."""


class Conflict(AdaptkitError):
    """Another writer was first."""


class StoreError(AdaptkitError):
    """The local content store could not do it."""


class Corrupt(StoreError):
    """Bytes that are not what their digest says."""


class RegistryError(AdaptkitError):
    """The database could not do it."""


class RegistryLocked(RegistryError):
    """Another process held the database for too long."""


class RegistryTooNew(RegistryError):
    """The database was written by a newer adaptkit."""


class NotARegistry(RegistryError):
    """The file or database is something else."""


class StorageError(AdaptkitError):
    """A remote place could not do it."""


class Unresponsive(StorageError):
    """A remote place sends too slowly, or without an end: whoever asks many things of it asks no more."""


class ExecutorError(AdaptkitError):
    """Workers cannot be reached, went away, or cannot take what they were given."""


class TaskError(ExecutorError):
    """A worker refused its task, or raised what could not travel as it was."""


class PluginError(AdaptkitError):
    """A plugin broke, or two plugins claim one name."""


class MissingExtra(AdaptkitError):
    """An optional library is not installed; `fix` is the line that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            what,
            why=f"the optional part '{extra}' is not installed",
            fix=install_line(extra),
        )


class requires_extra:  # noqa: N801  (used as a function: `with requires_extra("sign", …):`)
    """Import an optional library inside this block: a missing one is `MissingExtra`, with the line that installs it.

    Of a library that is installed and cannot be imported the error has its own words as well.
    """

    def __init__(self, extra: str, what: str) -> None:
        self.extra, self.what = extra, what

    def __enter__(self) -> None:
        """Nothing is prepared."""

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, ImportError):
            missing = MissingExtra(self.what, self.extra)
            if not isinstance(error, ModuleNotFoundError):
                missing.why = f"a library of the optional part '{self.extra}' is broken: {error}"
            raise missing from error


def text_of(error: BaseException) -> str:
    """What an exception says; nothing where even that breaks, as an exception of a plugin may."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001
        return ""


# ---------------------------------------------------------------- installing adaptkit itself

_PACKAGE = __name__.partition(".")[0]


@cache
def distribution() -> tuple[str, str]:
    """Name and version of the distribution that this package was installed from, as its metadata has them.

    "adaptkit" on PyPI is another project's, so no text may name it as something to install.
    """
    from importlib.metadata import distributions

    for found in distributions():
        if _PACKAGE in (found.read_text("top_level.txt") or "").split():
            return found.name, found.version
    return "adaptkit-peft", "0"  # a source tree that was never installed


def install_line(extra: str = "", *, at_least: str = "", upgrade: bool = False) -> str:
    """What to type to install adaptkit: with an extra, from a version on, or newer than it is."""
    wanted = (
        f"{distribution()[0]}{f'[{extra}]' if extra else ''}{f'>={at_least}' if at_least else ''}"
    )
    quoted = f"'{wanted}'" if extra or at_least else wanted
    return f"pip install {'--upgrade ' if upgrade else ''}{quoted}"
