"""The rules about order: which jobs of a tenant go first, and how tenants take turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import combinations

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.job import Job
from async_jobs.domain.limits import UNLIMITED, Limits
from tests.simulation.changes import is_buried
from tests.simulation.ledger import PENDING, Ledger
from tests.simulation.orders import Orders, Standing
from tests.simulation.records import Node, Totals, short
from tests.simulation.rulings import Rulings

CRITICAL = timedelta(seconds=10)
SLACK = 40
"""Starts that are nobody's turn: how far ahead urgency may run, and what is not known exactly."""
STARTS_BETWEEN_LATE = 64


class Rank(IntEnum):
    """How a job stands to its deadline."""

    CRITICAL = 0
    PRESSING = 1
    LATE = 2
    RELAXED = 3


class Turns:
    """Holds what a scheduler's turn has leased against what waited.

    Attributes:
        slots: of all workers; None while something is in trouble, or not known to be sound.
    """

    def __init__(
        self, limits: Limits, ledger: Ledger, orders: Orders, rulings: Rulings, totals: Totals
    ) -> None:
        self._limits = limits
        self._ledger = ledger
        self._orders = orders
        self._require = rulings.require
        self._totals = totals
        self._leases = 0
        self._served: set[str] = set()
        """Tenants of which anything was ever leased."""
        self._passed: defaultdict[tuple[str, str], int] = defaultdict(int)
        """Starts of others while a newcomer waited in a use case."""
        self._apart: dict[tuple[str, str, str], float] = {}
        """Starts ÷ weight of one tenant beyond another's while both waited in a use case."""
        self.slots: int | None = None

    def trouble(self) -> None:
        """Begin anew: something goes wrong."""
        self.slots = None
        self._passed.clear()
        self._apart.clear()

    def took(self, leased: Collection[Job], seen: Collection[Job], at: datetime, by: Node) -> None:
        """Take note of a turn.

        Args:
            leased: what it leased, as it was before.
            seen: every job that was ready and visible to it, those included.
            at: its instant.
            by: who took it.
        """
        known = self._orders.known_to(by)
        taken = {row.id for row in leased}
        left = [row for row in seen if row.id not in taken and self._still_waits(row, at)]
        self._check_pauses(leased, left, known, at)
        left = [row for row in left if not self._orders.may_wait(row, known)]
        self._leases += len(leased)
        self._check_own_order(leased, left, at)
        if self.slots is not None:
            for use_case in {row.use_case for row in seen}:
                self._check_others(use_case, leased, left, at, known)
        self._served.update(row.tenant_id for row in leased)

    def _still_waits(self, row: Job, at: datetime) -> bool:
        now = self._ledger.rows.get(row.id)
        waits = now is not None and now.status is PENDING and now.lease_seq == row.lease_seq
        return waits and not is_buried(row, self._limits, at)

    def _check_pauses(
        self,
        leased: Iterable[Job],
        left: Iterable[Job],
        known: Sequence[Standing],
        at: datetime,
    ) -> None:
        """S21: what operators have paused does not start."""
        for row in leased:
            paused = self._orders.must_wait(row, known, at)
            self._require(not paused, "S21", f"{short(row.id)} was leased, and is paused")
        self._totals.bounds["S21"] += sum(self._orders.must_wait(row, known, at) for row in left)

    def rank(self, row: Job, at: datetime) -> Rank:
        """Return how a job stands at an instant."""
        sidelined = self._limits.use_case_configs[row.use_case].late_policy is LatePolicy.SIDELINE
        if sidelined and row.deadline_at < at:
            return Rank.LATE
        if row.deadline_at <= at + CRITICAL:
            return Rank.CRITICAL
        presses = row.deadline_at <= at + row.delay_tolerance / 2
        return Rank.PRESSING if presses else Rank.RELAXED

    # --- one tenant ---

    def _check_own_order(self, leased: Iterable[Job], left: Iterable[Job], at: datetime) -> None:
        """S14: what presses goes first, then priority, then the deadline."""
        lanes: defaultdict[tuple[str, str, str], list[Job]] = defaultdict(list)
        for row in leased:
            # Of many starts one is a late job's, whatever else waits.
            if self.rank(row, at) is not Rank.LATE or self._leases < STARTS_BETWEEN_LATE:
                lanes[row.tenant_id, row.use_case, row.queue].append(row)
        for row in left:
            for other in lanes.get((row.tenant_id, row.use_case, row.queue), ()):
                behind = self._goes_before(row, other, at)
                self._require(not behind, "S14", f"{short(row.id)} was left behind")

    def _goes_before(self, row: Job, other: Job, at: datetime) -> bool:
        mine, its = self.rank(row, at), self.rank(other, at)
        if (mine, -row.priority) != (its, -other.priority):
            return (mine, -row.priority) < (its, -other.priority)
        if mine is Rank.CRITICAL and row.type != other.type:
            return False  # the shorter kind goes first, and nobody here knows which that is
        return (row.deadline_at, row.id) < (other.deadline_at, other.id)

    # --- several tenants ---

    def _check_others(
        self,
        use_case: str,
        leased: Iterable[Job],
        left: Iterable[Job],
        at: datetime,
        known: Sequence[Standing],
    ) -> None:
        """L5, in a sound system."""
        best: dict[str, Rank] = {}
        for row in left:
            if row.use_case == use_case and self._has_room(row.tenant_id, known):
                # What is late goes with what can wait.
                rank = self.rank(row, at)
                rank = Rank.RELAXED if rank is Rank.LATE else rank
                best[row.tenant_id] = min(best.get(row.tenant_id, rank), rank)
        starts: defaultdict[str, list[Rank]] = defaultdict(list)
        elsewhere: set[str] = set()
        for row in leased:
            if row.use_case == use_case:
                starts[row.tenant_id].append(self.rank(row, at))
            else:
                elsewhere.add(row.tenant_id)
        self._check_newcomers(use_case, best, starts)
        self._check_pairs(use_case, best, starts, elsewhere)

    def _has_room(self, tenant: str, known: Sequence[Standing]) -> bool:
        quota = self._orders.fewest_of_tenant(tenant, known)
        return quota is None or self._ledger.tenant_running[tenant] < quota

    def _weight(self, tenant: str) -> float:
        return self._limits.per_tenant_quotas.get(tenant, UNLIMITED).weight

    def _check_newcomers(
        self, use_case: str, best: Mapping[str, Rank], starts: Mapping[str, list[Rank]]
    ) -> None:
        """F4: who never had anything waits for about one round of the others.

        What is critical, or presses more, may go first, and does not count.
        """
        assert self.slots is not None
        for tenant, rank in best.items():
            if tenant in self._served or tenant in starts:
                continue
            others = [each for t, ranks in starts.items() if t != tenant for each in ranks]
            self._passed[use_case, tenant] += sum(
                each >= rank and each is not Rank.CRITICAL for each in others
            )
            weights = sum(max(1.0, self._weight(t) / self._weight(tenant)) for t in best)
            passed = self._passed[use_case, tenant]
            self._totals.bounds["L5 newcomers"] += 1
            told = f"{passed} others' jobs of {use_case} began while the first of {tenant} waited"
            self._require(passed <= weights + self.slots + SLACK, "L5", told)
        for waiting in [key for key in self._passed if key[0] == use_case]:
            if waiting[1] not in best or waiting[1] in starts:
                del self._passed[waiting]

    def _check_pairs(
        self,
        use_case: str,
        best: Mapping[str, Rank],
        starts: Mapping[str, list[Rank]],
        elsewhere: Collection[str],
    ) -> None:
        """F2: of two that wait without pause, with jobs as urgent, neither gets ahead for ever."""
        assert self.slots is not None
        eligible = sorted(best.keys() - elsewhere)
        pairs: dict[tuple[str, str, str], float] = {}
        for one, other in combinations(eligible, 2):
            if best[one] != best[other] or best[one] is Rank.CRITICAL:
                continue
            key = (use_case, one, other)
            had = [
                sum(r is not Rank.CRITICAL for r in starts.get(t, ())) / self._weight(t)
                for t in (one, other)
            ]
            pairs[key] = self._apart.get(key, 0.0) + had[0] - had[1]
            self._totals.bounds["L5 pairs"] += 1
            told = f"{one} had {pairs[key]:+.0f} jobs of {use_case} more than {other}; both waited"
            self._require(abs(pairs[key]) <= SLACK + self.slots, "L5", told)
        for key in [key for key in self._apart if key[0] == use_case]:
            del self._apart[key]
        self._apart.update(pairs)
