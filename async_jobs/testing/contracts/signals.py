"""The contract of `Signal`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from async_jobs.ports.signal import Signal
from async_jobs.testing.clocks import let_others_run
from async_jobs.testing.contracts.scenes import (
    Elapse,
    RollBack,
    Transaction,
    soon,
    until_done,
)

STEP_SECONDS = 0.25


class SignalContract:
    """Everything `Signal` promises, SG-1 to SG-5.

    Subclass it as `TestMySignal` and override the fixtures `signal`, `other_signal`,
    `transaction` and `elapse`. "Normally" in a promise means here: at one of a number of tries.
    """

    @pytest.fixture
    async def signal(self) -> Signal:
        """The signal under test."""
        raise NotImplementedError("override the fixture `signal`")

    @pytest.fixture
    async def other_signal(self) -> Signal:
        """The same topics in another process; `signal` itself where there is only one."""
        raise NotImplementedError("override the fixture `other_signal`")

    @pytest.fixture
    async def transaction(self) -> Transaction:
        """Opens a transaction of the store beside it: committed at the end, or by an error not."""
        raise NotImplementedError("override the fixture `transaction`")

    @pytest.fixture
    async def elapse(self) -> Elapse:
        """Makes time pass for the signals, and lets what is under way arrive."""
        raise NotImplementedError("override the fixture `elapse`")

    async def test_sg_1_a_wait_ends_with_its_timeout(self, signal: Signal, elapse: Elapse) -> None:
        """Nobody notifies: it lasts that long, and no longer."""
        waited = await calm(signal, "topic", elapse, timeout_seconds=2)

        assert 2 - STEP_SECONDS <= waited <= 2 + 4 * STEP_SECONDS

    async def test_sg_1_a_wait_may_be_no_wait_at_all(self, signal: Signal, elapse: Elapse) -> None:
        """With a timeout of zero it only looks."""
        waiting = asyncio.ensure_future(signal.wait("topic", timeout_seconds=0))

        assert await until_done(waiting, elapse, STEP_SECONDS) <= STEP_SECONDS

    async def test_sg_1_a_wait_can_be_cancelled(self, signal: Signal, elapse: Elapse) -> None:
        """And the next one is none the worse."""
        await calm(signal, "topic", elapse)
        waiting = asyncio.ensure_future(signal.wait("topic", timeout_seconds=60))
        await let_others_run(3)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(waiting)

        again = asyncio.ensure_future(signal.wait("topic", timeout_seconds=60))
        await woken(again, signal, elapse)
        assert await again is True

    async def test_sg_2_a_notify_wakes_every_wait_on_its_topic(
        self, signal: Signal, other_signal: Signal, elapse: Elapse
    ) -> None:
        """Here and in other processes."""
        await calm(signal, "topic", elapse)
        await calm(other_signal, "topic", elapse)
        waits = [
            asyncio.ensure_future(each.wait("topic", timeout_seconds=60))
            for each in (signal, other_signal, signal, other_signal)
        ]

        await woken(asyncio.gather(*waits), signal, elapse)

        assert [await wait for wait in waits] == [True] * 4

    async def test_sg_2_a_notify_within_a_transaction_wakes_with_its_commit(
        self, signal: Signal, other_signal: Signal, transaction: Transaction, elapse: Elapse
    ) -> None:
        """Not before, when there would be nothing to see yet."""
        woken_by_the_commit = False
        for _ in range(20):
            await calm(signal, "topic", elapse)
            waiting = asyncio.ensure_future(signal.wait("topic", timeout_seconds=60))
            async with transaction() as within:
                await other_signal.notify_within("topic", within)
                await elapse(STEP_SECONDS)
                too_early = waiting.done()
            waited = await until_done(waiting, elapse, STEP_SECONDS)
            woken_by_the_commit = await waiting and waited < 30
            if woken_by_the_commit and not too_early:
                return

        raise AssertionError("never by the commit" if not woken_by_the_commit else "too early")

    async def test_sg_2_a_transaction_that_is_rolled_back_wakes_nobody(
        self, signal: Signal, other_signal: Signal, transaction: Transaction, elapse: Elapse
    ) -> None:
        """What it was to tell of never happened."""
        for _ in range(10):
            await calm(signal, "topic", elapse)
            waiting = asyncio.ensure_future(signal.wait("topic", timeout_seconds=1))
            await let_others_run(3)
            with contextlib.suppress(RollBack):
                async with transaction() as within:
                    await other_signal.notify_within("topic", within)
                    raise RollBack
            await until_done(waiting, elapse, STEP_SECONDS)
            if not await waiting:
                return

        raise AssertionError("it keeps waking")

    async def test_sg_3_a_notify_between_two_waits_ends_the_second(
        self, signal: Signal, other_signal: Signal, elapse: Elapse
    ) -> None:
        """Whoever was busy when it came does not sleep on it."""
        at_once = False
        for _ in range(20):
            await calm(signal, "topic", elapse)
            other_signal.notify("topic")
            await elapse(STEP_SECONDS)
            second = asyncio.ensure_future(signal.wait("topic", timeout_seconds=2))
            at_once = await until_done(second, elapse, STEP_SECONDS) <= STEP_SECONDS
            if await second and at_once:
                break

        assert at_once

    async def test_sg_3_a_wake_up_is_used_up(self, signal: Signal, elapse: Elapse) -> None:
        """However many notifies came, they end at most a wait or two."""
        await calm(signal, "topic", elapse)
        for _ in range(100):
            signal.notify("topic")

        await calm(signal, "topic", elapse)

    @pytest.mark.parametrize("topic", ["", " ", "x" * 10_000, "ü𝄞'\"%s;--\n", "a\u0000b"])
    async def test_sg_4_any_topic_can_be_notified(
        self, signal: Signal, elapse: Elapse, topic: str
    ) -> None:
        """Whether or not somebody waits on it."""
        signal.notify(topic)
        await elapse(STEP_SECONDS)
        await calm(signal, topic, elapse)
        waiting = asyncio.ensure_future(signal.wait(topic, timeout_seconds=60))

        await woken(waiting, signal, elapse, topic)

        assert await waiting is True

    async def test_sg_4_a_flood_of_notifies_is_borne(self, signal: Signal, elapse: Elapse) -> None:
        """Ten thousand in a row, and the next wait on any topic still works."""
        for i in range(10_000):
            signal.notify(f"topic {i % 100}")
        await elapse(STEP_SECONDS)

        waiting = asyncio.ensure_future(signal.wait("topic", timeout_seconds=60))
        await woken(waiting, signal, elapse)
        assert await waiting is True

    @pytest.mark.parametrize("other", ["", "Topic", "topi", "topic ", "queue:topic", "to*", "t%"])
    async def test_sg_5_topics_do_not_wake_each_other(
        self, signal: Signal, elapse: Elapse, other: str
    ) -> None:
        """However alike their names are."""
        await calm(signal, other, elapse)

        await calm(signal, "topic", elapse, beside=other)


async def calm(
    signal: Signal,
    topic: str,
    elapse: Elapse,
    *,
    timeout_seconds: float = 1,
    beside: str | None = None,
) -> float:
    """Wait until a wait ends unwoken: wake-ups may come late, and without a reason.

    Returns how many seconds it lasted. Meanwhile the topic `beside` is notified.
    """
    for _ in range(10):
        waiting = asyncio.ensure_future(signal.wait(topic, timeout_seconds=timeout_seconds))
        await let_others_run(3)
        if beside is not None:
            signal.notify(beside)
        waited = await until_done(waiting, elapse, STEP_SECONDS)
        if not await waiting:
            return waited
    raise AssertionError(f"waits on {topic!r} keep being woken, by nobody or by {beside!r}")


async def woken(
    waiting: asyncio.Future[Any], signal: Signal, elapse: Elapse, topic: str = "topic"
) -> None:
    """Notify until the wait has ended: a wake-up may be lost, or late on a busy host."""
    for _ in range(100):
        await let_others_run(3)
        signal.notify(topic)
        await elapse(STEP_SECONDS)
        if waiting.done():
            return
    waiting.cancel()
    raise AssertionError(f"a hundred notifies have not ended the wait on {topic!r}")
