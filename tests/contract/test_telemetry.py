"""The telemetry adapters keep the port's promises."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
import traceback
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from async_jobs.adapters.telemetry.labels import TopTenants
from async_jobs.adapters.telemetry.logs import LogTelemetry
from async_jobs.adapters.telemetry.measuring import Instrument
from async_jobs.adapters.telemetry.metrics import Add, Exporter, MetricsTelemetry
from async_jobs.adapters.telemetry.otel import OpenTelemetryExporter
from async_jobs.adapters.telemetry.prometheus import PrometheusExporter
from async_jobs.adapters.telemetry.raised import raised
from async_jobs.adapters.telemetry.several import SeveralTelemetries
from async_jobs.adapters.telemetry.tallying import TallyTelemetry
from async_jobs.application.handling.outcomes import event_of
from async_jobs.application.handling.registry import JobContext, running_job
from async_jobs.domain.facts import Fact, HandlerMissing, JobDied, JobFailed, LoopBlocked
from async_jobs.domain.lifecycle import Failed
from async_jobs.domain.readings import Reading, SchedulerTicked
from async_jobs.domain.reporting import job_ids
from async_jobs.entrypoints.programs.logs import formatter
from async_jobs.entrypoints.programs.options import LogFormat, LogLevel
from async_jobs.ports.telemetry import Telemetry
from async_jobs.testing.builders import RecordingTelemetry, a_job
from async_jobs.testing.contracts import TelemetryContract
from async_jobs.testing.contracts.telemetry import SECRET, Emitted, every_fact


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


class BrokenExporter:
    """Fails once it has been set up."""

    broken = False

    def adder(self, instrument: Instrument, labels: tuple[str, ...]) -> Add:
        def add(value: float) -> None:
            if self.broken:
                raise OSError("the collector is lost")

        return add

    def replace(self, instrument: Instrument, values: object) -> None:
        raise OSError("the collector is lost")

    def forget(self, tenant: str) -> bool:
        raise OSError("the collector is lost")


def metrics_to(exporter: Exporter) -> MetricsTelemetry:
    """Return metrics by tenant, so that nothing of them can break it either."""
    return MetricsTelemetry(exporter, lambda forget: TopTenants(10, forget))


def metrics_to_nowhere() -> MetricsTelemetry:
    exporter = BrokenExporter()
    telemetry = metrics_to(exporter)
    exporter.broken = True
    return telemetry


class TestPrometheusMetrics(TelemetryContract):
    @pytest.fixture
    def exporter(self) -> PrometheusExporter:
        return PrometheusExporter(tenants=True)

    @pytest.fixture
    def telemetry(self, exporter: PrometheusExporter) -> MetricsTelemetry:
        return metrics_to(exporter)

    @pytest.fixture
    def broken(self) -> MetricsTelemetry:
        return metrics_to_nowhere()

    @pytest.fixture
    def emitted(self, exporter: PrometheusExporter) -> Emitted:
        return lambda: exporter.page().decode()


class TestTallies(TelemetryContract):
    @pytest.fixture
    def telemetry(self) -> TallyTelemetry:
        return TallyTelemetry("one", TopTenants(10, lambda tenant: True))

    @pytest.fixture
    def broken(self) -> TallyTelemetry:
        return TallyTelemetry("one", BrokenTenants())

    @pytest.fixture
    def emitted(self, telemetry: TallyTelemetry) -> Emitted:
        told: list[str] = []

        def take() -> str:
            batch = telemetry.take()
            told.append("" if batch is None else repr(batch))
            return "".join(told)

        return take


class BrokenTenants:
    def of(self, tenant: str, at: datetime) -> str:
        raise OSError("the ranking is lost")


class TestOpenTelemetryMetrics(TelemetryContract):
    @pytest.fixture
    def reader(self) -> InMemoryMetricReader:
        return InMemoryMetricReader()

    @pytest.fixture
    def telemetry(self, reader: InMemoryMetricReader) -> MetricsTelemetry:
        provider = MeterProvider([reader], shutdown_on_exit=False)
        return metrics_to(OpenTelemetryExporter(tenants=True, provider=provider))

    @pytest.fixture
    def broken(self) -> MetricsTelemetry:
        return metrics_to_nowhere()

    @pytest.fixture
    def emitted(self, reader: InMemoryMetricReader) -> Emitted:
        def look() -> str:
            # Points, but for the instants of looking.
            data = reader.get_metrics_data()
            metrics = data.resource_metrics[0].scope_metrics[0].metrics if data else ()
            told = ((each.name, json.loads(each.data.to_json())) for each in metrics)
            return re.sub(r'"(start_)?time_unix_nano": \d+', "", json.dumps(list(told)))

        return look


class TestSeveralTelemetries(TelemetryContract):
    """Logs beside something that raises whatever it is told."""

    @pytest.fixture
    def handler(self) -> ListHandler:
        return ListHandler()

    @pytest.fixture
    def telemetry(self, handler: ListHandler) -> SeveralTelemetries:
        return SeveralTelemetries([Raising(), LogTelemetry(logger_to(handler))])

    @pytest.fixture
    def broken(self) -> SeveralTelemetries:
        return SeveralTelemetries([Raising(), LogTelemetry(logger_to(BrokenHandler()))])

    @pytest.fixture
    def emitted(self, handler: ListHandler) -> Emitted:
        return lambda: "\n".join(handler.lines)


class Raising:
    """What no telemetry may be."""

    def wants(self, kind: type[Fact]) -> bool:
        return False

    def record(self, fact: Fact) -> None:
        raise OSError("the collector is lost")


def test_what_one_of_several_wants_is_wanted() -> None:
    """And each of them is told of it."""
    one, other = RecordingTelemetry(), RecordingTelemetry(readings=True)
    several = SeveralTelemetries([one, other])
    fact = SchedulerTicked(at=a_job().created_at, took=timedelta(0), leased=0)

    several.record(fact)

    assert several.wants(SchedulerTicked)
    assert not SeveralTelemetries([one]).wants(SchedulerTicked)
    assert other.facts == [fact]


NEWS = [fact for fact in every_fact("text") if not isinstance(fact, Reading)]


@pytest.mark.parametrize("fact", NEWS, ids=lambda fact: type(fact).__name__)
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


@pytest.mark.parametrize("kind", [HandlerMissing, LoopBlocked])
def test_what_every_job_of_a_type_may_say_is_told_once_an_hour(kind: type[Any]) -> None:
    """Of each type, for there may be a hundred thousand jobs of it."""
    job, handler = a_job(), ListHandler()
    telemetry = LogTelemetry(logger_to(handler))
    more = {"blocked_for": timedelta(seconds=3)} if kind is LoopBlocked else {}
    minutes = [0, 1, 59, 60, 61]

    for minute in minutes:
        for type in ("greet", "welcome"):
            at = job.created_at + timedelta(minutes=minute)
            telemetry.record(kind(**job_ids(replace(job, type=type), at=at), **more))

    assert ["'greet'" in line for line in handler.lines] == [True, False] * 2


def test_a_loop_that_nobody_known_blocks_is_told_once_an_hour_for_each_place() -> None:
    """A task that a handler has made need not be known for its."""
    at, handler = a_job().created_at, ListHandler()
    telemetry = LogTelemetry(logger_to(handler))

    for place in ("a.py:1 in a", "b.py:2 in b", "a.py:1 in a"):
        telemetry.record(LoopBlocked(at=at, blocked_for=timedelta(seconds=3), places=(place,)))

    assert len(handler.lines) == 2


def fails_inside(secret: str) -> None:
    raise KeyError(secret)


def fails(secret: str) -> None:
    try:
        fails_inside(secret)
    except KeyError as error:
        raise ValueError(secret) from error


def failure() -> JobDied:
    """Return what is told of a handler that raised, and quoted what it was given."""
    job = a_job()
    with pytest.raises(ValueError, match=SECRET) as raising:
        fails(SECRET)
    event = event_of(raising.value, now=job.created_at, draw=0.5)
    assert isinstance(event, Failed)
    ids = job_ids(job, at=job.created_at)
    return JobDied(error=event.error, places=event.places, **ids)


class Collecting(logging.Handler):
    """Looks for exceptions in records, as those do who collect them, variables included."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[traceback.TracebackException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            told = traceback.TracebackException.from_exception(
                record.exc_info[1], capture_locals=True
            )
            self.found.append(told)


def test_a_timeout_is_an_exception_where_it_found_the_handler() -> None:
    """By the name that Python has for it."""
    handler = Collecting()
    fact = replace(failure(), error="timed out after 5 s", places=("/app/mail.py:7 in send",))

    LogTelemetry(logger_to(handler)).record(fact)

    (told,) = handler.found
    assert "".join(told.format_exception_only()).startswith("TimeoutError")
    assert [(frame.filename, frame.lineno) for frame in told.stack] == [("/app/mail.py", 7)]


def test_a_failure_is_an_exception_for_those_who_collect_them() -> None:
    """By its type, its places and its cause; neither its text nor any variable is there."""
    handler = Collecting()

    LogTelemetry(logger_to(handler)).record(failure())

    (told,) = handler.found
    assert told.__cause__ is not None
    assert [
        (
            [*each.format_exception_only()][-1].partition(":")[0],
            [frame.name for frame in each.stack],
        )
        for each in (told, told.__cause__)
    ] == [("ValueError", ["failure", "fails"]), ("KeyError", ["fails", "fails_inside"])]
    assert {frame.filename for frame in told.stack} == {__file__}
    assert "raise ValueError(secret) from error" in str(told.stack[-1].line)
    assert not any(frame.locals for each in (told, told.__cause__) for frame in each.stack)
    assert SECRET not in "".join(told.format())


@pytest.mark.parametrize("level", [LogLevel.DEBUG, LogLevel.INFO])
@pytest.mark.parametrize("log_format", LogFormat)
def test_our_own_formats_tell_of_a_failure_in_one_line(
    level: LogLevel, log_format: LogFormat
) -> None:
    """The places are in it, and no stack trace besides."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter(level, log_format))

    LogTelemetry(logger_to(handler)).record(failure())

    (line,) = written.getvalue().splitlines()
    assert line.count("fails_inside") == 1
    assert "exc_info" not in line
    assert "Traceback" not in line
    assert "problem" not in line


@pytest.mark.parametrize("log_format", LogFormat)
def test_a_line_of_a_handler_names_its_job_as_others_write_it(log_format: LogFormat) -> None:
    """So that one search finds all lines of a job."""
    job, written = a_job(), io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(formatter(LogLevel.INFO, log_format))

    was = running_job.set(JobContext.of(job, threading.Event()))
    logger_to(handler).info("sent")
    running_job.reset(was)

    assert re.search(rf'job_id(=|": "){job.id}\b', written.getvalue())


@pytest.mark.parametrize("fact", NEWS, ids=lambda fact: type(fact).__name__)
def test_what_nobody_raised_is_no_exception(fact: Fact) -> None:
    """Nor is what has places that cannot be understood without any."""
    handler = Collecting()

    LogTelemetry(logger_to(handler)).record(fact)

    fails = isinstance(fact, JobFailed | JobDied)
    assert [each.stack for each in handler.found] == ([[]] if fails else [])


def test_members_of_a_group_are_no_causes() -> None:
    """They are among the places of the line; where a group was raised is the exception's."""
    error = raised("ExceptionGroup", ("a.py:3 in run", "KeyError in the group, b.py:7 in one"))

    assert [(f.filename, f.lineno, f.name) for f in traceback.extract_tb(error.__traceback__)] == [
        ("a.py", 3, "run")
    ]
    assert error.__cause__ is None
