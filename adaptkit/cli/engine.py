"""Starting another engine, as this process or behind the gateway that resolves aliases."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adaptkit.errors import PluginError, Refused, requires_extra

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import uvicorn

    from adaptkit.cli.shell.session import Session
    from adaptkit.extend.serving import Engine

LOADING = 1800.0  # seconds; a large base takes long to load
GRACE = 10.0  # seconds


def start_engine(
    session: Session,
    name: str,
    base: str,
    *,
    host: str,
    port: int,
    how: Mapping[str, Any],
    keys: Path | None = None,
    more: Sequence[str] = (),
) -> None:
    """Run another engine with the workspace in its environment, behind the gateway where it can load adapters.

    `more` are options of its own, which its command line ends with.
    """
    from adaptkit.serving.api.listen import bound, url_of, web_server
    from adaptkit.serving.engines.rules import limit_to_start
    from adaptkit.workspace.serving.serve import SLOTS

    engine = session.workspace.plugins.engine(name)
    slots, limit = how["slots"] or SLOTS, limit_to_start(name, how["rank_limit"])
    if limit != how["rank_limit"]:
        session.out.say(
            f"{name} knows no limit of {how['rank_limit']}: it is started for ranks up to {limit}"
        )
    inner = ("127.0.0.1", _free_port()) if engine.gateway else (host, port)
    line = engine.command(base, host=inner[0], port=inner[1], slots=slots, rank_limit=limit)
    command = (*_checked(engine, line), *more)
    program = _program(engine, command[0])
    home = {"ADAPTKIT_HOME": str(session.workspace.home.path)}
    environment = {**os.environ, **engine.environment(limit), **home}
    if not engine.gateway:
        session.out.done({"engine": name, "command": command}, [shlex.join(command)])
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(program, command, environment)  # noqa: S606  (the engine's own command, no shell)
    url = f"http://{inner[0]}:{inner[1]}"
    app = session.workspace.gateway_app(base, url, engine=name, rank_limit=limit, keys=keys)
    with bound(host, port) as listener, _running(program, command, environment) as process:
        _wait(process, engine, url)
        server = web_server(app, listener, drain=how["drain"])
        shown = {"engine": name, "command": list(command)}
        lines = [
            shlex.join(command),
            f"serving {base} on {url_of(listener)}/v1; end it with Ctrl-C",
        ]
        session.out.done(shown, lines)
        sys.stdout.flush()
        _serve(server, listener, process)


def _checked(engine: Engine, line: object) -> Sequence[str]:
    """The command line that an engine plugin gave, where it is one."""
    if not isinstance(line, tuple | list) or not line:
        raise PluginError(
            f"the engine '{engine.name}' cannot be started",
            why=f"its command is {line!r}, and no tuple of the words of a command line",
            fix="adaptkit plugins doctor",
        )
    return line


def _program(engine: Engine, name: str) -> str:
    """Where an engine's program is on this machine."""
    program = shutil.which(name)
    if program is None:
        raise Refused(
            f"cannot start the engine '{engine.name}'",
            why=f"the program '{name}' is not installed",
            fix=f"pip install {name}",
        )
    return program


@contextmanager
def _running(
    program: str, command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """An engine's process, which is ended however the block ends."""
    process = subprocess.Popen(
        [program, *command[1:]],
        env=environment,
        stdout=sys.stderr,
        preexec_fn=_end_with_us if sys.platform == "linux" else None,  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _serve(
    server: uvicorn.Server, listener: socket.socket, process: subprocess.Popen[bytes]
) -> None:
    """Serve until it is ended, or the engine ends."""
    from threading import Thread

    def follow() -> None:
        process.wait()
        server.should_exit = True

    Thread(target=follow, daemon=True).start()
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        if not server.should_exit:
            raise
    if process.poll():
        raise _ended(process)


def _wait(process: subprocess.Popen[bytes], engine: Engine, url: str) -> None:
    """Until the engine has loaded the base."""
    with requires_extra("serve", "cannot put a gateway before an engine"):
        import httpx

    deadline = time.monotonic() + LOADING
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _ended(process)
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
    raise Refused(
        f"cannot start the engine '{engine.name}'",
        why=f"it was not ready after {LOADING:g} seconds",
        fix="look at what it printed",
    )


def _ended(process: subprocess.Popen[bytes]) -> Refused:
    return Refused(
        "the engine ended",
        why=f"its exit code is {process.returncode}",
        fix="look at what it printed",
    )


def _end_with_us() -> None:
    """Have Linux end the engine when this process is killed: it would go on holding the device's memory."""
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
