"""From what a person types, a URL or a remote's name, to one adapter's place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import BadReference

if TYPE_CHECKING:
    from adaptkit.extend import StorageBackend
    from adaptkit.home import Config
    from adaptkit.manager import Plugins


@dataclass(frozen=True, slots=True)
class Places:
    """Opens places through the backends of the catalogue; remotes come from the configuration."""

    plugins: Plugins
    config: Config

    def open(self, url: str) -> StorageBackend:
        """The place at a URL; nothing is touched yet."""
        place = self.plugins.backend_for(url).open(url.rstrip("/"))
        endpoint = self.config.endpoints.get(url.partition("://")[0])
        return place.at(endpoint) if endpoint else place

    def root(self, to: str) -> StorageBackend:
        """A remote's root by its name, or a place by its URL."""
        return self.open(to if "://" in to else self.config.remote(to))

    def to_push(self, to: str, name: str) -> StorageBackend:
        """Where `name` is pushed: a URL is its place, a remote holds it under its name (or `REMOTE:OTHER`)."""
        if "://" in to:
            parsed = refs.parse(to)
            if isinstance(parsed, refs.UrlRef) and parsed.selector:
                raise BadReference(f"cannot push to '{to}'", why="the place gives the number, nobody chooses it",
                                   fix=f"adaptkit push {name} {parsed.url}")  # fmt: skip
            return self.open(to)
        remote, _, other = to.partition(":")
        return self._in_remote(remote, refs.check_name(other or name))

    def to_pull(self, source: str) -> tuple[StorageBackend, refs.Selector | None]:
        """The place that a URL or `REMOTE:NAME` means, and which version of it."""
        parsed = refs.parse(source)
        if isinstance(parsed, refs.UrlRef):
            return self.open(parsed.url), parsed.selector
        if isinstance(parsed, refs.RemoteRef):
            return self._in_remote(parsed.remote, parsed.name), parsed.selector
        known = ", ".join(f"{remote}:{source}" for remote in sorted(self.config.remotes))
        raise BadReference(f"'{source}' is not in a remote", why="a pull names a URL or REMOTE:NAME",
                           fix=f"for example: {known or 'adaptkit remote add team file:///mnt/team'}")  # fmt: skip

    def _in_remote(self, remote: str, name: str) -> StorageBackend:
        return self.open(f"{self.config.remote(remote).rstrip('/')}/{name}")
