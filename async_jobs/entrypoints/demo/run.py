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
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from async_jobs.adapters.http.client import AsyncJobsHttpClient
from async_jobs.domain.bounds import JOBS_PER_CALL_MAX
from async_jobs.domain.errors import AsyncJobsError
from async_jobs.domain.job import TERMINAL, Job, JobStatus
from async_jobs.entrypoints.demo.report import FactLog, print_report
from async_jobs.entrypoints.demo.workload import (
    FAILURE_SHARE,
    HANDLERS,
    QUOTAS,
    USE_CASES,
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
KEPT = {"ASYNC_JOBS_POSTGRES_BIN"}
DEADLINE_SECONDS = 120.0
LOOK_SECONDS = 0.2
PLAIN_EVERY_SECONDS = 2.0
EXIT_SECONDS = 30.0


class DemoFailedError(AsyncJobsError):
    """A process of the demo died, or the jobs did not end in time."""


async def run_demo(jobs: int, *, keep: bool = False) -> bool:
    """Run the demo; returns whether every job ended as it should.

    Args:
        jobs: how many to enqueue.
        keep: leave the system up afterwards, until this is cancelled.

    Raises:
        DemoFailedError: a process died, or time ran out.
    """
    console = Console(highlight=False)
    logger = logging.getLogger("async_jobs")
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
        log = FactLog(processes.logs)
        await _until_started(processes, log)
        url = f"http://{LOOPBACK}:{log.api_port}"
        if is_there(PAGES):
            console.print(f"dashboard: {url}/dashboard/ (token: {token})", soft_wrap=True)
        async with AsyncJobsHttpClient(url, auth_token=token) as client:
            right = await _drive(console, client, processes, log, jobs)
        if keep:
            console.print("everything stays up; press Ctrl-C to stop")
            await asyncio.Event().wait()
    console.print(
        "every process stopped cleanly" if processes.clean else "a process failed to stop"
    )
    return right and processes.clean


async def _until_started(processes: _Processes, log: FactLog) -> None:
    until = clock.monotonic() + DEADLINE_SECONDS
    while log.started_processes < len(processes.logs):
        await clock.sleep(LOOK_SECONDS)
        log.read()
        processes.check()
        if clock.monotonic() > until:
            raise DemoFailedError("the processes did not start in time")


async def _drive(
    console: Console, client: Jobs, processes: _Processes, log: FactLog, jobs: int
) -> bool:
    began = clock.monotonic()
    enqueueing = asyncio.create_task(_enqueue(client, jobs))
    try:
        await _watch(console, processes, log, jobs, enqueueing)
        seconds = clock.monotonic() - began
        if not enqueueing.done():
            raise DemoFailedError("the jobs could not be enqueued in time")
        fates = enqueueing.result()
    finally:
        enqueueing.cancel()
        await asyncio.wait((enqueueing,))
    stored = await _all_jobs(client)
    print_report(console, stored, log, seconds)
    return _as_planned(console, stored, fates)


async def _watch(
    console: Console,
    processes: _Processes,
    log: FactLog,
    jobs: int,
    enqueueing: asyncio.Task[Mapping[UUID, JobStatus]],
) -> None:
    """Show how the jobs end, until all have, enqueueing fails, or time is over."""
    began = told = clock.monotonic()
    with _progress(console, jobs) as progress:
        bar = progress.add_task("jobs ended", total=jobs)
        while log.ended < jobs or not enqueueing.done():
            await clock.sleep(LOOK_SECONDS)
            log.read()
            progress.update(bar, completed=log.ended)
            now = clock.monotonic()
            if progress.disable and now - told >= PLAIN_EVERY_SECONDS:
                told = now
                console.print(f"{now - began:4.0f} s  {log.ended:,} of {jobs:,} jobs ended")
            processes.check()
            if enqueueing.done():
                enqueueing.result()  # whose error would otherwise be waited out
            if now - began > DEADLINE_SECONDS:
                break


def _progress(console: Console, jobs: int) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


async def _enqueue(client: Jobs, jobs: int) -> Mapping[UUID, JobStatus]:
    """Enqueue the workload in batches, over HTTP; returns how each job has to end."""
    fates: dict[UUID, JobStatus] = {}
    planned = list(workload(jobs))
    for start in range(0, jobs, JOBS_PER_CALL_MAX):
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


def _as_planned(console: Console, stored: list[Job], fates: Mapping[UUID, JobStatus]) -> bool:
    """Compare the store, the only truth, with what was planned."""
    ended = {job.id: job.status for job in stored}
    lost = fates.keys() - ended.keys()
    unfinished = [job for job in stored if job.status not in TERMINAL]
    wrong = [i for i, fate in fates.items() if ended.get(i, fate) is not fate]
    if lost or unfinished or wrong:
        console.print(
            f"NOT as planned: {len(lost)} jobs lost, {len(unfinished)} unfinished,"
            f" {len(wrong)} ended otherwise"
        )
        return False
    console.print(f"all {len(fates):,} jobs ended as planned; none was lost")
    return True


class _Processes:
    """The API, the scheduler and the workers, each with its log."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self.logs: list[Path] = []
        self.clean = False

    async def start(self, name: str, environment: Mapping[str, str], *arguments: str) -> None:
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
                env=environment,
            )

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
        "ASYNC_JOBS_DELIVERY_FILE": str(home / "deliveries.jsonl"),
        "ASYNC_JOBS_DEMO_FAILURE_SHARE": str(FAILURE_SHARE),
    }
    queues = [f"--queue={name}" for name in config.queue_names]
    pages = ["--dashboard", "--dashboard-name=demo"] if is_there(PAGES) else []
    processes = _Processes(home)
    try:
        await processes.start("api", environment, "api", "--port=0", *pages)
        await processes.start("scheduler", environment, "scheduler")
        for number in range(1, WORKERS + 1):
            await processes.start(f"worker-{number}", environment, "worker", *queues)
        yield processes
    except asyncio.CancelledError:
        console.print("stopping the processes of the demo …")
        raise
    finally:
        await processes.stop()
