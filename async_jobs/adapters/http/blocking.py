"""JobsHttpClient: what `AsyncJobsHttpClient` does, for programs without an event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Self, TypeVar
from uuid import UUID

import httpx

from async_jobs.adapters.http import calls
from async_jobs.adapters.http.calls import Call
from async_jobs.adapters.http.exchange import Answer, Closed, Lost
from async_jobs.adapters.http.line import (
    TIMEOUT_SECONDS,
    TRIES,
    Line,
    forget_location,
    lost,
    made,
)
from async_jobs.adapters.http.operations import BlockingHttpOperations
from async_jobs.domain.job import Enqueued, EnqueueJobRequest, Job, JobPage, JobStatus
from async_jobs.domain.outlook import Outlook
from async_jobs.host import SystemChance, SystemClock
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.tracing import NO_TRACING, Tracing

T = TypeVar("T")


class JobsHttpClient:
    """`AsyncJobsHttpClient` for programs without an event loop; may be shared by threads.

    Args:
        base_url, auth_token, tries, clock, chance, tracing: as there.
        timeout_seconds: as there, but until the head of an answer has arrived, each read and
            write has that time for itself.
        transport: in tests `httpx.MockTransport` or the like; by default the network. Closed by
            `close`.
        pause: blocks its thread for so many seconds, between two tries.

    Raises:
        ConfigurationError: an argument or the environment's proxies are unusable.

    Raises (each call, besides what `Jobs` promises):
        Unavailable: no good answer after the last try; whether a write took effect is unknown.
        AuthTokenError: the token is missing or wrong.
        RemoteHttpError: something answered that is not this interface.
        ConfigurationError: the client is closed.
    """

    def __init__(
        self,
        base_url: str,
        auth_token: str | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        tries: int = TRIES,
        transport: httpx.BaseTransport | None = None,
        clock: Clock | None = None,
        chance: Chance | None = None,
        pause: Callable[[float], object] | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._pause = pause or threading.Event().wait
        self._line = Line(
            base_url,
            auth_token,
            timeout_seconds=timeout_seconds,
            tries=tries,
            clock=clock or SystemClock(),
            chance=chance or SystemChance(),
            tracing=tracing,
        )
        self._client = made(
            lambda: httpx.Client(
                transport=transport,
                event_hooks={"response": [forget_location]},
                **self._line.client_options(),
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; no call can be made any more."""
        self._client.close()

    # --- Jobs ---

    def enqueue(self, request: EnqueueJobRequest) -> Enqueued:
        """See `Jobs`. A job without an id is given one here, so that repeating it is safe."""
        return self._call(calls.enqueue(request, self._line.new_id))

    def enqueue_many(self, requests: Sequence[EnqueueJobRequest]) -> list[Enqueued]:
        """See `Jobs`; ids as in `enqueue`."""
        return self._call(calls.enqueue_many(requests, self._line.new_id))

    def get_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        """See `Jobs`."""
        return self._call(calls.get_job(job_id, tenant_id))

    def list_jobs(
        self,
        *,
        tenant_id: str | None = None,
        use_case: str | None = None,
        status: JobStatus | str | None = None,
        limit: int = 100,
        cursor: UUID | None = None,
    ) -> JobPage:
        """See `Jobs`."""
        return self._call(
            calls.list_jobs(
                tenant_id=tenant_id, use_case=use_case, status=status, limit=limit, cursor=cursor
            )
        )

    def cancel_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        """See `Jobs`."""
        return self._call(calls.cancel_job(job_id, tenant_id))

    def retry_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        """See `Jobs`. Not repeated once a try may have taken effect: that is `Unavailable`."""
        return self._call(calls.retry_job(job_id, tenant_id))

    # --- before it is enqueued ---

    def outlook(self, request: EnqueueJobRequest) -> Outlook:
        """See `JobService`: tells whether a job would start in time; nothing is enqueued."""
        return self._call(calls.outlook(request))

    # --- for operators ---

    @property
    def operations(self) -> BlockingHttpOperations:
        """What operators ask: why jobs wait, and who is there."""
        return BlockingHttpOperations(self._call, self._line.new_id)

    # --- input and output ---

    def _call(self, call: Call[T]) -> T:
        with closing(self._line.exchange(call)) as exchange:
            pause_seconds = next(exchange)
            while True:
                if pause_seconds > 0:
                    self._pause(pause_seconds)
                heard = Closed() if self._client.is_closed else self._send(call)
                try:
                    pause_seconds = exchange.send(heard)
                except StopIteration as done:
                    result: T = done.value
                    return result

    def _send(self, call: Call[T]) -> Answer | Lost:
        reading = self._line.reading()
        try:
            with self._client.stream(**self._line.request_options(call)) as response:
                assert isinstance(response.stream, httpx.SyncByteStream)
                if reading.begin(response):
                    for part in response.stream:  # raw, whoever made the response
                        if not reading.add(part):
                            break
        except httpx.RequestError as error:
            return lost(error)
        except RuntimeError as error:
            if not self._client.is_closed:
                raise
            return lost(error)  # closed by another thread in the middle of it
        return reading.end()
