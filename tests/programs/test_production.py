"""As in production: API, schedulers and workers as processes, on Postgres and SQS."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import httpx
import pytest

from async_jobs import (
    AsyncJobsConfig,
    AsyncJobsHttpClient,
    ConfigurationError,
    EnqueueJobRequest,
    JobContext,
    JobRegistry,
    JobService,
    JobStatus,
    PostgresJobStore,
    run_scheduler_loop,
    run_worker_loop,
)
from tests.kit import services
from tests.kit.harness import Program, eventually, free_port
from tests.kit.lines import line_to
from tests.kit.pgbouncer import pgbouncer
from tests.programs.systems import LOGGED, QUICKLY, System, a_system, is_once

TOKEN = "the-shared-token-of-a-test"
TENANTS = ("acme", "beta", "gamma")
# The first two share a queue; the third has a worker of its own.
CAPS = {"mail": 8, "labels": 5, "reports": 3}
QUEUES = {"mail": "mail", "labels": "mail", "reports": "reports"}
WORKLOAD = (
    # type, jobs of each tenant and use case, attempts at most, how it ends
    ("succeed", 20, 5, JobStatus.SUCCEEDED),
    ("succeed_in_a_thread", 5, 5, JobStatus.SUCCEEDED),
    ("take_a_while", 5, 5, JobStatus.SUCCEEDED),
    ("fail_once", 4, 5, JobStatus.SUCCEEDED),
    ("fail", 2, 2, JobStatus.DEAD),
    ("reject", 2, 5, JobStatus.DEAD),
)


@dataclass
class Production:
    """The system, its API, and its queues."""

    system: System
    client: AsyncJobsHttpClient
    sqs: Any
    urls: dict[str, str]
    api: Program

    def start(self) -> list[Program]:
        """Start two schedulers and three workers, of which one reads both queues."""
        queues = [["--queue", name] for name in self.urls]
        both = [argument for queue in queues for argument in queue]
        workers = [*queues, both]
        return [
            *(self.system.scheduler() for _ in range(2)),
            *(self.system.programs.start("worker", *queue, *LOGGED) for queue in workers),
        ]

    async def left_in_queues(self) -> Counter[str]:
        """Count the messages of each queue, those that are hidden included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        left: Counter[str] = Counter()
        for queue, url in self.urls.items():
            answer = await self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
            left[queue] = sum(int(answer["Attributes"][name]) for name in names)
        return left


@asynccontextmanager
async def production(
    dsn: str, processes_dsn: str, sqs_endpoint: str, directory: Path, **settings: str
) -> AsyncIterator[Production]:
    """Yield a system whose API is up; the test itself looks straight into the database."""
    port = free_port()
    async with (
        services.sqs_client(sqs_endpoint) as sqs,
        services.sqs_queue(sqs) as mail,
        services.sqs_queue(sqs) as reports,
    ):
        use_cases = {
            name: {"max_concurrent": cap, "queue": QUEUES[name]} for name, cap in CAPS.items()
        }
        given = {
            **services.AWS_ENVIRONMENT,
            "AWS_ENDPOINT_URL": sqs_endpoint,
            "ASYNC_JOBS_USE_CASES": json.dumps(use_cases),
            "ASYNC_JOBS_SQS_QUEUE_MAIL": mail,
            "ASYNC_JOBS_SQS_QUEUE_REPORTS": reports,
            "ASYNC_JOBS_PER_TENANT_QUOTAS": json.dumps({"gamma": {"max_running": 3}}),
            "ASYNC_JOBS_ENQUEUE_AUTH_TOKEN": TOKEN,
            "ASYNC_JOBS_WORKER_POLL_INTERVAL_SECONDS": "1",
            "ASYNC_JOBS_DB_DSN": processes_dsn,
            **settings,
        }
        async with a_system(dsn, directory, given) as system:
            api = system.programs.start("api", "--port", str(port), *LOGGED)
            await api.has_logged("api_started")
            url = f"http://127.0.0.1:{port}"
            async with AsyncJobsHttpClient(url, auth_token=TOKEN) as client:
                urls = {"mail": mail, "reports": reports}
                yield Production(system, client, sqs, urls, api)


async def enqueue_everything(jobs: AsyncJobsHttpClient) -> dict[UUID, JobStatus]:
    """Enqueue hundreds of jobs of mixed fates over HTTP; returns how each is to end."""
    planned: dict[UUID, JobStatus] = {}
    for tenant_id in TENANTS:
        for use_case in CAPS:
            for type, count, attempts_max, end in WORKLOAD:
                request = EnqueueJobRequest(
                    tenant_id=tenant_id,
                    use_case=use_case,
                    type=type,
                    payload={},
                    max_attempts=attempts_max,
                    backoff_policy=QUICKLY,
                )
                enqueued = await jobs.enqueue_many([request] * count)
                planned |= {each.job_id: end for each in enqueued}
    return planned


async def cancel_one_and_repeat_one(jobs: AsyncJobsHttpClient) -> dict[UUID, JobStatus]:
    """Cancel a job that would run next month; enqueue another one twice under one key."""
    request = EnqueueJobRequest(tenant_id="acme", use_case="mail", type="succeed", payload={})
    in_a_month = await jobs.get_job((await jobs.enqueue(request)).job_id)
    later = EnqueueJobRequest(
        tenant_id="acme",
        use_case="mail",
        type="succeed",
        payload={},
        run_at=in_a_month.run_at + timedelta(days=30),
        dedupe_key="monthly",
    )
    first, second = await jobs.enqueue(later), await jobs.enqueue(later)
    assert second == (first.job_id, True)
    cancelled = await jobs.cancel_job(first.job_id, tenant_id="acme")
    assert cancelled.status is JobStatus.CANCELLED
    return {in_a_month.id: JobStatus.SUCCEEDED, first.job_id: JobStatus.CANCELLED}


async def runs_hundreds_of_jobs(production: Production) -> None:
    """Run the workload to its end, and hold the system to its promises."""
    system = production.system
    programs = production.start()
    async with system.watched():
        planned = await enqueue_everything(production.client)
        planned |= await cancel_one_and_repeat_one(production.client)
        await system.have_ended()
    jobs, audit = await system.jobs(), await system.audit()

    assert {job.id: job.status for job in jobs} == planned
    assert audit == Counter({(str(id), end.value): 1 for id, end in planned.items()})
    assert is_once(system.began())
    assert all(job.attempts <= job.max_attempts for job in jobs)

    assert system.looks > 20
    assert system.most_running.keys() == CAPS.keys()
    assert all(system.most_running[name] <= cap for name, cap in CAPS.items())

    async def nothing_is_left() -> bool:
        return not (await production.left_in_queues()).total()

    await eventually(nothing_is_left, "the queues are empty")
    for program in (*programs, production.api):
        program.terminate()
    codes = [await program.ended(seconds=30) for program in (*programs, production.api)]
    assert codes == [0] * 6
    written = [program.stderr for program in (*programs, production.api)]
    assert not any("Traceback" in text or TOKEN in text for text in written)


async def test_the_whole_system(database_dsn: str, sqs_endpoint: str, tmp_path: Path) -> None:
    """An API, two schedulers and three workers run hundreds of jobs of mixed fates."""
    async with production(database_dsn, database_dsn, sqs_endpoint, tmp_path) as whole:
        await runs_hundreds_of_jobs(whole)


async def test_the_whole_system_behind_pgbouncer(
    database_dsn: str, sqs_endpoint: str, tmp_path: Path
) -> None:
    """The same, with PgBouncer in transaction mode between every process and Postgres."""
    with pgbouncer(database_dsn, free_port()) as pooled_dsn:
        async with production(
            database_dsn,
            pooled_dsn,
            sqs_endpoint,
            tmp_path,
            ASYNC_JOBS_DB_STATEMENT_CACHE_SIZE="0",
            ASYNC_JOBS_SCHEDULER_INTERVAL_SECONDS="0.1",
        ) as whole:
            await runs_hundreds_of_jobs(whole)


async def test_a_rolling_restart_strands_no_message(
    database_dsn: str, sqs_endpoint: str, tmp_path: Path
) -> None:
    """Workers come and go in the middle of it all; no attempt is charged for that."""
    # What is stranded stays so for longer than the test is patient.
    hidden = {
        "ASYNC_JOBS_WORKER_VISIBILITY_TIMEOUT_SECONDS": "600",
        "ASYNC_JOBS_DISPATCH_TIMEOUT_SECONDS": "600",
    }
    async with production(database_dsn, database_dsn, sqs_endpoint, tmp_path, **hidden) as whole:
        system, client = whole.system, whole.client
        _, _, *workers = whole.start()
        request = EnqueueJobRequest(
            tenant_id="acme", use_case="mail", type="take_a_while", payload={}, max_attempts=1
        )
        await client.enqueue_many([request] * 60)
        for begun, worker in zip((5, 15, 25), workers, strict=True):
            await system.have_begun(begun)
            worker.terminate()
            system.programs.start("worker", "--queue", "mail", *LOGGED)
        codes = [await worker.ended(seconds=40) for worker in workers]
        await system.have_ended()

        assert codes == [0] * 3
        assert await system.statuses() == Counter(succeeded=60)
        assert len(system.began()) == 60


async def test_the_api_finishes_what_is_under_way(
    database_dsn: str, sqs_endpoint: str, tmp_path: Path
) -> None:
    """Ready while the database answers; after SIGTERM an open request still gets its answer."""
    async with production(database_dsn, database_dsn, sqs_endpoint, tmp_path) as whole:
        request = EnqueueJobRequest(tenant_id="acme", use_case="mail", type="succeed", payload={})
        port = whole.api.logged("api_started")[0]["port"]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as plain:
            ready = await plain.get("/health/ready")
        pool = whole.system.pool
        async with pool.acquire() as connection, connection.transaction():
            # The enqueue waits for this transaction while the API is told to stop.
            await connection.execute("LOCK TABLE jobs IN SHARE MODE")
            waiting = asyncio.ensure_future(whole.client.enqueue(request))

            async def waits() -> bool:
                return bool(
                    await pool.fetchval(
                        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                        " AND datname = current_database()"
                    )
                )

            async def takes_nobody_in() -> bool:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    return True
                writer.close()
                return False

            await eventually(waits, "the enqueue waits for the lock")
            whole.api.terminate()
            await eventually(takes_nobody_in, "the API takes no new connections")
        enqueued = await waiting
        code = await whole.api.ended(seconds=30)

        assert (ready.status_code, code) == (200, 0)
        assert [job.id for job in await whole.system.jobs()] == [enqueued.job_id]
        assert not enqueued.duplicate


@pytest.mark.parametrize(
    ("queue", "told"),
    [
        ("unheard-of", "the queue 'unheard-of' is fed by no use case; known: mail, reports"),
        ("http://127.0.0.1:1/1/elsewhere", "the queue 'elsewhere' is fed by no use case"),
        ("http://127.0.0.1:1/1/mail", "the queue 'mail' has another URL"),
    ],
)
async def test_a_worker_says_when_its_queue_cannot_be(
    database_dsn: str, sqs_endpoint: str, tmp_path: Path, queue: str, told: str
) -> None:
    """It ends at once, with what is known."""
    async with production(database_dsn, database_dsn, sqs_endpoint, tmp_path) as whole:
        worker = await whole.system.programs.run("worker", "--queue", queue)

    assert worker.process.returncode == 2, worker.stderr
    assert told in worker.stderr.splitlines()[-1]


async def test_a_worker_whose_queue_is_deleted_drains_and_ends(
    database_dsn: str, sqs_endpoint: str, tmp_path: Path
) -> None:
    """It says why before it drains; a SIGTERM meanwhile, its first, does not cut that short."""
    drain = {"ASYNC_JOBS_DRAIN_TIMEOUT_SECONDS": "5"}
    async with production(database_dsn, database_dsn, sqs_endpoint, tmp_path, **drain) as whole:
        system = whole.system
        request = EnqueueJobRequest(
            tenant_id="acme", use_case="mail", type="hold", payload={}, max_attempts=1
        )
        await whole.client.enqueue(request)
        system.scheduler()
        worker = system.programs.start("worker", "--queue", "mail", *LOGGED)
        await system.have_begun(1)
        await whole.sqs.delete_queue(QueueUrl=whole.urls["mail"])
        await worker.has_logged("worker_degraded")
        (why,) = worker.logged("worker_degraded")
        worker.terminate()
        code = await worker.ended(seconds=30)
        (job,) = await system.jobs()
        # For the fixture, which deletes it again.
        await whole.sqs.create_queue(QueueName=whole.urls["mail"].rpartition("/")[2])

    assert code == 2
    assert "does not exist" in why["problem"]
    assert (job.status, job.attempts) == (JobStatus.PENDING, 0)


# --- components that fall silent ----------------------------------------------------------------


@pytest.mark.parametrize("silent", ["database", "sqs"])
async def test_programs_end_in_time_although_a_component_fell_silent(
    database_dsn: str, sqs_endpoint: str, tmp_path: Path, silent: str
) -> None:
    """No call that is never answered keeps a scheduler or a worker from ending."""
    database, sqs = urlsplit(database_dsn), urlsplit(sqs_endpoint)
    assert database.port
    assert sqs.port
    async with line_to(database.port) as to_database, line_to(sqs.port) as to_sqs:
        host = f"{database.netloc.rpartition('@')[0]}@127.0.0.1:{to_database.port}"
        settings = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{to_sqs.port}",
            "ASYNC_JOBS_DRAIN_TIMEOUT_SECONDS": "2",
        }
        async with production(
            database_dsn,
            urlunsplit(database._replace(netloc=host)),
            sqs_endpoint,
            tmp_path,
            **settings,
        ) as whole:
            programs = whole.start()
            for program in programs[:2]:
                await program.has_logged("scheduler_started")
            for program in programs[2:]:
                await program.has_logged("worker_started")
            await enqueue_everything(whole.client)
            await whole.system.have_begun(20)
            (to_database if silent == "database" else to_sqs).freeze()
            for program in programs:
                program.terminate()
            # Their bound is 12 s; a machine under load gets more.
            codes = [await program.ended(seconds=40) for program in programs]

    assert codes == [0] * 5


# --- the loops, in the caller's own process -----------------------------------------------------


class OwnClient:
    """A client of the caller's own make, with the five operations that are needed and no more."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.send_message_batch = self._counted("send_message_batch")
        self.receive_message = self._counted("receive_message")
        self.delete_message_batch = self._counted("delete_message_batch")
        self.change_message_visibility_batch = self._counted("change_message_visibility_batch")
        self.get_queue_attributes = self._counted("get_queue_attributes")
        self.called: set[str] = set()

    def _counted(self, operation: str) -> Callable[..., Awaitable[Any]]:
        def call(**arguments: Any) -> Awaitable[Any]:
            self.called.add(operation)
            answer: Awaitable[Any] = getattr(self._client, operation)(**arguments)
            return answer

        return call


@pytest.mark.parametrize("named_by", ["name", "url"])
async def test_the_loops_run_on_the_callers_own_client(
    database_dsn: str, sqs_endpoint: str, named_by: str
) -> None:
    """Neither the client nor the pool is closed; the queue is named by its name or its URL."""
    logger, registry = logging.getLogger("an_application"), JobRegistry()
    executed, stop = asyncio.Event(), asyncio.Event()

    @registry.handler("note")
    async def note(context: JobContext, payload: dict[str, object]) -> None:
        executed.set()

    async with (
        services.sqs_client(sqs_endpoint) as sqs,
        services.sqs_queue(sqs) as url,
        asyncpg.create_pool(database_dsn, min_size=1, max_size=6) as pool,
    ):
        config = AsyncJobsConfig.from_env(
            {"ASYNC_JOBS_DB_DSN": database_dsn, "ASYNC_JOBS_SQS_QUEUE_MAIL": url}
        )
        client, queue_name = OwnClient(sqs), {"name": "mail", "url": url}[named_by]
        service = JobService(config, PostgresJobStore(pool))
        async with asyncio.TaskGroup() as group:
            group.create_task(run_scheduler_loop(config, pool, client, logger, stop=stop))
            group.create_task(
                run_worker_loop(config, pool, client, registry, queue_name, logger, stop=stop)
            )
            request = EnqueueJobRequest(tenant_id="acme", use_case="mail", type="note", payload={})
            job_id = (await service.enqueue(request)).job_id
            await asyncio.wait_for(executed.wait(), 60)
            stop.set()
        job = await service.get_job(job_id)
        depth = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])

    assert job.status is JobStatus.SUCCEEDED
    assert client.called >= {"send_message_batch", "receive_message", "delete_message_batch"}
    assert depth["Attributes"]["ApproximateNumberOfMessages"] == "0"


async def test_a_loop_without_a_client_is_told_so(database_dsn: str) -> None:
    """A queue's URL says that SQS is meant."""
    config = AsyncJobsConfig.from_env(
        {"ASYNC_JOBS_DB_DSN": database_dsn, "ASYNC_JOBS_SQS_QUEUE_MAIL": "http://127.0.0.1:1/1/m"}
    )
    async with asyncpg.create_pool(database_dsn, min_size=1, max_size=2) as pool:
        with pytest.raises(ConfigurationError, match="sqs_client"):
            await run_scheduler_loop(config, pool, None, logging.getLogger("an_application"))
