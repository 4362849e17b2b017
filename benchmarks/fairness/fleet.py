"""Simulated workers: they announce themselves, claim first in, first out, and hold slots."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from async_jobs.domain.job import Job
from async_jobs.domain.lifecycle import Claimed
from async_jobs.ports.workers import Workers
from benchmarks.fairness import shapes
from benchmarks.fairness.lanes import Lane
from benchmarks.fairness.world import SECOND

ANNOUNCE = 5 * SECOND
POLL = 1 * SECOND
ALIVE = timedelta(seconds=15)
FOR_EVER = timedelta(days=3_000)
NEVER = 1 << 62


class Worker:
    """One process.

    Where the application divides a worker's free places among its lanes, so does this one: what
    is kept for a lane stays kept until something came or the wait for it is over (`Room`).

    Args:
        name: its id.
        slots: how many jobs it can execute at once.
        lanes: what it receives from.
        keeps_places: whether places are kept for empty lanes.
    """

    def __init__(self, name: str, slots: int, lanes: Sequence[Lane], *, keeps_places: bool) -> None:
        self.name = name
        self.slots = slots
        self.busy = 0
        self._lanes = lanes
        self._keeps_places = keeps_places and len(lanes) > 1
        self._line = deque(lanes)
        self._kept: dict[str, tuple[Lane, int, int]] = {}  # lane, places, until when
        self._kept_places = 0
        self._run_times: dict[str, tuple[int, float]] = {}

    @property
    def run_times(self) -> Mapping[str, float]:
        """The mean seconds of what it ran, by type."""
        return {kind: total / count for kind, (count, total) in self._run_times.items()}

    @property
    def next_timeout(self) -> int:
        """When it stops waiting for the first of its lanes."""
        return min((until for *_, until in self._kept.values()), default=NEVER)

    def claim(self, claimed: Claimed, now: datetime, at: int) -> list[Job]:
        """Claim what there is and the slots allow."""
        jobs = self._from_kept_places if self._keeps_places else self._from_all
        return jobs(claimed, now, at)

    def ended(self, kind: str, length: int) -> None:
        """Free the slot of a job that ran for so long."""
        self.busy -= 1
        count, total = self._run_times.get(kind, (0, 0.0))
        self._run_times[kind] = (count + 1, total + length / SECOND)

    def _from_all(self, claimed: Claimed, now: datetime, at: int) -> list[Job]:
        jobs: list[Job] = []
        empty = 0
        while self.busy < self.slots and empty < len(self._lanes):
            lane = self._line[0]
            self._line.rotate(-1)
            job = lane.take(claimed, now)
            if job is None:
                empty += 1
                continue
            empty = 0
            self.busy += 1
            jobs.append(job)
        return jobs

    def _from_kept_places(self, claimed: Claimed, now: datetime, at: int) -> list[Job]:
        jobs: list[Job] = []
        for name in [n for n, (*_, until) in self._kept.items() if until <= at]:
            self._let_go(name)
        moved = True
        while moved:
            moved = False
            for name, (lane, places, _) in list(self._kept.items()):
                took = 0
                while took < places and (job := lane.take(claimed, now)) is not None:
                    took += 1
                    jobs.append(job)
                if took:
                    self.busy += took
                    self._let_go(name)
                    moved = True
            while self._line and (free := self.slots - self.busy - self._kept_places) > 0:
                lane = self._line.popleft()
                places = max(1, free // len(self._lanes))
                self._kept[lane.name] = (lane, places, at + POLL)
                self._kept_places += places
                moved = True
        return jobs

    def _let_go(self, name: str) -> None:
        lane, places, _ = self._kept.pop(name)
        self._kept_places -= places
        self._line.append(lane)


class Fleet:
    """All workers and what they execute.

    Args:
        slots: of all workers, divided as evenly as can be.
        workers: how many.
        lanes: what each of them receives from.
        register: where they announce themselves.
    """

    def __init__(self, slots: int, workers: int, lanes: Sequence[Lane], register: Workers) -> None:
        parts = [slots // workers + (number < slots % workers) for number in range(workers)]
        self._workers = [
            Worker(f"worker-{number}", part, lanes, keeps_places=shapes.KEEPS_PLACES)
            for number, part in enumerate(parts)
        ]
        self._queues = tuple(lane.name for lane in lanes)
        self._register = register
        self._ends: list[tuple[int, int, Job, Worker, int]] = []
        self._starts = 0
        self.next_announcement = 0

    @property
    def next_event(self) -> int:
        """When the next job ends, a wait for a lane is over, or the next announcement is due."""
        end = self._ends[0][0] if self._ends else NEVER
        timeout = min(worker.next_timeout for worker in self._workers)
        return min(end, timeout, self.next_announcement)

    @property
    def busy(self) -> int:
        """How many slots are held."""
        return len(self._ends)

    async def announce(self, now: datetime, at: int) -> None:
        """Let all workers announce themselves, if it is time."""
        if at < self.next_announcement:
            return
        self.next_announcement = at + ANNOUNCE
        for worker in self._workers:
            info = shapes.worker_info(
                name=worker.name,
                queues=self._queues,
                slots=worker.slots,
                busy=worker.busy,
                run_times=worker.run_times,
                seen_at=now,
                alive_until=now + ALIVE,
            )
            await self._register.announce(info)

    def claim(self, now: datetime, at: int, begin: Callable[[Job], int]) -> None:
        """Let the workers with free slots claim; `begin` tells how long a claimed job runs."""
        for worker in self._workers:
            claimed = Claimed(worker.name, now + FOR_EVER)
            for job in worker.claim(claimed, now, at):
                length = begin(job)
                self._starts += 1
                heapq.heappush(self._ends, (at + length, self._starts, job, worker, length))

    def ended(self, at: int) -> list[Job]:
        """Return what ends now, and free its slots."""
        jobs = []
        while self._ends and self._ends[0][0] <= at:
            _, _, job, worker, length = heapq.heappop(self._ends)
            worker.ended(job.type, length)
            jobs.append(job)
        return jobs
