"""Streams tell of changes, bound what they hold, and end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from async_jobs.domain.errors import Unavailable
from async_jobs.entrypoints.dashboard.streams import Streams
from async_jobs.testing.clocks import ManualClock, let_others_run

CHANGED = b"event: changed\n"


class Looked:
    """What is looked at: a value that the test changes, or an error."""

    def __init__(self) -> None:
        self.value: object = 1
        self.times = 0

    async def __call__(self) -> object:
        self.times += 1
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


async def begun(streams: Streams, looked: Looked) -> AsyncIterator[bytes]:
    """Return a stream that has said how to come again."""
    stream = streams.events("all", looked, lambda: True)
    assert await anext(stream) == b"retry: 1000\n\n"
    await let_others_run()
    return stream


async def next_look(clock: ManualClock) -> None:
    await let_others_run()
    clock.advance(2)
    await let_others_run()


async def test_a_change_is_told_to_all_for_one_look() -> None:
    """However many there are, what is looked at is looked at once."""
    clock, looked = ManualClock(), Looked()
    streams = Streams(clock, 2.0)
    viewers = [await begun(streams, looked) for _ in range(20)]
    waiting = [asyncio.ensure_future(anext(each)) for each in viewers]
    looked.value = 2
    await next_look(clock)

    assert all(told.startswith(CHANGED) for told in await asyncio.gather(*waiting))
    assert looked.times == 2
    streams.end()


async def test_a_slow_reader_is_told_once_of_many_changes() -> None:
    """It holds the number that it saw last, and no queue."""
    clock, looked = ManualClock(), Looked()
    streams = Streams(clock, 2.0)
    stream = await begun(streams, looked)
    for number in range(2, 7):
        looked.value = number
        await next_look(clock)

    assert await anext(stream) == b"event: changed\ndata: 5\n\n"
    streams.end()


async def test_what_cannot_be_looked_at_is_a_change() -> None:
    """The page then says what is wrong; that it still is, is none."""
    clock, looked = ManualClock(), Looked()
    streams = Streams(clock, 2.0)
    stream = await begun(streams, looked)
    looked.value = Unavailable("no answer")
    await next_look(clock)
    await next_look(clock)

    assert await anext(stream) == b"event: changed\ndata: 1\n\n"
    streams.end()


async def test_what_nobody_foresaw_ends_no_looking() -> None:
    """A bug in what is looked at is a change as well, and so is what is there after it."""
    clock, looked = ManualClock(), Looked()
    streams = Streams(clock, 2.0)
    stream = await begun(streams, looked)
    for value in (ZeroDivisionError(), 2):
        looked.value = value
        await next_look(clock)
        assert (await anext(stream)).startswith(CHANGED)
    streams.end()


async def test_streams_end_with_the_process() -> None:
    """Also those that wait: a shutdown waits for none of them."""
    streams = Streams(ManualClock(), 2.0)
    stream = await begun(streams, Looked())
    waiting = asyncio.ensure_future(anext(stream, b"ended"))
    await let_others_run()

    streams.end()

    assert await waiting == b"ended"
    assert streams.count == 0


async def test_a_stream_ends_with_its_session() -> None:
    """What is told afterwards is not told to it."""
    streams, counts = Streams(ManualClock(), 2.0), True
    stream = streams.events("all", Looked(), lambda: counts)
    await anext(stream)
    counts = False
    streams.tell_all()

    assert await anext(stream, b"ended") == b"ended"


async def test_nobody_looks_when_nobody_is_there() -> None:
    """The last one who leaves ends the looking."""
    clock, looked = ManualClock(), Looked()
    streams = Streams(clock, 2.0)
    stream = streams.events("all", looked, lambda: True)
    await anext(stream)
    await let_others_run()
    await stream.aclose()  # type: ignore[attr-defined]
    times = looked.times
    await next_look(clock)

    assert (looked.times, clock.sleepers) == (times, 0)
