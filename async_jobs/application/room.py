"""Room: the places of a worker, shared by the lanes it receives from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from async_jobs.ports.queue import RECEIVE_MAX


class Room:
    """How many more jobs may be received. What a lane asks for counts until it is in hand.

    Args:
        places: how many jobs may be in hand at once.
        in_hand: returns how many are.
        lanes: among how many lanes free places are divided.

    Attributes:
        changed: to be set whenever fewer jobs are in hand; cleared by whoever waits for it.
    """

    def __init__(self, places: int, *, in_hand: Callable[[], int], lanes: int) -> None:
        self.changed = asyncio.Event()
        self._places = places
        self._in_hand = in_hand
        self._lanes = lanes
        self._reserved = 0
        self._next_in_line = asyncio.Lock()
        self._closed = False

    def close(self) -> None:
        """Let nobody wait for room any longer."""
        self._closed = True
        self.changed.set()

    @asynccontextmanager
    async def reserved(self) -> AsyncIterator[int]:
        """Wait for room and reserve a part of it for the length of the block; yields how much.

        First come, first served: an empty lane does not keep its place before one that waits.
        """
        async with self._next_in_line:
            while (free := self._places - self._in_hand() - self._reserved) <= 0:
                if self._closed:
                    break
                self.changed.clear()
                await self.changed.wait()
            part = min(max(1, free // self._lanes), RECEIVE_MAX)
            self._reserved += part
        try:
            yield part
        finally:
            self._reserved -= part
            self.changed.set()
