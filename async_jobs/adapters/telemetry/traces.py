"""Traces by the API of OpenTelemetry. Needs the extra `otel`.

What becomes of them is the application's: its SDK decides which spans are recorded and where they
go. Without one, contexts that callers bring are passed on, and nothing else happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from contextvars import Token
from datetime import timedelta
from functools import lru_cache
from typing import Final, Literal, Self, TypeAlias
from uuid import UUID

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TracerProvider,
    TraceState,
    format_span_id,
    format_trace_id,
    get_current_span,
    get_tracer,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from async_jobs.adapters.telemetry.raised import kind_raised, raised
from async_jobs.domain import lifecycle
from async_jobs.domain.deadline import lateness
from async_jobs.domain.job import EnqueueJobRequest, Job
from async_jobs.domain.trace_context import BATCH, TraceContext, headers_of, trace_context_of
from async_jobs.host import SystemClock
from async_jobs.ports.clock import Clock
from async_jobs.ports.tracing import Attempting, Enqueueing, HandingOff
from async_jobs.version import __version__

TraceParent: TypeAlias = Literal["first", "never", "always"]
"""Which attempts are below the span that enqueued their job; all others link to it."""
PARENT_WITHIN: Final = timedelta(seconds=30)
SYSTEM: Final = "async_jobs"
ATTRIBUTE_CHARACTERS_MAX: Final = 200
IDS_MAX: Final = 1
"""A span of a batch does not name its jobs: each of them has its context."""

_OUTCOMES: Final[Mapping[type[lifecycle.JobEvent], str]] = {
    lifecycle.Succeeded: "succeeded",
    lifecycle.Failed: "failed",
    lifecycle.Rejected: "rejected",
    lifecycle.Snoozed: "snoozed",
    lifecycle.Released: "released",
    lifecycle.Cancelled: "cancelled",
}
LEASE_LOST: Final = "lease_lost"


class OpenTelemetryTracing:
    """Implements `Tracing` by a tracer of the name `async_jobs`.

    Args:
        parent: which attempts are below the span that enqueued their job, in its trace: `first`
            ones that start within `parent_within` of the enqueue, `never` any, or `always` all.
            Any other attempt begins a trace of its own, with a link to that span.
        parent_within: see `parent`. Jobs of a batch are never below it with `first`.
        tenants: whether spans name tenants.
        provider: makes the tracer; the application's own by default, also if it is set later.
        clock: this host's.
    """

    def __init__(
        self,
        *,
        parent: TraceParent = "first",
        parent_within: timedelta = PARENT_WITHIN,
        tenants: bool = True,
        provider: TracerProvider | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._tracer = get_tracer(SYSTEM, __version__, provider)
        self._parent, self._within, self._tenants = parent, parent_within, tenants
        self._clock = clock or SystemClock()

    def enqueueing(
        self, requests: Sequence[EnqueueJobRequest]
    ) -> AbstractContextManager[Enqueueing]:
        """See `Tracing`."""
        return _EnqueueingSpan(lambda: self._sending(requests), is_batch=len(requests) > 1)

    def handing_off(
        self, started: Mapping[str, int], *, seconds: float
    ) -> AbstractContextManager[HandingOff]:
        """See `Tracing`."""
        return _HandingOffSpan(lambda: self._turn(started, seconds))

    def attempting(self, job: Job) -> AbstractContextManager[Attempting]:
        """See `Tracing`."""
        return _AttemptingSpan(lambda: self._attempt(job))

    def continuing(self, headers: Mapping[str, str]) -> AbstractContextManager[object]:
        """See `Tracing`."""
        return _CurrentSpan(lambda: _caller(headers), ends=False)

    def carried(self) -> Mapping[str, str]:
        """See `Tracing`."""
        with suppress(Exception):
            context = _context_of(get_current_span())
            return {} if context is None else headers_of(context)
        return {}

    # --- how spans begin ---

    def _sending(self, requests: Sequence[EnqueueJobRequest]) -> Span:
        use_cases = {_bounded(request.use_case) for request in requests}
        use_case = use_cases.pop() if len(use_cases) == 1 else None
        name, attributes = _operation("send", use_case)
        if len(requests) > 1:
            attributes = {**attributes, "messaging.batch.message_count": len(requests)}
        span = self._tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=attributes)
        if span.is_recording():
            told = {"type": {_bounded(request.type) for request in requests}}
            if self._tenants:
                told["tenant_id"] = {_bounded(request.tenant_id) for request in requests}
            for field, values in told.items():
                if len(values) == 1:
                    span.set_attribute(f"async_jobs.{field}", values.pop())
        return span

    def _turn(self, started: Mapping[str, int], seconds: float) -> Span:
        began = self._clock.now() - timedelta(seconds=max(0.0, seconds))
        return self._tracer.start_span(
            "hand off",
            context=Context(),  # a trace of its own, whatever calls the scheduler
            kind=SpanKind.INTERNAL,
            attributes={
                "messaging.system": SYSTEM,
                "messaging.batch.message_count": sum(started.values()),
                "async_jobs.use_cases": sorted(map(_bounded, started)),
            },
            start_time=round(began.timestamp() * 1e9),
        )

    def _attempt(self, job: Job) -> Span:
        enqueued_by = trace_context_of(job.headers)
        context, links = Context(), []
        if enqueued_by is not None:
            there = _span_context(enqueued_by)
            if self._is_below(job, is_batch=enqueued_by.is_batch):
                context = set_span_in_context(NonRecordingSpan(there), context)
            else:
                links = [Link(there)]
        name, attributes = _operation("process", _bounded(job.use_case))
        span = self._tracer.start_span(
            name, context=context, kind=SpanKind.CONSUMER, links=links, attributes=attributes
        )
        if span.is_recording():
            span.set_attributes(self._about(job))
        elif not span.get_span_context().is_valid and enqueued_by is not None:
            return NonRecordingSpan(_span_context(enqueued_by))  # there is no SDK: pass it on
        return span

    def _is_below(self, job: Job, *, is_batch: bool) -> bool:
        if self._parent != "first":
            return self._parent == "always"
        is_first = job.attempts <= 1 and not job.crashes and job.first_started_at is None
        began = job.started_at or job.created_at
        return is_first and not is_batch and began - job.created_at <= self._within

    def _about(self, job: Job) -> dict[str, AttributeValue]:
        told: dict[str, AttributeValue] = {
            "messaging.message.id": str(job.id),
            "messaging.client.id": job.worker_id or "",
            "async_jobs.queue": _bounded(job.queue),
            "async_jobs.type": _bounded(job.type),
            "async_jobs.attempt": job.attempts,
            "async_jobs.max_attempts": job.max_attempts,
            "async_jobs.lease_seq": job.lease_seq,
            "async_jobs.deadline": job.deadline_at.isoformat(),
        }
        if job.started_at is not None:
            late_by = lateness(job.deadline_at, job.started_at)
            told["async_jobs.late_by"] = late_by.total_seconds()
        if self._tenants:
            told["async_jobs.tenant_id"] = _bounded(job.tenant_id)
        return told


# --- spans --------------------------------------------------------------------------------------


class _CurrentSpan:
    """A span that is current for a while. Whatever an SDK does, it is in nobody's way."""

    def __init__(self, start: Callable[[], Span], *, ends: bool = True) -> None:
        self._start = start
        self._ends = ends
        self._token: Token[Context] | None = None
        self._span: Span = INVALID_SPAN

    def __enter__(self) -> Self:
        with suppress(Exception):
            self._span = self._start()
            self._token = attach(set_span_in_context(self._span, self._around()))
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with suppress(Exception):
            if self._token is not None:
                detach(self._token)
            if kind is not None and self._ends:
                self._failed(kind.__name__)
        with suppress(Exception):
            if self._ends:
                self._span.end()

    def _around(self) -> Context | None:
        """Return the context that it is put in: the current one."""
        return None

    def _failed(self, kind: str) -> None:
        if self._span.is_recording():
            self._span.set_attribute("error.type", _bounded(kind))
            self._span.set_status(StatusCode.ERROR)

    def _set(self, name: str, value: AttributeValue) -> None:
        if self._span.is_recording():
            self._span.set_attribute(name, value)


class _EnqueueingSpan(_CurrentSpan):
    """Implements `Enqueueing`."""

    def __init__(self, start: Callable[[], Span], *, is_batch: bool) -> None:
        super().__init__(start)
        self._is_batch = is_batch
        self.headers: Mapping[str, str] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        with suppress(Exception):
            context = _context_of(self._span)
            if context is not None:
                self.headers = headers_of(context._replace(is_batch=self._is_batch))
        return self

    def enqueued(self, job_ids: Sequence[UUID], *, duplicates: int) -> None:
        """See `Enqueueing`."""
        with suppress(Exception):
            if len(job_ids) <= IDS_MAX:
                for job_id in job_ids:
                    self._set("messaging.message.id", str(job_id))
            if duplicates:
                self._set("async_jobs.duplicates", duplicates)


class _HandingOffSpan(_CurrentSpan):
    """Implements `HandingOff`."""

    def _around(self) -> Context:
        return Context()

    def sent(self, *, unsent: int) -> None:
        """See `HandingOff`."""
        with suppress(Exception):
            if unsent:
                self._set("async_jobs.unsent", unsent)
                self._failed("unsent")


class _AttemptingSpan(_CurrentSpan):
    """Implements `Attempting`."""

    trace_id: str | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        with suppress(Exception):
            there = self._span.get_span_context()
            self.trace_id = format_trace_id(there.trace_id) if there.is_valid else None
        return self

    def _around(self) -> Context:
        return Context()  # not below whatever has started the worker

    def ended(self, event: lifecycle.JobEvent | None, *, stopped_by: str | None) -> None:
        """See `Attempting`."""
        with suppress(Exception):
            if not self._span.is_recording():
                return
            outcome = LEASE_LOST if event is None else _OUTCOMES.get(type(event), "other")
            self._set("async_jobs.outcome", outcome)
            if stopped_by is not None:
                self._span.add_event("async_jobs.stopped", {"async_jobs.reason": stopped_by})
            match event:
                case None:
                    self._failed(LEASE_LOST)
                case lifecycle.Failed(error=error, places=places) if places:
                    kind = kind_raised(error)
                    self._failed(kind)
                    self._span.record_exception(raised(kind, places))
                case lifecycle.Failed() | lifecycle.Rejected():
                    self._failed(outcome)  # its text is the handler's own
                case lifecycle.Snoozed(until=until):
                    self._set("async_jobs.snoozed_until", until.isoformat())


# --- contexts -----------------------------------------------------------------------------------


def _caller(headers: Mapping[str, str]) -> Span:
    current = get_current_span()
    if current.get_span_context().is_valid:
        return current
    context = trace_context_of(headers)
    return current if context is None else NonRecordingSpan(_span_context(context))


def _span_context(context: TraceContext) -> SpanContext:
    return SpanContext(
        trace_id=int(context.trace_id, 16),
        span_id=int(context.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(context.flags),
        trace_state=TraceState(context.state),
    )


def _context_of(span: Span) -> TraceContext | None:
    there = span.get_span_context()
    if not there.is_valid:
        return None
    state = tuple(each for each in there.trace_state.items() if each[0] != BATCH[0])
    return TraceContext(
        format_trace_id(there.trace_id), format_span_id(there.span_id), there.trace_flags, state
    )


@lru_cache(1_000)
def _operation(operation: str, use_case: str | None) -> tuple[str, Mapping[str, AttributeValue]]:
    """Return the name of a span and what it always has, as messaging is described."""
    attributes: dict[str, AttributeValue] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }
    if use_case is None:
        return operation, attributes
    return f"{operation} {use_case}", attributes | {"messaging.destination.name": use_case}


def _bounded(name: str) -> str:
    return name[:ATTRIBUTE_CHARACTERS_MAX]
