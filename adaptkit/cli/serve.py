"""The command that serves adapters over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from adaptkit.cli.adapters.adapters import REF
from adaptkit.cli.engine import start_engine
from adaptkit.cli.shell.amounts import Amount
from adaptkit.cli.shell.session import Session, json_option, pass_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptkit.serving.preflight import Preflight

OWN = ("memory", "rows", "queue", "cache", "dtype", "device", "drain", "route_within", "force")
"""The parameters that only adaptkit's own server has a use for."""


@click.command()
@click.argument("preload", nargs=-1, metavar="[REF]...")
@click.option("--base", required=True, metavar="DIR", help="The base model's folder.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port to listen on; 0 takes a free one.",
)
@click.option(
    "--slots",
    type=click.IntRange(1, 4096),
    help="Adapters on the device at once.  [default: 8, or as many as fit --memory]",
)
@click.option(
    "--memory",
    metavar="SIZE",
    help="Plan base, cache and slots within SIZE, such as 8GiB; what cannot fit is refused.",
)
@click.option(
    "--rank-limit",
    type=click.IntRange(1, 4096),
    default=256,
    show_default=True,
    help="The largest rank to serve.",
)
@click.option(
    "--rows",
    type=click.IntRange(1, 1024),
    default=16,
    show_default=True,
    help="Requests in one batch.",
)
@click.option(
    "--queue",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Requests that may wait; more get 429.",
)
@click.option(
    "--cache",
    metavar="SIZE",
    help="Adapters kept in the computer's memory, such as 2GB.  [default: all]",
)
@click.option(
    "--dtype", default="auto", show_default=True, help="The base's dtype, such as bfloat16."
)
@click.option(
    "--device", default="cpu", show_default=True, help="Where the base runs, such as cuda."
)
@click.option(
    "--drain",
    type=Amount(),
    default=30.0,
    show_default=True,
    help="Seconds that running requests have at the end.",
)
@click.option(
    "--route-within",
    type=Amount(),
    default=7.5,
    show_default=True,
    help="How far from an adapter's data a prompt may be for the model auto; inf always finds one.",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A TOML file of API keys and their namespaces.",
)
@click.option(
    "--engine",
    metavar="NAME",
    help="Start another engine behind a gateway that resolves aliases, such as vllm.",
)
@click.option("--force", is_flag=True, help="Even adapters that are not known to be of this base.")
@json_option
@pass_session
def serve(
    session: Session,
    preload: Sequence[str],
    base: str,
    host: str,
    port: int,
    cache: str | None,
    memory: str | None,
    keys: Path | None,
    engine: str | None,
    *,
    force: bool,
    **how: Any,
) -> None:
    """Serve the base and every registered adapter over HTTP, as OpenAI's API.

    Each request names its adapter as its model: naval, naval@prod, naval@3, base, or a live
    composition such as naval+medical=0.4. The REFs are loaded first and stay, also after a restart
    without any. What was popular before is loaded first.

    With --engine, what follows -- are options of the engine's own.
    """
    if engine is not None:
        _only_for_engines(engine, preload)
        start_engine(session, engine, base, host=host, port=port, how=how, keys=keys, more=preload)
        return
    if odd := next((word for word in preload if word.startswith("-")), ""):
        raise click.UsageError(
            f"{odd} is an option of another engine: what follows -- goes with --engine"
        )
    from adaptkit.serving.api.listen import bound, url_of, web_server
    from adaptkit.serving.placement import lines
    from adaptkit.workspace.serving.serve import ServeOptions
    from adaptkit.workspace.units import parse_size

    size = None if cache is None else parse_size(cache, "--cache")
    options = ServeOptions(host_bytes=size, **how)
    with bound(host, port) as listener:
        placement = None
        if memory is not None:
            placement = session.workspace.plan_serving(
                base, preload, memory=parse_size(memory, "--memory"), options=options
            )
            session.out.say(lines(placement))
        app = session.workspace.serving_app(
            base, preload, options=options, placement=placement, keys=keys, force=force
        )
        import logging

        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        logging.getLogger("adaptkit.access").setLevel(logging.INFO)
        server = web_server(app, listener, drain=options.drain)  # who reads the URL can connect
        url = f"{url_of(listener)}/v1"
        done = {"base": base, "url": url, "plan": placement.to_json() if placement else None}
        session.out.done(done, [f"serving {base} on {url}; end it with Ctrl-C"])
        sys.stdout.flush()
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            if not server.should_exit:
                raise


def _only_for_engines(engine: str, more: Sequence[str]) -> None:
    """Refuse REFs and the options that another engine is not started with: they would change nothing."""
    if more and not more[0].startswith("-"):
        raise click.UsageError(f"{engine} loads adapters when they are asked for: leave REF out")
    context = click.get_current_context()
    for name in OWN:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(
                f"{option} is for adaptkit's own server: {engine} takes its own options after --"
            )


@click.command()
@REF
@click.option(
    "--for",
    "engine",
    required=True,
    metavar="ENGINE",
    help="vllm, sglang, lorax, tgi, llamacpp or ollama.",
)
@click.option(
    "--rank-limit",
    type=click.IntRange(1, 4096),
    help="The largest rank that the engine is started with.",
)
@json_option
@pass_session
def preflight(session: Session, ref: str, engine: str, rank_limit: int | None) -> None:
    """List what another engine applies, ignores and refuses of REF; exit code 1 when it does not load."""
    found = session.workspace.preflight(ref, engine, rank_limit=rank_limit)
    session.out.data(found.to_json(), lambda: preflight_lines(ref, found), fit=True)
    if not found.loads:
        raise click.exceptions.Exit(1)


def preflight_lines(ref: str, found: Preflight) -> str:
    """A preflight, for people: what is not applied, one by one."""
    applied = sum(finding.outcome == "applied" for finding in found.findings)
    verdict = "loads" if found.whole else "loads in part" if found.loads else "does not load"
    lines = [f"{ref} {verdict} in {found.engine} {found.version}: {applied} modules are applied"]
    for finding in found.findings:
        if finding.outcome != "applied":
            lines.append(
                f"  {finding.outcome}: {finding.part}: {finding.reason} ({finding.source})"
            )
            lines += [f"    {finding.fix}"] if finding.fix else []
    return "\n".join(lines)
