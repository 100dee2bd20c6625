"""From a URL or the name of a remote to one adapter's place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptkit import refs
from adaptkit.errors import BadReference, NotFound
from adaptkit.io.safe_paths import user_path
from adaptkit.refs import is_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adaptkit.extend import StorageBackend
    from adaptkit.plugin.manager import Plugins


@dataclass(frozen=True, slots=True)
class Places:
    """Opens places through the backends of the catalogue; remotes come from the configuration."""

    plugins: Plugins
    remotes: Mapping[str, str]
    """URLs of the named remotes."""
    endpoints: Mapping[str, str]
    """Servers by URL scheme, where they are not the usual one."""

    def url_of(self, remote: str) -> str:
        """The URL of a named remote."""
        if remote not in self.remotes:
            fix = f"adaptkit remote add {remote} URL"
            raise NotFound("remote", remote, self.remotes, fix=fix)
        return self.remotes[remote]

    def open(self, url: str) -> StorageBackend:
        """The place at a URL; nothing is touched yet."""
        if "://" not in url:
            raise BadReference(
                f"'{url}' is no URL",
                why="a place is behind a URL",
                fix=_url_like(url),
            )
        refs.check_url(url)
        place = self.plugins.backend_for(url).open(url.rstrip("/"))
        endpoint = self.endpoints.get(url.partition("://")[0])
        return place.at(endpoint) if endpoint else place

    def root(self, to: str) -> StorageBackend:
        """A remote's root by its name, or a place by its URL."""
        return self.open(to if "://" in to else self.url_of(to))

    def to_push(self, to: str, name: str) -> StorageBackend:
        """Where `name` is pushed.

        A URL is its place, a remote holds it under its name (or `REMOTE:OTHER`).
        """
        if "://" in to:
            parsed = refs.parse(to)
            if isinstance(parsed, refs.UrlRef) and parsed.selector:
                raise BadReference(
                    f"cannot push to '{to}'",
                    why="the place gives the number",
                    fix=f"adaptkit push {name} {parsed.url}",
                )
            return self.open(to)
        if is_path(to):
            return self.open(to)
        remote, _, other = to.partition(":")
        return self._in_remote(remote, refs.check_name(other or name))

    def to_pull(self, source: str | refs.Ref) -> tuple[StorageBackend, refs.Selector | None]:
        """The place that a URL or `REMOTE:NAME` means, and which version of it."""
        parsed = refs.parse(source) if isinstance(source, str) else source
        if isinstance(parsed, refs.UrlRef):
            return self.open(parsed.url), parsed.selector
        if isinstance(parsed, refs.RemoteRef):
            return self._in_remote(parsed.remote, parsed.name), parsed.selector
        if isinstance(parsed, refs.PathRef):
            folder = parsed.path.absolute()
            raise BadReference(
                f"'{source}' is a path",
                why="a pull names a URL or REMOTE:NAME",
                fix=f"adaptkit pull {folder.as_uri()}, where versions were pushed; else adaptkit add {source} --name NAME",
            )
        if str(source) in self.remotes:
            raise BadReference(
                f"'{source}' is a remote",
                why="a pull names an adapter in it",
                fix=f"adaptkit list {source}: shows what is there",
            )
        known = ", ".join(f"{remote}:{source}" for remote in sorted(self.remotes))
        raise BadReference(
            f"'{source}' is not in a remote",
            why="a pull names a URL or REMOTE:NAME",
            fix=f"for example: {known or 'adaptkit remote add team file:///mnt/team'}",
        )

    def _in_remote(self, remote: str, name: str) -> StorageBackend:
        if remote not in self.remotes and re.fullmatch(r"[0-9]+(\.[0-9]+)?", name):
            raise BadReference(
                f"'{remote}:{name}' names the adapter '{name}' in a remote, and there is no remote '{remote}'",
                why="a weight follows a =",
                fix=f"for example {remote}={name}",
            )
        return self.open(f"{self.url_of(remote).rstrip('/')}/{name}")


def _url_like(text: str) -> str:
    """The URL that was probably meant."""
    if found := re.match(r"([a-z][a-z0-9]+):/?(?=[^/\\])", text):
        return f"for example {found[1]}://{text[found.end() :]}"
    return f"for a folder: {user_path(text).absolute().as_uri()}"
