"""The life of a worker: queues that fail, and telling others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from async_jobs.application.handling.registry import JobContext
from async_jobs.application.working.watchdog import WorkerStalledError
from async_jobs.domain.errors import ConfigurationError, Unavailable
from async_jobs.domain.job import JobStatus
from async_jobs.domain.lifecycle import (
    Renewed,
)
from async_jobs.ports.workers import WorkerInfo
from async_jobs.testing.builders import later
from async_jobs.testing.contracts.scenes import all_jobs, happened
from tests.unit.application.faults import unavailable
from tests.unit.application.stage import (
    Runs,
    Stage,
    Stubborn,
    stopped,
)

# --- Failures of the lane ---------------------------------------------------------------------


async def test_receives_that_fail_are_told_and_repeated_with_pauses(
    stage: Stage, runs: Runs
) -> None:
    """Longer ones each time; when the lane is back, its jobs run."""
    runs.may_end.set()
    job = await stage.handed_off()
    await happened(stage.memory, job, Renewed(later(600)))
    stage.queue().down = True

    async with stage.running(stage.worker()):
        await stage.elapse(60)
        failures = len(stage.errors)
        stage.queue().down = False
        await stage.elapse(15)

    assert 6 <= failures <= 15
    assert {type(error) for error in stage.errors} == {Unavailable}
    assert (await stage.job(job)).status is JobStatus.SUCCEEDED


async def test_a_worker_that_receives_nothing_for_too_long_gives_up(stage: Stage) -> None:
    """The process should end and be replaced; until then it is not ready."""
    worker = stage.worker(stall_seconds=120)

    async with stopped(stage, worker) as task:
        healthy = worker.ready()
        stage.queue().down = True
        await stage.elapse(60)
        sick = worker.ready()
        await stage.elapse(50)
        alive = not task.done()
        await stage.elapse(30)
        error = task.exception() if task.done() else None

    assert (healthy, sick, alive) == (True, False, True)
    assert isinstance(error, WorkerStalledError)


async def test_a_receive_that_never_returns_is_a_stall(stage: Stage) -> None:
    """No error is ever raised, and nothing ever comes."""
    silence = asyncio.Event()
    stage.queue().before("receive", silence.wait)

    async with stopped(stage, stage.worker(stall_seconds=60)) as task:
        await stage.elapse(90)
        error = task.exception() if task.done() else None

    assert isinstance(error, WorkerStalledError)


async def test_a_worker_whose_slots_are_all_stuck_gives_up(stage: Stage, runs: Runs) -> None:
    """It is not ready, takes no further job meanwhile, and gives back what waits in it."""
    stubborn = [Stubborn(), Stubborn()]
    for number, each in enumerate(stubborn):
        stage.registry.register(f"stubborn-{number}", each)
        await stage.handed_off(type=f"stubborn-{number}", max_attempts=1)
    worker = stage.worker(slots=2, job_timeout_seconds=5, stall_seconds=60, drain_timeout_seconds=0)

    async with stopped(stage, worker) as task:
        await stage.elapse(4)
        busy = worker.ready()
        waiting = await stage.handed_off()
        await stage.elapse(10)
        stuck = worker.ready()
        back = await stage.job(waiting)
        alive = not task.done()
        await stage.elapse(60)
        error = task.exception() if task.done() else None
        for each in stubborn:
            each.may_end.set()

    assert (busy, stuck, alive) == (True, False, True)
    assert (back.started_at, back.attempts, back.worker_id) == (None, 0, None)
    assert isinstance(error, WorkerStalledError)
    assert "every slot" in str(error)


async def test_a_lane_that_works_does_not_hide_one_that_does_not(stage: Stage) -> None:
    """Its jobs wait for a worker that can receive them."""
    lanes = [stage.queue("notifications"), stage.queue("reports")]
    lanes[1].down = True
    worker = stage.worker(*lanes, stall_seconds=60)

    async with stopped(stage, worker) as task:
        await stage.elapse(30)
        ready = worker.ready()
        await stage.elapse(60)
        error = task.exception() if task.done() else None

    assert not ready
    assert isinstance(error, WorkerStalledError)


async def test_a_wrong_configuration_ends_the_worker_at_once(stage: Stage) -> None:
    """Waiting would not mend a missing schema; whoever deployed it should learn of it now."""

    async def refuse() -> None:
        raise ConfigurationError("the database lacks the async_jobs schema")

    stage.queue().before("receive", refuse)
    async with stopped(stage, stage.worker()) as task:
        await stage.elapse(1)
        error = task.exception() if task.done() else None

    assert isinstance(error, ConfigurationError)


async def test_an_idle_worker_does_not_stall(stage: Stage) -> None:
    """It receives nothing, but it does receive."""
    worker = stage.worker(stall_seconds=30)

    async with stopped(stage, worker) as task:
        await stage.elapse(200)
        alive, ready = not task.done(), worker.ready()

    assert (alive, ready) == (True, True)


@pytest.mark.parametrize("ends_at", [100.0, 100.2, 100.5])
async def test_a_worker_whose_slots_are_all_busy_does_not_stall(
    stage: Stage, ends_at: float
) -> None:
    """It has no room to receive anything, and is ready all the same."""

    @stage.registry.handler("send_email")
    async def send_email(ctx: JobContext, payload: Any) -> None:
        await stage.clock.sleep(ends_at)

    worker = stage.worker(slots=1, stall_seconds=30)
    job = await stage.handed_off()
    async with stopped(stage, worker) as task:
        await stage.elapse(90)
        ready = worker.ready()
        await stage.elapse(30, step_seconds=0.1)
        alive = not task.done()

    assert (ready, alive) == (True, True)
    assert (await stage.job(job)).status is JobStatus.SUCCEEDED


async def test_a_long_drain_is_no_stall(stage: Stage, runs: Runs) -> None:
    """A worker that shuts down receives nothing on purpose, and looks after its handlers."""
    job = await stage.handed_off()
    worker = stage.worker(stall_seconds=30, drain_timeout_seconds=300, job_timeout_seconds=100)

    async with stopped(stage, worker) as task:
        pass

    assert task.exception() is None
    assert 100 <= stage.clock.monotonic() <= 105
    assert (await stage.job(job)).last_error == "timed out after 100 s"


# --- Telling others ---------------------------------------------------------------------------


async def test_a_worker_announces_itself(stage: Stage, runs: Runs) -> None:
    """With its lanes, its slots and how many are taken; again and again."""
    await stage.handed_off()

    async with stage.running(stage.worker(stage.queue("notifications"), stage.queue("reports"))):
        await stage.elapse(20)
        (worker,) = await stage.workers.live(stage.clock.now())
        runs.may_end.set()

    assert worker == WorkerInfo(
        worker_id="worker-1",
        queues=("notifications", "reports"),
        slots=10,
        busy=1,
        host="unknown",
        version="unknown",
        seen_at=later(20),
        alive_until=later(35),
        types=("send_email",),
    )


async def test_a_worker_tells_how_long_attempts_of_each_type_ran(stage: Stage) -> None:
    """Those that ran to an end of their own, whatever came of it."""

    @stage.registry.handler("works")
    async def works(ctx: JobContext, payload: Any) -> None:
        await stage.clock.sleep(3)

    @stage.registry.handler("fails")
    async def fails(ctx: JobContext, payload: Any) -> None:
        await stage.clock.sleep(4)
        raise ValueError

    for type in ("works", "fails"):
        await stage.handed_off(type=type)
    async with stage.running(stage.worker(heartbeat_seconds=1)):
        before = await stage.workers.live(stage.clock.now())
        await stage.elapse(10)
        after = await stage.workers.live(stage.clock.now())

    assert [worker.run_times for worker in before] == [{}]
    assert [worker.run_times for worker in after] == [{"works": 3, "fails": 4}]


async def test_attempts_that_were_stopped_tell_nothing_of_run_times(
    stage: Stage, runs: Runs
) -> None:
    """They would have run longer, or not at all."""
    stage.registry.register("cancelled", runs)
    await stage.handed_off()
    cancelled = await stage.handed_off(type="cancelled")
    worker = stage.worker(heartbeat_seconds=1, job_timeout_seconds=5, lease_seconds=9)

    async with stage.running(worker):
        await stage.service().cancel_job(cancelled.id)
        await stage.elapse(10)
        (told,) = await stage.workers.live(stage.clock.now())

    assert len(runs.started) == 2
    assert (runs.now, told.run_times) == (0, {})


class NoRegister:
    """Implements `Workers`: nobody answers."""

    async def announce(self, worker: WorkerInfo) -> None:
        await unavailable()

    async def live(self, now: datetime) -> Sequence[WorkerInfo]:
        await unavailable()
        return ()

    async def withdraw(self, worker_id: str) -> None:
        await unavailable()


async def test_a_worker_needs_no_register_to_work(stage: Stage, runs: Runs) -> None:
    """The register is never needed for correctness."""
    runs.may_end.set()
    job = await stage.handed_off()

    async with stage.running(stage.worker(workers=NoRegister())):
        await stage.elapse(6)

    assert (await stage.job(job)).status is JobStatus.SUCCEEDED
    assert {type(error) for error in stage.errors} == {Unavailable}


async def test_the_whole_way_of_many_jobs(stage: Stage) -> None:
    """Scheduler and workers in their loops, fast and slow handlers, every job once."""
    ran: list[str] = []

    @stage.registry.handler("send_email")
    async def send_email(ctx: JobContext, payload: dict[str, Any]) -> None:
        await stage.clock.sleep(payload["seconds"])
        ran.append(str(ctx.job_id))

    from async_jobs.testing.builders import a_request

    service = stage.service()
    scheduling = asyncio.Event()
    scheduler = asyncio.create_task(stage.scheduler().run(scheduling, stage.errors.append))
    async with stage.running(*(stage.worker(worker_id=f"worker-{i}", slots=3) for i in range(3))):
        for i in range(30):
            await service.enqueue(a_request(payload={"seconds": i % 4}))
        await stage.elapse(20)
    scheduling.set()
    await scheduler

    jobs = await all_jobs(stage.memory)
    assert len(ran) == len(set(ran)) == len(jobs) == 30
    assert {(job.status, job.attempts) for job in jobs} == {(JobStatus.SUCCEEDED, 1)}
    assert max(job.finished_at or later(0) for job in jobs) <= later(0) + timedelta(seconds=20)
