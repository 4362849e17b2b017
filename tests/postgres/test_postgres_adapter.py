"""The Postgres adapters among broken connections, cancelled tasks, locks and crooked clocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.signal import PostgresSignal, _channel
from async_jobs.adapters.postgres.slow import SlowStatements
from async_jobs.adapters.postgres.statements import statements
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.domain import lifecycle
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.job import Job
from async_jobs.domain.lifecycle import Change
from async_jobs.domain.scheduling import LeaseGrant
from async_jobs.host import SystemClock
from async_jobs.testing.builders import a_job, later
from async_jobs.testing.clocks import NOW, ManualClock
from async_jobs.testing.contracts.scenes import added
from tests.kit.harness import clock, eventually


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """A process's connections; a test that keeps one of them fails."""
    pool = await create_pool(database_dsn, max_size=4)
    yield pool
    assert pool.get_idle_size() == pool.get_size(), "a connection was not given back"
    pool.terminate()


@pytest.fixture
async def operator(database_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside the pool, to look and to break things with."""
    connection = await asyncpg.connect(database_dsn)
    yield connection
    await connection.close()


@pytest.fixture
def store(pool: asyncpg.Pool) -> PostgresJobStore:
    return PostgresJobStore(pool)


async def stored(store: PostgresJobStore, count: int = 1) -> list[Job]:
    """Add jobs, and return them ordered by id."""
    jobs = [a_job() for _ in range(count)]
    await store.add(jobs, {})
    return sorted(jobs, key=lambda job: job.id)


def cancelled(job: Job) -> Change:
    return lifecycle.change(job, lifecycle.Cancelled(), now=NOW)


def leased(job: Job) -> LeaseGrant:
    return LeaseGrant(job.id, job.lease_seq, job.lease_seq + 1, later(60), NOW)


@asynccontextmanager
async def locked(connection: asyncpg.Connection, job_id: UUID) -> AsyncIterator[None]:
    """Hold the lock of a job's row; it is let go unchanged."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE", job_id)
    yield
    await transaction.rollback()


async def waiting_for_locks(connection: asyncpg.Connection, count: int = 1) -> list[int]:
    """Return the processes of the server that wait for a lock, once there are so many."""

    async def look() -> list[int]:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return [row["pid"] for row in rows] if len(rows) == count else []

    return await eventually(look, f"{count} wait for a lock")


async def terminate(connection: asyncpg.Connection, pids: list[int]) -> None:
    await connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM unnest($1::int[]) AS pid", pids
    )


# --- connections --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement_cache_size", "expected"),
    [
        (None, {"idle_in_transaction_session_timeout": "1min", "lock_timeout": "10s"}),
        # PgBouncer refuses what it does not know.
        (0, {"idle_in_transaction_session_timeout": "0", "lock_timeout": "0"}),
    ],
)
async def test_a_session_is_set_up_as_its_server_bears_it(
    database_dsn: str, statement_cache_size: int | None, expected: dict[str, str]
) -> None:
    """A holder that hangs loses its transaction; behind PgBouncer nothing is asked for."""
    async with await create_pool(
        database_dsn, statement_cache_size=statement_cache_size, application_name="an app"
    ) as pool:
        shown = {name: await pool.fetchval(f"SHOW {name}") for name in expected}
        name = await pool.fetchval("SHOW application_name")

    assert shown == expected
    assert name == "an app"


async def test_slow_statements_of_a_pool_are_told_by_name(database_dsn: str) -> None:
    """On each of its connections, as often as they are lent; of the fastest nothing is told."""
    told: list[str] = []
    slow = SlowStatements(1e-9, lambda name, *_: told.append(name), clock=SystemClock())
    never = SlowStatements(3_600, lambda name, *_: told.append(name), clock=SystemClock())
    for listener in (slow, never):
        async with await create_pool(database_dsn, slow=listener) as pool:
            store = PostgresJobStore(pool)
            job = await added(store)
            await store.get([job.id])

    assert {"get_jobs", "add_job"} <= set(told) <= {*statements(), "BEGIN", "COMMIT", "unnamed"}
    assert len(told) == len(set(told))


async def test_a_demoted_primary_is_left(pool: asyncpg.Pool, store: PostgresJobStore) -> None:
    """After a failover the old connections lead to a server that only reads."""
    async with pool.acquire() as first, pool.acquire() as second:
        for connection in (first, second):
            await connection.execute("SET default_transaction_read_only = on")

    with pytest.raises(Unavailable, match="read-only"):
        await store.add([a_job()], {})

    (job,) = await stored(store)
    async with pool.acquire() as first, pool.acquire() as second:
        shown = [
            await connection.fetchval("SHOW transaction_read_only")
            for connection in (first, second)
        ]
    assert [each.id for each in await store.get([job.id])] == [job.id]
    assert shown == ["off", "off"]


async def test_a_turn_on_a_demoted_primary_leaves_it(
    pool: asyncpg.Pool, store: PostgresJobStore
) -> None:
    """Counting still works there; leasing is what finds out."""
    (job,) = await stored(store)
    async with pool.acquire() as connection:
        await connection.execute("SET default_transaction_read_only = on")

    async def lease() -> frozenset[UUID]:
        async with store.turn(["notifications"]) as turn:
            await turn.running()
            return await turn.lease([leased(job)])

    with pytest.raises(Unavailable, match="read-only"):
        await lease()
    assert await lease() == {job.id}


async def test_a_save_whose_connection_is_killed_can_be_repeated(
    store: PostgresJobStore, operator: asyncpg.Connection, database_dsn: str
) -> None:
    """It is unavailable, changed nothing, and the pool has another connection."""
    (job,) = await stored(store)
    async with locked(operator, job.id):
        saving = asyncio.create_task(store.save([cancelled(job)]))
        killer = await asyncpg.connect(database_dsn)
        await terminate(killer, await waiting_for_locks(killer))
        await killer.close()
        with pytest.raises(Unavailable, match="did not answer"):
            await saving

    assert await store.get([job.id]) == [job]
    assert (await store.save([cancelled(job)])).ids == {job.id}


async def test_a_turn_whose_connection_is_killed_has_leased_nothing(
    store: PostgresJobStore, operator: asyncpg.Connection
) -> None:
    """Its lock is free at once, and what it leased is pending."""
    (job,) = await stored(store)

    async def lease_and_lose() -> None:
        async with store.turn(["notifications"]) as turn:
            await turn.lease([leased(job)])
            pids = await operator.fetch(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND state = 'idle in transaction'"
            )
            await terminate(operator, [row["pid"] for row in pids])

    with pytest.raises(Unavailable):
        await lease_and_lose()

    async with store.turn(["notifications"]) as turn:
        assert turn.use_cases == {"notifications"}
    assert await store.get([job.id]) == [job]


async def test_a_turn_of_a_process_that_vanished_is_free_again(
    store: PostgresJobStore, database_dsn: str
) -> None:
    """The server notices by itself that nobody is at the other end any more."""
    others = await create_pool(database_dsn)
    vanishing = PostgresJobStore(others).turn(["notifications"])
    held = await vanishing.__aenter__()
    async with store.turn(["notifications"]) as turn:
        before = turn.use_cases
    others.terminate()

    async def is_free() -> bool:
        async with store.turn(["notifications"]) as turn:
            return bool(turn.use_cases)

    await eventually(is_free, "the turn is free")
    assert held.use_cases == {"notifications"}
    assert not before
    with pytest.raises(Unavailable):
        await vanishing.__aexit__(None, None, None)


async def test_a_turn_holds_more_tenants_than_the_server_has_locks(store: PostgresJobStore) -> None:
    """Locks are shared memory: a turn that took one for each tenant would fail with enough."""
    tenants = {f"tenant-{number}" for number in range(50_000)}
    async with store.turn(["notifications"], tenants) as turn, store.turn([], tenants) as other:
        held, free = turn.tenants, other.tenants

    assert held == tenants
    assert not free


async def test_idle_connections_that_were_killed_are_replaced(
    pool: asyncpg.Pool, store: PostgresJobStore, operator: asyncpg.Connection
) -> None:
    """As after a restart: whoever comes next need not know."""
    (job,) = await stored(store)
    pids = await operator.fetch(
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await terminate(operator, [row["pid"] for row in pids])

    async def answers() -> bool:
        try:
            return await store.get([job.id]) == [job]
        except Unavailable:
            return False

    await eventually(answers, "the store answers")


# --- signals ------------------------------------------------------------------------------------


async def test_signals_come_back_when_the_listening_connection_was_killed(
    pool: asyncpg.Pool, operator: asyncpg.Connection
) -> None:
    """Another one listens a second later, to the same topics."""
    signal = PostgresSignal(pool, clock=clock)

    async def hears() -> bool:
        signal.notify("topic")
        return await signal.wait("topic", timeout_seconds=0.1)

    async def listeners() -> list[int]:
        rows = await operator.fetch(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
        )
        return [row["pid"] for row in rows]

    await eventually(hears, "the first signal")
    killed = await eventually(listeners, "somebody listens")
    await terminate(operator, killed)

    async def listens_again() -> bool:
        return bool(set(await listeners()) - set(killed))

    await eventually(listens_again, "somebody listens again")
    await eventually(hears, "a signal on the new connection")
    await signal.close()


async def test_what_was_told_while_nobody_listened_is_looked_for(pool: asyncpg.Pool) -> None:
    """A new listening connection wakes whoever waits, once, because it cannot know."""
    signal = PostgresSignal(pool, clock=clock)

    woken = await signal.wait("topic", timeout_seconds=60)

    assert woken
    await signal.close()


async def test_a_burst_of_signals_is_sent_as_one(
    pool: asyncpg.Pool, operator: asyncpg.Connection
) -> None:
    """NOTIFY takes a lock that all commits of the database wait for."""
    manual, heard = ManualClock(), list[str]()
    signal = PostgresSignal(pool, clock=manual)

    def listener(connection: object, pid: int, channel: str, payload: object) -> None:
        heard.append(channel)

    channels = [_channel("one"), _channel("two")]
    for channel in channels:
        await operator.add_listener(channel, listener)

    async def both_heard(times: int) -> None:
        async def look() -> bool:
            return len(heard) >= 2 * times

        await eventually(look, "both topics are heard")

    async def burst() -> None:
        for _ in range(1_000):
            signal.notify("one")
            signal.notify("two")
        for _ in range(10):
            await pool.fetchval("SELECT 1")
            await operator.fetchval("SELECT 1")

    await burst()
    await both_heard(1)
    await burst()
    within_the_pause = len(heard)
    manual.advance(0.005)
    await both_heard(2)
    manual.advance(0.005)
    await signal.close()

    assert within_the_pause == 2
    assert sorted(heard) == sorted(channels * 2)


# --- time ---------------------------------------------------------------------------------------


class CrookedClock(SystemClock):
    """A host's clock that is wrong, and whose monotonic clock began at some other time."""

    def __init__(self, *, wrong_by: timedelta) -> None:
        super().__init__()
        self._wrong_by = wrong_by

    def now(self) -> datetime:
        return super().now() + self._wrong_by

    def monotonic(self) -> float:
        return super().monotonic() + self._wrong_by.total_seconds()


@pytest.mark.parametrize("wrong_by", [timedelta(days=3), timedelta(hours=-1)])
async def test_the_time_is_the_databases_whatever_the_host_thinks(
    pool: asyncpg.Pool, wrong_by: timedelta
) -> None:
    """The tolerance is for a machine that stands still for a while, not for the clock."""
    crooked = PostgresClock(pool, host=CrookedClock(wrong_by=wrong_by))
    await crooked.sync()
    tolerance = timedelta(minutes=5)

    before = await pool.fetchval("SELECT clock_timestamp()")
    now = crooked.now()
    after = await pool.fetchval("SELECT clock_timestamp()")

    assert before - tolerance < now < after + tolerance


async def test_time_never_goes_back_when_it_is_measured_again(pool: asyncpg.Pool) -> None:
    """A host whose clock runs fast stands still until the database has caught up."""
    host = ManualClock()
    measured = PostgresClock(pool, host=host)
    await measured.sync()
    host.advance(3600)
    ahead = measured.now()

    await measured.refresh()

    assert measured.now() == ahead


# --- deadlocks ----------------------------------------------------------------------------------


async def deadlocks(connection: asyncpg.Connection) -> int:
    """Return how many the server has broken up, once all other connections have told theirs."""
    others = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    async def all_have_told() -> bool:
        return not await connection.fetchval(others)

    await eventually(all_have_told, "all other connections are closed")
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    return int(await connection.fetchval(query))


async def test_a_save_that_was_rolled_back_to_break_a_deadlock_is_repeated(
    database_dsn: str, operator: asyncpg.Connection
) -> None:
    """It waits for a row of somebody who waits for its own; the server chooses it as the victim."""
    # The server looks once: by then the stranger has to wait for what the save holds.
    await operator.execute(
        "DO $$ BEGIN EXECUTE format("
        "'ALTER DATABASE %I SET deadlock_timeout = ''500ms''', current_database()); END $$"
    )
    stranger, holder = [await asyncpg.connect(database_dsn) for _ in range(2)]
    await stranger.execute("SET deadlock_timeout = '1h'")
    async with await create_pool(database_dsn) as pool:
        store = PostgresJobStore(pool)
        first, second = await stored(store, 2)
        async with locked(stranger, second.id):
            async with locked(holder, first.id):
                saving = asyncio.create_task(store.save([cancelled(second), cancelled(first)]))
                await waiting_for_locks(operator, 1)
                # In the queue behind the save, which gets the first row and asks for the second.
                asking = asyncio.create_task(
                    stranger.execute("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE", first.id)
                )
                await waiting_for_locks(operator, 2)
            await asking
        applied = await saving
    await stranger.close()
    await holder.close()

    assert applied.ids == {first.id, second.id}
    assert await deadlocks(operator) == 1


async def test_saves_in_opposite_orders_never_wait_in_a_ring(
    database_dsn: str, operator: asyncpg.Connection
) -> None:
    """Each takes its rows in the order of their ids, however its changes are listed."""
    async with await create_pool(database_dsn) as pool:
        store = PostgresJobStore(pool)
        winners = []
        for _ in range(20):
            changes = [cancelled(job) for job in await stored(store, 30)]
            requested = [changes, changes[::-1]]
            answers = await asyncio.gather(*(store.save(each) for each in requested))
            winners.append({len(applied.ids) for applied in answers})

    # Both say applied: the same change made twice is made.
    assert winners == [{30}] * 20
    assert await deadlocks(operator) == 0


async def test_ck_4_a_clock_that_has_measured_runs_on_through_an_outage(
    database_dsn: str,
) -> None:
    """Outcomes that wait for the database must not be lost to the question what time it is."""
    host = ManualClock()
    async with await create_pool(database_dsn) as pool:
        measured = PostgresClock(pool, host=host)
        await measured.sync()
        before = measured.now()
    host.advance(600)

    await measured.sync()

    assert measured.now() == before + timedelta(seconds=600)


async def test_ck_4_a_clock_that_never_measured_tells_of_an_outage(database_dsn: str) -> None:
    """There is no time to go by."""
    async with await create_pool(database_dsn) as pool:
        fresh = PostgresClock(pool, host=ManualClock())

    with pytest.raises(Unavailable):
        await fresh.sync()
