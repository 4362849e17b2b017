"""Bulk operations are carried out by schedulers: when there are any, and at a bounded rate."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from async_jobs.adapters.memory.bulk import MemoryBulk
from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.application.in_force import InForce
from async_jobs.application.operating.bulk import BulkService
from async_jobs.application.scheduling.chores.bulk import (
    BATCH_MIN,
    LOOK_AGAIN_SECONDS,
    SHARE,
    WorkingBulk,
)
from async_jobs.domain.audit import Operator
from async_jobs.domain.bulk import BulkAction, BulkOperation, BulkState
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.facts import ChoreSkipped, JobCancelled, JobCancelRequested, JobRetried
from async_jobs.domain.filters import JobQuery
from async_jobs.domain.job import JobStatus, Phase
from async_jobs.ports.bulk import Stepped
from async_jobs.ports.bulk_steering import BulkRequest, BulkSteering
from async_jobs.ports.signal import cancellation
from async_jobs.testing import memory_system
from async_jobs.testing.builders import RecordingTelemetry, SimpleLimits, a_job, a_request
from async_jobs.testing.clocks import ManualChance, ManualClock
from async_jobs.testing.contracts.scenes import added, in_phase, stored
from async_jobs.testing.system import MemorySystem


class Watched(MemoryBulk):
    """Counts the steps, may fail, and may take its time."""

    def __init__(self, store: MemoryJobStore, clock: ManualClock) -> None:
        super().__init__(store)
        self.steps: list[int] = []
        self.error: Exception | None = None
        self.seconds = 0.0
        self._clock = clock

    async def step(self, now: Any, *, limit: int, decide: Any, pause: Any) -> Stepped:
        self.steps.append(limit)
        self._clock.advance(self.seconds)
        if self.error is not None:
            raise self.error
        return await super().step(now, limit=limit, decide=decide, pause=pause)


async def begun(bulk: BulkSteering, action: BulkAction) -> BulkOperation:
    """Begin an operation over all jobs of acme."""
    request = BulkRequest(action=action, criteria=JobQuery(tenant_id="acme"))
    preview = await bulk.preview(request)
    operator = Operator(actor="ada")
    return await bulk.start(request, token=preview.token, reason="so", operator=operator)


async def ticked(system: MemorySystem, *, seconds: float = 60.0) -> None:
    """Tick whenever something is due, for some seconds."""
    until = system.clock.now() + timedelta(seconds=seconds)
    while system.clock.now() < until:
        tick = await system.scheduler.tick()
        if not tick.more:
            system.clock.advance(1.0)


async def test_a_scheduler_carries_out_what_an_operator_began() -> None:
    """To the end, and tells of each job as if it had been cancelled by itself."""
    system = memory_system(use_cases=["notifications"])
    later = system.clock.now() + timedelta(hours=1)
    for _ in range(120):
        await system.service.enqueue(a_request(run_at=later))
    operation = await begun(system.bulk, BulkAction.CANCEL)

    await ticked(system)

    over = await system.bulk.get(operation.id)
    assert (over.done, over.state) == (120, BulkState.FINISHED)
    assert len(system.telemetry.of(JobCancelled)) == 120


async def test_what_was_retried_is_dispatched_at_once() -> None:
    """By a tick that follows."""
    system = memory_system(use_cases=["notifications"])
    job = await in_phase(system.store, Phase.DEAD, created_at=system.clock.now())
    await begun(system.bulk, BulkAction.RETRY)

    first = await system.scheduler.tick()
    second = await system.scheduler.tick()

    assert (first.leased, first.more, second.leased) == (0, True, 1)
    assert [fact.job_id for fact in system.telemetry.of(JobRetried)] == [job.id]


# --- The chore by itself ---------------------------------------------------------------------


class Stage:
    """The chore, what it works on, and a clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryJobStore()
        self.bulk = Watched(self.store, self.clock)
        self.signal = MemorySignal(clock=self.clock)
        self.telemetry = RecordingTelemetry()
        self.limits = InForce(SimpleLimits(), self.store.controls, clock=self.clock)
        self.chore = WorkingBulk(
            self.bulk,
            self.limits,
            clock=self.clock,
            signal=self.signal,
            telemetry=self.telemetry,
        )
        self.service = BulkService(self.bulk, clock=self.clock, chance=ManualChance())

    async def begin(self, action: BulkAction = BulkAction.CANCEL) -> BulkOperation:
        """Begin an operation, and let the limits be read as a tick does."""
        operation = await begun(self.service, action)
        await self.limits.read(self.clock.now())
        return operation

    def is_due(self) -> bool:
        """Tell whether the chore would do something."""
        return self.chore.is_due(self.clock.monotonic())


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_nothing_is_asked_while_nobody_began_anything(stage: Stage) -> None:
    """Neither before the first operation nor after the last one."""
    await stage.limits.read(stage.clock.now())
    assert not stage.is_due()
    await added(stage.store)
    await stage.begin()
    while stage.is_due():
        await stage.chore.work()
        stage.clock.advance(10.0)
    asked = len(stage.bulk.steps)

    stage.clock.advance(1_000_000.0)

    assert not stage.is_due()
    assert stage.chore.next_at is None
    assert len(stage.bulk.steps) == asked > 0


async def test_a_failure_is_tried_again_a_little_later(stage: Stage) -> None:
    """Not at once, for it would fail again; and dispatches go on."""
    await added(stage.store)
    operation = await stage.begin()
    stage.bulk.error = Unavailable("the database did not answer")
    assert stage.is_due()
    with pytest.raises(Unavailable):
        await stage.chore.work()
    stage.bulk.error = None

    assert not stage.is_due()
    stage.clock.advance(LOOK_AGAIN_SECONDS)
    assert stage.is_due()
    await stage.chore.work()

    assert (await stage.service.get(operation.id)).done == 1


async def test_a_failure_that_took_its_time_is_followed_by_a_long_rest(stage: Stage) -> None:
    """Also if nothing came of it, dispatches have the time that is left."""
    await stage.begin()
    stage.bulk.error, stage.bulk.seconds = Unavailable("no answer"), 10.0
    began = stage.clock.now()
    with pytest.raises(Unavailable):
        await stage.chore.work()

    assert stage.chore.next_at == began + timedelta(seconds=10.0 / SHARE)


async def test_a_batch_that_is_cut_off_is_smaller_the_next_time(stage: Stage) -> None:
    """What took too long for the database would take as long at each further try."""
    await stored(stage.store, *(a_job() for _ in range(BATCH_MIN)))
    operation = await stage.begin()
    stage.bulk.error = Unavailable("a statement took too long")
    for _ in range(9):
        with pytest.raises(Unavailable):
            await stage.chore.work()
    stage.bulk.error = None
    await stage.chore.work()

    assert stage.bulk.steps == [50, 25, 12, 6, 3, 1, 1, 1, 1, 1]
    assert (await stage.service.get(operation.id)).done == 1


async def test_batches_leave_most_of_the_time_to_dispatches(stage: Stage) -> None:
    """A slow one is followed by a long rest, and by a smaller one; a quick one by a larger one."""
    await stored(stage.store, *(a_job() for _ in range(1_000)))
    await stage.begin()
    taken = rested = 0.0
    for seconds in (0.0, 0.0, 0.0, 0.5, 2.0):
        stage.bulk.seconds = seconds
        assert stage.is_due()
        await stage.chore.work()
        ended = stage.clock.now()
        assert stage.chore.next_at is not None
        rest = (stage.chore.next_at - ended).total_seconds()
        taken, rested = taken + seconds, rested + rest
        stage.clock.advance(rest)

    assert stage.bulk.steps == [50, 100, 200, 400, 200]
    assert taken / (taken + rested) <= SHARE + 0.01


async def test_what_took_its_time_to_be_cancelled_comes_back(stage: Stage) -> None:
    """The changes are of the instant that the batch is of."""
    job = await added(stage.store)
    stage.bulk.seconds = 0.1
    operation = await stage.begin()
    assert stage.is_due()
    await stage.chore.work()
    await stage.service.undo(operation.id, reason="so", operator=Operator(actor="ada"))
    await stage.limits.read(stage.clock.now())

    assert stage.is_due()
    await stage.chore.work()

    (stands,) = await stage.store.get([job.id])
    assert stands.phase is Phase.PENDING


async def test_workers_are_told_what_to_stop(stage: Stage) -> None:
    """Each one that executes a job which is to be cancelled."""
    job = await in_phase(stage.store, Phase.CLAIMED)
    assert job.worker_id is not None
    await stage.begin()
    waiting = stage.signal.wait(cancellation(job.worker_id), timeout_seconds=0.0)

    assert stage.is_due()
    await stage.chore.work()

    assert await waiting
    assert [fact.job_id for fact in stage.telemetry.of(JobCancelRequested)] == [job.id]
    (stands,) = await stage.store.get([job.id])
    assert (stands.status, stands.cancel_requested) == (JobStatus.RUNNING, True)


async def test_a_scheduler_goes_on_when_batches_fail() -> None:
    """It tells of the failure, and dispatches."""
    system = memory_system(use_cases=["notifications"])
    await system.service.enqueue(a_request())
    await begun(system.bulk, BulkAction.RETRY)

    async def fails(*args: object, **given: object) -> Stepped:
        raise Unavailable("the database did not answer")

    system.scheduler._bulk._bulk.step = fails  # type: ignore[union-attr,method-assign]
    first = await system.scheduler.tick()
    system.clock.advance(LOOK_AGAIN_SECONDS)
    await system.scheduler.tick()

    assert first.leased == 1
    assert [fact.chore for fact in system.telemetry.of(ChoreSkipped)] == ["bulk"]
