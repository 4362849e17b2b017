"""What a handler logs tells whose job it is, and the handler does nothing for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from async_jobs import EnqueueJobRequest, JobContext, JobLogFilter, JobRegistry
from async_jobs.testing import MemorySystem, memory_system
from async_jobs.testing.contracts.tracing import PARENT

FIELDS = ("job_id", "attempt", "tenant_id", "use_case", "type", "trace_id")
TRACE = PARENT.split("-")[1]


class Lines(logging.Handler):
    """An application's own handler."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(vars(record))


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("my_application")
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers.clear()


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    """What structlog is told, set up as an application does."""
    lines: list[dict[str, Any]] = []

    def keep(logger: object, name: str, event: structlog.typing.EventDict) -> str:
        lines.append(dict(event))
        raise structlog.DropEvent

    was = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep])
    yield lines
    structlog.configure(**was)


@pytest.fixture
def registry() -> JobRegistry:
    return JobRegistry()


async def ran(registry: JobRegistry, *tenants: str, headers: dict[str, str]) -> MemorySystem:
    """Run a job of each tenant, all at once."""
    system = memory_system(registry=registry)
    for tenant in tenants:
        request = EnqueueJobRequest(
            tenant_id=tenant, use_case="default", type="send", payload={}, headers=headers
        )
        await system.service.enqueue(request)
    await system.run_until_idle()
    return system


async def wanted_of(system: MemorySystem) -> list[dict[str, Any]]:
    return [
        {
            "job_id": str(job.id),
            "attempt": 1,
            "tenant_id": job.tenant_id,
            "use_case": "default",
            "type": "send",
        }
        for job in await system.jobs()
    ]


async def test_structlog_tells_whose_job_it_is(
    registry: JobRegistry, told: list[dict[str, Any]]
) -> None:
    """In tasks and threads, of attempts that run side by side, and until they end."""
    log, both = structlog.get_logger(), asyncio.Barrier(2)

    @registry.handler("send")
    async def send(ctx: JobContext, payload: dict[str, Any]) -> None:
        await both.wait()
        structlog.contextvars.bind_contextvars(own=ctx.tenant_id)
        await both.wait()
        log.info("sent")
        await asyncio.to_thread(log.info, "in a thread")

    system = await ran(registry, "acme", "beta", headers={})

    log.info("after")
    wanted = await wanted_of(system)
    in_tasks = [each | {"event": "sent", "own": each["tenant_id"]} for each in wanted]
    in_threads = [each | {"event": "in a thread"} for each in in_tasks]
    by_line = sorted(told[:-1], key=lambda line: (line["event"], line["tenant_id"]))
    assert by_line == [*in_threads, *in_tasks]
    assert told[-1] == {"event": "after"}


async def test_python_s_logging_tells_it_where_it_is_asked_to(
    registry: JobRegistry, logger: logging.Logger
) -> None:
    """By the filter; what a record has stays, and one of nobody's job has each field as None."""
    asked, not_asked = Lines(), Lines()
    asked.addFilter(JobLogFilter())
    logger.handlers[:] = [not_asked, asked]  # a filter changes the record for those behind it

    @registry.handler("send")
    def send(ctx: JobContext, payload: dict[str, Any]) -> None:
        logger.info("sent")
        logger.info("own", extra={"use_case": "my own"})

    logger.info("before")
    system = await ran(registry, "acme", headers={"traceparent": PARENT})

    before, sent, own = ({name: record[name] for name in FIELDS} for record in asked.records)
    (wanted,) = await wanted_of(system)
    assert before == dict.fromkeys(FIELDS)
    assert sent == wanted | {"trace_id": TRACE}
    assert own == sent | {"use_case": "my own"}
    assert len(not_asked.records) == 3


async def test_an_applications_logging_is_left_alone(
    registry: JobRegistry, logger: logging.Logger
) -> None:
    """No handler, filter or factory of it is touched."""
    own = Lines()
    logger.addHandler(own)
    was = logging.getLogRecordFactory(), list(logging.root.handlers), list(logging.root.filters)

    @registry.handler("send")
    async def send(ctx: JobContext, payload: dict[str, Any]) -> None:
        logger.info("sent")

    await ran(registry, "acme", headers={"traceparent": PARENT})

    now = logging.getLogRecordFactory(), list(logging.root.handlers), list(logging.root.filters)
    assert now == was
    assert (logger.handlers, own.filters) == ([own], [])
    assert not own.records[0].keys() & {"job_id", "tenant_id", "trace_id"}


@pytest.mark.parametrize(("header", "trace_id"), [(PARENT, TRACE), ("00-1-2-3", None)])
async def test_a_job_knows_its_trace_without_opentelemetry(
    registry: JobRegistry, header: str, trace_id: str | None
) -> None:
    """From its headers, if they hold one."""
    seen: list[str | None] = []

    @registry.handler("send")
    async def send(ctx: JobContext, payload: dict[str, Any]) -> None:
        seen.append(ctx.trace_id)

    await ran(registry, "acme", headers={"traceparent": header})

    assert seen == [trace_id]
