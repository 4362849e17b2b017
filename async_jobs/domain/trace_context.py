"""The trace context of W3C in a job's headers: written small, and read strictly.

Whoever enqueues may write these headers, so that they are hostile until they have been read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from async_jobs.domain.bounds import HEADERS_MAX

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
STATE_CHARACTERS_MAX: Final = 512
STATE_MEMBERS_MAX: Final = 32
BATCH: Final = ("async_jobs", "batch")
"""The member of the trace state that says: many jobs have this context."""

_PARENT: Final = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?P<trace_id>(?!0{32})[0-9a-f]{32})"
    r"-(?P<span_id>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-[\x21-\x7e]*)?"
)
_KEY: Final = r"[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
_VALUE: Final = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER: Final = re.compile(rf"({_KEY})=({_VALUE})")


class TraceContext(NamedTuple):
    """Where in which trace something was called.

    Attributes:
        trace_id, span_id: 32 and 16 hexadecimal digits, not all zero.
        flags: bit 0 says that the caller's span is recorded.
        state: what tracing systems pass along, by their keys, without `BATCH`.
        is_batch: the call enqueued many jobs, and each of them has this context.
    """

    trace_id: str
    span_id: str
    flags: int = 0
    state: tuple[tuple[str, str], ...] = ()
    is_batch: bool = False


def trace_context_of(headers: Mapping[str, str]) -> TraceContext | None:
    """Return the trace context that headers carry; None if that is none, or not valid.

    A trace state that is not valid is left out: the place in the trace is good without.
    """
    parent = headers.get(TRACEPARENT)
    found = None if parent is None else _PARENT.fullmatch(parent)
    if found is None or (found["version"] == "00" and found["more"] is not None):
        return None
    state = _state_in(headers.get(TRACESTATE))
    return TraceContext(
        trace_id=found["trace_id"],
        span_id=found["span_id"],
        flags=int(found["flags"], 16),
        state=tuple(each for each in state if each[0] != BATCH[0]),
        is_batch=BATCH in state,
    )


def trace_id_of(headers: Mapping[str, str]) -> str | None:
    """Return the id of the trace that headers carry, None for none."""
    context = trace_context_of(headers) if TRACEPARENT in headers else None
    return None if context is None else context.trace_id


def headers_of(context: TraceContext) -> dict[str, str]:
    """Return the headers that carry a trace context; of a state that is too long, its beginning."""
    told = {TRACEPARENT: f"00-{context.trace_id}-{context.span_id}-{context.flags & 0xFF:02x}"}
    members = [f"{key}={value}" for key, value in (*[BATCH] * context.is_batch, *context.state)]
    state = ""
    for member in members[:STATE_MEMBERS_MAX]:
        longer = f"{state},{member}" if state else member
        if len(longer) > STATE_CHARACTERS_MAX:
            break
        state = longer
    return told | ({TRACESTATE: state} if state else {})


def carrying(headers: Mapping[str, str], context: Mapping[str, str]) -> Mapping[str, str]:
    """Return a job's headers with a trace context, unless they have one, or no room for it."""
    if not context or TRACEPARENT in headers or TRACESTATE in headers:
        return headers
    if len(headers) + len(context) > HEADERS_MAX:
        return headers
    return {**headers, **context}


def _state_in(text: str | None) -> list[tuple[str, str]]:
    if text is None or len(text) > STATE_CHARACTERS_MAX:
        return []
    members = [each.strip(" \t") for each in text.split(",")]
    found = [_MEMBER.fullmatch(each) for each in members if each]
    pairs = [(each[1], each[2]) for each in found if each is not None]
    is_valid = len(pairs) == len(found) <= STATE_MEMBERS_MAX
    return pairs if is_valid and len(dict(pairs)) == len(pairs) else []
