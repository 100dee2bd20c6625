"""Where a workspace lives, and its configuration: `config.toml` with remotes, author and registry URL.

`--home`, else `ADAPTKIT_HOME`, else the nearest `.adaptkit/` upward, else the user's data directory.
The environment is read here and nowhere deeper.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit.errors import AdaptkitError, NotFound, NoWorkspace, StorageError
from adaptkit.extend.review import Reviews
from adaptkit.io.files import atomic_write, is_temp, os_errors
from adaptkit.io.safe_paths import user_path
from adaptkit.refs import check_name
from adaptkit.workspace.context.found import content_of_links, links_of, refuse_links
from adaptkit.workspace.context.trust import Decisions, content_of, policy_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER = ".adaptkit"
PARTS = frozenset({"registry.db", "config.toml", "store", "cache", "tmp", "training"})
"""What a home holds; a folder that holds other things and none of these is no home."""
_FIRST = frozenset({".gitignore", "registry.db.lock"})
"""What is made in a home before any of them: all there is of one whose making was killed."""
FIX = "docs/configuration.md shows every key"


@dataclass(frozen=True, slots=True)
class Config:
    """What `config.toml` says; every part may be missing."""

    remotes: Mapping[str, str] = field(default_factory=dict)
    named_author: str = ""
    registry_url: str = ""
    protected: tuple[str, ...] = ()  # aliases that move only when a person says --yes
    policy: Path | None = None  # who must have signed what is pulled; an absolute path
    reviews: Reviews = field(default_factory=Reviews)
    quotas: Mapping[str, str] = field(default_factory=dict)  # of "store", or of a team: "20 GB"
    endpoints: Mapping[str, str] = field(default_factory=dict)  # servers by URL scheme, such as hf
    gates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # metrics, by alias
    executor: str = ""  # where tasks run, such as dask://10.0.0.1:8786; empty is this process
    executor_from: str = ""  # what says so: ADAPTKIT_EXECUTOR, or a line of the file
    withheld: tuple[str, ...] = ()  # what the file sets and may not, because it was only found
    user: str = ""  # of the operating system
    policy_files: Mapping[Path, bytes | None] = field(default_factory=dict, repr=False)
    """The policy and its keys as they were trusted, where the configuration was only found."""
    text: str = field(default="", repr=False)  # of the file itself

    @property
    def author(self) -> str:
        """Who is recorded: as the environment or config.toml names them, else git, else the system."""
        from adaptkit.workspace.context.author import git_author

        return self.named_author or git_author() or self.user

    def remote(self, name: str) -> str:
        """The URL of a named remote."""
        if name not in self.remotes:
            raise NotFound("remote", name, self.remotes, fix=f"adaptkit remote add {name} URL")
        return self.remotes[name]


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of a workspace and the places in it. Nothing is made before something is written."""

    path: Path
    chosen_by: str = ""
    """`--home` or `ADAPTKIT_HOME`, where a person chose it; empty where it was found."""
    found: bool = False  # by walking upward: not named by the user, so without authority

    @classmethod
    def find(cls, given: Path | None = None, environment: Mapping[str, str] = os.environ) -> Home:
        """The home in force; a given one need not exist yet."""
        if given is not None:
            return cls(user_path(given).absolute(), "--home")
        if named := environment.get("ADAPTKIT_HOME"):
            return cls(user_path(named).absolute(), "ADAPTKIT_HOME")
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / FOLDER).is_dir():
                return cls(folder / FOLDER, found=True)
        return cls.of_user()

    @classmethod
    def of_user(cls) -> Home:
        """The home in the user's own data folder."""
        from platformdirs import user_data_path

        return cls(user_data_path("adaptkit", appauthor=False))

    @property
    def database(self) -> Path:
        return self.path / "registry.db"

    @property
    def store(self) -> Path:
        return self.path / "store"

    def spare_trees(self) -> Path:
        """Where artifacts become folders when this home may only be read."""
        return _of_user() / "trees"

    @property
    def cache(self) -> Path:
        """What was measured of bases; the user's own where there is no home yet, for reading makes none."""
        return (self.path if self.path.exists() else _of_user()) / "cache"

    @property
    def reading(self) -> Path:
        """Where operations that only look at folders stage what they open: here, or where no home is yet."""
        self.check()
        return (self.path if self.path.exists() else _of_user()) / "tmp"

    @property
    def config_file(self) -> Path:
        return self.path / "config.toml"

    def check(self) -> None:
        """Refuse a file, or a folder of something else; one that does not exist can still be made."""
        if not self.path.exists():
            return
        what, chosen = f"{self.path} is no workspace", self.chosen_by or "--home"
        if not self.path.is_dir():
            raise NoWorkspace(what, why="it is a file", fix=f"check {chosen}")
        if self.found:
            refuse_links(self.path)
        found = (entry.name for entry in self.path.iterdir())
        names = {name for name in found if name not in _FIRST and not is_temp(name)}
        if not names or names & PARTS:
            return
        inside = self.path / FOLDER
        raise NoWorkspace(
            what,
            why=f"it holds {', '.join(sorted(names)[:3])} and none of {', '.join(sorted(PARTS))}",
            fix=f"adaptkit --home {inside} …"
            if inside.is_dir()
            else f"check {chosen}; adaptkit init {self.path} makes a workspace inside",
        )

    def check_exists(self) -> None:
        """Refuse to read a home that a person chose and that does not exist: it is a typo."""
        if self.chosen_by and not self.path.exists():
            raise NoWorkspace(
                f"there is no workspace at {self.path}",
                why=f"{self.chosen_by} names it, and it does not exist",
                fix=f"check it for a typo; adaptkit --home {self.path} init makes one",
            )

    def create(self) -> None:
        """Make the folder itself, if it is not there."""
        self.check()
        with os_errors("create", self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def ignore_in_git(self) -> None:
        """Keep the adapters out of a repository that the home is in; a file that is there stays."""
        if not (file := self.path / ".gitignore").exists():
            atomic_write(file, b"# the adapters and their registry are too large for git\n*\n")

    def read_config(self, environment: Mapping[str, str] = os.environ) -> Config:
        """The configuration, with what the environment overrides."""
        config = self._config() if self.config_file.is_file() else Config()
        if self.found and self._withheld(config):
            files = policy_files(config.policy)
            trusted = self._verdict(config, files) is True
            config = (
                replace(config, policy_files=files) if trusted else self._without_authority(config)
            )
        return replace(
            config,
            named_author=_text(environment, "ADAPTKIT_AUTHOR") or config.named_author,
            user=_text(environment, "USER") or _text(environment, "USERNAME"),
            registry_url=_text(environment, "ADAPTKIT_REGISTRY_URL") or config.registry_url,
            executor=(asked := _text(environment, "ADAPTKIT_EXECUTOR")) or config.executor,
            executor_from="ADAPTKIT_EXECUTOR" if asked else config.executor_from,
        )

    def unasked(self) -> tuple[str, ...]:
        """What a found file would set, when the user has not decided yet whether it may."""
        if not self.found or not self.config_file.is_file():
            return ()
        config = self._config()
        keys = self._withheld(config)
        return keys if keys and self._verdict(config, policy_files(config.policy)) is None else ()

    def decide(self, *, trusted: bool) -> tuple[str, ...]:
        """Record whether what the configuration says now may count when it is found; returns what it sets."""
        if not self.config_file.is_file():
            raise NotFound("configuration", str(self.config_file))
        config = self._config()
        content = content_of(config.text, policy_files(config.policy))
        Decisions.of_user().record(self.config_file, content, trusted=trusted)
        return self._withheld(config)

    def decide_links(self, *, trusted: bool) -> Mapping[Path, str]:
        """Record whether the links of this home may count when it is found; returns where each leads."""
        if links := links_of(self.path):
            Decisions.of_user().record(
                self.path, content_of_links(self.path, links), trusted=trusted
            )
        return links

    def _verdict(self, config: Config, files: Mapping[Path, bytes | None]) -> bool | None:
        return Decisions.of_user().verdict(self.config_file, content_of(config.text, files))

    @staticmethod
    def _withheld(config: Config) -> tuple[str, ...]:
        """The settings of a file that send something elsewhere, name somebody, or weaken a check."""
        has = {
            "author": config.named_author,
            "registry_url": config.registry_url,
            "executor": config.executor,
            "policy": config.policy,
            "review.disable": config.reviews.disable,
            "endpoints": config.endpoints,
        }
        return tuple(key for key, value in has.items() if value)

    def _without_authority(self, config: Config) -> Config:
        """The file's remotes, protected aliases and quotas; for the rest, what the user's own file says."""
        user = Home.of_user()
        own = user._config() if user.config_file.is_file() else Config()  # noqa: SLF001
        return replace(
            config,
            named_author=own.named_author,
            registry_url="",
            executor=own.executor,
            executor_from=own.executor_from,
            policy=own.policy,
            reviews=Reviews(config.reviews.enable + own.reviews.enable, own.reviews.disable),
            endpoints=own.endpoints,
            withheld=self._withheld(config),
        )

    def _config(self) -> Config:
        from adaptkit.io.toml_file import BadToml, line_of, read_text
        from adaptkit.workspace.context.config_file import parse_config

        try:
            found = parse_config(text := read_text(self.config_file))
        except BadToml as error:
            raise error.error(f"cannot read {self.config_file}", FIX) from error
        return Config(
            found.remotes,
            found.author,
            found.registry_url,
            found.protected,
            self.path / user_path(found.policy.file) if found.policy.file else None,
            Reviews(found.review.enable, found.review.disable),
            {name: str(limit) for name, limit in found.quotas.items()},
            found.endpoints,
            {
                alias: (asked,) if isinstance(asked, str) else asked
                for alias, asked in found.gates.items()
            },
            executor=found.executor,
            text=text,
            executor_from=f"{self.config_file}, line {line_of(text, 'executor')},",
        )

    def write_config(self, keys: Sequence[str], value: str | Sequence[str] | None) -> None:
        """Write or (None) remove one setting; comments and the other settings in the file stay.

        Nothing is written when the file would not be read afterwards.
        """
        import tomlkit

        from adaptkit.io.toml_file import BadToml, read_text
        from adaptkit.workspace.context.config_file import parse_config

        *tables, key = keys
        try:
            text = read_text(self.config_file) if self.config_file.is_file() else ""
            parse_config(text)
        except BadToml as error:
            raise error.error(f"cannot change {self.config_file}", FIX) from error
        document = tomlkit.parse(text)
        table: Any = document
        for name in tables:
            table = (
                table.get(name, {}) if value is None else table.setdefault(name, tomlkit.table())
            )
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value if isinstance(value, str) else list(value)
        changed = tomlkit.dumps(document)
        try:
            parse_config(changed)
        except BadToml as error:
            raise AdaptkitError(
                f"cannot set {'.'.join(keys)}", why=error.why, fix=f"{error.fix}{FIX}"
            ) from error
        ours = self.found and not self._undecided(text)
        self.create()
        atomic_write(self.config_file, changed.encode())
        if ours:
            self.decide(trusted=True)  # the user wrote it, here and now

    def _undecided(self, text: str) -> bool:
        """Whether the file has settings that the user has not trusted."""
        if not text:
            return False
        config = self._config()
        verdict = self._verdict(config, policy_files(config.policy))
        return bool(self._withheld(config)) and verdict is not True

    def set_remote(self, name: str, url: str | None) -> None:
        """Write or (None) remove one remote; comments and other settings in the file stay."""
        check_name(name)
        if "/" in name:
            raise StorageError(
                f"'{name}' cannot name a remote",
                why="a remote's name has no '/'",
                fix="choose another",
            )
        self.write_config(("remotes", name), url)


def _text(environment: Mapping[str, str], name: str) -> str:
    """The value of a variable, empty where it is not set; one that is no text is named."""
    value = environment.get(name, "")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise AdaptkitError(
            f"{name} cannot be used",
            why="it has bytes that are not UTF-8",
            fix=f"set it again: export {name}=…",
        ) from error
    return value


def _of_user() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("adaptkit", appauthor=False)
