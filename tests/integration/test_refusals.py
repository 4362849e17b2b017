"""What the application's own rules on `jobs` refuse: told as that, once, and nobody else's loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from async_jobs import JobService, StoreRefused, UseCaseConfig
from async_jobs.adapters.http.wire import Problem, error_of
from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.application.attempt import Attempt
from async_jobs.application.settlement import Settler
from async_jobs.domain.facts import JobFailed, JobSucceeded
from async_jobs.domain.lifecycle import Failed, JobEvent, Succeeded
from async_jobs.entrypoints.api.app import create_app
from async_jobs.testing.builders import RecordingTelemetry, SimpleLimits
from async_jobs.testing.clocks import ManualChance, ManualClock
from tests.integration.guarded import LANE, Guarded, refusal
from tests.unit.api.callers import SHARED, a_body, calling, problem_in

LIMITS = SimpleLimits(use_case_configs={LANE: UseCaseConfig()}, per_tenant_quotas={})


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    async with await create_pool(database_dsn) as pool:
        yield pool


@pytest.fixture
async def guarded(pool: asyncpg.Pool) -> Guarded:
    return await Guarded.on(pool)


# --- calls ----------------------------------------------------------------------------------------

RULES = {
    "CheckViolationError by jobs_one_region": (
        "ALTER TABLE jobs ADD CONSTRAINT jobs_one_region CHECK (payload::text NOT LIKE '%s3cret%')"
    ),
    "RaiseError": """
        CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'not this: %', NEW.payload; END $$;
        CREATE TRIGGER no BEFORE INSERT ON jobs FOR EACH ROW
            WHEN (NEW.payload::text LIKE '%s3cret%') EXECUTE FUNCTION no()
    """,
}


@pytest.fixture
async def api(guarded: Guarded) -> AsyncIterator[httpx.AsyncClient]:
    service = JobService(LIMITS, guarded.store)
    async with calling(create_app(lambda: service, auth_token=SHARED)) as client:
        yield client


@pytest.mark.parametrize("refused", RULES)
@pytest.mark.parametrize("path", ["/jobs/enqueue", "/jobs/enqueue-batch"])
async def test_an_enqueue_that_is_refused_is_a_409_with_the_rule(
    pool: asyncpg.Pool, api: httpx.AsyncClient, path: str, refused: str
) -> None:
    """It quotes nothing of the job, whatever the database says; another job is taken."""
    if refused == "RaiseError":
        await pool.execute("DROP FUNCTION no() CASCADE")
    await pool.execute(RULES[refused])
    jobs = [a_body(payload={"token": "s3cret"}), a_body()]
    bodies = [job if path == "/jobs/enqueue" else {"jobs": [job]} for job in jobs]

    no, yes = [await api.post(path, json=body) for body in bodies]

    document = problem_in(no, 409, Problem.STORE_REFUSED)
    error = error_of(document)
    assert isinstance(error, StoreRefused)
    assert document["refusal"] == error.refusal == refused
    assert "s3cret" not in no.text
    assert yes.status_code == 201


@pytest.mark.parametrize("call", ["cancel", "retry"])
async def test_an_operators_call_that_is_refused_says_so(
    guarded: Guarded, api: httpx.AsyncClient, call: str
) -> None:
    """Not that the job changed hands too often."""
    good, bad = await guarded.jobs()
    if call == "retry":
        for job in (*good, bad):
            await api.post(f"/jobs/{job.id}/cancel")
    await guarded.guard()

    no = await api.post(f"/jobs/{bad.id}/{call}")
    yes = await api.post(f"/jobs/{good[0].id}/{call}")

    assert problem_in(no, 409, Problem.STORE_REFUSED)["refusal"] == "RaiseError"
    assert yes.status_code == 200
    assert guarded.told == refusal(bad)


# --- outcomes -------------------------------------------------------------------------------------


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
    clock, telemetry = ManualClock(), RecordingTelemetry()
    settled: list[Attempt] = []
    settler = Settler(
        guarded.store,
        clock=clock,
        chance=ManualChance(0),
        signal=MemorySignal(clock=clock),
        telemetry=telemetry,
        on_settled=settled.append,
    )
    for job in (*good, bad):
        settler.add(Attempt(job, None, timeout_seconds=900), event)

    async with asyncio.timeout(60):
        await settler.settle_group()

    assert guarded.told == refusal(bad)
    assert [type(each) for each in telemetry.facts] == [fact] * len(good)
    assert await guarded.stand([bad]) == [bad]
    assert len(settled) == len(good) + 1
