"""Procrastinate: jobs in a Postgres table, and every step of one is an SQL function."""

from __future__ import annotations

from procrastinate import App, PsycopgConnector

from benchmarks.systems.protocol import Payload, System, done, dsn, main, payload, settings

SETTINGS = {
    # "Concurrency" in its how-to guides: how many jobs one worker executes at a time. 10 and 100
    # were as fast.
    "concurrency": 32,
    # "PsycopgConnector": a pool that jobs need not wait for.
    "pool": 16,
    # How many jobs one call of `batch_defer` is given; it makes one statement of them.
    "batch": 5_000,
    # `delete_jobs` and `fetch_job_polling_interval` stay as they are: what has been executed is
    # kept, and LISTEN tells of new jobs.
}
NO_CAP = "Procrastinate's `concurrency` is a worker process's own, and its locks admit one job"

PENDING = "SELECT count(*) AS n FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
DONE_ONCE = (
    "SELECT count(*) AS n FROM procrastinate_jobs WHERE status = 'succeeded' AND attempts = 1"
)


class Procrastinate(System):
    """Its asynchronous API on psycopg 3, which is the only one it has for workers."""

    async def setup(self) -> None:
        """Create its tables and functions."""
        app = self._app(2)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    async def open(self, pool: int) -> None:
        """Connect."""
        self._opened = self._app(pool)
        await self._opened.open_async()

    async def close(self) -> None:
        """Disconnect."""
        await self._opened.close_async()

    async def enqueue(self, payload: Payload) -> None:
        """Enqueue one job."""
        await self._noop.defer_async(payload=payload)

    async def bulk(self, n: int, cap: bool) -> None:
        """Enqueue many jobs with one statement."""
        if cap:
            raise ValueError(NO_CAP)
        size = settings(SETTINGS)["batch"]
        for first in range(0, n, size):
            numbers = range(first, min(first + size, n))
            await self._noop.batch_defer_async(*({"payload": payload(i)} for i in numbers))

    async def work(self) -> None:
        """Execute jobs."""
        own = settings(SETTINGS)
        app = self._app(own["pool"])
        async with app.open_async():
            await app.run_worker_async(concurrency=own["concurrency"])

    async def remaining(self) -> int:
        """Count the jobs that wait or are executed."""
        return await self._count(PENDING)

    async def verify(self, jobs: int) -> str | None:
        """Count what is kept of the jobs that succeeded at the first attempt."""
        done_once = await self._count(DONE_ONCE)
        return None if done_once == jobs else f"{done_once} of {jobs} jobs have succeeded once"

    async def _count(self, statement: str) -> int:
        row = await self._opened.connector.execute_query_one_async(statement)
        return int(row["n"])

    def _app(self, pool: int) -> App:
        app = App(connector=PsycopgConnector(conninfo=dsn(), min_size=1, max_size=pool))
        self._noop = app.task(name="noop")(noop)
        return app


async def noop(payload: Payload) -> None:
    """Do nothing but note it."""
    done(payload)


if __name__ == "__main__":
    main(Procrastinate)
