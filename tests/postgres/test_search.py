"""Searches on Postgres: bounded in time as well as in rows."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest

from async_jobs.adapters.postgres.catalog import PostgresCatalog
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.filters import JobQuery
from async_jobs.domain.outlook import Counted
from async_jobs.testing.builders import a_job

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


async def test_a_search_that_takes_too_long_is_tried_with_less_and_given_up(
    pool: asyncpg.Pool,
) -> None:
    """The database is asked for no longer than that, and the caller is told."""
    await PostgresJobStore(pool).add([a_job() for _ in range(3)], {})
    await pool.execute(
        "ALTER TABLE jobs RENAME TO real_jobs;"
        " CREATE VIEW jobs AS SELECT * FROM real_jobs WHERE pg_sleep(0.05) IS NOT NULL"
    )
    slow = PostgresCatalog(pool, statement_seconds=0.01)

    with pytest.raises(Unavailable, match="takes too long"):
        await slow.matching(JobQuery(), limit=10, look_at=100)


async def test_fewer_jobs_are_looked_at_where_one_takes_long(pool: asyncpg.Pool) -> None:
    """Then the page is short, and says where to go on."""
    jobs = [a_job() for _ in range(40)]
    await PostgresJobStore(pool).add(jobs, {})
    await pool.execute(
        "ALTER TABLE jobs RENAME TO real_jobs;"
        " CREATE VIEW jobs AS SELECT * FROM real_jobs"
        f" WHERE CASE WHEN id = '{jobs[20].id}' THEN pg_sleep(60) IS NOT NULL ELSE true END"
    )
    slow = PostgresCatalog(pool, statement_seconds=0.5)

    page = await slow.matching(JobQuery(), limit=100, look_at=100)

    assert list(page.jobs) == jobs[:-11:-1]
    assert page.next_cursor == jobs[-10].id


async def test_labels_are_looked_up_where_somebody_made_an_index(pool: asyncpg.Pool) -> None:
    """The one that the documentation has; without it they are looked for like anything else."""
    (text,) = re.findall(r"CREATE INDEX CONCURRENTLY.*?;", OPERATIONS.read_text("utf-8"), re.DOTALL)
    labelled = a_job(labels={"order": "7", "kind": "x"})
    await PostgresJobStore(pool).add([labelled, *(a_job() for _ in range(9))], {})
    query = JobQuery(labels={"order": "7"})
    catalog = PostgresCatalog(pool)

    before = await catalog.matching(query, limit=10, look_at=5)
    await pool.execute(text)
    after = await catalog.matching(query, limit=10, look_at=5)
    counted = await catalog.count(query, limit=10, look_at=5)

    assert (before.jobs, before.complete) == ((), False)
    assert (after.jobs, after.complete) == ((labelled,), True)
    assert counted == Counted(1)


async def test_labels_of_others_are_not_where_a_tenants_search_goes_on(pool: asyncpg.Pool) -> None:
    """Their jobs' ids stay theirs, and take none of what it may look at."""
    (text,) = re.findall(r"CREATE INDEX CONCURRENTLY.*?;", OPERATIONS.read_text("utf-8"), re.DOTALL)
    await pool.execute(text)
    labels = {"order": "7"}
    own = [a_job(tenant_id="acme", labels=labels) for _ in range(2)]
    others = [a_job(tenant_id="globex", labels=labels) for _ in range(5)]
    await PostgresJobStore(pool).add([*own, *others], {})
    query = JobQuery(tenant_id="acme", labels=labels)

    page = await PostgresCatalog(pool).matching(query, limit=10, look_at=3)

    assert {job.id for job in page.jobs} == {job.id for job in own}
    assert page.complete
