"""create_operations_router: what operators ask, for an application of one's own or `create_app`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from fastapi import APIRouter, Security
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from async_jobs.adapters.http.answers import Answer, answer_record_of
from async_jobs.domain.errors import InvalidJobError, JobNotFoundError
from async_jobs.entrypoints.http.access import Access, Caller
from async_jobs.entrypoints.http.bodies import tenants_of, waiting_of
from async_jobs.entrypoints.http.bulk import BulkFactory, BulkRoutes, add_bulk
from async_jobs.entrypoints.http.openapi import operating, reporting
from async_jobs.entrypoints.http.reports import ReportRoutes, ReportsFactory
from async_jobs.entrypoints.http.routes import TOKEN, answering_with, caller_of, job_named
from async_jobs.entrypoints.http.searching import SearchFactory, SearchRoutes, add_searching
from async_jobs.entrypoints.http.steering import SteeringFactory, SteeringRoutes, add_steering
from async_jobs.entrypoints.settings.tokens import ApiToken, Scope
from async_jobs.host import SystemClock
from async_jobs.ports.clock import Clock
from async_jobs.ports.operations import Operations

OperationsFactory: TypeAlias = Callable[[], Operations | Awaitable[Operations]]


def create_operations_router(
    operations_factory: OperationsFactory,
    auth_token: str | None = None,
    *,
    reports_factory: ReportsFactory | None = None,
    steering_factory: SteeringFactory | None = None,
    search_factory: SearchFactory | None = None,
    bulk_factory: BulkFactory | None = None,
    tokens: Sequence[ApiToken] = (),
    allow_unauthenticated: bool = False,
    clock: Clock | None = None,
) -> APIRouter:
    """Return the routes of operators: a job's `explain` and `history`, `/operations`, `/controls`.

    Errors are answered as by `create_jobs_router`. A token that is limited to tenants sees these.

    Args:
        operations_factory: returns the `Operations`, or an awaitable of them; called once for each
            request that was let in.
        reports_factory: returns the `Reports`, in the same way; without it there is no
            `/operations/attainment`.
        steering_factory: returns the `Steering`, in the same way; without it there are no
            `/controls` and no `/operations/audit`.
        search_factory: returns the `Search`, in the same way; without it there are no
            `/jobs/search` and no `/operations/errors`.
        bulk_factory: returns the `BulkSteering`, in the same way; without it there is no `/bulk`.
        auth_token, tokens, allow_unauthenticated, clock: as for `create_jobs_router`.

    Raises:
        ConfigurationError: there is no token and nobody said that there need be none.
    """
    clock = clock or SystemClock()
    access = Access(auth_token, tokens, clock=clock, allow_unauthenticated=allow_unauthenticated)
    routes = _Routes(operations_factory, access)
    router = APIRouter(
        tags=["operations"], dependencies=[] if access.is_open else [Security(TOKEN)]
    )
    answer = answering_with(clock)
    for path, endpoint, description in (
        ("/jobs/{job_id}/explain", routes.explain_job, operating.EXPLAIN_JOB),
        ("/jobs/{job_id}/history", routes.history, operating.HISTORY),
        ("/operations/explain", routes.explain_waiting, operating.EXPLAIN_WAITING),
        ("/operations/status", routes.status, operating.STATUS),
    ):
        router.add_api_route(path, answer(endpoint), methods=["GET"], **description)
    if reports_factory is not None:
        attainment = answer(ReportRoutes(reports_factory, access).attainment)
        router.add_api_route(
            "/operations/attainment", attainment, methods=["GET"], **reporting.ATTAINMENT
        )
    if steering_factory is not None:
        add_steering(router, SteeringRoutes(steering_factory, access), answer)
    if bulk_factory is not None:
        add_bulk(router, BulkRoutes(bulk_factory, access), answer)
    if search_factory is not None:
        add_searching(router, SearchRoutes(search_factory, access), answer)
    return router


class _Routes:
    """What the routes do. Each asks who is calling before it looks at anything else."""

    def __init__(self, operations_factory: OperationsFactory, access: Access) -> None:
        self._factory = operations_factory
        self._access = access

    async def explain_job(self, request: Request) -> Response:
        return await self._about_one(request, lambda operations: operations.explain)

    async def history(self, request: Request) -> Response:
        return await self._about_one(request, lambda operations: operations.history)

    async def _about_one(
        self, request: Request, asking: Callable[[Operations], Callable[..., Awaitable[Answer]]]
    ) -> Response:
        caller = self._caller(request)
        job_id, tenants = job_named(caller, request)
        ask = asking(await self._operations())
        for tenant_id in tenants:
            try:
                told = await ask(job_id, tenant_id=tenant_id)
            except JobNotFoundError as error:
                if error.unreadable:
                    raise
            else:
                return JSONResponse(answer_record_of(told))
        raise JobNotFoundError(job_id)

    async def explain_waiting(self, request: Request) -> Response:
        caller = self._caller(request)
        asked = waiting_of(request.query_params.multi_items())
        if "tenant_id" in asked:
            caller.check_tenants([asked["tenant_id"]])
        elif caller.tenants is not None:
            asked["tenant_id"] = caller.only_tenant
            if caller.only_tenant is None:
                raise InvalidJobError("tenant_id", "is required: the token reaches several tenants")
        operations = await self._operations()
        return JSONResponse(answer_record_of(await operations.explain_waiting(**asked)))

    async def status(self, request: Request) -> Response:
        caller = self._caller(request)
        named = tenants_of(request.query_params.multi_items())
        caller.check_tenants(named)
        tenants = named or (None if caller.tenants is None else sorted(caller.tenants))
        status = await (await self._operations()).status(tenants=tenants)
        return JSONResponse(answer_record_of(status))

    def _caller(self, request: Request) -> Caller:
        return caller_of(self._access, request, Scope.READ)

    async def _operations(self) -> Operations:
        made = self._factory()
        return await made if inspect.isawaitable(made) else made
