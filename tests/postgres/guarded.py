"""A store of whose rows a trigger of the application refuses some."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg

from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.adapters.postgres.outbox import PostgresOutbox
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.domain.job import HandOff, Job
from async_jobs.domain.lifecycle import Claimed
from async_jobs.domain.scheduling import LeaseGrant
from async_jobs.host import SystemClock
from async_jobs.testing.builders import a_job, later
from async_jobs.testing.clocks import NOW

LANE = "notifications"
SILENT = """
    CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
    CREATE TRIGGER no BEFORE UPDATE OR DELETE ON jobs FOR EACH ROW
        WHEN (OLD.priority = 7) EXECUTE FUNCTION no();
"""
"""A trigger that keeps rows as they are, and says nothing."""
_REFUSING = """
CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the audit table is full'; END $$;
"""
TRIGGERS = {
    "at once": f"""
        {_REFUSING}
        CREATE TRIGGER no BEFORE UPDATE OR DELETE ON jobs FOR EACH ROW
            WHEN (OLD.priority = 7) EXECUTE FUNCTION no();
    """,
    "at the commit": f"""
        {_REFUSING}
        CREATE CONSTRAINT TRIGGER no AFTER UPDATE OR DELETE ON jobs
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
            WHEN (OLD.priority = 7) EXECUTE FUNCTION no();
    """,
}
"""When a trigger refuses."""


class Guarded:
    """A store with a trigger that refuses changes of jobs of priority 7."""

    @classmethod
    async def on(cls, pool: asyncpg.Pool, trigger: str = "at once") -> Guarded:
        """Make the trigger, one of `TRIGGERS` or another."""
        await pool.execute(TRIGGERS.get(trigger, trigger))
        return cls(pool)

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.told: list[tuple[UUID, str]] = []
        self.store = PostgresJobStore(pool, unwritable=lambda *told: self.told.append(told))

    async def jobs(self, **fields: Any) -> tuple[list[Job], Job]:
        """Add jobs; returns the good ones and the bad one, which is in their middle."""
        jobs = sorted((a_job(**fields) for _ in range(7)), key=lambda job: job.id)
        bad = a_job(id=jobs[3].id, priority=7, **fields)
        jobs[3] = bad
        await self.pool.execute("ALTER TABLE jobs DISABLE TRIGGER no")
        await self.store.add(jobs, {})
        return [job for job in jobs if job is not bad], bad

    async def guard(self) -> None:
        await self.pool.execute("ALTER TABLE jobs ENABLE TRIGGER no")

    async def stand(self, jobs: list[Job]) -> list[Job]:
        """Return jobs as they stand, by id."""
        return sorted(await self.store.get([job.id for job in jobs]), key=lambda job: job.id)

    async def running(self, *, claim: bool) -> tuple[list[Job], Job]:
        """Lease jobs onto the lane of their use case, and claim them if asked."""
        good, bad = await self.jobs()
        lane = self.lane()
        async with self.store.turn([LANE]) as turn:
            jobs = [*good, bad]
            await turn.lease(
                [LeaseGrant(job.id, 0, 1, later(60), NOW) for job in jobs], onto=[lane]
            )
        if claim:
            handoffs = [HandOff(job.id, 1, job.tenant_id) for job in jobs]
            await self.store.claim(handoffs, Claimed("worker-1", later(60)), now=NOW)
        await self.guard()
        return await self.stand(good), (await self.stand([bad]))[0]

    def lane(self) -> PostgresOutbox:
        clock = PostgresClock(self.pool, host=SystemClock())
        return PostgresOutbox(self.store, LANE, clock=clock)


def refusal(bad: Job) -> list[tuple[UUID, str]]:
    """Return what is told of a bad one."""
    return [(bad.id, "RaiseError in no()")]
