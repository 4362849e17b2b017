"""Traces by OpenTelemetry: which spans there are, and how they belong together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from async_jobs import (
    BackoffPolicy,
    Enqueued,
    EnqueueJobRequest,
    JobContext,
    JobRegistry,
    QuotaExceededError,
    Reject,
    Snooze,
    TenantQuota,
)
from async_jobs.adapters.telemetry.traces import OpenTelemetryTracing, TraceParent
from async_jobs.domain import lifecycle
from async_jobs.domain.trace_context import TRACEPARENT, trace_context_of
from async_jobs.testing import MemorySystem, memory_system
from async_jobs.testing.contracts.tracing import PARENT, a_claimed

SECRET = "hunter2"
AT_ONCE = BackoffPolicy(base_delay_seconds=1, jitter=0)


class Traced:
    """A whole system in memory whose spans are kept."""

    def __init__(
        self, *, parent: TraceParent = "first", tenants: bool = True, **given: Any
    ) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False, **given)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("application")
        self.tracing = OpenTelemetryTracing(parent=parent, tenants=tenants, provider=self.provider)
        self.registry = JobRegistry()
        self.system: MemorySystem = memory_system(
            use_cases=["mail", "reports"],
            per_tenant_quotas={"limited": TenantQuota(max_pending_jobs=0)},
            registry=self.registry,
            tracing=self.tracing,
        )

    async def enqueue(self, **fields: Any) -> Enqueued:
        given = {"tenant_id": "acme", "use_case": "mail", "type": "send", "payload": {}}
        request = EnqueueJobRequest(**(given | {"backoff_policy": AT_ONCE} | fields))
        return await self.system.service.enqueue(request)

    async def run(self) -> None:
        await self.system.run_until_idle()

    def named(self, *names: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name in names]


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """Return the attributes of a span that name no messaging."""
    told = span.attributes or {}
    return {name: value for name, value in told.items() if not name.startswith("messaging.")}


def is_below(span: ReadableSpan, above: ReadableSpan) -> bool:
    return span.parent is not None and span.parent.span_id == above.context.span_id


def links_to(span: ReadableSpan, other: ReadableSpan) -> bool:
    return [link.context.span_id for link in span.links] == [other.context.span_id]


async def test_one_trace_from_the_caller_to_the_handler() -> None:
    """What the application does, the enqueue, the attempt, and what the handler does."""
    traced = Traced()
    seen: list[tuple[str, str | None]] = []

    @traced.registry.handler("send")
    async def send(ctx: JobContext, payload: dict[str, Any]) -> None:
        with traced.tracer.start_as_current_span("inside"):
            current = trace.get_current_span().get_span_context()
            seen.append((trace.format_trace_id(current.trace_id), ctx.trace_id))

    with traced.tracer.start_as_current_span("request"):
        enqueued = await traced.enqueue()
    await traced.run()

    (request,), (sent,) = traced.named("request"), traced.named("send mail")
    (processed,), (inside,) = traced.named("process mail"), traced.named("inside")
    assert is_below(sent, request)
    assert is_below(processed, sent)
    assert is_below(inside, processed)
    assert (sent.kind, processed.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    trace_id = trace.format_trace_id(request.context.trace_id)
    assert seen == [(trace_id, trace_id)]
    for span, operation in ((sent, "send"), (processed, "process")):
        assert span.attributes is not None
        assert span.attributes["messaging.system"] == "async_jobs"
        assert span.attributes["messaging.operation.name"] == operation
        assert span.attributes["messaging.operation.type"] == operation
        assert span.attributes["messaging.destination.name"] == "mail"
        assert span.attributes["messaging.message.id"] == str(enqueued.job_id)
        assert span.attributes["async_jobs.tenant_id"] == "acme"
    told = attributes_of(processed)
    assert (told["async_jobs.attempt"], told["async_jobs.lease_seq"]) == (1, 1)
    assert (told["async_jobs.late_by"], told["async_jobs.outcome"]) == (-60.0, "succeeded")
    assert processed.status.status_code is StatusCode.UNSET


async def test_a_handler_in_a_thread_is_in_its_span() -> None:
    """As it is in its context variables."""
    traced = Traced()
    seen: list[int] = []

    @traced.registry.handler("send")
    def send(ctx: JobContext, payload: dict[str, Any]) -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    await traced.enqueue()
    await traced.run()

    (processed,) = traced.named("process mail")
    assert seen == [processed.context.span_id]


@pytest.mark.parametrize(
    ("parent", "below"),
    [("first", [True, False]), ("never", [False, False]), ("always", [True, True])],
)
async def test_an_attempt_is_below_the_enqueue_or_links_to_it(
    parent: TraceParent, below: Sequence[bool]
) -> None:
    """As set: by default a first attempt is part of the trace that a user waits for."""
    traced = Traced(parent=parent)

    @traced.registry.handler("send")
    async def send(ctx: JobContext, payload: dict[str, Any]) -> None:
        if ctx.attempt == 1:
            raise ValueError(SECRET)

    await traced.enqueue()
    await traced.run()
    traced.system.clock.advance(2)
    await traced.run()

    (sent,), attempts = traced.named("send mail"), traced.named("process mail")
    assert [is_below(each, sent) for each in attempts] == below
    assert [links_to(each, sent) for each in attempts] == [not each for each in below]
    traces = {each.context.trace_id for each in (sent, *attempts)}
    assert len(traces) == 1 + below.count(False)


async def test_what_starts_long_after_its_enqueue_links_to_it() -> None:
    """A span below one that ended long ago makes a picture nobody can read."""
    traced = Traced()
    traced.registry.register("send", _nothing)

    await traced.enqueue(run_at=traced.system.clock.now() + timedelta(seconds=31))
    traced.system.clock.advance(31)
    await traced.run()

    (sent,), (processed,) = traced.named("send mail"), traced.named("process mail")
    assert links_to(processed, sent)
    assert processed.parent is None


async def _nothing(ctx: JobContext, payload: dict[str, Any]) -> None:
    pass


async def test_a_batch_is_one_span_and_no_trace_of_a_thousand() -> None:
    """Its jobs share a context; each attempt begins a trace of its own, with a link."""
    traced = Traced()
    traced.registry.register("send", _nothing)
    request = EnqueueJobRequest(tenant_id="acme", use_case="mail", type="send", payload={})

    await traced.system.service.enqueue_many([request] * 50)
    await traced.run()

    (sent,), attempts = traced.named("send mail"), traced.named("process mail")
    assert sent.attributes is not None
    assert sent.attributes["messaging.batch.message_count"] == 50
    assert "messaging.message.id" not in sent.attributes
    assert len(attempts) == 50
    assert all(links_to(each, sent) and each.parent is None for each in attempts)
    assert len({job.headers[TRACEPARENT] for job in await traced.system.jobs()}) == 1


async def test_a_batch_of_several_kinds_says_what_they_share() -> None:
    """And no more: a span of a thousand names is of no use."""
    traced = Traced()
    requests = [
        EnqueueJobRequest(tenant_id="acme", use_case=use_case, type="send", payload={})
        for use_case in ("mail", "reports")
    ]

    await traced.system.service.enqueue_many(requests)

    (sent,) = traced.named("send")
    assert attributes_of(sent) == {"async_jobs.type": "send", "async_jobs.tenant_id": "acme"}


async def test_a_duplicate_and_a_refusal_are_told() -> None:
    """A call that was refused failed; one that found its job there did not."""
    traced = Traced()

    await traced.enqueue(dedupe_key="once")
    await traced.enqueue(dedupe_key="once")
    with pytest.raises(QuotaExceededError):
        await traced.enqueue(tenant_id="limited")

    first, again, refused = traced.named("send mail")
    assert "async_jobs.duplicates" not in attributes_of(first)
    assert attributes_of(again)["async_jobs.duplicates"] == 1
    assert refused.status.status_code is StatusCode.ERROR
    assert attributes_of(refused)["error.type"] == "QuotaExceededError"


async def test_a_callers_own_context_wins() -> None:
    """Whoever writes the header knows better; what is no context is left as it is."""
    traced = Traced()
    traced.registry.register("send", _nothing)

    for header in (PARENT, "00-1-2-3"):
        await traced.enqueue(headers={TRACEPARENT: header})
    await traced.run()

    kept, ignored = traced.named("process mail")
    context = trace_context_of({TRACEPARENT: PARENT})
    assert context is not None
    assert trace.format_trace_id(kept.context.trace_id) == context.trace_id
    assert (ignored.parent, ignored.links) == (None, ())
    assert [job.headers[TRACEPARENT] for job in await traced.system.jobs()] == [PARENT, "00-1-2-3"]


@pytest.mark.parametrize(
    ("raised", "told", "status"),
    [
        (ValueError(SECRET), ("failed", "ValueError"), StatusCode.ERROR),
        (Reject(SECRET), ("rejected", "rejected"), StatusCode.ERROR),
        (Snooze(5), ("snoozed", None), StatusCode.UNSET),
    ],
    ids=["failed", "rejected", "snoozed"],
)
async def test_how_an_attempt_ends_is_told(
    raised: Exception, told: tuple[str, str | None], status: StatusCode
) -> None:
    """By its outcome and the kind of its error, with its places and without its words."""
    traced = Traced()

    @traced.registry.handler("send")
    async def send(ctx: JobContext, payload: dict[str, Any]) -> None:
        raise raised

    await traced.enqueue(max_attempts=1)
    await traced.run()

    (processed,) = traced.named("process mail")
    attributes = attributes_of(processed)
    assert (attributes["async_jobs.outcome"], attributes.get("error.type")) == told
    assert processed.status.status_code is status
    assert SECRET not in processed.to_json()
    if told[0] == "failed":
        (event,) = processed.events
        assert event.attributes is not None
        assert event.attributes["exception.type"] == "ValueError"
        assert __file__ in str(event.attributes["exception.stacktrace"])


@pytest.mark.parametrize(
    ("event", "stopped_by", "told"),
    [
        (None, "lease lost", ("lease_lost", StatusCode.ERROR)),
        (lifecycle.Released(), "shutdown", ("released", StatusCode.UNSET)),
        (lifecycle.Cancelled(), "cancelled", ("cancelled", StatusCode.UNSET)),
        (lifecycle.Failed("timed out after 5 s"), "timed out", ("failed", StatusCode.ERROR)),
    ],
    ids=["lease lost", "shutdown", "cancelled", "timed out"],
)
def test_an_attempt_that_was_stopped_says_why(
    event: lifecycle.JobEvent | None, stopped_by: str, told: tuple[str, StatusCode]
) -> None:
    """As an event, for a handler may go on for a while."""
    traced = Traced()

    with traced.tracing.attempting(a_claimed()) as span:
        span.ended(event, stopped_by=stopped_by)

    (processed,) = traced.named("process notifications")
    (stopped,) = processed.events
    assert (stopped.name, stopped.attributes) == (
        "async_jobs.stopped",
        {"async_jobs.reason": stopped_by},
    )
    outcome = attributes_of(processed)["async_jobs.outcome"]
    assert (outcome, processed.status.status_code) == told


async def test_a_turn_that_hands_off_is_a_trace_of_its_own() -> None:
    """One span however many jobs, and none for a turn that finds nothing."""
    traced = Traced()
    traced.registry.register("send", _nothing)
    for use_case in ("mail", "reports", "mail"):
        await traced.enqueue(use_case=use_case)

    with traced.tracer.start_as_current_span("whatever calls the scheduler"):
        await traced.system.scheduler.tick()
        await traced.system.scheduler.tick()

    (turn,) = traced.named("hand off")
    assert turn.attributes is not None
    assert (turn.parent, turn.links) == (None, ())
    assert turn.attributes["messaging.batch.message_count"] == 3
    assert turn.attributes["async_jobs.use_cases"] == ("mail", "reports")
    assert turn.start_time is not None
    assert turn.end_time is not None
    assert turn.start_time <= turn.end_time


async def test_concurrent_attempts_have_a_span_each() -> None:
    """Whatever is current in one is not in the other."""
    traced = Traced()
    both = asyncio.Barrier(2)
    seen: dict[str, int] = {}

    @traced.registry.handler("send")
    async def send(ctx: JobContext, payload: dict[str, Any]) -> None:
        await both.wait()
        seen[str(ctx.job_id)] = trace.get_current_span().get_span_context().span_id

    for _ in range(2):
        await traced.enqueue()
    await traced.run()

    told = {
        (each.attributes or {})["messaging.message.id"]: each.context.span_id
        for each in traced.named("process mail")
    }
    assert seen == told
    assert not trace.get_current_span().get_span_context().is_valid


async def test_tenants_are_named_unless_that_is_off() -> None:
    """Whoever may see traces may not be who may see tenants."""
    traced = Traced(tenants=False)
    traced.registry.register("send", _nothing)

    await traced.enqueue(tenant_id="a-tenant")
    await traced.run()

    told = "".join(span.to_json() for span in traced.exporter.get_finished_spans())
    assert "send mail" in told
    assert "a-tenant" not in told


async def test_what_is_not_sampled_is_carried_as_such() -> None:
    """So that a sampler that follows its parent leaves the attempt out as well."""
    traced = Traced(sampler=ALWAYS_OFF)
    traced.registry.register("send", _nothing)

    await traced.enqueue()
    await traced.run()

    (job,) = await traced.system.jobs()
    context = trace_context_of(job.headers)
    assert context is not None
    assert context.flags & 1 == 0
    assert not traced.exporter.get_finished_spans()
