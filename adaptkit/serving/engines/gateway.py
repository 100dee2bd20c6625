"""The gateway before an engine with vLLM's API: names become immutable versions before they get there.

vLLM keeps what a name meant first, so an alias that moves would never be seen. Here each request's alias is
resolved when it comes, the version is loaded under its own name (`naval@3`) through `/v1/load_lora_adapter`,
and the request goes on with that name. https://docs.vllm.ai/en/latest/features/lora.html

Notable choices:
- one load for many waiters; a version that the engine has already is not loaded again
- an engine that was restarted has forgotten its adapters: on its 404 the version is loaded again, once
- the answer is passed on as it comes, with the exact version in `x-adaptkit-version`
- a version that leaves the base's probabilities of a few tokens as they are is refused, and unloaded
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from adaptkit.errors import BadReference, Refused, requires_extra
from adaptkit.serving import composition
from adaptkit.serving.api.incoming import body_of, sees_all, spaces_of
from adaptkit.serving.api.keys import allowed
from adaptkit.serving.api.refusals import HttpError, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    import httpx
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from adaptkit.serving.api.keys import Keys
    from adaptkit.serving.composition import Reference

PASSED_ON = ("content-type", "retry-after")
LOADED = "has already been loaded"  # in vLLM's answer to loading a name twice
PROBE: Mapping[str, Any] = {
    "prompt": list(range(1, 16, 2)),
    "max_tokens": 1,
    "temperature": 0,
    "prompt_logprobs": 1,
}
"""What both the base and a version are asked: the probability of each of these tokens after those before it."""
log = logging.getLogger(__name__)


class Versions(Protocol):
    """Where adapters come from: the registry. Called from several threads."""

    def folder(self, ref: Reference) -> tuple[str, Path]:
        """The exact version (`naval@3`) that a reference means now, and its verified folder, fit for the engine."""
        ...

    def names(self) -> Sequence[str]:
        """Every name and alias that can be asked for."""
        ...


def make_gateway(engine: str, versions: Versions, keys: Keys) -> Starlette:
    """The application before the engine at this URL."""
    with requires_extra("serve", "cannot start the gateway"):
        import httpx
        from starlette.applications import Starlette
        from starlette.routing import Route

    gateway = _Gateway(versions, keys)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        patient = httpx.Timeout(10.0, read=None)  # the first token may take long
        async with httpx.AsyncClient(base_url=engine, timeout=patient) as client:
            gateway.client = client
            yield

    return Starlette(
        routes=[
            Route("/v1/models", gateway.guarded(gateway.models)),
            Route("/v1/completions", gateway.guarded(gateway.forward), methods=["POST"]),
            Route("/v1/chat/completions", gateway.guarded(gateway.forward), methods=["POST"]),
            Route("/healthz", gateway.guarded(gateway.health)),
        ],
        lifespan=lifespan,
    )


class _Gateway:
    client: httpx.AsyncClient

    def __init__(self, versions: Versions, keys: Keys) -> None:
        self._versions, self._keys = versions, keys
        self._loaded: set[str] = set()
        self._silent: set[str] = set()
        self._base: Any = None
        self._asking = asyncio.Lock()
        self._loading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def guarded(self, handle: Callable[[Request], Awaitable[Response]]) -> Any:
        """Errors become replies in OpenAI's form; an engine that is away is a 503."""
        import httpx
        from starlette.responses import JSONResponse

        async def run(request: Request) -> Response:
            try:
                return await handle(request)
            except httpx.HTTPError as error:
                text = f"the engine cannot be reached: {type(error).__name__}"
                status, content, headers = refusal(HttpError(503, "server_error", text))
            except Exception as error:
                status, content, headers = refusal(error, names=sees_all(request))
                if status >= 500:
                    log.exception("%s failed", request.url.path)
            return JSONResponse(content, status, headers)

        return run

    async def health(self, _: Request) -> Response:
        """Whether the engine is well."""
        from starlette.responses import JSONResponse

        there = await self.client.get("/health")
        well = there.status_code == 200
        return JSONResponse({"status": "ok" if well else "engine"}, 200 if well else 503)

    async def models(self, request: Request) -> Response:
        """Every model that the key may ask for."""
        from starlette.responses import JSONResponse

        spaces = spaces_of(request, self._keys)
        names = await asyncio.to_thread(self._versions.names)
        shown = [composition.BASE] + [n for n in names if allowed(composition.parse(n), spaces)]
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": "adaptkit"} for name in shown
        ]
        return JSONResponse({"object": "list", "data": data})

    async def forward(self, request: Request) -> Response:
        """A completion, with the version in the place of its name."""
        spaces = spaces_of(request, self._keys)
        body = _read(await body_of(request, self._keys))
        wanted = composition.parse(body["model"])
        if not allowed(wanted, spaces):
            raise HttpError(403, "permission_error", f"this key may not ask for '{wanted}'")
        version, folder = composition.BASE, None
        if wanted.parts or wanted.kind != "stack":
            ref = _one(wanted)
            version, folder = await asyncio.to_thread(self._versions.folder, ref)
            await self._load(version, folder)
        there = await self._send(request, body | {"model": version})
        if there.status_code == 404 and folder is not None:
            await there.aclose()
            self._loaded.discard(version)
            await self._load(version, folder)
            there = await self._send(request, body | {"model": version})
        return _passed_on(there, version)

    async def _send(self, request: Request, body: dict[str, Any]) -> httpx.Response:
        headers = {"content-type": "application/json"}
        made = self.client.build_request(
            "POST", request.url.path, content=_written(body), headers=headers
        )
        return await self.client.send(made, stream=True)

    async def _load(self, version: str, folder: Path) -> None:
        """Have a version in the engine, under a name that never means another."""
        async with self._loading[version]:
            if version in self._loaded:
                return
            if version in self._silent:
                raise _without_effect(version)
            base = await self._of_base()
            asked = {"lora_name": version, "lora_path": str(folder)}
            there = await self.client.post("/v1/load_lora_adapter", json=asked)
            if there.status_code != 200 and LOADED not in there.text:
                raise HttpError(
                    502,
                    "server_error",
                    f"the engine did not load {version}: {_message(there.text)}",
                )
            await self._check_effect(version, base)
            self._loaded.add(version)

    async def _of_base(self) -> Any:
        """The base's probabilities, asked for before any adapter is loaded.

        vLLM on CPUs before 0.33 gave the base's rows of a mixed batch the adapter of the last slot
        (https://github.com/vllm-project/vllm/pull/48421).
        """
        async with self._asking:
            if self._base is None:
                self._base = await self._probed(composition.BASE)
        return self._base

    async def _check_effect(self, version: str, base: Any) -> None:
        """Have the engine compute with a version what it did with the base; `Refused` when nothing differs."""
        ours = await self._probed(version)
        if not base or not ours:
            log.warning("%s: the engine gives no probabilities, so its effect is unknown", version)
        elif base == ours:
            self._silent.add(version)
            await self.client.post("/v1/unload_lora_adapter", json={"lora_name": version})
            raise _without_effect(version)

    async def _probed(self, model: str) -> Any:
        """The probabilities of the probe's tokens, as the engine wrote them; empty when it gives none."""
        there = await self.client.post("/v1/completions", json={**PROBE, "model": model})
        try:
            return there.json()["choices"][0]["prompt_logprobs"] or ()
        except (ValueError, LookupError, TypeError, RecursionError):
            return ()


def _one(wanted: composition.Composition) -> Reference:
    """The only adapter of a request: such engines add up none."""
    if wanted.kind != "stack" or len(wanted.parts) != 1 or wanted.parts[0].weight != 1:
        raise Refused(
            f"cannot serve '{wanted}' with this engine",
            why="it applies one adapter at a time, at its own weight",
            fix=f"adaptkit compose --live '{wanted}' --name NAME makes it one adapter",
        )
    return wanted.parts[0].ref


def _without_effect(version: str) -> Refused:
    return Refused(
        f"{version} has no effect on this base",
        why=f"in the engine {len(PROBE['prompt'])} tokens have the very probabilities that the base gives them",
        fix="train it, or name an earlier version",
    )


def _passed_on(there: httpx.Response, version: str) -> Response:
    from starlette.background import BackgroundTask
    from starlette.responses import StreamingResponse

    headers = {name: there.headers[name] for name in PASSED_ON if name in there.headers}
    headers["x-adaptkit-version"] = version
    return StreamingResponse(
        there.aiter_raw(), there.status_code, headers, background=BackgroundTask(there.aclose)
    )


def _read(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadReference("the request is not JSON", why=str(error)) from error
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise BadReference(
            "cannot read the request", why="it names no model", fix='"model": "base"'
        )
    return body


def _written(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except ValueError as error:
        raise BadReference(
            "cannot read the request", why="one of its numbers is not finite"
        ) from error


def _message(text: str) -> str:
    """What an engine's error says, in OpenAI's form or another."""
    try:
        found = json.loads(text)
        return str(found.get("error", found)["message"])[:300]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return text[:300]
