"""What each tenant has had of what it shares with others: the memory of the scheduling policy.

A tenant's virtual time is the service it received (slots × time, in microseconds) divided by its
weight. Whoever shares one thing, a pool of slots or the capacity of a use case, is in one contest,
and the least virtual time goes first, in rounds (`scheduling.choose`). Start-time fair queueing
(Goyal, Vin and Cheng 1996) and earliest eligible virtual deadline first (Stoica and Abdel-Wahab
1995) keep the same account; here it is taken from what a turn counts anyway, so that nobody has to
know how long a job will run.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from itertools import repeat
from typing import Final, TypeAlias

from async_jobs.domain.job import JsonValue
from async_jobs.domain.limits import UNLIMITED, TenantQuota
from async_jobs.domain.pools import Turnover, instant_of

MICROSECONDS = 1_000_000
_MICROSECOND = timedelta(microseconds=1)
STARTS_BETWEEN_LATE: Final = 64
"""While others are on time, one start after so many is of the job that is overdue for longest."""
# Whoever has looked away for longer, or for some intervals between two looks if they are longer,
# does not know what ran meanwhile, and charges no more.
GAP_MAX = timedelta(seconds=10)
_GAP_INTERVALS = 3
CONTESTED_WITHIN: Final = timedelta(seconds=30)
"""What a scheduler that lives has not counted for so long is not contested any more."""

Quotas: TypeAlias = Mapping[str, TenantQuota]


def virtual(service_us: int, tenant: str, quotas: Quotas) -> int:
    """Return service divided by the tenant's weight, in whole microseconds."""
    quota = quotas.get(tenant)
    if quota is None or quota.weight == 1:
        return service_us
    weight = exact_weight(quota.weight)
    return service_us * weight.denominator // weight.numerator


@lru_cache(maxsize=4_096)
def exact_weight(weight: float) -> Fraction:
    """Return a weight as the decimal number it is written as: three of 0.1 make 0.3."""
    return Fraction(repr(weight))


@dataclass(slots=True)
class Contest:
    """The tenants that wait for one and the same thing, and what each of them has had of it.

    A tenant that begins to wait stands where the one with the least stands: what it did not ask for
    is not saved up. One that stops waiting is remembered until the others have caught up with it.
    When nobody waits, all are content and equal.

    Who waits and is held back by something else, because its jobs can wait or because few slots
    receive its queue, does not hold the floor down: newcomers would stand there beside it, far
    below those who are served. It rises with the floor, as if it had just come.

    Attributes:
        floor: the least virtual time of any tenant that waits and is not held back; it never
            falls.
        times: virtual times beyond the floor, in microseconds; others stand on it.
        waiting: the tenants that wanted more than they got.
        held_back: those of them whom something else than what they have had keeps waiting.
        held: how many slots each tenant has held since `at`.
        at: when that was last counted; None before the first time.
        passed_over: starts for which late jobs waited, less those that theirs made up for.
        gap_max: what is charged at most for the time between two looks.
        is_restored: whether `held` and `at` are another scheduler's, who counted last.
    """

    floor: int = 0
    times: dict[str, int] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    held_back: set[str] = field(default_factory=set)
    held: Mapping[str, int] = field(default_factory=dict)
    at: datetime | None = None
    passed_over: int = 0
    gap_max: timedelta = GAP_MAX
    is_restored: bool = False

    def time_of(self, tenant: str) -> int:
        """Return where a tenant stands; on the floor if nothing else is known."""
        return max(self.floor, self.times.get(tenant, self.floor))

    def observe(self, running: Mapping[str, int], now: datetime, quotas: Quotas) -> None:
        """Charge what ran since the last turn, and note what runs now.

        What ended in between is charged up to now: nobody can look more closely than it turns.
        """
        if self.waiting and self.at is not None:
            elapsed_us = min(max(now - self.at, timedelta()), self.gap_max) // _MICROSECOND
            if elapsed_us:
                times, floor = self.times, self.floor
                for tenant, slots in self.held.items():
                    charge = virtual(slots * elapsed_us, tenant, quotas)
                    times[tenant] = max(floor, times.get(tenant, floor)) + charge
                # Whoever comes before the next choice stands where the others are by now.
                self._rise()
        self.held = running
        self.at = now
        self.is_restored = False

    def _rise(self) -> None:
        """Let the floor rise to the waiting tenant that had the least, and the rest with it."""
        times, before = self.times, repeat(self.floor)
        served = self.waiting - self.held_back if self.held_back else self.waiting
        if served:
            self.floor = max(self.floor, min(map(times.get, served, before)))
        if self.held_back:
            # What they have had beside each other still counts.
            least = min(map(times.get, self.held_back, before))
            if least < self.floor:
                for tenant in self.held_back:
                    times[tenant] += self.floor - least

    def pass_over(self, starts: int, late: int) -> None:
        """Count starts for which late jobs waited; each of the `late` ones makes up for many."""
        passes = self.passed_over + starts - late * (STARTS_BETWEEN_LATE + 1)
        # Nothing is saved up beyond a turn's worth.
        self.passed_over = min(max(0, passes), STARTS_BETWEEN_LATE**2)

    def conclude(
        self,
        chosen: Mapping[str, int],
        waiting: Collection[str],
        shown: Collection[str],
        held_back: Collection[str] = (),
    ) -> None:
        """Note what a turn has chosen, and who waits on.

        Args:
            chosen: how many jobs of each tenant.
            waiting: the tenants shown that could have used more.
            shown: the tenants of which it is known now whether they wait.
            held_back: those that wait for another reason than what they have had.
        """
        if chosen:
            held = dict(self.held)
            for tenant, count in chosen.items():
                held[tenant] = held.get(tenant, 0) + count
            self.held = held
        self.waiting.difference_update(shown)
        self.waiting.update(waiting)
        if self.held_back or held_back:
            self.held_back = (self.held_back.difference(shown).union(held_back)) & self.waiting
        if not self.waiting:
            self.times.clear()
            self.passed_over = 0
            return
        times = self.times
        for tenant in waiting:
            if tenant not in times:
                times[tenant] = self.floor
        self._rise()
        floor = self.floor
        done = [t for t, at in times.items() if at <= floor and t not in self.waiting]
        for tenant in done:
            del times[tenant]

    def most_owed(self, limit: int) -> tuple[str, ...]:
        """Return the waiting tenants that had the least, at most `limit`."""
        floor, times = self.floor, self.times
        # Many wait, and a key made for each costs most. Of many most stand on the floor.
        on_floor = [tenant for tenant in self.waiting if times.get(tenant, floor) <= floor]
        if len(on_floor) >= limit:
            return tuple(heapq.nsmallest(limit, on_floor))
        above = ((at, t) for t, at in times.items() if at > floor and t in self.waiting)
        others = heapq.nsmallest(limit - len(on_floor), above)
        return (*sorted(on_floor), *[tenant for _, tenant in others])


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one tenant stands in a contest.

    Attributes:
        share: its part of what is contested while the same tenants wait, from 0 to 1.
        service_seconds: slots × seconds ÷ weight it has had beyond the one that had the least.
        waits: whether it waits.
    """

    share: Fraction
    service_seconds: float
    waits: bool


def standing(contest: Contest, tenant: str, quotas: Quotas) -> Standing:
    """Return how a tenant stands, for screens and explanations."""
    weights = {
        each: exact_weight(quotas.get(each, UNLIMITED).weight)
        for each in {*contest.waiting, tenant}
    }
    return Standing(
        share=weights[tenant] / sum(weights.values()),
        service_seconds=(contest.time_of(tenant) - contest.floor) / MICROSECONDS,
        waits=tenant in contest.waiting,
    )


class ServiceMemory:
    """The contests of a scheduler: one for each pool of slots, one for each use case's capacity.

    Args:
        interval: how much time passes between two looks at most, as long as nothing fails.
    """

    def __init__(self, interval: timedelta = timedelta(seconds=1)) -> None:
        self._gap_max = max(GAP_MAX, _GAP_INTERVALS * interval)
        self._of_use_cases: dict[str, Contest] = {}
        self._of_pools: dict[str, Contest] = {}
        self._turnovers: dict[str, Turnover] = {}

    @property
    def queues(self) -> Collection[str]:
        """The queues of all pools it knows."""
        return self._of_pools.keys()

    def turnover(self, use_case: str) -> Turnover:
        """Return how long the use case's jobs hold a slot."""
        return self._turnovers.setdefault(use_case, Turnover())

    def use_case(self, name: str) -> Contest:
        """Return the contest for a use case's capacity."""
        contest = self._of_use_cases.get(name)
        if contest is None:
            contest = self._of_use_cases[name] = Contest(gap_max=self._gap_max)
        return contest

    @property
    def is_contested(self) -> bool:
        """Tell whether anybody waits: only then there is anything to remember."""
        contests = (*self._of_use_cases.values(), *self._of_pools.values())
        return any(contest.waiting for contest in contests)

    def looked_away(self, now: datetime) -> bool:
        """Tell whether it is too long ago that anything was counted here, or never was."""
        contests = [c for c in self._of_use_cases.values() if not c.is_restored]
        counted = [c.at for c in contests if c.at is not None]
        return not counted or now - max(counted) > self._gap_max

    def pool(self, queues: Iterable[str]) -> Contest:
        """Return the contest for the slots that serve these queues.

        Workers come and go: a pool that has a queue in common with a former one goes on with it.
        """
        names = sorted(queues)
        contest = next((self._of_pools[name] for name in names if name in self._of_pools), None)
        if contest is None:
            contest = Contest(gap_max=self._gap_max)
        elif any(c is contest and name not in names for name, c in self._of_pools.items()):
            # It shared slots with queues that have others now: from here on each is for itself.
            contest = replace(contest, times=dict(contest.times), waiting=set(contest.waiting))
        self._of_pools.update(dict.fromkeys(names, contest))
        return contest

    def restore(
        self, state: Mapping[str, JsonValue], *, counted_since: datetime | None = None
    ) -> None:
        """Take over what another scheduler has `saved`; what is no such thing is left out.

        Args:
            state: that.
            counted_since: leaves out contests that were counted last before this instant: they
                have ended since.
        """
        for kind, contests in (("use_cases", self._of_use_cases), ("pools", self._of_pools)):
            told = state.get(kind)
            if not isinstance(told, dict):
                continue
            for name, entry in told.items():
                contest = _restored(entry)
                if contest is not None and not _is_before(contest.at, counted_since):
                    contest.gap_max = self._gap_max
                    contests[name] = contest

    def saved(self) -> dict[str, JsonValue]:
        """Return what another scheduler needs to go on, as JSON; bounded by who waits."""
        return {
            "use_cases": {n: _saved(c) for n, c in self._of_use_cases.items() if c.waiting},
            "pools": {n: _saved(c) for n, c in self._of_pools.items() if c.waiting},
        }

    def saved_turnovers(self) -> dict[str, JsonValue]:
        """Return how long jobs of each use case hold a slot, as JSON; bounded by use cases."""
        return {name: each.saved() for name, each in self._turnovers.items() if each.is_known}

    def restore_turnovers(self, saved: Mapping[str, JsonValue]) -> None:
        """Take over what was saved; what is no such thing is left out."""
        for name, each in saved.items():
            turnover = Turnover.restored(each)
            if turnover is not None:
                self._turnovers[name] = turnover


def _is_before(at: datetime | None, instant: datetime | None) -> bool:
    return at is not None and instant is not None and at < instant


def _saved(contest: Contest) -> dict[str, JsonValue]:
    floor, at = contest.floor, contest.at
    ahead: dict[str, JsonValue] = {t: at - floor for t, at in contest.times.items() if at > floor}
    return {
        "ahead": ahead,
        "waiting": [*sorted(contest.waiting)],
        "held_back": [*sorted(contest.held_back)],
        "held": {tenant: slots for tenant, slots in contest.held.items() if slots},
        "at": None if at is None else at.isoformat(),
        "passed_over": contest.passed_over,
    }


def _restored(entry: JsonValue) -> Contest | None:
    if not isinstance(entry, dict):
        return None
    ahead, waiting = entry.get("ahead"), entry.get("waiting")
    if not isinstance(ahead, dict) or not isinstance(waiting, list):
        return None
    times = {tenant: us for tenant, us in ahead.items() if isinstance(us, int)}
    known = {tenant for tenant in waiting if isinstance(tenant, str)}
    held_back, held = entry.get("held_back"), entry.get("held")
    passed_over = _whole(entry.get("passed_over"), STARTS_BETWEEN_LATE**2)
    return Contest(
        times={**dict.fromkeys(known, 0), **times},
        waiting=known,
        held_back={t for t in held_back if isinstance(t, str) and t in known}
        if isinstance(held_back, list)
        else set(),
        held={t: _whole(n, _HELD_MAX) for t, n in held.items()} if isinstance(held, dict) else {},
        at=instant_of(entry.get("at")),
        passed_over=passed_over,
        is_restored=True,
    )


_HELD_MAX = 1_000_000


def _whole(value: JsonValue, most: int) -> int:
    """Return a count within its bounds; 0 for what is none."""
    return min(max(0, value), most) if isinstance(value, int) else 0
