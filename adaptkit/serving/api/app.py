"""The HTTP application: routes, limits, keys, the access log.

Notable choices:
- a request's model is resolved once, when it comes; the exact versions stand in `x-adaptkit-version`, and an
  alias that moves meanwhile counts from the next request on
- resolving, loading and tokenizing run in threads; the event loop only moves bytes
- a client that hangs up cancels its rows
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager, suppress
from secrets import token_hex
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from adaptkit import refs
from adaptkit.errors import requires_extra
from adaptkit.serving import composition
from adaptkit.serving.api import protocol
from adaptkit.serving.api.incoming import body_of, sees_all, spaces_of
from adaptkit.serving.api.keys import allowed
from adaptkit.serving.api.metrics import Metrics
from adaptkit.serving.api.refusals import HttpError, body, gone, refusal
from adaptkit.serving.api.replies import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from adaptkit.serving.api.keys import Keys
    from adaptkit.serving.api.service import Running, Service

SAVE_EVERY = 5.0  # seconds
access = logging.getLogger("adaptkit.access")
log = logging.getLogger("adaptkit.serving")


def make_app(service: Service, keys: Keys, *, drain: float = 30.0) -> Starlette:
    """The application of one service; when it ends, what runs is finished for `drain` seconds."""
    with requires_extra("serve", "cannot serve"):
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.routing import Route

    api = _Api(service, keys)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        saving = asyncio.create_task(_save(service))
        yield
        saving.cancel()
        await asyncio.to_thread(service.batcher.close, drain)
        await asyncio.to_thread(service.popularity.save)

    return Starlette(
        routes=[
            Route("/v1/models", api.guarded(api.models)),
            Route("/v1/models/{model:path}", api.guarded(api.model)),
            Route("/v1/completions", api.guarded(api.completions), methods=["POST"]),
            Route("/v1/chat/completions", api.guarded(api.chat), methods=["POST"]),
            Route("/metrics", api.guarded(api.metrics_page, counted=False)),
            Route("/healthz", api.health),
        ],
        exception_handlers={HTTPException: api.no_page},
        lifespan=lifespan,
    )


class _Api:
    def __init__(self, service: Service, keys: Keys) -> None:
        self.service, self.keys, self.metrics = service, keys, Metrics()

    def guarded(
        self, handle: Callable[[Request], Any], *, counted: bool = True
    ) -> Callable[[Request], Any]:
        """Errors become replies; a request is counted and logged with its exact versions."""
        from starlette.responses import JSONResponse

        async def run(request: Request) -> Response:
            request.state.version, request.state.began = "-", monotonic()
            try:
                response: Response = await handle(request)
            except Exception as error:
                status, content, headers = refusal(error, names=sees_all(request))
                if status >= 500:
                    log.exception("%s failed", request.url.path)
                response = JSONResponse(content, status, headers)
            if request.state.version != "-":
                response.headers["x-adaptkit-version"] = request.state.version
            if getattr(request.state, "route", None):
                response.headers["x-adaptkit-route"] = request.state.route
            if counted and not getattr(request.state, "streams", False):
                self._count(request, response.status_code)
            return response

        return run

    def _count(self, request: Request, status: int) -> None:
        seconds = monotonic() - request.state.began
        self.metrics.add(request.state.version, status, seconds)
        line = {
            "client": request.client.host if request.client else "-",
            "method": request.method,
            "path": request.url.path[:1000],
            "status": status,
            "version": request.state.version,
            "seconds": round(seconds, 4),
        }
        access.info("%s", json.dumps(line))

    # ---------------------------------------------------------------- pages

    async def health(self, _: Request) -> Response:
        """Whether the model's thread can take requests."""
        from starlette.responses import JSONResponse

        running, waiting = self.service.batcher.load
        return JSONResponse({"status": "ok", "running": running, "waiting": waiting})

    async def metrics_page(self, request: Request) -> Response:
        """Prometheus' page; it names versions of every namespace, so it is for keys that may ask for everything."""
        from starlette.responses import PlainTextResponse

        spaces_of(request, self.keys)
        if not sees_all(request):
            raise HttpError(403, "permission_error", "the metrics are for a key of every namespace")
        text = self.metrics.text(self.service.batcher)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def models(self, request: Request) -> Response:
        """Every model that the key may ask for."""
        from starlette.responses import JSONResponse

        spaces = spaces_of(request, self.keys)
        names = await asyncio.to_thread(self.service.adapters.names)
        shown = [composition.BASE] + [n for n in names if allowed(composition.parse(n), spaces)]
        return JSONResponse({"object": "list", "data": [_described(name) for name in shown]})

    async def model(self, request: Request) -> Response:
        """One model by what a request would name it; nothing is loaded or pulled."""
        from starlette.responses import JSONResponse

        name = request.path_params["model"]
        self._allowed(request, wanted := composition.parse(name))
        for part in wanted.parts:
            if isinstance(part.ref, refs.RemoteRef):
                raise HttpError(404, "not_found_error", f"'{part.ref}' is pulled on its first use")
            await asyncio.to_thread(self.service.adapters.resolve, part.ref)
        return JSONResponse(_described(name))

    def _allowed(self, request: Request, wanted: composition.Composition) -> None:
        """Refuse what the request's key may not ask for."""
        if not allowed(wanted, spaces_of(request, self.keys)):
            raise HttpError(403, "permission_error", f"this key may not ask for '{wanted}'")

    async def no_page(self, request: Request, error: Any) -> Response:
        """What is no page of this server, or is not asked for in this way."""
        from starlette.responses import JSONResponse

        request.state.version, request.state.began = "-", monotonic()
        self._count(request, error.status_code)
        text = f"{error.detail}: {request.method} {request.url.path[:200]}"
        kind = "not_found_error" if error.status_code == 404 else "invalid_request_error"
        return JSONResponse(body(kind, text), error.status_code, error.headers)

    async def completions(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        asked = protocol.read(protocol.CompletionRequest, await body_of(request, self.keys))
        return await self._complete(
            request, asked, lambda _: [self.service.tokens(one) for one in asked.prompts()]
        )

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        asked = protocol.read(protocol.ChatRequest, await body_of(request, self.keys))

        def tokens(wanted: composition.Composition) -> list[list[int]]:
            tokenizer = self.service.chat_tokenizer(wanted)
            text = protocol.chat_text(tokenizer, asked.messages)
            return [self.service.tokens(text, special=False)]

        return await self._complete(request, asked, tokens)

    # ---------------------------------------------------------------- completions

    async def _complete(
        self,
        request: Request,
        asked: Any,
        tokens: Callable[[composition.Composition], list[list[int]]],
    ) -> Response:
        from starlette.responses import JSONResponse, StreamingResponse

        self._allowed(request, wanted := composition.parse(asked.model))
        sampling = asked.sampling()
        chat = isinstance(asked, protocol.ChatRequest)
        if chat:
            wanted = await asyncio.to_thread(self.service.pin, wanted)
        prompts = await asyncio.to_thread(tokens, wanted)
        for prompt in prompts:
            self.service.room(prompt, sampling.max_tokens)
        spaces = spaces_of(request, self.keys)
        wanted, route = await asyncio.to_thread(
            self.service.route, wanted, prompts, lambda one: allowed(one, spaces)
        )
        request.state.route = None if route is None else route.header()
        resolved = await asyncio.to_thread(self.service.resolve, wanted)
        request.state.version = resolved.version
        running = self.service.start(prompts, resolved, sampling, asked.n or 1)
        reply = Reply(
            id=("chatcmpl-" if chat else "cmpl-") + token_hex(12),
            created=int(time()),
            model=asked.model,
            chat=chat,
            tokenizer=self.service.tokenizer,
            prompt_tokens=sum(map(len, prompts)),
            logprobs=sampling.logprobs,
            route=route,
        )
        if asked.stream:
            request.state.streams = True
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            events = self._events(request, running, reply, usage=usage)
            return StreamingResponse(events, media_type="text/event-stream")
        await _while_connected(request, self._collect(running, reply), running)
        return JSONResponse(reply.whole())

    async def _collect(self, running: Running, reply: Reply) -> None:
        try:
            async for piece in running.pieces():
                reply.add(piece)
        finally:
            running.cancel()

    async def _events(
        self, request: Request, running: Running, reply: Reply, *, usage: bool
    ) -> AsyncIterator[str]:
        status = 200
        try:
            for chunk in reply.opening(len(running.jobs)):
                yield _event(chunk)
            async for piece in running.pieces():
                if (made := reply.chunk(piece)) is not None:
                    yield _event(made)
            if usage:
                yield _event(reply.closing())
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            status = 499  # the client hung up, in nginx's numbers
            raise
        except Exception as error:  # noqa: BLE001  (the headers are sent: the error goes into the stream)
            status, content, _ = refusal(error)
            yield _event(content)
        finally:
            running.cancel()
            self._count(request, status)


async def _save(service: Service) -> None:
    """Keep what is popular every few seconds: what a killed server forgets."""
    while True:
        await asyncio.sleep(SAVE_EVERY)
        await asyncio.to_thread(service.popularity.save)


def _described(name: str) -> dict[str, Any]:
    """A model as OpenAI's list has it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "adaptkit"}


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


async def _while_connected(request: Request, work: Any, running: Running) -> None:
    """Wait for the work, or cancel it when the client hangs up."""
    task = asyncio.ensure_future(work)
    disconnected = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise gone()
        await task
    finally:
        running.cancel()
        for one in (task, disconnected):
            one.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await one


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
