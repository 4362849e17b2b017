"""What keeps jobs waiting and fails nothing, seen from what processes tell and what is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from async_jobs.domain import facts
from async_jobs.domain.limits import Limits, queue_of
from async_jobs.domain.presence import SchedulerInfo, WorkerInfo

NO_TIME: Final = datetime.min.replace(tzinfo=UTC)
"""Stands for the instant of a trouble: without it, it is known again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What somebody knows who looks for troubles.

    Attributes:
        config: the use cases and tenants as they are configured here.
        workers: the live ones.
        transport: what carries the hand-offs of the scheduler that looks; empty leaves that out.
        stored: the use cases that jobs are stored of.
        used: queues that jobs wait in, or were handed off to.
        schedulers: the live ones, and the one that looks is not among them.
        types: the queues and types of jobs that wait.
    """

    config: Limits
    workers: Sequence[WorkerInfo]
    transport: str = ""
    stored: Collection[str] = ()
    used: Collection[str] = ()
    schedulers: Sequence[SchedulerInfo] = ()
    types: Collection[tuple[str, str]] = ()


def troubles(found: Findings) -> Iterator[facts.Fact]:
    """Yield every trouble there is, each once, without its instant."""
    configs = found.config.use_case_configs
    fed = {queue_of(name, each) for name, each in configs.items()}
    served = {queue for worker in found.workers for queue in worker.queues}
    for queue in sorted(set(found.used) - served):
        yield facts.QueueUnattended(at=NO_TIME, queue=queue)
    for queue in sorted(served - fed):
        yield facts.QueueUnfed(at=NO_TIME, queue=queue)
    yield from _transports(found, fed)
    for queue, type_ in sorted(set(found.types)):
        if is_unknown(type_, queue, found.workers):
            yield facts.TypeUnattended(at=NO_TIME, queue=queue, type=type_)
    for name in sorted(set(found.stored) - configs.keys()):
        yield facts.UseCaseUnknown(at=NO_TIME, use_case=name)
    for name, each in configs.items():
        if each.max_concurrent == 0:
            yield facts.UseCasePaused(at=NO_TIME, use_case=name)
    for scheduler in found.schedulers:
        names = differing(found.config, scheduler)
        if names is not None:
            yield facts.LimitsDiffer(
                at=NO_TIME,
                scheduler_id=scheduler.scheduler_id,
                host=scheduler.host,
                use_cases=names,
            )


def _transports(found: Findings, fed: Collection[str]) -> Iterator[facts.Fact]:
    differing = {
        (queue, worker.transport)
        for worker in found.workers
        if found.transport and worker.transport and worker.transport != found.transport
        for queue in set(fed).intersection(worker.queues)
    }
    for queue, other in sorted(differing):
        yield facts.TransportsDiffer(
            at=NO_TIME, queue=queue, scheduler=found.transport, worker=other
        )


def is_unknown(type_: str, queue: str, workers: Iterable[WorkerInfo]) -> bool:
    """Tell whether live workers receive a queue, and none of them knows a type.

    One that does not say which types it knows may know it.
    """
    receiving = [worker for worker in workers if queue in worker.queues]
    return bool(receiving) and all(
        worker.types is not None and type_ not in worker.types for worker in receiving
    )


def differing(config: Limits, scheduler: SchedulerInfo) -> tuple[str, ...] | None:
    """Return the use cases whose capacity is another for a scheduler; None where nothing differs.

    It is empty where something else differs, which may concern each of them.
    """
    if not scheduler.settings or scheduler.settings == digest_of(config):
        return None
    here = limits_of(config)
    names = [n for n in here.keys() | scheduler.limits if here.get(n) != scheduler.limits.get(n)]
    return tuple(sorted(names))


def limits_of(config: Limits) -> dict[str, int]:
    """Return the capacity of each use case."""
    return {name: each.max_concurrent for name, each in config.use_case_configs.items()}


def digest_of(config: Limits) -> str:
    """Return what two processes have in common if, and only if, they schedule by the same limits.

    What only an enqueue looks at is left out.
    """
    use_cases = [
        (name, each.max_concurrent, each.late_policy.value, queue_of(name, each))
        for name, each in sorted(config.use_case_configs.items())
    ]
    tenants = [
        (name, each.max_running, each.weight)
        for name, each in sorted(config.per_tenant_quotas.items())
        if each.max_running is not None or each.weight != 1
    ]
    digest = hashlib.blake2b(repr((use_cases, tenants)).encode(), digest_size=8)
    return digest.hexdigest()
