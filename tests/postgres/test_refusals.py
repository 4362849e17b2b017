"""What the application's own rules on `jobs` refuse: told as that, once, and nobody else's loss."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import httpx
import pytest

from async_jobs import JobService, StoreRefused, UseCaseConfig
from async_jobs.adapters.http.wire import Problem, error_of
from async_jobs.adapters.postgres.apart import TOLD_MAX, UNCHANGED
from async_jobs.application.scheduling.dispatcher import Dispatcher
from async_jobs.domain import lifecycle
from async_jobs.domain.facts import (
    UseCaseSkipped,
)
from async_jobs.domain.job import Job
from async_jobs.domain.patience import REFUSED_PAUSE_MIN
from async_jobs.domain.pools import Fleet
from async_jobs.domain.scheduling import LeaseGrant
from async_jobs.entrypoints.http.app import create_app
from async_jobs.ports.leases import HeadsQuery
from async_jobs.ports.upkeep import Upcoming
from async_jobs.testing.builders import RecordingTelemetry, SimpleLimits, a_job, later
from async_jobs.testing.clocks import NOW, ManualClock
from tests.postgres.guarded import LANE, SILENT, Guarded, refusal
from tests.unit.api.callers import SHARED, a_body, calling, problem_in

LIMITS = SimpleLimits(use_case_configs={LANE: UseCaseConfig()}, per_tenant_quotas={})


# --- calls ----------------------------------------------------------------------------------------


RULES = {
    "CheckViolationError by jobs_one_region": (
        "ALTER TABLE jobs ADD CONSTRAINT jobs_one_region CHECK (payload::text NOT LIKE '%s3cret%')"
    ),
    "RaiseError in no()": """
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
    if refused.startswith("RaiseError"):
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

    assert problem_in(no, 409, Problem.STORE_REFUSED)["refusal"] == "RaiseError in no()"
    assert yes.status_code == 200
    assert guarded.told == refusal(bad)


# --- what a scheduler does for many ---------------------------------------------------------------


async def due(guarded: Guarded, *, at: datetime, limit: int = 100) -> list[UUID]:
    """Return what a turn shows."""
    async with guarded.store.turn([LANE]) as turn:
        heads = await turn.heads([HeadsQuery(use_case=LANE, limit=limit)], at)
    return sorted(candidate.id for candidate in heads[LANE].ready) if heads else []


async def test_jobs_come_due_beside_one_that_is_refused(guarded: Guarded) -> None:
    """In one call, and the next ones do not meet it for a while."""
    good, bad = await guarded.jobs(run_at=later(60))
    await guarded.guard()

    upcoming = await guarded.store.promote(later(60), limit=100)

    assert upcoming == Upcoming(None, len(good))
    assert await due(guarded, at=later(60)) == [job.id for job in good]
    assert await guarded.store.promote(later(61), limit=100) == Upcoming(None, 0)
    assert guarded.told == refusal(bad)

    await guarded.pool.execute("ALTER TABLE jobs DISABLE TRIGGER no")
    assert await guarded.store.promote(later(63), limit=100) == Upcoming(None, 1)
    assert bad.id in await due(guarded, at=later(63))


async def test_no_more_come_due_than_asked_for_beside_one_that_is_refused(guarded: Guarded) -> None:
    """Rows that are refused do not count, and hide nothing that is left."""
    good, _ = await guarded.jobs(run_at=later(60))
    await guarded.guard()

    calls = [await guarded.store.promote(later(60), limit=4) for _ in range(2)]

    assert [call.promoted for call in calls] == [4, 2]
    assert calls[0].run_at == later(60)
    assert await due(guarded, at=later(60)) == [job.id for job in good]


async def test_jobs_come_due_behind_any_number_that_is_refused(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than are remembered, or fit a page, stand first: each call does a bounded part."""
    monkeypatch.setattr("async_jobs.adapters.postgres.apart.REMEMBERED", 5)
    monkeypatch.setattr("async_jobs.adapters.postgres.walking.PAGE", 4)
    bad = [a_job(priority=7, run_at=later(10)) for _ in range(80)]
    good = [a_job(run_at=later(20)) for _ in range(3)]
    await guarded.pool.execute("ALTER TABLE jobs DISABLE TRIGGER no")
    await guarded.store.add([*bad, *good], {})
    await guarded.guard()
    promoted: list[int] = []

    for _ in range(10):
        upcoming = await guarded.store.promote(later(30), limit=100)
        promoted.append(upcoming.promoted)
        if upcoming.run_at != later(30):
            break

    assert promoted == [0, 0, len(good)]  # 32 refusals in a call at most
    assert await due(guarded, at=later(30)) == sorted(job.id for job in good)
    assert len(guarded.told) == TOLD_MAX + 1
    assert guarded.told[-1][1].endswith("as of more rows: no more is told for an hour")


async def test_late_jobs_go_behind_beside_one_that_is_refused(
    guarded: Guarded, pool: asyncpg.Pool
) -> None:
    """It stays where it is."""
    good, bad = await guarded.jobs(delay_tolerance=timedelta(seconds=10))
    await guarded.guard()

    for seconds in (60, 61):
        await guarded.store.promote(later(seconds), limit=100, sidelined=[LANE])

    rows = await pool.fetch("SELECT id, lane FROM jobs")
    assert {row["id"]: row["lane"] for row in rows} == {bad.id: 0, **{job.id: 1 for job in good}}
    assert guarded.told == refusal(bad)


async def test_late_jobs_go_behind_past_any_number_that_is_refused(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than are remembered, or fit a page, stand first; the next call follows at once."""
    monkeypatch.setattr("async_jobs.adapters.postgres.apart.REMEMBERED", 5)
    monkeypatch.setattr("async_jobs.adapters.postgres.walking.PAGE", 4)
    bad = [a_job(priority=7, deadline_at=later(10)) for _ in range(80)]
    good = [a_job(deadline_at=later(20)) for _ in range(3)]
    await guarded.pool.execute("ALTER TABLE jobs DISABLE TRIGGER no")
    await guarded.store.add([*bad, *good], {})
    await guarded.guard()

    calls = [
        await guarded.store.promote(later(30), limit=100, sidelined=[LANE, "other"])
        for _ in range(3)
    ]

    assert [call.run_at for call in calls] == [later(30), later(30), None]
    rows = await guarded.pool.fetch("SELECT id FROM jobs WHERE lane = 1 ORDER BY id")
    assert [row["id"] for row in rows] == sorted(job.id for job in good)


async def test_a_row_whose_lease_is_refused_starves_nobody(
    guarded: Guarded, pool: asyncpg.Pool
) -> None:
    """It is the most urgent one of a use case with one place: the next one has it in that tick."""
    good, bad = await guarded.jobs()
    await pool.execute("UPDATE jobs SET deadline_at = $1 WHERE id = $2", later(1), bad.id)
    await guarded.guard()
    limits = SimpleLimits(
        use_case_configs={LANE: UseCaseConfig(max_concurrent=1)}, per_tenant_quotas={}
    )
    clock, telemetry = ManualClock(), RecordingTelemetry()
    dispatcher = Dispatcher(limits, guarded.store, clock, telemetry)

    async def leased() -> list[UUID]:
        clock.advance(0.1)
        dispatched = await dispatcher.dispatch([LANE], Fleet(window_min=9), timedelta(seconds=60))
        return [handoff.job_id for handoff in dispatched.handoffs]

    async def end(job_id: UUID) -> None:
        (job,) = await guarded.store.get([job_id])
        await guarded.store.save([lifecycle.change(job, lifecycle.Cancelled(), now=clock.now())])

    (first,) = await leased()
    await end(first)
    (second,) = await leased()

    assert {first, second} < {job.id for job in good}
    assert guarded.told == refusal(bad)

    await end(second)
    clock.advance(REFUSED_PAUSE_MIN.total_seconds())
    (third,) = await leased()  # it is tried again, and neither a turn nor a place is lost for it
    assert third not in {first, second, bad.id}
    assert not telemetry.of(UseCaseSkipped)
    assert guarded.told == refusal(bad)


async def test_many_rows_whose_lease_is_refused_hide_nobody(guarded: Guarded) -> None:
    """However many stand before the others of their tenant."""
    good, bad = await guarded.jobs()
    others = [a_job(priority=7) for _ in range(40)]
    await guarded.pool.execute("ALTER TABLE jobs DISABLE TRIGGER no")
    await guarded.store.add(others, {})
    await guarded.guard()
    all_bad = [bad.id, *(job.id for job in others)]
    for ids in (all_bad, all_bad[:21], all_bad[21:]):
        with suppress(StoreRefused):
            async with guarded.store.turn([LANE]) as turn:
                await turn.lease([LeaseGrant(id, 0, 1, later(60), NOW) for id in ids])

    assert await due(guarded, at=later(1), limit=9) == [job.id for job in good]
    shown = await due(guarded, at=later(1), limit=3)  # no more than without them
    assert len(shown) == 3
    assert set(shown) < {job.id for job in good}
    assert len(await due(guarded, at=later(2), limit=100)) == len(good) + 41


async def test_however_many_leases_of_a_tenant_are_refused_the_others_have_their_places(
    guarded: Guarded,
) -> None:
    """In the same turn; and its own jobs behind them as soon as those have been found out."""
    bad = [a_job(tenant_id="evil", priority=7, deadline_at=later(30)) for _ in range(20)]
    good = [a_job(tenant_id="good", deadline_at=later(60)) for _ in range(4)]
    behind = a_job(tenant_id="evil", deadline_at=later(60))
    await guarded.pool.execute("ALTER TABLE jobs DISABLE TRIGGER no")
    await guarded.store.add([*bad, *good, behind], {})
    await guarded.guard()
    limits = SimpleLimits(
        use_case_configs={LANE: UseCaseConfig(max_concurrent=2)}, per_tenant_quotas={}
    )
    clock = ManualClock()
    dispatcher = Dispatcher(limits, guarded.store, clock)
    turns: list[set[UUID]] = []

    for _ in range(20):
        dispatched = await dispatcher.dispatch([LANE], Fleet(window_min=9), timedelta(seconds=60))
        assert dispatched.handoffs or dispatched.refused  # so that another turn follows at once
        turns.append({handoff.job_id for handoff in dispatched.handoffs})
        leased = await guarded.store.get(list(turns[-1]))
        changes = [lifecycle.change(job, lifecycle.Cancelled(), now=clock.now()) for job in leased]
        await guarded.store.save(changes)
        if set[UUID]().union(*turns) == {behind.id, *(job.id for job in good)}:
            break
    else:
        pytest.fail("some job was never leased")

    assert all(turns[:2])
    assert len(guarded.told) == TOLD_MAX + 1


async def test_leases_that_are_over_end_behind_those_that_are_refused(guarded: Guarded) -> None:
    """A reaper that looks at one at a time comes to all of them."""
    good, bad = await guarded.running(claim=True)
    ended: set[UUID] = set()

    for _ in (*good, bad):
        over = await guarded.store.expired(later(120), limit=1)
        changes = [lifecycle.change(job, lifecycle.LeaseExpired(), now=later(120)) for job in over]
        ended |= (await guarded.store.save(changes)).ids

    assert ended == {job.id for job in good}
    assert guarded.told == refusal(bad)
    assert await guarded.store.expired(later(122), limit=9) == [bad]


# --- triggers that say nothing --------------------------------------------------------------------


@pytest.fixture
async def silent(pool: asyncpg.Pool) -> Guarded:
    return await Guarded.on(pool, SILENT)


def unchanged(bad: Job) -> list[tuple[UUID, str]]:
    """Return what is told of one that a trigger keeps as it is."""
    return [(bad.id, UNCHANGED.refusal)]


async def test_jobs_come_due_beside_those_that_are_kept_silently(silent: Guarded) -> None:
    """They stand first, and fill a call."""
    _, bad = await silent.jobs(run_at=later(10))
    good, _ = await silent.jobs(run_at=later(20))
    await silent.guard()

    calls = [await silent.store.promote(later(30), limit=7) for _ in range(3)]

    assert [call.promoted for call in calls] == [7, 5, 0]
    assert set(await due(silent, at=later(30))) >= {job.id for job in good}
    assert silent.told[0] == unchanged(bad)[0]


async def test_late_jobs_go_behind_beside_one_that_is_kept_silently(silent: Guarded) -> None:
    """It is told of, and left alone."""
    good, bad = await silent.jobs(delay_tolerance=timedelta(seconds=10))
    await silent.guard()

    for seconds in (60, 61):
        await silent.store.promote(later(seconds), limit=1, sidelined=[LANE])
    await silent.store.promote(later(61), limit=100, sidelined=[LANE])

    rows = await silent.pool.fetch("SELECT id FROM jobs WHERE lane = 1 ORDER BY id")
    assert [row["id"] for row in rows] == [job.id for job in good]
    assert silent.told == unchanged(bad)


async def test_a_row_whose_lease_is_silently_left_out_starves_nobody(silent: Guarded) -> None:
    """Its place goes to another in the same turn, and it is left alone then."""
    good, bad = await silent.jobs()
    await silent.pool.execute("UPDATE jobs SET deadline_at = $1 WHERE id = $2", later(1), bad.id)
    await silent.guard()
    limits = SimpleLimits(
        use_case_configs={LANE: UseCaseConfig(max_concurrent=1)}, per_tenant_quotas={}
    )
    dispatcher = Dispatcher(limits, silent.store, ManualClock())

    dispatched = await dispatcher.dispatch([LANE], Fleet(window_min=9), timedelta(seconds=60))

    assert {each.job_id for each in dispatched.handoffs} < {job.id for job in good}
    assert bad.id not in await due(silent, at=later(1))
    assert silent.told == unchanged(bad)


async def test_a_change_that_is_silently_left_out_is_a_refusal(silent: Guarded) -> None:
    """Nobody else has changed the job: it has lost to no one."""
    good, bad = await silent.running(claim=True)
    changes = [lifecycle.change(job, lifecycle.Failed("no"), now=later(1)) for job in [*good, bad]]

    applied = await silent.store.save(changes)

    assert applied.ids == {job.id for job in good}
    assert applied.refused == {bad.id: UNCHANGED.refusal}
    assert silent.told == unchanged(bad)


async def test_jobs_are_purged_beside_one_that_is_kept_silently(silent: Guarded) -> None:
    """It is told of."""
    good, bad = await silent.jobs()
    for job in (*good, bad):
        await silent.store.save([lifecycle.change(job, lifecycle.Cancelled(), now=later(1))])
    await silent.guard()

    purged = [await silent.store.purge(LANE, before=later(9), limit=3) for _ in range(3)]

    assert sum(purged) == len(good)
    assert silent.told == unchanged(bad)
