"""The trace context of a job's headers: written small, and read strictly."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from async_jobs.domain.bounds import HEADERS_MAX
from async_jobs.domain.trace_context import (
    BATCH,
    STATE_CHARACTERS_MAX,
    STATE_MEMBERS_MAX,
    TRACEPARENT,
    TRACESTATE,
    TraceContext,
    carrying,
    headers_of,
    trace_context_of,
    trace_id_of,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"

keys = some.text(string.ascii_lowercase + "*/-_", min_size=1, max_size=12).filter(
    lambda key: key[0].isalpha() and key != BATCH[0]
)
values = some.text(string.ascii_letters + string.digits + ":;", min_size=1, max_size=40)
contexts = some.builds(
    TraceContext,
    trace_id=some.integers(1, 2**128 - 1).map(lambda n: f"{n:032x}"),
    span_id=some.integers(1, 2**64 - 1).map(lambda n: f"{n:016x}"),
    flags=some.integers(0, 255),
    state=some.dictionaries(keys, values, max_size=40).map(lambda state: tuple(state.items())),
    is_batch=some.booleans(),
)


@settings(max_examples=50)
@given(contexts)
def test_what_is_written_is_read_again(context: TraceContext) -> None:
    """All of it, but for the end of a state that is too long; never more than headers may hold."""
    headers = headers_of(context)
    read = trace_context_of(headers)

    assert read is not None
    assert read == context._replace(state=context.state[: len(read.state)])
    assert all(len(value) <= STATE_CHARACTERS_MAX for value in headers.values())
    assert len(read.state) <= STATE_MEMBERS_MAX
    members = (*[BATCH] * context.is_batch, *context.state)
    text = ",".join(f"{key}={value}" for key, value in members)
    if len(text) <= STATE_CHARACTERS_MAX and len(context.state) < STATE_MEMBERS_MAX:
        assert read == context


@settings(max_examples=50)
@given(some.dictionaries(some.sampled_from([TRACEPARENT, TRACESTATE]), some.text()))
def test_whatever_comes_is_read_or_ignored(headers: dict[str, str]) -> None:
    """Nothing that a caller writes is an error."""
    context = trace_context_of(headers)

    assert context is None or trace_context_of(headers_of(context)) == context


@pytest.mark.parametrize(
    "parent",
    [
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        PARENT.upper(),
        f" {PARENT}",
        f"{PARENT}\n",
        f"00-{TRACE}-{SPAN}",
        "00-1-2-3",
        "",
    ],
)
def test_what_is_no_place_in_a_trace_is_ignored(parent: str) -> None:
    """As W3C describes it, to the letter."""
    assert trace_context_of({TRACEPARENT: parent}) is None
    assert trace_id_of({TRACEPARENT: parent}) is None


def test_a_version_to_come_is_read_as_far_as_it_is_known() -> None:
    """It may be longer."""
    context = trace_context_of({TRACEPARENT: f"cc-{TRACE}-{SPAN}-01-what-will-be"})

    assert context == TraceContext(TRACE, SPAN, 1)


@pytest.mark.parametrize(
    ("state", "read"),
    [
        ("a=1,b@c=2", (("a", "1"), ("b@c", "2"))),
        (" a=1 ,,\tb=2", (("a", "1"), ("b", "2"))),
        ("a=1,A=2", ()),
        ("a=1,a=2", ()),
        ("a", ()),
        ("a=\x00", ()),
        ("a=" + "x" * 300, ()),
        (",".join(f"k{n}={'v' * 100}" for n in range(6)), ()),
        (",".join(f"k{n}=v" for n in range(33)), ()),
    ],
)
def test_a_state_that_is_none_is_left_out(state: str, read: tuple[tuple[str, str], ...]) -> None:
    """The place in the trace is good without."""
    context = trace_context_of({TRACEPARENT: PARENT, TRACESTATE: state})

    assert context == TraceContext(TRACE, SPAN, 1, read)


def test_only_a_batch_says_so() -> None:
    """By a member of ours, which is no part of what is passed on."""
    state = f"a=1,{BATCH[0]}={BATCH[1]}"

    context = trace_context_of({TRACEPARENT: PARENT, TRACESTATE: state})

    assert context == TraceContext(TRACE, SPAN, 1, (("a", "1"),), is_batch=True)
    assert trace_context_of({TRACEPARENT: PARENT, TRACESTATE: f"{BATCH[0]}=no"}) is not None


def test_a_job_carries_one_context_at_most() -> None:
    """Its caller's own, or that of the call, or none where there is no room."""
    context = {TRACEPARENT: PARENT, TRACESTATE: "a=1"}
    full = {f"h{n}": "" for n in range(HEADERS_MAX - 1)}

    assert carrying({"a": "b"}, context) == {"a": "b", **context}
    for own in ({TRACEPARENT: "mine"}, {TRACESTATE: "b=2"}, full):
        assert carrying(own, context) is own
    assert len(carrying(full, {TRACEPARENT: PARENT})) == HEADERS_MAX
