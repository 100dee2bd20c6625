"""The address of a cluster in `--on SCHEME://HOST:PORT`, and whether something listens there."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

from adaptkit.errors import ExecutorError

WAIT = 5.0
"""Seconds to wait for a connection."""


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """Where a cluster's head listens; `shared` is what the user said of files, None where nothing was said."""

    url: str
    host: str
    port: int
    shared: bool | None = None

    @classmethod
    def parse(cls, url: str, port: int) -> Self:
        """`scheme://host[:port][?shared=yes|no]`; `ExecutorError` shows the form."""
        scheme = url.partition("://")[0]
        try:
            parts = urlsplit(url)
            host, given = parts.hostname, parts.port
        except ValueError:
            parts, host, given = urlsplit(""), None, None
        options = parse_qs(parts.query, keep_blank_values=True)
        shared = options.pop("shared", [""])[-1]
        if not host or parts.path.strip("/") or options or shared not in {"", "yes", "no"}:
            raise ExecutorError(
                f"'{url}' is no address of a cluster",
                why=f"it has the form {scheme}://HOST[:PORT][?shared=yes]",
                fix=f"for example --on {scheme}://10.0.0.1:{port}",
            )
        return cls(url, host, given or port, None if not shared else shared == "yes")

    def check(self, started_by: str) -> None:
        """`ExecutorError` when nothing listens there; `started_by` is the command that starts one."""
        try:
            socket.create_connection((self.host, self.port), WAIT).close()
        except OSError as error:
            raise ExecutorError(
                f"no cluster can be reached at {self.host}:{self.port}",
                why=error.strerror or str(error),
                fix=f"start one there ({started_by}), or --on local",
            ) from error

    def unusable(self, why: str, log: str) -> ExecutorError:
        """The error when a cluster that was reached fails; `log` is whose log shows more."""
        return ExecutorError(
            f"the cluster at {self.host}:{self.port} cannot be used",
            why=why,
            fix=f"look at the {log}'s log; what was finished is kept, so the same command goes on",
        )


@cache
def this_machine() -> str:
    """What two processes share exactly when they run on one machine: its name and when it was started."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        started = ""
    return f"{socket.gethostname()} {started}"
