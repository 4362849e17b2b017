"""A database, programs that work on it in processes of their own, and what can be seen of them.

What they do is read from the database, from the audit that a trigger writes of every committed
change of status, and from the record that the handlers keep of their executions.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from async_jobs import (
    AsyncJobsConfig,
    BackoffPolicy,
    EnqueueJobRequest,
    Job,
    JobService,
    PostgresJobStore,
)
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.domain.backoff import BackoffType
from tests.kit.harness import Program, Programs, clock, eventually, programs
from tests.programs import handlers_for_tests as handlers

SETTINGS = {
    "ASYNC_JOBS_USE_CASES": json.dumps({"mail": {"max_concurrent": 8}}),
    "ASYNC_JOBS_HANDLERS_MODULE": handlers.__name__,
    "ASYNC_JOBS_SCHEDULER_INTERVAL_SECONDS": "0.2",
    "ASYNC_JOBS_WORKER_POLL_INTERVAL_SECONDS": "0.5",
    "ASYNC_JOBS_WORKER_CONCURRENCY": "8",
}
LOGGED = ("--log-format", "json", "--log-level", "debug")
QUICKLY = BackoffPolicy(type=BackoffType.CONSTANT, base_delay_seconds=0.05, jitter=0.0)

_AUDIT = """
CREATE TABLE audit (job_id uuid, was text, became text);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit VALUES (NEW.id, OLD.status, NEW.status);
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON jobs FOR EACH ROW
    WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION audit();
"""


@dataclass
class System:
    """A database, the programs that work on it, and what can be seen of them."""

    directory: Path
    programs: Programs
    pool: asyncpg.Pool
    service: JobService
    most_running: Counter[str] = field(default_factory=Counter)
    looks: int = 0

    # --- programs ---

    def scheduler(self, *arguments: str, **settings: str) -> Program:
        return self.programs.start("scheduler", *LOGGED, *arguments, settings=settings)

    def worker(self, *arguments: str, **settings: str) -> Program:
        queue = ("--queue", "mail")
        return self.programs.start("worker", *queue, *LOGGED, *arguments, settings=settings)

    def open_gate(self) -> None:
        """Let the handlers that hold return."""
        Path(self.programs.settings[handlers.GATE_VARIABLE]).touch()

    @property
    def executions(self) -> list[dict[str, Any]]:
        """The lines that the handlers have written."""
        path = Path(self.programs.settings[handlers.EXECUTIONS_VARIABLE])
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def began(self) -> list[dict[str, Any]]:
        return [line for line in self.executions if line["what"] == "began"]

    async def have_begun(self, count: int) -> None:
        """Wait until so many executions have begun."""

        async def look() -> bool:
            return len(self.began()) >= count

        await eventually(look, f"{count} executions")

    # --- jobs ---

    async def enqueue(self, type: str, count: int = 1, **fields: Any) -> list[UUID]:
        """Enqueue jobs that are alike; returns their ids."""
        defaults: dict[str, Any] = {
            "tenant_id": "acme",
            "use_case": "mail",
            "backoff_policy": QUICKLY,
        }
        request = EnqueueJobRequest(type=type, payload={}, **(defaults | fields))
        return [each.job_id for each in await self.service.enqueue_many([request] * count)]

    async def jobs(self) -> list[Job]:
        return list((await self.service.list_jobs(limit=1_000)).jobs)

    async def statuses(self) -> Counter[str]:
        rows = await self.pool.fetch("SELECT status, count(*) AS n FROM jobs GROUP BY status")
        return Counter({row["status"]: row["n"] for row in rows})

    async def become(self, **expected: int) -> None:
        """Wait until so many jobs have each status."""

        async def look() -> bool:
            return await self.statuses() == Counter(expected)

        await eventually(look, f"the jobs become {expected}")

    async def have_ended(self) -> None:
        async def look() -> bool:
            statuses = await self.statuses()
            return not (statuses["pending"] or statuses["running"])

        await eventually(look, "every job ends")

    async def audit(self) -> Counter[tuple[str, str]]:
        """Count how often each job has come to each final status."""
        rows = await self.pool.fetch("SELECT job_id, became FROM audit")
        final = {"succeeded", "dead", "cancelled"}
        return Counter((str(r["job_id"]), r["became"]) for r in rows if r["became"] in final)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Count what runs of each use case over and over while a block runs."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            rows = await self.pool.fetch(
                "SELECT use_case, count(*) AS n FROM jobs"
                " WHERE status = 'running' GROUP BY use_case"
            )
            self.looks += 1
            self.most_running |= Counter({row["use_case"]: row["n"] for row in rows})
            await clock.sleep(0.01)


@asynccontextmanager
async def a_system(
    dsn: str, directory: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[System]:
    """Yield a system without programs yet; the settings come on top of `SETTINGS`."""
    given = {
        **SETTINGS,
        "ASYNC_JOBS_DB_DSN": dsn,
        handlers.EXECUTIONS_VARIABLE: str(directory / "executions"),
        handlers.GATE_VARIABLE: str(directory / "gate"),
        **(settings or {}),
    }
    config = AsyncJobsConfig.from_env(given)
    with programs(directory, given) as starting:
        async with await create_pool(dsn, max_size=4) as pool:
            await pool.execute(_AUDIT)
            yield System(directory, starting, pool, JobService(config, PostgresJobStore(pool)))


def is_once(executions: list[dict[str, Any]]) -> bool:
    """Tell whether no lease was executed twice."""
    leases = Counter((line["job_id"], line["lease_seq"]) for line in executions)
    return max(leases.values()) == 1
