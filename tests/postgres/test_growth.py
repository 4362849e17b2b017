"""Nothing grows that does not have to: with an old snapshot held open, and in a day of work.

Costs are counted in pages and index entries and compared as ratios: neither depends on how busy
the machine is.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import asyncpg
import pytest

from async_jobs import JobRegistry
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.telemetry.labels import TENANTS_MAX
from async_jobs.application.working.renewal import Renewals
from async_jobs.domain import facts
from async_jobs.testing.clocks import ManualClock
from async_jobs.testing.system import memory_system
from tests.postgres.churn import (
    BATCH,
    BYTES,
    DAILY,
    PER_STEP,
    RETENTION_SECONDS,
    STEP_SECONDS,
    STEPS_PER_HOUR,
    Census,
    Cost,
    Day,
    Flow,
    allocated,
    census,
    churning,
    cost_of_a_turn,
    grown,
    handle,
    old_snapshot,
    vacuum,
    without_autovacuum,
)
from tests.postgres.paused import KINDS, ticks_beside
from tests.postgres.plans import LIMIT, Scene, explained

FLAT = 1.25
"""What counts as unchanged: pages fill and split, and batches fall on them differently."""
PART = 20
"""Rounds between two measurements: two thousand jobs."""

EXTRA_PAGES: Mapping[str, int] = {
    "ready_heads": 1_500,
    "purge_jobs": 1_200,
    "running_counts": 250,
    "expired_leases": 250,
    "promote_due": 60,
    "claim_handoffs": 60,
}
"""What a thousand jobs that ran since the snapshot was taken may add to an execution, in pages.

These statements go through an index from one end, past the entries of rows that nobody can
remove while the snapshot may see them.
"""
CHANCE_PAGES: Mapping[str, int] = {
    "ready_heads": 300,
    "purge_jobs": 300,
    "promote_due": 300,
    "claim_handoffs": 60,
}
"""What a statement may touch besides, because more retries happen to come due in one turn, or the
rows that it finds by id happen to lie on more pages."""
EXTRA_BY_ID = 1.5
"""How much more the other statements may touch: they find rows by id, past their old versions."""
EXTRA_ENTRIES = 2_200
"""How many entries of an index a thousand such jobs may add to a turn: each left one behind, which
a walk over tenants and a look at theirs may both pass."""
EXTRA_ENTRIES_OF_RUNNING = 4_500
"""The same for the index of running jobs: each left two, and two statements go through it."""
RUNNING = "idx_jobs_use_case_status"


def ratio(after: Cost, before: Cost) -> float:
    """Return how many times the pages one turn touches are those of another."""
    return sum(after.pages.values()) / sum(before.pages.values())


def excesses(after: Cost, before: Cost, *, jobs: int) -> list[str]:
    """Return in words what a turn costs beyond the bounds for so many jobs."""
    found = []
    for statement, extra_max in EXTRA_PAGES.items():
        extra = after.pages[statement] - before.pages[statement]
        bound = extra_max * after.executions[statement] * jobs / 1_000
        bound += CHANCE_PAGES.get(statement, 0)
        if extra > bound:
            found.append(f"{statement}: {extra:,} pages more after {jobs:,} jobs")
    by_id, by_id_before = _by_id(after), _by_id(before)
    if by_id > EXTRA_BY_ID * by_id_before:
        found.append(f"by id: {by_id:,} pages, {by_id_before:,} before")
    for index, entries in after.entries.items():
        extra = entries - before.entries[index]
        extra_max = EXTRA_ENTRIES_OF_RUNNING if index == RUNNING else EXTRA_ENTRIES
        if extra > extra_max * jobs / 1_000:
            found.append(f"{index}: {extra:,} entries more after {jobs:,} jobs")
    return found


def _by_id(cost: Cost) -> int:
    return sum(pages for statement, pages in cost.pages.items() if statement not in EXTRA_PAGES)


# --- an old snapshot ----------------------------------------------------------------------------


async def test_a_turn_costs_the_same_however_many_jobs_went_before(database_dsn: str) -> None:
    """Vacuum and hints on index entries keep up with any number of jobs."""
    async with churning(database_dsn) as churn:
        await churn.run(PART)
        before = await churn.cost()
        await churn.run(2 * PART)
        after = await churn.cost()

    assert ratio(after, before) <= FLAT
    assert sum(after.entries.values()) <= FLAT * sum(before.entries.values())


async def test_an_old_snapshot_makes_turns_dearer_by_a_bounded_amount_a_job(
    database_dsn: str,
) -> None:
    """In proportion to the jobs that ran since, no faster; when it ends all is as before."""
    async with churning(database_dsn) as churn:
        before = await churn.cost()
        async with old_snapshot(database_dsn):
            await churn.run(PART)
            halfway = await churn.cost()
            await churn.run(PART)
            after = await churn.cost()
        await vacuum(churn.pool)
        healed = await churn.cost()

    assert not excesses(halfway, before, jobs=PART * BATCH)
    assert not excesses(after, before, jobs=2 * PART * BATCH)
    assert ratio(after, before) > FLAT  # the snapshot was there, and felt
    assert ratio(healed, before) <= FLAT


@pytest.mark.parametrize(
    ("definition", "statement"),
    [
        (
            "DROP INDEX idx_jobs_use_case_status;"
            "CREATE INDEX idx_jobs_use_case_status ON jobs (use_case, tenant_id)"
            " WHERE status = 'running'",
            "running_counts",
        ),
    ],
    ids=["an index in another order"],
)
async def test_a_table_that_an_old_snapshot_hurts_more_is_found(
    database_dsn: str, definition: str, statement: str
) -> None:
    """The bounds have been seen to fail: this definition costs a page for each dead row."""
    async with await create_pool(database_dsn) as pool:
        await pool.execute(definition)
    async with churning(database_dsn, warm_up=PART) as churn:
        before = await churn.cost()
        async with old_snapshot(database_dsn):
            await churn.run(PART)
            after = await churn.cost()

    found = excesses(after, before, jobs=PART * BATCH)
    assert [each for each in found if each.startswith(f"{statement}:")]


# --- what is paused -----------------------------------------------------------------------------

FEW, MANY = 2_000, 16_000


@pytest.mark.parametrize("kind", KINDS)
async def test_a_tick_costs_the_same_however_many_jobs_are_paused(
    database_dsn: str, kind: str
) -> None:
    """All of them are due before the others, which start as if they were not there."""
    async with explained(database_dsn) as connection:
        scene = Scene(connection)
        with scene.listening():
            few, many = [each async for each in ticks_beside(scene, KINDS[kind], (FEW, MANY))]

    is_whole = kind in ("a tenant", "a use case")
    assert (few.tick.leased, many.tick.leased) == (LIMIT, LIMIT)
    assert many.pages <= FLAT * few.pages
    assert many.hidden == (0 if is_whole else MANY)  # limits of zero need nothing out of the way


# --- a day --------------------------------------------------------------------------------------

EARLY, LATE = 6, 24
TENANTS_NAMED = ("TopTenants._named", "TopTenants._chosen")
"""They fill up to a bound, which the tenants of a day do not reach."""
"""The hours that are compared: by the first one everything has come to its usual size."""
LEAKED_MAX = 0.1
"""Blocks of memory for each job that ended in between; what forgets nothing keeps dozens."""
SCHEDULED_MAX = 120
"""Of the jobs that are enqueued for later, three hours' worth wait, and some for a retry."""
ROWS_MAX = PER_STEP * (RETENTION_SECONDS // STEP_SECONDS + 1) + SCHEDULED_MAX


REMEMBERING = {
    "Lookout._resume",
    "Sender._failures",
    "ServiceMemory._of_pools",
    "Renewals._attempts",
    "Slots._running",
    "Slots._waiting",
    "Settler._waiting",
    "MemorySignal._waits",
    "MemorySignal._missed",
    "ManualClock._sleepers",
}
"""What a scheduler and a worker remember from one call to the next, by name of the attribute."""
PREPARED_MAX = 50
"""There are some thirty statements, and no value makes a new one; asyncpg keeps a hundred."""
HAPPENED = {
    facts.JobSucceeded,
    facts.JobFailed,
    facts.JobDied,
    facts.JobSnoozed,
    facts.JobCancelled,
    facts.JobRetried,
    facts.DeadlineMissed,
    facts.LeaseExpired,
    facts.JobsPurged,
}


@dataclass(frozen=True)
class Hour:
    """What was there at the end of an hour; all but the first three on Postgres only.

    `memory` is in blocks, as `allocated` counts them.
    """

    number: int
    memory: int
    containers: Census
    rows: int = 0
    bytes: int = 0
    prepared: int = 0
    turn: Cost | None = None


def leaks(early: Hour, late: Hour) -> list[str]:
    """Return in words what this process holds more of at a later hour."""
    found = [
        f"{name}: {before:,}, then {after:,}"
        for name, (before, after) in grown(early.containers, late.containers).items()
    ]
    leaked = late.memory - early.memory
    if leaked > LEAKED_MAX * PER_STEP * STEPS_PER_HOUR * (late.number - early.number):
        found.append(f"memory: {leaked:,} blocks more")
    return found


async def test_a_day_on_postgres_leaves_nothing_behind(database_dsn: str) -> None:
    """Rows, pages, the cost of a turn, prepared statements and memory are those of hour six."""
    clock, hours = ManualClock(), {}
    async with (
        await create_pool(database_dsn) as pool,
        explained(database_dsn) as connection,
    ):
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await without_autovacuum(pool)
        flow = Flow.on(pool, DAILY, clock, seed=24)
        day = Day(flow)
        for hour in range(1, LATE + 1):
            await day.hour()
            await vacuum(pool)
            if hour in (EARLY, LATE):
                # The first one leaves its plans in memory, so the memory is looked at afterwards.
                turn = await cost_of_a_turn(connection, DAILY, clock)
                hours[hour] = Hour(
                    number=hour,
                    memory=allocated(),
                    containers=census(flow.service, flow.scheduler, flow.worker, clock),
                    rows=await pool.fetchval("SELECT count(*) FROM jobs"),
                    bytes=await pool.fetchval(BYTES),
                    prepared=await most_prepared(pool),
                    turn=turn,
                )

    early, late = hours[EARLY], hours[LATE]
    assert flow.tally.counts.keys() >= HAPPENED
    assert early.containers.keys() >= REMEMBERING
    assert not leaks(early, late)
    assert early.rows <= ROWS_MAX
    assert late.rows <= min(ROWS_MAX, FLAT * early.rows)
    assert late.bytes <= FLAT * early.bytes
    assert late.prepared <= early.prepared <= PREPARED_MAX
    assert early.turn is not None
    assert late.turn is not None
    assert ratio(late.turn, early.turn) <= FLAT


async def most_prepared(pool: asyncpg.Pool) -> int:
    """Return how many prepared statements the connection with the most of them holds."""
    async with AsyncExitStack() as held:
        connections = [
            await held.enter_async_context(pool.acquire()) for _ in range(pool.get_size())
        ]
        counts = [
            await connection.fetchval("SELECT count(*) FROM pg_prepared_statements")
            for connection in connections
        ]
    return int(max(counts))


async def a_day_in_memory(until: int) -> dict[int, Hour]:
    """Return the hours of a day on the adapters in memory: everything is in this process."""
    registry, hours = JobRegistry(), {}
    system = memory_system(DAILY, registry=registry)
    handle(registry, system.clock)
    day = Day(Flow(system.service, system.scheduler, system.worker, system.clock))
    for hour in range(1, until + 1):
        await day.hour()
        kinds = {type(fact) for fact in system.telemetry.facts}
        assert hour < EARLY or kinds >= HAPPENED
        # What is told and kept of the past is for others to bound: here it is taken away.
        system.telemetry.facts.clear()
        system.store.records.clear()
        system._counting.take()
        if hour in (EARLY, until):
            hours[hour] = Hour(number=hour, memory=allocated(), containers=census(system))
    return hours


async def test_days_in_memory_leave_nothing_behind() -> None:
    """The store and the lanes hold what is alive or retained, and nothing else grows."""
    hours = await a_day_in_memory(LATE)

    assert hours[EARLY].containers.keys() >= REMEMBERING
    found = leaks(hours[EARLY], hours[LATE])
    assert [each for each in found if not each.startswith(TENANTS_NAMED)] == []
    assert max(hours[LATE].containers[name] for name in TENANTS_NAMED) <= TENANTS_MAX


async def test_what_is_never_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both measures have been seen to fail, by a worker that keeps what it has settled."""
    monkeypatch.setattr(Renewals, "discard", lambda self, attempt: None)

    hours = await a_day_in_memory(EARLY + 6)

    found = leaks(hours[EARLY], hours[EARLY + 6])
    assert {"Renewals._attempts", "memory"} <= {each.partition(":")[0] for each in found}
