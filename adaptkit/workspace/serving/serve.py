"""Serve the adapters of a workspace on one live base."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.adapters.adapter import Adapter
from adaptkit.adapters.ingest import misfits
from adaptkit.adapters.opened import OpenAdapter
from adaptkit.bases.compare import admits
from adaptkit.errors import BaseMismatch, Refused, requires_extra
from adaptkit.io.safe_paths import user_path
from adaptkit.io.staging import staging
from adaptkit.io.toml_file import BadToml, load, read_text
from adaptkit.serving.composition import TAKEN, model_of
from adaptkit.serving.routing import WITHIN
from adaptkit.training.data.tokens import template_of
from adaptkit.workspace.context.moments import kept_moments, open_moments
from adaptkit.workspace.lookup.adapters import open_for_merge
from adaptkit.workspace.lookup.artifacts import find_version, verified_tree
from adaptkit.workspace.lookup.bases import find_base, measured_base, same_base
from adaptkit.workspace.serving.first_use import FirstUse

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from starlette.applications import Starlette

    from adaptkit.merge.moments import Moments
    from adaptkit.refs import DigestRef, NameRef, RemoteRef
    from adaptkit.serving.placement import Placement
    from adaptkit.serving.preflight import Preflight
    from adaptkit.serving.routing import Profile
    from adaptkit.types import BaseIdentity, Version
    from adaptkit.workspace.context.context import Context

_QUICK = frozenset({"number", "alias"})
SLOTS = 8  # where neither a number nor a memory is given
POPULARITY = "serving.json"  # in the home
CONTEXT = 4096  # tokens, where the base's configuration does not say how many it reads


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How much a server holds and takes at once."""

    slots: int | None = None
    """None is 8, or as many as fit the memory of a plan."""
    rank_limit: int = 256
    rows: int = 16
    queue: int = 64
    host_bytes: int | None = None
    dtype: str = "auto"
    device: str = "cpu"
    drain: float = 30.0
    route_within: float = WITHIN
    """How far a prompt may be from an adapter's data for `model: auto` to choose it."""


class WorkspaceAdapters:
    """Adapters by reference, from the registry and the store, fit for one base."""

    def __init__(
        self,
        context: Context,
        base: BaseIdentity,
        *,
        folder: Path | None = None,
        force: bool = False,
    ) -> None:
        self._context, self._base, self._force = context, base, force
        self._folder = folder
        self._lock = Lock()
        self._admitted: dict[str, str] = {}
        self._templates: dict[str, str | None] = {}
        self._remote = FirstUse(context, base, force=force)

    def resolve(self, ref: NameRef | DigestRef | RemoteRef) -> tuple[str, str]:
        """The version that a reference means now; `BaseMismatch` when it belongs to another base."""
        if isinstance(ref, refs.RemoteRef):
            ref = self._remote.here(ref)
        with self._lock:
            if (known := self._quickly(ref)) is not None:
                return known
            version = find_version(self._context, ref)
            if version.digest not in self._admitted:
                self._admitted[version.digest] = self._why_not(version)
            if why := self._admitted[version.digest]:
                raise BaseMismatch(
                    f"cannot serve {version.ref} on this base",
                    why=why,
                    fix="serve the base it was trained on",
                )
        return version.ref, version.digest

    def _quickly(self, ref: NameRef | DigestRef) -> tuple[str, str] | None:
        """A version that was admitted before, by one query."""
        selector = getattr(ref, "selector", None)
        if isinstance(ref, refs.DigestRef) or (selector and selector.kind not in _QUICK):
            return None
        kind = selector.kind if selector else ""
        found = self._context.registry.digest_of(
            ref.name,
            number=selector.number if selector and kind == "number" else None,
            alias=selector.value if selector and kind == "alias" else None,
        )
        if found is None or self._admitted.get(found[1]) != "":
            return None
        return f"{ref.name}@{found[0]}", found[1]

    def load(self, digest: str, read: Callable[[OpenAdapter], Any]) -> Any:
        """Open an artifact, re-hashed, and fetched from where it was pushed when it is not here."""
        tree = verified_tree(self._context, digest)
        with self._lock:
            called = self._context.registry.refs_of(digest)
        with Adapter.open(tree, called[-1] if called else digest[:19], views=True) as adapter:
            method = self._context.plugins.method_for(adapter)
            method.check(adapter)
            return read(OpenAdapter(adapter, method, digest))

    def names(self) -> Sequence[str]:
        """Each adapter of the registry as a request names it, followed by its aliases."""
        with self._lock:
            versions = self._context.registry.latest_versions()
            return [
                name
                for version in versions
                for name in (
                    model_of(version.name, version.number),
                    *(
                        f"{version.name}@{a}"
                        for a in sorted(self._context.registry.aliases(version.name))
                    ),
                )
            ]

    def template(self, digest: str) -> str | None:
        """The chat template that the version was trained with, where it brings one along."""
        if digest not in self._templates:
            self._templates[digest] = template_of(verified_tree(self._context, digest))
        return self._templates[digest]

    def measured(self, digest: str) -> bool:
        """Whether the version was calibrated, here or where it was pulled from."""
        return bool(kept_moments(self._context).of(digest))

    def profile(self, digest: str, read: Callable[[Moments], Profile]) -> Profile | None:
        """What was measured on the version's own data, as `read` takes it in."""
        with ExitStack() as stack:
            moments = open_moments(self._context, digest, digest[:19], stack)
            return None if moments is None else read(moments)

    def _why_not(self, version: Version) -> str:
        ruling = admits(
            same_base(self._context, version.base, self._base), version.base, self._base, "serve"
        )
        if self._force:
            for text in filter(None, (ruling.reason, ruling.warning)):
                self._context.notify(f"{version.ref}: {text}")
            return ""
        if not ruling.allowed:
            return ruling.reason
        if ruling.warning:
            self._context.notify(f"{version.ref}: {ruling.warning}")
        return "" if version.base.checked else self._misfit(version)

    def _misfit(self, version: Version) -> str:
        """What of a version that was never checked against its base has no place in the one that is served."""
        if self._folder is None:
            return ""
        tree = verified_tree(self._context, version.digest)
        with Adapter.open(tree, version.ref) as adapter:
            method = self._context.plugins.method_for(adapter)
            wrong = misfits(adapter, method, self._folder, self._context.home.cache) or []
        return "; ".join(wrong[:3])


def say_taken_names(context: Context) -> None:
    """Say which adapters have a name that means something else in a request, and how they are asked for."""
    for name, means in TAKEN.items():
        if (found := context.registry.digest_of(name)) is not None:
            context.notify(
                f"the model {name} is {means}; the adapter {name} is asked for as {model_of(name, found[0])} or by an "
                f"alias, and adaptkit rename {name} NEW gives it a name of its own"
            )


def serving_app(
    context: Context,
    base: str | os.PathLike[str],
    preload: Sequence[str] = (),
    *,
    options: ServeOptions | None = None,
    placement: Placement | None = None,
    keys: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Starlette:
    """The HTTP application that serves a base with the registry's adapters; `preload` is pinned.

    `placement` is what `plan_serving` returned. `keys` is a TOML file whose table `[keys]` gives each API
    key its namespaces. Without `preload` what was pinned before stays pinned; what was popular before is
    loaded first.
    """
    with requires_extra("serve", "cannot serve"):
        import torch
        import uvicorn  # noqa: F401
    from adaptkit.serving.api.app import make_app
    from adaptkit.serving.api.keys import Keys
    from adaptkit.serving.api.service import Service
    from adaptkit.serving.bank.bank import Bank
    from adaptkit.serving.batcher import Batcher
    from adaptkit.serving.popularity import Popularity
    from adaptkit.serving.warm import start
    from adaptkit.training.base_model import load_model, load_tokenizer

    options = options or ServeOptions()
    folder = user_path(base)
    allowed = Keys({}) if keys is None else Keys.from_table(key_table(keys), str(keys))
    identity = measured_base(context, folder).identity
    say_taken_names(context)
    dtype = options.dtype if options.dtype == "auto" else getattr(torch, options.dtype, None)
    if dtype != "auto" and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise Refused(
            f"cannot serve in the dtype '{options.dtype}'",
            why="torch has no floating-point numbers of that name",
            fix="--dtype bfloat16",
        )
    model = load_model(folder, device=options.device, dtype=dtype)
    tokenizer = load_tokenizer(folder)
    bank = Bank(
        model,
        slots=placement.slots if placement else options.slots or SLOTS,
        rank_limit=options.rank_limit,
        host_bytes=placement.host if placement else options.host_bytes,
        device_bytes=placement.device_bytes if placement else None,
        base=folder,
    )
    if placement:
        bank.prepare({name: wide.rank for name, wide in placement.need.modules.items()})
    popularity = Popularity(context.home.path / POPULARITY, _kept_as(identity), context.notify)
    batcher = Batcher(
        bank,
        rows=options.rows,
        queue=options.queue,
        ends=_ends(model, tokenizer),
        check=not force,
    )
    service = Service(
        bank,
        tokenizer,
        batcher,
        WorkspaceAdapters(context, identity, folder=folder, force=force),
        context=getattr(model.config, "max_position_embeddings", None) or CONTEXT,
        popularity=popularity,
        route_within=options.route_within,
    )
    start(service, preload, context.notify)
    return make_app(service, allowed, drain=options.drain)


def deployable(
    context: Context, ref: str, base: str, engine: str, *, rank_limit: int | None = None
) -> tuple[Version, Path]:
    """A version and its verified folder, when another engine on `base` applies all of it.

    `base` is a folder, or a name or level that the registry knows.
    """
    version = find_version(context, ref)
    known = find_base(context, base).identity
    exact, _ = WorkspaceAdapters(context, known).resolve(refs.DigestRef(version.digest))
    found = preflight(context, version.ref, engine, rank_limit=rank_limit)
    if not found.whole:
        lost = [f for f in found.findings if f.outcome != "applied"]
        raise Refused(
            f"cannot serve {exact}",
            why=f"{found.engine} {found.version} does not apply all of it: "
            + "; ".join(f"{f.part} ({f.reason})" for f in lost[:3]),
            fix=lost[0].fix or f"adaptkit preflight {version.ref} --for {engine}",
        )
    return version, verified_tree(context, version.digest)


def preflight(
    context: Context, ref: str, engine: str, *, rank_limit: int | None = None
) -> Preflight:
    """What another engine applies, ignores and refuses of a version or a folder."""
    from adaptkit.serving.engines.rules import rules_of
    from adaptkit.serving.preflight import preflight as judge

    rules = rules_of(engine)
    with ExitStack() as stack, staging(context.tmp) as work:
        source, _ = open_for_merge(context, refs.parse(ref), work, stack)
        return judge(source, rules, rank_limit=rank_limit)


def _kept_as(identity: BaseIdentity) -> str:
    """Under what a base's popularity is kept: its strongest level."""
    return max((str(level.value) for level in identity.levels), default=identity.name or "")


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a text, by the generation configuration and the tokenizer."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    listed = [ends] if isinstance(ends, int) else list(ends or ())
    return [*listed, *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])]


def key_table(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The table `[keys]` of a TOML file; an empty one is refused, since a server without keys is open to everybody."""
    path = user_path(path)
    what, form = f"cannot read the keys in {path}", 'lines such as "a-long-random-text" = ["team"]'
    try:
        table = load(read_text(path)).get("keys")
    except BadToml as error:
        raise Refused(
            error.error(what, "").what, why=error.why, fix=f"a table [keys] with {form}"
        ) from error
    if not isinstance(table, dict) or not table:
        raise Refused(what, why="it has no table [keys] with a key in it", fix=form)
    return table
