"""create_jobs_router: the routes, for an application of one's own or for `create_app`."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias
from uuid import UUID

from fastapi import APIRouter, Security
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from async_jobs.adapters.http.wire import TOKEN_HEADER, answer_of, page_record_of, record_of
from async_jobs.domain.errors import InvalidJobError, JobNotFoundError
from async_jobs.domain.job import Job
from async_jobs.entrypoints.api import described
from async_jobs.entrypoints.api.access import Access, ApiToken, Caller, Scope
from async_jobs.entrypoints.api.bodies import (
    filters_of,
    job_id_of,
    request_of,
    requests_of,
    tenant_of,
)
from async_jobs.entrypoints.api.problems import answer_to
from async_jobs.entrypoints.api.reading import BATCH_BYTES_MAX, JOB_BYTES_MAX, read_json
from async_jobs.entrypoints.container import Container
from async_jobs.ports.clock import Clock
from async_jobs.ports.jobs import Jobs

JobServiceFactory: TypeAlias = Callable[[], Jobs | Awaitable[Jobs]]
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
) -> APIRouter:
    """Return the routes under `/jobs`, to be included in any FastAPI application.

    Every error is answered with a problem document by the routes themselves; the application
    needs no handlers for them.

    Args:
        job_service_factory: returns the service, or an awaitable of it; called once for each
            request that was let in.
        auth_token: the shared token: it reaches all tenants and has all scopes.
        tokens: entries of further tokens, each with its tenants and scopes.
        allow_unauthenticated: with no token at all, let everybody in.
        clock: tells which tokens have expired; this host's by default.
        job_bytes_max: the longest body of one job; a longer one is a 413.
        batch_bytes_max: the longest body of a batch.

    Raises:
        ConfigurationError: there is no token and nobody said that there need be none.
    """
    access = Access(
        auth_token,
        tokens,
        clock=clock or Container.host_clock(),
        allow_unauthenticated=allow_unauthenticated,
    )
    routes = _Routes(job_service_factory, access, job_bytes_max, batch_bytes_max)
    router = APIRouter(
        prefix="/jobs",
        route_class=JobsRoute,
        tags=["jobs"],
        dependencies=[] if access.is_open else [Security(_TOKEN)],
    )
    add = router.add_api_route
    add("/enqueue", routes.enqueue_job, methods=["POST"], **described.ENQUEUE_JOB)
    add("/enqueue-batch", routes.enqueue_jobs, methods=["POST"], **described.ENQUEUE_JOBS)
    for path in ("/enqueue", "/enqueue-batch"):  # else it would be the route of one job
        add(path, _only_post, methods=["GET"], include_in_schema=False)
    add("/", routes.list_jobs, methods=["GET"], **described.LIST_JOBS)
    add("", routes.list_jobs, methods=["GET"], include_in_schema=False)
    add("/{job_id}", routes.get_job, methods=["GET"], **described.GET_JOB)
    add("/{job_id}/cancel", routes.cancel_job, methods=["POST"], **described.CANCEL_JOB)
    add("/{job_id}/retry", routes.retry_job, methods=["POST"], **described.RETRY_JOB)
    return router


async def _only_post(request: Request) -> Response:
    raise HTTPException(405, headers={"Allow": "POST"})


# It only describes: `Access` reads the header, so that a refusal looks the same on every route.
_TOKEN: Final = APIKeyHeader(
    name=TOKEN_HEADER, scheme_name="token", description=described.TOKEN, auto_error=False
)


class JobsRoute(APIRoute):
    """A route that answers every error with a problem document."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with the errors of all that it calls taken care of."""
        handler = super().get_route_handler()

        async def answering(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:
                return answer_to(error, LOGGER)

        return answering


class _Routes:
    """What the routes do. Each asks who is calling before it looks at anything else."""

    def __init__(
        self,
        job_service_factory: JobServiceFactory,
        access: Access,
        job_bytes_max: int,
        batch_bytes_max: int,
    ) -> None:
        self._factory = job_service_factory
        self._access = access
        self._job_bytes_max = job_bytes_max
        self._batch_bytes_max = batch_bytes_max

    async def enqueue_job(self, request: Request) -> Response:
        caller = self._caller(request, Scope.ENQUEUE)
        body = await read_json(request, bytes_max=self._job_bytes_max)
        asked = request_of(body)
        caller.check_tenants([asked.tenant_id])
        enqueued = await (await self._jobs()).enqueue(asked)
        return JSONResponse(answer_of(enqueued), 200 if enqueued.duplicate else 201)

    async def enqueue_jobs(self, request: Request) -> Response:
        caller = self._caller(request, Scope.ENQUEUE)
        body = await read_json(request, bytes_max=self._batch_bytes_max)
        asked = requests_of(body)
        caller.check_tenants({each.tenant_id for each in asked})
        many = await (await self._jobs()).enqueue_many(asked)
        is_new = any(not each.duplicate for each in many)
        return JSONResponse({"jobs": [answer_of(each) for each in many]}, 201 if is_new else 200)

    async def get_job(self, request: Request) -> Response:
        caller = self._caller(request, Scope.READ)
        jobs, job_id, tenant_id = await self._found(caller, request)
        return JSONResponse(record_of(await _look(jobs, job_id, caller, tenant_id)))

    async def list_jobs(self, request: Request) -> Response:
        caller = self._caller(request, Scope.READ)
        filters = filters_of(request.query_params.multi_items())
        if "tenant_id" in filters:
            caller.check_tenants([filters["tenant_id"]])
        elif caller.tenants is not None:
            filters["tenant_id"] = caller.only_tenant
            if caller.only_tenant is None:
                raise InvalidJobError("tenant_id", "is required: the token reaches several tenants")
        page = await (await self._jobs()).list_jobs(**filters)
        return JSONResponse(page_record_of(page))

    async def cancel_job(self, request: Request) -> Response:
        caller = self._caller(request, Scope.OPERATE)
        jobs, job_id, tenant_id = await self._found(caller, request)
        tenant_id = await _tenant(jobs, job_id, caller, tenant_id)
        return JSONResponse(record_of(await jobs.cancel_job(job_id, tenant_id=tenant_id)))

    async def retry_job(self, request: Request) -> Response:
        caller = self._caller(request, Scope.OPERATE)
        jobs, job_id, tenant_id = await self._found(caller, request)
        tenant_id = await _tenant(jobs, job_id, caller, tenant_id)
        return JSONResponse(record_of(await jobs.retry_job(job_id, tenant_id=tenant_id)))

    def _caller(self, request: Request, scope: Scope) -> Caller:
        presented = [value.encode("latin-1") for value in request.headers.getlist(TOKEN_HEADER)]
        caller = self._access.caller(presented)
        caller.check_scope(scope)
        return caller

    async def _jobs(self) -> Jobs:
        made = self._factory()
        return await made if inspect.isawaitable(made) else made

    async def _found(self, caller: Caller, request: Request) -> tuple[Jobs, UUID, str | None]:
        """Return the service, and the job and the tenant that the request names."""
        job_id = job_id_of(request.path_params)
        tenant_id = tenant_of(request.query_params.multi_items())
        return await self._jobs(), job_id, tenant_id or caller.only_tenant


async def _look(jobs: Jobs, job_id: UUID, caller: Caller, tenant_id: str | None) -> Job:
    """Return a job within reach.

    A foreign one is told from a missing one by nothing: the same single call is made for both,
    and the same error raised.
    """
    if tenant_id is not None and caller.reaches(tenant_id):
        return await jobs.get_job(job_id, tenant_id=tenant_id)
    job = await jobs.get_job(job_id)
    if not caller.reaches(job.tenant_id) or tenant_id not in (None, job.tenant_id):
        raise JobNotFoundError(job_id)
    return job


async def _tenant(jobs: Jobs, job_id: UUID, caller: Caller, tenant_id: str | None) -> str | None:
    """Return the tenant to hold a job against; None for a caller that reaches all."""
    if caller.tenants is None or (tenant_id is not None and caller.reaches(tenant_id)):
        return tenant_id
    return (await _look(jobs, job_id, caller, tenant_id)).tenant_id
