"""The tracing adapters keep the port's promises."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from async_jobs.adapters.telemetry.traces import OpenTelemetryTracing
from async_jobs.ports.tracing import NO_TRACING, Tracing
from async_jobs.testing.contracts import TracingContract
from async_jobs.testing.contracts.tracing import Emitted


class BrokenProcessor(SpanProcessor):
    """What an SDK asks at each span, and which fails."""

    def on_start(self, *given: object, **more: object) -> None:
        raise OSError("the collector is lost")

    def on_end(self, span: ReadableSpan) -> None:
        raise OSError("the collector is lost")


class BrokenProvider(TracerProvider):
    """An SDK that cannot even make a span."""

    def get_tracer(self, *given: Any, **more: Any) -> Any:
        return object()


def provider_with(processor: SpanProcessor) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


class TestNoTracing(TracingContract):
    @pytest.fixture
    def tracing(self) -> Tracing:
        return NO_TRACING

    @pytest.fixture
    def broken(self) -> Tracing:
        return NO_TRACING  # it has no other end

    @pytest.fixture
    def emitted(self) -> Emitted:
        return lambda: ""  # nothing leaves through it


class TestOpenTelemetryTracing(TracingContract):
    @pytest.fixture
    def spans(self) -> InMemorySpanExporter:
        return InMemorySpanExporter()

    @pytest.fixture
    def tracing(self, spans: InMemorySpanExporter) -> Tracing:
        return OpenTelemetryTracing(provider=provider_with(SimpleSpanProcessor(spans)))

    @pytest.fixture
    def broken(self) -> Tracing:
        return OpenTelemetryTracing(provider=provider_with(BrokenProcessor()))

    @pytest.fixture
    def emitted(self, spans: InMemorySpanExporter) -> Emitted:
        return lambda: "".join(span.to_json() for span in spans.get_finished_spans())


class TestWithoutAnSdk(TestOpenTelemetryTracing):
    @pytest.fixture
    def tracing(self, spans: InMemorySpanExporter) -> Tracing:
        return OpenTelemetryTracing()

    @pytest.fixture
    def broken(self) -> Tracing:
        return OpenTelemetryTracing(provider=BrokenProvider(shutdown_on_exit=False))
