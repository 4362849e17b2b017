"""Facts that are there to be counted and measured; one by one they are no news to anybody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from async_jobs.domain.backlog import QueueLoad, TenantShare, UseCaseLoad
from async_jobs.domain.facts import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Fact):
    """What only metrics want to hear of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDuplicate(Reading):
    """An enqueue found its job there already."""

    tenant_id: str
    use_case: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaRefused(Reading):
    """A job was not taken, because its tenant has as many pending jobs as it may have."""

    tenant_id: str
    use_case: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerTicked(Reading):
    """A scheduler has reaped, promoted and dispatched once."""

    took: timedelta
    leased: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotsTaken(Reading):
    """How many of a worker's slots are taken: all of them while a suspect wants it to itself."""

    queues: tuple[str, ...]
    slots: int
    taken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogSurveyed(Reading):
    """A scheduler has looked at all that waits; without use cases, it does so no longer."""

    use_cases: tuple[UseCaseLoad, ...] = ()
    queues: tuple[QueueLoad, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SharesSurveyed(Reading):
    """Who has and who should have how much of what somebody waits for, at one look."""

    capacity: tuple[TenantShare, ...] = ()
    slots: tuple[TenantShare, ...] = ()
