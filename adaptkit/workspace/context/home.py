"""Where a workspace lives, and its configuration: `config.toml` with remotes, author and registry URL.

`--home`, else `ADAPTKIT_HOME`, else the nearest `.adaptkit/` upward, else the user's data directory.
The environment is read here and nowhere deeper.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError, NotFound, StorageError
from adaptkit.extend.review import Reviews
from adaptkit.io.files import atomic_write, os_errors
from adaptkit.io.safe_paths import user_path
from adaptkit.refs import check_name

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = ".adaptkit"


@dataclass(frozen=True, slots=True)
class Config:
    """What `config.toml` says; every part may be missing."""

    remotes: Mapping[str, str] = field(default_factory=dict)
    author: str = ""
    registry_url: str = ""
    protected: tuple[str, ...] = ()  # aliases that move only when a person says --yes
    policy: Path | None = (
        None  # who must have signed what is pulled; a path relative to config.toml is made whole
    )
    reviews: Reviews = field(default_factory=Reviews)
    quotas: Mapping[str, str] = field(default_factory=dict)  # of "store", or of a team: "20 GB"
    endpoints: Mapping[str, str] = field(default_factory=dict)  # servers by URL scheme, such as hf
    gates: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # by alias: what it asks of metrics

    def remote(self, name: str) -> str:
        """The URL of a named remote."""
        if name not in self.remotes:
            raise NotFound("remote", name, self.remotes, fix=f"adaptkit remote add {name} URL")
        return self.remotes[name]


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of a workspace and the places in it. Nothing is made before something is written."""

    path: Path

    @classmethod
    def find(cls, given: Path | None = None, environment: Mapping[str, str] = os.environ) -> Home:
        """The home in force; a given one need not exist yet."""
        if given is not None:
            return cls(user_path(given).absolute())
        if said := environment.get("ADAPTKIT_HOME"):
            return cls(user_path(said).absolute())
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / FOLDER).is_dir():
                return cls(folder / FOLDER)
        from platformdirs import user_data_path

        return cls(user_data_path("adaptkit", appauthor=False))

    @property
    def database(self) -> Path:
        return self.path / "registry.db"

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def config_file(self) -> Path:
        return self.path / "config.toml"

    def create(self) -> None:
        """Make the folder itself, if it is not there."""
        with os_errors("create", self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def read_config(self, environment: Mapping[str, str] = os.environ) -> Config:
        """The configuration, with what the environment overrides."""
        table: dict[str, Any] = {}
        if self.config_file.is_file():
            try:
                table = tomllib.loads(self.config_file.read_text("utf-8"))
                remotes = {check_name(k): str(v) for k, v in table.get("remotes", {}).items()}
                endpoints = {str(k): str(v) for k, v in table.get("endpoints", {}).items()}
            except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError) as error:
                raise AdaptkitError(
                    f"cannot read {self.config_file}", why=str(error), fix="mend or delete it"
                ) from error
            protected = table.get("protected", [])
            if not isinstance(protected, list) or not all(
                isinstance(alias, str) for alias in protected
            ):
                raise AdaptkitError(
                    f"cannot read {self.config_file}",
                    why="protected is a list of aliases",
                    fix='for example protected = ["prod"]',
                )
            policy = self._table(table, "policy", {"file": str}).get("file")
            review = self._table(table, "review", {"enable": list, "disable": list})
            reviews = Reviews(
                *(tuple(map(str, review.get(part, ()))) for part in ("enable", "disable"))
            )
            config = Config(
                remotes,
                str(table.get("author", "")),
                str(table.get("registry_url", "")),
                tuple(protected),
                self.path / user_path(policy) if policy else None,
                reviews,
                {str(k): str(v) for k, v in table.get("quotas", {}).items()},
                endpoints,
                self._gates(table.get("gates", {})),
            )
        else:
            config = Config()
        return replace(
            config,
            author=environment.get("ADAPTKIT_AUTHOR", "")
            or config.author
            or environment.get("USER", ""),
            registry_url=environment.get("ADAPTKIT_REGISTRY_URL", "") or config.registry_url,
        )

    def _gates(self, found: Any) -> dict[str, tuple[str, ...]]:
        """The conditions of each alias; one text stands for a list of one."""
        if not isinstance(found, dict):
            found = {"": found}
        gates = {
            alias: [asked] if isinstance(asked, str) else asked for alias, asked in found.items()
        }
        for alias, asked in gates.items():
            if (
                not alias
                or not isinstance(asked, list)
                or not all(isinstance(t, str) for t in asked)
            ):
                raise AdaptkitError(
                    f"cannot read {self.config_file}",
                    why="[gates] gives conditions by alias",
                    fix='for example prod = ["polite.forgetting <= 0.05"]',
                )
        return {alias: tuple(asked) for alias, asked in gates.items()}

    def _table(
        self, table: Mapping[str, Any], name: str, kinds: Mapping[str, type]
    ) -> Mapping[str, Any]:
        """One table of the file. What a rule depends on must not be passed over for a slip of the pen."""
        found = table.get(name, {})
        told = " and ".join(kinds)
        if not isinstance(found, dict) or not found.keys() <= kinds.keys():
            raise AdaptkitError(
                f"cannot read {self.config_file}",
                why=f"[{name}] has {told}, and nothing else",
                fix="mend it: docs/signing.md",
            )
        for key, value in found.items():
            if not isinstance(value, kinds[key]) or value == "":
                raise AdaptkitError(
                    f"cannot read {self.config_file}",
                    why=f"{key} of [{name}] is not a {kinds[key].__name__}",
                    fix="mend it: docs/signing.md",
                )
        return found

    def set_remote(self, name: str, url: str | None) -> None:
        """Write or (None) remove one remote; comments and other settings in the file stay."""
        import tomlkit

        check_name(name)
        if "/" in name:
            raise StorageError(
                f"'{name}' cannot name a remote",
                why="a remote's name has no '/'",
                fix="choose another",
            )
        self.create()
        text = self.config_file.read_text("utf-8") if self.config_file.is_file() else ""
        document = tomlkit.parse(text)
        remotes = document.setdefault("remotes", tomlkit.table())
        if url is None:
            remotes.pop(name, None)
        else:
            remotes[name] = url
        atomic_write(self.config_file, tomlkit.dumps(document).encode())
