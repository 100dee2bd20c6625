"""Logins: what `docker login` and `podman login` store, and the tokens that a registry's own server gives for it."""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptkit.errors import StorageError
from adaptkit_plugins.storage.oci.address import may_be_asked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

_CHALLENGE = re.compile(r'([A-Za-z_]+)="((?:[^"\\]|\\.)*)"')
_HELPER = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Login:
    """A user and password, or a token that stands for both; neither is ever shown."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.user or self.identity)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find(host: str) -> Login:
    """The login for a host in docker's or podman's configuration; an empty one without."""
    for path in _files():
        if login := _in_file(path, host):
            return login
    return Login()


def _files() -> tuple[Path, ...]:
    """Where logins are stored: docker's file, then podman's (containers-auth.json(5)), which have one form."""
    docker = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        return Path(named), docker
    running = os.environ.get("XDG_RUNTIME_DIR")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    podman = [Path(running) / "containers" / "auth.json"] if running else []
    return docker, *podman, config / "containers" / "auth.json"


def _in_file(path: Path, host: str) -> Login:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return Login()
    except (OSError, ValueError, RecursionError):
        raise StorageError(
            f"cannot read {path}",
            why="it is not a JSON file",
            fix=f"docker login {host}",
        ) from None
    try:
        return _from(config, host)
    except (AttributeError, TypeError, ValueError):
        raise StorageError(
            f"cannot use {path}",
            why=f"its entry for {host} is not what docker login writes",
            fix=f"docker login {host}",
        ) from None


def authorisation(
    challenge: str,
    login: Login,
    scope: str,
    origin: str,
    ask: Callable[[str, Mapping[str, str], Mapping[str, str]], httpx.Response],
) -> str:
    """The Authorization header for a registry's challenge; empty without a login for it.

    `ask(url, params, headers)` fetches a token from the server that the registry names.
    """
    kind, _, rest = challenge.strip().partition(" ")
    if kind.lower() == "basic":
        return login.basic if login.user else ""
    if kind.lower() != "bearer":
        return ""
    parameters = {name.lower(): value for name, value in _CHALLENGE.findall(rest)}
    realm = parameters.get("realm", "")
    if not may_be_asked(realm, origin):
        raise StorageError(
            f"cannot log in to {origin}",
            why="it sends its users for a token to a server that is not safe",
            fix="do not trust this registry",
        )
    params = {"scope": parameters.get("scope") or scope} | (
        {"service": parameters["service"]} if "service" in parameters else {}
    )
    if login.identity:
        params |= {
            "grant_type": "refresh_token",
            "refresh_token": login.identity,
            "client_id": "adaptkit",
        }
        response = ask(realm, params, {})
    else:
        response = ask(realm, params, {"Authorization": login.basic} if login.user else {})
    if response.status_code != 200:
        return ""
    try:
        body: Any = response.json()
        token = body.get("token") or body.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise StorageError(
            f"cannot log in to {origin}",
            why="its token server gave no token",
            fix="try again later",
        )
    return f"Bearer {token}"


def _from(config: Mapping[str, Any], host: str) -> Login:
    names = (
        ("https://index.docker.io/v1/", *_HUB)
        if host in _HUB
        else (
            host,
            f"https://{host}",
            f"http://{host}",
            f"https://{host}/v1/",
            f"https://{host}/v2/",
        )
    )
    helpers, auths = config.get("credHelpers") or {}, config.get("auths") or {}
    for name in names:
        if helper := helpers.get(name):
            return _ask_helper(helper, name)
    for name in names:
        entry = auths.get(name)
        if entry and entry.get("identitytoken"):
            return Login(identity=entry["identitytoken"])
        if entry and entry.get("auth"):
            user, colon, password = base64.b64decode(entry["auth"]).decode().partition(":")
            if not colon:
                raise ValueError
            return Login(user, password.strip("\0"))
    if config.get("credsStore") and any(name in auths for name in names):
        return _ask_helper(config["credsStore"], next(name for name in names if name in auths))
    return Login()


def _ask_helper(helper: str, name: str) -> Login:
    """Ask the program that keeps docker's passwords, as docker does."""
    import shutil
    import subprocess

    if not _HELPER.fullmatch(helper):
        raise ValueError
    program = shutil.which(f"docker-credential-{helper}")
    if program is None:
        raise StorageError(
            f"cannot log in to {name}",
            why=f"docker keeps its passwords with '{helper}', whose program is not here",
            fix=f"install docker-credential-{helper}, or docker login on this machine",
        )
    try:
        done = subprocess.run(
            [program, "get"], input=name.encode(), capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return Login()
    if done.returncode:
        return Login()
    entry = json.loads(done.stdout)
    if entry.get("Username") == "<token>":
        return Login(identity=entry["Secret"])
    return Login(entry["Username"], entry["Secret"])
