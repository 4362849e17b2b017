"""What a job costs on Postgres, in what no busy machine can blur: statements, pages, WAL.

A batch of a hundred jobs goes from its enqueue to its outcome. Whoever makes it dearer learns so
here; speed itself is measured by `make bench`.
"""

from __future__ import annotations

from collections.abc import Mapping

from async_jobs.adapters.postgres.pool import create_pool
from tests.postgres.churn import BATCH, Cost, churning

STATEMENTS: Mapping[str, int] = {
    "add_jobs": 1,
    "promote_due": 1,
    "expired_leases": 2,  # a scheduler's first tick also looks for rows that cannot be read
    "live_workers": 1,
    "take_turns": 1,
    "running_counts": 1,
    "ready_heads": 1,
    "lease_jobs": 1,
    "oldest_finished": 1,
    "purge_jobs": 1,
    "claim_handoffs": 1,
    "succeed_jobs": 1,
    "save_jobs": 1,  # of the few that fail
}
"""How often each statement is executed for the whole batch. There are no others."""

PAGES_PER_JOB: Mapping[str, float] = {
    "add_jobs": 18,
    "ready_heads": 4,
    "lease_jobs": 9,
    "claim_handoffs": 8,
    "succeed_jobs": 12,
    "save_jobs": 2,
}
"""How many pages each statement touches at most, by job; the others are bounded by their rows."""

WAL_PER_JOB: Mapping[str, float] = {
    "add_jobs": 800,
    "lease_jobs": 350,
    "claim_handoffs": 190,
    "succeed_jobs": 520,
    "save_jobs": 90,
}
"""How many bytes each statement logs at most, by job. Hand-offs are in a table without a log."""


async def test_a_batch_is_one_execution_of_each_statement(database_dsn: str) -> None:
    """However many jobs it holds."""
    async with churning(database_dsn) as churn:
        cost = await churn.cost()

    assert cost.executions == STATEMENTS


def dear(cost: Cost) -> list[str]:
    """Return in words what costs more a job than its bound, by statement."""
    found = [
        f"{name}: {cost.pages[name] / BATCH:.1f} pages a job, at most {most}"
        for name, most in PAGES_PER_JOB.items()
        if cost.pages[name] > most * BATCH
    ]
    return found + [
        f"{name}: {cost.wal[name] / BATCH:.0f} bytes of WAL a job, at most {most}"
        for name, most in WAL_PER_JOB.items()
        if cost.wal[name] > most * BATCH
    ]


async def test_a_job_touches_and_logs_so_much_and_no_more(database_dsn: str) -> None:
    """What has become dearer is named."""
    async with churning(database_dsn) as churn:
        cost = await churn.cost()

    logged = {name for name, wal in cost.wal.items() if wal}
    assert not dear(cost)
    # Jitter lets some of the few that failed come due meanwhile.
    assert logged - {"promote_due"} == WAL_PER_JOB.keys() | {"purge_jobs"}


async def test_a_table_that_logs_more_is_found(database_dsn: str) -> None:
    """The bounds have been seen to fail: on full pages every update logs the whole row."""
    async with await create_pool(database_dsn) as pool:
        await pool.execute("ALTER TABLE jobs SET (fillfactor = 100)")
    async with churning(database_dsn) as churn:
        found = dear(await churn.cost())

    assert [each for each in found if "WAL" in each]
