"""Liveness and readiness of a scheduler or worker, over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from async_jobs.adapters.telemetry import scraping
from async_jobs.adapters.telemetry.scraping import ScrapePage
from async_jobs.entrypoints.serving.asgi import serving

Message: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, object, Send], Awaitable[None]]
END_SECONDS = 2.0


def _no_problem() -> str | None:
    return None


def health_app(
    ready: Callable[[], bool],
    problem: Callable[[], str | None] = _no_problem,
    scrapes: ScrapePage | None = None,
    remark: Callable[[], str | None] = _no_problem,
) -> Application:
    """Return an ASGI application: `/health/live` is always 200, `/health/ready` 200 or 503.

    `/metrics` is there if there are `scrapes`. A `remark` is told by a process that is ready.
    """

    async def app(scope: Message, receive: object, send: Send) -> None:
        match scope.get("path"):
            case scraping.PATH if scrapes is not None:
                await send_answer(scrapes, scope, send)
                return
            case "/health/live":
                status, body = 200, {"status": "live"}
            case "/health/ready" if (told := problem()) is not None:
                status, body = 503, {"status": "not ready", "problem": told}
            case "/health/ready" if ready():
                status, body = 200, {"status": "ready"}
                body |= {} if (told := remark()) is None else {"remark": told}
            case "/health/ready":
                status, body = 503, {"status": "not ready"}
            case _:
                status, body = 404, {"status": "not found"}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    return app


async def send_answer(scrapes: ScrapePage, scope: Message, send: Send) -> None:
    """Answer a scrape."""
    given = dict(reversed(scope["headers"])).get(b"authorization")
    status, headers, body = scrapes.answer(given)
    told = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving_health(
    ready: Callable[[], bool],
    problem: Callable[[], str | None] = _no_problem,
    scrapes: ScrapePage | None = None,
    *,
    remark: Callable[[], str | None] = _no_problem,
    host: str,
    port: int | None,
) -> AsyncIterator[None]:
    """Serve the health of this process for the length of a block, from a thread of its own.

    So it answers while a handler blocks the event loop, whose leases are renewed all the while.

    Args:
        ready: asked at each request, in that thread.
        problem: asked likewise for what keeps it from being ready, as a sentence to be told.
        scrapes: answers scrapes of `/metrics`, likewise.
        remark: asked likewise for what it does not know, and goes on without.
        host: the address to listen on.
        port: None serves nothing.

    Raises:
        ConfigurationError: uvicorn is not installed, or the port is taken.
    """
    if port is None:
        yield
        return
    app = health_app(ready, problem, scrapes, remark)
    async with serving_apart(app, host=host, port=port, option="--health-port"):
        yield


@asynccontextmanager
async def serving_apart(
    app: Application, *, host: str, port: int, option: str
) -> AsyncIterator[None]:
    """Serve an ASGI application from a thread of its own, for the length of a block.

    Raises:
        ConfigurationError: uvicorn is not installed, or the port is taken.
    """
    started, ended = Future[Callable[[], object]](), Future[None]()

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        async with serving(app, host=host, port=port, option=option):
            started.set_result(lambda: loop.call_soon_threadsafe(stop.set))
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
            ended.set_result(None)
        except BaseException as error:
            (ended if started.done() else started).set_exception(error)

    threading.Thread(target=run, name=option.lstrip("-"), daemon=True).start()
    stop_serving = await asyncio.wrap_future(started)
    try:
        yield
    finally:
        stop_serving()
        await asyncio.wait([asyncio.wrap_future(ended)], timeout=END_SECONDS)
