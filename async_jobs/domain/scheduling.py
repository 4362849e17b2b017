"""Which jobs to lease next, and for every other one why not.

`select` is the policy of one use case: who may run at all, and who gets its capacity.
`slots.share_slots` then divides the slots of a pool among all use cases whose jobs they can run.
Both choose alike (`choose`):

1. What presses goes before what can wait. A job presses when half of its tolerance is used up, and
   is critical when its deadline is seconds away. Late jobs go behind both, where the use case says
   so; what can wait loses nothing by it.
2. Tenants take turns in rounds, by the service they have had (`fairness.Contest`): a round is an
   average job's length for each unit of weight. The lowest round goes first.
3. Within a round the earliest deadline goes first. What is critical may run a number of rounds
   ahead, shorter kinds of work first, so that deadlines decide while nobody is harmed much.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from async_jobs.domain.candidates import (
    Candidate,
    Contender,
    LeaseGrant,
    Ranking,
    RunSeconds,
    Urgency,
    by_deadline,
    grant,
    in_tenant_order,
    unknown_seconds,
)
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.fairness import Contest, Quotas
from async_jobs.domain.limits import UNLIMITED, TenantQuota, UseCaseConfig
from async_jobs.domain.rounds import Choice, Lanes, Take, by_rank_deadline, choose

__all__ = [
    "Blocked",
    "Candidate",
    "Contender",
    "LeaseGrant",
    "Ranking",
    "Reason",
    "RunSeconds",
    "Selection",
    "SelectionRequest",
    "Urgency",
    "choose",
    "counted",
    "grant",
    "in_tenant_order",
    "passed_over",
    "select",
]


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
        candidates: its ready jobs as far as they are known, in any order.
        tenants_unheld: limited tenants that another scheduler is leasing for just now.
        contest: what its tenants have had of its capacity.
        run_seconds: how long its jobs are expected to hold a slot.
        explain: whether to say why the jobs that are not chosen wait.
    """

    config: UseCaseConfig
    now: datetime
    running: Mapping[str, int]
    tenant_running: Mapping[str, int]
    quotas: Quotas
    candidates: Collection[Candidate]
    tenants_unheld: AbstractSet[str] = frozenset()
    contest: Contest = field(default_factory=Contest)
    run_seconds: RunSeconds = unknown_seconds
    explain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The answer: `contenders` to lease, in order; `expired` to bury; the rest `blocked`, if asked.

    `waiting` are the tenants that could have used more of the capacity, `held_back` those of them
    whose jobs can wait while others press; `has_late` tells whether late jobs that go behind others
    were among the candidates. Where there is too little capacity, `lanes` are all eligible jobs, by
    tenant.
    """

    contenders: tuple[Contender, ...] = ()
    lanes: Lanes = field(default_factory=dict, compare=False, repr=False)
    expired: tuple[Candidate, ...] = ()
    blocked: Mapping[UUID, Blocked] = field(default_factory=dict)
    waiting: AbstractSet[str] = frozenset()
    held_back: AbstractSet[str] = frozenset()
    has_late: bool = False

    @property
    def chosen(self) -> tuple[Candidate, ...]:
        """The jobs to lease."""
        return tuple(contender[5] for contender in self.contenders)


# --- One use case --------------------------------------------------------------------------------


def select(request: SelectionRequest) -> Selection:
    """Choose what one use case may start now. Deterministic; the order of candidates is irrelevant.

    What there are slots for is another matter: see `slots.share_slots`.
    """
    triage = _Triage(request)
    free = max(0, request.config.max_concurrent - sum(request.running.values()))
    if len(triage.contenders) <= free:
        key = _in_one_row if triage.has_late else by_rank_deadline
        choice = Choice(sorted(triage.contenders, key=key), frozenset())
        lanes: Lanes = {}
    else:
        lanes = triage.lanes()
        choice = choose(
            lanes,
            counted(free),
            contest=request.contest,
            running=request.running,
            quotas=request.quotas,
            run_seconds=request.run_seconds,
        )
        if request.explain:
            why = passed_over(lanes, choice.chosen, Reason.USE_CASE_FULL)
            triage.blocked.update(why)
    return Selection(
        contenders=tuple(choice.contenders),
        lanes=lanes,
        expired=tuple(triage.expired),
        blocked=triage.blocked,
        waiting=choice.waiting,
        held_back=choice.held_back,
        has_late=triage.has_late,
    )


def counted(places: int) -> Take:
    """Return what gives so many places away, to whoever comes."""
    left = iter(range(places))
    return lambda candidate: None if next(left, None) is None else True


def _in_one_row(contender: Contender) -> tuple[bool, datetime, UUID]:
    return contender[0] is Urgency.LATE, contender[3], contender[4]


class _Triage:
    """The candidates sorted out: `contenders` are eligible, and no more than tenants may run."""

    def __init__(self, request: SelectionRequest) -> None:
        self.request = request
        self.expired: list[Candidate] = []
        self.blocked: dict[UUID, Blocked] = {}
        ranking = Ranking(request.config.late_policy, request.now, request.run_seconds)
        self.contenders = self._within_limits(ranking.ranked(self._eligible()))
        self.has_late = ranking.has_late

    def lanes(self) -> Lanes:
        """Return the contenders by tenant, in the tenant's own order."""
        lanes: defaultdict[str, list[Contender]] = defaultdict(list)
        for contender in self.contenders:
            lanes[contender[5].tenant_id].append(contender)
        for lane in lanes.values():
            lane.sort()
        return lanes

    def _eligible(self) -> Collection[Candidate]:
        """Take out what is not due or to be buried; of a paused use case nothing is left."""
        request, now = self.request, self.request.now
        candidates = request.candidates
        if not all(candidate.is_due for candidate in candidates):
            self._block((c for c in candidates if not c.is_due), Reason.NOT_DUE)
            candidates = [c for c in candidates if c.is_due]
        if request.config.late_policy is LatePolicy.EXPIRE:
            self.expired = sorted((c for c in candidates if c.deadline_at < now), key=by_deadline)
            candidates = [c for c in candidates if c.deadline_at >= now]
        if request.config.max_concurrent == 0:
            self._block(candidates, Reason.PAUSED)
            return ()
        return candidates

    def _within_limits(self, ranked: list[Contender]) -> list[Contender]:
        """Take out what a tenant may not run besides what goes before."""
        counts = Counter([contender[5].tenant_id for contender in ranked])
        rooms = {tenant: self._room(tenant) for tenant in counts}
        over = {t: room for t, room in rooms.items() if room is not None and room < counts[t]}
        if not over:
            return ranked
        lanes: dict[str, list[Contender]] = {tenant: [] for tenant in over}
        within: list[Contender] = []
        for contender in ranked:
            lanes.get(contender[5].tenant_id, within).append(contender)
        for tenant, lane in lanes.items():
            lane.sort()
            within += lane[: over[tenant]]
            reason = Reason.TENANT_FULL if self._quota(tenant).max_running else Reason.PAUSED
            self._block((contender[5] for contender in lane[over[tenant] :]), reason)
        return within

    def _quota(self, tenant: str) -> TenantQuota:
        return self.request.quotas.get(tenant, UNLIMITED)

    def _room(self, tenant: str) -> int | None:
        """Return how many more jobs the tenant may run; None is any number."""
        most = self._quota(tenant).max_running
        if most is None:
            return None
        if tenant in self.request.tenants_unheld:
            return 0
        return max(0, most - self.request.tenant_running.get(tenant, 0))

    def _block(self, candidates: Iterable[Candidate], reason: Reason) -> None:
        if self.request.explain:
            self.blocked.update((candidate.id, Blocked(reason)) for candidate in candidates)


def passed_over(lanes: Lanes, chosen: Sequence[Candidate], full: Reason) -> Mapping[UUID, Blocked]:
    """Say why eligible jobs had to wait: behind their own tenant's, for fairness, or for room."""
    taken = {candidate.id for candidate in chosen}
    latest: dict[str, datetime] = {}
    for c in chosen:
        latest[c.tenant_id] = max(latest.get(c.tenant_id, c.deadline_at), c.deadline_at)
    # The latest deadline that was served, and the latest of any other tenant's.
    ranked = sorted(((at, tenant) for tenant, at in latest.items()), reverse=True)[:2]
    blocked: dict[UUID, Blocked] = {}
    for tenant, lane in lanes.items():
        waiting = [contender for contender in lane if contender[4] not in taken]
        for position, (urgency, *_, candidate) in enumerate(waiting):
            late = urgency is Urgency.LATE
            if position:
                blocked[candidate.id] = Blocked(Reason.BEHIND, position)
            elif not late and any(t != tenant and candidate.deadline_at < at for at, t in ranked):
                blocked[candidate.id] = Blocked(Reason.FAIR_SHARE)
            else:
                blocked[candidate.id] = Blocked(full)
    return blocked
