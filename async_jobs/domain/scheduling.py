"""Which jobs to lease next, and for every other one why not.

`select` is the whole policy of one use case: capacity, tenant limits, weighted fair shares,
earliest deadline first, and what to do with late jobs. `share_window` then cuts several use
cases that feed one queue down to the hand-offs that queue may hold.

Fairness is weighted max-min (water-filling; Bertsekas & Gallager, *Data Networks*, 6.5.2):
capacity rises evenly, in proportion to the weights, over all tenants that still want more.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from async_jobs.domain.deadline import LatePolicy, is_late
from async_jobs.domain.lifecycle import next_lease_seq
from async_jobs.domain.limits import UNLIMITED, TenantQuota, UseCaseConfig


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
    is_due: bool = True


class Reason(StrEnum):
    """Why an eligible-looking job was not chosen."""

    NOT_DUE = "not_due"
    PAUSED = "paused"
    TENANT_FULL = "tenant_full"
    USE_CASE_FULL = "use_case_full"
    WINDOW_FULL = "window_full"
    FAIR_SHARE = "fair_share"
    BEHIND = "behind"


class Blocked(NamedTuple):
    """A reason; for `BEHIND`, `ahead` jobs of the same tenant go first."""

    reason: Reason
    ahead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionRequest:
    """One use case at one instant.

    Attributes:
        config: its capacity and late policy.
        now: the instant that decides what is due and what is late.
        running: its running jobs, by tenant.
        tenant_running: running jobs of each limited tenant over all use cases.
        quotas: the tenants that are limited or weighted.
        window: how many more hand-offs its queue may hold.
        candidates: its ready jobs as far as they are known, in any order.
        tenants_unheld: limited tenants that another scheduler is leasing for just now.
        explain: whether to say why the jobs that are not chosen wait.
    """

    config: UseCaseConfig
    now: datetime
    running: Mapping[str, int]
    tenant_running: Mapping[str, int]
    quotas: Mapping[str, TenantQuota]
    window: int
    candidates: Collection[Candidate]
    tenants_unheld: AbstractSet[str] = frozenset()
    explain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The answer: `chosen` to lease, in order; `expired` to bury; the rest `blocked`, if asked."""

    chosen: tuple[Candidate, ...] = ()
    expired: tuple[Candidate, ...] = ()
    blocked: Mapping[UUID, Blocked] = field(default_factory=dict)


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


_by_deadline = attrgetter("deadline_at", "id")
_by_priority = attrgetter("priority")


def in_tenant_order(
    candidates: Iterable[Candidate], policy: LatePolicy, now: datetime
) -> list[Candidate]:
    """Return candidates in the order inside a tenant: priority, then deadline, then id.

    Under the policy `sideline` every late job comes after every job still on time.
    """
    # A stable sort for each key, the first one last: what a store shows is mostly in order, and
    # sorting it again costs less than making one key of all.
    ordered = sorted(candidates, key=_by_deadline)
    ordered.sort(key=_by_priority, reverse=True)
    if policy is LatePolicy.SIDELINE:
        ordered.sort(key=lambda candidate: is_late(candidate.deadline_at, now))
    return ordered


def fair_shares(
    capacity: int, demand: Mapping[str, int], weights: Mapping[str, float]
) -> Mapping[str, Fraction]:
    """Return each tenant's weighted max-min fair share of `capacity`, exactly.

    A tenant that wants less than its part keeps what it wants; what it leaves is divided among
    the others in proportion to their weights. Weights default to 1, and are taken as the
    decimal numbers they are written as: three weights of 0.1 divide 3 into ones.
    """
    parts = _whole_numbers({tenant: weights.get(tenant, 1.0) for tenant in demand})
    shares: dict[str, Fraction] = {}
    hungry = dict(demand)
    left, parts_left = capacity, sum(parts.values())
    while content := [t for t, wanted in hungry.items() if wanted * parts_left <= left * parts[t]]:
        for tenant in content:
            shares[tenant] = Fraction(hungry.pop(tenant))
        left -= sum(demand[tenant] for tenant in content)
        parts_left -= sum(parts[tenant] for tenant in content)
    # Most tenants weigh the same: a fraction is worked out once for each weight.
    share_of = {part: Fraction(left * part, parts_left) for part in {parts[t] for t in hungry}}
    return shares | {tenant: share_of[parts[tenant]] for tenant in hungry}


def _whole_numbers(weights: Mapping[str, float]) -> Mapping[str, int]:
    """Return whole numbers in the same proportion."""
    exact = {weight: _decimal(weight) for weight in set(weights.values())}
    scale = math.lcm(*(weight.denominator for weight in exact.values()))
    whole = {weight: int(fraction * scale) for weight, fraction in exact.items()}
    return {tenant: whole[weight] for tenant, weight in weights.items()}


@lru_cache(maxsize=4_096)
def _decimal(weight: float) -> Fraction:
    return Fraction(repr(weight))


def select(request: SelectionRequest) -> Selection:
    """Choose what to lease now. Pure and deterministic; the order of candidates is irrelevant."""
    triage = _Triage(request)
    free = request.config.max_concurrent - sum(request.running.values())
    capacity = max(0, min(free, request.window))
    if sum(map(len, triage.lanes.values())) <= capacity:
        chosen = triage.in_order(c for lane in triage.lanes.values() for c in lane)
    else:
        chosen = _contend(request, triage, capacity)
        if request.explain:
            full = Reason.USE_CASE_FULL if free <= request.window else Reason.WINDOW_FULL
            triage.blocked.update(_passed_over(triage, chosen, full))
    return Selection(chosen=tuple(chosen), expired=tuple(triage.expired), blocked=triage.blocked)


class _Triage:
    """The candidates sorted out: eligible ones in `lanes` by tenant, in the tenant's own order."""

    def __init__(self, request: SelectionRequest) -> None:
        self.request = request
        self.expired: list[Candidate] = []
        self.blocked: dict[UUID, Blocked] = {}
        self.lanes: dict[str, list[Candidate]] = {}
        self._sideline = request.config.late_policy is LatePolicy.SIDELINE
        expire = request.config.late_policy is LatePolicy.EXPIRE
        by_tenant: defaultdict[str, list[Candidate]] = defaultdict(list)
        for candidate in request.candidates:
            if not candidate.is_due:
                self._block([candidate], Reason.NOT_DUE)
            elif expire and is_late(candidate.deadline_at, request.now):
                self.expired.append(candidate)
            elif request.config.max_concurrent == 0:
                self._block([candidate], Reason.PAUSED)
            else:
                by_tenant[candidate.tenant_id].append(candidate)
        self.expired = self.in_order(self.expired)
        for tenant, candidates in by_tenant.items():
            self._limit(tenant, self.in_order(candidates))

    def in_order(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        return in_tenant_order(candidates, self.request.config.late_policy, self.request.now)

    def is_behind(self, candidate: Candidate) -> bool:
        """Tell whether the candidate is late where late jobs go last."""
        return self._sideline and is_late(candidate.deadline_at, self.request.now)

    def _limit(self, tenant: str, lane: list[Candidate]) -> None:
        limit = self.request.quotas.get(tenant, UNLIMITED).max_running
        room, reason = len(lane), Reason.TENANT_FULL
        if limit is not None:
            room = max(0, limit - self.request.tenant_running.get(tenant, 0))
            if tenant in self.request.tenants_unheld:
                room = 0
            if limit == 0:
                reason = Reason.PAUSED
        self._block(lane[room:], reason)
        if room:
            self.lanes[tenant] = lane[:room]

    def _block(self, candidates: Iterable[Candidate], reason: Reason) -> None:
        if self.request.explain:
            self.blocked.update((candidate.id, Blocked(reason)) for candidate in candidates)


def _contend(request: SelectionRequest, triage: _Triage, capacity: int) -> list[Candidate]:
    """Divide `capacity` places among tenants that together want more."""
    running = {t: request.running.get(t, 0) for t in request.running.keys() | triage.lanes.keys()}
    demand = {tenant: n + len(triage.lanes.get(tenant, ())) for tenant, n in running.items()}
    weights = {tenant: request.quotas.get(tenant, UNLIMITED).weight for tenant in demand}
    shares = fair_shares(request.config.max_concurrent, demand, weights)
    # Whole numbers are compared many times faster than fractions.
    ratios = {tenant: shares[tenant].as_integer_ratio() for tenant in triage.lanes}

    def head(tenant: str, index: int) -> tuple[bool, int, datetime, UUID, str, int]:
        candidate = triage.lanes[tenant][index]
        late = triage.is_behind(candidate)
        claim = _claim(running[tenant] + index, *ratios[tenant])
        return (late, claim, candidate.deadline_at, candidate.id, tenant, index)

    heads = [head(tenant, 0) for tenant in triage.lanes]
    heapq.heapify(heads)
    chosen: list[Candidate] = []
    while heads and len(chosen) < capacity:
        *_, tenant, index = heads[0]
        lane = triage.lanes[tenant]
        chosen.append(lane[index])
        if index + 1 < len(lane):
            heapq.heapreplace(heads, head(tenant, index + 1))
        else:
            heapq.heappop(heads)
    return chosen


def _claim(running: int, numerator: int, denominator: int) -> int:
    """Rank a tenant's next slot: 0 wholly within its share, 1 partly, 2 beyond it.

    Whole slots go first. Were a fraction as good as a whole, four tenants entitled to 1.25
    slots each could take 2, 2, 1 and 0.
    """
    if (running + 1) * denominator <= numerator:
        return 0
    return 1 if running * denominator < numerator else 2


def _passed_over(
    triage: _Triage, chosen: Sequence[Candidate], full: Reason
) -> Mapping[UUID, Blocked]:
    """Say why eligible jobs had to wait: behind their own tenant's, for fairness, or for room."""
    taken = {candidate.id for candidate in chosen}
    latest: dict[tuple[bool, str], datetime] = {}
    for c in chosen:
        key = (triage.is_behind(c), c.tenant_id)
        latest[key] = max(latest.get(key, c.deadline_at), c.deadline_at)
    # The latest deadline that was served, and the latest of any other tenant's.
    ranked: dict[bool, list[tuple[datetime, str]]] = {
        late: sorted(((d, t) for (at, t), d in latest.items() if at is late), reverse=True)[:2]
        for late in (False, True)
    }
    blocked: dict[UUID, Blocked] = {}
    for tenant, lane in triage.lanes.items():
        waiting = [candidate for candidate in lane if candidate.id not in taken]
        for position, candidate in enumerate(waiting):
            others = ranked[triage.is_behind(candidate)]
            if position:
                blocked[candidate.id] = Blocked(Reason.BEHIND, position)
            elif any(t != tenant and candidate.deadline_at < d for d, t in others):
                blocked[candidate.id] = Blocked(Reason.FAIR_SHARE)
            else:
                blocked[candidate.id] = Blocked(full)
    return blocked


def share_window(
    selections: Mapping[str, Selection], window: int, *, explain: bool = True
) -> Mapping[str, Selection]:
    """Cut the selections of use cases that feed one queue to `window` hand-offs in all.

    Each use case keeps the beginning of its own order; among them the earliest deadline goes
    first. What is cut is blocked by the window, if `explain` asks for it.
    """
    if sum(len(s.chosen) for s in selections.values()) <= window:
        return selections
    heads = [
        (s.chosen[0].deadline_at, s.chosen[0].id, name)
        for name, s in selections.items()
        if s.chosen
    ]
    heapq.heapify(heads)
    kept = dict.fromkeys(selections, 0)
    for _ in range(max(0, window)):
        *_, name = heads[0]
        kept[name] += 1
        if kept[name] < len(selections[name].chosen):
            following = selections[name].chosen[kept[name]]
            heapq.heapreplace(heads, (following.deadline_at, following.id, name))
        else:
            heapq.heappop(heads)
    return {name: _cut(each, kept[name], explain) for name, each in selections.items()}


def _cut(selection: Selection, keep: int, explain: bool) -> Selection:
    left_out = selection.chosen[keep:] if explain else ()
    return Selection(
        chosen=selection.chosen[:keep],
        expired=selection.expired,
        blocked={**selection.blocked, **{c.id: Blocked(Reason.WINDOW_FULL) for c in left_out}},
    )


def hand_off_window(*, unclaimed: int, live_slots: int, window_min: int) -> int:
    """Return how many more hand-offs a queue may hold.

    A deep queue destroys deadline order, because what is handed off cannot be overtaken. So
    unclaimed hand-offs stay at or below twice the live worker slots, or a small minimum, so
    that the first worker to come finds work.
    """
    return max(0, max(window_min, 2 * live_slots) - unclaimed)
