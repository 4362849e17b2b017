"""Tables in a schema of their own, beside other people's, and roles that may do little."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from async_jobs import (
    AsyncJobsConfig,
    EnqueueJobRequest,
    JobContext,
    JobRegistry,
    JobService,
    JobStatus,
    PostgresJobStore,
    run_scheduler_loop,
    run_worker_loop,
)
from async_jobs.adapters.postgres.history import PostgresHistory
from async_jobs.adapters.postgres.migrate import get_ddl, migrate, migrations
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.domain.errors import (
    ConfigurationError,
    InvalidJobError,
    MigrationDue,
    Unavailable,
)
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.entrypoints.wiring.container import opened
from async_jobs.ports.history import Tidied
from async_jobs.testing.builders import a_job, a_request
from async_jobs.testing.clocks import NOW
from tests.kit.harness import free_port, programs
from tests.kit.pgbouncer import pgbouncer

NAMES = [name for name, _ in migrations()]
TABLES = set(re.findall(r"CREATE (?:UNLOGGED )?TABLE (\w+)", get_ddl())) | {"async_jobs_migrations"}
LOGGER = logging.getLogger("async_jobs")
DOCS = Path(__file__).parents[2] / "docs"
Execute: TypeAlias = Callable[[str], object]


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection as an application has one: it looks in `public`."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


def configured(dsn: str, **settings: object) -> AsyncJobsConfig:
    """Return settings for one use case, with one tenant that has a quota."""
    given = {
        "db_dsn": dsn,
        "use_case_configs": {"default": UseCaseConfig()},
        "per_tenant_quotas": {"limited": TenantQuota(max_pending_jobs=5)},
        "scheduler_interval_seconds": 0.1,
        "worker_poll_interval_seconds": 0.1,
    }
    return AsyncJobsConfig.model_validate(given | settings)


def request(**overrides: object) -> EnqueueJobRequest:
    return a_request(**({"use_case": "default", "type": "greet"} | overrides))


async def pass_through(config: AsyncJobsConfig, pool: asyncpg.Pool) -> JobStatus:
    """Enqueue a job and run a scheduler and a worker until it has ended."""
    registry, stop = JobRegistry(), asyncio.Event()

    @registry.handler("greet")
    async def greet(ctx: JobContext, payload: dict[str, object]) -> None:
        """Do nothing, well."""

    store = PostgresJobStore(pool, schema=config.db_schema)
    service = JobService(config, store)
    enqueued = await service.enqueue(request())

    async def until_ended() -> JobStatus:
        while True:
            status = (await service.get_job(enqueued.job_id)).status
            if status not in (JobStatus.PENDING, JobStatus.RUNNING):
                stop.set()
                return status
            await asyncio.wait([asyncio.ensure_future(stop.wait())], timeout=0.05)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(run_scheduler_loop(config, pool, None, LOGGER, stop=stop))
        group.create_task(
            run_worker_loop(config, pool, None, registry, "default", LOGGER, stop=stop)
        )
        ended = group.create_task(until_ended())
    return ended.result()


# --- a schema of one's own ----------------------------------------------------------------------


async def test_two_installations_share_a_database(empty_database_dsn: str) -> None:
    """Each has its schema, its tables and its jobs; a second migration finds its own traces."""
    for schema in ("one", "other"):
        assert await migrate(empty_database_dsn, schema=schema) == NAMES
        assert await migrate(empty_database_dsn, schema=schema) == []
    async with (
        await create_pool(empty_database_dsn, schema="one") as one,
        await create_pool(empty_database_dsn, schema="other") as other,
    ):
        job = a_job()
        await PostgresJobStore(one).add([job], {})

        assert await PostgresJobStore(other).get([job.id]) == []
        assert [each.id for each in await PostgresJobStore(one).get([job.id])] == [job.id]
        config = configured(empty_database_dsn, db_schema="other")
        assert await pass_through(config, other) is JobStatus.SUCCEEDED
        assert await one.fetchval("SELECT to_regclass('public.jobs')") is None


async def test_other_peoples_tables_are_told_with_the_way_out(empty_database_dsn: str) -> None:
    """A table `jobs` is in many an application; nothing of it is touched."""
    async with connected(empty_database_dsn) as connection:
        await connection.execute("CREATE TABLE jobs (id int, title text)")

    with pytest.raises(ConfigurationError, match=r'"jobs" already exists.*ASYNC_JOBS_DB_SCHEMA'):
        await migrate(empty_database_dsn)
    applied = await migrate(empty_database_dsn, schema="async_jobs")

    assert applied == NAMES
    async with connected(empty_database_dsn) as connection:
        assert await connection.fetchval("SELECT to_regclass('workers')") is None
        assert await connection.fetchval("SELECT count(title) FROM jobs") == 0


async def test_an_own_transaction_finds_the_schema_and_looks_where_it_did(
    empty_database_dsn: str,
) -> None:
    """The application has a table `jobs` as well, and its statements still mean that one."""
    await migrate(empty_database_dsn, schema="async_jobs")
    config = configured(empty_database_dsn, db_schema="async_jobs")
    async with (
        await create_pool(empty_database_dsn, schema="async_jobs") as pool,
        connected(empty_database_dsn) as connection,
    ):
        service = JobService(config, PostgresJobStore(pool, schema="async_jobs"))
        await connection.execute("CREATE TABLE jobs (title text)")
        async with connection.transaction():
            await connection.execute("INSERT INTO jobs VALUES ('gardener')")
            enqueued = await service.enqueue(request(tenant_id="limited"), connection=connection)
            again = await service.enqueue(
                request(id=enqueued.job_id, tenant_id="limited"), connection=connection
            )
            with pytest.raises(InvalidJobError):
                await service.enqueue(request(id=enqueued.job_id), connection=connection)
            assert await connection.fetchval("SELECT title FROM jobs") == "gardener"

        assert again.duplicate
        assert (await service.get_job(enqueued.job_id)).status is JobStatus.PENDING
        assert await connection.fetchval("SHOW search_path") == '"$user", public'


async def test_a_pool_that_looks_elsewhere_is_refused(empty_database_dsn: str) -> None:
    """At the start, with what is to be done; not by jobs in the wrong table."""
    config = configured(empty_database_dsn, db_schema="mine")
    async with asyncpg.create_pool(empty_database_dsn, min_size=1) as pool:
        with pytest.raises(ConfigurationError, match="no schema 'mine'; run: async-jobs migrate"):
            await run_scheduler_loop(config, pool, None, LOGGER)
        await migrate(empty_database_dsn, schema="mine")
        looks_elsewhere = r"look in 'public', not in 'mine'.*ALTER ROLE"
        with pytest.raises(ConfigurationError, match=looks_elsewhere):
            await run_scheduler_loop(config, pool, None, LOGGER)


async def test_a_service_and_its_store_are_for_one_schema(empty_database_dsn: str) -> None:
    """Tables of `public` would take the jobs, and no program would ever look there."""
    for schema in (None, "mine"):
        await migrate(empty_database_dsn, schema=schema)
    config = configured(empty_database_dsn, db_schema="mine")
    async with (
        asyncpg.create_pool(empty_database_dsn, min_size=0, max_size=1) as theirs,
        await create_pool(empty_database_dsn, schema="mine") as ours,
    ):
        way_out = r"PostgresJobStore\(pool, schema='mine'\).*create_pool\(dsn, schema='mine'\)"
        with pytest.raises(ConfigurationError, match=f"the store names none: .*{way_out}"):
            JobService(config, PostgresJobStore(theirs))
        with pytest.raises(ConfigurationError, match=f"the store is for 'other': .*{way_out}"):
            JobService(config, PostgresJobStore(ours, schema="other"))
        service = JobService(config, PostgresJobStore(ours))
        async with theirs.acquire() as connection, connection.transaction():
            within = await service.enqueue(request(), connection=connection)
        apart = await service.enqueue(request())

        ids = [row["id"] for row in await ours.fetch("SELECT id FROM mine.jobs ORDER BY id")]
        assert ids == sorted([within.job_id, apart.job_id])
        assert await theirs.fetchval("SELECT count(*) FROM public.jobs") == 0


@pytest.mark.parametrize("public", [False, True], ids=["no jobs", "other jobs"])
async def test_a_store_does_not_take_the_tables_that_its_pool_happens_to_find(
    empty_database_dsn: str, public: bool
) -> None:
    """Every call on a connection of the pool's says what leads to the right ones."""
    if public:
        await migrate(empty_database_dsn)
    async with asyncpg.create_pool(empty_database_dsn, min_size=0, max_size=1) as pool:
        config = configured(empty_database_dsn, db_schema="mine")
        service = JobService(config, PostgresJobStore(pool, schema="mine"))
        with pytest.raises(MigrationDue, match="'mine' has no tables of async_jobs; run:"):
            await service.enqueue(request())
        await migrate(empty_database_dsn, schema="mine")
        found = "the table jobs of 'public'" if public else "no table jobs"
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: service.enqueue(request()),
            lambda: service.enqueue_many([request(), request(tenant_id="limited")]),
            service.list_jobs,
            lambda: service.outlook(request()),
        ]
        for call in calls:
            with pytest.raises(ConfigurationError, match=f"find {found}: .*create_pool") as told:
                await call()
            assert not isinstance(told.value, MigrationDue)
        async with pool.acquire() as connection, connection.transaction():
            await service.enqueue(request(), connection=connection)

        assert await pool.fetchval("SELECT count(*) FROM mine.jobs") == 1
        assert not public or await pool.fetchval("SELECT count(*) FROM public.jobs") == 0


async def test_a_store_asks_once_where_its_pool_leads(empty_database_dsn: str) -> None:
    """However many calls; an application's own may lead there as well."""
    await migrate(empty_database_dsn, schema="mine")
    asked: list[str] = []

    async def listen(connection: asyncpg.Connection) -> None:
        connection.add_query_logger(lambda query: asked.append(query.query))

    async with asyncpg.create_pool(
        empty_database_dsn,
        min_size=0,
        max_size=2,
        init=listen,
        server_settings={"search_path": "mine"},
    ) as pool:
        store = PostgresJobStore(pool, schema="mine")
        service = JobService(configured(empty_database_dsn, db_schema="mine"), store)
        for _ in range(2):
            await service.enqueue(request())
            await service.list_jobs()
            await service.outlook(request())

    assert sum("to_regclass" in query for query in asked) == 1


async def test_behind_pgbouncer_the_role_leads_to_the_schema(empty_database_dsn: str) -> None:
    """No session settings are sent there; that the role's own are missing is told."""
    database = urlsplit(empty_database_dsn).path[1:]
    await migrate(empty_database_dsn, schema="mine")
    for path, looks in (("public", False), ("mine", True)):
        async with connected(empty_database_dsn) as connection:
            await connection.execute(f'ALTER DATABASE "{database}" SET search_path = {path}')
        with pgbouncer(empty_database_dsn, free_port()) as pooled_dsn:
            config = configured(pooled_dsn, db_schema="mine", db_statement_cache_size=0)
            opening = opened(config, LOGGER, application_name="test")
            if looks:
                async with opening as container:
                    assert (await container.service().list_jobs()).jobs == ()
            else:
                with pytest.raises(ConfigurationError, match="SET search_path"):
                    await opening.__aenter__()


async def test_the_programs_take_the_schema_from_the_environment(
    empty_database_dsn: str, tmp_path: Path
) -> None:
    """`migrate`, and `migrate --print` for other tools."""
    settings = {"ASYNC_JOBS_DB_DSN": empty_database_dsn, "ASYNC_JOBS_DB_SCHEMA": "mine"}
    with programs(tmp_path, settings) as starting:
        migrated = await starting.run("migrate")
        listed = await starting.run("jobs", "list", "--json")
        printed = await starting.run("migrate", "--print")

    assert migrated.stdout.split() == NAMES
    assert listed.process.returncode == 0, listed.stderr
    assert printed.stdout == get_ddl("mine")
    assert printed.stdout.startswith('CREATE SCHEMA IF NOT EXISTS "mine";\nSET search_path TO ')


# --- roles that may do no more than needed ------------------------------------------------------


def grants(title: str) -> str:
    """Return the SQL that the documentation gives under a title, for a role called `app`."""
    text = (DOCS / "configuration.md").read_text("utf-8")
    found = re.search(rf"{re.escape(title)}.*?```sql\n(.*?)```", text, re.DOTALL)
    assert found is not None, title
    return found[1]


@asynccontextmanager
async def role(dsn: str, title: str, *, schema: str = "async_jobs") -> AsyncIterator[str]:
    """Yield the DSN of a new role that has what the documentation grants under a title."""
    name, password = f"role_{secrets.token_hex(6)}", secrets.token_hex(8)
    async with connected(dsn) as connection:
        await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        await connection.execute(re.sub(r"\bapp\b", name, grants(title)))
        address = urlsplit(dsn)
        netloc = f"{name}:{password}@{address.hostname}:{address.port}"
        try:
            yield urlunsplit(address._replace(netloc=netloc))
        finally:
            await connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_the_programs_need_no_more_than_is_documented(empty_database_dsn: str) -> None:
    """Neither to own anything nor to create; a migration with nothing to do is one thing."""
    await migrate(empty_database_dsn, schema="async_jobs")
    async with (
        role(empty_database_dsn, "For the programs") as dsn,
        await create_pool(dsn, schema="async_jobs") as pool,
    ):
        config = configured(dsn, db_schema="async_jobs")

        assert await migrate(dsn, schema="async_jobs") == []
        assert await pass_through(config, pool) is JobStatus.SUCCEEDED
        assert await PostgresJobStore(pool).purge(
            "default", before=a_job().created_at, limit=1
        ) in (0, 1)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute("CREATE TABLE async_jobs.more (id int)")


async def test_a_worker_that_could_save_no_outcome_starts_nothing(empty_database_dsn: str) -> None:
    """As after a migration whose grants were forgotten: its jobs would fail again and again."""
    await migrate(empty_database_dsn, schema="async_jobs")
    async with (
        role(empty_database_dsn, "For the programs") as dsn,
        connected(empty_database_dsn) as owner,
        await create_pool(dsn, schema="async_jobs") as pool,
    ):
        config = configured(dsn, db_schema="async_jobs")
        name = urlsplit(dsn).username
        working = (config, pool, None, JobRegistry(), "default", LOGGER)
        stop = asyncio.Event()
        stop.set()

        await run_worker_loop(*working, stop=stop)
        await owner.execute(f"REVOKE INSERT ON async_jobs.attempts FROM {name}")
        with pytest.raises(ConfigurationError, match="INSERT on attempts; repeat the grants"):
            await run_worker_loop(*working, stop=stop)
        await owner.execute("ALTER TABLE async_jobs.attempts RENAME TO archived")
        with pytest.raises(MigrationDue, match=r"it lacks .*attempts\.ended_at"):
            await run_worker_loop(*working, stop=stop)


async def test_history_is_tidied_by_who_owns_nothing(empty_database_dsn: str) -> None:
    """Partitions are made and dropped for the programs, and for nobody who may do less."""
    await migrate(empty_database_dsn, schema="async_jobs")
    days = {"days": 1, "bytes_max": 0}
    async with (
        role(empty_database_dsn, "For the programs") as dsn,
        await create_pool(dsn, schema="async_jobs") as pool,
    ):
        history = PostgresHistory(pool)

        assert await history.tidy(NOW, **days) == Tidied(made=2)
        assert await history.tidy(NOW + timedelta(days=2), **days) == Tidied(made=2, dropped=1)
    async with (
        role(empty_database_dsn, "For applications that only enqueue") as dsn,
        await create_pool(dsn, schema="async_jobs") as pool,
    ):
        for call in ("drop_attempts('attempts_default')", "add_attempts_day('2040-01-01')"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="takes DELETE"):
                await pool.execute(f"SELECT async_jobs.async_jobs_{call}")


async def test_an_application_that_only_enqueues_needs_less(empty_database_dsn: str) -> None:
    """It changes no job that is there; a tenant's quota it has to count for."""
    await migrate(empty_database_dsn, schema="async_jobs")
    async with (
        role(empty_database_dsn, "For applications that only enqueue") as dsn,
        await create_pool(dsn, schema="async_jobs") as pool,
    ):
        service = JobService(configured(dsn, db_schema="async_jobs"), PostgresJobStore(pool))
        many = [request(tenant_id="limited") for _ in range(5)]
        enqueued = [await service.enqueue(request()), *(await service.enqueue_many(many))]

        jobs = [await service.get_job(each.job_id) for each in enqueued]
        assert {job.status for job in jobs} == {JobStatus.PENDING}
        with pytest.raises(ConfigurationError, match="permission denied for table jobs"):
            await service.cancel_job(jobs[0].id)


async def test_a_role_that_may_not_create_is_told_so(empty_database_dsn: str) -> None:
    """Where there is something to create."""
    await migrate(empty_database_dsn, schema="async_jobs")
    async with role(empty_database_dsn, "For the programs") as dsn:
        with pytest.raises(ConfigurationError, match="permission denied for database"):
            await migrate(dsn, schema="another")


# --- passwords that change ----------------------------------------------------------------------


async def test_each_new_connection_asks_for_the_password_that_counts(
    empty_database_dsn: str,
) -> None:
    """Pools, migrations and renewals; what the DSN holds is another one's."""
    await migrate(empty_database_dsn, schema="async_jobs")
    async with (
        connected(empty_database_dsn) as connection,
        role(empty_database_dsn, "For the programs") as dsn,
    ):
        address = urlsplit(dsn)
        name, passwords = address.username, [address.password]
        without = address._replace(netloc=f"{name}:stale@{address.hostname}:{address.port}")

        async def password() -> str:
            return str(passwords[-1])

        config = configured(urlunsplit(without), db_schema="async_jobs", db_password=password)
        assert await migrate(config.db_dsn, schema="async_jobs", password=password) == []
        async with opened(config, LOGGER, application_name="test") as container:
            await container.service().enqueue(request())
            passwords.append(secrets.token_hex(8))
            await connection.execute(f"ALTER ROLE {name} PASSWORD '{passwords[-1]}'")
            await container.pool().expire_connections()
            await container.service().enqueue(request())
            assert await pass_through(config, container.pool()) is JobStatus.SUCCEEDED


async def test_a_worker_whose_leases_could_not_be_renewed_does_not_start(
    database_dsn: str,
) -> None:
    """Its own pool has a good address, and the configuration another one."""
    config = configured(f"postgresql://postgres@127.0.0.1:{free_port()}/jobs")
    async with asyncpg.create_pool(database_dsn, min_size=1) as pool:
        with pytest.raises(Unavailable, match="did not answer"):
            await run_worker_loop(config, pool, None, JobRegistry(), "default", LOGGER)


# --- other people's migrations ------------------------------------------------------------------


async def test_the_recipe_for_alembic_names_every_table(database_dsn: str) -> None:
    """`autogenerate` would drop the tables; what the documentation prints keeps it from that."""
    from alembic.autogenerate import produce_migrations
    from alembic.migration import MigrationContext
    from sqlalchemy import Connection, MetaData
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    text = (DOCS / "configuration.md").read_text("utf-8")
    recipe: dict[str, object] = {}
    found = re.search(r"```python\n(ASYNC_JOBS_TABLES = .*?)```", text, re.DOTALL)
    assert found is not None
    exec(found[1], recipe)
    address = urlsplit(database_dsn)
    engine = create_async_engine(
        urlunsplit(address._replace(scheme="postgresql+asyncpg")), poolclass=NullPool
    )

    def dropped(connection: Connection, /, **options: object) -> set[str]:
        context = MigrationContext.configure(connection, opts=dict(options))
        upgrade = produce_migrations(context, MetaData()).upgrade_ops
        assert upgrade is not None
        return {each.table_name for each in upgrade.ops if hasattr(each, "table_name")}

    try:
        async with engine.connect() as connection:
            without = await connection.run_sync(dropped)
            kept = await connection.run_sync(
                lambda sync: dropped(sync, include_object=recipe["include_object"])
            )
    finally:
        await engine.dispose()

    assert recipe["ASYNC_JOBS_TABLES"] == TABLES
    assert without == TABLES
    assert kept == set()
