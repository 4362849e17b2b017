"""Metrics of a scheduler or worker on a port of their own."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from async_jobs.adapters.telemetry import scraping
from async_jobs.adapters.telemetry.scraping import ScrapePage
from async_jobs.domain.errors import ConfigurationError
from async_jobs.entrypoints.serving.health import (
    Application,
    Message,
    Send,
    send_answer,
    serving_apart,
)

VARIABLE = "ASYNC_JOBS_METRICS_PORT"


def scrape_app(scrapes: ScrapePage) -> Application:
    """Return an ASGI application that has `/metrics` and nothing else."""

    async def app(scope: Message, receive: object, send: Send) -> None:
        if scope.get("path") == scraping.PATH:
            await send_answer(scrapes, scope, send)
            return
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        body = json.dumps({"status": "not found"}).encode()
        await send({"type": "http.response.body", "body": body})

    return app


@asynccontextmanager
async def serving_scrapes(
    scrapes: ScrapePage | None, logger: logging.Logger, *, host: str, port: int | None
) -> AsyncIterator[None]:
    """Answer scrapes for the length of a block, from a thread of its own.

    Several processes of a host may have the same variable. Only one of them can listen there; the
    others say so and do their work.

    Args:
        scrapes: what answers; None where nothing is scraped.
        logger: told if nothing can listen there.
        host: the address to listen on.
        port: None serves nothing.
    """
    async with AsyncExitStack() as stack:
        if scrapes is not None and port is not None:
            try:
                await stack.enter_async_context(
                    serving_apart(scrape_app(scrapes), host=host, port=port, option=VARIABLE)
                )
            except ConfigurationError as error:
                logger.warning("metrics_not_served", extra={"problem": str(error)})
        yield
