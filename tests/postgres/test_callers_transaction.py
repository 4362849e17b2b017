"""Enqueues in a caller's own transaction: on that connection, and on no other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from opentelemetry.sdk.trace import TracerProvider

from async_jobs import (
    ConfigurationError,
    EnqueueJobRequest,
    InvalidJobError,
    JobService,
    PostgresJobStore,
    TenantBusy,
    TenantQuota,
    Unavailable,
    UseCaseConfig,
)
from async_jobs.adapters.postgres import adding
from async_jobs.adapters.postgres import pool as pools
from async_jobs.adapters.postgres.pool import AnyConnection, create_pool
from async_jobs.adapters.postgres.signal import _channel
from async_jobs.adapters.telemetry.traces import OpenTelemetryTracing
from async_jobs.domain.job import Job
from async_jobs.domain.trace_context import trace_context_of
from async_jobs.ports.signal import DISPATCH
from async_jobs.testing.builders import SimpleLimits, a_job
from async_jobs.testing.contracts.scenes import race

LIMITS = SimpleLimits(
    use_case_configs={"mail": UseCaseConfig()},
    per_tenant_quotas={"limited": TenantQuota(max_pending_jobs=3)},
)
Connecting = Callable[[], Awaitable[asyncpg.Connection]]


@pytest.fixture
async def operator(database_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside those under test, to look with."""
    connection = await asyncpg.connect(database_dsn)
    yield connection
    await connection.close()


@asynccontextmanager
async def pool_of(dsn: str, size: int, **options: Any) -> AsyncIterator[asyncpg.Pool]:
    """An application's own pool."""
    pool = await asyncpg.create_pool(dsn, min_size=0, max_size=size, **options)
    yield pool
    pool.terminate()


def service_on(pool: asyncpg.Pool) -> JobService:
    return JobService(LIMITS, PostgresJobStore(pool))


def a_request(tenant_id: str = "acme", **fields: Any) -> EnqueueJobRequest:
    request = {"use_case": "mail", "type": "send", "payload": {"to": ["ä", 1]}} | fields
    return EnqueueJobRequest(tenant_id=tenant_id, **request)


async def count(connection: AnyConnection) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM jobs"))


async def test_the_trace_of_the_transaction_goes_along(
    database_dsn: str, operator: asyncpg.Connection
) -> None:
    """The job's row has the context of its enqueue; one of a group has that of its own call."""
    provider = TracerProvider(shutdown_on_exit=False)
    tracer, tracing = provider.get_tracer("caller"), OpenTelemetryTracing(provider=provider)
    traces: set[str] = set()
    async with pool_of(database_dsn, 2) as pool:
        service = JobService(LIMITS, PostgresJobStore(pool), tracing=tracing)

        async def alone() -> None:
            with tracer.start_as_current_span("request") as span:
                traces.add(f"{span.get_span_context().trace_id:032x}")
                await service.enqueue(a_request())

        await race(alone(), alone(), alone())
        async with pool.acquire() as connection, connection.transaction():
            with tracer.start_as_current_span("request") as span:
                traces.add(f"{span.get_span_context().trace_id:032x}")
                await service.enqueue(a_request(headers={"a": "b"}), connection=connection)

    rows = [json.loads(row[0]) for row in await operator.fetch("SELECT headers FROM jobs")]
    carried = [trace_context_of(headers) for headers in rows]
    assert {each.trace_id for each in carried if each is not None} == traces
    assert len(rows) == 4
    assert [headers.get("a") for headers in rows].count("b") == 1


# --- no other connection ------------------------------------------------------------------------


async def test_a_pool_of_one_is_enough(database_dsn: str, operator: asyncpg.Connection) -> None:
    """One job, many, and those of a tenant whose jobs are counted."""
    async with pool_of(database_dsn, 1) as pool:
        service = service_on(pool)
        async with asyncio.timeout(60), pool.acquire() as connection, connection.transaction():
            await service.enqueue(a_request(), connection=connection)
            await service.enqueue_many([a_request(), a_request()], connection=connection)
            await service.enqueue(a_request("limited"), connection=connection)
            await service.enqueue_many([a_request("limited")] * 2, connection=connection)

    assert await count(operator) == 6


@pytest.mark.parametrize("own", [True, False], ids=["create_pool", "asyncpg.create_pool"])
async def test_everybody_may_hold_a_transaction_when_the_first_job_comes(
    database_dsn: str, operator: asyncpg.Connection, own: bool
) -> None:
    """As many requests as the pool has connections, in a process that has just begun."""
    async with AsyncExitStack() as stack:
        if own:
            pool = await stack.enter_async_context(await create_pool(database_dsn, max_size=10))
        else:
            pool = await stack.enter_async_context(pool_of(database_dsn, 10))
        service = service_on(pool)
        all_hold_one = asyncio.Barrier(10)

        async def request() -> None:
            async with pool.acquire() as connection, connection.transaction():
                await all_hold_one.wait()
                await service.enqueue(a_request(), connection=connection)

        await race(*(request() for _ in range(10)))

    assert await count(operator) == 10


async def test_nobody_waits_for_a_connection_for_ever(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for its statement, nor for the time, nor for a turn."""
    monkeypatch.setattr(pools, "ACQUIRE_TIMEOUT_SECONDS", 0.01)
    async with pool_of(database_dsn, 1) as pool:
        store = PostgresJobStore(pool)
        service = JobService(LIMITS, store)

        async def turn() -> None:
            async with store.turn(["mail"]):
                pass

        async with pool.acquire():
            calls = [service.enqueue(a_request()), store.add([a_job()], {}), store.get([]), turn()]
            for call in calls:
                with pytest.raises(Unavailable, match=r"no connection of the pool was free .* 1:"):
                    await call
        monkeypatch.undo()

        await service.enqueue(a_request())


# --- no open transaction ------------------------------------------------------------------------


async def test_a_connection_without_a_transaction_is_refused(
    database_dsn: str, operator: asyncpg.Connection
) -> None:
    """The job would be committed by itself, whatever became of the caller's work."""
    async with pool_of(database_dsn, 2) as pool:
        service = service_on(pool)
        async with pool.acquire() as connection:
            for call in (service.enqueue, service.enqueue_many):
                request: Any = a_request() if call == service.enqueue else [a_request()]
                with pytest.raises(InvalidJobError, match=r"^connection: must be .* transaction"):
                    await call(request, connection=connection)
        with pytest.raises(InvalidJobError, match=r"^connection: must be .*; it has no open"):
            await service.enqueue(a_request(), connection=connection)  # given back by now
        with pytest.raises(InvalidJobError, match=r"^connection: must be .*; got asyncpg\.pool"):
            await service.enqueue(a_request(), connection=pool)

    assert await count(operator) == 0


async def test_a_transaction_begun_by_a_statement_is_one(
    database_dsn: str, operator: asyncpg.Connection
) -> None:
    """Also where a call has to be undone, which takes a savepoint."""
    connection = await asyncpg.connect(database_dsn)
    async with pool_of(database_dsn, 1) as pool:
        service = service_on(pool)
        taken = await service.enqueue(a_request())
        await connection.execute("BEGIN")
        await service.enqueue_many([a_request(), a_request()], connection=connection)
        with pytest.raises(InvalidJobError, match=r"jobs\[1\]\.id: is taken"):
            await service.enqueue_many(
                [a_request(), a_request("other", id=taken.job_id)], connection=connection
            )
        await service.enqueue_many([a_request("limited")] * 2, connection=connection)
        await connection.execute("COMMIT")
        await connection.close()

    assert await count(operator) == 5


# --- what the caller learns ---------------------------------------------------------------------


async def test_the_commit_wakes_schedulers(database_dsn: str, operator: asyncpg.Connection) -> None:
    """Unasked, and with no job to be seen before."""
    woken = asyncio.Event()
    seen: list[int] = []

    def heard(*_: object) -> None:
        woken.set()

    await operator.add_listener(_channel(DISPATCH), heard)
    async with pool_of(database_dsn, 1) as pool:
        service = service_on(pool)
        async with pool.acquire() as connection:
            async with connection.transaction():
                await service.enqueue(a_request(), connection=connection)
                seen.append(await count(operator))
                assert not woken.is_set()
            async with asyncio.timeout(60):
                await woken.wait()

    assert [*seen, await count(operator)] == [0, 1]


async def test_the_callers_own_retry_sees_the_drivers_exception(
    database_dsn: str, operator: asyncpg.Connection
) -> None:
    """What has to be repeated is the whole transaction, and only the caller can do that."""
    async with pool_of(database_dsn, 2) as pool:
        service = service_on(pool)
        await service.enqueue(a_request("limited"))
        async with pool.acquire() as connection:
            transaction = connection.transaction(isolation="repeatable_read")
            await transaction.start()
            await count(connection)
            await operator.execute("UPDATE admissions SET live_max = live_max + 1")
            with pytest.raises(asyncpg.SerializationError) as raised:
                await service.enqueue(a_request("limited"), connection=connection)
            await transaction.rollback()
            async with connection.transaction(isolation="repeatable_read"):
                await service.enqueue(a_request("limited"), connection=connection)

    assert raised.value.sqlstate == "40001"


async def test_a_deadlock_of_two_callers_is_told_as_one(database_dsn: str) -> None:
    """Two tenants with a quota, in opposite order: one of the two has to begin again."""
    limits = SimpleLimits(
        use_case_configs=LIMITS.use_case_configs,
        per_tenant_quotas={name: TenantQuota(max_pending_jobs=9) for name in "ab"},
    )
    async with pool_of(database_dsn, 2) as pool:
        service = JobService(limits, PostgresJobStore(pool))
        for name in "ab":
            await service.enqueue(a_request(name))
        both_hold_one = asyncio.Barrier(2)

        async def caller(first: str, second: str) -> str | None:
            try:
                async with pool.acquire() as connection, connection.transaction():
                    await service.enqueue(a_request(first), connection=connection)
                    await both_hold_one.wait()
                    await service.enqueue(a_request(second), connection=connection)
            except asyncpg.DeadlockDetectedError as error:
                return error.sqlstate
            return None

        told = await race(caller("a", "b"), caller("b", "a"))

    assert {*told} == {None, "40P01"}


# --- what the caller did wrong --------------------------------------------------------------------


@pytest.mark.parametrize("first", [False, True], ids=["checked", "first call"])
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
async def test_an_aborted_transaction_is_told_as_one(
    database_dsn: str, many: bool, first: bool
) -> None:
    """The database answers well; a savepoint brings the transaction back."""
    async with pool_of(database_dsn, 1) as pool, pool.acquire() as connection:
        service = service_on(pool)

        async def enqueue() -> None:
            if many:
                await service.enqueue_many([a_request("limited")] * 2, connection=connection)
            else:
                await service.enqueue(a_request(), connection=connection)

        if not first:
            async with connection.transaction():
                await service.enqueue(a_request(), connection=connection)
        async with connection.transaction():
            savepoint = connection.transaction()
            await savepoint.start()
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.execute("SELECT 1/0")
            with pytest.raises(InvalidJobError, match=r"^connection: .*aborted.*roll it back"):
                await enqueue()
            await savepoint.rollback()
            await enqueue()


async def test_two_calls_at_once_on_a_connection_are_told(database_dsn: str) -> None:
    """One goes on; it is not the database that failed the other one."""
    async with pool_of(database_dsn, 1) as pool, pool.acquire() as connection:
        service = service_on(pool)
        async with connection.transaction():
            await service.enqueue(a_request(), connection=connection)
        async with connection.transaction():
            calls = [service.enqueue(a_request(), connection=connection) for _ in range(2)]
            told = await asyncio.gather(*calls, return_exceptions=True)

    (error,) = [each for each in told if isinstance(each, BaseException)]
    assert isinstance(error, InvalidJobError)
    assert str(error).startswith("connection: is in use by another call: await one call")


async def test_a_transaction_that_only_reads_is_told_as_one(database_dsn: str) -> None:
    """If the caller made it so; where the database makes all of them so, waiting may help."""
    async with pool_of(database_dsn, 1) as pool, pool.acquire() as connection:
        service = service_on(pool)

        async def enqueue(**options: Any) -> None:
            async with connection.transaction(**options):
                await service.enqueue(a_request(), connection=connection)

        with pytest.raises(InvalidJobError, match=r"^connection: its transaction only reads"):
            await enqueue(readonly=True)
        await enqueue()
        await connection.execute("SET default_transaction_read_only = on")
        with pytest.raises(Unavailable, match="takes no writes"):
            await enqueue()


# --- tenants with a quota -----------------------------------------------------------------------


@asynccontextmanager
async def busy(pool: asyncpg.Pool) -> AsyncIterator[JobService]:
    """A transaction that has enqueued for the limited tenant is open throughout a block."""
    service = service_on(pool)
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await service.enqueue(a_request("limited"), connection=connection)
        yield service
        await transaction.rollback()


async def lock_timeout(connection: AnyConnection) -> str:
    return str(await connection.fetchval("SHOW lock_timeout"))


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
async def test_a_busy_tenant_is_waited_for_so_long_and_told(
    database_dsn: str, operator: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    """Whoever waits in a transaction learns for whom; other tenants' transactions do not wait."""
    monkeypatch.setattr(adding, "LOCK_TIMEOUT_SECONDS", 0.05)
    async with pool_of(database_dsn, 2) as pool, busy(pool) as service, pool.acquire() as own:
        requests = [a_request("limited"), a_request()]

        async def enqueue() -> None:
            async with own.transaction():
                if many:
                    await service.enqueue_many(requests, connection=own)
                else:
                    await service.enqueue(requests[0], connection=own)

        with pytest.raises(TenantBusy, match=r"for 'limited' did not end within 0\.05 s") as told:
            await enqueue()
        async with own.transaction():
            await service.enqueue_many([a_request(), a_request("other")], connection=own)

    assert told.value.tenant_ids == ("limited",)
    assert await count(operator) == 2


async def test_a_shorter_lock_timeout_of_the_callers_holds(database_dsn: str) -> None:
    """Also where it was set for this transaction only."""
    async with pool_of(database_dsn, 2) as pool, busy(pool) as service, pool.acquire() as own:

        async def enqueue() -> None:
            async with own.transaction():
                await own.execute("SET LOCAL lock_timeout = '20ms'")
                await service.enqueue(a_request("limited"), connection=own)

        with pytest.raises(TenantBusy):
            await enqueue()
        assert await lock_timeout(own) == "0"


@pytest.mark.parametrize("theirs", ["0", "20ms", "2h"])
async def test_the_callers_lock_timeout_is_left_as_it_was(database_dsn: str, theirs: str) -> None:
    """For all that follows in its transaction, and after it."""
    async with pool_of(database_dsn, 1) as pool, pool.acquire() as own:
        service = service_on(pool)
        for _ in range(2):  # the first one makes the tenant's row
            async with own.transaction():
                await own.execute(f"SET LOCAL lock_timeout = '{theirs}'")
                await service.enqueue(a_request("limited"), connection=own)
                assert await lock_timeout(own) == theirs

        assert await lock_timeout(own) == "0"


async def test_an_enqueue_on_its_own_waits_no_longer(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a setting of its session, which costs no trip."""
    monkeypatch.setattr(pools, "LOCK_TIMEOUT_SECONDS", 0.05)
    async with await create_pool(database_dsn) as pool, busy(pool) as service:
        with pytest.raises(TenantBusy, match="for 'limited' did not end within"):
            await service.enqueue(a_request("limited"))
        await service.enqueue(a_request())


async def test_a_pool_of_the_applications_bounds_it_by_its_own_setting(database_dsn: str) -> None:
    """Its sessions are the application's, and so is how long they wait."""
    settings = {"lock_timeout": "20ms"}
    async with (
        pool_of(database_dsn, 2, server_settings=settings) as pool,
        busy(pool) as service,
    ):
        with pytest.raises(TenantBusy, match="or the session's lock_timeout"):
            await service.enqueue(a_request("limited"))


# --- codecs -------------------------------------------------------------------------------------


async def json_codecs(connection: asyncpg.Connection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
        )


async def test_an_applications_json_codecs_change_nothing(database_dsn: str) -> None:
    """What it writes a pool without them reads, and the other way round."""
    async with (
        pool_of(database_dsn, 2, init=json_codecs) as theirs,
        await create_pool(database_dsn, max_size=2) as ours,
    ):
        stores = [PostgresJobStore(theirs), PostgresJobStore(ours)]
        for store in stores:
            jobs = [a_job(headers={"trace": "1"}, payload={"a": [1, "ä"]}) for _ in range(3)]
            await store.add(jobs[:1], {})
            await store.add(jobs[1:], {})
            for reader in stores:
                read = await reader.get([job.id for job in jobs])
                assert sorted(read, key=_id_of) == jobs
        async with theirs.acquire() as connection, connection.transaction():
            enqueued = await service_on(theirs).enqueue(a_request(), connection=connection)
        (job,) = await stores[1].get([enqueued.job_id])
        assert job.payload == {"to": ["ä", 1]}


def _id_of(job: Job) -> UUID:
    return job.id


CODECS: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any], str]] = {
    "a uuid as text": ("uuid", str, str, "text"),
    "a uuid as bytes": ("uuid", lambda uuid: uuid.bytes, bytes, "binary"),
    "an instant as text": ("timestamptz", datetime.isoformat, str, "text"),
    "a time as text": ("interval", str, str, "text"),
}


@pytest.mark.parametrize("codec", CODECS)
async def test_a_codec_that_hides_ids_or_times_is_refused_by_name(
    database_dsn: str, operator: asyncpg.Connection, codec: str
) -> None:
    """On the pool, and on a connection that is handed in; nothing is written by halves."""
    kind, encoder, decoder, form = CODECS[codec]

    async def init(connection: asyncpg.Connection) -> None:
        await connection.set_type_codec(
            kind, encoder=encoder, decoder=decoder, schema="pg_catalog", format=form
        )

    async with pool_of(database_dsn, 2, init=init) as theirs, pool_of(database_dsn, 1) as plain:
        with pytest.raises(ConfigurationError, match=f"codec of its own for {kind}.*reset_type"):
            await service_on(theirs).enqueue(a_request())
        async with theirs.acquire() as connection, connection.transaction():
            with pytest.raises(ConfigurationError, match=f"codec of its own for {kind}"):
                await service_on(plain).enqueue(a_request(), connection=connection)
        assert theirs.get_idle_size() == theirs.get_size()

    assert await count(operator) == 0


class Instant(datetime):
    """What some libraries make of every instant."""


async def test_a_codec_that_gives_what_is_asked_for_works(database_dsn: str) -> None:
    """A subclass, or a numeric that no statement exchanges."""

    async def init(connection: asyncpg.Connection) -> None:
        await connection.set_type_codec(
            "timestamptz",
            encoder=datetime.isoformat,
            decoder=Instant.fromisoformat,
            schema="pg_catalog",
        )
        await connection.set_type_codec(
            "numeric", encoder=str, decoder=float, schema="pg_catalog", format="text"
        )

    async with pool_of(database_dsn, 2, init=init) as pool:
        store = PostgresJobStore(pool)
        job = a_job(delay_tolerance=timedelta(minutes=1))
        await store.add([job], {"acme": 5})
        assert await store.get([job.id]) == [job]
