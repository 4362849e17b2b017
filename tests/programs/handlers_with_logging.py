"""Handlers of an application that sets up logging for itself, as many do when they are imported.

With `disable_existing_loggers`, which is the default, it disables every logger there is.
"""

from __future__ import annotations

import logging
import logging.config

from async_jobs import JobContext, job_registry
from async_jobs.domain.job import Payload
from tests.programs import handlers_for_tests as handlers

OWN_LINE = '{"event": "own", "text": "%(message)s", "logger": "%(name)s"}'

logging.config.dictConfig(
    {
        "version": 1,
        "formatters": {"own": {"format": OWN_LINE}},
        "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
        "root": {"handlers": ["own"], "level": "INFO"},
    }
)


@job_registry.handler("log_something")
async def log_something(context: JobContext, payload: Payload) -> None:
    logging.getLogger("shop").info("something")


fail = handlers.fail
