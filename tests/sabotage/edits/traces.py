"""Bugs in traces: what they carry, and what they keep to themselves."""

from __future__ import annotations

from async_jobs.adapters.telemetry import traces
from async_jobs.domain import trace_context
from tests.sabotage.edits.patches import Edit, bug

BUGS = (
    bug(
        "tracing_in_the_way",
        "What fails while a span begins fails the call that it surrounds.",
        Edit(traces._CurrentSpan.__enter__, "suppress(Exception)", "suppress(KeyError)"),
        breaks="TR-1",
    ),
    bug(
        "words_of_handlers_in_spans",
        "A span tells what a handler gave as a reason.",
        Edit(
            traces._AttemptingSpan.ended,
            "case lifecycle.Failed() | lifecycle.Rejected():\n"
            "                    self._failed(outcome)",
            "case lifecycle.Failed(error=error) | lifecycle.Rejected(error=error):\n"
            "                    self._failed(error)",
        ),
        breaks="TR-2",
    ),
    bug(
        "own_context_overwritten",
        "The context of a call takes the place of the one that its caller gave the job.",
        Edit(trace_context.carrying, "TRACEPARENT in headers or TRACESTATE in headers", "False"),
        breaks="TR-3",
    ),
    bug(
        "long_trace_state_read",
        "A trace state of any length is passed on.",
        Edit(trace_context._state_in, "or len(text) > STATE_CHARACTERS_MAX", ""),
        breaks="TR-3",
    ),
    bug(
        "batch_in_one_trace",
        "All jobs of a batch are below its span, in a trace of thousands.",
        Edit(
            trace_context.headers_of,
            "(*[BATCH] * context.is_batch, *context.state)",
            "context.state",
        ),
        breaks="TR-3",
    ),
)
