"""The rows that the store in memory is made of: what is asked about them, and made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from async_jobs.adapters.memory.controls import MemoryControls
from async_jobs.adapters.memory.transaction import MemoryTransaction
from async_jobs.domain.history import AttemptRecord
from async_jobs.domain.job import LIVE, Job, JobStatus, UnreadableJob, copied
from async_jobs.domain.lifecycle import Change, SetAside, change
from async_jobs.ports.store import Unreadable


class MemoryRows:
    """All jobs, and what is under way with them: the common ground of a store's three ports.

    Args:
        unreadable: told of every row that was made unreadable when it is met.

    Attributes:
        records: those that were kept with changes, for `MemoryHistory`.
    """

    def __init__(self, *, unreadable: Unreadable | None = None) -> None:
        self._unreadable = unreadable or (lambda job_id, problem: None)
        self._rows: dict[UUID, Job] = {}
        self._corrupt: set[UUID] = set()
        self._keys: dict[tuple[str, str], UUID] = {}
        self._uncommitted: dict[UUID, MemoryTransaction] = {}
        self._leasing: dict[UUID, asyncio.Event] = {}
        self.held: set[UUID] = set()
        """What waits and is shown to no turn, because it is paused."""
        self.controls = MemoryControls()
        """What operators ordered about these jobs."""
        self.records: list[AttemptRecord] = []

    def pending(self) -> Iterator[Job]:
        """Yield what waits, as it is stored: to be looked at, and left as it is."""
        return self._in_status(JobStatus.PENDING)

    def committed(self) -> Iterator[Job]:
        """Yield what is committed, as it is stored: to be looked at, and left as it is."""
        return (row for row in self._rows.values() if row.id not in self._uncommitted)

    def readable(self, rows: Sequence[Job]) -> Iterator[Job]:
        """Yield the rows that are jobs, and tell of the others."""
        return self._readable(rows)

    def is_corrupt(self, job_id: UUID) -> bool:
        """Tell whether a stored job was made unreadable."""
        return job_id in self._corrupt

    def delete(self, job: Job) -> bool:
        """Delete a job, and the records of it, if it is as it was read and does not run."""
        row = self._rows.get(job.id)
        if row is None or row.lease_seq != job.lease_seq or row.status is JobStatus.RUNNING:
            return False
        self._forget(job.id)
        self.records[:] = [each for each in self.records if each.job_id != job.id]
        return True

    def use_cases(self) -> set[str]:
        """Return the use cases that there are jobs of."""
        return {row.use_case for row in self._rows.values() if row.id not in self._uncommitted}

    def corrupt(self, job_id: UUID) -> None:
        """Make a stored job unreadable, for tests of what happens then."""
        self._corrupt.add(job_id)

    def mend(self, job_id: UUID) -> None:
        """Make it readable again, as it then stands."""
        self._corrupt.discard(job_id)

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

    def _put(self, job: Job) -> None:
        self._rows[job.id] = job
        self.held.discard(job.id)
        if job.dedupe_key is not None:
            key = (job.tenant_id, job.dedupe_key)
            if job.status in LIVE:
                self._keys[key] = job.id
            elif self._keys.get(key) == job.id:
                del self._keys[key]

    def _set(self, change: Change) -> None:
        """Carry out a change whose fence holds, and keep its record."""
        self._put(copy_of(change.job))
        if change.record is not None:
            self.records.append(change.record)

    def _forget(self, job_id: UUID) -> None:
        row = self._rows.pop(job_id)
        key = (row.tenant_id, row.dedupe_key or "")
        if self._keys.get(key) == job_id:
            del self._keys[key]
        self._corrupt.discard(job_id)
        self.held.discard(job_id)


def unreadable_of(row: Job) -> UnreadableJob:
    """Return what is told of a row that was made unreadable."""
    return UnreadableJob(row.id, row.tenant_id, row.use_case, row.status.value, "corrupt")


def set_aside(row: Job, now: datetime, until: datetime) -> Change:
    """Return what sets an unreadable row aside until an instant."""
    return change(row, SetAside(until), now=now)


def copy_of(job: Job) -> Job:
    """Return a job that shares nothing changeable with `job`."""
    return replace(
        job,
        payload=copied(job.payload),
        result=copied(job.result),
        headers=dict(job.headers),
        labels=dict(job.labels),
    )
