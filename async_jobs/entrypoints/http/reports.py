"""The route of reports: which share of jobs started in time."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from async_jobs.adapters.http.answers import answer_record_of
from async_jobs.entrypoints.http.access import Access
from async_jobs.entrypoints.http.bodies import attainment_of
from async_jobs.entrypoints.http.routes import caller_of
from async_jobs.entrypoints.settings.tokens import Scope
from async_jobs.ports.reports import Reports

ReportsFactory: TypeAlias = Callable[[], Reports | Awaitable[Reports]]


class ReportRoutes:
    """What the routes do. Each asks who is calling before it looks at anything else."""

    def __init__(self, reports_factory: ReportsFactory, access: Access) -> None:
        self._factory = reports_factory
        self._access = access

    async def attainment(self, request: Request) -> Response:
        caller = caller_of(self._access, request, Scope.READ)
        asked = attainment_of(request.query_params.multi_items())
        named = asked.pop("tenants")
        caller.check_tenants(named)
        tenants = named or (None if caller.tenants is None else sorted(caller.tenants))
        made = self._factory()
        reports = await made if inspect.isawaitable(made) else made
        report = await reports.attainment(tenants=tenants, **asked)
        return JSONResponse(answer_record_of(report))
