"""The worker: receive, claim, run, settle, and what happens when any of it goes wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import pytest

from async_jobs.adapters.memory.queue import MemoryJobQueue
from async_jobs.application import failpoints
from async_jobs.application.outcomes import Reject, Snooze
from async_jobs.application.registry import JobContext
from async_jobs.application.renewal import Renewals
from async_jobs.application.worker import Worker, WorkerStalledError
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.errors import ConfigurationError, Unavailable
from async_jobs.domain.facts import (
    HandlerMissing,
    HandlerStuck,
    JobCancelled,
    JobReleased,
    JobStarted,
    PoisonDropped,
    StaleOutcomeDropped,
)
from async_jobs.domain.job import Job, JobStatus, Phase
from async_jobs.domain.lifecycle import (
    CancelRequested,
    HandOffFailed,
    LeaseExpired,
    Renewed,
)
from async_jobs.ports.workers import WorkerInfo
from async_jobs.testing.builders import later
from async_jobs.testing.clocks import let_others_run
from async_jobs.testing.contracts.scenes import all_jobs, happened, race
from tests.unit.application.stage import Runs, Stage, handoff_of, quiet, unavailable, until

DELAYS = BackoffPolicy(base_delay_seconds=30)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def runs(stage: Stage) -> Runs:
    """The handler of `send_email` that the test lets end."""
    runs = Runs()
    stage.registry.register("send_email", runs)
    return runs


@pytest.fixture
def thread_may_end() -> Iterator[threading.Event]:
    """Set after the test, whatever happens, so that no thread outlives it."""
    event = threading.Event()
    yield event
    event.set()


async def phases(stage: Stage, jobs: Sequence[Job]) -> list[Phase]:
    """Return where the jobs stand, in order."""
    return [(await stage.job(job)).phase for job in jobs]


async def is_empty(stage: Stage, queue: str = "notifications") -> bool:
    """Tell whether a lane holds nothing, not even what was received and not acked."""
    stage.clock.advance(600)
    return await stage.queue(queue).inner.depth() == 0


@asynccontextmanager
async def stopped(stage: Stage, worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """Run a worker for the length of a block, which gets its task, then see how it ended."""
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    await quiet()
    try:
        yield task
    finally:
        stop.set()
        await stage.seconds_until_done(task, at_most=120)


class Stubborn:
    """An async handler that ignores its cancellation until the test lets it end."""

    def __init__(self) -> None:
        self.started = 0
        self.may_end = asyncio.Event()

    async def __call__(self, ctx: JobContext, payload: Any) -> str:
        self.started += 1
        while not self.may_end.is_set():
            with suppress(asyncio.CancelledError):
                await self.may_end.wait()
        return "done at last"


# --- One round -------------------------------------------------------------------------------


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
    """At once, to whoever can reach the store."""
    await stage.handed_off()
    stage.store.before("get", unavailable)

    with suppress(Unavailable):
        await stage.worker().step()

    assert await stage.queue().inner.depth() == 1
    assert runs.started == []


# --- Crashes ---------------------------------------------------------------------------------


class Killed(Exception):
    """The process dies here."""


async def die() -> None:
    """Be a process that is killed."""
    raise Killed


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
    """`worker.after_claim_before_handler`: each attempt was charged at its claim."""
    runs.may_end.set()
    job = await stage.handed_off(max_attempts=2, backoff_policy=DELAYS)
    scheduler = stage.scheduler()
    with (
        failpoints.armed(failpoints.WORKER_AFTER_CLAIM_BEFORE_HANDLER, die),
    ):
        for _ in range(4):
            with suppress(Killed):
                await stage.worker().step()
            stage.clock.advance(60)
            await scheduler.tick()
            stage.clock.advance(60)
            await scheduler.tick()

    dead = await stage.job(job)
    assert (dead.status, dead.attempts, dead.last_error) == (JobStatus.DEAD, 2, "lease expired")


# --- Running ---------------------------------------------------------------------------------


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
    [SystemExit(1), asyncio.CancelledError(), Reject(ValueError("x")), Snooze(5)],  # type: ignore[arg-type]
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


# --- Timeouts and handlers that do not stop --------------------------------------------------


async def test_an_attempt_has_a_timeout(stage: Stage, runs: Runs) -> None:
    """The worker's, as long as the handler has none of its own; the attempt failed."""
    job = await stage.handed_off(backoff_policy=DELAYS)

    async with stage.running(stage.worker(job_timeout_seconds=20)):
        await stage.elapse(20)
        before = (runs.now, (await stage.job(job)).phase)
        await stage.elapse(1)
        after = await stage.job(job)

    assert before == (1, Phase.CLAIMED)
    assert (runs.now, after.phase, after.attempts) == (0, Phase.PENDING, 1)
    assert after.last_error == "timed out after 20 s"


async def test_a_handler_may_have_a_timeout_of_its_own(stage: Stage) -> None:
    """Shorter or longer than the worker's."""
    runs = {seconds: Runs() for seconds in (5.0, 50.0)}
    for seconds, handler in runs.items():
        stage.registry.register(f"runs {seconds}", handler, timeout_seconds=seconds)
        await stage.handed_off(type=f"runs {seconds}")

    async with stage.running(stage.worker(job_timeout_seconds=20)):
        await stage.elapse(6)
        first = [each.now for each in runs.values()]
        await stage.elapse(44)
        second = [each.now for each in runs.values()]
        await stage.elapse(1)
        third = [each.now for each in runs.values()]

    assert (first, second, third) == ([0, 1], [0, 1], [0, 0])


async def test_a_sync_handler_that_times_out_is_told(stage: Stage) -> None:
    """It stops itself; its slot is free then."""
    started = threading.Event()

    @stage.registry.handler("send_email")
    def send_email(ctx: JobContext, payload: dict[str, Any]) -> None:
        started.set()
        while True:
            ctx.check_cancelled()

    job = await stage.handed_off(backoff_policy=DELAYS)
    async with stage.running(stage.worker(job_timeout_seconds=5)):
        await until(started.is_set)
        stage.clock.advance(5.5)
        await until(lambda: stage.store.calls["save"] == 2)
        await quiet()
        back = await stage.job(job)

    assert (back.phase, back.last_error) == (Phase.PENDING, "timed out after 5 s")


async def test_a_handler_that_does_not_stop_is_settled_on_its_behalf(stage: Stage) -> None:
    """After its grace, and told; what it returns in the end changes nothing any more."""
    stubborn = Stubborn()
    stage.registry.register("send_email", stubborn)
    job = await stage.handed_off(backoff_policy=DELAYS)

    async with stage.running(
        stage.worker(job_timeout_seconds=5, cancel_grace_seconds=2, drain_timeout_seconds=0)
    ):
        await stage.elapse(7.5)
        before = await stage.job(job)
        await stage.elapse(1)
        given_up = await stage.job(job)
        stubborn.may_end.set()
        await stage.elapse(1)
        after = await stage.job(job)

    assert (before.phase, given_up.phase, given_up.attempts) == (Phase.CLAIMED, Phase.PENDING, 1)
    assert after == given_up
    (fact,) = stage.telemetry.of(HandlerStuck)
    assert (fact.job_id, fact.reason) == (job.id, "timed out")


async def test_a_handler_that_does_not_stop_keeps_its_slot(stage: Stage) -> None:
    """It still executes: nothing else runs in its place until it ends."""
    stubborn = Stubborn()
    stage.registry.register("stubborn", stubborn)
    ran: list[JobContext] = []

    @stage.registry.handler("send_email")
    async def send_email(ctx: JobContext, payload: Any) -> None:
        ran.append(ctx)

    await stage.handed_off(type="stubborn")
    async with stage.running(stage.worker(slots=1, job_timeout_seconds=5)):
        await stage.elapse(10)
        await stage.handed_off()
        await stage.elapse(5)
        waiting = list(ran)
        stubborn.may_end.set()
        await stage.elapse(1.5)
        after = list(ran)

    assert (len(waiting), len(after)) == (0, 1)


async def test_a_thread_that_does_not_stop_keeps_its_slot_too(
    stage: Stage, thread_may_end: threading.Event
) -> None:
    """It cannot be cancelled at all."""
    started = threading.Event()

    @stage.registry.handler("stubborn")
    def stubborn(ctx: JobContext, payload: Any) -> None:
        started.set()
        thread_may_end.wait(30)

    ran: list[JobContext] = []

    @stage.registry.handler("send_email")
    async def send_email(ctx: JobContext, payload: Any) -> None:
        ran.append(ctx)

    job = await stage.handed_off(type="stubborn", max_attempts=1)
    async with stage.running(stage.worker(slots=1, job_timeout_seconds=5)):
        await until(started.is_set)
        await stage.elapse(10)
        dead = await stage.job(job)
        await stage.handed_off()
        await stage.elapse(3)
        waiting = list(ran)
        thread_may_end.set()
        await until(lambda: ran)

    assert (dead.status, waiting) == (JobStatus.DEAD, [])
    assert len(stage.telemetry.of(HandlerStuck)) == 1


# --- Cancellation ----------------------------------------------------------------------------


class Deaf:
    """Implements `Signal`: every wake-up is lost."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def notify(self, topic: str) -> None:
        pass

    async def wait(self, topic: str, *, timeout_seconds: float) -> bool:
        await self._stage.clock.sleep(timeout_seconds)
        return False


async def test_a_cancellation_stops_the_handler_at_once(stage: Stage, runs: Runs) -> None:
    """The signal arrives: the clock has not moved."""
    job = await stage.handed_off()

    async with stage.running(stage.worker()):
        await stage.service().cancel_job(job.id)
        await quiet()
        after = await stage.job(job)

    assert (runs.now, runs.ended, after.status) == (0, [], JobStatus.CANCELLED)
    assert len(stage.telemetry.of(JobCancelled)) == 1


async def test_a_cancellation_is_learned_at_the_next_renewal_at_the_latest(
    stage: Stage, runs: Runs
) -> None:
    """With every signal lost."""
    job = await stage.handed_off()

    async with stage.running(stage.worker(signal=Deaf(stage), lease_seconds=30)):
        await stage.service().cancel_job(job.id)
        await stage.elapse(9.5)
        before = runs.now
        await stage.elapse(1)
        after = await stage.job(job)

    assert (before, runs.now, after.status) == (1, 0, JobStatus.CANCELLED)


async def test_a_cancellation_reaches_a_thread(stage: Stage) -> None:
    """The handler asks its context."""
    started = threading.Event()

    @stage.registry.handler("send_email")
    def send_email(ctx: JobContext, payload: Any) -> None:
        started.set()
        while True:
            ctx.check_cancelled()

    job = await stage.handed_off()
    async with stage.running(stage.worker()):
        await until(started.is_set)
        await stage.service().cancel_job(job.id)
        await until(lambda: stage.telemetry.of(JobCancelled))
        after = await stage.job(job)

    assert after.status is JobStatus.CANCELLED


async def test_a_slot_whose_job_was_cancelled_runs_the_next_one(stage: Stage, runs: Runs) -> None:
    """To its end, waiting inside like any other."""
    job, next_one = await stage.handed_off(), await stage.handed_off()

    async with stage.running(stage.worker(slots=1)):
        await stage.service().cancel_job(job.id)
        await quiet()
        running = runs.now
        runs.may_end.set()
        await quiet()

    assert running == 1
    assert await phases(stage, [job, next_one]) == [Phase.CANCELLED, Phase.SUCCEEDED]


async def test_a_cancelled_job_that_waits_for_a_slot_never_starts(stage: Stage, runs: Runs) -> None:
    """It was claimed already."""
    first, waiting = await stage.handed_off(), await stage.handed_off()

    async with stage.running(stage.worker(slots=1, prefetch=1)):
        await stage.service().cancel_job(waiting.id)
        await quiet()
        runs.may_end.set()
        await quiet()

    assert await phases(stage, [first, waiting]) == [Phase.SUCCEEDED, Phase.CANCELLED]
    assert [ctx.job_id for ctx in runs.started] == [first.id]
    assert stage.telemetry.of(HandlerStuck) == []


async def test_a_cancellation_that_meets_the_end_of_the_handler_is_honoured_or_too_late(
    stage: Stage, runs: Runs
) -> None:
    """The request was committed after the handler ended, before its success was saved."""
    job = await stage.handed_off()

    async def request() -> None:
        await happened(stage.memory, await stage.job(job), CancelRequested())

    async with stage.running(stage.worker()):
        stage.store.before("save", request)
        runs.may_end.set()
        await quiet()
        after = await stage.job(job)

    assert after.status is JobStatus.SUCCEEDED
    assert stage.telemetry.of(StaleOutcomeDropped) == []


# --- Leases ----------------------------------------------------------------------------------


async def test_a_job_may_run_longer_than_its_lease(stage: Stage, runs: Runs) -> None:
    """It is renewed every third of it."""
    job = await stage.handed_off()
    scheduler = stage.scheduler()

    async with stage.running(stage.worker(lease_seconds=30)):
        for _ in range(20):
            await stage.elapse(15, step_seconds=5)
            await scheduler.tick()
        runs.may_end.set()
        await quiet()

    done = await stage.job(job)
    assert (done.status, done.attempts, len(runs.started)) == (JobStatus.SUCCEEDED, 1, 1)


async def test_a_handler_whose_lease_was_lost_is_stopped(stage: Stage, runs: Runs) -> None:
    """Somebody else may execute the job: its outcome here is dropped and told."""
    job = await stage.handed_off(backoff_policy=DELAYS)

    async with stage.running(stage.worker()):
        claimed = await stage.job(job)
        reaped = await happened(stage.memory, claimed, LeaseExpired(), now=later(60))
        await stage.elapse(21)
        after = await stage.job(job)

    assert (runs.now, runs.ended) == (0, [])
    assert after == reaped
    (fact,) = stage.telemetry.of(StaleOutcomeDropped)
    assert fact.job_id == job.id


@pytest.mark.parametrize(("lease_seconds", "margin_seconds"), [(60, 5), (8, 2)])
async def test_a_worker_that_cannot_renew_stops_its_handlers_in_time(
    stage: Stage, runs: Runs, lease_seconds: float, margin_seconds: float
) -> None:
    """Before anybody else may claim the job, with a margin for the stop itself."""
    await stage.handed_off()

    async with stage.running(stage.worker(lease_seconds=lease_seconds)):
        stage.store.down = True
        await stage.elapse(lease_seconds - margin_seconds - 0.5)
        before = runs.now
        await stage.elapse(1)
        after = runs.now
        stage.store.down = False

    assert (before, after, runs.ended) == (1, 0, [])


async def test_a_renewal_that_gets_through_in_time_saves_the_job(stage: Stage, runs: Runs) -> None:
    """The store was away for most of the lease."""
    job = await stage.handed_off()

    async with stage.running(stage.worker()):
        stage.store.down = True
        await stage.elapse(45)
        stage.store.down = False
        await stage.elapse(60)
        running = runs.now
        runs.may_end.set()
        await quiet()

    assert running == 1
    assert (await stage.job(job)).status is JobStatus.SUCCEEDED


async def test_a_job_whose_lease_ran_out_while_it_waited_for_a_slot_never_starts(
    stage: Stage, runs: Runs
) -> None:
    """The renewals failed: somebody else may execute it."""
    stubborn = Stubborn()
    stage.registry.register("stubborn", stubborn)
    await stage.handed_off(type="stubborn")
    waiting = await stage.handed_off()

    async with stage.running(stage.worker(slots=1, prefetch=1)):
        stage.store.down = True
        await stage.elapse(70)
        stubborn.may_end.set()
        await quiet()
        stage.store.down = False
        await stage.elapse(30)

    assert runs.started == []
    assert (await stage.job(waiting)).phase is Phase.CLAIMED


async def test_an_outcome_waits_for_an_unavailable_store(stage: Stage, runs: Runs) -> None:
    """It is settled as soon as the store is back, before the lease is over."""
    job = await stage.handed_off()

    async with stage.running(stage.worker()):
        stage.store.down = True
        runs.may_end.set()
        await stage.elapse(40)
        stage.store.down = False
        await stage.elapse(6)
        done = await stage.job(job)

    assert (done.status, done.attempts) == (JobStatus.SUCCEEDED, 1)


class Host:
    """Implements `RenewalHost`: notes what it is told."""

    def __init__(self, renewals: Renewals) -> None:
        self.renewals = renewals
        self.told: list[str] = []

    def start(self) -> None:
        self.told.append("start")

    @property
    def alive(self) -> bool:
        return self.told[-1:] != ["died"]

    def want(self) -> None:
        self.told.append("want")

    def stop(self) -> None:
        self.told.append("stop")


async def test_renewals_may_have_a_host_of_their_own(stage: Stage, runs: Runs) -> None:
    """A thread in production: it starts and stops with the worker and hears of cancellations."""
    hosts: list[Host] = []

    def make(renewals: Renewals) -> Host:
        hosts.append(Host(renewals))
        return hosts[0]

    job = await stage.handed_off()
    async with stage.running(stage.worker(make_renewal_host=make)):
        held = [attempt.job.id for attempt in hosts[0].renewals.held]
        await stage.service().cancel_job(job.id)
        await quiet()
        runs.may_end.set()

    assert held == [job.id]
    assert hosts[0].told == ["start", "want", "stop"]
    assert hosts[0].renewals.held == []


# --- Shutting down ---------------------------------------------------------------------------


async def test_an_idle_worker_stops_when_its_open_receive_ends(stage: Stage) -> None:
    """The receive is not cancelled, for that could strand what it was about to bring."""
    stop = asyncio.Event()
    task = asyncio.create_task(stage.worker(poll_interval_seconds=3).run(stop))
    await quiet()

    stop.set()
    seconds = await stage.seconds_until_done(task, at_most=10)

    assert 2 <= seconds <= 3


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

        stage.store.before("save", shut_down)
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
    task = asyncio.create_task(stage.worker(drain_timeout_seconds=25).run(stop))
    await until(lambda: stubborn.started)

    stop.set()
    seconds = await stage.seconds_until_done(task, at_most=60)
    stubborn.may_end.set()
    thread_may_end.set()
    await quiet()

    assert seconds <= 25 + 5
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


# --- Failures of the lane --------------------------------------------------------------------


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


async def test_a_worker_whose_renewals_died_gives_up(stage: Stage) -> None:
    """Its leases would run out one by one; another worker can do better."""
    hosts: list[Host] = []

    def make(renewals: Renewals) -> Host:
        hosts.append(Host(renewals))
        return hosts[0]

    async with stopped(stage, stage.worker(make_renewal_host=make)) as task:
        await stage.elapse(2)
        hosts[0].told.append("died")
        await stage.elapse(2)
        error = task.exception() if task.done() else None

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


# --- Telling others --------------------------------------------------------------------------


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
