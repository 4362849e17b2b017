"""The memory store with a witness: whatever is written is shown to the judge as it is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import datetime
from uuid import UUID

from async_jobs.adapters.memory.controls import MemoryControls
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.turn import MemoryTurn
from async_jobs.domain.audit import Operation
from async_jobs.domain.controls import Control
from async_jobs.domain.job import Job, JobStatus
from async_jobs.domain.lifecycle import Change
from async_jobs.domain.scheduling import LeaseGrant
from async_jobs.domain.turns import RunningCount
from async_jobs.ports.controls import Changed
from async_jobs.ports.leases import NOBODY, Heads, HeadsQuery, Success
from async_jobs.ports.queue import Outbox
from async_jobs.ports.store import Applied
from tests.simulation.judge import Judge
from tests.simulation.records import Node

WRITER: ContextVar[Node] = ContextVar("WRITER")


class WitnessedControls(MemoryControls):
    """Tells the judge of every order as it is given."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self._to = judge

    async def change(
        self, operation: Operation, control: Control, *, expected: int, ends: bool = False
    ) -> Changed:
        changed = await super().change(operation, control, expected=expected, ends=ends)
        if changed.applied:
            self._to.ordered(operation, tuple(self._controls.values()))
        return changed


class WitnessedStore(MemoryJobStore):
    """Tells the judge of every row that is written or forgotten, and of every turn's choice."""

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.controls = WitnessedControls(judge)
        self._to = judge

    def _put(self, job: Job) -> None:
        super()._put(job)
        self._to.stored(job, WRITER.get())

    def _forget(self, job_id: UUID) -> None:
        committed = job_id not in self._uncommitted
        super()._forget(job_id)
        self._to.forgotten(job_id, WRITER.get(), committed=committed)

    async def save(self, changes: Sequence[Change]) -> Applied:
        repeated = {c.job.id for c in changes if self._rows.get(c.job.id) == c.job}
        applied = await super().save(changes)
        still = {i for i in repeated if i in self._rows and i not in applied.ids}
        unchanged = {c.job.id for c in changes if self._rows.get(c.job.id) == c.job}
        self._to.require(not still & unchanged, "S5", "a repeated save was not told as applied")
        return applied

    async def succeed(self, successes: Sequence[Success], *, now: datetime) -> frozenset[UUID]:
        succeeded = await super().succeed(successes, now=now)
        untold = [s for s in successes if s.job_id not in succeeded and self._stands(s)]
        self._to.require(not untold, "S5", "a repeated success was not told as applied")
        return succeeded

    def _stands(self, success: Success) -> bool:
        row = self._rows.get(success.job_id)
        return (
            row is not None
            and row.status is JobStatus.SUCCEEDED
            and row.lease_seq == success.lease_seq
        )

    @asynccontextmanager
    async def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AsyncIterator[MemoryTurn]:
        async with super().turn(use_cases, tenants) as turn:
            by = WRITER.get()
            self._to.turn_taken(by)
            witnessed = _WitnessedTurn(turn, self)
            yield witnessed
            rows = [self._rows[job_id] for job_id in witnessed.taken]
            if witnessed.at is not None:
                self._to.chosen(rows, witnessed.seen, witnessed.at, by)

    def ready(self, use_cases: Collection[str], now: datetime) -> list[Job]:
        """Return every visible job that is due."""
        pending = self.visible(JobStatus.PENDING)
        due = [row for row in pending if row.run_at <= now and row.use_case in use_cases]
        return [row for row in due if row.id not in self.held]

    def live(self) -> list[Job]:
        """Return every visible job that has not ended."""
        return self.visible(JobStatus.PENDING) + self.visible(JobStatus.RUNNING)


class _WitnessedTurn(MemoryTurn):
    """Remembers what was ready when the turn looked, and what it took."""

    def __init__(self, inner: MemoryTurn, store: WitnessedStore) -> None:
        self._inner = inner
        self._store = store
        self.seen: list[Job] = []
        self.taken: set[UUID] = set()
        self.at: datetime | None = None

    @property
    def use_cases(self) -> frozenset[str]:
        return self._inner.use_cases

    @property
    def tenants(self) -> frozenset[str]:
        return self._inner.tenants

    @property
    def controls(self) -> int:
        return self._inner.controls

    async def running(self, workers: Mapping[str, int] = NOBODY) -> Sequence[RunningCount]:
        return await self._inner.running(workers)

    async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
        heads = await self._inner.heads(queries, now)
        self.seen, self.at = self._store.ready([q.use_case for q in queries], now), now
        return heads

    async def lease(
        self, grants: Sequence[LeaseGrant], *, onto: Sequence[Outbox] = ()
    ) -> frozenset[UUID]:
        leased = await self._inner.lease(grants, onto=onto)
        self.taken |= leased
        return leased
