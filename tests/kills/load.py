"""Clients that want jobs done, cancelled and retried over HTTP, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import NamedTuple, TypeVar
from uuid import UUID

from async_jobs import (
    AsyncJobsHttpClient,
    BackoffPolicy,
    EnqueueJobRequest,
    IllegalTransition,
    JobNotFoundError,
    JobStatus,
    QuotaExceededError,
    Unavailable,
)
from async_jobs.domain.backoff import BackoffType
from async_jobs.domain.job import Enqueued, Payload
from async_jobs.host import SystemClock
from async_jobs.testing.clocks import ManualChance
from tests.kills.arena import CAPS, TENANTS, TOKEN, Arena
from tests.kills.book import Book, Plan

T = TypeVar("T")

QUICKLY = BackoffPolicy(type=BackoffType.CONSTANT, base_delay_seconds=0.05, jitter=0.0)
ATTEMPTS_MAX, ATTEMPTS_OF_THE_DOOMED = 100, 3
LIVE_MAX = 50
"""The clients add no more jobs while so many have not ended."""
BATCH_MAX = 8
TIMEOUT_SECONDS = 5.0
PAUSE_SECONDS = 0.1
KEYS = 6

clock = SystemClock()


class Sort(NamedTuple):
    """A sort of job: how its handler behaves, and how it ends."""

    type: str
    seconds: float
    attempts_max: int
    end: str
    share: float


SORTS = (
    Sort("kills.work", 0.05, ATTEMPTS_MAX, "succeeded", 0.30),
    Sort("kills.work", 0.5, ATTEMPTS_MAX, "succeeded", 0.30),
    Sort("kills.work_in_a_thread", 0.3, ATTEMPTS_MAX, "succeeded", 0.10),
    # Longer than a lease, so that it lives by its renewals.
    Sort("kills.work", 4.0, ATTEMPTS_MAX, "succeeded", 0.02),
    Sort("kills.fail_first", 0.05, ATTEMPTS_MAX, "succeeded", 0.13),
    Sort("kills.fail", 0.02, ATTEMPTS_OF_THE_DOOMED, "dead", 0.08),
    Sort("kills.reject", 0.0, ATTEMPTS_OF_THE_DOOMED, "dead", 0.07),
)


class Load:
    """Some clients, and the book they keep together."""

    def __init__(self, arena: Arena, seed: int) -> None:
        self.book = Book()
        self._arena = arena
        self._chance = ManualChance(seed)
        self._stopping = asyncio.Event()
        self._clients = [
            AsyncJobsHttpClient(url, TOKEN, timeout_seconds=TIMEOUT_SECONDS, tries=1)
            for url in arena.api_urls
        ]

    def stop(self) -> None:
        """Let `run` end once everything sent has been answered."""
        self._stopping.set()

    async def run(self) -> None:
        """Enqueue, look, cancel and retry until told to stop."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._over_and_over(self._enqueue))
                group.create_task(self._over_and_over(self._enqueue))
                group.create_task(self._over_and_over(self._operate))
        finally:
            for client in self._clients:
                await client.aclose()

    async def _over_and_over(self, act: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping.is_set():
            await act()
            await clock.sleep(PAUSE_SECONDS)

    # --- enqueueing ---

    async def _enqueue(self) -> None:
        live = await self._arena.live_jobs()
        if live is not None and live >= LIVE_MAX:
            return
        tenant = self._one_of(TENANTS)
        batch = [self._request(tenant) for _ in range(1 + int(BATCH_MAX * self._chance.uniform()))]
        answers = await self._until_answered(batch)
        self.book.acknowledged |= {answer.job_id for answer in answers}

    def _request(self, tenant: str) -> EnqueueJobRequest:
        sort, now = self._sort(), clock.now()
        job_id = self._chance.uuid(now)
        payload: Payload = {"seconds": sort.seconds}
        is_keyed, is_later = self._chance.uniform() < 0.1, self._chance.uniform() < 0.1
        request = EnqueueJobRequest(
            id=job_id,
            tenant_id=tenant,
            use_case=self._one_of(tuple(CAPS)),
            type=sort.type,
            payload=payload,
            max_attempts=sort.attempts_max,
            backoff_policy=QUICKLY,
            dedupe_key=f"key-{int(KEYS * self._chance.uniform())}" if is_keyed else None,
            run_at=now + timedelta(seconds=2 * self._chance.uniform()) if is_later else None,
        )
        self.book.planned[job_id] = Plan(tenant, sort.end)
        return request

    def _sort(self) -> Sort:
        drawn = self._chance.uniform() * sum(sort.share for sort in SORTS)
        for sort in SORTS:
            drawn -= sort.share
            if drawn < 0:
                return sort
        return SORTS[-1]

    async def _until_answered(self, batch: Sequence[EnqueueJobRequest]) -> list[Enqueued]:
        """Send a batch until it is answered; the ids in it make that harmless."""
        is_first = True
        while True:
            try:
                return await self._client.enqueue_many(batch)
            except QuotaExceededError:
                if is_first:
                    # After a try of which nothing was heard, parts of it may still take effect.
                    self.book.refused |= {each.id for each in batch if each.id is not None}
                return []
            except Unavailable:
                is_first = False
                await clock.sleep(PAUSE_SECONDS)

    # --- operating ---

    async def _operate(self) -> None:
        drawn = self._chance.uniform()
        if drawn < 0.4:
            await self._look()
        elif drawn < 0.7:
            await self._cancel()
        else:
            await self._retry()

    async def _look(self) -> None:
        """An acknowledged job can be seen, at once and for ever after."""
        job_id = self._an_acknowledged_job()
        if job_id is not None:
            await self._asked(job_id, lambda client: client.get_job(job_id))

    async def _cancel(self) -> None:
        job_id = self._an_acknowledged_job()
        if job_id is None:
            return
        self.book.cancel_tries[job_id] += 1
        job = await self._asked(job_id, lambda client: client.cancel_job(job_id))
        if job is not None and job.status is JobStatus.CANCELLED:
            self.book.cancelled.add(job_id)

    async def _retry(self) -> None:
        status = self._one_of((JobStatus.DEAD, JobStatus.CANCELLED))
        try:
            page = await self._client.list_jobs(status=status, limit=5)
        except Unavailable:
            return
        for job in page.jobs[:1]:
            self.book.retry_tries[job.id] += 1
            try:
                await self._client.retry_job(job.id)
            except (IllegalTransition, Unavailable):
                return  # it lives already, or nobody knows: repeating could give it two lives

    async def _asked(
        self, job_id: UUID, call: Callable[[AsyncJobsHttpClient], Awaitable[T]]
    ) -> T | None:
        while True:
            try:
                return await call(self._client)
            except JobNotFoundError:
                self.book.missing.add(job_id)
                return None
            except IllegalTransition:
                return None
            except Unavailable:
                if self._stopping.is_set():
                    return None
                await clock.sleep(PAUSE_SECONDS)

    def _an_acknowledged_job(self) -> UUID | None:
        """Return one of the youngest ids; ids grow with time."""
        youngest = sorted(self.book.acknowledged)[-LIVE_MAX:]
        return self._one_of(youngest) if youngest else None

    @property
    def _client(self) -> AsyncJobsHttpClient:
        return self._one_of(self._clients)

    def _one_of(self, things: Sequence[T]) -> T:
        return things[int(len(things) * self._chance.uniform())]
