"""The telemetry adapters keep the port's promises."""

from __future__ import annotations

import io
import json
import logging
import re

import pytest

from async_jobs.adapters.telemetry.logs import LogTelemetry
from async_jobs.domain.facts import Fact, JobDied, job_ids
from async_jobs.entrypoints.logs import LogFormat, LogLevel, formatter
from async_jobs.ports.telemetry import Telemetry
from async_jobs.testing.builders import RecordingTelemetry, a_job
from async_jobs.testing.contracts import TelemetryContract
from async_jobs.testing.contracts.telemetry import Emitted, every_fact


def logger_to(handler: logging.Handler) -> logging.Logger:
    logger = logging.getLogger(f"{__name__}.{type(handler).__name__}")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.handlers = [handler]
    return logger


class ListHandler(logging.Handler):
    """Keeps all that a formatter could print."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {vars(record)!r}")


class BrokenHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("no space left on device")


class TestLogTelemetry(TelemetryContract):
    @pytest.fixture
    def handler(self) -> ListHandler:
        return ListHandler()

    @pytest.fixture
    def telemetry(self, handler: ListHandler) -> Telemetry:
        return LogTelemetry(logger_to(handler))

    @pytest.fixture
    def broken(self) -> Telemetry:
        return LogTelemetry(logger_to(BrokenHandler()))

    @pytest.fixture
    def emitted(self, handler: ListHandler) -> Emitted:
        return lambda: "\n".join(handler.lines)


class TestRecordingTelemetry(TelemetryContract):
    @pytest.fixture
    def telemetry(self) -> Telemetry:
        return RecordingTelemetry()

    @pytest.fixture
    def broken(self) -> Telemetry:
        return RecordingTelemetry()  # it has no other end

    @pytest.fixture
    def emitted(self) -> Emitted:
        return lambda: ""  # nothing leaves through it


@pytest.mark.parametrize("fact", every_fact("text"), ids=lambda fact: type(fact).__name__)
def test_a_log_line_keeps_its_name(fact: Fact) -> None:
    """No field takes the place of what says what happened."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter(LogLevel.DEBUG, LogFormat.JSON))

    LogTelemetry(logger_to(handler)).record(fact)

    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(fact).__name__).lower()
    assert json.loads(written.getvalue())["event"] == name


@pytest.mark.parametrize(
    ("error", "places", "told"),
    [
        ("KeyError: 'hunter2'", ("greet.py:7 in greet",), "KeyError"),
        ("KeyError", ("greet.py:7 in greet",), "KeyError"),
        ("hunter2", (), "see the job"),
        ("no such user: hunter2", ("greet.py:7 in greet",), "see the job"),
        ("invalid payload: payload.to: Value error, hunter2", (), "invalid payload"),
        ("the handler returned an awaitable; declare it async", (), None),
        ("the handler cancelled itself", (), None),
        ("the handler stopped unasked", (), None),
        ("the handler asked for a retry", (), None),
        ("timed out after 60 s", (), None),
        ("deadline_missed", (), None),
        ("lease expired: its worker died 3 times", (), "lease expired"),
        (
            "no worker had a handler for its type within 7 days",
            (),
            "no worker had a handler for its type",
        ),
    ],
)
def test_of_an_error_all_is_told_that_quotes_nobody(
    error: str, places: tuple[str, ...], told: str | None
) -> None:
    """Our own words, and the type of what was raised; of all else that it is with the job."""
    job, handler = a_job(), ListHandler()
    fact = JobDied(error=error, places=places, **job_ids(job, at=job.created_at))

    LogTelemetry(logger_to(handler)).record(fact)

    assert f"'error': {(told or error)!r}" in handler.lines[0]
    assert "hunter2" not in handler.lines[0]
