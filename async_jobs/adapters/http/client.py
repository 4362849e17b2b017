"""AsyncJobsHttpClient: the driving port `Jobs`, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
    out_of_time,
)
from async_jobs.adapters.http.operations import HttpOperations
from async_jobs.domain.job import Enqueued, EnqueueJobRequest, Job, JobPage, JobStatus
from async_jobs.domain.outlook import Outlook
from async_jobs.host import SystemChance, SystemClock
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.tracing import NO_TRACING, Tracing

T = TypeVar("T")


class AsyncJobsHttpClient:
    """Enqueue jobs over HTTP, look at them, cancel and retry them; see docs/http-client.md.

    Implements `Jobs` with one pool of connections, for one event loop.

    Args:
        base_url: where the API is, e.g. `http://jobs.internal` or `https://gateway/jobs-api`.
        auth_token: what its `ASYNC_JOBS_ENQUEUE_AUTH_TOKEN` holds.
        timeout_seconds: how long a try may wait for a connection (5 s at most), to be answered,
            and for the whole body of the answer; each by itself. No try takes longer than
            the three together.
        tries: how often a call is sent at most, 1-10.
        transport: in tests `httpx.ASGITransport(app)`; by default the network. Closed by `aclose`.
        clock: dates new ids, measures timeouts, and is slept on between two tries; by default
            this host's.
        chance: makes new ids and spreads the tries; by default the operating system's entropy.
        tracing: an `OpenTelemetryTracing` has requests carry the current span's context, as an
            instrumentation of httpx does by itself.

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
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
        chance: Chance | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._clock = clock = clock or SystemClock()
        self._line = Line(
            base_url,
            auth_token,
            timeout_seconds=timeout_seconds,
            tries=tries,
            clock=clock,
            chance=chance or SystemChance(),
            tracing=tracing,
        )
        self._client = made(
            lambda: httpx.AsyncClient(
                transport=transport,
                event_hooks={"response": [_forget_location]},
                **self._line.client_options(),
            )
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; no call can be made any more."""
        await self._client.aclose()

    # --- Jobs ---

    async def enqueue(self, request: EnqueueJobRequest) -> Enqueued:
        """See `Jobs`. A job without an id is given one here, so that repeating it is safe."""
        return await self._call(calls.enqueue(request, self._line.new_id))

    async def enqueue_many(self, requests: Sequence[EnqueueJobRequest]) -> list[Enqueued]:
        """See `Jobs`; ids as in `enqueue`."""
        return await self._call(calls.enqueue_many(requests, self._line.new_id))

    async def get_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        """See `Jobs`."""
        return await self._call(calls.get_job(job_id, tenant_id))

    async def list_jobs(
        self,
        *,
        tenant_id: str | None = None,
        use_case: str | None = None,
        status: JobStatus | str | None = None,
        limit: int = 100,
        cursor: UUID | None = None,
    ) -> JobPage:
        """See `Jobs`."""
        return await self._call(
            calls.list_jobs(
                tenant_id=tenant_id, use_case=use_case, status=status, limit=limit, cursor=cursor
            )
        )

    async def cancel_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        """See `Jobs`."""
        return await self._call(calls.cancel_job(job_id, tenant_id))

    async def retry_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        """See `Jobs`. Not repeated once a try may have taken effect: that is `Unavailable`."""
        return await self._call(calls.retry_job(job_id, tenant_id))

    # --- before it is enqueued ---

    async def outlook(self, request: EnqueueJobRequest) -> Outlook:
        """See `JobService`: tells whether a job would start in time; nothing is enqueued."""
        return await self._call(calls.outlook(request))

    # --- for operators ---

    @property
    def operations(self) -> HttpOperations:
        """What operators ask: why jobs wait, and who is there."""
        return HttpOperations(self._call, self._line.new_id)

    # --- input and output ---

    async def _call(self, call: Call[T]) -> T:
        with closing(self._line.exchange(call)) as exchange:
            pause_seconds = next(exchange)
            while True:
                if pause_seconds > 0:
                    await self._clock.sleep(pause_seconds)
                heard = Closed() if self._client.is_closed else await self._send(call)
                try:
                    pause_seconds = exchange.send(heard)
                except StopIteration as done:
                    result: T = done.value
                    return result

    async def _send(self, call: Call[T]) -> Answer | Lost:
        reading = self._line.reading()
        limit = asyncio.timeout(self._line.try_seconds)
        options = self._line.request_options(call)
        try:
            async with limit, self._client.stream(**options) as response:
                assert isinstance(response.stream, httpx.AsyncByteStream)
                if reading.begin(response):
                    async for part in response.stream:  # raw, whoever made the response
                        if not reading.add(part):
                            break
        except httpx.RequestError as error:
            return lost(error)
        except TimeoutError:
            if not limit.expired():
                raise
            return out_of_time()
        except RuntimeError as error:
            if not self._client.is_closed:
                raise
            return lost(error)  # closed by another task in the middle of it
        return reading.end()


async def _forget_location(response: httpx.Response) -> None:
    forget_location(response)
