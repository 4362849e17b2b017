"""Foresight: whether a job would start in time, from what waits and what can run it."""

from __future__ import annotations

from collections.abc import Iterable

from async_jobs.domain.controls import Effective
from async_jobs.domain.job import Job
from async_jobs.domain.limits import queue_of
from async_jobs.domain.outlook import COUNT_MAX, Demand, Outlook, Slots, foresee, together
from async_jobs.domain.pools import RUN_SECONDS, Fleet, pools_of
from async_jobs.domain.run_times import RunTimes
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.workers import WorkerInfo, Workers


async def outlook_of(
    job: Job, config: Effective, *, statistics: Statistics, workers: Workers
) -> Outlook:
    """Return the outlook of a job that was made just now and is not stored.

    Use cases share the slots of its pool when their own queues belong to it; jobs that were put
    on other queues than their use case's are taken for what the use case usually does.
    """
    use_cases = config.use_case_configs
    live = await workers.live(job.created_at)
    fleet = Fleet(pools=pools_of((each.queues, each.slots) for each in live))
    queues = fleet.pool_of(job.queue).queues
    sharing = {name for name, each in use_cases.items() if queue_of(name, each) in queues}
    due = await statistics.due_by({*sharing, job.use_case}, job.deadline_at, limit=COUNT_MAX)
    of_pool = _slots(each for each in live if not queues.isdisjoint(each.queues))
    of_queue = _slots(each for each in live if job.queue in each.queues)
    limit = 0 if config.is_paused(job.use_case, job) else use_cases[job.use_case].max_concurrent
    run_times = RunTimes.merged(each.run_times for each in live)
    return foresee(
        (
            Demand(together(due.values()), of_pool),
            Demand(due[job.use_case], of_queue.at_most(limit)),
        ),
        now=job.created_at,
        run_at=job.run_at,
        deadline_at=job.deadline_at,
        run_seconds=run_times.get(job.type, RUN_SECONDS),
    )


def _slots(workers: Iterable[WorkerInfo]) -> Slots:
    each = tuple(workers)
    return Slots(sum(worker.slots for worker in each), sum(worker.busy for worker in each))
