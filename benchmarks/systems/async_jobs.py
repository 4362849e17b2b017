"""async_jobs: the processes of its command line, and its service as an application imports it."""

from __future__ import annotations

import logging
import os
import runpy
import sys
from contextlib import AsyncExitStack

from async_jobs import EnqueueJobRequest, JobService, PostgresJobStore
from async_jobs.adapters.postgres.migrate import migrate
from benchmarks.systems import async_jobs_scenes as scenes
from benchmarks.systems import protocol
from benchmarks.systems.async_jobs_setup import (
    LIMITED,
    PLAIN,
    QUEUE,
    SETTINGS,
    TYPE,
    config,
    connected,
    request_of,
    traced,
    variables,
)

COMMAND_LINE = "async_jobs.entrypoints.cli"
"""What the package's commands start from, at every commit that is measured."""


class AsyncJobs(protocol.System):
    """`enqueue` checks a tenant's quota and a dedupe key; `bulk` checks quotas when capped."""

    async def setup(self) -> None:
        await migrate(protocol.dsn())

    async def open(self, pool: int) -> None:
        self._stack = AsyncExitStack()
        self._pool = await self._stack.enter_async_context(connected(pool))
        tracing = traced()
        more = {} if tracing is None else {"tracing": tracing}
        self._service = JobService(config(), PostgresJobStore(self._pool), **more)

    async def close(self) -> None:
        await self._stack.aclose()

    async def enqueue(self, payload: protocol.Payload) -> None:
        await self._service.enqueue(
            EnqueueJobRequest(
                tenant_id=LIMITED,
                use_case=PLAIN,
                type=TYPE,
                payload=payload,
                dedupe_key=f"job-{payload['n']}",
            )
        )

    async def bulk(self, n: int, cap: bool) -> None:
        size = protocol.settings(SETTINGS)["bulk"]
        for start in range(0, n, size):
            numbers = range(start, min(n, start + size))
            await self._service.enqueue_many([request_of(number, cap) for number in numbers])

    async def work(self) -> None:
        raise NotImplementedError("`worker` is a program of its own")

    async def remaining(self) -> int:
        return int(await self._pool.fetchval(REMAINING))

    async def verify(self, jobs: int) -> str | None:
        """Every job succeeded at its first attempt, under the last lease it had."""
        found = await self._pool.fetchrow(OUTCOMES)
        assert found is not None
        wrong = {name: value for name, value in found.items() if value != jobs}
        return f"of {jobs} jobs: {wrong}" if wrong else None


REMAINING = """
    SELECT (SELECT count(*) FROM jobs WHERE status = 'running')
         + (SELECT count(*) FROM jobs WHERE status = 'pending' AND lane IS NOT NULL)
         + (SELECT count(*) FROM jobs WHERE status = 'pending' AND lane IS NULL)
"""
OUTCOMES = """
    SELECT count(*) AS stored,
           count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE attempts = 1) AS attempted_once,
           count(*) FILTER (WHERE finished_at IS NOT NULL AND errors IS NULL) AS without_error
    FROM jobs
"""


# --- the programs -------------------------------------------------------------------------------

# No program can be started with a longer variable; one that runs already can set it for itself.
VARIABLE_MAX = 100_000


def become(*arguments: str, **more: str) -> None:
    """Become the program of the command line that `arguments` name."""
    logging.shutdown()
    others = {name: text for name, text in os.environ.items() if not name.startswith("ASYNC_JOBS_")}
    environment = {**others, **variables(), **more}
    if max(map(len, environment.values())) > VARIABLE_MAX:
        os.environ.update(environment)
        sys.argv = ["async-jobs", *arguments]
        runpy.run_module(COMMAND_LINE, run_name="__main__", alter_sys=True)
        return
    command = [sys.executable, "-m", COMMAND_LINE, *arguments]
    os.execve(sys.executable, command, environment)


def scheduler() -> None:
    """Become a scheduler."""
    become("scheduler", "--log-level=warning")


def worker() -> None:
    """Become a worker."""
    become("worker", f"--queue={QUEUE}", "--log-level=warning")


def api() -> None:
    """Become an API that serves at the port that follows the command, with a token."""
    port, token = protocol.arguments()
    become("api", f"--port={port}", "--log-level=warning", ASYNC_JOBS_ENQUEUE_AUTH_TOKEN=token)


if __name__ == "__main__":
    protocol.main(
        AsyncJobs,
        also={
            "schedule": scheduler,
            "work": worker,
            "serve": api,
            "backlog": scenes.backlog,
            "spread": scenes.spread,
            "outcomes": scenes.outcomes,
            "ticks": scenes.ticks,
        },
    )
