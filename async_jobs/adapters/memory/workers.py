"""The register of live workers, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from async_jobs.ports.workers import WorkerInfo


class MemoryWorkers:
    """Implements `Workers`."""

    def __init__(self) -> None:
        self._workers: dict[str, WorkerInfo] = {}

    async def announce(self, worker: WorkerInfo) -> None:
        """See `Workers`."""
        self._workers[worker.worker_id] = worker

    async def live(self, now: datetime) -> Sequence[WorkerInfo]:
        """See `Workers`."""
        live = (worker for worker in self._workers.values() if worker.alive_until > now)
        return sorted(live, key=lambda worker: worker.worker_id)

    async def withdraw(self, worker_id: str) -> None:
        """See `Workers`."""
        self._workers.pop(worker_id, None)
