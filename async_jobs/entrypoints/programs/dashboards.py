"""The dashboard as a program, and beside the HTTP API."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from async_jobs.domain.errors import ConfigurationError
from async_jobs.entrypoints.programs.mounting import ending
from async_jobs.entrypoints.programs.processes import stopping_on_signals
from async_jobs.entrypoints.serving.asgi import serving
from async_jobs.entrypoints.settings.tokens import ApiToken
from async_jobs.entrypoints.wiring.container import Container
from async_jobs.extras import require
from async_jobs.ports.jobs import Jobs
from async_jobs.ports.operations import Operations
from async_jobs.ports.reports import Reports
from async_jobs.ports.search import Search
from async_jobs.ports.steering import Steering

NO_TOKEN: Final = (
    "the dashboard has no token to sign in by: set ASYNC_JOBS_ENQUEUE_AUTH_TOKEN or"
    " ASYNC_JOBS_API_TOKENS (see: async-jobs token), with --url also --token, or let everybody in"
    " with --no-auth"
)


class Opened(Protocol):
    """The driving ports, as they were opened; and what is wired where that is in this process."""

    @property
    def jobs(self) -> Jobs: ...
    @property
    def operations(self) -> Operations: ...
    @property
    def reports(self) -> Reports: ...
    @property
    def steering(self) -> Steering: ...
    @property
    def search(self) -> Search: ...
    @property
    def container(self) -> Container | None: ...


async def run_dashboard(
    opening: AbstractAsyncContextManager[Opened],
    logger: logging.Logger,
    *,
    auth_token: str | None,
    tokens: tuple[ApiToken, ...] = (),
    no_auth: bool,
    host: str,
    port: int,
    name: str,
) -> None:
    """Serve the dashboard until SIGTERM.

    Args:
        opening: opens what it asks: a database, or a remote API.
        logger: told of everything.
        auth_token: the shared token, by which to sign in.
        tokens: entries of further ones.
        no_auth: let everybody in.
        host, port: where to listen.
        name: of the system, shown on each page.
    """
    require("the dashboard", "fastapi", "jinja2", "uvicorn")
    if no_auth:
        auth_token, tokens = None, ()
    elif not (auth_token or tokens):
        raise ConfigurationError(NO_TOKEN)
    from async_jobs.entrypoints.dashboard.app import create_dashboard

    with stopping_on_signals(logger) as stopping:
        async with opening as doors:
            dashboard = create_dashboard(
                lambda: doors.jobs,
                operations_factory=lambda: doors.operations,
                reports_factory=lambda: doors.reports,
                steering_factory=lambda: doors.steering,
                search_factory=lambda: doors.search,
                bulk_factory=None if doors.container is None else doors.container.bulk_steering,
                auth_token=auth_token,
                tokens=tokens,
                allow_unauthenticated=no_auth,
                name=name,
            )
            server = serving(dashboard, host=host, port=port, option="--port")
            async with server as serves:
                logger.info("dashboard_started", extra={"host": host, "port": serves.port})
                stopping.started()
                with ending(dashboard):
                    await serves.until(stopping.stop)
    logger.info("dashboard_stopped")
