"""Batches of bulk operations beside what others do, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import pytest

from async_jobs.adapters.postgres import bulk as adapter
from async_jobs.adapters.postgres.bulk import PostgresBulk
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.application.scheduling.dispatcher import Dispatcher
from async_jobs.domain.bulk import Amendment, BulkAction, BulkOperation, Decision
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.filters import JobQuery
from async_jobs.domain.fingerprints import fingerprint
from async_jobs.domain.job import Job, Phase
from async_jobs.domain.pools import Fleet
from async_jobs.testing.builders import SimpleLimits
from async_jobs.testing.clocks import ManualClock
from async_jobs.testing.contracts.bulk import AT, all_of, begun, by_the_rules, rest, step
from async_jobs.testing.contracts.scenes import added, in_phase, soon, the_job
from tests.kit.harness import eventually

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
ENDED = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'idle in transaction'
"""


@pytest.mark.parametrize(
    ("action", "amendment"),
    [
        (BulkAction.CANCEL, Amendment()),
        (BulkAction.DELETE, Amendment()),
        (BulkAction.RESCHEDULE, Amendment(run_at=AT + timedelta(hours=1))),
        (BulkAction.PRIORITISE, Amendment(priority=-1)),
    ],
)
async def test_a_turn_does_not_lease_what_a_batch_has_changed(
    pool: asyncpg.Pool, action: BulkAction, amendment: Amendment
) -> None:
    """It saw the job before, waits for the batch, and finds another lease number."""
    store = PostgresJobStore(pool)
    job = await added(store)
    bulk = PostgresBulk(store)
    await begun(bulk, action, amendment=amendment)
    turns: list[asyncio.Future[object]] = []

    async def waits() -> bool:
        return bool(await pool.fetchval(WAITING))

    async def meanwhile(operation: BulkOperation, jobs: Sequence[Job]) -> Sequence[Decision]:
        dispatcher = Dispatcher(SimpleLimits(), store, ManualClock(AT))
        turn = dispatcher.dispatch(["notifications"], Fleet(window_min=9), timedelta(seconds=60))
        turns.append(asyncio.ensure_future(turn))
        await eventually(waits, "the turn waits for the batch")
        return await by_the_rules()(operation, jobs)

    stepped = await soon(bulk.step(AT, limit=9, decide=meanwhile, pause=rest))
    dispatched = await soon(turns[0])

    assert stepped.changed == {job.id}
    assert not dispatched.handoffs  # type: ignore[attr-defined]
    assert all(each.phase is not Phase.HANDED_OFF for each in await store.get([job.id]))


async def test_a_batch_whose_connection_ends_leaves_nothing(pool: asyncpg.Pool) -> None:
    """As when a scheduler dies: the next one does all of it, and counts it once."""
    store = PostgresJobStore(pool)
    jobs = [await added(store) for _ in range(3)]
    bulk = PostgresBulk(store)
    operation = await begun(bulk, BulkAction.CANCEL)

    async def cut_off(operation: BulkOperation, jobs: Sequence[Job]) -> Sequence[Decision]:
        assert await pool.fetchval(ENDED) == 1
        return await by_the_rules()(operation, jobs)

    with pytest.raises(Unavailable):
        await bulk.step(AT, limit=9, decide=cut_off, pause=rest)
    left = await bulk.get(operation.id)
    stepped = await step(bulk)

    assert left == operation
    assert stepped.changed == {job.id for job in jobs}
    assert stepped.operation is not None
    assert stepped.operation.done == 3


async def test_few_jobs_are_looked_at_in_a_batch(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that finds none of them goes on behind what it looked at."""
    monkeypatch.setattr(adapter, "LOOKED_AT", 3)
    store = PostgresJobStore(pool)
    rare = [await added(store, type="rare")]
    for _ in range(8):
        await added(store)
    rare.append(await added(store, type="rare"))
    bulk = PostgresBulk(store)

    over = await all_of(
        bulk, await begun(bulk, BulkAction.CANCEL, JobQuery(types=frozenset({"rare"})))
    )

    assert over.done == 2
    for job in rare:
        assert (await the_job(store, job.id)).phase is Phase.CANCELLED


async def test_an_error_group_is_found_beside_jobs_that_are_gone(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records stay for longer than jobs, and many of them end no operation."""
    monkeypatch.setattr(adapter, "LOOKED_AT", 2)
    store = PostgresJobStore(pool)
    jobs = [await in_phase(store, Phase.DEAD) for _ in range(7)]
    await pool.execute("DELETE FROM jobs WHERE id = ANY($1)", [job.id for job in jobs[1:6]])
    group = JobQuery(error_group=fingerprint("no such address"))
    bulk = PostgresBulk(store)

    over = await all_of(bulk, await begun(bulk, BulkAction.RETRY, group))

    assert over.done == 2
    assert (await the_job(store, jobs[0].id)).phase is Phase.PENDING


@pytest.mark.parametrize("action", [BulkAction.CANCEL, BulkAction.DELETE])
async def test_a_row_that_somebody_holds_keeps_no_other_back(
    pool: asyncpg.Pool, action: BulkAction
) -> None:
    """As a transaction of the application that nobody ends: it is told, and not waited for."""
    store = PostgresJobStore(pool)
    jobs = [await added(store) for _ in range(3)]
    bulk = PostgresBulk(store)
    await begun(bulk, action)

    async with pool.acquire() as holder, holder.transaction():
        await holder.execute("SELECT FROM jobs WHERE id = $1 FOR UPDATE", jobs[1].id)
        stepped = await soon(bulk.step(AT, limit=9, decide=by_the_rules(), pause=rest))

    assert stepped.changed == {jobs[0].id, jobs[2].id}
    assert stepped.operation is not None
    assert (stepped.operation.done, stepped.operation.failed) == (2, 1)
    assert "another transaction" in str(stepped.operation.problem)


async def test_an_operation_whose_batch_fails_is_behind_others(pool: asyncpg.Pool) -> None:
    """As one that another version has begun: those after it are carried out."""
    store = PostgresJobStore(pool)
    job = await added(store)
    bulk = PostgresBulk(store)
    strange, plain = [await begun(bulk, BulkAction.CANCEL) for _ in range(2)]
    await pool.execute("UPDATE bulk_operations SET action = 'exalt' WHERE id = $1", strange.id)

    later = AT + timedelta(seconds=1)
    with pytest.raises(ValueError, match="exalt"):
        await bulk.step(later, limit=9, decide=by_the_rules(), pause=rest)
    stepped = await bulk.step(later, limit=9, decide=by_the_rules(), pause=rest)

    assert stepped.changed == {job.id}
    assert stepped.operation is not None
    assert stepped.operation.id == plain.id
    assert stepped.due_at == later
