"""Who is there: workers and schedulers as they tell of themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from async_jobs.domain.pools import Fleet
from async_jobs.domain.run_times import RunTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One worker process as it announced itself.

    Attributes:
        worker_id: new at every start, never a host name.
        queues: the lanes it receives from.
        slots: how many jobs it can execute at once.
        busy: how many it executes.
        seen_at: when it announced itself last.
        alive_until: when it counts as gone, unless it announces itself again.
        run_times: how many seconds an attempt of each job type ran in it lately, on average; of
            at most 256 types, and of none as long as nothing has ended.
        transport: what carries its hand-offs, e.g. `sqs`; empty where it does not say.
        types: the job types it has handlers for; None where it does not say.
    """

    worker_id: str
    queues: tuple[str, ...]
    slots: int
    busy: int
    host: str
    version: str
    seen_at: datetime
    alive_until: datetime
    run_times: Mapping[str, float] = field(default_factory=dict, hash=False)
    transport: str = ""
    types: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerInfo:
    """One scheduler process as it announced itself.

    Attributes:
        scheduler_id: new at every start, never a host name.
        ticked_at: when it announced itself last, at the end of a tick.
        tick_seconds: how long that tick took.
        alive_until: when it counts as gone, unless it announces itself again.
        transport: what carries its hand-offs; empty where it does not say.
        leads: the use cases of which it held the turn in that tick.
        limits: the capacity it keeps of each use case (`max_concurrent`).
        settings: a digest of all limits by which it schedules: two schedulers with the same one
            decide alike.
        start_rates: how many jobs of a use case it started in a second lately; without those of
            which it started none.
        hand_off_seconds: how long it expects a hand-off to take.
        turnovers: how long jobs of each use case hold a slot, as `Turnover.saved` says it.
        closed: queues it leaves alone for a while, because their transport accepted nothing.
        measures: whether it looks at all that waits for gauges, unless another one does.
    """

    scheduler_id: str
    host: str
    version: str
    ticked_at: datetime
    tick_seconds: float
    alive_until: datetime
    transport: str = ""
    leads: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict, hash=False)
    settings: str = ""
    start_rates: Mapping[str, float] = field(default_factory=dict, hash=False)
    hand_off_seconds: float = 0.0
    turnovers: Mapping[str, Any] = field(default_factory=dict, hash=False)
    closed: tuple[str, ...] = ()
    measures: bool = False

    def is_alive(self, now: datetime) -> bool:
        """Tell whether it counts as alive at an instant."""
        return now < self.alive_until


def fleet_of(workers: Iterable[WorkerInfo], *, window_min: int) -> Fleet:
    """Return the slots of live workers."""
    live = tuple(workers)
    return Fleet.of(
        {worker.worker_id: (worker.queues, worker.slots) for worker in live},
        window_min=window_min,
        run_times=RunTimes.merged(worker.run_times for worker in live),
    )
