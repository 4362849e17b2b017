"""What runs at an instant, counted by use case, tenant, queue and pool."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from async_jobs.domain.pools import HAND_OFFS_HELD_MAX, Fleet, Pool
from async_jobs.domain.turns import Chosen, RunningCount


class Running:
    """What a turn has counted.

    Args:
        counts: what runs.
        fleet: the slots there are.
        usual_seconds: returns how long jobs of a use case usually hold a slot.

    Attributes:
        of_use_cases: running jobs by use case and tenant.
        of_tenants: running jobs of each tenant over all use cases; grows as a turn chooses.
        of_pools: running jobs by the queues of a pool, and tenant.
        busy: how many slots of each group of workers jobs hold, by the group's queues.
        unclaimed: running jobs by queue that are under way.
        waiting_seconds: what all slots of a pool together need for what is not claimed.
        held: how many slots of a pool jobs hold that will not end within some hand-offs.
    """

    def __init__(
        self,
        counts: Iterable[RunningCount],
        fleet: Fleet,
        usual_seconds: Callable[[str], float],
    ) -> None:
        self._fleet = fleet
        self.of_use_cases: defaultdict[str, defaultdict[str, int]] = defaultdict(_counts)
        self.of_tenants = _counts()
        self.of_pools: defaultdict[frozenset[str], defaultdict[str, int]] = defaultdict(_counts)
        self.busy: Counter[frozenset[str]] = Counter()
        self.unclaimed: Counter[str] = Counter()
        self.waiting_seconds: defaultdict[Pool, float] = defaultdict(float)
        self.held: Counter[Pool] = Counter()
        self._by_pool: defaultdict[str, Counter[Pool]] = defaultdict(Counter)
        long_seconds = HAND_OFFS_HELD_MAX * fleet.hand_off_seconds
        # Many tenants, few use cases and queues.
        alike: defaultdict[tuple[str, str], list[RunningCount]] = defaultdict(list)
        for count in counts:
            alike[count[0], count[2]].append(count)
        for (use_case, queue), of_tenants in alike.items():
            pool, usual = fleet.pool_of(queue), usual_seconds(use_case)
            claimed, unclaimed = self._count(use_case, pool, of_tenants)
            if len(pool.groups) == 1:
                self.busy[pool.queues] += claimed
            self.unclaimed[queue] += unclaimed
            self._by_pool[use_case][pool] += claimed + unclaimed
            # What was handed off and not begun is expected to take so long.
            self.waiting_seconds[pool] += unclaimed * usual
            if usual > long_seconds:
                self.held[pool] += claimed

    def _count(self, use_case: str, pool: Pool, counts: Sequence[RunningCount]) -> tuple[int, int]:
        """Count by tenant; returns how much of it all is in hand, and how much is not claimed."""
        of_use_case, of_pool = self.of_use_cases[use_case], self.of_pools[pool.queues]
        of_tenants = self.of_tenants
        all_claimed = all_unclaimed = 0
        for _, tenant, _, claimed, unclaimed, strays, group in counts:
            running = claimed + unclaimed
            of_use_case[tenant] += running
            of_pool[tenant] += running
            of_tenants[tenant] += running
            # Who died holds no slot that there still is; its jobs run until their leases end.
            all_claimed += claimed - strays if self._fleet.workers else claimed
            if group:
                self.busy[self._fleet.groups[group]] += claimed
            all_unclaimed += unclaimed
        return all_claimed, all_unclaimed

    def parts_in_slots(self, started: Mapping[str, Sequence[Chosen]]) -> Mapping[str, float]:
        """Return which part of each use case's jobs is in slots, with what has been started.

        The others were handed off ahead of the slots. Where no slot is known, all count.
        """
        by_pool = {name: Counter(counts) for name, counts in self._by_pool.items()}
        for name, chosen in started.items():
            counts = by_pool.setdefault(name, Counter())
            for queue, count in Counter([candidate.queue for _, candidate in chosen]).items():
                counts[self._fleet.pool_of(queue)] += count
        in_pools: Counter[Pool] = Counter()
        for counts in by_pool.values():
            in_pools.update(counts)
        part_of = {p: min(1.0, p.slots / n) for p, n in in_pools.items() if n and p.slots}
        parts = {}
        for name, counts in by_pool.items():
            known = sum(n for pool, n in counts.items() if pool in part_of)
            in_slots = sum(n * part_of[pool] for pool, n in counts.items() if pool in part_of)
            parts[name] = in_slots / known if known else 1.0
        return parts


def _counts() -> defaultdict[str, int]:
    return defaultdict(int)
