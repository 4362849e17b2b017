"""The instruments of what a scheduler looks at now and then: backlog, slots and shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from async_jobs.adapters.telemetry.measuring import Instrument, Measurement, surveyed
from async_jobs.domain.backlog import QueueLoad, TenantShare, UseCaseLoad
from async_jobs.domain.outlook import COUNT_MAX
from async_jobs.domain.readings import BacklogSurveyed, SharesSurveyed


def _of_use_cases(
    name: str, unit: str, text: str, value: Callable[[UseCaseLoad], float]
) -> Instrument:
    def read(fact: BacklogSurveyed) -> Iterable[Measurement]:
        return [Measurement(value(each), (each.use_case,)) for each in fact.use_cases]

    return surveyed(name, unit, text, ("use_case",), BacklogSurveyed, read)


def _of_queues(name: str, unit: str, text: str, value: Callable[[QueueLoad], float]) -> Instrument:
    def read(fact: BacklogSurveyed) -> Iterable[Measurement]:
        return [Measurement(value(each), (each.queue,)) for each in fact.queues]

    return surveyed(f"queue.{name}", unit, text, ("queue",), BacklogSurveyed, read)


def _of_tenants(
    name: str,
    text: str,
    label: str,
    shares: Callable[[SharesSurveyed], Iterable[TenantShare]],
    value: Callable[[TenantShare], float],
) -> Instrument:
    def read(fact: SharesSurveyed) -> Iterable[Measurement]:
        return [Measurement(value(each), (each.of,), each.tenant_id) for each in shares(fact)]

    return surveyed(f"share.{name}", "1", text, (label,), SharesSurveyed, read, by_tenant=True)


def _jobs(fact: BacklogSurveyed) -> Iterable[Measurement]:
    for each in fact.use_cases:
        yield Measurement(each.ready, (each.use_case, "ready"))
        yield Measurement(each.overdue, (each.use_case, "overdue"))
        yield Measurement(each.scheduled, (each.use_case, "scheduled"))


def _seen(fact: BacklogSurveyed) -> Iterable[Measurement]:
    return [Measurement(fact.at.timestamp())] if fact.use_cases else []


SURVEYED: Final[tuple[Instrument, ...]] = (
    surveyed(
        "backlog.seen_timestamp",
        "s",
        "When a scheduler looked at all that waits, for the gauges below, in seconds since 1970",
        (),
        BacklogSurveyed,
        _seen,
    ),
    surveyed(
        "backlog.jobs",
        "{job}",
        f"Jobs that wait: due, late, or due later; counted up to {COUNT_MAX:,}",
        ("use_case", "state"),
        BacklogSurveyed,
        _jobs,
    ),
    _of_use_cases(
        "backlog.oldest_overdue",
        "s",
        "For how long the job that is late for longest should have started",
        lambda each: each.oldest_overdue_seconds,
    ),
    _of_use_cases(
        "backlog.required_rate",
        "{job}/s",
        "Starts per second that the deadlines of all that waits ask for",
        lambda each: each.required_rate,
    ),
    _of_use_cases(
        "capacity.rate",
        "{job}/s",
        "Starts per second that slots and limit allow",
        lambda each: each.capacity_rate,
    ),
    _of_use_cases("capacity.limit", "{job}", "Jobs that may run", lambda each: each.limit),
    _of_use_cases(
        "capacity.running", "{job}", "Jobs that run, handed off or begun", lambda each: each.running
    ),
    _of_use_cases(
        "capacity.unclaimed",
        "{job}",
        "Jobs that are handed off and not begun",
        lambda each: each.unclaimed,
    ),
    _of_queues("workers", "{worker}", "Live workers that receive it", lambda each: each.workers),
    _of_queues("slots", "{slot}", "Slots of live workers that receive it", lambda each: each.slots),
    _of_queues(
        "slots_busy",
        "{slot}",
        "Slots that jobs have begun in, with those of queues that share them",
        lambda each: each.busy,
    ),
    _of_queues(
        "slots_required",
        "{slot}",
        "Slots that the deadlines of all that waits for them ask for, within the limits",
        lambda each: each.required,
    ),
    _of_queues(
        "unclaimed", "{job}", "Jobs handed off on it and not begun", lambda each: each.unclaimed
    ),
    _of_tenants(
        "capacity_entitled",
        "Part of a use case's capacity that is a tenant's by its weight, while somebody waits",
        "use_case",
        lambda fact: fact.capacity,
        lambda each: each.entitled,
    ),
    _of_tenants(
        "capacity_used",
        "Part of what runs of a use case that is a tenant's, while somebody waits",
        "use_case",
        lambda fact: fact.capacity,
        lambda each: each.used,
    ),
    _of_tenants(
        "slots_entitled",
        "Part of the slots of a queue that is a tenant's by its weight, while somebody waits",
        "queue",
        lambda fact: fact.slots,
        lambda each: each.entitled,
    ),
    _of_tenants(
        "slots_used",
        "Part of what runs in the slots of a queue that is a tenant's, while somebody waits",
        "queue",
        lambda fact: fact.slots,
        lambda each: each.used,
    ),
)
