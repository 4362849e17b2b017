"""The worker: receive, claim, run, settle, in rounds and in its loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import suppress
from typing import Any

import pytest

from async_jobs.adapters.memory.queue import MemoryJobQueue
from async_jobs.application import failpoints
from async_jobs.application.handling.outcomes import Reject, Snooze
from async_jobs.application.handling.registry import JobContext
from async_jobs.application.working.claiming import TRIES_MAX
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.crashes import CRASHES_MAX
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.facts import (
    HandlerMissing,
    JobStarted,
    PoisonDropped,
)
from async_jobs.domain.job import JobStatus, Phase
from async_jobs.domain.lifecycle import (
    HandOffFailed,
    Renewed,
)
from async_jobs.testing.builders import later
from async_jobs.testing.clocks import let_others_run
from async_jobs.testing.contracts.scenes import happened, race
from tests.unit.application.faults import Killed, die, unavailable
from tests.unit.application.stage import (
    Runs,
    Stage,
    handoff_of,
    is_empty,
    phases,
    quiet,
    stopped,
    until,
)

DELAYS = BackoffPolicy(base_delay_seconds=30, jitter=0)


# --- One round --------------------------------------------------------------------------------


async def test_a_round_runs_what_is_there(stage: Stage) -> None:
    """To the end, settled; the attempt is charged."""
    job = await stage.handed_off()

    @stage.registry.handler("send_email")
    async def send_email(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        return {"sent_to": payload["to"]}

    ran = await stage.worker().step()

    done = await stage.job(job)
    assert (ran, done.status, done.attempts) == (1, JobStatus.SUCCEEDED, 1)
    assert done.result == {"sent_to": "somebody@example.com"}


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_slot_remembers_nothing_of_the_job_before(stage: Stage, is_async: bool) -> None:
    """What one tenant's handler sets, the next job does not see; what its caller set, it does."""
    tenant = contextvars.ContextVar("tenant", default="nobody")
    seen: list[str] = []

    async def handler(ctx: JobContext, payload: dict[str, Any]) -> None:
        seen.append(tenant.get())
        tenant.set(ctx.tenant_id)

    def sync_handler(ctx: JobContext, payload: dict[str, Any]) -> None:
        seen.append(tenant.get())
        tenant.set(ctx.tenant_id)

    stage.registry.register("send_email", handler if is_async else sync_handler)
    for _ in range(9):
        await stage.handed_off()

    tenant.set("the caller")
    async with stage.running(stage.worker(slots=1, prefetch=4)):
        await until(lambda: len(seen) == 9)

    assert seen == ["the caller"] * 9


async def test_a_round_without_work_is_empty(stage: Stage) -> None:
    """It does not wait."""
    assert await stage.worker().step() == 0


async def test_everything_received_is_acked(stage: Stage, runs: Runs) -> None:
    """Claimed, stale and poison alike: none of it ever comes back."""
    runs.may_end.set()
    job = await stage.handed_off()
    stale = await stage.handed_off()
    await happened(stage.memory, stale, HandOffFailed("throttled"))
    stage.queue().inner.put("no hand-off")

    ran = await stage.worker().step()

    assert ran == 1
    assert [ctx.job_id for ctx in runs.started] == [job.id]
    assert len(stage.telemetry.of(PoisonDropped)) == 1
    assert await is_empty(stage)


async def test_a_job_delivered_many_times_runs_once(stage: Stage, runs: Runs) -> None:
    """In one batch, in a later one, and by another worker at the same time."""
    runs.may_end.set()
    job = await stage.handed_off()
    for _ in range(5):
        stage.queue().inner.put(handoff_of(job))
    workers = [stage.worker(worker_id=f"worker-{i}", slots=2) for i in range(2)]

    for _ in range(3):
        await race(*(worker.step() for worker in workers))

    assert len(runs.started) == len(stage.telemetry.of(JobStarted)) == 1
    assert (await stage.job(job)).attempts == 1


async def test_a_transport_that_duplicates_and_reorders_changes_nothing(runs: Runs) -> None:
    """Every job runs once."""
    stage = Stage()
    stage.registry.register("send_email", runs)
    runs.may_end.set()
    lane = MemoryJobQueue("lane", clock=stage.clock, copies=3, newest_first=True)
    for _ in range(6):
        lane.put(handoff_of(await stage.handed_off()))
    worker = stage.worker(lane, slots=4)

    while await lane.depth():
        await worker.step()

    assert len({ctx.job_id for ctx in runs.started}) == len(runs.started) == 6


async def test_a_round_runs_no_more_than_its_slots_at_once(stage: Stage, runs: Runs) -> None:
    """However many lanes there are; what is left is for the next one."""
    lanes = [stage.queue(name) for name in ("notifications", "reports", "alerts")]
    jobs = [await stage.handed_off(queue=lane.name) for lane in lanes * 2]
    runs.may_end.set()
    worker = stage.worker(*lanes, slots=3)

    ran = [await worker.step() for _ in range(3)]

    assert (ran, runs.most) == ([3, 3, 0], 3)
    assert await phases(stage, jobs) == [Phase.SUCCEEDED] * 6


async def test_a_round_that_is_cancelled_stops_its_handlers(stage: Stage, runs: Runs) -> None:
    """Their jobs are given back in the next round."""
    job = await stage.handed_off()
    worker = stage.worker()
    stepping = asyncio.create_task(worker.step())
    await until(lambda: len(runs.started) == 1)

    stepping.cancel()
    with suppress(asyncio.CancelledError):
        await stepping
    await quiet()

    assert stepping.cancelled()
    assert not worker.running
    await worker.step()
    assert (await stage.job(job)).phase is Phase.PENDING


class PanicError(BaseException):
    """As extension modules raise it for data that they cannot take."""


async def test_no_lane_waits_for_ever_behind_a_full_one(stage: Stage, runs: Runs) -> None:
    """The rounds begin with another lane each time."""
    lanes = [stage.queue("notifications"), stage.queue("reports")]
    for _ in range(4):
        await stage.handed_off()
    last = await stage.handed_off(queue="reports")
    runs.may_end.set()
    worker = stage.worker(*lanes, slots=1)

    for _ in range(2):
        await worker.step()

    assert (await stage.job(last)).status is JobStatus.SUCCEEDED


async def test_a_claim_that_fails_gives_its_deliveries_back(stage: Stage, runs: Runs) -> None:
    """To whoever can reach the store."""
    await stage.handed_off()
    stage.store.before("claim", *[unavailable] * TRIES_MAX)

    with suppress(Unavailable):
        await race(stage.worker().step(), stage.elapse(8))

    assert await stage.queue().inner.depth() == 1
    assert runs.started == []


# --- Crashes ----------------------------------------------------------------------------------


async def test_a_worker_that_dies_before_the_claim_costs_a_visibility_timeout(
    stage: Stage, runs: Runs
) -> None:
    """Another one receives the message again."""
    runs.may_end.set()
    job = await stage.handed_off()
    await happened(stage.memory, job, Renewed(later(300)))
    with (
        failpoints.armed(failpoints.WORKER_AFTER_RECEIVE_BEFORE_CLAIM, die),
        suppress(Killed),
    ):
        await stage.worker().step()

    hidden = await stage.worker(worker_id="worker-2").step()
    stage.clock.advance(60)
    ran = await stage.worker(worker_id="worker-2").step()

    assert (hidden, ran) == (0, 1)
    assert (await stage.job(job)).attempts == 1


async def test_a_job_that_kills_its_worker_ends_up_dead(stage: Stage, runs: Runs) -> None:
    """`worker.after_claim_before_handler`: a crash for each worker, and no attempt."""
    runs.may_end.set()
    job = await stage.handed_off(max_attempts=2, backoff_policy=DELAYS)
    scheduler = stage.scheduler()
    with (
        failpoints.armed(failpoints.WORKER_AFTER_CLAIM_BEFORE_HANDLER, die),
    ):
        for _ in range(CRASHES_MAX + 2):
            with suppress(Killed):
                await stage.worker().step()
            stage.clock.advance(60)
            await scheduler.tick()
            stage.clock.advance(30 * 2**CRASHES_MAX)
            await scheduler.tick()

    dead = await stage.job(job)
    assert (dead.status, dead.attempts, dead.crashes) == (JobStatus.DEAD, 0, CRASHES_MAX)
    assert dead.last_error == f"lease expired: its worker died {CRASHES_MAX} times"


# --- Running ----------------------------------------------------------------------------------


async def test_a_worker_runs_async_and_sync_handlers(stage: Stage) -> None:
    """Side by side."""
    threads: list[bool] = []

    @stage.registry.handler("async")
    async def async_handler(ctx: JobContext, payload: dict[str, Any]) -> str:
        return "async"

    @stage.registry.handler("sync")
    def sync_handler(ctx: JobContext, payload: dict[str, Any]) -> str:
        threads.append(threading.current_thread() is threading.main_thread())
        return "sync"

    jobs = [await stage.handed_off(type=kind) for kind in ("async", "sync")]
    async with stage.running(stage.worker()):
        await until(lambda: len(threads) == 1)

    assert [(await stage.job(job)).result for job in jobs] == ["async", "sync"]
    assert threads == [False]


async def test_the_lease_in_the_database_is_the_truth_once_a_job_is_claimed(
    stage: Stage, runs: Runs
) -> None:
    """The message is gone while the handler runs: no visibility timeout has to cover it."""
    await stage.handed_off()

    async with stage.running(stage.worker()):
        await stage.elapse(120, step_seconds=5)
        running = runs.now
        runs.may_end.set()

    assert (running, len(runs.started)) == (1, 1)
    assert await is_empty(stage)


async def test_no_more_jobs_run_at_once_than_there_are_slots(stage: Stage, runs: Runs) -> None:
    """And no more are received than there is room for."""
    jobs = [await stage.handed_off() for _ in range(7)]

    async with stage.running(stage.worker(slots=3)):
        await stage.elapse(3)
        claimed = (await phases(stage, jobs)).count(Phase.CLAIMED)
        runs.may_end.set()
        await quiet()

    assert (runs.most, claimed) == (3, 3)
    assert max(stage.queue().room) == 3
    assert await phases(stage, jobs) == [Phase.SUCCEEDED] * 7


async def test_a_bounded_number_of_claimed_jobs_may_wait_for_a_slot(
    stage: Stage, runs: Runs
) -> None:
    """The prefetch."""
    jobs = [await stage.handed_off() for _ in range(7)]

    async with stage.running(stage.worker(slots=2, prefetch=3)):
        await stage.elapse(3)
        claimed = (await phases(stage, jobs)).count(Phase.CLAIMED)
        running = runs.now
        runs.may_end.set()
        await quiet()

    assert (running, claimed, runs.most) == (2, 5, 2)


async def test_a_slot_that_is_free_is_filled_at_once(stage: Stage, runs: Runs) -> None:
    """The clock has not moved."""
    jobs = [await stage.handed_off() for _ in range(9)]
    runs.may_end.set()

    async with stage.running(stage.worker(slots=1)):
        await let_others_run(400)
        ended = await phases(stage, jobs)

    assert ended == [Phase.SUCCEEDED] * 9


async def test_two_lanes_share_the_slots(stage: Stage, runs: Runs) -> None:
    """Both are served, and together they run no more than there are slots."""
    lanes = [stage.queue("notifications"), stage.queue("reports")]
    jobs = [await stage.handed_off(queue=lane.name) for lane in lanes * 6]

    async with stage.running(stage.worker(*lanes, slots=4)):
        await stage.elapse(3)
        served = {ctx.job_id for ctx in runs.started}
        runs.may_end.set()
        await stage.elapse(5)

    assert (len(served), runs.most) == (4, 4)
    assert len({job.queue for job in jobs if job.id in served}) == 2
    assert await phases(stage, jobs) == [Phase.SUCCEEDED] * 12


@pytest.mark.parametrize("busy", ["notifications", "reports", "alerts"])
async def test_every_lane_is_served_though_there_are_fewer_slots_than_lanes(
    stage: Stage, runs: Runs, busy: str
) -> None:
    """An empty lane does not keep its place for ever."""
    lanes = [stage.queue(name) for name in ("notifications", "reports", "alerts")]
    runs.may_end.set()

    async with stage.running(stage.worker(*lanes, slots=1)):
        await stage.elapse(5)
        job = await stage.handed_off(queue=busy)
        await stage.elapse(5)
        done = await stage.job(job)

    assert done.status is JobStatus.SUCCEEDED


async def test_one_lane_alone_may_use_all_slots(stage: Stage, runs: Runs) -> None:
    """The other one is empty."""
    lanes = [stage.queue("notifications"), stage.queue("reports")]
    for _ in range(4):
        await stage.handed_off()

    async with stage.running(stage.worker(*lanes, slots=4)):
        await stage.elapse(5)
        running = runs.now
        runs.may_end.set()

    assert running == 4


async def test_a_lane_that_fails_does_not_hold_the_others_places(stage: Stage, runs: Runs) -> None:
    """While it pauses, the one slot is the other lane's."""
    lanes = [stage.queue("notifications"), stage.queue("reports")]
    lanes[0].down = True
    runs.may_end.set()

    async with stage.running(stage.worker(*lanes, slots=1)):
        await stage.elapse(30)
        job = await stage.handed_off(queue="reports")
        await stage.elapse(1.5)
        done = await stage.job(job)

    assert done.status is JobStatus.SUCCEEDED


async def test_a_handler_that_fails_is_tried_again_after_its_backoff(stage: Stage) -> None:
    """What the handler raised is kept with the job."""
    job = await stage.handed_off(backoff_policy=DELAYS)

    @stage.registry.handler("send_email")
    async def send_email(ctx: JobContext, payload: dict[str, Any]) -> None:
        raise ValueError("boom")

    async with stage.running(stage.worker()):
        await quiet()
        back = await stage.job(job)

    assert (back.phase, back.run_at, back.attempts) == (Phase.PENDING, later(30), 1)
    assert back.last_error == "ValueError: boom"


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(1),
        KeyboardInterrupt(),
        PanicError("no"),
        asyncio.CancelledError(),
        Reject(ValueError("x")),  # type: ignore[arg-type]
        Snooze(5),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("is_async", [True, False])
async def test_nothing_a_handler_raises_ends_the_worker(
    stage: Stage, runs: Runs, error: BaseException, is_async: bool
) -> None:
    """The next job runs in the same slot."""

    async def fail(ctx: JobContext, payload: Any) -> None:
        raise error

    def fail_in_thread(ctx: JobContext, payload: Any) -> None:
        raise error

    stage.registry.register("fails", fail if is_async else fail_in_thread)
    runs.may_end.set()
    failing = await stage.handed_off(type="fails")
    next_one = await stage.handed_off()

    async with stopped(stage, stage.worker(slots=1)) as task:
        await until(lambda: runs.started)
        await quiet()
        alive = not task.done()

    assert alive
    assert await phases(stage, [next_one]) == [Phase.SUCCEEDED]
    assert (await phases(stage, [failing]))[0] in (Phase.PENDING, Phase.DEAD)


async def test_a_job_of_an_unknown_type_waits_for_a_worker_that_knows_it(
    stage: Stage, runs: Runs
) -> None:
    """It is told, never ended by a bystander, and no attempt is charged."""
    job = await stage.handed_off(type="brand_new", max_attempts=1)

    async with stage.running(stage.worker(slots=1, missing_handler_delay_seconds=30)):
        await quiet()
        waiting = await stage.job(job)

    assert (waiting.phase, waiting.attempts) == (Phase.PENDING, 0)
    assert waiting.run_at == later(30)
    (fact,) = stage.telemetry.of(HandlerMissing)
    assert (fact.job_id, fact.type) == (job.id, "brand_new")


async def test_jobs_of_unknown_types_take_no_slot(stage: Stage, runs: Runs) -> None:
    """The next one runs at once."""
    runs.may_end.set()
    for _ in range(3):
        await stage.handed_off(type="brand_new")
    job = await stage.handed_off()

    async with stage.running(stage.worker(slots=1)):
        await let_others_run(200)
        done = await stage.job(job)

    assert done.status is JobStatus.SUCCEEDED
