"""Rounds: tenants that together want more than there is take turns by the service they have had."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from async_jobs.domain.candidates import Candidate, Contender, RunSeconds, Urgency
from async_jobs.domain.fairness import (
    MICROSECONDS,
    STARTS_BETWEEN_LATE,
    Contest,
    Quotas,
    virtual,
)

ROUNDS_AHEAD_MAX: Final = 40
"""How many rounds critical jobs may be ahead of their turn."""
PARTS_OF_A_ROUND: Final = 4
"""Tenants whose service differs by no more than such a part of a round are alike."""
ROUND_SECONDS_MIN, ROUND_SECONDS_MAX = 0.001, 60.0


ROUND_SECONDS: Final = 0.05
"""The length of a round while nobody knows how long jobs run: short, so that all are served."""

_PARTS_AHEAD_MAX = ROUNDS_AHEAD_MAX * PARTS_OF_A_ROUND
_CRITICAL, _PRESSING, _LATE, _RELAXED = Urgency  # a look-up of each costs more

Lanes: TypeAlias = Mapping[str, Sequence[Contender]]
"""Each tenant's jobs in its own order; no lane is empty."""

Take: TypeAlias = Callable[[Candidate], "bool | None"]
"""Takes a place for a job: False if there is none for this one, None if there is none at all."""


class Choice(NamedTuple):
    """What has a place, in order, and the tenants that could have used more.

    `held_back` are those of them whose turn would not have come by what they have had: their jobs
    can wait while others press.
    """

    contenders: Sequence[Contender]
    waiting: AbstractSet[str]
    held_back: AbstractSet[str] = frozenset()

    @property
    def chosen(self) -> list[Candidate]:
        """The jobs."""
        return [contender[5] for contender in self.contenders]


def choose(
    lanes: Lanes,
    take: Take,
    *,
    contest: Contest,
    running: Mapping[str, int],
    quotas: Quotas,
    run_seconds: RunSeconds,
) -> Choice:
    """Give places to the jobs of tenants that together want more than there is.

    Args:
        lanes: the jobs.
        take: gives the places.
        contest: what each tenant has had.
        running: what each tenant runs now; it counts as service that is being had.
        quotas: the tenants' weights.
        run_seconds: how long jobs are expected to run.
    """
    rounds = _Rounds(lanes, contest, running, quotas, run_seconds)
    entry, charge = rounds.entry, rounds.charge
    chosen: list[Contender] = []
    served: set[UUID] = set()
    late = [each for lane in lanes.values() for each in lane if each[0] is _LATE]
    for contender in _rescued(late, contest):
        if take(contender[5]):
            served.add(contender[4])
            chosen.append(contender)
            charge(contender[5].tenant_id)
    heads = [entry(lane[0], tenant, 0) for tenant, lane in lanes.items()]
    heapq.heapify(heads)
    while heads:
        *_, tenant, index = heads[0]
        lane = lanes[tenant]
        contender = lane[index]
        if not served or contender[4] not in served:
            taken = take(contender[5])
            if taken is None:
                break
            if taken:
                chosen.append(contender)
                charge(tenant)
        index += 1
        if index < len(lane):
            heapq.heapreplace(heads, entry(lane[index], tenant, index))
        else:
            heapq.heappop(heads)
    pressing = heads[0][0] if heads else 0
    held_back = {head[5] for head in heads if head[0] > pressing}
    return Choice(chosen, {head[5] for head in heads}, held_back)


def _rescued(late: Sequence[Contender], contest: Contest) -> Sequence[Contender]:
    """Return the late jobs that were passed over for long enough, the most overdue ones."""
    due = contest.passed_over // STARTS_BETWEEN_LATE
    return heapq.nsmallest(due, late, key=by_rank_deadline) if due and late else ()


by_rank_deadline = itemgetter(3, 4)
_Entry: TypeAlias = tuple[int, int, int, datetime, UUID, str, int]


class _Rounds:
    """Ranks the next job of each tenant: what goes first is least."""

    def __init__(
        self,
        lanes: Lanes,
        contest: Contest,
        running: Mapping[str, int],
        quotas: Quotas,
        run_seconds: RunSeconds,
    ) -> None:
        # Types are few.
        types = Counter(lane[0][5].type for lane in lanes.values())
        expected = math.fsum(run_seconds(type_) * count for type_, count in types.items())
        seconds = min(max(expected / max(1, len(lanes)), ROUND_SECONDS_MIN), ROUND_SECONDS_MAX)
        round_us = round(seconds * MICROSECONDS)
        self._part_us = round_us // PARTS_OF_A_ROUND
        # A start, and what runs, counts for a round; a tenant of twice the weight has two of them.
        self._steps = {tenant: virtual(round_us, tenant, quotas) or 1 for tenant in lanes}
        floor, times = contest.floor, contest.times
        # Where each one would stand after its next job: a light one reaches as far with less.
        self._ends = {
            tenant: max(0, times.get(tenant, floor) - floor) + (running.get(tenant, 0) + 1) * step
            for tenant, step in self._steps.items()
        }

    def charge(self, tenant: str) -> None:
        """Count a start."""
        self._ends[tenant] += self._steps[tenant]

    def entry(self, contender: Contender, tenant: str, index: int) -> _Entry:
        """Return the rank of a tenant's job among all, and which one it is."""
        urgency, _, size, deadline_at, job_id, _ = contender
        at = self._ends[tenant] // self._part_us
        if urgency is _RELAXED or urgency is _LATE:
            # A late job endangers nobody who can wait.
            return 1, at, 0, deadline_at, job_id, tenant, index
        if urgency is _CRITICAL:
            at = at - _PARTS_AHEAD_MAX if at > _PARTS_AHEAD_MAX else 0
            return 0, at, size, deadline_at, job_id, tenant, index
        return 0, at, _AFTER_ALL_SIZES, deadline_at, job_id, tenant, index


_AFTER_ALL_SIZES = 1 << 16
