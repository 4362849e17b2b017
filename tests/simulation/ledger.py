"""What the judge has seen: its own copy of every row, and who did what under which lease."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from uuid import UUID

from async_jobs.domain.job import Job, JobStatus
from tests.simulation.records import Execution, Lease, Node

PENDING, RUNNING = JobStatus.PENDING, JobStatus.RUNNING
SUCCEEDED, DEAD, CANCELLED = JobStatus.SUCCEEDED, JobStatus.DEAD, JobStatus.CANCELLED
ENDED = (SUCCEEDED, DEAD, CANCELLED)


class Ledger:
    """Takes down what happens, and finds nothing wrong with it.

    Attributes:
        rows: every row as it stands.
        running, tenant_running: how many jobs run of a use case and of a tenant.
        pending: how many jobs of a tenant are pending.
        keys: which live job has a tenant's dedupe key.
        leases: every lease of the rows, by job and number.
        executing: the handlers that execute just now, likewise.
        dispatched_at: when a job of a use case was last leased or buried.
        unreadable: the rows that cannot be read any more.
        forgotten: the jobs whose retention was over.
        promised: the jobs that a client was told are safe.
    """

    def __init__(self) -> None:
        self.rows: dict[UUID, Job] = {}
        self.running: Counter[str] = Counter()
        self.tenant_running: Counter[str] = Counter()
        self.pending: Counter[str] = Counter()
        self.keys: dict[tuple[str, str], UUID] = {}
        self.leases: dict[tuple[UUID, int], Lease] = {}
        self.executing: dict[tuple[UUID, int], Execution] = {}
        self.dispatched_at: dict[str, float] = {}
        self.unreadable: set[UUID] = set()
        self.forgotten: set[UUID] = set()
        self.promised: set[UUID] = set()
        self._seqs: dict[UUID, list[int]] = {}

    # --- rows ---

    def write(self, after: Job) -> Job | None:
        """Let a row stand as it was written; returns it as it stood before."""
        before = self.rows.get(after.id)
        self.rows[after.id] = after
        self._count(before, -1)
        self._count(after, +1)
        return before

    def strike(self, job_id: UUID) -> Job:
        """Let a row stand no more; returns it."""
        row = self.rows.pop(job_id)
        self._count(row, -1)
        key = (row.tenant_id, row.dedupe_key or "")
        if self.keys.get(key) == job_id:
            del self.keys[key]
        return row

    def forget(self, job_id: UUID) -> None:
        """Remember of a job only that it was there."""
        self.forgotten.add(job_id)
        for seq in self._seqs.pop(job_id, []):
            self.leases.pop((job_id, seq), None)

    def _count(self, row: Job | None, by: int) -> None:
        if row is None:
            return
        if row.status is PENDING:
            self.pending[row.tenant_id] += by
        elif row.status is RUNNING:
            self.running[row.use_case] += by
            self.tenant_running[row.tenant_id] += by

    @property
    def unfinished(self) -> list[Job]:
        """The live jobs that can be read."""
        unreadable = self.unreadable
        return [
            row
            for row in self.rows.values()
            if row.status not in ENDED and not (unreadable and row.id in unreadable)
        ]

    def has_ready(self, *, more_than: int, now: datetime) -> bool:
        """Tell whether more jobs are due than a number."""
        if self.pending.total() <= more_than:
            return False
        ready = (row for row in self.rows.values() if row.status is PENDING and row.run_at <= now)
        return any(True for _ in islice(ready, more_than, None))

    def rows_that(self, is_meant: Callable[[Job], bool]) -> list[Job]:
        """Return some of the rows, in the order in which they were added."""
        return [row for row in self.rows.values() if is_meant(row)]

    # --- leases and executions ---

    def give_lease(self, row: Job) -> None:
        """Begin the lease that a row has now."""
        self.leases[row.id, row.lease_seq] = Lease()
        self._seqs.setdefault(row.id, []).append(row.lease_seq)

    def lease_of(self, row: Job) -> Lease:
        """Return the lease that a row has or had last."""
        return self.leases[row.id, row.lease_seq]

    def executing_jobs(self, node: Node) -> set[UUID]:
        """Return whose handlers a process executes, but for those that disobey."""
        executing = self.executing.items()
        return {job_id for (job_id, _), e in executing if e.node is node and e.obedient}

    def executing_in(self, node: Node) -> int:
        """Return how many handlers a process executes, but for those that disobey."""
        return sum(e.node is node and e.obedient for e in self.executing.values())
