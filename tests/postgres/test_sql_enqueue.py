"""Enqueues from SQL, in the transactions of drivers that JobService knows nothing of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, LiteralString
from urllib.parse import unquote, urlsplit
from uuid import UUID

import asyncpg
import django
import psycopg
import pytest
from django import db as django_db
from django.conf import settings
from django.db.transaction import atomic
from psycopg import errors
from psycopg.types.json import Json, Jsonb
from sqlalchemy import create_engine, text

from async_jobs import (
    BackoffPolicy,
    EnqueueJobRequest,
    JobService,
    PostgresJobStore,
    QuotaExceededError,
    TenantQuota,
    UseCaseConfig,
)
from async_jobs.adapters.postgres.migrate import migrate
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.signal import _channel
from async_jobs.domain.bounds import check_payload
from async_jobs.domain.enqueue import new_job
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.job import Job, JobFilter, JsonValue
from async_jobs.ports.signal import DISPATCH
from async_jobs.testing.builders import SimpleLimits
from async_jobs.testing.contracts.scenes import RollBack
from tests.kit.pages import ROOT, blocks_of

HOW_TO = ROOT / "docs" / "how-to" / "your-database.md"

LIMITS = SimpleLimits(
    use_case_configs={"mail": UseCaseConfig()},
    per_tenant_quotas={"limited": TenantQuota(max_pending_jobs=2)},
)
ENQUEUE: LiteralString = """
SELECT job_id, duplicate FROM async_jobs_enqueue(
    tenant_id => %(tenant_id)s, use_case => 'mail', type => 'send', payload => %(payload)s
"""
PAYLOAD: dict[str, JsonValue] = {"to": ["ä", {"n": 1.5}], "none": None}


@pytest.fixture
async def store(database_dsn: str) -> AsyncIterator[PostgresJobStore]:
    async with await create_pool(database_dsn) as pool:
        yield PostgresJobStore(pool)


@pytest.fixture
def connection(database_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_dsn) as connection:
        yield connection


def enqueued(connection: psycopg.Connection[Any], **fields: Any) -> tuple[UUID, bool]:
    """Call the function with the fields given."""
    fields = {"tenant_id": "acme", "use_case": "mail", "type": "send", "payload": PAYLOAD} | fields
    bound = {
        name: Json(value) if isinstance(value, dict | list) else value
        for name, value in fields.items()
    }
    named = ", ".join(f"{name} => %({name})s" for name in bound)
    row = connection.execute(
        f"SELECT job_id, duplicate FROM async_jobs_enqueue({named})",
        bound,
    ).fetchone()
    assert row is not None
    return row[0], row[1]


async def the_job(store: PostgresJobStore, job_id: UUID) -> Job:
    (job,) = await store.get([job_id])
    return job


# --- what it makes ------------------------------------------------------------------------------


async def test_it_makes_the_job_that_a_request_makes(
    store: PostgresJobStore, connection: psycopg.Connection[Any]
) -> None:
    """To the last field, defaults of the library included."""
    at_first, _ = enqueued(connection)
    after_all, _ = enqueued(
        connection,
        delay_tolerance=timedelta(minutes=3),
        priority=-4,
        max_attempts=2,
        dedupe_key="daily",
        headers={"trace": "1"},
        queue="bulk",
    )
    connection.commit()
    plain, full = await the_job(store, at_first), await the_job(store, after_all)

    def asked(job: Job, **fields: Any) -> Job:
        request = EnqueueJobRequest(
            tenant_id="acme", use_case="mail", type="send", payload=PAYLOAD, **fields
        )
        limits = SimpleLimits(
            use_case_configs={"mail": UseCaseConfig(queue=job.queue)}, per_tenant_quotas={}
        )
        return new_job(request, limits, now=job.created_at, id=job.id)

    assert plain == asked(plain)
    assert plain.backoff_policy == BackoffPolicy()
    assert full == asked(
        full,
        delay_tolerance=timedelta(minutes=3),
        priority=-4,
        max_attempts=2,
        dedupe_key="daily",
        headers={"trace": "1"},
    )
    assert (at_first.version, at_first < after_all) == (7, True)


async def test_a_later_start_is_kept_and_a_past_one_is_now(
    store: PostgresJobStore, connection: psycopg.Connection[Any]
) -> None:
    """As in Python; what is not due waits where schedulers look for it."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    later, earlier = row[0] + timedelta(hours=1), row[0] - timedelta(hours=1)
    ids = [enqueued(connection, run_at=run_at)[0] for run_at in (later, earlier)]
    connection.commit()
    due_later, due_now = [await the_job(store, job_id) for job_id in ids]

    assert due_later.run_at == later
    assert due_now.run_at == due_now.created_at >= row[0]
    assert due_now.deadline_at == due_now.run_at + timedelta(seconds=60)
    upcoming = await store.promote(due_now.run_at, limit=10)
    assert upcoming.run_at == later


# --- whose transaction --------------------------------------------------------------------------


async def test_an_asynchronous_psycopg_connection_commits_it_and_wakes_schedulers(
    database_dsn: str, store: PostgresJobStore
) -> None:
    """And with a rollback nothing is there."""
    woken = asyncio.Event()
    operator = await asyncpg.connect(database_dsn)
    await operator.add_listener(_channel(DISPATCH), lambda *_: woken.set())
    values = {"tenant_id": "acme", "payload": Json(PAYLOAD)}
    async with await psycopg.AsyncConnection.connect(database_dsn) as connection:
        with suppress(RollBack):
            async with connection.transaction():
                await connection.execute(ENQUEUE + ")", values)
                raise RollBack
        async with connection.transaction():
            answer = await connection.execute(ENQUEUE + ")", values)
            row = await answer.fetchone()
            assert row is not None
            assert await store.get([row[0]]) == []
            assert not woken.is_set()
        async with asyncio.timeout(60):
            await woken.wait()

    assert [job.id for job in (await store.find(JobFilter(), limit=9)).jobs] == [row[0]]
    await operator.close()


def test_a_savepoint_takes_it_along(connection: psycopg.Connection[Any]) -> None:
    kept, _ = enqueued(connection)
    with suppress(RollBack), connection.transaction():
        enqueued(connection)
        raise RollBack
    connection.commit()

    assert connection.execute("SELECT id FROM jobs").fetchall() == [(kept,)]


@pytest.mark.parametrize("name", ["payload", "headers"])
def test_what_is_jsonb_has_to_be_cast(
    connection: psycopg.Connection[Any], database_dsn: str, name: str
) -> None:
    """A second function for it would make plain text, as most pass it, fit both and so neither."""
    given = {"payload": Json({}), "headers": Json({})} | {name: Jsonb({"a": "b"})}
    call = (
        "SELECT job_id FROM async_jobs_enqueue(tenant_id => 'acme', use_case => 'mail',"
        " type => 'send', payload => %(payload)s{}, headers => %(headers)s{})"
    )

    with (
        pytest.raises(errors.UndefinedFunction, match="might need to add explicit type casts"),
        connection.transaction(),
    ):
        connection.execute(call.format("", ""), given)
    connection.execute(call.format("::json", "::json"), given)

    assert connection.execute(f"SELECT {name} FROM jobs").fetchall() == [({"a": "b"},)]


def test_a_synchronous_sqlalchemy_connection_commits_it(database_dsn: str) -> None:
    engine = create_engine(database_dsn.replace("postgresql:", "postgresql+psycopg:"))
    statement = text(
        "SELECT job_id FROM async_jobs_enqueue(tenant_id => :tenant, use_case => 'mail',"
        " type => 'send', payload => CAST(:payload AS json))"
    )
    with engine.begin() as connection:
        connection.execute(statement, {"tenant": "acme", "payload": '{"n": 1}'})
    with engine.connect() as connection:
        connection.execute(statement, {"tenant": "acme", "payload": '{"n": 2}'})
        connection.rollback()
        assert connection.execute(text("SELECT payload FROM jobs")).all() == [({"n": 1},)]
    engine.dispose()


@pytest.fixture
def django_connection(database_dsn: str) -> Iterator[Any]:
    """The default connection of a Django application that has this database."""
    parts = urlsplit(database_dsn)
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts.path[1:],
                "USER": parts.username,
                "PASSWORD": unquote(parts.password or ""),
                "HOST": parts.hostname,
                "PORT": parts.port,
            }
        },
        LOGGING_CONFIG=None,
    )
    django.setup()
    try:
        yield django_db.connection
    finally:
        django_db.connections.close_all()


def test_djangos_atomic_commits_it(django_connection: Any) -> None:
    """With what it was done for; an inner `atomic` that fails takes its own along.

    The page on databases shows one more, which is called as it stands there.
    """
    begun: Any = atomic  # ships no types
    (shown,) = [block.code for block in blocks_of(HOW_TO) if "from django" in block.code]
    names: dict[str, Any] = {}
    exec(shown, names)

    def enqueue(number: int) -> None:
        with django_connection.cursor() as cursor:
            cursor.execute(ENQUEUE + ")", {"tenant_id": "acme", "payload": Json({"n": number})})

    with begun():
        enqueue(1)
        with suppress(RollBack), begun():
            enqueue(2)
            raise RollBack
    with suppress(RollBack), begun():
        enqueue(3)
        raise RollBack

    with django_connection.cursor() as cursor:
        cursor.execute("SELECT payload ->> 'n' FROM jobs")
        assert cursor.fetchall() == [("1",)]
        names["sign_up"]()
        cursor.execute("SELECT payload ->> 'name' FROM jobs WHERE type = 'welcome'")
        assert cursor.fetchall() == [("Ada",)]


async def test_it_finds_its_tables_wherever_the_callers_path_leads(
    empty_database_dsn: str,
) -> None:
    """In a schema of its own, beside a table `jobs` of the application's."""
    with psycopg.connect(empty_database_dsn) as connection:
        connection.execute("CREATE SCHEMA async_jobs; CREATE TABLE jobs (id integer)")
        connection.commit()
        await migrate(f"{empty_database_dsn}?search_path=async_jobs")
        row = connection.execute(
            "SELECT job_id FROM async_jobs.async_jobs_enqueue('acme', 'mail', 'send', '{}')"
        ).fetchone()

        assert connection.execute("SELECT id FROM async_jobs.jobs").fetchone() == row


# --- what it refuses ----------------------------------------------------------------------------


@pytest.mark.parametrize("own", ["its id", "its key"])
def test_a_repetition_is_a_duplicate(connection: psycopg.Connection[Any], own: str) -> None:
    """And charges nothing, however full the tenant is."""
    job_id = UUID("01890000-0000-7000-8000-000000000001")
    again = {"id": job_id} if own == "its id" else {"dedupe_key": "daily"}
    first = enqueued(connection, max_pending_jobs=1, **again)
    second = enqueued(connection, max_pending_jobs=1, **again)

    assert first[1:] == (False,)
    assert second == (first[0], True)


async def test_a_quota_is_one_with_that_of_the_service(
    store: PostgresJobStore, connection: psycopg.Connection[Any]
) -> None:
    """Whoever adds knows of what the other has added."""
    service = JobService(LIMITS, store)
    request = EnqueueJobRequest(tenant_id="limited", use_case="mail", type="send", payload={})
    enqueued(connection, tenant_id="limited", max_pending_jobs=2)
    connection.commit()
    await service.enqueue(request)
    with pytest.raises(errors.ConfigurationLimitExceeded, match=r"may have 2 .* it has 2 and"):
        enqueued(connection, tenant_id="limited", max_pending_jobs=2)
    connection.rollback()
    with pytest.raises(QuotaExceededError):
        await service.enqueue(request)
    enqueued(connection, tenant_id="limited")
    connection.commit()
    with pytest.raises(QuotaExceededError, match="it has 3"):
        await service.enqueue(request)


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"leaf": 1}
    for _ in range(levels - 1):
        inner = {"in": inner}
    return inner


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        *(({name: ""}, rf"^{name}: must have 1 to 200") for name in ("tenant_id", "type", "queue")),
        *(({name: "x" * 201}, rf"^{name}: must") for name in ("use_case", "dedupe_key")),
        ({"type": "a\nb"}, r"^type: .*control character"),
        ({"tenant_id": "a\u0085b"}, r"^tenant_id: .*control character"),
        ({"tenant_id": None}, r"^tenant_id: must"),
        ({"payload": [1]}, r"^payload: must be a JSON object"),
        ({"payload": None}, r"^payload: must be a JSON object"),
        ({"payload": {"a": "x" * 262_144}}, r"^payload: must have at most 256 KiB"),
        ({"payload": nested(33)}, r"^payload: is nested deeper than 32 levels"),
        ({"payload": {"a": "b\u0000"}}, r"\\u0000 cannot be converted"),
        ({"delay_tolerance": timedelta(days=31)}, r"^delay_tolerance: must be a duration"),
        ({"delay_tolerance": timedelta(seconds=-1)}, r"^delay_tolerance: must be a duration"),
        ({"run_at": "infinity"}, r"^run_at: must be no further"),
        ({"priority": 32_768}, r"^priority: must be from"),
        ({"max_attempts": 0}, r"^max_attempts: must be from 1 to 100"),
        ({"max_attempts": 101}, r"^max_attempts: must be from 1 to 100"),
        ({"headers": {"a": 1}}, r"^headers: must be at most 16 strings"),
        ({"headers": {"a": "x" * 1_025}}, r"^headers: must be at most 16 strings"),
        ({"headers": {str(n): "" for n in range(17)}}, r"^headers: must be at most 16 strings"),
        ({"headers": {"": "x"}}, r"^headers: must be at most 16 strings"),
    ],
)
def test_what_breaks_a_bound_is_refused_by_name(
    connection: psycopg.Connection[Any], fields: dict[str, Any], told: str
) -> None:
    """By the bounds of Python."""
    with pytest.raises(errors.DataError, match=told):
        enqueued(connection, **fields)
    connection.rollback()

    assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)


async def test_what_is_just_within_the_bounds_is_a_job_that_can_be_read(
    store: PostgresJobStore, connection: psycopg.Connection[Any]
) -> None:
    """The function takes nothing that the library could not read."""
    fields: list[dict[str, Any]] = [
        {"payload": nested(32)},
        {"tenant_id": "ü" * 200, "type": "🙂"},
        {"payload": {}, "headers": {}},
        {"headers": {"x" * 200: "ü" * 1_024}, "delay_tolerance": timedelta(days=30)},
        {"priority": -32_768, "max_attempts": 100},
    ]
    ids = [enqueued(connection, **each)[0] for each in fields]
    connection.commit()

    assert len(await store.get(ids)) == len(fields)


# A payload, with the path that Python names.
NUMBERS_OUT_OF_BOUNDS = {
    '{"a":1e400}': "payload.a",
    '{"a":{"b":[0,{"c":-1E+400}]}}': "payload.a.b[1].c",
    '{"text":"é","a":[[1, 1.8e308 ]]}': "payload.a[0][1]",
    f'{{"a":{"9" * 250}.5e60}}': "payload.a",
    '{"a":1e200000}': "payload.a",
    '{"a":9223372036854775808}': "payload.a",
    '{"a":[1,-9223372036854775809]}': "payload.a[1]",
    f'{{"a":{"9" * 400}}}': "payload.a",
}


@pytest.mark.parametrize("payload", NUMBERS_OUT_OF_BOUNDS)
def test_a_number_is_refused_as_python_refuses_it(
    connection: psycopg.Connection[Any], payload: str
) -> None:
    """By its path and in the same words: no row may hold what cannot be shown."""
    with pytest.raises(InvalidJobError) as python:
        check_payload(json.loads(payload))

    with pytest.raises(errors.InvalidParameterValue) as refused:
        enqueued(connection, payload=payload)

    assert refused.value.diag.message_primary == str(python.value)
    assert python.value.field == NUMBERS_OUT_OF_BOUNDS[payload]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"payload": f'{{"a":{"9" * 5_000}}}'}, r"^payload\.a: must fit into 64 bits"),
        ({"payload": f'{{"a":{"9" * 200_000}}}'}, r"^payload\.a: must fit into 64 bits"),
        ({"payload": '{"a":1e-20000}'}, r"^payload\.a: must have at most 1000 characters"),
        ({"payload": f'{{"a":0.{"1" * 20_000}}}'}, r"^payload\.a: must have at most 1000"),
        ({"payload": f'{{"a":{"[" * 40}1e200000{"]" * 40}}}'}, r"^payload: is nested deeper"),
        ({"headers": '{"a":1e200000}'}, r"^headers: must be at most 16 strings"),
    ],
)
def test_a_number_that_the_database_cannot_hold_is_refused_by_name(
    connection: psycopg.Connection[Any], fields: dict[str, Any], told: str
) -> None:
    """What Python cannot read either, and what jsonb would refuse without a name."""
    with pytest.raises(errors.InvalidParameterValue, match=told):
        enqueued(connection, **fields)


async def test_numbers_just_within_the_bounds_are_read_as_they_were_written(
    store: PostgresJobStore, connection: psycopg.Connection[Any]
) -> None:
    """Whatever their text looks like, and whatever looks like them."""
    written = [
        '{"a":[9223372036854775807,-9223372036854775808,1.7976931348623157e308,-1e+308]}',
        '{"a":[1e30,100000000000000000000.0,5e-324,1e-400,0.00000000000000000000001]}',
        '{"1e400":"9999999999999999999999 1e400","b":[[],{},null,true," 1e400"]}',
        f'{{"a":{"[" * 31}1{"]" * 31}}}',
    ]

    ids = [enqueued(connection, payload=each)[0] for each in written]
    connection.commit()

    payloads = {job.id: job.payload for job in await store.get(ids)}
    assert [payloads[each] for each in ids] == [json.loads(each) for each in written]


def test_an_id_of_another_tenant_is_taken(connection: psycopg.Connection[Any]) -> None:
    """Whose it is, nobody is told."""
    job_id, _ = enqueued(connection)
    with pytest.raises(errors.InvalidParameterValue, match=r"^id: is taken; choose another"):
        enqueued(connection, tenant_id="other", id=job_id)


def test_the_channel_is_that_on_which_schedulers_wait(connection: psycopg.Connection[Any]) -> None:
    row = connection.execute(
        "SELECT prosrc FROM pg_proc WHERE proname = 'async_jobs_enqueue'"
    ).fetchone()

    assert row is not None
    assert f"'{_channel(DISPATCH)}'" in row[0]
