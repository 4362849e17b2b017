"""Liveness and readiness of a scheduler or worker, over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from async_jobs.entrypoints.serving.asgi import serving

Message: TypeAlias = MutableMapping[str, Any]
END_SECONDS = 2.0


def _no_problem() -> str | None:
    return None


def health_app(
    ready: Callable[[], bool], problem: Callable[[], str | None] = _no_problem
) -> Callable[[Message, object, Callable[[Message], Awaitable[None]]], Awaitable[None]]:
    """Return an ASGI application: `/health/live` is always 200, `/health/ready` 200 or 503."""

    async def app(
        scope: Message, receive: object, send: Callable[[Message], Awaitable[None]]
    ) -> None:
        match scope.get("path"):
            case "/health/live":
                status, body = 200, {"status": "live"}
            case "/health/ready" if (told := problem()) is not None:
                status, body = 503, {"status": "not ready", "problem": told}
            case "/health/ready" if ready():
                status, body = 200, {"status": "ready"}
            case "/health/ready":
                status, body = 503, {"status": "not ready"}
            case _:
                status, body = 404, {"status": "not found"}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})

    return app


@asynccontextmanager
async def serving_health(
    ready: Callable[[], bool],
    problem: Callable[[], str | None] = _no_problem,
    *,
    host: str,
    port: int | None,
) -> AsyncIterator[None]:
    """Serve the health of this process for the length of a block, from a thread of its own.

    So it answers while a handler blocks the event loop, whose leases are renewed all the while.

    Args:
        ready: asked at each request, in that thread.
        problem: asked likewise for what keeps it from being ready, as a sentence to be told.
        host: the address to listen on.
        port: None serves nothing.

    Raises:
        ConfigurationError: uvicorn is not installed, or the port is taken.
    """
    if port is None:
        yield
        return
    started, ended = Future[Callable[[], object]](), Future[None]()

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        app = health_app(ready, problem)
        async with serving(app, host=host, port=port, option="--health-port"):
            started.set_result(lambda: loop.call_soon_threadsafe(stop.set))
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
            ended.set_result(None)
        except BaseException as error:
            (ended if started.done() else started).set_exception(error)

    threading.Thread(target=run, name="health", daemon=True).start()
    stop_serving = await asyncio.wrap_future(started)
    try:
        yield
    finally:
        stop_serving()
        await asyncio.wait([asyncio.wrap_future(ended)], timeout=END_SECONDS)
