"""A job store with indexes, for hundreds of thousands of jobs and turns in virtual time."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count, islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

from async_jobs.domain.errors import IllegalTransition
from async_jobs.domain.job import HandOff, Job, JobFilter, JobPage, JobStatus
from async_jobs.domain.lifecycle import Change, Claimed, Leased, Succeeded, advance
from async_jobs.domain.scheduling import LeaseGrant
from async_jobs.ports.store import Added, AddResult, Applied, Duplicate
from benchmarks.fairness import shapes
from benchmarks.fairness.lanes import Lane
from benchmarks.fairness.ready import BEHIND, ON_TIME, Ready
from benchmarks.fairness.shapes import Heads, HeadsQuery, Outbox, Success, Upcoming

if TYPE_CHECKING:  # commits before have none of them
    from async_jobs.domain.controls import Scope
    from async_jobs.ports.upkeep import Place, Released

LONG = timedelta(days=300)
"""A lease of a claimed job that needs no renewal; nobody looks for its end."""


class IndexedJobStore:
    """Implements `JobStore` for the scheduler and simulated workers.

    Ready jobs are shown from indexes, running ones are counted as they change, and what comes due
    or ends waits in heaps. It admits whatever it is given, and hands out jobs uncopied: they are
    frozen, and nobody here changes what they hold.

    Args:
        keeps_finished: whether finished jobs can be read; they are forgotten otherwise.
    """

    def __init__(self, *, keeps_finished: bool = False) -> None:
        self._keeps_finished = keeps_finished
        self._rows: dict[UUID, Job] = {}
        self._ready: dict[str, Ready] = {}
        self._lane_of: dict[UUID, int] = {}
        self._later: list[tuple[datetime, int, Job]] = []
        self._leases: list[tuple[datetime, int, Job]] = []
        self._running: dict[tuple[str, str, str], Counter[str | None]] = {}
        """How many jobs each worker has claimed, and how many nobody has."""
        self._lanes: dict[str, Lane] = {}
        self._held: set[str] = set()
        self._leasing: dict[UUID, asyncio.Event] = {}
        self._serial = count()

    def lane(self, name: str) -> Lane:
        """Return the lane of a name, made at the first time."""
        if name not in self._lanes:
            self._lanes[name] = Lane(name, self._claim)
        return self._lanes[name]

    @property
    def has_ready(self) -> bool:
        """Whether any job could be leased, as far as the store knows."""
        return any(self._ready.values())

    def due_by(self, now: datetime) -> bool:
        """Tell whether a `promote`, or a search for leases that are over, has something to do."""
        return any(heap and heap[0][0] <= now for heap in (self._later, self._leases))

    # --- what happens to jobs ---

    async def add(
        self,
        jobs: Sequence[Job],
        limits: Mapping[str, int],
        *,
        within: object | None = None,
        apart: bool = False,
    ) -> list[AddResult]:
        """See `JobStore`. Nobody is refused."""
        return [self.put_in(job) for job in jobs]

    def put_in(self, job: Job) -> AddResult:
        """Add one job."""
        if job.id in self._rows:
            return Duplicate(job.id)
        self._put(job)
        return Added(job.id)

    async def get(
        self,
        ids: Collection[UUID],
        *,
        tenant_id: str | None = None,
        unreadable: Any = None,
    ) -> list[Job]:
        """See `JobStore`."""
        rows = (self._rows[each] for each in dict.fromkeys(ids) if each in self._rows)
        return [row for row in rows if tenant_id in (None, row.tenant_id)]

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        """See `JobStore`."""
        matching = [
            row
            for row in self._rows.values()
            if (before is None or row.id < before)
            and criteria.tenant_id in (None, row.tenant_id)
            and criteria.use_case in (None, row.use_case)
            and criteria.status in (None, row.status)
        ]
        matching.sort(key=lambda row: row.id, reverse=True)
        page = tuple(matching[:limit])
        return JobPage(page, page[-1].id if len(matching) > limit else None)

    async def save(self, changes: Sequence[Change]) -> Applied:
        """See `JobStore`."""
        applied = set()
        for change in changes:
            while over := self._leasing.get(change.job.id):
                await over.wait()
            row = self._rows.get(change.job.id)
            if row is None:
                continue
            fence = change.fence
            if (
                (row.lease_seq, row.phase) == (fence.lease_seq, fence.phase)
                and fence.lease_expires_at in (None, row.lease_expires_at)
            ):  # fmt: skip
                self._put(change.job)
                applied.add(row.id)
            elif row == change.job:
                applied.add(row.id)
        return Applied(frozenset(applied))

    async def claim(
        self, handoffs: Sequence[HandOff], claimed: Claimed, *, now: datetime
    ) -> list[Job]:
        """See `Leases`."""
        return self._claim(handoffs, claimed, now)

    def _claim(self, handoffs: Sequence[HandOff], claimed: Claimed, now: datetime) -> list[Job]:
        jobs = []
        for handoff in handoffs:
            row = self._rows.get(handoff.job_id)
            if row is not None and handoff.lease_seq in (None, row.lease_seq):
                with suppress(IllegalTransition):
                    jobs.append(self._put(advance(row, claimed, now=now)))
        return jobs

    async def succeed(self, successes: Sequence[Success], *, now: datetime) -> frozenset[UUID]:
        """See `Leases`."""
        done = set()
        for success in successes:  # what one says differs from commit to commit
            row = self._rows.get(success.job_id)
            if row is not None and row.lease_seq == success.lease_seq:
                with suppress(IllegalTransition):
                    done.add(self._put(advance(row, Succeeded(success.result), now=now)).id)
        return frozenset(done)

    # --- what schedulers do ---

    @asynccontextmanager
    async def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AsyncIterator[IndexedTurn]:
        """See `Leases`."""
        wanted = {f"use case {name}" for name in use_cases} | {f"tenant {name}" for name in tenants}
        held = wanted - self._held
        self._held |= held
        turn = IndexedTurn(
            self._rows,
            self._ready,
            self._running,
            self._leasing,
            use_cases=frozenset(name for name in use_cases if f"use case {name}" in held),
            tenants=frozenset(name for name in tenants if f"tenant {name}" in held),
        )
        try:
            yield turn
            for job in turn.leased:
                self._put(job)
            turn.hand_off()
        finally:
            turn.end()
            self._held -= held

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        """See `Upkeep`."""
        promoted = 0
        while (job := self._first_of_later()) and job.run_at <= now and promoted < limit:
            heapq.heappop(self._later)
            self._let_in(job, ON_TIME)
            promoted += 1
        for name in sidelined:
            late = [each.job for each in islice(self._ready_of(name).past(now), limit)]
            for job in late:
                self._ready[name].drop(job, ON_TIME)
                self._let_in(job, BEHIND)
        upcoming = self._first_of_later()
        return Upcoming(upcoming.run_at if upcoming else None, promoted)

    def _first_of_later(self) -> Job | None:
        while self._later:
            job = self._later[0][-1]
            if self._rows.get(job.id) is job and job.id not in self._lane_of:
                return job
            heapq.heappop(self._later)
        return None

    async def expired(self, now: datetime, *, limit: int) -> list[Job]:
        """See `Leases`."""
        over: list[tuple[datetime, int, Job]] = []
        while self._leases and self._leases[0][0] <= now and len(over) < limit:
            entry = heapq.heappop(self._leases)
            if self._rows.get(entry[-1].id) is entry[-1]:
                over.append(entry)
        for entry in over:  # they stay until somebody changes them
            heapq.heappush(self._leases, entry)
        return [job for *_, job in over]

    async def set_aside(self, now: datetime, *, until: datetime, limit: int) -> int:
        """Every row can be read."""
        return 0

    async def hold(
        self,
        seen: Collection[tuple[str, str]],
        scopes: Sequence[Scope],
        *,
        now: datetime,
        version: int,
        limit: int,
    ) -> int:
        """See `Upkeep`. There are no controls."""
        return 0

    async def release(
        self,
        use_cases: Sequence[str],
        scopes: Sequence[Scope],
        *,
        version: int,
        limit: int,
        after: Place | None = None,
    ) -> Released:
        """See `Upkeep`. There are no controls, so that nobody asks for it."""
        raise NotImplementedError

    async def oldest_finished(self) -> Mapping[str, datetime]:
        """No run lasts that long."""
        return {}

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        """No run lasts that long."""
        return 0

    # --- the indexes ---

    def _put(self, job: Job) -> Job:
        old = self._rows.get(job.id)
        if old is not None:
            self._leave(old)
        self._rows[job.id] = job
        if job.status is JobStatus.RUNNING:
            self._count(job, 1)
            end = job.lease_expires_at
            if end is not None and end - job.updated_at < LONG:
                heapq.heappush(self._leases, (end, next(self._serial), job))
        elif job.status is not JobStatus.PENDING:
            if not self._keeps_finished:
                del self._rows[job.id]
        elif job.run_at <= job.updated_at:
            self._let_in(job, ON_TIME)
        else:
            heapq.heappush(self._later, (job.run_at, next(self._serial), job))
        return job

    def _leave(self, old: Job) -> None:
        if old.status is JobStatus.RUNNING:
            self._count(old, -1)
        elif old.id in self._lane_of:
            self._ready[old.use_case].drop(old, self._lane_of.pop(old.id))

    def _let_in(self, job: Job, lane: int) -> None:
        self._lane_of[job.id] = lane
        self._ready_of(job.use_case).put(job, lane, shapes.candidate(job))

    def _ready_of(self, use_case: str) -> Ready:
        return self._ready.setdefault(use_case, Ready())

    def _count(self, job: Job, change: int) -> None:
        group = (job.use_case, job.tenant_id, job.queue)
        claimants = self._running.setdefault(group, Counter())
        claimants[None if job.started_at is None else job.worker_id] += change
        if not any(claimants.values()):
            del self._running[group]


class IndexedTurn:
    """Implements `DispatchTurn`."""

    def __init__(
        self,
        rows: Mapping[UUID, Job],
        ready: Mapping[str, Ready],
        running: Mapping[tuple[str, str, str], Counter[str | None]],
        leasing: dict[UUID, asyncio.Event],
        *,
        use_cases: frozenset[str],
        tenants: frozenset[str],
    ) -> None:
        self._rows = rows
        self._ready = ready
        self._running = running
        self._leasing = leasing
        self._use_cases = use_cases
        self._tenants = tenants
        self._leased: dict[UUID, Job] = {}
        self._handed_off: list[tuple[Lane, HandOff]] = []
        self._over = asyncio.Event()

    @property
    def use_cases(self) -> frozenset[str]:
        """See `DispatchTurn`."""
        return self._use_cases

    @property
    def tenants(self) -> frozenset[str]:
        """See `DispatchTurn`."""
        return self._tenants

    @property
    def controls(self) -> int:
        """See `DispatchTurn`. There are none."""
        return 0

    @property
    def refused(self) -> Collection[UUID]:
        """See `DispatchTurn`. Nothing is."""
        return ()

    @property
    def leased(self) -> Iterator[Job]:
        """What is to be stored when the turn ends without an error."""
        return iter(self._leased.values())

    async def running(self, workers: Collection[str] = ()) -> Sequence[Any]:
        """See `DispatchTurn`. Asked before anything is leased in the turn."""
        return [
            count
            for alike, claimants in self._running.items()
            for count in shapes.running_counts(alike, claimants=claimants, workers=workers)
        ]

    async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
        """See `DispatchTurn`."""
        found = {
            query.use_case: shapes.heads(self._ready.get(query.use_case) or Ready(), query, now)
            for query in queries
            if query.use_case in self._use_cases
        }
        return {name: self._without_leased(each) for name, each in found.items()}

    def _without_leased(self, heads: Heads) -> Heads:
        if not self._leased:
            return heads
        return replace(heads, ready=tuple(c for c in heads.ready if c.id not in self._leased))

    async def lease(
        self, grants: Sequence[LeaseGrant], *, onto: Sequence[Outbox] = ()
    ) -> frozenset[UUID]:
        """See `DispatchTurn`. `onto` are lanes of this store."""
        lanes = {lane.name: lane for lane in onto if isinstance(lane, Lane)}
        leased = set()
        for grant in grants:
            row = self._rows.get(grant.job_id)
            if row is None or grant.job_id in self._leasing:
                continue
            if row.status is not JobStatus.PENDING or row.lease_seq != grant.expected_lease_seq:
                continue
            self._leased[row.id] = advance(row, Leased(grant.until), now=grant.at)
            self._leasing[row.id] = self._over
            leased.add(row.id)
            if lane := lanes.get(row.queue):
                self._handed_off.append((lane, HandOff(row.id, grant.lease_seq, row.tenant_id)))
        return frozenset(leased)

    def hand_off(self) -> None:
        """Put on their lanes what was leased onto them."""
        for lane, handoff in self._handed_off:
            lane.put(handoff)

    def end(self) -> None:
        """Let go of the rows and wake whoever waits for them."""
        for job_id in self._leased:
            self._leasing.pop(job_id, None)
        self._over.set()
