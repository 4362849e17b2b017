"""Who was in two workers that died is executed with nothing else beside it. `Slots`, `Worker`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from async_jobs.application.handling.registry import JobContext
from async_jobs.domain.crashes import SUSPECT_CRASHES_MIN
from async_jobs.domain.facts import JobReleased, JobSnoozed
from async_jobs.domain.job import JobStatus, Phase
from async_jobs.testing.builders import later
from async_jobs.testing.contracts.scenes import all_jobs
from tests.unit.application.faults import unavailable
from tests.unit.application.stage import Runs, Stage, Stubborn, phases, quiet

SUSPECT = SUSPECT_CRASHES_MIN


@pytest.fixture
def stage() -> Stage:
    """A stage with two handlers that wait, and one that returns at once."""
    return Stage()


@pytest.fixture
def runs(stage: Stage) -> Runs:
    """What `send_email` does: run until the test lets it end."""
    runs = Runs()
    stage.registry.register("send_email", runs)
    return runs


@pytest.fixture
def others(stage: Stage) -> Runs:
    """What jobs of another type do, whose end is another one."""
    runs = Runs()
    stage.registry.register("bulk", runs)
    return runs


def began(runs: Runs) -> list[Any]:
    """Return whose handlers have begun, in order."""
    return [context.job_id for context in runs.started]


# --- Apart ------------------------------------------------------------------------------------


async def test_a_suspect_waits_for_what_runs(stage: Stage, runs: Runs, others: Runs) -> None:
    """It has its lease meanwhile, and begins once the last of the others is settled."""
    other = await stage.handed_off(type="bulk")
    async with stage.running(stage.worker(lease_seconds=30)):
        suspect = await stage.handed_off(crashes=SUSPECT)
        await stage.elapse(50)
        waiting = await stage.job(suspect)
        before = began(runs)
        others.may_end.set()
        await stage.elapse(2)
        after = began(runs)
        runs.may_end.set()

    assert waiting.phase is Phase.CLAIMED
    assert waiting.lease_expires_at is not None
    assert waiting.lease_expires_at > later(50)
    assert (before, after) == ([], [suspect.id])
    assert await phases(stage, [other, suspect]) == [Phase.SUCCEEDED] * 2


async def test_nothing_starts_beside_a_suspect(stage: Stage, runs: Runs, others: Runs) -> None:
    """Nothing is even received, however many slots are free; afterwards all goes on."""
    others.may_end.set()
    async with stage.running(stage.worker()):
        suspect = await stage.handed_off(crashes=SUSPECT)
        await stage.elapse(2)
        late = [await stage.handed_off(type="bulk") for _ in range(3)]
        await stage.elapse(5)
        beside = await phases(stage, late)
        runs.may_end.set()
        await stage.elapse(2)
        assert began(others) == [job.id for job in late]

    assert beside == [Phase.HANDED_OFF] * 3
    assert await phases(stage, [suspect, *late]) == [Phase.SUCCEEDED] * 4


async def test_nothing_starts_while_a_suspect_waits(stage: Stage, runs: Runs, others: Runs) -> None:
    """What comes later waits behind it, so that its turn comes."""
    first = await stage.handed_off(type="bulk")
    async with stage.running(stage.worker()):
        suspect = await stage.handed_off(crashes=SUSPECT)
        await stage.elapse(2)
        later_one = await stage.handed_off(type="bulk")
        await stage.elapse(5)
        before = (began(others), began(runs))
        others.may_end.set()
        await stage.elapse(2)
        after = (began(others), began(runs))
        runs.may_end.set()

    assert before == ([first.id], [])
    assert after == ([first.id], [suspect.id])
    assert (await stage.job(later_one)).attempts == 0


async def test_what_comes_with_a_suspect_runs_before_it(
    stage: Stage, runs: Runs, others: Runs
) -> None:
    """As far as there are slots, whatever the order; who finds none is given back, uncharged."""
    suspect = await stage.handed_off(crashes=SUSPECT)
    company = [await stage.handed_off(type="bulk") for _ in range(4)]
    async with stage.running(stage.worker(slots=2, prefetch=3)):
        before = (began(others), began(runs))
        given_back = await phases(stage, company[2:])
        others.may_end.set()
        await stage.elapse(2)
        alone = began(runs)
        runs.may_end.set()

    assert before == ([job.id for job in company[:2]], [])
    assert given_back == [Phase.PENDING] * 2
    assert [(await stage.job(job)).attempts for job in company[2:]] == [0, 0]
    assert alone == [suspect.id]


async def test_two_suspects_run_one_after_the_other(stage: Stage, runs: Runs) -> None:
    """A worker that claimed both keeps the first, and gives the other back before that begins."""
    first, second = [await stage.handed_off(crashes=SUSPECT) for _ in range(2)]
    async with stage.running(stage.worker()):
        await stage.elapse(2)
        waiting = await stage.job(second)
        begun = began(runs)
        runs.may_end.set()

    assert begun == [first.id]
    assert (waiting.phase, waiting.attempts, waiting.crashes) == (Phase.PENDING, 0, SUSPECT)
    assert [fact.job_id for fact in stage.telemetry.of(JobReleased)] == [second.id]


async def test_nobody_else_is_in_hand_when_a_suspect_begins(stage: Stage) -> None:
    """Whatever its end may be: outcomes are saved, and what was given back is, before it begins."""
    claimed: list[int] = []

    async def look(ctx: JobContext, payload: Any) -> None:
        jobs = await all_jobs(stage.memory)
        claimed.append(sum(job.phase is Phase.CLAIMED for job in jobs))

    stage.registry.register("send_email", look)

    async def returns(ctx: JobContext, payload: Any) -> None:
        return None

    stage.registry.register("quick", returns)
    for _ in range(3):
        await stage.handed_off(type="quick")
        await stage.handed_off(crashes=SUSPECT)
    async with stage.running(stage.worker()):
        await stage.elapse(3)

    assert claimed == [1]


async def test_an_outcome_that_cannot_be_saved_yet_keeps_a_suspect_waiting(
    stage: Stage, runs: Runs, others: Runs
) -> None:
    """If it ended the process, that outcome would be lost with it."""
    others.may_end.set()
    runs.may_end.set()
    stage.store.before("succeed", *[unavailable] * 3)
    other = await stage.handed_off(type="bulk")
    suspect = await stage.handed_off(crashes=SUSPECT)

    async with stage.running(stage.worker()):
        await quiet()
        before = began(runs)
        await stage.elapse(10)

    assert before == []
    assert await phases(stage, [other, suspect]) == [Phase.SUCCEEDED] * 2


async def test_a_round_runs_a_suspect_after_the_others(stage: Stage, runs: Runs) -> None:
    """A loop of one's own, which settles at the end of each round."""
    runs.may_end.set()
    suspect = await stage.handed_off(crashes=SUSPECT)
    others = [await stage.handed_off() for _ in range(3)]

    ran = await stage.worker().step()

    assert ran == 4
    assert began(runs) == [*(job.id for job in others), suspect.id]
    assert await phases(stage, [*others, suspect]) == [Phase.SUCCEEDED] * 4


async def test_what_comes_while_a_suspect_runs_is_not_claimed(
    stage: Stage, runs: Runs, others: Runs
) -> None:
    """Another lane that has waited all the time gives its job back; it runs afterwards."""
    worker = stage.worker(stage.queue(), stage.queue("reports"), poll_interval_seconds=5)
    async with stage.running(worker):
        suspect = await stage.handed_off(crashes=SUSPECT)
        await stage.elapse(1)
        before = began(runs)
        other = await stage.handed_off(type="bulk", use_case="reports")
        await stage.elapse(5)
        meanwhile, beside = await stage.job(other), began(others)
        runs.may_end.set()
        others.may_end.set()
        await stage.elapse(5)

    assert (before, beside) == ([suspect.id], [])
    assert (meanwhile.phase, meanwhile.attempts) == (Phase.HANDED_OFF, 0)
    assert began(others) == [other.id]


# --- Not for ever -------------------------------------------------------------------------------


async def test_a_suspect_that_finds_no_time_alone_is_put_off(
    stage: Stage, runs: Runs, others: Runs
) -> None:
    """Uncharged, for as long as it waited; the worker goes on meanwhile."""
    await stage.handed_off(type="bulk")
    async with stage.running(stage.worker(suspect_wait_seconds=20)):
        suspect = await stage.handed_off(crashes=SUSPECT)
        await stage.elapse(23)
        put_off = await stage.job(suspect)
        await stage.handed_off(type="bulk")
        await stage.elapse(2)
        running = len(began(others))
        others.may_end.set()

    (snoozed,) = stage.telemetry.of(JobSnoozed)
    assert (put_off.phase, put_off.attempts, put_off.crashes) == (Phase.PENDING, 0, SUSPECT)
    assert timedelta(seconds=19) < snoozed.until - snoozed.at < timedelta(seconds=21)
    assert running == 2
    assert began(runs) == []


async def test_what_does_not_stop_keeps_no_suspect_waiting(stage: Stage, runs: Runs) -> None:
    """It was given up and settled for: it has nothing to lose by what the suspect does."""
    stubborn = Stubborn()
    stage.registry.register("stubborn", stubborn)
    stuck = await stage.handed_off(type="stubborn", max_attempts=1)
    runs.may_end.set()
    async with stage.running(stage.worker(job_timeout_seconds=5)):
        suspect = await stage.handed_off(crashes=SUSPECT)
        await stage.elapse(15)
        ended = await phases(stage, [stuck, suspect])
        stubborn.may_end.set()

    assert ended == [Phase.DEAD, Phase.SUCCEEDED]


async def test_a_suspect_that_does_not_stop_keeps_nobody_waiting(stage: Stage, runs: Runs) -> None:
    """Once it is given up, the other slots are used again."""
    stubborn = Stubborn()
    stage.registry.register("stubborn", stubborn)
    runs.may_end.set()
    stuck = await stage.handed_off(type="stubborn", max_attempts=1, crashes=SUSPECT)
    async with stage.running(stage.worker(job_timeout_seconds=5)):
        other = await stage.handed_off()
        await stage.elapse(15)
        ended = await phases(stage, [stuck, other])
        stubborn.may_end.set()

    assert ended == [Phase.DEAD, Phase.SUCCEEDED]


# --- Ending it ----------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "running"])
async def test_a_drain_gives_a_suspect_back(
    stage: Stage, runs: Runs, others: Runs, waits: bool
) -> None:
    """Whether it waits or runs; it is charged nothing."""
    if waits:
        await stage.handed_off(type="bulk")
    async with stage.running(stage.worker(drain_timeout_seconds=3)):
        suspect = await stage.handed_off(crashes=SUSPECT)
        await stage.elapse(3)
        claimed = await stage.job(suspect)

    back = await stage.job(suspect)
    assert claimed.phase is Phase.CLAIMED
    assert len(began(runs)) == (not waits)
    assert (back.phase, back.attempts, back.crashes) == (Phase.PENDING, 0, SUSPECT)


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "running"])
async def test_a_suspect_is_cancelled_in_time(
    stage: Stage, runs: Runs, others: Runs, waits: bool
) -> None:
    """It does not have to begin for that."""
    if waits:
        await stage.handed_off(type="bulk")
    async with stage.running(stage.worker()):
        suspect = await stage.handed_off(crashes=SUSPECT)
        await stage.elapse(3)
        await stage.service().cancel_job(suspect.id)
        await stage.elapse(2)
        cancelled = await stage.job(suspect)
        others.may_end.set()

    assert cancelled.status is JobStatus.CANCELLED
    assert len(began(runs)) == (not waits)


async def test_a_worker_with_a_suspect_is_ready_and_says_that_it_is_busy(
    stage: Stage, runs: Runs
) -> None:
    """It receives nothing on purpose, however long that takes."""
    worker = stage.worker(slots=4, stall_seconds=30, job_timeout_seconds=1_000)
    async with stage.running(worker):
        await stage.handed_off(crashes=SUSPECT)
        await stage.elapse(100)
        ready = worker.ready()
        (info,) = await stage.workers.live(stage.clock.now())
        runs.may_end.set()

    assert ready
    assert info.busy == info.slots == 4


# --- Who only waited ----------------------------------------------------------------------------


async def test_a_suspect_whose_worker_dies_while_it_waits_is_charged_nothing(
    stage: Stage, runs: Runs, others: Runs
) -> None:
    """All leases end together once it waits, by which the reaper knows that it had not begun."""
    other = await stage.handed_off(type="bulk")
    worker = asyncio.create_task(stage.worker().run(asyncio.Event()))
    await stage.elapse(5)
    suspect = await stage.handed_off(crashes=SUSPECT)
    await stage.elapse(3)
    worker.cancel()
    stage.store.down = True
    with suppress(asyncio.CancelledError):
        await stage.seconds_until_done(worker, at_most=60)
    stage.store.down = False
    stage.clock.advance(60)
    await stage.scheduler().tick()

    waited, ran = await stage.job(suspect), await stage.job(other)
    assert began(runs) == []
    assert (waited.attempts, waited.crashes) == (0, SUSPECT)
    assert (ran.attempts, ran.crashes) == (0, 1)
