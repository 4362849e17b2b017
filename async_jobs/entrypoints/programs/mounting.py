"""The dashboard beside the HTTP API: below a path of the same application."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.wiring.container import Container

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

PATH: Final = "/dashboard"
PAGES: Final = "jinja2"
"""The package that makes pages: development and demonstration leave them out without it."""


def mount(
    app: FastAPI, container: Container, config: AsyncJobsConfig, *, no_auth: bool, name: str
) -> None:
    """Serve the dashboard below `/dashboard` of an application, with the tokens of the API."""
    from starlette.responses import RedirectResponse

    from async_jobs.entrypoints.dashboard.app import create_dashboard

    dashboard = create_dashboard(
        container.service,
        operations_factory=container.operations,
        reports_factory=container.reports,
        steering_factory=container.steering,
        search_factory=container.search,
        bulk_factory=container.bulk_steering,
        auth_token=config.enqueue_auth_token,
        tokens=config.api_tokens,
        allow_unauthenticated=no_auth,
        clock=container.host_clock(),
        name=name,
    )

    async def within(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}{PATH}/", 308)

    app.add_route(PATH, within, methods=["GET"], include_in_schema=False)
    app.mount(PATH, dashboard)
    app.state.dashboard = dashboard


@contextmanager
def ending(app: Any) -> Iterator[None]:
    """End the streams of a dashboard, or of the one mounted in an application, with the block.

    A server that stops would wait for them.
    """
    try:
        yield
    finally:
        dashboard = getattr(app.state, "dashboard", app)
        if hasattr(dashboard, "end"):
            dashboard.end()
