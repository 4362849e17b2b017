"""create_jobs_router: the routes, for an application of one's own or for `create_app`."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

from fastapi import APIRouter, Security
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from async_jobs.adapters.http.wire import (
    TOKEN_HEADER,
    answer_of,
    outlook_record_of,
    record_of,
)
from async_jobs.domain.errors import (
    ConfigurationError,
    InvalidJobError,
    JobNotFoundError,
    MigrationDue,
)
from async_jobs.domain.job import Job
from async_jobs.entrypoints.http.access import Access, Caller, Unauthenticated
from async_jobs.entrypoints.http.access_log import RefusedTokens, remember
from async_jobs.entrypoints.http.bodies import (
    filters_of,
    job_id_of,
    request_of,
    requests_of,
    tenant_of,
)
from async_jobs.entrypoints.http.openapi import described
from async_jobs.entrypoints.http.paging import Pages
from async_jobs.entrypoints.http.problems import MigrationNotice, answer_to
from async_jobs.entrypoints.http.reading import (
    BATCH_BYTES_MAX,
    JOB_BYTES_MAX,
    object_of,
    read_body,
)
from async_jobs.entrypoints.settings.tokens import ApiToken, Scope
from async_jobs.host import SystemClock
from async_jobs.ports.clock import Clock
from async_jobs.ports.jobs import Jobs
from async_jobs.ports.tracing import NO_TRACING, Tracing

JobServiceFactory: TypeAlias = Callable[[], Jobs | Awaitable[Jobs]]
Endpoint: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]
T = TypeVar("T")
LARGE_BYTES: Final = 256 * 1024
LOGGER: Final = logging.getLogger("async_jobs")


def create_jobs_router(
    job_service_factory: JobServiceFactory,
    auth_token: str | None = None,
    *,
    tokens: Sequence[ApiToken] = (),
    allow_unauthenticated: bool = False,
    clock: Clock | None = None,
    job_bytes_max: int = JOB_BYTES_MAX,
    batch_bytes_max: int = BATCH_BYTES_MAX,
    tracing: Tracing = NO_TRACING,
) -> APIRouter:
    """Return the routes under `/jobs`, to be included in any FastAPI application.

    Every error is answered with a problem document by the routes themselves; the application
    needs no handlers for them. What its own dependencies raise is for its own handlers.

    Args:
        job_service_factory: returns the service, or an awaitable of it; called once for each
            request that was let in. `/jobs/outlook` is for services that have `outlook`.
        auth_token: the shared token: it reaches all tenants and has all scopes.
        tokens: entries of further tokens, each with its tenants and scopes.
        allow_unauthenticated: with no token at all, let everybody in.
        clock: tells which tokens have expired; this host's by default.
        job_bytes_max: the longest body of one job; a longer one is a 413.
        batch_bytes_max: the longest body of a batch.
        tracing: reads a caller's trace context (`traceparent`), where no instrumentation of the
            application has made its span current; the service gives it to the jobs.

    Raises:
        ConfigurationError: there is no token and nobody said that there need be none.
    """
    clock = clock or SystemClock()
    access = Access(auth_token, tokens, clock=clock, allow_unauthenticated=allow_unauthenticated)
    routes = _Routes(job_service_factory, access, job_bytes_max, batch_bytes_max, tracing)
    router = APIRouter(
        prefix="/jobs",
        tags=["jobs"],
        dependencies=[] if access.is_open else [Security(TOKEN)],
    )
    add = router.add_api_route
    answer = answering_with(clock)
    add("/enqueue", answer(routes.enqueue_job), methods=["POST"], **described.ENQUEUE_JOB)
    add(
        "/enqueue-batch",
        answer(routes.enqueue_jobs),
        methods=["POST"],
        **described.ENQUEUE_JOBS,
    )
    add("/outlook", answer(routes.foresee_job), methods=["POST"], **described.FORESEE_JOB)
    for path in ("/enqueue", "/enqueue-batch", "/outlook"):  # else it would be the route of one job
        add(path, answer(only("POST")), methods=["GET"], include_in_schema=False)
    add("/", answer(routes.list_jobs), methods=["GET"], **described.LIST_JOBS)
    add("", answer(routes.list_jobs), methods=["GET"], include_in_schema=False)
    add("/{job_id}", answer(routes.get_job), methods=["GET"], **described.GET_JOB)
    add("/{job_id}/cancel", answer(routes.cancel_job), methods=["POST"], **described.CANCEL_JOB)
    add("/{job_id}/retry", answer(routes.retry_job), methods=["POST"], **described.RETRY_JOB)
    return router


def only(*methods: str) -> Endpoint:
    """Return what answers any other method where a path has these."""

    async def refuse(request: Request) -> Response:
        raise HTTPException(405, headers={"Allow": ", ".join(methods)})

    return refuse


# It only describes: `Access` reads the header, so that a refusal looks the same on every route.
TOKEN: Final = APIKeyHeader(
    name=TOKEN_HEADER, scheme_name="token", description=described.TOKEN, auto_error=False
)


def answering_with(clock: Clock) -> Callable[[Endpoint], Endpoint]:
    """Return what lets endpoints answer their errors; `clock` tells when to log which again."""
    due, refused = MigrationNotice(LOGGER, clock), RefusedTokens(LOGGER, clock)
    return functools.partial(answering, due=due, refused=refused)


def answering(endpoint: Endpoint, *, due: MigrationNotice, refused: RefusedTokens) -> Endpoint:
    """Return the endpoint with its errors answered by problem documents.

    Only its own: what a host application's dependencies raise is for its own handlers.
    """

    @functools.wraps(endpoint)
    async def answer(request: Request) -> Response:
        try:
            response = await endpoint(request)
        except Exception as error:
            if isinstance(error, MigrationDue):
                due.tell(error)
            if isinstance(error, Unauthenticated):
                refused.tell(request.scope)
            response = answer_to(error, LOGGER)
        # One address gives each tenant something else, which no cache in between can know.
        response.headers["Cache-Control"] = "no-store"
        return response

    return answer


class _Routes:
    """What the routes do. Each asks who is calling before it looks at anything else."""

    def __init__(
        self,
        job_service_factory: JobServiceFactory,
        access: Access,
        job_bytes_max: int,
        batch_bytes_max: int,
        tracing: Tracing,
    ) -> None:
        self._factory = job_service_factory
        self._access = access
        self._job_bytes_max = job_bytes_max
        self._batch_bytes_max = batch_bytes_max
        self._large = asyncio.Semaphore(1)
        self._pages = Pages()
        self._tracing = tracing

    async def enqueue_job(self, request: Request) -> Response:
        caller = self._caller(request, Scope.ENQUEUE)
        body = await read_body(request, bytes_max=self._job_bytes_max)
        asked = await self._understood(body, request_of)
        caller.check_requests([asked])
        with self._tracing.continuing(request.headers):
            enqueued = await (await self._jobs()).enqueue(asked)
        return JSONResponse(answer_of(enqueued), 200 if enqueued.duplicate else 201)

    async def enqueue_jobs(self, request: Request) -> Response:
        caller = self._caller(request, Scope.ENQUEUE)
        body = await read_body(request, bytes_max=self._batch_bytes_max)
        asked = await self._understood(body, requests_of)
        caller.check_requests(asked)
        with self._tracing.continuing(request.headers):
            many = await (await self._jobs()).enqueue_many(asked)
        is_new = any(not each.duplicate for each in many)
        return JSONResponse({"jobs": [answer_of(each) for each in many]}, 201 if is_new else 200)

    async def foresee_job(self, request: Request) -> Response:
        caller = self._caller(request, Scope.ENQUEUE)
        body = await read_body(request, bytes_max=self._job_bytes_max)
        asked = await self._understood(body, request_of)
        caller.check_requests([asked])
        outlook = getattr(await self._jobs(), "outlook", None)  # no part of `Jobs`
        if outlook is None:
            raise ConfigurationError("the job service has no outlook")
        return JSONResponse(outlook_record_of(await outlook(asked)))

    async def _understood(self, body: bytes, understand: Callable[[dict[str, Any]], T]) -> T:
        """Parse and check a body; a large one in a thread, one at a time for its memory."""
        if len(body) <= LARGE_BYTES:
            return understand(object_of(body))
        async with self._large:
            return await asyncio.to_thread(lambda: understand(object_of(body)))

    async def get_job(self, request: Request) -> Response:
        caller = self._caller(request, Scope.READ)
        job_id, tenants = job_named(caller, request)
        return JSONResponse(record_of(await _found(await self._jobs(), job_id, tenants)))

    async def list_jobs(self, request: Request) -> Response:
        caller = self._caller(request, Scope.READ)
        filters = filters_of(request.query_params.multi_items())
        if "tenant_id" in filters:
            caller.check_tenants([filters["tenant_id"]])
        elif caller.tenants is not None:
            filters["tenant_id"] = caller.only_tenant
            if caller.only_tenant is None:
                raise InvalidJobError("tenant_id", "is required: the token reaches several tenants")
        return await self._pages.answer(await self._jobs(), filters)

    async def cancel_job(self, request: Request) -> Response:
        caller = self._caller(request, Scope.OPERATE)
        job_id, tenants = job_named(caller, request)
        jobs = await self._jobs()
        tenant_id = await _tenant(jobs, job_id, tenants)
        return JSONResponse(record_of(await jobs.cancel_job(job_id, tenant_id=tenant_id)))

    async def retry_job(self, request: Request) -> Response:
        caller = self._caller(request, Scope.OPERATE)
        job_id, tenants = job_named(caller, request)
        jobs = await self._jobs()
        tenant_id = await _tenant(jobs, job_id, tenants)
        return JSONResponse(record_of(await jobs.retry_job(job_id, tenant_id=tenant_id)))

    def _caller(self, request: Request, scope: Scope) -> Caller:
        return caller_of(self._access, request, scope)

    async def _jobs(self) -> Jobs:
        made = self._factory()
        return await made if inspect.isawaitable(made) else made


def caller_of(access: Access, request: Request, *scopes: Scope) -> Caller:
    """Return who is calling; raises what a caller is refused by that has none of the scopes."""
    presented = [value.encode("latin-1") for value in request.headers.getlist(TOKEN_HEADER)]
    caller = access.caller(presented)
    remember(request.scope, caller)
    caller.check_scope(*scopes)
    return caller


def job_named(caller: Caller, request: Request) -> tuple[UUID, Sequence[str | None]]:
    """Return the job that a request names, and the tenants whose it may be; None for any.

    For a caller within tenants these are always given, so that no store ever looks at a job out
    of reach: not even the time that takes may tell a foreign job from a missing one.
    """
    job_id = job_id_of(request.path_params)
    tenant_id = tenant_of(request.query_params.multi_items())
    if caller.tenants is None:
        return job_id, [tenant_id]
    if tenant_id is None:
        return job_id, sorted(caller.tenants)
    return job_id, [tenant_id] if caller.reaches(tenant_id) else []


async def _found(jobs: Jobs, job_id: UUID, tenants: Sequence[str | None]) -> Job:
    for tenant_id in tenants:
        try:
            return await jobs.get_job(job_id, tenant_id=tenant_id)
        except JobNotFoundError as error:
            if error.unreadable:
                raise
    raise JobNotFoundError(job_id)


async def _tenant(jobs: Jobs, job_id: UUID, tenants: Sequence[str | None]) -> str | None:
    """Return the tenant to hold a job against."""
    if len(tenants) == 1:
        return tenants[0]
    return (await _found(jobs, job_id, tenants)).tenant_id
