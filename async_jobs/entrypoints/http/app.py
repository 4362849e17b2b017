"""create_app: the FastAPI application that `async-jobs api` serves."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from async_jobs.adapters.telemetry import scraping
from async_jobs.adapters.telemetry.scraping import ScrapePage
from async_jobs.domain.errors import ConfigurationError, MigrationDue
from async_jobs.entrypoints.http.access_log import AccessLog
from async_jobs.entrypoints.http.bulk import BulkFactory
from async_jobs.entrypoints.http.openapi import (
    bulk,
    described,
    operating,
    reporting,
    searching,
    steering,
)
from async_jobs.entrypoints.http.openapi.schemas import with_components
from async_jobs.entrypoints.http.operations import OperationsFactory, create_operations_router
from async_jobs.entrypoints.http.problems import MIGRATION_DUE, answer_to
from async_jobs.entrypoints.http.reports import ReportsFactory
from async_jobs.entrypoints.http.routes import LOGGER, JobServiceFactory, create_jobs_router
from async_jobs.entrypoints.http.searching import SearchFactory
from async_jobs.entrypoints.http.steering import SteeringFactory
from async_jobs.entrypoints.settings.tokens import ApiToken
from async_jobs.host import SystemChance, SystemClock
from async_jobs.ports.clock import Clock
from async_jobs.ports.tracing import NO_TRACING, Tracing
from async_jobs.version import __version__

Ready: TypeAlias = Callable[[], bool | Awaitable[bool]]
_FURTHER: Final = (
    *operating.ROUTES,
    reporting.ATTAINMENT,
    *steering.ROUTES,
    *searching.ROUTES,
    *bulk.ROUTES,
)
DESCRIPTION: Final = (
    "Hand work in with how late it may start; it runs, earliest deadline first. Errors are"
    " problem documents (RFC 9457) whose `type` is stable."
)


def create_app(
    job_service_factory: JobServiceFactory,
    *,
    operations_factory: OperationsFactory | None = None,
    reports_factory: ReportsFactory | None = None,
    steering_factory: SteeringFactory | None = None,
    search_factory: SearchFactory | None = None,
    bulk_factory: BulkFactory | None = None,
    auth_token: str | None = None,
    tokens: Sequence[ApiToken] = (),
    allow_unauthenticated: bool = False,
    ready: Ready = lambda: True,
    clock: Clock | None = None,
    scrapes: ScrapePage | None = None,
    access_log: bool = False,
    tracing: Tracing = NO_TRACING,
) -> App:
    """Return the application: the routes of `create_jobs_router`, health, and the documents.

    `/docs` loads its scripts from a CDN; everything else is served from here.

    Args:
        job_service_factory: as `create_jobs_router` takes it, like all but one of the others.
        operations_factory: returns the `Operations`, in the same way; None: no routes for them.
        reports_factory, steering_factory, search_factory, bulk_factory: return `Reports`,
            `Steering`, `Search` and `BulkSteering`, for those routes.
        auth_token, tokens: the shared token, and entries of further ones.
        allow_unauthenticated: with no token at all, let everybody in.
        ready: asked at each request to `/health/ready`; an error is a no, and told in the log
            when it is another one than before.
        clock: tells which tokens have expired; this host's by default.
        scrapes: answers `GET /metrics`; None leaves that out.
        access_log, tracing: log each request (`AccessLog`), and trace it.

    Raises:
        ConfigurationError: there is no token and nobody said that there need be none.
    """
    app = _app()
    access: dict[str, Any] = {
        "tokens": tokens,
        "allow_unauthenticated": allow_unauthenticated,
        "clock": clock,
    }
    jobs = create_jobs_router(job_service_factory, auth_token, tracing=tracing, **access)
    if operations_factory is not None:
        access |= {"reports_factory": reports_factory, "steering_factory": steering_factory}
        access |= {"search_factory": search_factory, "bulk_factory": bulk_factory}
        # First, or `/jobs/search` would be the route of one job.
        app.include_router(create_operations_router(operations_factory, auth_token, **access))
    app.include_router(jobs)
    app.readiness = Readiness(ready)
    _add_health(app, app.readiness)
    if scrapes is not None:
        _add_metrics(app, scrapes)
    app.add_exception_handler(HTTPException, _answer)
    if access_log:
        clock, chance = clock or SystemClock(), SystemChance()
        app.add_middleware(AccessLog, logger=LOGGER, clock=clock, chance=chance)
    return app


def _app() -> App:
    return App(
        title="async_jobs",
        version=__version__,
        description=DESCRIPTION,
        redoc_url=None,
        redirect_slashes=False,
    )


class App(FastAPI):
    """The application.

    Attributes:
        readiness: what `/health/ready` asks, for who serves it to ask at the start.
    """

    readiness: Readiness

    def openapi(self) -> dict[str, Any]:
        """See FastAPI; with what its own document leaves out."""
        if self.openapi_schema is None:
            document = described.with_nulls(super().openapi(), _FURTHER)
            self.openapi_schema = with_components(document)
        return self.openapi_schema


async def _answer(request: Request, error: Exception) -> Response:
    """Answer what no route was asked: an unknown path, or a method that a path does not have."""
    return answer_to(error, LOGGER)


class Readiness:
    """Whether the application can serve; the log is told when it cannot, once for each reason."""

    def __init__(self, ready: Ready) -> None:
        self._ready = ready
        self._told = ""

    async def look(self) -> dict[str, str]:
        """Return what `/health/ready` answers now; its `status` is `ready` or `not ready`."""
        problem, record, level = "", {"status": "not ready"}, logging.WARNING
        try:
            answer = self._ready()
            if await answer if inspect.isawaitable(answer) else answer:
                record = {"status": "ready"}
        except MigrationDue as error:
            problem, level = str(error), logging.ERROR
            record |= {"problem": MIGRATION_DUE}
        except ConfigurationError as error:
            problem = str(error)
        except Exception as error:
            problem = type(error).__name__
        if problem and problem != self._told:
            LOGGER.log(level, "not_ready", extra={"problem": problem})
        self._told = problem
        return record


def _add_health(app: FastAPI, readiness: Readiness) -> None:
    async def health_live() -> Response:
        return JSONResponse({"status": "live"})

    async def health_ready() -> Response:
        record = await readiness.look()
        return JSONResponse(record, 200 if record["status"] == "ready" else 503)

    for path, endpoint, description in (
        ("/health/live", health_live, described.HEALTH_LIVE),
        ("/health/ready", health_ready, described.HEALTH_READY),
    ):
        app.add_api_route(path, endpoint, methods=["GET"], **description)
        # Some probes ask for the head only.
        app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def _add_metrics(app: FastAPI, scrapes: ScrapePage) -> None:
    def metrics(request: Request) -> Response:  # in a thread: a page may have many lines
        given = request.headers.get("authorization")
        status, headers, body = scrapes.answer(given.encode("latin-1") if given else None)
        return Response(body, status, headers)

    app.add_api_route(scraping.PATH, metrics, methods=["GET"], include_in_schema=False)
