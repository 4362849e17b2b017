"""The life of a worker: shutting down, lanes that fail, and telling others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from async_jobs.application.handling.registry import JobContext
from async_jobs.application.working.worker import WorkerStalledError
from async_jobs.domain.errors import ConfigurationError, Unavailable
from async_jobs.domain.facts import (
    HandlerStuck,
    JobReleased,
)
from async_jobs.domain.job import JobStatus, Phase
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
    is_empty,
    phases,
    quiet,
    stopped,
    until,
)

# --- Shutting down ----------------------------------------------------------------------------


async def test_an_idle_worker_stops_when_its_open_receive_ends(stage: Stage) -> None:
    """The receive is not cancelled, for that could strand what it was about to bring."""
    stop = asyncio.Event()
    task = asyncio.create_task(stage.worker(poll_interval_seconds=3).run(stop))
    await quiet()

    stop.set()
    seconds = await stage.seconds_until_done(task, at_most=10)

    assert 2 <= seconds < 4


async def test_what_an_open_receive_brings_is_given_back(stage: Stage, runs: Runs) -> None:
    """Unclaimed, visible at once to other workers."""
    async with stage.running(stage.worker(poll_interval_seconds=3)) as stop:
        stop.set()
        await quiet()
        job = await stage.handed_off()
        await quiet()

    assert runs.started == []
    assert (await stage.job(job)).phase is Phase.HANDED_OFF
    assert await stage.queue().inner.depth() == 1


async def test_what_was_claimed_and_not_started_is_released(stage: Stage, runs: Runs) -> None:
    """Due at once, its attempt refunded; the one that runs gets its time."""
    running, *waiting = [await stage.handed_off() for _ in range(3)]

    async with stage.running(stage.worker(slots=1, prefetch=3)) as stop:
        stop.set()
        await quiet()
        runs.may_end.set()
        await quiet()

    assert await phases(stage, [running, *waiting]) == [
        Phase.SUCCEEDED,
        Phase.PENDING,
        Phase.PENDING,
    ]
    assert len(runs.started) == 1
    assert [(await stage.job(job)).attempts for job in waiting] == [0, 0]


async def test_a_claim_under_way_when_the_worker_stops_is_released(
    stage: Stage, runs: Runs
) -> None:
    """A slot was free, but no handler starts any more."""
    async with stage.running(stage.worker()) as stop:

        async def shut_down() -> None:
            stop.set()
            await quiet()

        stage.store.before("claim", shut_down)
        job = await stage.handed_off()
        await quiet()

    released = await stage.job(job)
    assert runs.started == []
    assert (released.phase, released.attempts) == (Phase.PENDING, 0)
    assert await is_empty(stage)


async def test_handlers_get_their_time_to_finish(stage: Stage, runs: Runs) -> None:
    """Up to the drain timeout; the worker ends as soon as they have."""
    job = await stage.handed_off()
    stop = asyncio.Event()
    task = asyncio.create_task(stage.worker(drain_timeout_seconds=25).run(stop))
    await quiet()

    stop.set()
    await stage.elapse(20)
    running = runs.now
    runs.may_end.set()
    seconds = await stage.seconds_until_done(task, at_most=5)

    assert (running, seconds) == (1, 0)
    assert (await stage.job(job)).status is JobStatus.SUCCEEDED


async def test_what_runs_after_that_is_cancelled_and_released(stage: Stage, runs: Runs) -> None:
    """Nothing is lost and no attempt is charged."""
    job = await stage.handed_off()
    stop = asyncio.Event()
    task = asyncio.create_task(stage.worker(drain_timeout_seconds=25).run(stop))
    await quiet()

    stop.set()
    seconds = await stage.seconds_until_done(task, at_most=60)

    released = await stage.job(job)
    assert 25 <= seconds <= 26
    assert (released.phase, released.attempts, released.run_at) == (Phase.PENDING, 0, job.run_at)
    assert [fact.job_id for fact in stage.telemetry.of(JobReleased)] == [job.id]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_handler_that_does_not_stop_does_not_keep_the_worker(
    stage: Stage, thread_may_end: threading.Event, is_async: bool
) -> None:
    """It is told, its job is released, and the process may end within the promised time."""
    stubborn = Stubborn()

    def stubborn_thread(ctx: JobContext, payload: Any) -> None:
        stubborn.started += 1
        thread_may_end.wait(30)

    stage.registry.register("send_email", stubborn if is_async else stubborn_thread)
    job = await stage.handed_off()
    stop = asyncio.Event()
    worker = stage.worker(drain_timeout_seconds=25)
    task = asyncio.create_task(worker.run(stop))
    await until(lambda: stubborn.started)

    stop.set()
    seconds = await stage.seconds_until_done(task, at_most=60)
    still_running = worker.running
    stubborn.may_end.set()
    thread_may_end.set()
    await quiet()

    assert (seconds <= 25 + 5, still_running) == (True, 1)
    assert len(stage.telemetry.of(HandlerStuck)) == 1
    released = await stage.job(job)
    assert (released.phase, released.attempts) == (Phase.PENDING, 0)


async def test_a_worker_ends_in_time_though_nothing_answers_any_more(stage: Stage) -> None:
    """Neither the lane, nor the store, nor the handler."""
    stubborn = Stubborn()
    stage.registry.register("send_email", stubborn)
    job = await stage.handed_off()
    silence = asyncio.Event()
    stop = asyncio.Event()
    task = asyncio.create_task(stage.worker(slots=2, drain_timeout_seconds=25).run(stop))
    await quiet()
    stage.queue().before("receive", silence.wait)
    await stage.elapse(2)

    stop.set()
    stage.store.down = True
    seconds = await stage.seconds_until_done(task, at_most=60)
    stubborn.may_end.set()
    await quiet()

    assert seconds <= 25 + 5
    assert (await stage.job(job)).phase is Phase.CLAIMED


async def test_a_lane_that_fails_does_not_delay_the_end(stage: Stage) -> None:
    """Its pause is over when the worker stops."""
    stage.queue().down = True
    stop = asyncio.Event()
    task = asyncio.create_task(stage.worker().run(stop))
    await stage.elapse(60)

    stop.set()
    seconds = await stage.seconds_until_done(task, at_most=60)

    assert seconds == 0


async def test_a_worker_waits_by_its_clock_alone(stage: Stage) -> None:
    """While the clock stands still nothing ends, however many turns others have."""
    silence = asyncio.Event()
    stage.queue().before("receive", silence.wait)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_at = loop.call_at

    def noting(when: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *args, **kwargs)

    loop.call_at = noting  # type: ignore[assignment]
    task = asyncio.create_task(stage.worker().run(stop))
    await quiet()
    stop.set()
    await quiet()
    still = not task.done()
    silence.set()
    await stage.seconds_until_done(task, at_most=60)

    assert still
    assert timers == []


async def test_nothing_is_left_behind(stage: Stage, runs: Runs) -> None:
    """No task, and no worker that counts as alive."""
    await stage.handed_off()
    runs.may_end.set()

    async with stage.running(stage.worker()):
        announced = await stage.workers.live(stage.clock.now())
    await quiet()

    assert len(announced) == 1
    assert await stage.workers.live(stage.clock.now()) == []
    assert len(asyncio.all_tasks()) == 1


async def test_a_cancelled_worker_shuts_down_like_a_stopped_one(stage: Stage, runs: Runs) -> None:
    """Whoever owns the task may just cancel it."""
    job = await stage.handed_off()
    task = asyncio.create_task(stage.worker(drain_timeout_seconds=5).run(asyncio.Event()))
    await quiet()

    task.cancel()
    seconds = await stage.seconds_until_done(task, at_most=60)

    assert task.cancelled()
    assert seconds <= 5 + 5
    assert (await stage.job(job)).phase is Phase.PENDING
    assert len(asyncio.all_tasks()) == 1


async def test_what_is_no_outcome_ends_the_worker(stage: Stage, runs: Runs) -> None:
    """Something is wrong with the process, not with the job; others must not go down with it."""

    @stage.registry.handler("break")
    async def break_all(ctx: JobContext, payload: Any) -> None:
        raise GeneratorExit

    other = await stage.handed_off()
    await stage.handed_off(type="break")

    with pytest.raises(GeneratorExit):
        await stage.worker(slots=2, drain_timeout_seconds=0).run(asyncio.Event())

    assert (await stage.job(other)).phase is Phase.PENDING


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
