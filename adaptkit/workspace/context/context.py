"""`Context`: the data of a workspace, each part opened on first use.

It alone opens the registry, and only when an operation needs it: merging two folders into a third
touches no database.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from adaptkit.errors import StoreError
from adaptkit.io.html import table
from adaptkit.io.progress.bars import default_watch
from adaptkit.io.progress.progress import warn_in_python
from adaptkit.io.safe_paths import user_path
from adaptkit.remotes.places import Places
from adaptkit.store.content_store import Store
from adaptkit.workspace.context.home import FOLDER, Home

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from adaptkit.io.progress.progress import Watch
    from adaptkit.plugin.manager import Plugins
    from adaptkit.workspace.context.home import Config
    from adaptkit_registry import Registry


class _LazyTable(Mapping[str, str]):
    """A table that is read from the registry when something is first looked up in it."""

    def __init__(self, read: Callable[[], dict[str, str]]) -> None:
        self._read = read
        self._table: dict[str, str] | None = None

    def _loaded(self) -> dict[str, str]:
        if self._table is None:
            self._table = self._read()
        return self._table

    def __getitem__(self, key: str) -> str:
        return self._loaded()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())


def _installed() -> Plugins:
    from adaptkit.plugin.manager import Plugins

    return Plugins.from_environment()


class Context:
    """A home and what belongs to it. Close it, or use it in a `with`."""

    def __init__(
        self,
        home: Home | None = None,
        plugins: Plugins | Callable[[], Plugins] = _installed,
        *,
        notify: Callable[[str], None] = warn_in_python,
        watch: Watch | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not isinstance(home, Home):
            raise TypeError(
                "Workspace.open(home) opens a workspace, Workspace.init(folder) makes one"
            )
        self.home, self._plugins = home, plugins
        self.store = Store(home.store, home.spare_trees)
        self.notify, self.clock = notify, clock
        self.watch = watch or default_watch()
        self._registry: Registry | None = None
        self._home_was_there = home.path.exists()

    @classmethod
    def open(
        cls,
        home: str | os.PathLike[str] | None = None,
        *,
        notify: Callable[[str], None] = warn_in_python,
        watch: Watch | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Self:
        """The workspace at `home`, else `ADAPTKIT_HOME`, `.adaptkit/` upward, or user data."""
        return cls(
            Home.find(Path(home) if home is not None else None),
            _installed,
            notify=notify,
            watch=watch,
            clock=clock,
        )

    @classmethod
    def init(
        cls,
        folder: str | os.PathLike[str] = ".",
        *,
        notify: Callable[[str], None] = warn_in_python,
        watch: Watch | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Self:
        """Make a workspace in `folder/.adaptkit` and open it.

        An existing one is opened as it is.
        """
        path = user_path(folder).absolute()
        if path.exists() and not path.is_dir():
            raise StoreError(
                f"cannot make a workspace in {folder}", why="it is a file", fix="give a folder"
            )
        workspace = cls.open(path / FOLDER, notify=notify, watch=watch, clock=clock)
        workspace.create()
        return workspace

    def create(self) -> None:
        """Make the home with its database, where it is not there yet."""
        self.home.create()
        self.home.ignore_in_git()
        self.registry.make()

    def check_home(self) -> None:
        """Refuse to read from a home that was chosen and does not exist."""
        if not self.config.registry_url:
            self.home.check_exists()

    @property
    def new_home(self) -> bool:
        """Whether the home was made since this object was."""
        made = (self.home.database, self.home.config_file)
        return not self._home_was_there and any(file.exists() for file in made)

    @cached_property
    def config(self) -> Config:
        """What `config.toml` says, read once; what a found one says without being trusted is notified."""
        config = self.home.read_config()
        if config.withheld:
            self.notify(
                f"{self.home.config_file} was only found, so it may not set "
                f"{', '.join(config.withheld)}: adaptkit trust {self.home.path.parent}"
            )
        return config

    @cached_property
    def plugins(self) -> Plugins:
        """What is installed, looked up when something is first asked of it: `list` asks nothing."""
        return self._plugins() if callable(self._plugins) else self._plugins

    @property
    def places(self) -> Places:
        """Opens URLs and remotes."""
        return Places(self.plugins, self.config.remotes, self.config.endpoints)

    @property
    def registry(self) -> Registry:
        """The registry, opened on first use; the database of a home is made by the first change."""
        if self._registry is None:
            from adaptkit_registry import Registry

            self.home.check()
            self._registry = Registry.open(
                self.config.registry_url or self.home.database,
                clock=self.now,
                making=self.home.create,
            )
        return self._registry

    @cached_property
    def pairs(self) -> Mapping[str, str]:
        """Which tensors (`tm1`) were measured in which files (`fs1`), by any user of the registry."""
        return _LazyTable(lambda: {fs1: pair.tm1 for fs1, pair in self.registry.pairs().items()})

    @property
    def tmp(self) -> Path:
        """Where operations stage what they will write, on the store's disk; a folder of something else is refused."""
        self.home.check()
        return self.home.path / "tmp"

    def now(self) -> str:
        """The time, as it is recorded."""
        return self.clock().astimezone(UTC).isoformat(timespec="microseconds")

    def close(self) -> None:
        if self._registry is not None:
            self._registry.close()
            self._registry = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.home.path}>"

    def _repr_html_(self) -> str:
        """The latest version of each adapter, for notebooks; nothing is made by looking."""
        there = self.config.registry_url or self.home.database.is_file()
        found = self.registry.latest_versions() if there else []
        rows = [
            (v.ref, v.method, v.rank or "", v.base.name or "?", " ".join(v.aliases), v.message)
            for v in found
        ]
        head = ("version", "method", "rank", "base", "aliases", "message")
        return table(head if rows else (), rows, f"{len(rows)} adapters in {self.home.path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
