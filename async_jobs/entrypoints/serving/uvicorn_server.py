"""uvicorn, with three habits of its own changed. Needs the extra `api`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from async_jobs.adapters.http.wire import PROBLEM_MEDIA_TYPE


class Server(uvicorn.Server):
    """Leaves signals to the program, which decides what SIGTERM means."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class Telling(H11Protocol):
    """Answers what is no HTTP as an application answers errors: by a problem document."""

    def send_400_response(self, msg: str) -> None:
        """Answer, and hang up."""
        told = {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": msg}
        body = json.dumps(told)
        head = (
            "HTTP/1.1 400 Bad Request",
            f"Content-Type: {PROBLEM_MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        self.transport.write("\r\n".join((*head, "", body)).encode("ascii"))
        self.transport.close()


def impatient(head_seconds: float, read_seconds: float) -> type[H11Protocol]:
    """Return a protocol that lets go of connections whose next request does not arrive in time,
    and of those that do not read their answers.

    uvicorn itself waits for ever for both, so that a few strangers could hold every connection a
    process may have, and an answer's memory with each. A body is the application's to wait for.
    """

    class Impatient(Telling):
        _late: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._await_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            cycle: Any = self.cycle  # None before the first request, whatever its type says
            if cycle is None or cycle.response_complete:
                # The head has only begun, or this is a body that nobody reads any more.
                self._await_head()
            else:
                self._disarm()

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            self._has_read()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._unread is None:
                # `close` would wait for what is unread.
                self._unread = self.loop.call_later(read_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            self._has_read()
            super().resume_writing()

        def _has_read(self) -> None:
            if self._unread is not None:
                self._unread.cancel()
                self._unread = None

        def _await_head(self) -> None:
            if self._late is None:
                self._late = self.loop.call_later(head_seconds, self.transport.close)

        def _disarm(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return Impatient
