"""Who may run a job, in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from itertools import islice
from uuid import UUID

from async_jobs.adapters.memory.rows import MemoryRows, copy_of, set_aside
from async_jobs.adapters.memory.turn import MemoryTurn
from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.errors import IllegalTransition
from async_jobs.domain.job import HandOff, Job, JobStatus, copied
from async_jobs.domain.lifecycle import Claimed, Succeeded, advance
from async_jobs.ports.leases import Success
from async_jobs.ports.store import Unreadable


class MemoryLeases(MemoryRows):
    """Implements `Leases`."""

    def __init__(self, *, unreadable: Unreadable | None = None) -> None:
        super().__init__(unreadable=unreadable)
        self._turns_held: set[str] = set()

    @asynccontextmanager
    async def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AsyncIterator[MemoryTurn]:
        """See `Leases`."""
        wanted = {f"use case {name}" for name in use_cases} | {f"tenant {name}" for name in tenants}
        held = wanted - self._turns_held
        self._turns_held |= held
        turn = MemoryTurn(
            use_cases=frozenset(name for name in use_cases if f"use case {name}" in held),
            tenants=frozenset(name for name in tenants if f"tenant {name}" in held),
            rows=self.visible,
            leasing=self._leasing,
            held=self.held,
            controls=self.controls.current_version,
        )
        try:
            await round_trip()
            yield turn
            for job in turn.leased():
                self._put(job)
            turn.hand_off()
        finally:
            turn.end()
            self._turns_held -= held

    def visible(self, status: JobStatus) -> list[Job]:
        """Return what a turn sees: unreadable rows too, as it needs no more than a few fields."""
        return list(self._in_status(status))

    async def claim(
        self, handoffs: Sequence[HandOff], claimed: Claimed, *, now: datetime
    ) -> list[Job]:
        """See `Leases`."""
        await round_trip()
        jobs = []
        for handoff in handoffs:
            while over := self._leasing.get(handoff.job_id):
                await over.wait()
            jobs += self.claim_at_once([handoff], claimed, now=now)
        return jobs

    def claim_at_once(
        self, handoffs: Sequence[HandOff], claimed: Claimed, *, now: datetime
    ) -> list[Job]:
        """Do what `claim` does while nothing else can happen."""
        jobs = []
        for handoff in handoffs:
            row = self._rows.get(handoff.job_id)
            if row is None or row.id in self._uncommitted:
                continue
            if handoff.lease_seq not in (None, row.lease_seq):
                continue
            with suppress(IllegalTransition):
                self._put(advance(row, claimed, now=now))
                jobs.append(copy_of(self._rows[row.id]))
        return list(self._readable(jobs))

    async def claimed(
        self, queue: str, worker_id: str, instants: Collection[datetime]
    ) -> list[Job]:
        """Return the jobs of a queue that a worker claimed at these instants and still has."""
        await round_trip()
        held = [
            row
            for row in self._in_status(JobStatus.RUNNING)
            if (row.queue, row.worker_id) == (queue, worker_id) and row.started_at in instants
        ]
        return [copy_of(row) for row in self._readable(held)]

    async def succeed(self, successes: Sequence[Success], *, now: datetime) -> frozenset[UUID]:
        """See `Leases`."""
        await round_trip()
        succeeded = set()
        for job_id, lease_seq, result, worker_id in successes:
            row = self._rows.get(job_id)
            if row is None or row.id in self._uncommitted or row.lease_seq != lease_seq:
                continue
            if row.status is JobStatus.SUCCEEDED:
                succeeded.add(row.id)  # by an earlier call that nobody heard
                continue
            if worker_id not in (None, row.worker_id):
                continue
            with suppress(IllegalTransition):
                self._put(advance(row, Succeeded(copied(result)), now=now))
                succeeded.add(row.id)
        return frozenset(succeeded)

    async def expired(self, now: datetime, *, limit: int) -> list[Job]:
        """See `Leases`."""
        await round_trip()
        over = [
            (row.lease_expires_at, row.id, row)
            for row in self._in_status(JobStatus.RUNNING)
            if row.lease_expires_at is not None and row.lease_expires_at <= now
        ]
        over.sort()
        readable = self._readable([row for *_, row in over])
        return [copy_of(row) for row in islice(readable, limit)]

    async def set_aside(self, now: datetime, *, until: datetime, limit: int) -> int:
        """See `Leases`."""
        await round_trip()
        running = [row for row in self._in_status(JobStatus.RUNNING) if row.id in self._corrupt]
        over = [
            (row.lease_expires_at, row.id)
            for row in running
            if row.lease_expires_at is not None and row.lease_expires_at <= now
        ]
        over.sort()
        for _, job_id in over[:limit]:
            self._unreadable(job_id, "corrupt")
            self._set(set_aside(self._rows[job_id], now, until))
        return len(over[:limit])
