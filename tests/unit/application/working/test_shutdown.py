"""A worker that is told to stop: what it gives back, what it waits for, and when it ends."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from async_jobs.application.handling.registry import JobContext
from async_jobs.domain.facts import (
    HandlerStuck,
    JobReleased,
)
from async_jobs.domain.job import JobStatus, Phase
from tests.unit.application.stage import (
    Runs,
    Stage,
    Stubborn,
    is_empty,
    phases,
    quiet,
    until,
)


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
