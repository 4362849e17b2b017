"""Live pages: a stream of events that says when there is something new to show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from typing import Final

from async_jobs.ports.clock import Clock

STREAMS_MAX: Final = 500
STREAM_SECONDS: Final = 55.0
"""A stream ends then and its browser opens the next one, so that no server waits for it longer."""
QUIET_SECONDS: Final = 15.0
"""After so much silence a comment goes out, for proxies that cut what is silent."""
RETRY_MILLISECONDS: Final = 1_000


class Feed:
    """What those who are within the same tenants are told of: a number that grows with changes.

    A subscriber holds the number it saw last and nothing else, however slowly it reads.
    """

    def __init__(self) -> None:
        self.number = 0
        self.subscribers = 0
        self._changed = asyncio.Event()

    def tell(self) -> None:
        """Let all subscribers know."""
        self.number += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def after(self, number: int, seconds: float) -> bool:
        """Wait for a greater number; false if there is none within so many seconds."""
        if self.number > number:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True


class Streams:
    """Looks, for as long as anybody is subscribed, whether something has changed, and tells them.

    Args:
        clock: paces the looks.
        seconds: between two of them.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._feeds: dict[Hashable, Feed] = {}
        self._looking: dict[Hashable, asyncio.Task[None]] = {}
        self.has_ended = False

    @property
    def count(self) -> int:
        """How many subscribers there are."""
        return sum(each.subscribers for each in self._feeds.values())

    def tell_all(self) -> None:
        """Let every subscriber look: somebody has changed something."""
        for feed in self._feeds.values():
            feed.tell()

    def end(self) -> None:
        """End every stream now, and let no new one begin: the process stops."""
        self.has_ended = True
        self.tell_all()

    async def events(
        self,
        key: Hashable,
        look: Callable[[], Awaitable[object]],
        may_go_on: Callable[[], bool],
    ) -> AsyncIterator[bytes]:
        """Yield the events of one subscriber, as `text/event-stream`.

        Args:
            key: within which tenants it is.
            look: returns what differs when there is something new to show.
            may_go_on: asked before each event, whether it may still be told.
        """
        feed = self._feeds.setdefault(key, Feed())
        feed.subscribers += 1
        if key not in self._looking:
            self._looking[key] = asyncio.ensure_future(self._look(feed, look))
        number, ends_at = feed.number, self._clock.monotonic() + STREAM_SECONDS
        try:
            yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
            while (left := ends_at - self._clock.monotonic()) > 0:
                changed = await feed.after(number, min(left, QUIET_SECONDS))
                if self.has_ended or not may_go_on():
                    return
                number = feed.number
                yield f"event: changed\ndata: {number}\n\n".encode() if changed else b":\n\n"
        finally:
            feed.subscribers -= 1
            if not feed.subscribers and self._feeds.get(key) is feed:
                del self._feeds[key]
                self._looking.pop(key).cancel()

    async def _look(self, feed: Feed, look: Callable[[], Awaitable[object]]) -> None:
        seen: object = None
        while True:
            try:
                found: object = await look()
            except Exception as error:  # whatever it is, the looking goes on
                found = type(error)  # which pages say themselves, once they look
            if seen is not None and found != seen:
                feed.tell()
            seen = found
            await self._clock.sleep(self._seconds)
