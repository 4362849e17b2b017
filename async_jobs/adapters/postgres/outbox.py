"""A transport lane in the database of the jobs: hand-offs come with leases and go with claims."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from async_jobs.adapters.postgres.queue import POISON, PostgresJobQueue
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.domain.errors import StoreRefused
from async_jobs.domain.job import Job
from async_jobs.domain.lifecycle import Claimed
from async_jobs.ports.clock import Clock
from async_jobs.ports.queue import Claims
from async_jobs.ports.signal import Signal


class PostgresOutbox(PostgresJobQueue):
    """Implements `Outbox` on the tables `handoffs` and `jobs`.

    Args:
        store: where the jobs are.
        name: the lane.
        clock: see `PostgresJobQueue`.
        signal: see `PostgresJobQueue`.
        visibility_timeout_seconds: how long a message stays hidden that a worker received and
            did not claim so.
    """

    def __init__(
        self,
        store: PostgresJobStore,
        name: str,
        *,
        clock: Clock,
        signal: Signal | None = None,
        visibility_timeout_seconds: float = 60.0,
    ) -> None:
        super().__init__(
            store.pool,
            name,
            clock=clock,
            signal=signal,
            visibility_timeout_seconds=visibility_timeout_seconds,
        )
        self._store = store

    async def claim(self, claimed: Claimed, *, now: datetime, max_messages: int) -> Claims:
        """See `Outbox`. A row that cannot be written does not keep the others back."""
        try:
            return await self._claim(claimed, now=now, max_messages=max_messages)
        except StoreRefused as error:
            if max_messages == 1:
                return await self._drop(error, at=now)
        return await self.claim(claimed, now=now, max_messages=max_messages // 2)

    async def _claim(self, claimed: Claimed, *, now: datetime, max_messages: int) -> Claims:
        rows = await self._fetch(
            "claim_handoffs", now, max_messages, claimed.worker_id, claimed.until
        )
        if rows:
            rows.sort(key=lambda row: row["place"])
            return Claims(self._store.claimed_of(rows, claimed, now), more=True)
        (left,) = await self._fetch("drop_poison", now, max_messages)
        return Claims((), (POISON,) * left["dropped"], more=left["more"])

    async def _drop(self, error: StoreRefused, *, at: datetime) -> Claims:
        """Take the first hand-off off the lane unclaimed: its lease ends by itself."""
        taken = [each for each in await self._take(1) if each.handoff is not None]
        for delivery in taken:
            if delivery.handoff is not None:
                self._store.tell_unwritable(delivery.handoff.job_id, error, at=at)
        await self.ack(taken)
        return Claims((), more=True)

    async def claimed(self, worker_id: str, instants: Collection[datetime]) -> list[Job]:
        """See `Outbox`."""
        return self._store.jobs_of(await self._fetch("claimed_jobs", worker_id, list(instants)))
