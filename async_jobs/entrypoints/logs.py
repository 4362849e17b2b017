"""Log output: one JSON object a line for machines, or plain text for people."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum

import structlog


class LogFormat(StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """What is logged at least."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# What they tell at level info is one line a request, or what our own programs tell already.
CHATTY = ("httpx", "uvicorn")


def set_up_logging(level: LogLevel, log_format: LogFormat) -> logging.Logger:
    """Send all logging to standard error in one format; returns the package's logger.

    Stack traces, our own and those of other packages, are for the level debug; above it an
    exception is told in one line.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format is LogFormat.JSON:
        rendering: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    else:
        # The default formatter of exceptions shows local variables, and secrets among them.
        rendering = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                pad_event_to=24,
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    if level is not LogLevel.DEBUG:
        rendering.insert(0, _without_stack_trace)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    chosen = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(logging.INFO, chosen))
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, chosen))
    logger = logging.getLogger("async_jobs")
    logger.setLevel(chosen)
    return logger


def _without_stack_trace(
    logger: object, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Replace an exception's stack trace by its kind and its text."""
    match event.pop("exc_info", None):
        case (_, BaseException() as error, _):
            event["problem"] = f"{type(error).__name__}: {error}"
    return event
