"""Log output: one JSON object a line for machines, or plain text for people."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any, TextIO

import structlog

from async_jobs.adapters.telemetry.raised import HandlerRaised
from async_jobs.application.handling.job_logs import fields_of
from async_jobs.application.handling.registry import running_job
from async_jobs.entrypoints.programs.options import LogFormat, LogLevel
from async_jobs.entrypoints.programs.terminal import printable

OURS = "async_jobs"
# What they tell at level info is one line a request, or what our own programs tell already.
CHATTY = ("httpx", "uvicorn")
# Messages of other packages, and stack traces. All else is told in one line, so that a name cannot
# look like another record.
MANY_LINES = ("event", "exception", "stack")
# Through them we speak to others: how a connection was refused is a line, and no stack trace.
CLIENTS = ("aiobotocore", "asyncpg", "botocore")


def set_up_logging(level: LogLevel, log_format: LogFormat) -> logging.Logger:
    """Send all logging to standard error in one format; returns the programs' own logger.

    That one is no part of the tree of loggers, so that a module of handlers that sets up logging
    for itself, and disables all loggers there are, does not silence the program it runs in.
    Everything else in the tree is the application's to change.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(level, log_format))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    chosen = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(logging.INFO, chosen))
    for chatty in map(logging.getLogger, CHATTY):
        if chatty.level == logging.NOTSET:
            chatty.setLevel(max(logging.WARNING, chosen))
    logging.getLogger(OURS).setLevel(chosen)
    logger = logging.Logger(OURS, chosen)  # noqa: LOG001 - apart from the tree, on purpose
    logger.addHandler(handler)
    return logger


def formatter(level: LogLevel, log_format: LogFormat) -> logging.Formatter:
    """Return what makes a line of a record.

    Our own stack traces, and those of the clients we use, are for the level debug; above it such
    an exception is told in one line. Those of applications are theirs, and stay.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _with_job,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format is LogFormat.JSON:
        rendering: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(_printable_json, ensure_ascii=False, default=str),
        ]
    else:
        # The default formatter of exceptions shows local variables, and secrets among them.
        rendering = [
            _printable_values,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                pad_event_to=24,
                exception_formatter=_printable_traceback,
            ),
        ]
    if level is not LogLevel.DEBUG:
        rendering.insert(0, _without_stack_trace)
    rendering.insert(0, _without_what_was_raised)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )


@contextmanager
def root_left_alone() -> Iterator[None]:
    """Let modules of an application set up logging while they are imported, as in any program.

    Where the root has a handler, `logging.basicConfig` does nothing. So it has none meanwhile, and
    Python's own level; what is logged goes to ours all the same. If they set it up, it is theirs
    from then on; else it is as it was.
    """
    root, last_resort = logging.getLogger(), logging.lastResort
    ours, level = root.handlers[:], root.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    logging.lastResort = next(
        (each for each in ours if isinstance(each, logging.StreamHandler)), last_resort
    )
    try:
        yield
    finally:
        logging.lastResort = last_resort
        if not root.handlers:
            root.handlers[:] = ours
            if root.level == logging.WARNING:
                root.setLevel(level)


def enable_our_loggers() -> None:
    """Undo what `disable_existing_loggers` of an application's logging did to this package's."""
    for name, each in logging.root.manager.loggerDict.items():
        if isinstance(each, logging.Logger) and _is_ours(name):
            each.disabled = False


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in {OURS, *CHATTY, *CLIENTS}


def _with_job(
    logger: object, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Say of a line that a handler wrote whose job it was running."""
    job = running_job.get()
    if job is not None:
        for key, value in fields_of(job).items():
            event.setdefault(key, value)
    return event


def _printable_json(value: object, **options: Any) -> str:
    """Return JSON that does no harm to a terminal that shows it."""
    return printable(json.dumps(value, **options))


def _printable_values(
    logger: object, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escape what a terminal would obey, hide or reorder."""
    for key, value in event.items():
        match value:
            case str():
                event[key] = printable(value, keep="\n\t" if key in MANY_LINES else "")
            case list() | dict():
                event[key] = printable(repr(value))
    return event


def _printable_traceback(to: TextIO, error: structlog.typing.ExcInfo) -> None:
    told = StringIO()
    structlog.dev.plain_traceback(told, error)
    to.write(printable(told.getvalue(), keep="\n"))


def _without_what_was_raised(
    logger: object, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Leave out a handler's exception: the line has its type and its places as fields."""
    match event.get("exc_info"):
        case (_, HandlerRaised(), _):
            del event["exc_info"]
    return event


def _without_stack_trace(
    logger: object, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Replace the stack trace of an exception of ours by its kind and its text."""
    if not _is_ours(str(event.get("logger"))):
        return event
    match event.pop("exc_info", None):
        case (_, BaseException() as error, _):
            event["problem"] = f"{type(error).__name__}: {error}"
    return event
