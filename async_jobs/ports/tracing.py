"""Tracing: spans around what is done for jobs, and the context that connects them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol
from uuid import UUID

from async_jobs.domain.job import EnqueueJobRequest, Job
from async_jobs.domain.lifecycle import JobEvent


class Enqueueing(Protocol):
    """The span of a call that enqueues.

    Attributes:
        headers: what its jobs carry, so that their attempts find it; empty for nothing.
    """

    headers: Mapping[str, str]

    def enqueued(self, job_ids: Sequence[UUID], *, duplicates: int) -> None:
        """Take note of the jobs that it was answered, and how many of them were there already."""
        ...


class HandingOff(Protocol):
    """The span of a turn that has leased jobs."""

    def sent(self, *, unsent: int) -> None:
        """Take note that the hand-offs were sent, and how many no transport took."""
        ...


class Attempting(Protocol):
    """The span of an attempt.

    Attributes:
        trace_id: the trace it is in, for logs; None for none.
    """

    trace_id: str | None

    def ended(self, event: JobEvent | None, *, stopped_by: str | None) -> None:
        """Take note of how it ended.

        Args:
            event: what is to become of the job; None if its lease was lost.
            stopped_by: why the handler was made to stop, if it was.
        """
        ...


class Tracing(Protocol):
    """Surrounds what is done for jobs with spans.

    What it returns is entered at once, in the task that does what it surrounds.

    Promises:
        TR-1 Nothing of it raises or blocks; what it surrounds, with its result and its error, stays
            as it is.
        TR-2 No payload, result, error text or secret leaves through it.
        TR-3 What it has jobs carry is a valid trace context, once in a call however many jobs; what
            jobs and callers bring along that is none, it ignores.
    """

    def enqueueing(
        self, requests: Sequence[EnqueueJobRequest]
    ) -> AbstractContextManager[Enqueueing]:
        """Surround a call that enqueues; one span, however many jobs."""
        ...

    def handing_off(
        self, started: Mapping[str, int], *, seconds: float
    ) -> AbstractContextManager[HandingOff]:
        """Surround the sending of hand-offs; its span begins with the turn.

        Args:
            started: how many jobs were leased, by use case.
            seconds: how long ago the turn began.
        """
        ...

    def attempting(self, job: Job) -> AbstractContextManager[Attempting]:
        """Surround an attempt of a claimed job; what the handler does is below its span."""
        ...

    def continuing(self, headers: Mapping[str, str]) -> AbstractContextManager[object]:
        """Take the context that a caller's request carries, unless a span is current already."""
        ...

    def carried(self) -> Mapping[str, str]:
        """Return the headers by which a request carries the current context; empty for none."""
        ...


class NoTracing:
    """Implements `Tracing`: nothing is traced. It is all three spans, too."""

    headers: Mapping[str, str] = {}
    trace_id: str | None = None

    def enqueueing(
        self, requests: Sequence[EnqueueJobRequest]
    ) -> AbstractContextManager[Enqueueing]:
        """See `Tracing`."""
        return _UNTRACED

    def handing_off(
        self, started: Mapping[str, int], *, seconds: float
    ) -> AbstractContextManager[HandingOff]:
        """See `Tracing`."""
        return _UNTRACED

    def attempting(self, job: Job) -> AbstractContextManager[Attempting]:
        """See `Tracing`."""
        return _UNTRACED

    def continuing(self, headers: Mapping[str, str]) -> AbstractContextManager[object]:
        """See `Tracing`."""
        return _UNTRACED

    def carried(self) -> Mapping[str, str]:
        """See `Tracing`."""
        return self.headers

    def enqueued(self, job_ids: Sequence[UUID], *, duplicates: int) -> None:
        """See `Enqueueing`."""

    def sent(self, *, unsent: int) -> None:
        """See `HandingOff`."""

    def ended(self, event: JobEvent | None, *, stopped_by: str | None) -> None:
        """See `Attempting`."""


NO_TRACING: Final = NoTracing()
_UNTRACED: Final = nullcontext(NO_TRACING)
