"""How a worker stops its handlers: timeouts, cancellations, leases that were lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from async_jobs.application.handling.registry import JobContext
from async_jobs.application.working.renewal import Renewals
from async_jobs.application.working.watchdog import WorkerStalledError
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.facts import (
    HandlerStuck,
    JobCancelled,
    StaleOutcomeDropped,
)
from async_jobs.domain.job import JobStatus, Phase
from async_jobs.domain.lifecycle import (
    CancelRequested,
    LeaseExpired,
)
from async_jobs.testing.builders import later
from async_jobs.testing.contracts.scenes import happened
from tests.unit.application.stage import Runs, Stage, Stubborn, phases, quiet, stopped, until

DELAYS = BackoffPolicy(base_delay_seconds=30, jitter=0)


# --- Timeouts and handlers that do not stop ---------------------------------------------------


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
        await until(lambda: stage.store.calls["save"] == 1)
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


# --- Cancellation -----------------------------------------------------------------------------


class Deaf:
    """Implements `Signal`: every wake-up is lost."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def notify(self, topic: str) -> None:
        pass

    async def notify_within(self, topic: str, within: object) -> None:
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
        stage.store.before("succeed", request)
        runs.may_end.set()
        await quiet()
        after = await stage.job(job)

    assert after.status is JobStatus.SUCCEEDED
    assert stage.telemetry.of(StaleOutcomeDropped) == []


# --- Leases -----------------------------------------------------------------------------------


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
    first = await stage.handed_off()
    waiting = await stage.handed_off()

    async with stage.running(stage.worker(slots=1, prefetch=1)):
        stage.store.down = True
        await stage.elapse(70)
        stage.store.down = False
        await stage.elapse(30)

    assert [ctx.job_id for ctx in runs.started] == [first.id]
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
