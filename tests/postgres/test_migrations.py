"""The schema: what migrations make, from anywhere and at once, and what is told when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from async_jobs.adapters.postgres import migrate as migrating
from async_jobs.adapters.postgres.migrate import get_ddl, migrate, migrations
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.queue import PostgresJobQueue
from async_jobs.adapters.postgres.readiness import columns
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.workers import PostgresWorkers
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError, StoreRefused, Unavailable
from async_jobs.testing.builders import a_handoff, a_job, a_worker
from async_jobs.testing.clocks import NOW, ManualClock
from tests.kit import services
from tests.kit.harness import free_port, programs

Catalog: TypeAlias = set[tuple[object, ...]]

NAMES = [name for name, _ in migrations()]

# Everything that makes two schemas differ, but for the migrations' own table.
_CATALOGS = (
    """
    SELECT c.relname, c.relkind, c.relpersistence, c.reloptions::text, am.amname
    FROM pg_class AS c LEFT JOIN pg_am AS am ON am.oid = c.relam
    WHERE c.relnamespace = 'public'::regnamespace
    """,
    """
    SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        a.attidentity, a.attgenerated, a.attstorage, co.collname, a.attoptions::text,
        pg_get_expr(d.adbin, d.adrelid)
    FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN pg_collation AS co ON co.oid = a.attcollation
    WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0
    """,
    """
    SELECT conrelid::regclass::text, conname, contype, convalidated, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    """,
    """
    SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text, i.indisunique, i.indisvalid,
        pg_get_indexdef(i.indexrelid)
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE c.relnamespace = 'public'::regnamespace
    """,
    "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal",
    """
    SELECT proname, pg_get_functiondef(oid)
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    """,
)


async def catalog(dsn: str) -> Catalog:
    """Return all that the server knows of a database's schema."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = [row for query in _CATALOGS for row in await connection.fetch(query)]
    finally:
        await connection.close()
    return {tuple(row) for row in rows if not str(row[0]).startswith("async_jobs_migrations")}


async def execute(dsn: str, script: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


@pytest.fixture
async def expected(postgres_dsn: str) -> Catalog:
    """What the whole schema makes of an empty database."""
    async with services.database(postgres_dsn) as dsn:
        await execute(dsn, get_ddl())
        return await catalog(dsn)


async def test_the_migrations_make_what_the_whole_schema_makes(
    empty_database_dsn: str, expected: Catalog
) -> None:
    """Teams with a tool of their own get the same tables, down to defaults and options."""
    applied = await migrate(empty_database_dsn)

    assert applied == NAMES
    assert len(expected) > 50
    assert await catalog(empty_database_dsn) == expected


async def test_a_second_migration_changes_nothing(
    empty_database_dsn: str, expected: Catalog
) -> None:
    """It finds its own traces."""
    await migrate(empty_database_dsn)

    again = await migrate(empty_database_dsn)

    assert again == []
    assert await catalog(empty_database_dsn) == expected


async def test_of_many_at_once_one_migrates(empty_database_dsn: str, expected: Catalog) -> None:
    """The others wait for it, and find nothing left to do."""
    answers = await asyncio.gather(*(migrate(empty_database_dsn) for _ in range(8)))

    assert sorted(answers) == [[]] * 7 + [NAMES]
    assert await catalog(empty_database_dsn) == expected


async def test_processes_may_migrate_at_once(
    empty_database_dsn: str, expected: Catalog, tmp_path: Path
) -> None:
    """Each of them succeeds, as when all containers of a release start together."""
    with programs(tmp_path, {"ASYNC_JOBS_DB_DSN": empty_database_dsn}) as starting:
        started = [starting.start("migrate") for _ in range(3)]
        codes = [await program.ended() for program in started]
        told = sorted(program.stdout for program in started)

    assert codes == [0, 0, 0]
    assert told == ["\n".join(NAMES) + "\n", "nothing to do\n", "nothing to do\n"]
    assert await catalog(empty_database_dsn) == expected


async def test_a_connection_of_the_callers_own_can_be_migrated(
    empty_database_dsn: str, expected: Catalog
) -> None:
    """It is left open."""
    connection = await asyncpg.connect(empty_database_dsn)
    try:
        applied = await migrate(connection)

        assert applied == NAMES
        assert await connection.fetchval("SELECT count(*) FROM jobs") == 0
    finally:
        await connection.close()


async def test_the_indexes_have_their_names(database_dsn: str) -> None:
    """Operators and other people's migrations refer to them."""
    names = {row[1] for row in await catalog(database_dsn)}

    assert names >= {
        "idx_jobs_pending_deadline",
        "idx_jobs_tenant_status",
        "idx_jobs_use_case_status",
        "idx_jobs_dedupe_key",
    }


async def test_only_what_can_be_lost_is_unlogged(database_dsn: str) -> None:
    """A crash empties unlogged tables; jobs are never among them."""
    connection = await asyncpg.connect(database_dsn)
    try:
        unlogged = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r'"
        )
    finally:
        await connection.close()

    assert {row["relname"] for row in unlogged} == {
        "admissions",
        "checkpoints",
        "handoffs",
        "schedulers",
        "workers",
    }


async def test_a_migration_that_fails_leaves_nothing(
    empty_database_dsn: str, expected: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of itself nor of those before it; once it is mended, all are applied."""
    broken = [*migrations(), ("9999_broken", "CREATE TABLE half (id int); SELECT 1 / 0;")]
    with monkeypatch.context() as patch:
        patch.setattr(migrating, "migrations", lambda: broken)
        with pytest.raises(StoreRefused, match="division by zero"):
            await migrate(empty_database_dsn)
    left = await catalog(empty_database_dsn)
    applied = await migrate(empty_database_dsn)

    assert left == set()
    assert applied == NAMES
    assert await catalog(empty_database_dsn) == expected


async def test_a_later_migration_is_applied_alone(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a release before applied is not applied again."""
    later = [*migrations(), ("9999_later", "CREATE TABLE later (id int);")]
    monkeypatch.setattr(migrating, "migrations", lambda: later)

    applied = await migrate(database_dsn)

    assert applied == ["9999_later"]


# --- what is told -------------------------------------------------------------------------------

PASSWORD = "unguessable-secret"


def altered(dsn: str, **parts: str) -> str:
    """Return the DSN with another password, port or database."""
    split = urlsplit(dsn)
    password, port = parts.get("password", split.password), parts.get("port", split.port)
    address = f"{split.username}:{password}@{split.hostname}:{port}"
    path = f"/{parts['database']}" if "database" in parts else split.path
    return urlunsplit(split._replace(netloc=address, path=path))


async def connect(dsn: str) -> None:
    pool = await create_pool(dsn)
    pool.terminate()


async def migrated(dsn: str) -> None:
    await migrate(dsn)


each_way_in = pytest.mark.parametrize("way_in", [connect, migrated])
WayIn: TypeAlias = Callable[[str], Awaitable[None]]


async def told(way_in: WayIn, dsn: str) -> AsyncJobsError:
    """Return the error that a DSN leads to; it never holds the password."""
    with pytest.raises(AsyncJobsError) as raised:
        await way_in(dsn)
    password = urlsplit(dsn).password
    assert password is None or password not in str(raised.value)
    return raised.value


@each_way_in
async def test_a_wrong_password_is_told(way_in: WayIn, database_dsn: str) -> None:
    """It is the operator's to mend, so no retry is suggested."""
    error = await told(way_in, altered(database_dsn, password=PASSWORD))

    assert isinstance(error, ConfigurationError)
    assert "refused access" in str(error)
    assert "password authentication failed" in str(error)


@each_way_in
async def test_an_unknown_database_is_told_by_its_name(way_in: WayIn, database_dsn: str) -> None:
    """The server answers, but not for this one."""
    error = await told(way_in, altered(database_dsn, database="nowhere"))

    assert isinstance(error, ConfigurationError)
    assert 'database "nowhere" does not exist' in str(error)


@each_way_in
async def test_a_server_that_nobody_runs_is_told_by_its_address(
    way_in: WayIn, database_dsn: str
) -> None:
    """It may come back, so the error is the one that is worth a retry."""
    port = str(free_port())

    error = await told(way_in, altered(database_dsn, port=port))

    assert isinstance(error, Unavailable)
    assert "did not answer" in str(error)
    assert port in str(error)


@each_way_in
@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://user:a:{PASSWORD}/b@localhost/jobs",
        f"postgresql://user:{PASSWORD}@localhost:port/jobs",
        f"postgresql://user:{PASSWORD}@[::1/jobs",
        f"postgresql://user:{PASSWORD}@localhost/jobs?sslmode",
    ],
)
async def test_a_malformed_address_is_no_absence(way_in: WayIn, dsn: str) -> None:
    """No retry mends it; what was given is not repeated, because a password is in it."""
    with pytest.raises(ConfigurationError, match="address is malformed") as raised:
        await way_in(dsn)

    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda pool: PostgresJobStore(pool).add([a_job()], {}),
        lambda pool: PostgresJobStore(pool).get([a_job().id]),
        lambda pool: PostgresJobStore(pool).promote(NOW, limit=1),
        lambda pool: PostgresJobQueue(pool, "lane", clock=ManualClock()).receive(
            max_messages=1, wait_seconds=0
        ),
        lambda pool: PostgresWorkers(pool).announce(a_worker()),
    ],
    ids=["add", "get", "promote", "receive", "announce"],
)
async def test_an_unmigrated_database_is_told_with_what_to_do(
    call: Callable[[asyncpg.Pool], Awaitable[object]], empty_database_dsn: str
) -> None:
    """The error names the command."""
    async with await create_pool(empty_database_dsn) as pool:
        with pytest.raises(ConfigurationError, match="run: async-jobs migrate"):
            await call(pool)


async def test_readiness_knows_every_column_that_there_is(database_dsn: str) -> None:
    """A migration that adds one is waited for."""
    connection = await asyncpg.connect(database_dsn)
    rows = await connection.fetch(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name <> 'async_jobs_migrations'"
        " AND table_name <> 'attempts_default'"  # a part of another one
    )
    await connection.close()

    assert {tuple(row) for row in rows} == set(columns())


async def test_a_send_to_an_unmigrated_database_says_so_for_each_hand_off(
    empty_database_dsn: str,
) -> None:
    """A transport raises nothing for what it could not send."""
    async with await create_pool(empty_database_dsn) as pool:
        queue = PostgresJobQueue(pool, "lane", clock=ManualClock())

        sents = await queue.send([a_handoff(), a_handoff()])

    assert ["async-jobs migrate" in (sent.error or "") for sent in sents] == [True, True]


@pytest.mark.parametrize(
    "edit",
    [
        "run_at = 'infinity'",
        "run_at = '20000-01-01 00:00+00'",
        "deadline_at = '-infinity'",
        "created_at = '0044-03-15 00:00+00 BC'",
        "finished_at = 'infinity'",
        "delay_tolerance = interval '3000000 years'",
        "delay_tolerance = interval '-1 second'",
    ],
)
async def test_a_row_cannot_be_made_to_fail_every_read(database_dsn: str, edit: str) -> None:
    """S18: asyncpg fails as a whole on what Python's dates cannot hold."""
    pool = await create_pool(database_dsn)
    try:
        await PostgresJobStore(pool).add([a_job()], {})

        with pytest.raises(asyncpg.CheckViolationError):
            await pool.execute(f"UPDATE jobs SET {edit}")
    finally:
        await pool.close()
