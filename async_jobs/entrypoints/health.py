"""Liveness and readiness of a scheduler or worker, over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from async_jobs.entrypoints.serving import serving

Message: TypeAlias = MutableMapping[str, Any]


def health_app(
    ready: Callable[[], bool],
) -> Callable[[Message, object, Callable[[Message], Awaitable[None]]], Awaitable[None]]:
    """Return an ASGI application: `/health/live` is always 200, `/health/ready` 200 or 503."""

    async def app(
        scope: Message, receive: object, send: Callable[[Message], Awaitable[None]]
    ) -> None:
        match scope.get("path"):
            case "/health/live":
                status, body = 200, {"status": "live"}
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
    ready: Callable[[], bool], *, host: str, port: int | None
) -> AsyncIterator[None]:
    """Serve the health of this process for the length of a block.

    Args:
        ready: asked at each request.
        host: the address to listen on.
        port: None serves nothing.

    Raises:
        ConfigurationError: uvicorn is not installed, or the port is taken.
    """
    if port is None:
        yield
        return
    async with serving(health_app(ready), host=host, port=port, option="--health-port"):
        yield
