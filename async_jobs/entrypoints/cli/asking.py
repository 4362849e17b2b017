"""Where `async-jobs jobs …` asks: a database or a remote API; and what it tells besides."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar
from uuid import UUID

import typer

from async_jobs.domain.audit import Operation, Operator
from async_jobs.domain.bulk import BulkOperation
from async_jobs.domain.controls import Control
from async_jobs.domain.errors import AsyncJobsError, AuthTokenError, ConfigurationError
from async_jobs.domain.facts import SchedulerMissing
from async_jobs.domain.job import EnqueueJobRequest
from async_jobs.domain.limits import queue_of
from async_jobs.domain.outlook import Outlook
from async_jobs.entrypoints.cli.options import reporting
from async_jobs.entrypoints.programs.options import LogFormat, LogLevel
from async_jobs.entrypoints.settings.names import TOKEN_VARIABLE
from async_jobs.extras import require
from async_jobs.host import SystemClock
from async_jobs.ports.bulk_steering import BulkPreview, BulkRequest, BulkSteering
from async_jobs.ports.clock import Clock
from async_jobs.ports.jobs import Jobs
from async_jobs.ports.operations import Operations
from async_jobs.ports.reports import Reports
from async_jobs.ports.search import Search
from async_jobs.ports.steering import ControlPreview, ControlRequest, Steering

if TYPE_CHECKING:
    from async_jobs.adapters.http.operations import HttpOperations
    from async_jobs.entrypoints.wiring.container import Container

T = TypeVar("T")


class Where(NamedTuple):
    """Where the jobs are: behind a remote API, or in a database."""

    dsn: str | None
    url: str | None
    token: str | None


class Asked(Jobs, Protocol):
    """What the service and the client have: the calls of `Jobs`, and `outlook`."""

    async def outlook(self, request: EnqueueJobRequest) -> Outlook:
        """See `JobService`."""
        ...


class _RemoteSteering(Steering):
    """`Steering` of an API, which knows by the token who asks, and within which tenants."""

    def __init__(self, remote: HttpOperations) -> None:
        self._remote = remote

    async def controls(self, *, tenants: Collection[str] | None = None) -> Sequence[Control]:
        return await self._remote.controls()

    async def preview(
        self, request: ControlRequest, *, tenants: Collection[str] | None = None
    ) -> ControlPreview:
        return await self._remote.preview_control(request)

    async def put(
        self,
        request: ControlRequest,
        *,
        operator: Operator,
        expected_version: int = 0,
        tenants: Collection[str] | None = None,
    ) -> Control:
        return await self._remote.put_control(request, expected_version=expected_version)

    async def end(
        self,
        control_id: UUID,
        *,
        reason: str,
        operator: Operator,
        expected_version: int | None = None,
        tenants: Collection[str] | None = None,
    ) -> None:
        await self._remote.end_control(control_id, reason=reason, expected_version=expected_version)

    async def revert(
        self,
        operation_id: UUID,
        *,
        reason: str,
        operator: Operator,
        tenants: Collection[str] | None = None,
    ) -> Control | None:
        return await self._remote.revert_control(operation_id, reason=reason)

    async def audit(
        self,
        *,
        limit: int = 100,
        before: UUID | None = None,
        control_id: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> Sequence[Operation]:
        return await self._remote.audit(limit=limit, before=before, control_id=control_id)


class _RemoteBulk(BulkSteering):
    """`BulkSteering` of an API; as `_RemoteSteering`."""

    def __init__(self, remote: HttpOperations) -> None:
        self._remote = remote

    async def preview(
        self, request: BulkRequest, *, tenants: Collection[str] | None = None
    ) -> BulkPreview:
        return await self._remote.preview_bulk(request)

    async def start(
        self,
        request: BulkRequest,
        *,
        token: str,
        reason: str,
        operator: Operator,
        maximum: int | None = None,
        operation_id: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> BulkOperation:
        return await self._remote.start_bulk(
            request, token=token, reason=reason, maximum=maximum, operation_id=operation_id
        )

    async def get(
        self, operation_id: UUID, *, tenants: Collection[str] | None = None
    ) -> BulkOperation:
        return await self._remote.get_bulk(operation_id)

    async def operations(
        self,
        *,
        limit: int = 100,
        before: UUID | None = None,
        tenants: Collection[str] | None = None,
    ) -> Sequence[BulkOperation]:
        return await self._remote.bulk_operations(limit=limit, before=before)

    async def stop(
        self,
        operation_id: UUID,
        *,
        reason: str,
        operator: Operator,
        tenants: Collection[str] | None = None,
    ) -> BulkOperation:
        return await self._remote.stop_bulk(operation_id, reason=reason)

    async def undo(
        self,
        operation_id: UUID,
        *,
        reason: str,
        operator: Operator,
        tenants: Collection[str] | None = None,
    ) -> BulkOperation:
        return await self._remote.undo_bulk(operation_id, reason=reason)


class Doors(NamedTuple):
    """The driving ports, and what is wired behind them where that is in this process."""

    jobs: Asked
    operations: Operations
    reports: Reports
    steering: Steering
    search: Search
    bulk: BulkSteering
    container: Container | None = None


@asynccontextmanager
async def opened_doors(where: Where, logger: logging.Logger) -> AsyncIterator[Doors]:
    """Yield the driving ports, of a remote API or of a database."""
    if where.url is not None:
        if where.dsn is not None:
            raise ConfigurationError("--dsn, --url: only one of them can be asked")
        require("--url", "httpx")
        from async_jobs.adapters.http.client import AsyncJobsHttpClient

        async with AsyncJobsHttpClient(where.url, auth_token=where.token) as client:
            try:
                remote = client.operations
                steering, bulk = _RemoteSteering(remote), _RemoteBulk(remote)
                yield Doors(client, remote, remote, steering, remote, bulk)
            except AuthTokenError as error:
                given = f"--token or {TOKEN_VARIABLE} names the one to use"
                raise AuthTokenError(f"{error}; {given}") from None
        return
    from async_jobs.entrypoints.settings.config import AsyncJobsConfig
    from async_jobs.entrypoints.wiring.container import opened

    dsn = {} if where.dsn is None else {"ASYNC_JOBS_DB_DSN": where.dsn}
    try:
        config = AsyncJobsConfig.from_env(os.environ | dsn)
    except ConfigurationError as error:
        if os.environ.get("ASYNC_JOBS_DB_DSN", "").strip() or where.dsn is not None:
            raise
        raise ConfigurationError(f"{error}\n--url: asks an API instead of a database") from None
    async with opened(config, logger, application_name="async_jobs cli") as container:
        yield Doors(
            container.service(),
            container.operations(),
            container.reports(),
            container.steering(),
            container.search(),
            container.bulk_steering(),
            container,
        )


async def _warn(container: Container, enqueues: EnqueueJobRequest | None) -> None:
    with suppress(AsyncJobsError):  # what was asked has been answered
        _warn_of(await container.scheduler_watch().missing())
        if enqueues is not None:
            await _warn_of_no_worker(container, enqueues)


def _warn_of(missing: SchedulerMissing | None) -> None:
    if missing is not None:
        at = missing.ticked_at
        since = "" if at is None else f" since {at:%Y-%m-%d %H:%M:%S} UTC"
        typer.echo(f"warning: no scheduler has ticked{since}: pending jobs wait for one", err=True)


async def _warn_of_no_worker(container: Container, request: EnqueueJobRequest) -> None:
    use_case = container.config().use_case_configs[request.use_case]
    queue = request.queue or queue_of(request.use_case, use_case)
    alive = await container.workers().live(container.clock().now())
    if not any(queue in worker.queues for worker in alive):
        typer.echo(
            f"warning: no live worker receives the queue {queue!r}: its jobs wait for one", err=True
        )


def ask(
    where: Where,
    level: LogLevel,
    call: Callable[[Asked], Awaitable[T]],
    *,
    warns: bool = False,
    enqueues: EnqueueJobRequest | None = None,
) -> T:
    """Run one call where the jobs are.

    Args:
        where: there.
        level: what is logged.
        call: the call.
        warns: tell afterwards, to whoever looks, that no scheduler ticks.
        enqueues: tell that, and that no worker receives what was enqueued. Both only of a
            database: an API does not tell.
    """

    async def asked(doors: Doors) -> T:
        answer = await call(doors.jobs)
        if doors.container is not None and (warns or enqueues is not None):
            await _warn(doors.container, enqueues)
        return answer

    return ask_doors(where, level, asked)


def ask_operations(where: Where, level: LogLevel, call: Callable[[Operations], Awaitable[T]]) -> T:
    """Run one call of an operator where the jobs are."""
    return ask_doors(where, level, lambda doors: call(doors.operations))


def ask_steering(
    where: Where, level: LogLevel, call: Callable[[Steering, datetime], Awaitable[T]]
) -> T:
    """Run one call of an operator who changes something where the jobs are, at an instant."""

    async def asked(doors: Doors) -> T:
        clock = SystemClock() if doors.container is None else doors.container.clock()
        await clock.sync()
        return await call(doors.steering, clock.now())

    return ask_doors(where, level, asked)


def ask_search(where: Where, level: LogLevel, call: Callable[[Search], Awaitable[T]]) -> T:
    """Look for something where the jobs are."""
    return ask_doors(where, level, lambda doors: call(doors.search))


def ask_bulk(
    where: Where, level: LogLevel, call: Callable[[BulkSteering, Clock], Awaitable[T]]
) -> T:
    """Run one call of an operator who acts on many jobs where they are.

    That no scheduler ticks is told of a database only: an API does not tell.
    """

    async def asked(doors: Doors) -> T:
        clock: Clock = SystemClock() if doors.container is None else doors.container.clock()
        await clock.sync()
        if doors.container is not None:
            _warn_of(await doors.container.scheduler_watch().missing())
        return await call(doors.bulk, clock)

    return ask_doors(where, level, asked)


def ask_reports(where: Where, level: LogLevel, call: Callable[[Reports], Awaitable[T]]) -> T:
    """Ask for a report where the jobs are."""
    return ask_doors(where, level, lambda doors: call(doors.reports))


def ask_doors(where: Where, level: LogLevel, call: Callable[[Doors], Awaitable[T]]) -> T:
    """Run calls of any of the driving ports where the jobs are."""
    from async_jobs.entrypoints.programs.logs import set_up_logging
    from async_jobs.entrypoints.programs.processes import run_async

    logger = set_up_logging(level, LogFormat.TEXT)

    async def run() -> T:
        async with opened_doors(where, logger) as doors:
            return await call(doors)

    with reporting(level):
        return run_async(run())
