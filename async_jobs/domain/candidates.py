"""Pending jobs as the scheduling policy sees them, and their order inside a tenant."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from async_jobs.domain.deadline import LatePolicy, is_late
from async_jobs.domain.lifecycle import next_lease_seq
from async_jobs.domain.pools import RUN_SECONDS

CRITICAL_SECONDS: Final = 10.0
"""A deadline so near decides, as far as rounds allow."""
PRESSING_PART: Final = 0.5
"""The part of its tolerance that a job may spend making way for others that cannot wait."""


class Candidate(NamedTuple):
    """What the policy needs to know of a pending job, and a lease of it has to compare.

    Instants are dear to read by the thousand, and when a job came due decides nothing any more:
    `is_due` says that it did.
    """

    id: UUID
    tenant_id: str
    queue: str
    priority: int
    deadline_at: datetime
    lease_seq: int
    tolerance_seconds: float
    type: str
    is_due: bool = True


class Urgency(IntEnum):
    """How a job stands to its deadline at an instant."""

    CRITICAL = 0
    """Its deadline is seconds away; or it is late in a use case that runs late jobs first."""
    PRESSING = 1
    """Half of its tolerance is used up."""
    LATE = 2
    """It missed its deadline in a use case that puts such jobs behind what presses."""
    RELAXED = 3
    """It can wait."""


RunSeconds: TypeAlias = Callable[[str], float]
"""How many seconds a job of a type is expected to hold a slot."""


def unknown_seconds(type_: str) -> float:
    """Return what a job of a type that nobody has seen is expected to take."""
    return RUN_SECONDS


class LeaseGrant(NamedTuple):
    """A lease as a compare-and-set: the values `advance(job, Leased(until))` would give."""

    job_id: UUID
    expected_lease_seq: int
    lease_seq: int
    until: datetime
    at: datetime


def grant(candidate: Candidate, *, until: datetime, now: datetime) -> LeaseGrant:
    """Return the lease of a chosen candidate."""
    seq = candidate.lease_seq
    return LeaseGrant(candidate.id, seq, next_lease_seq(seq), until, now)


by_deadline = attrgetter("deadline_at", "id")
_by_priority = attrgetter("priority")


def in_tenant_order(
    candidates: Iterable[Candidate], policy: LatePolicy, now: datetime
) -> list[Candidate]:
    """Return candidates in the order in which a store shows a tenant's: priority, deadline, id.

    Under the policy `sideline` every late job comes after every job still on time.
    """
    # A stable sort for each key, the first one last: what a store shows is mostly in order, and
    # sorting it again costs less than making one key of all.
    ordered = sorted(candidates, key=by_deadline)
    ordered.sort(key=_by_priority, reverse=True)
    if policy is LatePolicy.SIDELINE:
        ordered.sort(key=lambda candidate: is_late(candidate.deadline_at, now))
    return ordered


Contender: TypeAlias = tuple[Urgency, int, int, datetime, UUID, Candidate]
"""A job as it is ranked within its tenant: what goes first is least.

Urgency, priority (the higher, the less), order of magnitude of its run time if it is critical,
deadline, id; and the candidate.
"""


class Ranking:
    """Ranks jobs of one use case at one instant; quick for many.

    Priority orders what presses and what can wait, each for itself: it cannot make a tenant miss
    its own deadlines. Of what is critical the shorter kinds go first: more of it starts in time.
    """

    def __init__(
        self, policy: LatePolicy, now: datetime, run_seconds: RunSeconds = unknown_seconds
    ) -> None:
        self._sideline = policy is LatePolicy.SIDELINE
        self._now = now
        self._run_seconds = run_seconds
        self._critical_until = now + timedelta(seconds=CRITICAL_SECONDS)
        # Tolerances and types are few, and reckoning with instants is dear.
        self._pressing_until: dict[float, datetime] = {}
        self._sizes: dict[str, int] = {}
        self.has_late = False
        """Whether any job ranked so far is late and goes behind others."""

    def ranked(self, candidates: Iterable[Candidate]) -> list[Contender]:
        """Return the candidates with their ranks, in the order given."""
        critical_until, pressing_until = self._critical_until, self._pressing_until
        sizes, late_before = self._sizes, self._now if self._sideline else _NEVER
        contenders: list[Contender] = []
        for candidate in candidates:
            deadline_at = candidate.deadline_at
            size = 0
            if deadline_at <= critical_until:
                if deadline_at < late_before:
                    urgency = _LATE
                    self.has_late = True
                else:
                    urgency = _CRITICAL
                    size = sizes.get(candidate.type) or self._size(candidate.type)
            else:
                until = pressing_until.get(candidate.tolerance_seconds)
                if until is None:
                    until = self._half_of(candidate.tolerance_seconds)
                urgency = _PRESSING if deadline_at <= until else _RELAXED
            contenders.append(
                (urgency, -candidate.priority, size, deadline_at, candidate.id, candidate)
            )
        return contenders

    def _half_of(self, tolerance_seconds: float) -> datetime:
        until = self._now + timedelta(seconds=tolerance_seconds * PRESSING_PART)
        self._pressing_until[tolerance_seconds] = until
        return until

    def _size(self, type_: str) -> int:
        """Return the order of magnitude of a type's run time, in powers of two; above 0."""
        size = _SIZE_OF_A_SECOND + math.frexp(max(self._run_seconds(type_), 1e-9))[1]
        self._sizes[type_] = size
        return size


_NEVER = datetime.min.replace(tzinfo=UTC)
_SIZE_OF_A_SECOND = 64
_CRITICAL, _PRESSING, _LATE, _RELAXED = Urgency  # a look-up of each costs more
