"""The loop that owns time and order: what it promises the simulation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.simulation.dice import Dice
from tests.simulation.loop import (
    NeverRests,
    NothingLeftToDo,
    Process,
    SimulatedLoop,
    never,
)


def a_loop(seed: str = "0", on_death: Callable[[Process], None] | None = None) -> SimulatedLoop:
    deaths: list[Process] = []
    return SimulatedLoop(Dice(seed), on_death or deaths.append)  # type: ignore[abstract]


async def sleep(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    awake: asyncio.Event = asyncio.Event()
    loop.call_later(seconds, awake.set)
    await awake.wait()


def test_time_jumps_to_the_next_timer() -> None:
    """A year takes no time."""
    loop = a_loop()

    loop.run(sleep(365 * 24 * 3_600.0))

    assert loop.time() == 365 * 24 * 3_600.0


def test_within_a_process_callbacks_keep_their_order() -> None:
    """As asyncio has it."""
    loop, seen = a_loop(), list[int]()

    async def main() -> None:
        for number in range(50):
            asyncio.get_running_loop().call_soon(seen.append, number)
        await sleep(1)

    loop.run(main())

    assert seen == list(range(50))


def order_of(seed: str) -> list[int]:
    """Return in what order twenty processes take one step each."""
    loop, seen = a_loop(seed), list[int]()

    async def step(number: int) -> None:
        seen.append(number)

    async def main() -> None:
        for number in range(20):
            loop.start_in(loop.context_of(loop.process(str(number))), step(number))
        await sleep(1)

    loop.run(main())
    return seen


def test_between_processes_chance_decides() -> None:
    """The same seed decides the same."""
    assert order_of("a") == order_of("a") != order_of("b")
    assert sorted(order_of("a")) == list(range(20))


def test_a_dead_process_takes_no_step() -> None:
    """Not even those of its finally blocks; until it is revived to tidy up."""
    loop, seen = a_loop(), list[str]()

    async def victim() -> None:
        try:
            await sleep(1)
            seen.append("woke")
        finally:
            seen.append("finally")

    async def main() -> None:
        process = loop.process("victim")
        loop.start_in(loop.context_of(process), victim())
        await sleep(0.5)
        loop.kill(process)
        await sleep(10)
        assert not seen
        loop.revive(process)
        await sleep(1)

    loop.run(main())

    assert seen == ["woke", "finally"]


def test_what_a_process_starts_dies_with_it() -> None:
    """Tasks and timers belong to whoever made them."""
    loop, seen = a_loop(), list[str]()

    async def child() -> None:
        await sleep(2)
        seen.append("child")

    async def parent() -> None:
        task = asyncio.ensure_future(child())
        asyncio.get_running_loop().call_later(2, seen.append, "timer")
        await task

    async def main() -> None:
        process = loop.process("parent")
        loop.start_in(loop.context_of(process), parent())
        await sleep(1)
        loop.kill(process)
        await sleep(10)

    loop.run(main())

    assert not seen


def test_a_process_that_stands_still_goes_on_later() -> None:
    """Its timers are due by then, and time went on for all others."""
    loop, seen = a_loop(), list[float]()

    async def late() -> None:
        await sleep(1)
        seen.append(loop.time())

    async def main() -> None:
        process = loop.process("late")
        loop.start_in(loop.context_of(process), late())
        loop.stand_still(process)
        loop.stand_still(process)
        await sleep(5)
        loop.go_on(process)
        await sleep(5)
        assert not seen
        loop.go_on(process)
        await sleep(5)

    loop.run(main())

    assert seen == [11.0]


def test_a_fuse_burns_by_steps() -> None:
    """And whoever lit it is told."""
    seen = list[int]()
    deaths: list[Process] = []

    def die(process: Process) -> None:
        deaths.append(process)
        loop.kill(process)

    loop = a_loop(on_death=die)

    async def counting() -> None:
        for number in range(10):
            seen.append(number)
            await sleep(0)

    async def main() -> None:
        process = loop.process("victim")
        loop.start_in(loop.context_of(process), counting())
        process.fuse = 4
        await sleep(10)

    loop.run(main())

    assert [process.name for process in deaths] == ["victim"]
    assert 0 < len(seen) < 10


def test_whoever_is_not_killed_by_its_fuse_goes_on() -> None:
    """A process that is about to end by itself may be nobody's to kill."""
    loop, seen = a_loop(), list[str]()

    async def main() -> None:
        process = loop.process("spared")
        process.fuse = 0
        loop.start_in(loop.context_of(process), note())
        await sleep(1)

    async def note() -> None:
        seen.append("went on")

    loop.run(main())

    assert seen == ["went on"]


def test_waiting_for_what_cannot_happen_is_an_error() -> None:
    """Rather than for ever."""
    with pytest.raises(NothingLeftToDo):
        a_loop().run(never())


def test_never_coming_to_rest_is_an_error() -> None:
    """Rather than for ever."""

    async def spin() -> None:
        while True:
            await sleep(0)

    def again() -> None:
        asyncio.get_running_loop().call_soon(again)

    async def main() -> None:
        again()
        await sleep(1)

    with pytest.raises(NeverRests):
        a_loop().run(main())


def test_a_function_in_a_thread_is_called_a_moment_later() -> None:
    """By the same process; its exception comes back."""
    loop = a_loop()

    async def main() -> None:
        assert await asyncio.to_thread(lambda: 42) == 42
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)

    loop.run(main())

    assert loop.time() > 0
