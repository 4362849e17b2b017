"""The system of record, in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from itertools import islice
from uuid import UUID

from async_jobs.adapters.memory.rows import copy_of, set_aside, unreadable_of
from async_jobs.adapters.memory.transaction import MemoryTransaction
from async_jobs.adapters.memory.turn import MemoryTurn
from async_jobs.adapters.memory.waiting import round_trip
from async_jobs.domain.errors import IllegalTransition
from async_jobs.domain.job import (
    LIVE,
    TERMINAL,
    HandOff,
    Job,
    JobFilter,
    JobPage,
    JobStatus,
    copied,
)
from async_jobs.domain.lifecycle import Change, Claimed, Succeeded, advance, holds
from async_jobs.domain.quota import Refused, admit
from async_jobs.ports.leases import Success
from async_jobs.ports.store import (
    Added,
    AddResult,
    Applied,
    Duplicate,
    Invalid,
    ToldUnreadable,
    Unreadable,
)
from async_jobs.ports.upkeep import Upcoming


class MemoryJobStore:
    """Implements `Store`.

    Between reading and writing it lets other tasks run, as a database would, and keeps its
    promises by the same means: locks around admission, turns, and compare-and-set.
    """

    def __init__(self, *, unreadable: Unreadable | None = None) -> None:
        self._unreadable = unreadable or (lambda job_id, problem: None)
        self._rows: dict[UUID, Job] = {}
        self._corrupt: set[UUID] = set()
        self._keys: dict[tuple[str, str], UUID] = {}
        self._uncommitted: dict[UUID, MemoryTransaction] = {}
        self._tenant_locks: dict[str, asyncio.Lock] = {}
        self._turns_held: set[str] = set()
        self._leasing: dict[UUID, asyncio.Event] = {}

    # --- adding ---

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[MemoryTransaction]:
        """Open a transaction to pass as `within`; an error on the way out rolls it back."""
        transaction = MemoryTransaction(self._tenant_locks)
        committed = False
        try:
            yield transaction
            committed = True
        except BaseException:
            for job_id in transaction.added:
                self._forget(job_id)
            raise
        finally:
            for job_id in transaction.added:
                self._uncommitted.pop(job_id, None)
            transaction.end(committed=committed)

    async def add(
        self,
        jobs: Sequence[Job],
        limits: Mapping[str, int],
        *,
        within: object | None = None,
        apart: bool = False,
    ) -> list[AddResult]:
        """See `JobStore`."""
        if within is None:
            async with self.transaction() as own:
                return await self._add(jobs, limits, own, apart=apart)
        return await self._add(jobs, limits, MemoryTransaction.of(within), apart=apart)

    async def _add(
        self,
        jobs: Sequence[Job],
        limits: Mapping[str, int],
        transaction: MemoryTransaction,
        *,
        apart: bool,
    ) -> list[AddResult]:
        await transaction.lock_tenants(limits)
        await round_trip()
        while blocker := self._blocker(jobs, transaction):
            await blocker.over.wait()
        fresh: dict[UUID, Job] = {}
        results = [self._judge(job, fresh) for job in jobs]
        invalid = next((r for r in results if isinstance(r, Invalid) and not apart), None)
        pending = Counter(row.tenant_id for row in self._in_status(JobStatus.PENDING, hidden=True))
        refusal = invalid or admit((job.tenant_id for job in fresh.values()), pending, limits)
        if refusal:
            return [refusal if _falls(result, refusal, fresh) else result for result in results]
        for job in fresh.values():
            self._put(copy_of(job))
            self._uncommitted[job.id] = transaction
            transaction.added.add(job.id)
        return results

    def _blocker(
        self, jobs: Sequence[Job], transaction: MemoryTransaction
    ) -> MemoryTransaction | None:
        """Return another open transaction whose outcome decides about one of `jobs`."""
        for job in jobs:
            for known in (job.id, self._keys.get((job.tenant_id, job.dedupe_key or ""))):
                holder = self._uncommitted.get(known) if known else None
                if holder is not None and holder is not transaction:
                    return holder
        return None

    def _judge(self, job: Job, fresh: dict[UUID, Job]) -> AddResult:
        known = self._rows.get(job.id) or fresh.get(job.id)
        if known is not None and known.tenant_id == job.tenant_id:
            return Duplicate(job.id)
        if known is not None:
            return Invalid(job.id, "id", "is taken; choose another")
        if job.dedupe_key is not None:
            key = (job.tenant_id, job.dedupe_key)
            twins = (each for each in fresh.values() if (each.tenant_id, each.dedupe_key) == key)
            holder = self._keys.get(key) or next((each.id for each in twins), None)
            if holder is not None:
                return Duplicate(holder)
        fresh[job.id] = job
        return Added(job.id)

    # --- reading ---

    async def get(
        self,
        ids: Collection[UUID],
        *,
        tenant_id: str | None = None,
        unreadable: ToldUnreadable | None = None,
    ) -> list[Job]:
        """See `JobStore`."""
        await round_trip()
        rows = [self._rows[job_id] for job_id in dict.fromkeys(ids) if job_id in self._rows]
        rows = [row for row in rows if tenant_id is None or row.tenant_id == tenant_id]
        for row in rows:
            if unreadable is not None and row.id in self._corrupt:
                unreadable(unreadable_of(row))
        return [copy_of(row) for row in self._readable(rows)]

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        """See `JobStore`."""
        await round_trip()
        matching = [
            row
            for row in self._rows.values()
            if (before is None or row.id < before)
            and criteria.tenant_id in (None, row.tenant_id)
            and criteria.use_case in (None, row.use_case)
            and criteria.status in (None, row.status)
            and row.id not in self._uncommitted
        ]
        matching.sort(key=lambda row: row.id, reverse=True)
        page = matching[:limit]
        cursor = page[-1].id if len(matching) > limit else None
        unreadable = tuple(unreadable_of(row) for row in page if row.id in self._corrupt)
        return JobPage(tuple(copy_of(row) for row in self._readable(page)), cursor, unreadable)

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

    def pending(self) -> Iterator[Job]:
        """Yield what waits, as it is stored: to be looked at, and left as it is."""
        return self._in_status(JobStatus.PENDING)

    def use_cases(self) -> set[str]:
        """Return the use cases that there are jobs of."""
        return {row.use_case for row in self._rows.values() if row.id not in self._uncommitted}

    def _in_status(self, status: JobStatus, *, hidden: bool = False) -> Iterator[Job]:
        unseen = () if hidden else self._uncommitted
        for row in self._rows.values():
            # Most of the time there is nothing to look an id up in, which costs the most.
            if row.status is status and not (unseen and row.id in unseen):
                yield row

    def _readable(self, rows: Sequence[Job]) -> Iterator[Job]:
        for row in rows:
            if row.id in self._corrupt:
                self._unreadable(row.id, "corrupt")
            elif row.id not in self._uncommitted:
                yield row

    # --- changing ---

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
            rows=self._visible,
            leasing=self._leasing,
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

    def _visible(self, status: JobStatus) -> list[Job]:
        """Return what a turn sees: unreadable rows too, as it needs no more than a few fields."""
        return list(self._in_status(status))

    async def save(self, changes: Sequence[Change]) -> Applied:
        """See `JobStore`."""
        await round_trip()
        for change in changes:
            while over := self._leasing.get(change.job.id) or self._key_in_doubt(change.job):
                await over.wait()
        applied: set[UUID] = set()
        conflicting: set[UUID] = set()
        for change in changes:
            row = self._rows.get(change.job.id)
            if row is None or row.id in self._uncommitted:
                continue
            if not holds(change, row):
                applied |= {row.id} if row == change.job else set()
            elif self._key_taken(change.job):
                conflicting.add(row.id)
            else:
                self._put(copy_of(change.job))
                applied.add(row.id)
        return Applied(frozenset(applied), frozenset(conflicting))

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

    def _key_taken(self, job: Job) -> bool:
        return job.status in LIVE and self._key_holder(job) not in (None, job.id)

    def _key_in_doubt(self, job: Job) -> asyncio.Event | None:
        """Return what ends when an open transaction has decided about the job's key."""
        holder = self._key_holder(job)
        open_one = self._uncommitted.get(holder) if holder is not None else None
        return None if open_one is None or job.status not in LIVE else open_one.over

    def _key_holder(self, job: Job) -> UUID | None:
        return None if job.dedupe_key is None else self._keys.get((job.tenant_id, job.dedupe_key))

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
            self._put(set_aside(self._rows[job_id], now, until))
        return len(over[:limit])

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        """See `Upkeep`. Nothing needs promoting here: `heads` looks at `run_at` itself."""
        pending = self._in_status(JobStatus.PENDING)
        return Upcoming(min((row.run_at for row in pending if row.run_at > now), default=None))

    async def oldest_finished(self) -> Mapping[str, datetime]:
        """See `Upkeep`."""
        await round_trip()
        oldest: dict[str, datetime] = {}
        for row in self._rows.values():
            if row.status in TERMINAL and row.finished_at is not None:
                oldest[row.use_case] = min(
                    row.finished_at, oldest.get(row.use_case, row.finished_at)
                )
        return oldest

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        """See `Upkeep`."""
        await round_trip()
        old = [
            (row.finished_at, row.id)
            for row in self._rows.values()
            if row.status in TERMINAL
            and row.use_case == use_case
            and row.finished_at is not None
            and row.finished_at < before
        ]
        old.sort()
        for _, job_id in old[:limit]:
            self._forget(job_id)
        return len(old[:limit])

    def corrupt(self, job_id: UUID) -> None:
        """Make a stored job unreadable, for tests of what happens then."""
        self._corrupt.add(job_id)

    def mend(self, job_id: UUID) -> None:
        """Make it readable again, as it then stands."""
        self._corrupt.discard(job_id)

    def _put(self, job: Job) -> None:
        self._rows[job.id] = job
        if job.dedupe_key is not None:
            key = (job.tenant_id, job.dedupe_key)
            if job.status in LIVE:
                self._keys[key] = job.id
            elif self._keys.get(key) == job.id:
                del self._keys[key]

    def _forget(self, job_id: UUID) -> None:
        row = self._rows.pop(job_id)
        key = (row.tenant_id, row.dedupe_key or "")
        if self._keys.get(key) == job_id:
            del self._keys[key]
        self._corrupt.discard(job_id)


def _falls(result: AddResult, refusal: Refused | Invalid, fresh: Collection[UUID]) -> bool:
    """Tell whether a job that was judged so is turned away with its call."""
    if isinstance(result, Duplicate):
        return result.of in fresh
    return isinstance(refusal, Invalid) or not isinstance(result, Invalid)
