"""The slots of one turn: what there is room for, and which use case's jobs get it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias
from uuid import UUID

from async_jobs.domain.candidates import Candidate, Contender, RunSeconds
from async_jobs.domain.fairness import Contest, Quotas, ServiceMemory
from async_jobs.domain.limits import Limits
from async_jobs.domain.places import Places
from async_jobs.domain.pools import RUN_SECONDS, Fleet, Pool
from async_jobs.domain.rounds import ROUND_SECONDS, Choice, Lanes, choose
from async_jobs.domain.running import Running
from async_jobs.domain.scheduling import Blocked, Reason, Selection, counted, passed_over
from async_jobs.domain.turns import Chosen

Wanted: TypeAlias = tuple[str, Contender]
"""A use case, and a job that it has chosen and that needs a slot."""
_contender = itemgetter(1)
DIVISIONS_MAX: Final = 8
"""After so many a use case keeps what it has: where its order and the pool's are contrary, it would
take one for each tenant.
"""


class Share(NamedTuple):
    """What a pool's slots go to, in order.

    Attributes:
        given: the jobs that have a slot.
        waiting: the tenants that could have used more slots.
        held_back: those of them whom something else than what they have had keeps waiting.
        beyond: the use cases and tenants of which a job would have had a slot, but no capacity.
        blocked: why the other jobs wait, if asked.
    """

    given: Sequence[Chosen] = ()
    waiting: AbstractSet[str] = frozenset()
    held_back: AbstractSet[str] = frozenset()
    beyond: AbstractSet[tuple[str, str]] = frozenset()
    blocked: Mapping[UUID, Blocked] = {}


class Slots:
    """The slots of all pools, as a turn gives them away.

    Args:
        config: the quotas of tenants.
        running: what runs; learns what limited tenants are given.
        fleet: the slots there are.
        memory: what tenants have had of them, and how long jobs hold one.
        limit: how many jobs the turn may lease.
        explain: whether to say why the others wait.
    """

    def __init__(
        self,
        config: Limits,
        running: Running,
        fleet: Fleet,
        memory: ServiceMemory,
        *,
        limit: int,
        explain: bool,
    ) -> None:
        self._config = config
        self._running = running
        self._fleet = fleet
        self._memory = memory
        self._limit = limit
        self._explain = explain
        self._windows: dict[tuple[str, str], int] = {}
        self._places: dict[Pool, Places] = {}

    # --- what there is room for ---

    def window(self, queue: str, use_case: str) -> int:
        """Return how many more hand-offs a queue may hold, were all of them of a use case."""
        window = self._windows.get((queue, use_case))
        if window is None:
            places = self._places_before(self._fleet.pool_of(queue))
            usual = self._memory.turnover(use_case).seconds
            window = min(places.at_most(usual), places.of_queue(queue, usual))
            self._windows[queue, use_case] = window
        return window

    def closed(self, seen: Mapping[str, Collection[Candidate]]) -> Mapping[str, Collection[str]]:
        """Return the queues of which nothing can begin, by use case.

        One whose slots shorter work may wait ahead of is none of them: who is too long for that
        takes part, and is not overtaken once it goes first.

        Args:
            seen: the jobs that wait, by use case.
        """
        full: dict[str, set[str]] = {}
        overtaken: set[str] = set()
        for name, candidates in seen.items():
            usual = self._memory.turnover(name).seconds
            for queue in {candidate.queue for candidate in candidates}:
                pool = self._fleet.pool_of(queue)
                if not self.window(queue, name):
                    full.setdefault(name, set()).add(queue)
                elif self._places_before(pool).ahead(queue, usual):
                    overtaken |= pool.beside(queue)
        return {name: queues - overtaken for name, queues in full.items()}

    def are_idle(self, queues: Collection[str], chosen: Sequence[Chosen]) -> bool:
        """Tell whether a pool has idle slots for a queue, besides those for what was chosen."""
        given = Counter([candidate.queue for _, candidate in chosen])
        for pool in {self._fleet.pool_of(queue) for queue in queues}:
            of_pool = {queue: given[queue] for queue in pool.queues & given.keys()}
            if self._places_before(pool).has_idle(pool.queues.intersection(queues), of_pool):
                return True
        return False

    def run_seconds(self, use_case: str, guess: float = ROUND_SECONDS) -> RunSeconds:
        """Return how long jobs of a use case are expected to hold a slot, by type."""
        known, usual = self._fleet.run_times, self._memory.turnover(use_case).expected(guess)
        return lambda type_: known.get(type_, usual)

    def _places_before(self, pool: Pool) -> Places:
        """Return what a pool has room for before anything is chosen."""
        places = self._places.get(pool)
        if places is None:
            places = self._places[pool] = self._places_of(pool, self._limit)
        return places

    def _places_of(self, pool: Pool, limit: int) -> Places:
        places = Places(
            self._fleet,
            pool,
            busy=self._running.busy,
            unclaimed={queue: self._running.unclaimed[queue] for queue in pool.queues},
            limit=limit,
            held=self._running.held[pool],
        )
        places.charge_waiting(self._running.waiting_seconds[pool])
        return places

    # --- who wants them ---

    def by_pool(self, selections: Mapping[str, Selection]) -> defaultdict[Pool, list[Wanted]]:
        """Return what the use cases have chosen, by the pool that runs it."""
        wanted: defaultdict[Pool, list[Wanted]] = defaultdict(list)
        for name, selection in selections.items():
            queues = {contender[5].queue for contender in selection.contenders}
            pools = {self._fleet.pool_of(queue) for queue in queues}
            if len(pools) == 1:
                wanted[pools.pop()] += [(name, each) for each in selection.contenders]
            else:
                for contender in selection.contenders:
                    wanted[self._fleet.pool_of(contender[5].queue)].append((name, contender))
        return wanted

    def in_order(
        self, pools: Iterable[Pool], wanted: Mapping[Pool, Sequence[Wanted]]
    ) -> Sequence[Pool]:
        """Return pools in the order in which they use up what limited tenants may run in all.

        Where such a tenant's most urgent job can run goes first, not whose name does.
        """
        ordered = sorted(pools, key=by_name)
        if len(ordered) == 1:
            return ordered
        limited = self._rooms([each for pool in ordered for each in wanted.get(pool, ())])
        if not limited:
            return ordered
        urgent = {
            pool: min((each[0], each[3]) for each in contenders)
            for pool in ordered
            if (contenders := [c for _, c in wanted.get(pool, ()) if c[5].tenant_id in limited])
        }
        return [*sorted(urgent, key=urgent.__getitem__), *(p for p in ordered if p not in urgent)]

    # --- who gets them ---

    def share(
        self,
        pool: Pool,
        wanted: Sequence[Wanted],
        selections: Mapping[str, Selection],
        limit: int,
    ) -> Share:
        """Divide a pool's slots.

        Args:
            pool: whose slots.
            wanted: what use cases have chosen.
            selections: how they chose.
            limit: how many jobs may be chosen.
        """
        if not wanted:
            return Share()
        rooms = self._rooms(wanted)
        longest = max(self._run_seconds_of_all(wanted, RUN_SECONDS).values())
        counts = Counter([each[5].queue for _, each in wanted])
        if _within(rooms, wanted) and self._places_of(pool, limit).hold(counts, longest):
            # One use case has them in order; several only differ by their jobs.
            several = wanted[0][0] != wanted[-1][0]
            ranked = sorted(wanted, key=_contender) if several else wanted
            share = Share(given=[(name, each[5]) for name, each in ranked])
        else:
            capacity = Counter([name for name, _ in wanted if selections[name].waiting])
            if capacity:
                share = self._divide_both(pool, wanted, capacity, selections, limit)
            else:
                share = self._divide(pool, wanted, limit)
        if self._config.per_tenant_quotas:
            # The next pools know what limited tenants have got in this one.
            for _, candidate in share.given:
                self._running.of_tenants[candidate.tenant_id] += 1
        return share

    def _divide_both(
        self,
        pool: Pool,
        wanted: Sequence[Wanted],
        capacity: Mapping[str, int],
        selections: Mapping[str, Selection],
        limit: int,
    ) -> Share:
        """Divide slots and capacity where there is too little of both, by the contest for each.

        What use cases have chosen is not enough to choose from: a tenant with much of it may use
        its slots for another use case, or has had more of them than whom its use case left behind.
        So slots are offered to all, and use cases keep what they would choose first of those that
        have one, until none has more than its capacity: a stable matching (Gale and Shapley 1962).

        Args:
            capacity: how many jobs may run of each use case that has left any behind.
            pool, wanted, selections, limit: as in `share`.
        """
        all_wanted = [each for each in wanted if each[0] not in capacity]
        all_wanted += [
            (name, contender)
            for name in capacity
            for lane in selections[name].lanes.values()
            for contender in lane
            if contender[5].queue in pool.queues
        ]
        beyond: set[tuple[str, str]] = set()
        blocked: dict[UUID, Blocked] = {}
        orders: dict[str, Mapping[UUID, int]] = {}
        divisions = 0
        while True:
            divisions += 1
            share = self._divide(pool, all_wanted, limit)
            counts = Counter([name for name, _ in share.given])
            over = [name for name, most in capacity.items() if counts[name] > most]
            if not over:
                return share._replace(beyond=beyond, blocked={**blocked, **share.blocked})
            out: set[UUID] = set()
            for name in over:
                if name not in orders:
                    orders[name] = self._order(name, selections[name])
                order = orders[name]
                given = sorted([order[c.id] for each, c in share.given if each == name])
                kept = given[: capacity[name]]
                if divisions < DIVISIONS_MAX:
                    out.update([id_ for id_, at in order.items() if at > kept[-1]])
                else:
                    out.update(order.keys() - {id_ for id_, at in order.items() if at in kept})
            refused = [each for each in all_wanted if each[1][4] in out]
            all_wanted = [each for each in all_wanted if each[1][4] not in out]
            beyond.update((name, contender[5].tenant_id) for name, contender in refused)
            if self._explain:
                ids = [contender[4] for _, contender in refused]
                blocked.update(dict.fromkeys(ids, Blocked(Reason.USE_CASE_FULL)))

    def _order(self, use_case: str, selection: Selection) -> Mapping[UUID, int]:
        """Return the order in which a use case would choose its jobs if it chose them all."""
        choice = choose(
            selection.lanes,
            counted(sum(map(len, selection.lanes.values()))),
            contest=self._memory.use_case(use_case),
            running=self._running.of_use_cases[use_case],
            quotas=self._config.per_tenant_quotas,
            run_seconds=self.run_seconds(use_case),
        )
        return {contender[4]: at for at, contender in enumerate(choice.contenders)}

    def _divide(self, pool: Pool, wanted: Sequence[Wanted], limit: int) -> Share:
        use_case_of = {contender[4]: name for name, contender in wanted}
        lanes: defaultdict[str, list[Contender]] = defaultdict(list)
        for _, contender in wanted:
            lanes[contender[5].tenant_id].append(contender)
        for lane in lanes.values():
            lane.sort()
        choice = share_slots(
            lanes,
            self._places_of(pool, limit),
            self._rooms(wanted),
            contest=self._memory.pool(pool.queues),
            running=self._running.of_pools[pool.queues],
            quotas=self._config.per_tenant_quotas,
            run_seconds=self._run_seconds_of_all(wanted, ROUND_SECONDS).__getitem__,
            slot_seconds=self._run_seconds_of_all(wanted, RUN_SECONDS).__getitem__,
        )
        given = [(use_case_of[each[4]], each[5]) for each in choice.contenders]
        blocked: Mapping[UUID, Blocked] = {}
        if self._explain:
            blocked = passed_over(lanes, choice.chosen, Reason.WINDOW_FULL)
        return Share(given, choice.waiting, choice.held_back, blocked=blocked)

    def _run_seconds_of_all(self, wanted: Sequence[Wanted], guess: float) -> Mapping[str, float]:
        """Return how long jobs of any of the use cases hold a slot, by type, at most."""
        expected: dict[str, float] = {}
        for name, type_ in {(name, contender[5].type) for name, contender in wanted}:
            seconds = self.run_seconds(name, guess)(type_)
            expected[type_] = max(expected.get(type_, 0.0), seconds)
        return expected

    def _rooms(self, wanted: Sequence[Wanted]) -> dict[str, int]:
        """Return how many more jobs each limited tenant may run, over all use cases."""
        quotas = self._config.per_tenant_quotas
        if not quotas:
            return {}
        rooms: dict[str, int] = {}
        for tenant in {contender[5].tenant_id for _, contender in wanted}:
            quota = quotas.get(tenant)
            if quota is not None and quota.max_running is not None:
                rooms[tenant] = max(0, quota.max_running - self._running.of_tenants[tenant])
        return rooms


def share_slots(
    lanes: Lanes,
    places: Places,
    room: Mapping[str, int],
    *,
    contest: Contest,
    running: Mapping[str, int],
    quotas: Quotas,
    run_seconds: RunSeconds,
    slot_seconds: RunSeconds,
) -> Choice:
    """Divide the places of a pool among all use cases whose jobs its slots can run.

    Args:
        lanes: the jobs, by tenant.
        places: how many hand-offs the pool may hold.
        room: how many more jobs each limited tenant may run.
        contest, running, quotas, run_seconds: as in `choose`, of all the pool's use cases together.
        slot_seconds: how long jobs hold a slot, rather too long than too short.
    """
    left = dict(room)
    full: set[str] = set()

    def take(candidate: Candidate) -> bool | None:
        if left.get(candidate.tenant_id, 1) <= 0:
            return False
        taken = places.take(candidate.queue, slot_seconds(candidate.type))
        if taken is False:
            full.add(candidate.queue)
        if taken and candidate.tenant_id in left:
            left[candidate.tenant_id] -= 1
        return taken

    choice = choose(
        lanes,
        take,
        contest=contest,
        running=running,
        quotas=quotas,
        run_seconds=run_seconds,
    )
    if not full:
        return choice
    # Who waits for nothing but queues that can hold no more waits for the slots that receive them,
    # whatever other slots do, and wherever in the order the turn ended.
    given = {contender[4] for contender in choice.contenders}
    refused: set[str] = set()
    waiting: set[str] = set()
    for tenant, lane in lanes.items():
        rest = {each[5].queue for each in lane if each[4] not in given}
        if not rest.isdisjoint(places.stopped):
            waiting.add(tenant)
        elif rest and rest <= full:
            refused.add(tenant)
    return Choice(choice.contenders, choice.waiting | refused | waiting, choice.held_back | refused)


def _within(rooms: Mapping[str, int], wanted: Sequence[Wanted]) -> bool:
    """Tell whether no limited tenant wants more than it may run."""
    if not rooms:
        return True
    counts = Counter([contender[5].tenant_id for _, contender in wanted])
    return all(counts[tenant] <= room for tenant, room in rooms.items())


def by_name(pool: Pool) -> list[str]:
    """Order pools by the names of their queues."""
    return sorted(pool.queues)
