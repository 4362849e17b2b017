"""The contract of `Tracing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import timedelta
from typing import Any, TypeAlias, cast

import pytest

from async_jobs.domain import lifecycle
from async_jobs.domain.job import EnqueueJobRequest, Job
from async_jobs.domain.trace_context import TRACEPARENT, TRACESTATE, carrying, trace_context_of
from async_jobs.ports.tracing import Tracing
from async_jobs.testing.builders import a_job, an_id, later
from async_jobs.testing.clocks import NOW

Emitted: TypeAlias = Callable[[], str]
"""Returns everything that has left through the tracing so far, as text."""

SECRET = "hunter2"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HOSTILE: Mapping[str, Mapping[str, str]] = {
    "no ids": {TRACEPARENT: "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
    "no version": {TRACEPARENT: "ff" + PARENT[2:]},
    "long": {TRACEPARENT: PARENT + "-" + "x" * 100_000},
    "upper case": {TRACEPARENT: PARENT.upper()},
    "line breaks": {TRACEPARENT: f"{PARENT}\r\nX-Evil: 1"},
    "half of a character": {TRACEPARENT: "\ud800"},
    "state alone": {TRACESTATE: "a=b"},
    "state that is none": {TRACEPARENT: PARENT, TRACESTATE: "=,;\x00"},
    "state that is long": {TRACEPARENT: PARENT, TRACESTATE: "a=" + "x" * 100_000},
}
EVENTS: tuple[lifecycle.JobEvent | None, ...] = (
    lifecycle.Succeeded({"password": SECRET}),
    lifecycle.Failed(f"ValueError: {SECRET}", places=("app.py:1 in handler",)),
    lifecycle.Failed(f"{SECRET}: {SECRET}", retry_after=timedelta(seconds=1)),
    lifecycle.Rejected(f"{SECRET}: {SECRET}"),
    lifecycle.Snoozed(later(60), why=SECRET),
    lifecycle.Released(),
    lifecycle.Cancelled(),
    None,
)


def a_request(**fields: Any) -> EnqueueJobRequest:
    """Return a request that holds a secret."""
    given: dict[str, Any] = {
        "tenant_id": "acme",
        "use_case": "notifications",
        "type": "send_email",
        "payload": {"password": SECRET},
        "headers": {"authorization": SECRET},
        "dedupe_key": SECRET,
    }
    return EnqueueJobRequest(**(given | fields))


def a_claimed(**fields: Any) -> Job:
    """Return a job that a worker has just claimed, and that holds a secret."""
    given = {
        "payload": {"password": SECRET},
        "headers": {"authorization": SECRET},
        "started_at": NOW,
        "worker_id": "worker-1",
        "attempts": 1,
    }
    return a_job(**(given | fields))


class TracingContract:
    """Everything `Tracing` promises, TR-1 to TR-3.

    Subclass it as `TestMyTracing` and override the fixtures `tracing`, `broken` and `emitted`.
    """

    @pytest.fixture
    def tracing(self) -> Tracing:
        """The tracing under test."""
        raise NotImplementedError("override the fixture `tracing`")

    @pytest.fixture
    def broken(self) -> Tracing:
        """One whose other end fails whenever it is used."""
        raise NotImplementedError("override the fixture `broken`")

    @pytest.fixture
    def emitted(self, tracing: Tracing) -> Emitted:
        """Returns everything that has left through `tracing` so far, as text."""
        raise NotImplementedError("override the fixture `emitted`")

    def test_tr_1_what_it_surrounds_goes_on(self, tracing: Tracing, broken: Tracing) -> None:
        """With whatever requests, jobs and headers, and when its other end is lost."""
        for each in (tracing, broken):
            everything_with(each)

    def test_tr_1_an_error_passes_as_it_is(self, tracing: Tracing, broken: Tracing) -> None:
        """The very exception that was raised, without another one around it."""
        error = ValueError("what went wrong")
        for each in (tracing, broken):
            for surrounding in (
                each.enqueueing([a_request()]),
                each.handing_off({"notifications": 1}, seconds=1.0),
                each.attempting(a_claimed()),
                each.continuing({TRACEPARENT: PARENT}),
            ):
                with pytest.raises(ValueError, match="what went wrong") as caught, surrounding:
                    raise error
                assert caught.value is error
                assert error.__context__ is None

    def test_tr_2_no_payload_no_result_and_no_secret_leaves(
        self, tracing: Tracing, emitted: Emitted
    ) -> None:
        """What a job carries stays with it, and so does an error text that may quote it."""
        everything_with(tracing)
        with pytest.raises(ValueError, match=SECRET), tracing.enqueueing([a_request()]):
            raise ValueError(SECRET)

        assert SECRET not in emitted()

    def test_tr_3_a_call_has_one_valid_context(self, tracing: Tracing) -> None:
        """However many jobs it enqueues; a caller's own stays."""
        for count in (1, 1_000):
            with tracing.enqueueing([a_request()] * count) as span:
                carried = carrying({"a": "b"}, span.headers)
                own = carrying({TRACEPARENT: PARENT}, span.headers)
                full = carrying({f"h{n}": "" for n in range(16)}, span.headers)

            assert set(carried) <= {"a", TRACEPARENT, TRACESTATE}
            assert all(len(value) <= 512 for value in carried.values())
            assert not span.headers or trace_context_of(carried) is not None
            assert own == {TRACEPARENT: PARENT}
            assert len(full) == 16

    @pytest.mark.parametrize("headers", HOSTILE.values(), ids=HOSTILE.keys())
    def test_tr_3_what_is_no_context_is_ignored(
        self, tracing: Tracing, emitted: Emitted, headers: Mapping[str, str]
    ) -> None:
        """A job's attempt begins its own trace then, and a call goes on without."""
        with tracing.attempting(a_claimed(headers=headers)) as span:
            span.ended(lifecycle.Succeeded(), stopped_by=None)
        with tracing.continuing(headers):
            carried = tracing.carried()

        assert trace_context_of(carried) is not None or not carried
        assert "x" * 500 not in emitted()
        assert "Evil" not in emitted()


def everything_with(tracing: Tracing) -> None:
    """Trace each thing there is to trace, well-formed and not."""
    for requests in ([a_request()], [a_request()] * 3, [], cast("Any", [None, 5])):
        with tracing.enqueueing(requests) as sending:
            assert isinstance(sending.headers, Mapping)
            sending.enqueued([an_id()], duplicates=1)
    for use_case in ("notifications", "", "\ud800\x00", "x" * 100_000):
        with tracing.enqueueing([a_request(use_case=use_case, tenant_id=use_case)]):
            pass
        with tracing.handing_off({use_case: 1}, seconds=-1.0) as turn:
            turn.sent(unsent=1)
        with tracing.attempting(a_claimed(use_case=use_case, type=use_case)):
            pass
    for event in EVENTS:
        with ExitStack() as around:
            around.enter_context(tracing.continuing({TRACEPARENT: PARENT, TRACESTATE: "a=b"}))
            tracing.carried()
            span = around.enter_context(tracing.attempting(a_claimed()))
            span.ended(event, stopped_by="shutdown")
