"""Room: the places of a worker, for whichever of its lanes has jobs to put there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from async_jobs.application.waiting import all_done
from async_jobs.ports.clock import Clock
from async_jobs.ports.queue import RECEIVE_MAX


class Room:
    """How many more jobs may be claimed. What a lane reserves counts until it is in hand.

    Args:
        places: how many jobs may be in hand at once.
        in_hand: returns how many are.
        clock: what waits with a bound are measured by.

    Attributes:
        changed: to be set whenever fewer jobs are in hand; cleared by whoever waits for it.
        on_given_back: called whenever fewer places are reserved.
    """

    def __init__(self, places: int, *, in_hand: Callable[[], int], clock: Clock) -> None:
        self.changed = asyncio.Event()
        self.on_given_back: Callable[[], None] = lambda: None
        self._places = places
        self._in_hand = in_hand
        self._clock = clock
        self._shares: list[Share] = []
        self._line, self._front = asyncio.Lock(), asyncio.Lock()
        self._ahead = 0
        self._closed = False

    def share(self) -> Share:
        """Let one more lane have part in the room."""
        share = Share(self, self._clock)
        self._shares.append(share)
        return share

    def close(self) -> None:
        """Let nobody wait for room any longer, nor have any."""
        self._closed = True
        self.changed.set()

    @property
    def lanes(self) -> int:
        """Among how many lanes the room is shared."""
        return len(self._shares)

    async def reserve(self, share: Share, most: int, *, first: bool) -> None:
        """Wait until there is room, first come, first served, and reserve a part of it.

        That is all there is, but for the parts of other lanes that are likely to fill theirs;
        who goes first leaves them nothing.
        """
        self._ahead += first
        try:
            async with self._front if first else self._line:
                while not self._closed and (self._free <= 0 or (self._ahead and not first)):
                    self.changed.clear()
                    await self.changed.wait()
                if not self._closed:
                    part = self._free if first else self._part(share)
                    share.reserved = min(part, most)
        finally:
            if first:
                self._ahead -= 1
                self.changed.set()

    @property
    def _free(self) -> int:
        return self._places - self._in_hand() - self.reserved

    @property
    def reserved(self) -> int:
        """How many places are kept for what lanes were asked for."""
        return sum(share.reserved for share in self._shares)

    def _part(self, share: Share) -> int:
        full = sum(each.full or each is share for each in self._shares)
        return min(-(-(self._free + self.reserved) // full), self._free)


class Share:
    """What one lane has of the room.

    Attributes:
        full: the lane is believed to have as many jobs as it is asked for, as it is at first. Only
            such a lane leaves others less than all there is.
        reserved: how many places are kept for what it was asked for.
    """

    def __init__(self, room: Room, clock: Clock) -> None:
        self._room = room
        self._clock = clock
        self.full = True
        self.reserved = 0

    @property
    def alone(self) -> bool:
        """True when there is no other lane whose places this one could take."""
        return self._room.lanes == 1

    async def reserve(self, *, first: bool = False) -> int:
        """Wait in line for at least one place, and return how many are reserved now.

        Args:
            first: go before all who do not.

        Returns:
            0 when the room is closed.
        """
        await self._room.reserve(self, RECEIVE_MAX, first=first)
        return self.reserved

    async def reserve_within(self, seconds: float, *, most: int) -> int:
        """Wait for so long, before all who have nothing in hand yet.

        Returns:
            0 when the time is over, or the room is closed.
        """
        waiting = asyncio.ensure_future(self._room.reserve(self, most, first=True))
        try:
            await all_done([waiting], self._clock, seconds=seconds)
        finally:
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting
        return self.reserved

    def give_back(self) -> None:
        """Reserve nothing any longer: what came is in hand, or nothing came."""
        if self.reserved:
            self.reserved = 0
            self._room.changed.set()
            self._room.on_given_back()
