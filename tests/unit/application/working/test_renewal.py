"""Renewals: leases are extended in one batch, and what was lost or cancelled is learned."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from async_jobs.application.working.attempt import Attempt, StopReason
from async_jobs.application.working.renewal import BATCH_MAX, Renewals, RenewalThread, keep_renewing
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.job import Job, Phase
from async_jobs.domain.lifecycle import (
    CancelRequested,
    Change,
    Claimed,
    Fence,
    JobEvent,
    Leased,
    LeaseExpired,
    Renewed,
    Succeeded,
)
from async_jobs.ports.clock import Clock
from async_jobs.ports.store import Store
from async_jobs.testing.builders import an_id, later
from async_jobs.testing.clocks import let_others_run
from async_jobs.testing.contracts.scenes import happened, in_phase
from tests.unit.application.faults import unavailable
from tests.unit.application.stage import Stage, quiet, until


class Holding:
    """The leases of one process on a stage, and whom it made stop."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.stopped: list[tuple[Attempt, StopReason]] = []
        self.renewals = Renewals(
            lease_seconds=60, stop=lambda attempt, reason: self.stopped.append((attempt, reason))
        )

    async def attempt(self, **overrides: Any) -> Attempt:
        """Hold the lease of a job that was claimed until a minute from the beginning."""
        job = await in_phase(self.stage.memory, Phase.CLAIMED, **overrides)
        return self.hold(job)

    def hold(self, job: Job) -> Attempt:
        """Hold the lease of a claimed job."""
        attempt = Attempt(job, None, timeout_seconds=900)
        self.renewals.add([attempt])
        return attempt

    async def renew(self) -> None:
        """Renew once."""
        await self.renewals.renew(self.stage.store, self.stage.clock)


@pytest.fixture
def holding(stage: Stage) -> Holding:
    return Holding(stage)


# --- One pass --------------------------------------------------------------------------------


async def test_all_leases_are_extended_in_one_batch(stage: Stage, holding: Holding) -> None:
    """From now on for the length of a lease; the attempts know it."""
    attempts = [await holding.attempt() for _ in range(3)]
    stage.clock.advance(20)

    await holding.renew()

    assert stage.store.saved == [[attempt.job.id for attempt in attempts]]
    for attempt in attempts:
        assert attempt.job.lease_expires_at == later(80)
        assert attempt.job == await stage.job(attempt.job)
    assert holding.stopped == []


async def test_nothing_is_asked_when_nothing_is_held(stage: Stage, holding: Holding) -> None:
    """An idle worker costs the store nothing."""
    attempt = await holding.attempt()
    holding.renewals.discard(attempt)

    await holding.renew()

    assert not stage.store.calls
    assert holding.renewals.held == []


async def test_a_batch_has_a_bound(stage: Stage, holding: Holding) -> None:
    """The rest goes in the next one, in the same pass."""
    job = (await holding.attempt()).job
    for _ in range(BATCH_MAX):
        holding.hold(replace(job, id=an_id()))

    await holding.renew()

    assert {len(batch) for batch in stage.store.saved[:1]} == {BATCH_MAX}
    assert len({job_id for batch in stage.store.saved for job_id in batch}) == BATCH_MAX + 1


async def test_a_lease_is_held_by_the_attempt_that_came_last(holding: Holding) -> None:
    """The end of a former attempt of the same job does not end the renewals of this one."""
    former = await holding.attempt()
    latter = holding.hold(former.job)

    holding.renewals.discard(former)

    assert holding.renewals.held == [latter]
    assert holding.renewals.holds(former.job.id)


# --- What a pass learns ----------------------------------------------------------------------

LOSSES: dict[str, tuple[JobEvent, ...]] = {
    "reaped": (LeaseExpired(),),
    "claimed by another": (LeaseExpired(), Leased(later(300)), Claimed("worker-2", later(300))),
    "claimed again": (LeaseExpired(), Leased(later(300)), Claimed("worker-1", later(300))),
    "settled by somebody": (Succeeded(),),
}


@pytest.mark.parametrize("events", LOSSES.values(), ids=LOSSES)
async def test_a_lost_lease_stops_its_handler_and_no_other(
    stage: Stage, holding: Holding, events: tuple[JobEvent, ...]
) -> None:
    """The others are extended."""
    lost, kept = await holding.attempt(), await holding.attempt()
    now = await happened(stage.memory, lost.job, *events, now=later(60))
    stage.clock.advance(20)

    await holding.renew()

    assert holding.stopped == [(lost, StopReason.LEASE_LOST)]
    assert await stage.job(lost.job) == now
    assert kept.job.lease_expires_at == later(80)


async def test_a_number_that_another_worker_has_anew_is_a_lost_lease(
    stage: Stage, holding: Holding
) -> None:
    """A failover lost the first lease that had it; the second one is left alone."""
    lost = await holding.attempt()
    anew = replace(lost.job, worker_id="worker-2")
    await stage.memory.save([Change(Fence(lost.job.lease_seq, lost.job.phase), anew)])
    stage.clock.advance(20)

    await holding.renew()

    assert holding.stopped == [(lost, StopReason.LEASE_LOST)]
    assert await stage.job(lost.job) == anew


async def test_a_lease_that_is_over_cannot_be_renewed(stage: Stage, holding: Holding) -> None:
    """Although nobody has reaped it yet: somebody may at any moment."""
    lost = await holding.attempt()
    stage.clock.advance(60)

    await holding.renew()

    assert holding.stopped == [(lost, StopReason.LEASE_LOST)]


async def test_a_forgotten_job_stops_its_handler(stage: Stage, holding: Holding) -> None:
    """An operator removed the row."""
    lost = await holding.attempt()
    await happened(stage.memory, lost.job, Succeeded())
    await stage.memory.purge("notifications", before=later(60), limit=1)

    await holding.renew()

    assert holding.stopped == [(lost, StopReason.LEASE_LOST)]


async def test_an_attempt_that_is_being_settled_is_not_stopped(
    stage: Stage, holding: Holding
) -> None:
    """Its lease ended because its own outcome was saved a moment ago."""
    attempt = await holding.attempt()
    attempt.settled = True
    await happened(stage.memory, attempt.job, Succeeded())

    await holding.renew()

    assert holding.stopped == []


async def test_a_cancellation_is_learned_and_the_lease_extended(
    stage: Stage, holding: Holding
) -> None:
    """The handler gets its time to stop."""
    attempt = await holding.attempt()
    await happened(stage.memory, attempt.job, CancelRequested())
    stage.clock.advance(20)

    await holding.renew()

    assert holding.stopped == [(attempt, StopReason.CANCELLED)]
    assert attempt.job == await stage.job(attempt.job)
    assert (attempt.job.phase, attempt.job.lease_expires_at) == (Phase.CANCELLING, later(80))


async def test_a_cancelled_job_goes_on_being_renewed(stage: Stage, holding: Holding) -> None:
    """Until it is settled."""
    attempt = await holding.attempt()
    await happened(stage.memory, attempt.job, CancelRequested())
    await holding.renew()
    stage.clock.advance(20)

    await holding.renew()

    assert attempt.job.lease_expires_at == later(80)
    assert {reason for _, reason in holding.stopped} == {StopReason.CANCELLED}


# --- A store that does not answer ------------------------------------------------------------


async def test_a_failed_pass_stops_nobody(stage: Stage, holding: Holding) -> None:
    """The leases run on towards their end; the next pass may be in time."""
    attempt = await holding.attempt()
    stage.store.down = True

    with pytest.raises(Unavailable):
        await holding.renew()
    stage.store.down = False
    stage.clock.advance(20)
    await holding.renew()

    assert attempt.job.lease_expires_at == later(80)
    assert holding.stopped == []


async def test_a_renewal_whose_reply_was_lost_is_found_out(stage: Stage, holding: Holding) -> None:
    """The lease ends later than the worker knew, and it is still its own."""
    attempt = await holding.attempt()
    stage.clock.advance(20)
    stage.store.after("save", unavailable)
    with pytest.raises(Unavailable):
        await holding.renew()
    stage.clock.advance(20)

    await holding.renew()

    assert attempt.job == await stage.job(attempt.job)
    assert attempt.job.lease_expires_at == later(100)
    assert holding.stopped == []


# --- Again and again -------------------------------------------------------------------------


@asynccontextmanager
async def renewing(holding: Holding) -> AsyncIterator[asyncio.Event]:
    """Renew every 20 s for the length of a block; yields what makes it renew at once."""
    wanted = asyncio.Event()
    task = asyncio.create_task(
        keep_renewing(
            holding.renewals,
            holding.stage.store,
            holding.stage.clock,
            every_seconds=20,
            wanted=wanted,
            on_error=holding.stage.errors.append,
        )
    )
    await quiet()
    try:
        yield wanted
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_leases_are_renewed_at_intervals(stage: Stage, holding: Holding) -> None:
    """So that a job may run for as long as it likes."""
    attempt = await holding.attempt()

    async with renewing(holding):
        await stage.elapse(600, step_seconds=5)

    assert attempt.job.lease_expires_at == later(660)
    assert stage.store.calls["save"] == 30


async def test_a_cancellation_is_looked_for_at_once_when_asked(
    stage: Stage, holding: Holding
) -> None:
    """Once, and the clock has not moved."""
    attempt = await holding.attempt()
    await happened(stage.memory, attempt.job, CancelRequested())

    async with renewing(holding) as wanted:
        wanted.set()
        await quiet()

    assert holding.stopped == [(attempt, StopReason.CANCELLED)]
    assert stage.clock.now() == later(0)
    assert stage.store.calls["get"] == 1


async def test_one_request_makes_for_one_pass(stage: Stage, holding: Holding) -> None:
    """Then the interval begins anew."""
    await holding.attempt()

    async with renewing(holding) as wanted:
        wanted.set()
        await quiet()

    assert stage.store.calls["save"] == 1


async def test_a_failed_pass_is_repeated_sooner(stage: Stage, holding: Holding) -> None:
    """A third of the lease leaves room for that, and the failures are told."""
    attempt = await holding.attempt()
    stage.store.before("save", *[unavailable] * 3)

    async with renewing(holding):
        await stage.elapse(30)

    assert attempt.job.lease_expires_at is not None
    assert later(80) < attempt.job.lease_expires_at <= later(90)
    assert len(stage.errors) == 3
    assert holding.stopped == []


# --- In a thread of its own ------------------------------------------------------------------


@pytest.fixture
def threads() -> Iterator[list[RenewalThread]]:
    started: list[RenewalThread] = []
    yield started
    for thread in started:
        thread.stop()
        thread._thread.join(30)
        assert not thread.alive


class Opening:
    """Opens a stage's store, as often as it is told to after failing."""

    def __init__(self, stage: Stage, *, fails: int = 0) -> None:
        self._stage = stage
        self._fails = fails
        self.opened_in: list[int] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[tuple[Store, Clock]]:
        if self._fails:
            self._fails -= 1
            raise Unavailable("no connection")
        self.opened_in.append(threading.get_ident())
        yield self._stage.store, self._stage.clock


def thread_of(
    holding: Holding, opening: Opening, threads: list[RenewalThread], every_seconds: float = 20
) -> RenewalThread:
    """Return a thread that renews, not yet started."""
    thread = RenewalThread(
        holding.renewals,
        opening,
        every_seconds=every_seconds,
        on_error=holding.stage.errors.append,
    )
    threads.append(thread)
    return thread


async def test_a_thread_renews_beside_a_blocked_event_loop(
    stage: Stage, holding: Holding, threads: list[RenewalThread]
) -> None:
    """With an event loop and a store of its own."""
    attempt = await holding.attempt()
    opening = Opening(stage)
    thread_of(holding, opening, threads).start()
    await until(lambda: stage.clock.sleepers)
    stage.clock.advance(20)

    blocked = threading.Event()
    while attempt.job.lease_expires_at != later(80):
        assert not blocked.wait(0.001)

    assert opening.opened_in != [threading.get_ident()]


async def test_a_thread_renews_at_once_when_asked(
    stage: Stage, holding: Holding, threads: list[RenewalThread]
) -> None:
    """From any thread."""
    attempt = await holding.attempt()
    await happened(stage.memory, attempt.job, CancelRequested())
    thread = thread_of(holding, Opening(stage), threads)
    thread.start()
    await until(lambda: stage.clock.sleepers)

    thread.want()
    await until(lambda: holding.stopped)

    assert holding.stopped == [(attempt, StopReason.CANCELLED)]


async def test_a_thread_tries_again_when_it_cannot_even_connect(
    stage: Stage, holding: Holding, threads: list[RenewalThread]
) -> None:
    """The leases may still be saved."""
    thread_of(holding, Opening(stage, fails=3), threads, every_seconds=0.01).start()

    await until(lambda: stage.clock.sleepers)

    assert [type(error) for error in stage.errors] == [Unavailable] * 3


async def test_a_thread_that_cannot_connect_does_not_spin(
    stage: Stage, holding: Holding, threads: list[RenewalThread]
) -> None:
    """Being asked to renew makes it try once more, not for ever."""
    thread = thread_of(holding, Opening(stage, fails=1_000_000), threads, every_seconds=600)
    thread.start()
    await until(lambda: len(stage.errors) == 1)

    thread.want()
    await until(lambda: len(stage.errors) >= 2)
    await let_others_run(2_000)

    assert len(stage.errors) == 2


async def test_a_thread_stopped_before_it_got_going_ends(
    stage: Stage, holding: Holding, threads: list[RenewalThread]
) -> None:
    """A worker that fails in its first moment leaves no thread behind that holds leases."""
    opening = Opening(stage)
    thread = thread_of(holding, opening, threads)
    thread.stop()
    thread.start()

    await until(lambda: not thread.alive)

    assert opening.opened_in == []


async def test_a_stopped_thread_renews_no_longer(
    stage: Stage, holding: Holding, threads: list[RenewalThread]
) -> None:
    """Its store is closed."""
    attempt = await holding.attempt()
    thread = thread_of(holding, Opening(stage), threads)
    thread.start()
    await until(lambda: stage.clock.sleepers)

    thread.stop()
    await until(lambda: not thread.alive)
    stage.clock.advance(20)

    assert attempt.job.lease_expires_at == later(60)


async def test_a_renewal_in_between_is_no_loss(stage: Stage, holding: Holding) -> None:
    """Another thread of the same process was quicker."""
    attempt = await holding.attempt()
    await happened(stage.memory, attempt.job, Renewed(later(70)))
    stage.clock.advance(20)

    await holding.renew()

    assert (attempt.job.lease_expires_at, holding.stopped) == (later(80), [])
