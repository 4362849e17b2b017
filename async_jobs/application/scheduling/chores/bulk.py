"""Bulk: what operators do to many jobs at once, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

from async_jobs.application.in_force import InForce
from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.domain import bulk
from async_jobs.domain.bulk import BulkAction, BulkOperation, Changed, Decision
from async_jobs.domain.job import Job
from async_jobs.domain.limits import KeptAttempts
from async_jobs.domain.reporting import tell
from async_jobs.ports.bulk import Bulk
from async_jobs.ports.clock import Clock
from async_jobs.ports.signal import Signal, cancellation
from async_jobs.ports.telemetry import Telemetry

BATCH_MIN, BATCH_MAX = 50, 500
BATCH_SECONDS: Final = 0.1
"""A batch that took longer is followed by smaller ones."""
SHARE: Final = 0.1
"""So much of the time goes into batches, whoever takes them: dispatches have the rest."""
REST_SECONDS_MIN: Final = 0.05
LOOK_AGAIN_SECONDS: Final = 1.0
"""After a failure, and where another scheduler has the batch."""


class WorkingBulk(Chore):
    """Takes a batch a tick, while there is an operation and its rest is over.

    Whether there is one it looks when the controls have another version, which a tick knows in any
    case: nothing is sent while nobody has begun one. A crash undoes the batch under way; any
    scheduler takes it again.

    Args:
        kept: what is to be done; None for nothing.
        limits: knows the version, and which use cases keep all records.
        clock: the store's time.
        signal: tells workers what to stop.
        telemetry: told what became of each job.
    """

    def __init__(
        self,
        kept: Bulk | None,
        limits: InForce,
        *,
        clock: Clock,
        signal: Signal,
        telemetry: Telemetry,
    ) -> None:
        super().__init__("bulk", 0.0)
        self._bulk = kept
        self._limits = limits
        self._clock = clock
        self._signal = signal
        self._telemetry = telemetry
        self._known_version = 0
        self._next_at: datetime | None = None
        self._size = BATCH_MIN
        self._decided: dict[UUID, Changed] = {}

    @property
    def next_at(self) -> datetime | None:
        """When there is something to do next; None if nothing is known of."""
        return self._next_at

    def is_due(self, now: float) -> bool:
        """Tell whether a batch may be taken, or there may be a new operation."""
        if self._bulk is None:
            return False
        if self._limits.version != self._known_version:
            self._known_version = self._limits.version
            self._next_at = self._clock.now()
        return self._next_at is not None and self._next_at <= self._clock.now()

    async def work(self) -> bool:
        """Take a batch; returns whether turns may see others by it."""
        assert self._bulk is not None
        now, began = self._clock.now(), self._clock.monotonic()
        again = now + timedelta(seconds=LOOK_AGAIN_SECONDS)
        self._next_at = again

        def rest(under_way: int) -> timedelta:
            took = self._clock.monotonic() - began
            seconds = max(REST_SECONDS_MIN, took * (1 / SHARE - 1))
            return timedelta(seconds=seconds * under_way + took)

        # By one instant: what an undo takes back is known by when it was cancelled.
        decide = partial(self._decide, now)
        try:
            stepped = await self._bulk.step(now, limit=self._size, decide=decide, pause=rest)
        except Exception:
            # It may have been cut off for taking too long, as it would be at each further try.
            self._size = max(1, self._size // 2)
            took = self._clock.monotonic() - began
            seconds = max(LOOK_AGAIN_SECONDS, took / SHARE)
            self._next_at = now + timedelta(seconds=seconds)
            raise
        took = self._clock.monotonic() - began
        if took > BATCH_SECONDS:
            self._size = min(self._size, max(BATCH_MIN, self._size // 2))
        elif took < BATCH_SECONDS / 4:
            self._size = min(BATCH_MAX, self._size * 2)
        due_at = stepped.due_at
        if due_at is not None and stepped.operation is None and due_at <= now:
            due_at = again  # another scheduler has it
        self._next_at = due_at
        self._tell(stepped.changed, now)
        operation = stepped.operation
        return operation is not None and bool(stepped.changed) and _lets_start(operation)

    async def _decide(
        self, now: datetime, operation: BulkOperation, jobs: Sequence[Job]
    ) -> Sequence[Decision]:
        decisions = [
            bulk.decide(operation, job, now=now, all_are_kept=self._keeps_all(job.use_case))
            for job in jobs
        ]
        # A batch that the database undoes is decided anew.
        self._decided = {each.job.id: each for each in decisions if isinstance(each, Changed)}
        return decisions

    def _keeps_all(self, use_case: str) -> bool:
        config = self._limits.use_case_configs.get(use_case)
        return config is not None and config.history is KeptAttempts.ALL

    def _tell(self, changed: frozenset[UUID], now: datetime) -> None:
        decided, self._decided = self._decided, {}
        told = [each for job_id, each in decided.items() if job_id in changed]
        for each in told:
            for fact in tell(each.job, each.event, each.change.job, at=now):
                self._telemetry.record(fact)
        workers = {each.job.worker_id for each in told if each.change.job.cancel_requested}
        for worker_id in sorted(name for name in workers if name is not None):
            self._signal.notify(cancellation(worker_id))


def _lets_start(operation: BulkOperation) -> bool:
    return operation.action not in (BulkAction.CANCEL, BulkAction.DELETE)
