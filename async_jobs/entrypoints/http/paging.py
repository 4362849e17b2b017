"""Pages of jobs that stay within memory, however large they are and however slowly read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID
from weakref import WeakSet

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from async_jobs.adapters.http.wire import record_of, unreadable_record_of
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.filters import JobQuery
from async_jobs.domain.job import UnreadableJob
from async_jobs.ports.jobs import Jobs
from async_jobs.ports.search import Search

PAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""A page ends with the step that takes it there."""
STEP_BYTES: Final = 1024 * 1024
"""About how much is read and encoded at once; others get their turn in between."""
FIRST_STEP_JOBS: Final = 5
PAGES_BYTES_MAX: Final = 48 * 1024 * 1024
"""Once so many bytes of pages wait for their readers, no other page is read."""
READ_AT_ONCE: Final = 2
ROOM_SECONDS: Final = 10.0
"""How long a caller waits for others to read their pages, before it is told to come again."""
PIECE_BYTES: Final = 64 * 1024
PIECE_SECONDS: Final = 40.0
"""How long a reader may take for a piece. Our own server hangs up earlier than that."""


class Pages:
    """Answers with pages, and bounds how many bytes of them are in memory at once.

    Args:
        bytes_max: from this many bytes in flight on, further callers wait.
        room_seconds: how long they do.
    """

    def __init__(
        self, *, bytes_max: int = PAGES_BYTES_MAX, room_seconds: float = ROOM_SECONDS
    ) -> None:
        self._bytes_max = bytes_max
        self._room_seconds = room_seconds
        self._reading = asyncio.Semaphore(READ_AT_ONCE)
        self._sent = asyncio.Event()
        self._in_flight: WeakSet[_PageResponse] = WeakSet()

    async def answer(self, jobs: Jobs, filters: dict[str, Any]) -> Response:
        """Return the response that one page of a list is; see `respond`."""
        return await self.respond(lambda: page_body(jobs, filters))

    async def respond(
        self, read: Callable[[], Awaitable[bytes]], *, media_type: str = "application/json"
    ) -> Response:
        """Return the response that one page is.

        Args:
            read: reads it, as it is sent.
            media_type: what it is.

        Raises:
            Unavailable: too many readers do not take what they asked for.
        """
        try:
            async with asyncio.timeout(self._room_seconds):
                await self._reading.acquire()
                try:
                    await self._room()
                except BaseException:
                    self._reading.release()
                    raise
        except TimeoutError:
            raise Unavailable("too many pages wait for their readers") from None
        try:
            response = _PageResponse(await read(), media_type, self._sent.set)
            self._in_flight.add(response)
        finally:
            self._reading.release()
        return response

    async def _room(self) -> None:
        while sum(len(each.body) for each in self._in_flight) >= self._bytes_max:
            self._sent.clear()
            await self._sent.wait()


class _PageResponse(Response):
    """Hands a page to the server piece by piece, as fast as it is read."""

    def __init__(self, body: bytes, media_type: str, on_sent: Callable[[], None]) -> None:
        super().__init__(body, media_type=media_type)
        self._on_sent = on_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytes(self.body)
        start = {"status": self.status_code, "headers": self.raw_headers}
        try:
            await send({"type": "http.response.start", **start})
            for at in range(0, len(body), PIECE_BYTES):
                piece = {
                    "body": body[at : at + PIECE_BYTES],
                    "more_body": at + PIECE_BYTES < len(body),
                }
                async with asyncio.timeout(PIECE_SECONDS):
                    await send({"type": "http.response.body", **piece})
        finally:
            self.body = b""
            self._on_sent()


async def page_body(jobs: Jobs, filters: dict[str, Any]) -> bytes:
    """Return one page as it is sent: what `page_record_of` tells.

    It has fewer than the `limit` of the filters, and a cursor, when the jobs are too large for
    one page.
    """
    criteria = dict(filters)
    limit: int = criteria.pop("limit")
    cursor = criteria.pop("cursor", None)
    records: list[bytes] = []
    unreadable: list[UnreadableJob] = []
    # Rows that hold no job any more count as looked at: a step may bring fewer jobs, or none.
    looked_at, size_bytes, step = 0, 0, min(FIRST_STEP_JOBS, limit)
    while True:
        page = await jobs.list_jobs(limit=step, cursor=cursor, **criteria)
        cursor = page.next_cursor
        looked_at += step
        encoded = [_encoded(record_of(job)) for job in page.jobs]
        records += encoded
        unreadable += page.unreadable
        size_bytes += sum(map(len, encoded))
        if cursor is None or looked_at >= limit or size_bytes >= PAGE_BYTES_MAX:
            break
        step = STEP_BYTES * looked_at // max(1, size_bytes)
        step = min(max(1, step), limit - looked_at)
    told = _encoded(None if cursor is None else str(cursor))
    body = b'{"jobs":[' + b",".join(records) + b'],"next_cursor":' + told
    if unreadable:
        body += b',"unreadable":' + _encoded([unreadable_record_of(row) for row in unreadable])
    return body + b"}"


async def found_body(
    search: Search, query: JobQuery, limit: int, cursor: UUID | None, *, lines: bool
) -> bytes:
    """Return one page of a search as it is sent: an object, or a line for each job and an end.

    It is cut short like a page of a list; and where a look ends before it has found enough.
    """
    records: list[bytes] = []
    unreadable: list[UnreadableJob] = []
    found, size_bytes, step = 0, 0, min(FIRST_STEP_JOBS, limit)
    while True:
        page = await search.search(query, limit=step, cursor=cursor)
        cursor = page.next_cursor
        encoded = [_encoded(record_of(job)) for job in page.jobs]
        records += encoded
        unreadable += page.unreadable
        size_bytes += sum(map(len, encoded))
        on_page = len(page.jobs) + len(page.unreadable)
        found += on_page
        if page.complete or on_page < step or found >= limit or size_bytes >= PAGE_BYTES_MAX:
            break
        step = STEP_BYTES * found // max(1, size_bytes)
        step = min(max(1, step), limit - found)
    back = page.looked_back_to
    end: dict[str, Any] = {
        "next_cursor": None if cursor is None else str(cursor),
        "complete": page.complete,
        "looked_back_to": None if back is None else back.isoformat(),
    }
    if unreadable:
        end["unreadable"] = [unreadable_record_of(row) for row in unreadable]
    if lines:
        return b"".join(record + b"\n" for record in (*records, _encoded(end)))
    return b'{"jobs":[' + b",".join(records) + b"]," + _encoded(end)[1:]


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
