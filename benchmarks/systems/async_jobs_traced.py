"""The handler of a worker whose spans are batched, and exported to nowhere."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.systems import async_jobs_handlers

__all__ = ["async_jobs_handlers"]


class Nowhere(SpanExporter):
    """What stands for a collector that keeps up."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take spans."""
        return SpanExportResult.SUCCESS


provider = trace.get_tracer_provider()
if isinstance(provider, TracerProvider):
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
