"""async-jobs demo: a whole system on this machine, thousands of jobs, and an honest account."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from async_jobs.adapters.http.client import AsyncJobsHttpClient
from async_jobs.adapters.http.operations import HttpOperations
from async_jobs.domain.bounds import JOBS_PER_CALL_MAX
from async_jobs.domain.errors import AsyncJobsError
from async_jobs.domain.filters import JobQuery
from async_jobs.domain.history import Outcome
from async_jobs.domain.job import Job, JobStatus
from async_jobs.entrypoints.demo.report import Account, FactLog, Killed, print_plan, print_report
from async_jobs.entrypoints.demo.workload import (
    FAILURE_SHARE,
    HANDLERS,
    NOISY,
    QUOTAS,
    USE_CASES,
    Planned,
    workload,
)
from async_jobs.entrypoints.programs.mounting import PAGES
from async_jobs.entrypoints.programs.options import LOOPBACK
from async_jobs.entrypoints.programs.processes import migrated
from async_jobs.entrypoints.settings.config import PREFIX, AsyncJobsConfig
from async_jobs.entrypoints.wiring.embedded import embedded_postgres
from async_jobs.extras import is_there
from async_jobs.host import SystemClock
from async_jobs.ports.jobs import Jobs

clock = SystemClock()

WORKERS = 2
LEASE_SECONDS = 5
"""Short, so that nobody has to watch for a minute until the jobs of a killed worker are back."""
KILLED_FROM, KILLED_BY = 0.1, 0.5
"""The share of jobs that have ended when a worker is killed: between them if it has a report."""
KEPT = {"ASYNC_JOBS_POSTGRES_BIN"}
DEADLINE_SECONDS = 120.0
LOOK_SECONDS = 0.2
PLAIN_EVERY_SECONDS = 2.0
SURVEY_SECONDS = 1.0
EXIT_SECONDS = 30.0


class DemoFailedError(AsyncJobsError):
    """A process of the demo died, or the jobs did not end in time."""


async def run_demo(jobs: int, *, keep: bool = False) -> bool:
    """Run the demo; returns whether every promise was kept.

    Args:
        jobs: how many to enqueue.
        keep: leave the system up afterwards, until this is cancelled.

    Raises:
        DemoFailedError: a process died, or time ran out.
    """
    console = Console(highlight=False)
    logger = logging.getLogger("async_jobs")
    planned = list(workload(jobs))
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="async_jobs_demo_")))
        console.print("starting an embedded Postgres …")
        postgres = await stack.enter_async_context(embedded_postgres())
        config = AsyncJobsConfig(
            db_dsn=postgres.dsn, use_case_configs=USE_CASES, per_tenant_quotas=QUOTAS
        )
        await migrated(config, logger)
        console.print(f"starting the API, a scheduler and {WORKERS} workers …")
        token = secrets.token_urlsafe()
        processes = await stack.enter_async_context(_processes(console, config, home, token))
        log = FactLog()
        await _until_started(processes, log)
        print_plan(console, planned, LEASE_SECONDS)
        url = f"http://{LOOPBACK}:{log.api_port}"
        pages = f"{url}/dashboard/" if is_there(PAGES) else None
        if pages:
            console.print(f"\ndashboard: {pages}\n    token: {token}", soft_wrap=True)
        console.print()
        async with AsyncJobsHttpClient(url, auth_token=token) as client:
            account = await _Drive(console, client, processes, log, planned).run()
        print_report(console, account)
        kept = _judge(console, account)
        if keep:
            _tell_what_stays(console, account, pages or url)
            await asyncio.Event().wait()
    console.print(
        "every process stopped cleanly" if processes.clean else "a process failed to stop"
    )
    return kept and processes.clean


async def _until_started(processes: _Processes, log: FactLog) -> None:
    until = clock.monotonic() + DEADLINE_SECONDS
    while log.started_processes < len(processes.logs):
        await clock.sleep(LOOK_SECONDS)
        log.read(processes.logs)
        processes.check()
        if clock.monotonic() > until:
            raise DemoFailedError("the processes did not start in time")


def _judge(console: Console, account: Account) -> bool:
    broken = account.broken()
    for each in broken:
        console.print(f"NOT as promised: {each}")
    if not broken:
        console.print(
            f"\nall {len(account.planned):,} jobs ended as planned; none was lost,"
            " and no limit was passed"
        )
    return not broken


def _tell_what_stays(console: Console, account: Account, address: str) -> None:
    console.print(f"\neverything stays up: {address}", soft_wrap=True)
    killed = account.killed
    if killed and killed.jobs and address.endswith("/dashboard/"):
        job_page = f"{address}job?id={killed.jobs[0].id}"
        console.print(f"a job that came back: {job_page}", soft_wrap=True)
    console.print("press Ctrl-C to stop")


class _Drive:
    """Enqueues the jobs, kills a worker in the middle, and watches until nothing is left to do."""

    def __init__(
        self,
        console: Console,
        client: AsyncJobsHttpClient,
        processes: _Processes,
        log: FactLog,
        planned: Sequence[Planned],
    ) -> None:
        self._console = console
        self._client = client
        self._operations: HttpOperations = client.operations
        self._processes = processes
        self._log = log
        self._planned = planned
        self._account = Account()
        self._began = clock.monotonic()

    async def run(self) -> Account:
        enqueueing = asyncio.create_task(_enqueue(self._client, self._planned))
        try:
            await self._watch(enqueueing)
            self._account.seconds = self._elapsed
            if not enqueueing.done():
                raise DemoFailedError("the jobs could not be enqueued in time")
            self._account.planned = enqueueing.result()
        finally:
            enqueueing.cancel()
            await asyncio.wait((enqueueing,))
        self._account.stored = await _all_jobs(self._client)
        await self._find_jobs_of_killed()
        return self._account

    @property
    def _elapsed(self) -> float:
        return clock.monotonic() - self._began

    async def _watch(self, enqueueing: asyncio.Task[Mapping[UUID, JobStatus]]) -> None:
        """Show how the jobs end, until all have, enqueueing fails, or time is over."""
        jobs = len(self._planned)
        told = surveyed = self._elapsed
        idle = False
        with _progress(self._console, jobs) as progress:
            bar = progress.add_task("jobs ended", total=jobs)
            while self._elapsed < DEADLINE_SECONDS and not (idle and enqueueing.done()):
                await clock.sleep(LOOK_SECONDS)
                self._log.read(self._processes.logs)
                progress.update(bar, completed=self._log.ended)
                if progress.disable and self._elapsed - told >= PLAIN_EVERY_SECONDS:
                    told = self._elapsed
                    self._tell(f"{self._log.ended:,} of {jobs:,} jobs ended")
                self._processes.check()
                await self._kill_in_the_middle()
                was_enqueued = enqueueing.done()
                if was_enqueued:
                    enqueueing.result()  # whose error would otherwise be waited out
                if self._elapsed - surveyed >= SURVEY_SECONDS:
                    surveyed = self._elapsed
                    idle = await self._survey() and was_enqueued

    def _tell(self, text: str) -> None:
        self._console.print(f"{self._elapsed:4.0f} s  {text}")

    async def _kill_in_the_middle(self) -> None:
        share, busiest = self._log.ended / len(self._planned), self._log.busiest()
        if self._account.killed or share < (KILLED_FROM if busiest else KILLED_BY):
            return
        name = busiest or "worker-1"
        await self._processes.kill(name)
        self._account.killed = Killed(name, clock.now(), self._log.workers.get(name))
        successor = await self._processes.start_worker()
        self._tell(f"{name} killed (SIGKILL); {successor} starts in its place")

    async def _survey(self) -> bool:
        """Note what runs at once, by what the store tells; returns whether nothing is left."""
        status = await self._operations.status()
        running = Counter({each.use_case: each.running for each in status.use_cases})
        query = JobQuery(tenant_id=NOISY, statuses=frozenset({JobStatus.RUNNING}))
        running[NOISY] = (await self._operations.count(query)).jobs
        self._account.most_running |= running
        return not any(each.running or each.pending for each in status.use_cases)

    async def _find_jobs_of_killed(self) -> None:
        """Take the jobs whose records say that they were cut off in the worker that was killed."""
        killed = self._account.killed
        if killed is None or killed.worker_id is None:
            return
        for job in self._account.stored:
            if not job.crashes:
                continue
            history = await self._operations.history(job.id)
            if any(
                each.outcome is Outcome.LEASE_EXPIRED and each.worker_id == killed.worker_id
                for each in history.entries
            ):
                killed.jobs.append(job)


def _progress(console: Console, jobs: int) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


async def _enqueue(client: Jobs, planned: Sequence[Planned]) -> Mapping[UUID, JobStatus]:
    """Enqueue the workload in batches, over HTTP; returns how each job has to end."""
    fates: dict[UUID, JobStatus] = {}
    for start in range(0, len(planned), JOBS_PER_CALL_MAX):
        batch = planned[start : start + JOBS_PER_CALL_MAX]
        enqueued = await client.enqueue_many([each.request for each in batch])
        fates |= {e.job_id: p.fate for e, p in zip(enqueued, batch, strict=True)}
    return fates


async def _all_jobs(client: Jobs) -> list[Job]:
    jobs: list[Job] = []
    cursor: UUID | None = None
    while True:
        page = await client.list_jobs(limit=1_000, cursor=cursor)
        jobs += page.jobs
        cursor = page.next_cursor
        if cursor is None:
            return jobs


class _Processes:
    """The API, the scheduler and the workers, each with its log."""

    def __init__(self, home: Path, environment: Mapping[str, str], queues: Sequence[str]) -> None:
        self._home = home
        self._environment = environment
        self._queues = queues
        self._workers = 0
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self.logs: list[Path] = []
        self.clean = False

    async def start_worker(self) -> str:
        """Start one more worker, and return its name."""
        self._workers += 1
        name = f"worker-{self._workers}"
        await self.start(name, "worker", *(f"--queue={queue}" for queue in self._queues))
        return name

    async def start(self, name: str, *arguments: str) -> None:
        """Start `async-jobs` with `arguments`, its log going to a file of its own."""
        path = self._home / f"{name}.log"
        self.logs.append(path)
        with path.open("wb") as log:
            self._running[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "async_jobs.entrypoints.cli.main",
                *arguments,
                "--log-format=json",
                "--log-level=debug",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )

    async def kill(self, name: str) -> None:
        """Kill one with SIGKILL, and see that it is dead."""
        process = self._running.pop(name)
        process.kill()
        await process.wait()

    def check(self) -> None:
        """Raise `DemoFailedError` if one has died."""
        for name, process in self._running.items():
            if process.returncode is not None:
                log = (self._home / f"{name}.log").read_text("utf-8", "replace")
                last = "\n".join(log.splitlines()[-5:])
                raise DemoFailedError(f"{name} ended with {process.returncode}:\n{last}")

    async def stop(self) -> None:
        """Stop them with SIGTERM, as a deployment would, and see that they end well."""
        for process in self._running.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        codes = await asyncio.gather(*(_end(each) for each in self._running.values()))
        self.clean = not any(codes)


async def _end(process: asyncio.subprocess.Process) -> int:
    try:
        return await asyncio.wait_for(process.wait(), EXIT_SECONDS)
    except TimeoutError:
        process.kill()
        return await process.wait()


@asynccontextmanager
async def _processes(
    console: Console, config: AsyncJobsConfig, home: Path, token: str
) -> AsyncIterator[_Processes]:
    # What else is set of ours belongs to another system, whose queues and limits are not these.
    others = {n: text for n, text in os.environ.items() if not n.startswith(PREFIX) or n in KEPT}
    environment = others | {
        "ASYNC_JOBS_DB_DSN": config.db_dsn,
        "ASYNC_JOBS_USE_CASES": json.dumps({n: asdict(each) for n, each in USE_CASES.items()}),
        "ASYNC_JOBS_PER_TENANT_QUOTAS": json.dumps({n: asdict(q) for n, q in QUOTAS.items()}),
        "ASYNC_JOBS_HANDLERS_MODULE": ",".join(HANDLERS),
        "ASYNC_JOBS_ENQUEUE_AUTH_TOKEN": token,
        "ASYNC_JOBS_WORKER_CONCURRENCY": "32",
        "ASYNC_JOBS_STATISTICS": "true",
        "ASYNC_JOBS_LEASE_DURATION_SECONDS": str(LEASE_SECONDS),
        "ASYNC_JOBS_DISPATCH_TIMEOUT_SECONDS": str(LEASE_SECONDS),
        "ASYNC_JOBS_WORKER_VISIBILITY_TIMEOUT_SECONDS": str(LEASE_SECONDS),
        "ASYNC_JOBS_DELIVERY_FILE": str(home / "deliveries.jsonl"),
        "ASYNC_JOBS_DEMO_FAILURE_SHARE": str(FAILURE_SHARE),
    }
    pages = ["--dashboard", "--dashboard-name=demo"] if is_there(PAGES) else []
    processes = _Processes(home, environment, list(config.queue_names))
    try:
        await processes.start("api", "api", "--port=0", *pages)
        await processes.start("scheduler", "scheduler")
        for _ in range(WORKERS):
            await processes.start_worker()
        yield processes
    except asyncio.CancelledError:
        console.print("stopping the processes of the demo …")
        raise
    finally:
        await processes.stop()
