"""The telemetry adapters keep the port's promises."""

from __future__ import annotations

import io
import json
import logging
import re

import pytest

from async_jobs.adapters.telemetry.logs import LogTelemetry
from async_jobs.domain.facts import Fact
from async_jobs.entrypoints.logs import LogFormat, LogLevel, formatter
from async_jobs.ports.telemetry import Telemetry
from async_jobs.testing.builders import RecordingTelemetry
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
