"""Outcomes that the application's own rules on `jobs` refuse: told once, and ended all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.application.changes import Changes
from async_jobs.application.scheduling.chores.reaping import Reaping
from async_jobs.application.settings import SchedulerSettings
from async_jobs.application.working.attempt import Attempt
from async_jobs.application.working.settlement import Settler
from async_jobs.domain.facts import (
    Fact,
    JobFailed,
    JobSucceeded,
    ResultLeftOut,
    StaleOutcomeDropped,
)
from async_jobs.domain.job import Job, JobStatus
from async_jobs.domain.lifecycle import Failed, JobEvent, Rejected, Snoozed, Succeeded
from async_jobs.domain.patience import REFUSED_PAUSE_MIN
from async_jobs.domain.refused import LEFT_OUT
from async_jobs.ports.leases import Success
from async_jobs.testing.builders import RecordingTelemetry, later
from async_jobs.testing.clocks import ManualChance, ManualClock
from tests.postgres.guarded import Guarded, refusal


async def settled(guarded: Guarded, jobs: Sequence[Job], event: JobEvent) -> Sequence[Fact]:
    """Settle attempts of jobs by one and the same event; returns what was told."""
    clock, telemetry = ManualClock(), RecordingTelemetry()
    ended: list[Attempt] = []
    settler = Settler(
        guarded.store,
        clock=clock,
        chance=ManualChance(0),
        signal=MemorySignal(clock=clock),
        telemetry=telemetry,
        on_settled=ended.append,
    )
    for job in jobs:
        settler.add(Attempt(job, None, timeout_seconds=900), event)
    async with asyncio.timeout(60):
        await settler.settle_group()
    assert len(ended) == len(jobs)
    return telemetry.facts


@pytest.mark.parametrize(
    ("event", "fact"),
    [(Succeeded({"n": 1}), JobSucceeded), (Failed("no"), JobFailed)],
    ids=lambda value: type(value).__name__,
)
async def test_an_outcome_that_is_refused_is_told_once(
    guarded: Guarded, event: JobEvent, fact: type[JobSucceeded | JobFailed]
) -> None:
    """As refused, and not as stale: its lease is still its worker's. The others are saved."""
    good, bad = await guarded.running(claim=True)

    told = await settled(guarded, [*good, bad], event)

    assert guarded.told == refusal(bad)
    assert [type(each) for each in told] == [fact] * len(good)
    assert await guarded.stand([bad]) == [bad]


REFUSED_OUTCOMES: dict[str, tuple[JobEvent, str]] = {
    "a success": (Succeeded(), "NEW.status = 'succeeded'"),
    "a result": (Succeeded({"n": 1}), "NEW.status = 'succeeded'"),
    "an error's text": (Failed("s3cret"), "NEW.last_error LIKE '%s3cret%'"),
    "a rejection's text": (Rejected("s3cret"), "NEW.last_error LIKE '%s3cret%'"),
    "a snooze": (Snoozed(later(9)), "NEW.attempts = 0"),
}


@pytest.mark.parametrize("what", REFUSED_OUTCOMES)
async def test_an_outcome_that_is_refused_is_told_in_the_jobs_history(
    guarded: Guarded, what: str
) -> None:
    """It fails its attempt, and is no crash of its worker."""
    event, rule = REFUSED_OUTCOMES[what]
    good, bad = await guarded.running(claim=True)
    await guarded.pool.execute(f"""
        DROP TRIGGER no ON jobs;
        CREATE TRIGGER no BEFORE UPDATE ON jobs FOR EACH ROW
            WHEN (OLD.priority = 7 AND {rule}) EXECUTE FUNCTION no();
    """)

    told = await settled(guarded, [*good, bad], event)

    (after,) = await guarded.stand([bad])
    assert after.status is (JobStatus.DEAD if isinstance(event, Rejected) else JobStatus.PENDING)
    assert after.last_error == "its outcome was refused: RaiseError in no()"
    assert (after.attempts, after.crashes) == (1, 0)
    assert guarded.told == refusal(bad)
    assert not [fact for fact in told if isinstance(fact, StaleOutcomeDropped)]


async def test_rules_that_refuse_by_turns_end_after_three_tries(
    pool: asyncpg.Pool, guarded: Guarded
) -> None:
    """Each refuses what tells of the other; the lease runs out, and the others are saved."""
    good, bad = await guarded.running(claim=True)
    await pool.execute("""
        DROP TRIGGER no ON jobs;
        CREATE FUNCTION nor() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'nor that'; END $$;
        CREATE TRIGGER no BEFORE UPDATE ON jobs FOR EACH ROW
            WHEN (OLD.priority = 7 AND NEW.last_error NOT LIKE '%no()') EXECUTE FUNCTION no();
        CREATE TRIGGER nor BEFORE UPDATE ON jobs FOR EACH ROW
            WHEN (OLD.priority = 7 AND NEW.last_error LIKE '%no()') EXECUTE FUNCTION nor();
    """)

    facts = await settled(guarded, [*good, bad], Failed("boom"))

    assert [type(fact) for fact in facts] == [JobFailed] * len(good)
    assert await guarded.stand([bad]) == [bad]
    problems = ["RaiseError in no()", "RaiseError in nor()", "RaiseError in no()"]
    assert guarded.told == [(bad.id, problem) for problem in problems]


async def test_a_result_that_is_refused_is_left_out(pool: asyncpg.Pool, guarded: Guarded) -> None:
    """The job has succeeded, as with one that is no JSON."""
    _, bad = await guarded.running(claim=True)
    await pool.execute("DROP TRIGGER no ON jobs")
    await pool.execute("CREATE INDEX by_url ON jobs ((result ->> 'url'))")

    told = await settled(
        guarded, [bad], Succeeded({"url": "".join(f"{number:x}" for number in range(5_000))})
    )

    (after,) = await guarded.stand([bad])
    problem = "result: the store refuses it (ProgramLimitExceededError)"
    assert (after.status, after.result) == (JobStatus.SUCCEEDED, {LEFT_OUT: problem})
    assert [fact.problem for fact in told if isinstance(fact, ResultLeftOut)] == [problem]


async def test_whose_end_is_refused_is_charged_no_crash(guarded: Guarded) -> None:
    """Its worker was refused its outcome as well, and nobody died."""
    good, bad = await guarded.running(claim=True)
    clock, telemetry = ManualClock(), RecordingTelemetry()
    changes = Changes(guarded.store, telemetry)
    reaping = Reaping(
        guarded.store, changes, SchedulerSettings(), clock=clock, chance=ManualChance(0)
    )
    clock.advance(120)
    assert (await reaping.reap()).leases == len(good)

    await guarded.pool.execute("ALTER TABLE jobs DISABLE TRIGGER no")
    clock.advance(REFUSED_PAUSE_MIN.total_seconds())
    assert (await reaping.reap()).leases == 1

    jobs = await guarded.stand([*good, bad])
    assert {job.id: job.crashes for job in jobs} == {**{job.id: 1 for job in good}, bad.id: 0}


async def test_a_row_that_meets_a_limit_of_the_server_is_refused_alone(
    pool: asyncpg.Pool, guarded: Guarded
) -> None:
    """An index of the application's takes no entry of so many bytes, today or later."""
    good, bad = await guarded.running(claim=True)
    await pool.execute("DROP TRIGGER no ON jobs")
    await pool.execute("CREATE INDEX by_url ON jobs ((result ->> 'url'))")
    url = "".join(f"{number:x}" for number in range(5_000))
    outcomes = [Success(job.id, job.lease_seq, {"url": "short"}) for job in good]

    done = await guarded.store.succeed(
        [*outcomes, Success(bad.id, bad.lease_seq, {"url": url})], now=later(1)
    )

    assert done == {job.id for job in good}
    assert guarded.told == [(bad.id, "ProgramLimitExceededError")]
