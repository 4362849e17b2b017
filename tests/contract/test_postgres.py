"""The Postgres adapters keep the ports' promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from async_jobs.adapters.postgres.bulk import PostgresBulk
from async_jobs.adapters.postgres.catalog import PostgresCatalog
from async_jobs.adapters.postgres.checkpoints import PostgresCheckpoints
from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.adapters.postgres.controls import PostgresControls
from async_jobs.adapters.postgres.history import PostgresHistory
from async_jobs.adapters.postgres.outbox import PostgresOutbox
from async_jobs.adapters.postgres.overview import PostgresOverview
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.queue import PostgresJobQueue
from async_jobs.adapters.postgres.schedulers import PostgresSchedulers
from async_jobs.adapters.postgres.signal import PostgresSignal
from async_jobs.adapters.postgres.statistics import PostgresStatistics
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.tallies import PostgresTallies
from async_jobs.adapters.postgres.workers import PostgresWorkers
from async_jobs.application.enqueueing.service import JobService
from async_jobs.application.operating.bulk import BulkService
from async_jobs.application.operating.operations import OperationsService
from async_jobs.application.operating.steering import SteeringService
from async_jobs.domain.backoff import BackoffPolicy, BackoffType
from async_jobs.domain.bulk import BulkAction
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.job import Phase
from async_jobs.domain.presence import SchedulerInfo
from async_jobs.host import SystemClock
from async_jobs.ports.bulk import Bulk
from async_jobs.ports.bulk_steering import BulkSteering
from async_jobs.ports.catalog import Catalog
from async_jobs.ports.checkpoints import Checkpoints
from async_jobs.ports.clock import Clock
from async_jobs.ports.controls import Controls
from async_jobs.ports.history import History
from async_jobs.ports.jobs import Jobs
from async_jobs.ports.operations import Operations
from async_jobs.ports.overview import Overview
from async_jobs.ports.queue import JobQueue, Outbox
from async_jobs.ports.schedulers import Schedulers
from async_jobs.ports.signal import Signal
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.steering import Steering
from async_jobs.ports.store import Store
from async_jobs.ports.tallies import Tallies
from async_jobs.ports.workers import Workers
from async_jobs.testing.builders import UnreadableRows, later
from async_jobs.testing.clocks import NOW, ManualChance, ManualClock, let_others_run
from async_jobs.testing.contracts import (
    BulkContract,
    BulkSteeringContract,
    CatalogContract,
    CheckpointsContract,
    ClockContract,
    ControlsContract,
    HistoryContract,
    JobQueueContract,
    JobsContract,
    OperationsContract,
    OutboxContract,
    OverviewContract,
    SchedulersContract,
    SignalContract,
    StatisticsContract,
    SteeringContract,
    StoreContract,
    TalliesContract,
    WorkersContract,
)
from async_jobs.testing.contracts.bulk import all_of, begun
from async_jobs.testing.contracts.jobs import KIT_LIMITS
from async_jobs.testing.contracts.queues import PutBody
from async_jobs.testing.contracts.scenes import (
    UNTIL,
    Corrupt,
    Elapse,
    Mend,
    Transaction,
    added,
    in_phase,
)
from tests.kit import services

# One loop and one set of connections for the whole module: half the time of a test would
# otherwise go into connecting.
pytestmark = pytest.mark.asyncio(loop_scope="module")
module_fixture = pytest_asyncio.fixture(scope="module", loop_scope="module")
# Typed so loosely because what overrides a fixture made by pytest has to look like one.
fixture = cast("Callable[[Callable[..., Any]], Any]", pytest_asyncio.fixture(loop_scope="module"))


@module_fixture
async def pools(
    postgres_dsn: str, template_database: str
) -> AsyncIterator[tuple[asyncpg.Pool, asyncpg.Pool]]:
    """The connections that two processes would have, to a database of this module's own."""
    async with services.database(postgres_dsn, template_dsn=template_database) as dsn:
        pools = await create_pool(dsn, max_size=8), await create_pool(dsn, max_size=8)
        yield pools
        for pool in pools:
            pool.terminate()


@fixture
async def pool(pools: tuple[asyncpg.Pool, asyncpg.Pool]) -> AsyncIterator[asyncpg.Pool]:
    """Connections to an empty database; a test that keeps one of them fails."""
    await pools[0].execute(
        "DELETE FROM jobs; DELETE FROM handoffs; DELETE FROM workers; DELETE FROM checkpoints;"
        " DELETE FROM schedulers; DELETE FROM bulk_operations;"
        " DELETE FROM controls; DELETE FROM operations;"
        " DELETE FROM attempts; DELETE FROM tallies; DELETE FROM tally_sources;"
        " UPDATE controls_version SET version = 0"
    )
    yield pools[0]
    for pool in pools:
        assert pool.get_idle_size() == pool.get_size(), "a connection was not given back"


@fixture
async def other_pool(pool: asyncpg.Pool, pools: tuple[asyncpg.Pool, asyncpg.Pool]) -> asyncpg.Pool:
    """What another process would have."""
    return pools[1]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@fixture
async def elapse(clock: ManualClock, pool: asyncpg.Pool) -> Elapse:
    """Moves the clock, and waits until the database has answered what was under way."""

    async def elapse(seconds: float) -> None:
        clock.advance(seconds)
        await let_others_run(10)
        while pool.get_idle_size() < pool.get_size():
            await pool.fetchval("SELECT 1")
            await let_others_run(10)

    return elapse


def transactions(pool: asyncpg.Pool) -> Transaction:
    @asynccontextmanager
    async def transaction() -> AsyncIterator[object]:
        async with pool.acquire() as connection, connection.transaction():
            yield connection

    return transaction


class TestPostgresJobStore(StoreContract):
    @fixture
    async def store(self, pool: asyncpg.Pool, unreadable: UnreadableRows) -> Store:
        return PostgresJobStore(pool, unreadable=unreadable)

    @fixture
    async def other_store(self, other_pool: asyncpg.Pool) -> Store:
        return PostgresJobStore(other_pool)

    @fixture
    async def transaction(self, other_pool: asyncpg.Pool) -> Transaction:
        return transactions(other_pool)

    @fixture
    async def corrupt(self, pool: asyncpg.Pool) -> Corrupt:
        async def corrupt(job_id: UUID) -> None:
            await pool.execute(
                "UPDATE jobs SET backoff_policy = json_build_array(backoff_policy) WHERE id = $1",
                job_id,
            )

        return corrupt

    @fixture
    async def mend(self, pool: asyncpg.Pool) -> Mend:
        async def mend(job_id: UUID) -> None:
            statement = "UPDATE jobs SET backoff_policy = backoff_policy -> 0 WHERE id = $1"
            await pool.execute(statement, job_id)

        return mend

    @pytest.mark.parametrize(
        "damage",
        [
            "payload = '[]'",
            "payload = (repeat('[', 5000) || repeat(']', 5000))::json",
            "result = (repeat('[', 5000) || repeat(']', 5000))::json",
            "payload = '{\"a\": 1e400}'",
            "payload = ('{\"a\": ' || repeat('9', 5000) || '}')::json",
            "result = '1e400'",
            "errors = '[{}]'",
            "headers = '7'",
            "backoff_policy = '7'",
            'backoff_policy = \'{"type": "cubic"}\'',
        ],
    )
    async def test_ls_6_whatever_is_damaged(
        self, store: Store, pool: asyncpg.Pool, damage: str
    ) -> None:
        """Reads go on, and the slot is given back."""
        good, bad = [await in_phase(store, Phase.CLAIMED) for _ in range(2)]
        await pool.execute(f"UPDATE jobs SET {damage} WHERE id = $1", bad.id)

        assert await store.get([bad.id, good.id]) == [good]
        assert await store.expired(UNTIL, limit=10) == [good]
        assert await store.set_aside(UNTIL, until=later(360), limit=10) == 1

    @pytest.mark.parametrize(
        ("policy", "written"),
        [
            (BackoffPolicy(base_delay_seconds=60, max_delay_seconds=3600, jitter=0), "{}"),
            (BackoffPolicy(), '{"jitter":0.5}'),
            (
                BackoffPolicy(type=BackoffType.CONSTANT, base_delay_seconds=5, jitter=0),
                '{"type":"constant","base_delay_seconds":5.0}',
            ),
        ],
    )
    async def test_js_1_a_backoff_policy_is_stored_without_its_usual_values(
        self, store: Store, pool: asyncpg.Pool, policy: BackoffPolicy, written: str
    ) -> None:
        """Rows that are there rely on what they leave out."""
        job = await added(store, backoff_policy=policy)

        assert await pool.fetchval("SELECT backoff_policy FROM jobs") == written
        (read,) = await store.get([job.id])
        assert read.backoff_policy == policy

    async def test_ls_2_a_turn_whose_connection_died_is_free_again(
        self, store: Store, other_store: Store, pool: asyncpg.Pool
    ) -> None:
        """The server lets go of it with the session; the holder learns on its way out."""

        async def holder() -> None:
            async with store.turn(["notifications"]) as turn:
                assert turn.use_cases
                await pool.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks"
                    " WHERE locktype = 'advisory' AND database ="
                    " (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
                async with other_store.turn(["notifications"]) as other:
                    assert other.use_cases == {"notifications"}
                await turn.running()

        with pytest.raises(Unavailable):
            await holder()


class TestPostgresJobQueue(JobQueueContract):
    @fixture
    async def queue(self, pool: asyncpg.Pool, clock: ManualClock) -> JobQueue:
        return PostgresJobQueue(pool, "lane", clock=clock)

    @fixture
    async def other_lane(self, pool: asyncpg.Pool, clock: ManualClock) -> JobQueue:
        return PostgresJobQueue(pool, "other", clock=clock)

    @fixture
    async def elapse(self, elapse: Elapse) -> Elapse:
        return elapse

    @fixture
    async def poison(self, pool: asyncpg.Pool, clock: ManualClock) -> PutBody:
        async def poison(body: str) -> None:
            statement = "INSERT INTO handoffs (queue, visible_at) VALUES ('lane', $1)"
            await pool.execute(statement, clock.now())

        return poison


class TestPostgresOutbox(TestPostgresJobQueue, OutboxContract):
    @fixture
    async def store(self, pool: asyncpg.Pool) -> Store:
        return PostgresJobStore(pool)

    @fixture
    async def queue(self, store: PostgresJobStore, clock: ManualClock) -> Outbox:
        return PostgresOutbox(store, "lane", clock=clock)

    @fixture
    async def other_lane(self, store: PostgresJobStore, clock: ManualClock) -> Outbox:
        return PostgresOutbox(store, "other", clock=clock)


class TestPostgresSignal(SignalContract):
    @fixture
    async def signal(self, pool: asyncpg.Pool, clock: ManualClock) -> AsyncIterator[Signal]:
        signal = PostgresSignal(pool, clock=clock)
        yield signal
        clock.advance(1)  # past the pause between two sends
        await signal.close()

    @fixture
    async def other_signal(
        self, other_pool: asyncpg.Pool, clock: ManualClock
    ) -> AsyncIterator[Signal]:
        signal = PostgresSignal(other_pool, clock=clock)
        yield signal
        clock.advance(1)
        await signal.close()

    @fixture
    async def transaction(self, other_pool: asyncpg.Pool) -> Transaction:
        return transactions(other_pool)

    @fixture
    async def elapse(self, clock: ManualClock, pool: asyncpg.Pool) -> Elapse:
        async def elapse(seconds: float) -> None:
            clock.advance(seconds)
            for _ in range(5):  # what is notified comes by a way of its own
                await let_others_run()
                await pool.fetchval("SELECT 1")

        return elapse


class TestPostgresWorkers(WorkersContract):
    @fixture
    async def workers(self, pool: asyncpg.Pool) -> Workers:
        return PostgresWorkers(pool)


class TestPostgresCheckpoints(CheckpointsContract):
    @fixture
    async def checkpoints(self, pool: asyncpg.Pool) -> Checkpoints:
        return PostgresCheckpoints(pool)


class TestPostgresStatistics(StatisticsContract):
    @fixture
    async def store(self, pool: asyncpg.Pool) -> Store:
        return PostgresJobStore(pool)

    @fixture
    async def statistics(self, pool: asyncpg.Pool) -> Statistics:
        return PostgresStatistics(pool)


class TestPostgresTallies(TalliesContract):
    @fixture
    async def tallies(self, pool: asyncpg.Pool) -> Tallies:
        return PostgresTallies(pool)


class TestPostgresClock(ClockContract):
    @fixture
    async def clock(self, pool: asyncpg.Pool) -> Clock:
        clock = PostgresClock(pool, host=SystemClock())
        await clock.refresh()
        return clock

    @fixture
    async def elapse(self, clock: PostgresClock) -> Elapse:
        async def elapse(seconds: float) -> None:
            await clock.sleep(seconds)
            await clock.refresh()

        return elapse


class TestJobServiceOnPostgres(JobsContract):
    @fixture
    async def store(self, pool: asyncpg.Pool) -> Store:
        return PostgresJobStore(pool)

    @fixture
    async def jobs(self, store: Store, clock: ManualClock) -> Jobs:
        return JobService(KIT_LIMITS, store, clock=clock, chance=ManualChance())


class TestPostgresSchedulers(SchedulersContract):
    @fixture
    async def schedulers(self, pool: asyncpg.Pool) -> Schedulers:
        return PostgresSchedulers(pool)

    async def test_what_another_version_tells_besides_is_left_out(
        self, schedulers: Schedulers, pool: asyncpg.Pool
    ) -> None:
        """And what it does not tell is as if there were nothing to tell."""
        await pool.execute(
            "INSERT INTO schedulers VALUES ('a', $1, $2, '"
            '{"host": "h", "version": "9", "tick_seconds": 1, "mood": ["good"]}'
            "')",
            NOW,
            later(60),
        )

        (known,) = await schedulers.known()

        assert known == SchedulerInfo(
            scheduler_id="a",
            host="h",
            version="9",
            tick_seconds=1,
            ticked_at=NOW,
            alive_until=later(60),
        )


class TestPostgresControls(ControlsContract):
    @fixture
    async def controls(self, pool: asyncpg.Pool) -> Controls:
        return PostgresControls(pool)


class TestSteeringServiceOnPostgres(SteeringContract):
    @fixture
    async def steering(self, pool: asyncpg.Pool, clock: ManualClock) -> Steering:
        return SteeringService(
            KIT_LIMITS,
            PostgresControls(pool),
            PostgresOverview(pool),
            clock=clock,
            chance=ManualChance(),
        )


_DROP_DAYS = """
DO $$ DECLARE part text; BEGIN
    FOR part IN
        SELECT inhrelid::regclass FROM pg_inherits
        WHERE inhparent = 'attempts'::regclass AND inhrelid <> 'attempts_default'::regclass
    LOOP EXECUTE 'DROP TABLE ' || part; END LOOP;
END $$
"""


class TestPostgresBulk(BulkContract):
    @fixture
    async def store(self, pool: asyncpg.Pool) -> Store:
        return PostgresJobStore(pool)

    @fixture
    async def bulk(self, store: PostgresJobStore) -> Bulk:
        return PostgresBulk(store)

    @fixture
    async def other_bulk(self, other_pool: asyncpg.Pool) -> Bulk:
        return PostgresBulk(PostgresJobStore(other_pool))

    @fixture
    async def controls(self, pool: asyncpg.Pool) -> Controls:
        return PostgresControls(pool)

    @fixture
    async def history(self, pool: asyncpg.Pool) -> History:
        return PostgresHistory(pool)

    @fixture
    async def corrupt(self, pool: asyncpg.Pool) -> Corrupt:
        async def corrupt(job_id: UUID) -> None:
            await pool.execute("UPDATE jobs SET payload = '[]' WHERE id = $1", job_id)

        return corrupt

    async def test_bu_5_what_a_trigger_keeps_fails_alone(
        self, store: Store, bulk: Bulk, pool: asyncpg.Pool
    ) -> None:
        """Whether it raises or says nothing; every other job of the batch is changed."""
        jobs = [await added(store) for _ in range(4)]
        raising, silent = jobs[1].id, jobs[2].id
        await pool.execute(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF new.id = '{raising}' THEN RAISE 'kept'; END IF; RETURN NULL; END $$;"
            " CREATE TRIGGER keep BEFORE UPDATE ON jobs FOR EACH ROW"
            f" WHEN (new.id IN ('{raising}', '{silent}')) EXECUTE FUNCTION keep()"
        )
        try:
            over = await all_of(bulk, await begun(bulk, BulkAction.CANCEL))
        finally:
            await pool.execute("DROP FUNCTION keep CASCADE")

        assert (over.done, over.skipped, over.failed) == (2, 0, 2)
        assert over.problem is not None
        left = await store.get([job.id for job in jobs])
        assert {job.id for job in left if job.phase is Phase.PENDING} == {raising, silent}


class TestBulkServiceOnPostgres(BulkSteeringContract):
    @fixture
    async def store(self, pool: asyncpg.Pool) -> Store:
        return PostgresJobStore(pool)

    @fixture
    async def bulk(self, store: PostgresJobStore) -> Bulk:
        return PostgresBulk(store)

    @fixture
    async def controls(self, pool: asyncpg.Pool) -> Controls:
        return PostgresControls(pool)

    @fixture
    async def bulk_steering(self, bulk: Bulk, clock: ManualClock) -> BulkSteering:
        return BulkService(bulk, clock=clock, chance=ManualChance())


class TestPostgresHistory(HistoryContract):
    @fixture
    async def store(self, pool: asyncpg.Pool) -> Store:
        await pool.execute(_DROP_DAYS)
        return PostgresJobStore(pool)

    @fixture
    async def history(self, pool: asyncpg.Pool) -> History:
        return PostgresHistory(pool)

    @fixture
    async def other_history(self, other_pool: asyncpg.Pool) -> History:
        return PostgresHistory(other_pool)

    @fixture
    async def corrupt(self, pool: asyncpg.Pool) -> Corrupt:
        async def corrupt(job_id: UUID) -> None:
            statement = "UPDATE jobs SET backoff_policy = json_build_array() WHERE id = $1"
            await pool.execute(statement, job_id)

        return corrupt


class TestPostgresCatalog(CatalogContract):
    @fixture
    async def store(self, pool: asyncpg.Pool) -> Store:
        return PostgresJobStore(pool)

    @fixture
    async def catalog(self, other_pool: asyncpg.Pool) -> Catalog:
        return PostgresCatalog(other_pool)

    @fixture
    async def corrupt(self, pool: asyncpg.Pool) -> Corrupt:
        async def corrupt(job_id: UUID) -> None:
            statement = "UPDATE jobs SET backoff_policy = json_build_array() WHERE id = $1"
            await pool.execute(statement, job_id)

        return corrupt


class TestPostgresOverview(OverviewContract):
    @fixture
    async def store(self, pool: asyncpg.Pool) -> Store:
        return PostgresJobStore(pool)

    @fixture
    async def overview(self, other_pool: asyncpg.Pool) -> Overview:
        return PostgresOverview(other_pool)


class TestOperationsServiceOnPostgres(OperationsContract):
    @fixture
    async def store(self, pool: asyncpg.Pool) -> Store:
        return PostgresJobStore(pool)

    @fixture
    async def workers(self, pool: asyncpg.Pool) -> Workers:
        return PostgresWorkers(pool)

    @fixture
    async def schedulers(self, pool: asyncpg.Pool) -> Schedulers:
        return PostgresSchedulers(pool)

    @fixture
    async def controls(self, pool: asyncpg.Pool) -> Controls:
        return PostgresControls(pool)

    @fixture
    async def operations(self, store: Store, pool: asyncpg.Pool, clock: ManualClock) -> Operations:
        return OperationsService(
            KIT_LIMITS,
            store,
            PostgresOverview(pool),
            workers=PostgresWorkers(pool),
            schedulers=PostgresSchedulers(pool),
            checkpoints=PostgresCheckpoints(pool),
            statistics=PostgresStatistics(pool),
            controls=PostgresControls(pool),
            history=PostgresHistory(pool),
            clock=clock,
        )
