"""A trace goes through the HTTP API, from a client of either kind to the job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Receive, Scope, Send

from async_jobs import AsyncJobsHttpClient, EnqueueJobRequest, JobsHttpClient
from async_jobs.adapters.telemetry.traces import OpenTelemetryTracing
from async_jobs.domain.trace_context import TRACEPARENT, trace_context_of
from async_jobs.entrypoints.http.app import create_app
from async_jobs.ports.tracing import NO_TRACING, Tracing
from async_jobs.testing import memory_system

REQUEST = EnqueueJobRequest(tenant_id="acme", use_case="default", type="send", payload={})


class Instrumented:
    """What an instrumentation of ASGI does: a span a request, below the caller's, and current."""

    def __init__(self, app: ASGIApp, tracer: trace.Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope.get("headers", ())}
        above = TraceContextTextMapPropagator().extract(headers)
        with self._tracer.start_as_current_span("POST /jobs/enqueue", context=above):
            await self._app(scope, receive, send)


class Api:
    """An API whose spans are kept, and what its callers trace by."""

    def __init__(self, *, instrumented: bool, traces: bool = True) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("caller")
        self.tracing: Tracing = OpenTelemetryTracing(provider=provider)
        own = self.tracing if traces else NO_TRACING
        self.system = memory_system(tracing=own)
        app: ASGIApp = create_app(
            lambda: self.system.service, allow_unauthenticated=True, tracing=own
        )
        self.app = Instrumented(app, self.tracer) if instrumented else app

    def span(self, name: str) -> ReadableSpan:
        (found,) = (each for each in self.exporter.get_finished_spans() if each.name == name)
        return found

    async def job_headers(self) -> list[dict[str, str]]:
        return [dict(job.headers) for job in await self.system.jobs()]


@contextmanager
def no_context() -> Iterator[None]:
    """Be where nothing is current, as another process is."""
    token = context.attach(context.Context())
    try:
        yield
    finally:
        context.detach(token)


class _Elsewhere(httpx.AsyncBaseTransport):
    """Calls an application as if it were in another process: without the caller's context."""

    def __init__(self, app: ASGIApp) -> None:
        self._inner = httpx.ASGITransport(app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with no_context():
            return await self._inner.handle_async_request(request)


async def posted(app: ASGIApp, request: httpx.Request) -> httpx.Response:
    """Return what an application answers to a request, in a process of its own."""
    async with httpx.AsyncClient(transport=_Elsewhere(app)) as there:
        content, headers = request.content, request.headers
        answer = await there.post(request.url, content=content, headers=headers)
    return httpx.Response(answer.status_code, json=answer.json())


@pytest.mark.parametrize("instrumented", [False, True], ids=["alone", "instrumented"])
async def test_a_callers_trace_reaches_the_job(instrumented: bool) -> None:
    """Below the span of an instrumentation where there is one, else below the caller's own."""
    api = Api(instrumented=instrumented)
    transport = _Elsewhere(api.app)

    async with AsyncJobsHttpClient(
        "http://api.test", transport=transport, tracing=api.tracing
    ) as client:
        with api.tracer.start_as_current_span("caller"):
            await client.enqueue(REQUEST)

    above = api.span("POST /jobs/enqueue" if instrumented else "caller")
    sent = api.span("send default")
    assert sent.parent is not None
    assert sent.parent.span_id == above.context.span_id
    (headers,) = await api.job_headers()
    carried = trace_context_of(headers)
    assert carried is not None
    assert int(carried.span_id, 16) == sent.context.span_id
    assert int(carried.trace_id, 16) == api.span("caller").context.trace_id


def test_the_blocking_client_carries_it_too() -> None:
    """From the thread that calls it, at each try."""
    api = Api(instrumented=False)
    carried: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        carried.append(request.headers.get(TRACEPARENT))
        if len(carried) == 1:
            return httpx.Response(503)
        return asyncio.run(posted(api.app, request))

    with JobsHttpClient(
        "http://api.test",
        transport=httpx.MockTransport(answer),
        tracing=api.tracing,
        pause=lambda seconds: None,
    ) as client:
        with api.tracer.start_as_current_span("caller"):
            client.enqueue(REQUEST)
        client.enqueue(REQUEST)

    caller = api.span("caller").context
    here = f"00-{caller.trace_id:032x}-{caller.span_id:016x}-{caller.trace_flags:02x}"
    assert carried == [here, here, None]
    first, second = (
        each for each in api.exporter.get_finished_spans() if each.name == "send default"
    )
    assert first.parent is not None
    assert (first.parent.span_id, second.parent) == (caller.span_id, None)


@pytest.mark.parametrize("header", ["00-1-2-3", "", "x" * 10_000, "00-" + "0" * 32 + "-1-01"])
async def test_a_hostile_context_is_ignored(header: str) -> None:
    """The job is enqueued, in a trace of its own."""
    api = Api(instrumented=False)

    async with httpx.AsyncClient(transport=_Elsewhere(api.app), base_url="http://api.test") as c:
        body: dict[str, Any] = {"tenant_id": "acme", "use_case": "default", "type": "send"}
        answer = await c.post(
            "/jobs/enqueue", json=body | {"payload": {}}, headers={TRACEPARENT: header}
        )

    assert answer.status_code == 201
    assert api.span("send default").parent is None


async def test_an_api_that_traces_nothing_carries_nothing() -> None:
    """Off is off."""
    api = Api(instrumented=False, traces=False)

    async with AsyncJobsHttpClient(
        "http://api.test", transport=_Elsewhere(api.app), tracing=api.tracing
    ) as client:
        with api.tracer.start_as_current_span("caller"):
            await client.enqueue(REQUEST)

    assert await api.job_headers() == [{}]
