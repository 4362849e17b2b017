"""The room of a worker: whoever has jobs has the places, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from async_jobs.application.working.room import Room, Share
from async_jobs.testing.clocks import ManualClock, let_others_run
from tests.unit.application.stage import quiet


class Places:
    """A room, and how many jobs are in hand."""

    def __init__(self, places: int, *, lanes: int) -> None:
        self.clock = ManualClock()
        self.in_hand = 0
        self.room = Room(places, in_hand=lambda: self.in_hand, clock=self.clock)
        self.shares = [self.room.share() for _ in range(lanes)]
        for share in self.shares:
            share.full = False

    def take(self, share: Share, jobs: int) -> None:
        """Take jobs in hand, for which places are reserved."""
        self.in_hand += jobs
        share.give_back()

    def end(self, jobs: int = 1) -> None:
        self.in_hand -= jobs
        self.room.changed.set()


async def test_a_lane_may_have_all_there_is() -> None:
    """However many others there are, which have nothing."""
    places = Places(8, lanes=3)
    places.in_hand = 1

    assert await places.shares[0].reserve() == 7


@pytest.mark.parametrize(
    ("free", "lanes", "parts"),
    [
        (8, 2, [4, 4]),
        (9, 2, [5, 4]),
        (10, 3, [4, 4, 2]),
        (2, 3, [1, 1]),
    ],
)
async def test_full_lanes_divide_what_is_free(free: int, lanes: int, parts: list[int]) -> None:
    """By their number, rounded up: nothing is left over."""
    places = Places(free, lanes=lanes)
    for share in places.shares:
        share.full = True

    assert [await share.reserve() for share in places.shares[: len(parts)]] == parts


async def test_a_lane_reserves_no_more_than_is_of_use() -> None:
    """The rest is for the next one in line."""
    places = Places(8, lanes=2)

    assert await places.shares[0].reserve_within(1, most=3) == 3
    assert await places.shares[1].reserve() == 5


async def test_what_is_reserved_is_free_again_once_it_is_given_back() -> None:
    """Or in hand: never both, and never neither."""
    places = Places(3, lanes=2)
    one, other = places.shares

    await one.reserve()
    places.take(one, 2)

    assert await other.reserve() == 1


async def test_places_are_given_first_come_first_served() -> None:
    """Two lanes that wait have one place each, in turn."""
    places = Places(1, lanes=3)
    places.in_hand = 1
    served: list[int] = []

    async def wait(number: int) -> None:
        share = places.shares[number]
        for _ in range(2):
            await share.reserve()
            served.append(number)
            places.take(share, 1)

    waiting = [asyncio.create_task(wait(number)) for number in range(3)]
    for _ in range(6):
        await let_others_run(5)
        places.end()
    await asyncio.gather(*waiting)

    assert served == [0, 1, 2, 0, 1, 2]


async def test_waiting_may_have_a_bound() -> None:
    """Nothing is reserved then, and the next one in line is not kept waiting."""
    places = Places(1, lanes=2)
    places.in_hand = 1
    one, other = places.shares
    hasty = asyncio.create_task(one.reserve_within(0.25, most=1))
    patient = asyncio.create_task(other.reserve())
    await quiet()

    places.clock.advance(0.25)
    await quiet()
    places.end()

    assert (await hasty, one.reserved) == (0, 0)
    assert await patient == 1


async def test_who_has_something_in_hand_goes_before_those_who_only_ask() -> None:
    """However long they have waited; it has all it can use."""
    places = Places(4, lanes=3)
    places.in_hand = 4
    for share in places.shares:
        share.full = True
    asking = [asyncio.create_task(share.reserve()) for share in places.shares[:2]]
    await quiet()
    holding = asyncio.create_task(places.shares[2].reserve_within(1, most=3))
    await quiet()

    places.end(3)
    await quiet()
    assert (await holding, [each.done() for each in asking]) == (3, [False, False])
    places.end()
    await quiet()
    assert [each.done() for each in asking] == [True, False]
    places.take(places.shares[2], 0)
    await asyncio.gather(*asking)


async def test_a_place_that_is_free_needs_no_time() -> None:
    """Even when there is none left to wait."""
    places = Places(2, lanes=1)

    assert await places.shares[0].reserve_within(0, most=2) == 2


async def test_who_is_cancelled_reserves_nothing() -> None:
    """And leaves the line."""
    places = Places(1, lanes=2)
    places.in_hand = 1
    one, other = places.shares
    for reserved in (one.reserve(), one.reserve(first=True), one.reserve_within(60, most=1)):
        waiting = asyncio.create_task(reserved)
        await quiet()
        waiting.cancel()
        await quiet()
        assert waiting.cancelled()
    places.end()

    assert (one.reserved, await other.reserve()) == (0, 1)


async def test_nobody_waits_for_a_room_that_is_closed() -> None:
    """Nor gets any part of it."""
    places = Places(1, lanes=3)
    places.in_hand = 1
    waiting = [asyncio.create_task(share.reserve()) for share in places.shares[:2]]
    await quiet()

    places.room.close()
    places.end()

    assert await asyncio.gather(*waiting) == [0, 0]
    assert await places.shares[2].reserve() == 0
