"""An ASGI application on a port, for the length of a block: uvicorn without its own signals."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from async_jobs.domain.errors import ConfigurationError, Unavailable
from async_jobs.extras import require

# Longer than the 60 s for which AWS load balancers keep idle connections by default: the side
# that closes first must be the one that knows whether a request is under way.
KEEP_ALIVE_SECONDS = 75
HEAD_SECONDS = 10.0
READ_SECONDS = 30.0
BACKLOG = 2_048
STOP_SECONDS = 1.0


class Serving(NamedTuple):
    """A server under way: where, and the task that ends when it does."""

    port: int
    task: asyncio.Task[None]

    async def until(self, stop: asyncio.Event) -> None:
        """Wait until `stop` is set, or until the server fails, which is raised."""
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((stopping, self.task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if self.task.done():
            self.task.result()
            raise Unavailable("the HTTP server ended by itself")


@asynccontextmanager
async def serving(
    app: Any,
    *,
    host: str,
    port: int,
    option: str,
    drain_seconds: float = 0.0,
    head_seconds: float = HEAD_SECONDS,
    read_seconds: float = READ_SECONDS,
) -> AsyncIterator[Serving]:
    """Serve an ASGI application.

    Args:
        app: the application; its lifespan events are not sent.
        host: the address to listen on.
        port: 0 takes one that is free.
        option: what chose the port, for errors.
        drain_seconds: how long requests under way may take to finish when the block ends.
        head_seconds: within which the head of a request has to arrive.
        read_seconds: how long a caller may let its answer wait before the connection is cut.

    Raises:
        ConfigurationError: uvicorn is not installed, or nothing can listen there.
    """
    require(option, "uvicorn")
    import uvicorn

    from async_jobs.entrypoints.serving.uvicorn_server import Server, impatient

    listening = _listening(host, port, option)
    settings = uvicorn.Config(
        app,
        http=impatient(head_seconds, read_seconds),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )
    server = Server(settings)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield Serving(int(listening.getsockname()[1]), task)
    finally:
        server.should_exit = True
        await asyncio.wait((task,), timeout=drain_seconds + STOP_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listening.close()


def _listening(host: str, port: int, option: str) -> socket.socket:
    """Return a socket that listens: connections that come before the server runs just wait."""
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # `::` is everywhere, for those who still speak IPv4 as well.
        both = address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(
            address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both
        )
    except (OSError, UnicodeError) as error:
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        why = "the port is taken" if taken else getattr(error, "strerror", "no such host")
        raise ConfigurationError(f"{option}: nothing can listen on {host}:{port} ({why})") from None
