"""Where the rig meets the package: everything that differs from commit to commit.

The rig runs the package of other commits too, so it asks what is there instead of knowing it.
When a port or the scheduler's arguments change, this is the one module to adapt.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from async_jobs.application.settings import SchedulerSettings
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.job import Job
from async_jobs.domain.limits import Limits
from async_jobs.domain.scheduling import Candidate
from async_jobs.ports.workers import WorkerInfo, Workers
from benchmarks.fairness.ready import Ready, Shown
from benchmarks.systems.moved import found

__all__ = ["Heads", "HeadsQuery", "Outbox", "Success", "Upcoming"]
"""What comes from other modules at other commits, for those who import it from here."""

if TYPE_CHECKING:
    from async_jobs.ports.leases import Heads, HeadsQuery, Success
    from async_jobs.ports.queue import Outbox
    from async_jobs.ports.upkeep import Upcoming
else:
    Outbox = None
    Heads = found("Heads", "ports.leases", "ports.store")
    HeadsQuery = found("HeadsQuery", "ports.leases", "ports.store")
    Success = found("Success", "ports.leases", "ports.store")
    Upcoming = found("Upcoming", "ports.upkeep", "ports.store")

Scheduler: Any = found("Scheduler", "application.scheduling.scheduler", "application.scheduler")
Room: Any = found("Room", "application.working.room", "application.room")
IS_TOLD_OF_OUTBOXES = "outbox_of" in inspect.signature(Scheduler.__init__).parameters
"""Whether a scheduler is told which queues are outboxes, and does not ask them."""
KEEPS_PLACES = "lanes" in inspect.signature(Room.__init__).parameters
"""Whether a worker divides its free places among its lanes, and keeps those of an empty one."""
ANNOUNCES_RUN_TIMES = any(each.name == "run_times" for each in fields(WorkerInfo))
KNOWS_TOLERANCES = "tolerance_seconds" in Candidate._fields
KNOWS_TYPES = "type" in Candidate._fields
NAMES_TENANTS = any(each.name == "tenants" for each in fields(HeadsQuery))
RUNNING_COUNT: Any = found("RunningCount", "domain.turns", "ports.store")
KNOWS_STRAYS = "strays" in RUNNING_COUNT._fields


class World(NamedTuple):
    """What a scheduler needs of the rig."""

    config: Limits
    store: Any
    lane_of: Callable[[str], Any]
    clock: Any
    chance: Any
    signal: Any
    workers: Workers
    telemetry: Any
    settings: SchedulerSettings


def scheduler(world: World) -> Any:
    """Return the application's scheduler, on the rig's store, lanes, workers and clock."""
    more: dict[str, Any] = {"outbox_of": world.lane_of} if IS_TOLD_OF_OUTBOXES else {}
    return Scheduler(
        world.config,
        world.store,
        world.lane_of,
        clock=world.clock,
        chance=world.chance,
        signal=world.signal,
        workers=world.workers,
        telemetry=world.telemetry,
        settings=world.settings,
        **more,
    )


def worker_info(
    *,
    name: str,
    queues: tuple[str, ...],
    slots: int,
    busy: int,
    run_times: Mapping[str, float],
    seen_at: datetime,
    alive_until: datetime,
) -> WorkerInfo:
    """Return what a worker announces; the mean run times if the register has a place for them."""
    more: dict[str, Any] = {"run_times": dict(run_times)} if ANNOUNCES_RUN_TIMES else {}
    return WorkerInfo(
        worker_id=name,
        queues=queues,
        slots=slots,
        busy=busy,
        host="virtual",
        version="0",
        seen_at=seen_at,
        alive_until=alive_until,
        **more,
    )


def candidate(job: Job) -> Candidate:
    """Return what a scheduler is shown of a ready job."""
    more: dict[str, Any] = {"type": job.type} if KNOWS_TYPES else {}
    if KNOWS_TOLERANCES:
        more["tolerance_seconds"] = job.delay_tolerance.total_seconds()
    return Candidate(
        id=job.id,
        tenant_id=job.tenant_id,
        queue=job.queue,
        priority=job.priority,
        deadline_at=job.deadline_at,
        lease_seq=job.lease_seq,
        **more,
    )


def heads(ready: Ready, query: HeadsQuery, now: datetime) -> Heads:
    """Return the bounded view of a use case's ready jobs, as the Postgres adapter has it."""
    named: tuple[str, ...] = getattr(query, "tenants", ())
    pressing = _pressing(ready, query, now)
    counts = Counter(job.tenant_id for job, _ in pressing)
    known = dict.fromkeys([*named, *counts])
    walk: list[str] = []
    resume = ""
    if len(pressing) >= query.limit:
        walk, resume = _walk(ready, query, len(known))
    shown = dict.fromkeys([*known, *walk])
    per_tenant = max(1, 2 * query.limit // max(1, len(shown)))
    seen: dict[UUID, Candidate] = {}
    for tenant in shown:
        most = min(query.limit, counts[tenant] + per_tenant)
        due = ((job.id, each) for job, each in ready.of(tenant) if job.run_at <= now)
        seen.update(islice(due, most))
    if NAMES_TENANTS:
        urgent = (each for each in pressing if each.job.deadline_at >= now >= each.job.run_at)
        seen.update((job.id, each) for job, each in urgent)
    late: tuple[Candidate, ...] = ()
    if query.late_policy is LatePolicy.EXPIRE:
        over = (each for each, _ in ready.by_deadline() if each.deadline_at < now)
        late = tuple(candidate(job) for job in islice(over, query.limit))
    return Heads(ready=tuple(seen.values()), late=late, resume=resume)


def _pressing(ready: Ready, query: HeadsQuery, now: datetime) -> list[Shown]:
    """Return the most urgent jobs.

    With named tenants these are those that can still be on time, and what is past its deadline
    comes behind them; without, the deadline alone decides.
    """
    urgent: Iterator[Shown] = ready.by_deadline()
    if NAMES_TENANTS:
        urgent = chain(ready.by_deadline(since=now), ready.past(now))
    return list(islice(urgent, query.limit))


def _walk(ready: Ready, query: HeadsQuery, known: int) -> tuple[list[str], str]:
    """Return the next tenants by name, the fewer, the more are known; and where it ended."""
    steps = max(query.limit + 1 - known, -(-query.limit // 8))
    walk = list(islice(ready.tenants(after=query.after), steps))
    return walk, walk[-1] if len(walk) == steps else ""


def running_counts(
    alike: tuple[str, str, str], *, claimants: Mapping[str | None, int], workers: Collection[str]
) -> Iterable[object]:
    """Return what runs of a tenant: how much each group of workers has claimed, and nobody has.

    Args:
        alike: the use case, tenant and queue.
        claimants: how much each worker has claimed, and how much nobody has.
        workers: who lives; where claims are counted by group, with its number.
    """
    unclaimed = claimants.get(None, 0)
    claimed = sum(claimants.values()) - unclaimed
    if not KNOWS_STRAYS:
        return [RUNNING_COUNT(*alike, claimed, unclaimed)]
    strays = sum(n for worker, n in claimants.items() if worker and worker not in workers)
    if not isinstance(workers, Mapping):
        return [RUNNING_COUNT(*alike, claimed, unclaimed, strays)]
    of_groups: Counter[int] = Counter()
    for worker, count in claimants.items():
        of_groups[workers.get(worker, 0)] += count
    counts = [
        RUNNING_COUNT(*alike, count, 0, 0, group) for group, count in of_groups.items() if group
    ]
    if of_groups[0]:
        counts.append(RUNNING_COUNT(*alike, of_groups[0] - unclaimed, unclaimed, strays))
    return counts
