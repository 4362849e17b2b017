"""One round over all use cases: what a turn has seen, and what it therefore leases.

Each use case first chooses what its capacity allows (`scheduling.select`); then the use cases whose
jobs the same slots can run divide these (`scheduling.share_slots`).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from operator import itemgetter
from typing import TypeAlias
from uuid import UUID

from async_jobs.domain.deadline import LatePolicy, is_late
from async_jobs.domain.fairness import Contest, ServiceMemory
from async_jobs.domain.limits import Limits
from async_jobs.domain.pools import RUN_SECONDS, Fleet, Places, Pool
from async_jobs.domain.rounds import ROUND_SECONDS
from async_jobs.domain.running import Running
from async_jobs.domain.scheduling import (
    Blocked,
    Candidate,
    Contender,
    Reason,
    RunSeconds,
    Selection,
    SelectionRequest,
    passed_over,
    select,
    share_slots,
)
from async_jobs.domain.turns import Chosen, Round, RunningCount, Seen

__all__ = ["Chosen", "Round", "RunningCount", "Seen", "TurnView"]


class TurnView:
    """What a turn knows, and the policy applied to it.

    Args:
        config: capacities, late policies, quotas.
        counts: what runs.
        fleet: the slots there are.
        memory: what tenants have had; it learns what the turn counts and chooses.
        tenants_unheld: limited tenants that another scheduler is leasing for just now.
        limit: how many jobs the turn may lease.
        now: the instant of the turn.
        explain: whether to say why the others wait.
    """

    def __init__(
        self,
        config: Limits,
        counts: Iterable[RunningCount],
        fleet: Fleet,
        memory: ServiceMemory,
        *,
        tenants_unheld: AbstractSet[str],
        limit: int,
        now: datetime,
        explain: bool = False,
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._memory = memory
        self._tenants_unheld = tenants_unheld
        self._limit = max(0, limit)
        self._now = now
        self._explain = explain
        self._running = Running(counts, fleet, lambda name: memory.turnover(name).seconds)
        self._windows: dict[tuple[str, str], int] = {}
        self._windows_of: dict[Pool, Places] = {}
        self._observe()

    def _observe(self) -> None:
        quotas, now = self._config.per_tenant_quotas, self._now
        for name in self._config.use_case_configs:
            running = self._running.of_use_cases[name]
            self._memory.use_case(name).observe(running, now, quotas)
            self._memory.turnover(name).observe(sum(running.values()), now)
        # Where nothing runs any more, what ran has ended, and is charged no longer.
        known = {self._fleet.pool_of(queue).queues for queue in self._memory.queues}
        known.update(pool.queues for pool in self._fleet.pools)
        for queues in known | self._running.of_pools.keys():
            self._memory.pool(queues).observe(self._running.of_pools.get(queues, {}), now, quotas)

    # --- what there is room for ---

    def free(self, use_case: str) -> int:
        """Return how many more jobs of the use case may run."""
        running = sum(self._running.of_use_cases[use_case].values())
        return self._config.use_case_configs[use_case].max_concurrent - running

    def window(self, queue: str, use_case: str) -> int:
        """Return how many more hand-offs a queue may hold, were all of them of a use case."""
        window = self._windows.get((queue, use_case))
        if window is None:
            places = self._places_of(self._fleet.pool_of(queue))
            usual = self._memory.turnover(use_case).seconds
            window = min(places.at_most(usual), places.of_queue(queue, usual))
            self._windows[queue, use_case] = window
        return window

    def owed(self, use_case: str, queues: Iterable[str], limit: int) -> tuple[str, ...]:
        """Return tenants that are known to wait, those who had the least first, at most `limit`.

        They wait for the capacity of the use case, or for the slots that serve its queues.
        """
        pools = {self._fleet.pool_of(queue) for queue in queues}
        contests = [self._memory.use_case(use_case)]
        contests += [self._memory.pool(pool.queues) for pool in sorted(pools, key=_by_name)]
        contests = [contest for contest in contests if contest.waiting]
        each = -(-limit // max(1, len(contests)))
        owed = (tenant for contest in contests for tenant in contest.most_owed(each))
        return tuple(dict.fromkeys(owed))

    def _places_of(self, pool: Pool) -> Places:
        """Return what a pool has room for before anything is chosen."""
        places = self._windows_of.get(pool)
        if places is None:
            places = self._windows_of[pool] = self._places(pool, self._limit)
        return places

    def _places(self, pool: Pool, limit: int) -> Places:
        places = Places(
            self._fleet,
            pool,
            claimed={queue: self._running.claimed[queue] for queue in pool.queues},
            unclaimed={queue: self._running.unclaimed[queue] for queue in pool.queues},
            limit=limit,
            held=self._running.held[pool],
        )
        places.charge_waiting(self._running.waiting_seconds[pool])
        return places

    def _run_seconds(self, use_case: str, guess: float = ROUND_SECONDS) -> RunSeconds:
        """Return how long jobs of a use case are expected to hold a slot, by type."""
        known, usual = self._fleet.run_times, self._memory.turnover(use_case).expected(guess)
        return lambda type_: known.get(type_, usual)

    # --- the choice ---

    def choose(self, seen: Mapping[str, Seen]) -> Round:
        """Choose what to lease, use case by use case, and then pool by pool."""
        shut: defaultdict[Pool, set[str]] = defaultdict(set)
        selections = {name: self._select(name, each, shut) for name, each in seen.items()}
        wanted = self._by_pool(selections)
        blocked: dict[UUID, Blocked] = {}
        for selection in selections.values():
            blocked.update(selection.blocked)
        shown = {name: _tenants_shown(each) for name, each in seen.items()}
        shown_at_all = set[str]().union(*shown.values())
        whole = self._is_whole(seen)
        late = self._late(seen, selections)
        chosen: list[Chosen] = []
        shares: dict[Pool, tuple[Sequence[Chosen], AbstractSet[str]]] = {}
        pools = {*wanted, *shut, *map(self._fleet.pool_of, self._memory.queues)}
        for pool in self._in_order(pools, wanted):
            shares[pool] = self._share(pool, wanted[pool], self._limit - len(chosen), blocked)
            chosen += shares[pool][0]
        short = _short_of_slots(selections, chosen)
        for pool, (given, waiting) in shares.items():
            contest = self._memory.pool(pool.queues)
            counts = Counter([candidate.tenant_id for _, candidate in given])
            known = shown_at_all | contest.waiting if whole else shown_at_all
            # Whom a use case left behind, for others that found no slot, waits for slots as well.
            behind = {
                candidate.tenant_id
                for name in short
                for candidate in seen[name].ready
                if candidate.queue in pool.queues
            } & set[str]().union(*[selections[name].waiting for name in short])
            _count_passes(contest, given, [c for c in late.values() if c.queue in pool.queues])
            contest.conclude(counts, waiting | shut[pool] | behind, known)
        started: defaultdict[str, list[Chosen]] = defaultdict(list)
        for each in chosen:
            started[each[0]].append(each)
        for name, selection in selections.items():
            contest = self._memory.use_case(name)
            known = shown[name] | contest.waiting if seen[name].whole else shown[name]
            # Who waits for a slot first waits for the capacity as before: no debt is forgotten.
            known = known - self._without_slots(name, seen[name])
            _count_passes(contest, started[name], [c for c in seen[name].ready if c.id in late])
            counts = Counter([candidate.tenant_id for _, candidate in started[name]])
            # Who was chosen before others and found no slot waits on.
            lost = short.get(name, set()) if selection.waiting else set()
            contest.conclude(counts, selection.waiting | lost, known)
        for name, part in self._running.parts_in_slots(started).items():
            self._memory.turnover(name).started(len(started.get(name, ())), part)
        return Round(
            chosen=chosen,
            expired=[c for each in selections.values() for c in each.expired],
            blocked=blocked,
            late={name for name, each in selections.items() if each.has_late},
            more=self._leaves_places(seen, short, chosen),
        )

    def hides_work(self, seen: Mapping[str, Seen], chosen: Sequence[Chosen]) -> bool:
        """Tell whether jobs that were not shown might have been chosen as well."""
        of_queues = Counter([candidate.queue for _, candidate in chosen])
        of_use_cases = Counter([use_case for use_case, _ in chosen])
        return any(
            not each.whole
            and of_use_cases[name] < self.free(name)
            and any(
                of_queues[queue] < self.window(queue, name)
                for queue in {candidate.queue for candidate in each.ready}
            )
            for name, each in seen.items()
        )

    def _late(
        self, seen: Mapping[str, Seen], selections: Mapping[str, Selection]
    ) -> Mapping[UUID, Candidate]:
        """Return the late jobs that go behind others."""
        return {
            candidate.id: candidate
            for name, each in selections.items()
            if each.has_late
            for candidate in seen[name].ready
            if is_late(candidate.deadline_at, self._now)
        }

    def _leaves_places(
        self, seen: Mapping[str, Seen], short: Iterable[str], chosen: Sequence[Chosen]
    ) -> bool:
        """Tell whether a use case chose for a full pool or tenant what another could have had."""
        given = {candidate.id for _, candidate in chosen} if short else set()
        return any(
            self._is_idle(queue, chosen)
            for name in short
            for queue in {c.queue for c in seen[name].ready if c.id not in given}
        )

    def _is_idle(self, queue: str, chosen: Sequence[Chosen]) -> bool:
        """Tell whether a queue's pool has idle slots for it, besides those for what was chosen."""
        pool = self._fleet.pool_of(queue)
        places = self._places_of(pool)
        taken = sum(candidate.queue in pool.queues for _, candidate in chosen)
        return taken < min(places.at_most(math.inf), places.of_queue(queue, math.inf))

    def _by_pool(self, selections: Mapping[str, Selection]) -> defaultdict[Pool, list[_Wanted]]:
        wanted: defaultdict[Pool, list[_Wanted]] = defaultdict(list)
        for name, selection in selections.items():
            queues = {contender[5].queue for contender in selection.contenders}
            pools = {self._fleet.pool_of(queue) for queue in queues}
            if len(pools) == 1:
                wanted[pools.pop()] += [(name, each) for each in selection.contenders]
            else:
                for contender in selection.contenders:
                    wanted[self._fleet.pool_of(contender[5].queue)].append((name, contender))
        return wanted

    def _select(self, use_case: str, seen: Seen, shut: defaultdict[Pool, set[str]]) -> Selection:
        """Choose in one use case; `shut` learns who waits for slots that there are none of."""
        known = seen.known
        if not known:
            return Selection()
        config = self._config.use_case_configs[use_case]
        closed = {q for q in {c.queue for c in known} if not self.window(q, use_case)}
        left_out = [c for c in known if c.queue in closed] if closed else []
        if left_out:
            # What waits for a full queue must not stand before what waits for another one;
            # only what is to be buried needs no room.
            for candidate in left_out:
                shut[self._fleet.pool_of(candidate.queue)].add(candidate.tenant_id)
            expires = config.late_policy is LatePolicy.EXPIRE
            known = [
                c
                for c in known
                if c.queue not in closed or (expires and is_late(c.deadline_at, self._now))
            ]
        selection = select(
            SelectionRequest(
                config=config,
                now=self._now,
                running=self._running.of_use_cases[use_case],
                tenant_running=self._running.of_tenants,
                quotas=self._config.per_tenant_quotas,
                candidates=known,
                tenants_unheld=self._tenants_unheld,
                contest=self._memory.use_case(use_case),
                run_seconds=self._run_seconds(use_case),
                explain=self._explain,
            )
        )
        if not left_out or not self._explain:
            return selection
        why = dict.fromkeys((c.id for c in left_out), Blocked(Reason.WINDOW_FULL))
        return replace(selection, blocked={**why, **selection.blocked})

    def _in_order(
        self, pools: Iterable[Pool], wanted: Mapping[Pool, Sequence[_Wanted]]
    ) -> Sequence[Pool]:
        """Return pools in the order in which they use up what limited tenants may run in all.

        Where such a tenant's most urgent job can run goes first, not whose name does.
        """
        ordered = sorted(pools, key=_by_name)
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

    def _without_slots(self, use_case: str, seen: Seen) -> set[str]:
        """Return the tenants whose jobs were left out because their queues can hold no more."""
        closed = {q for q in {c.queue for c in seen.ready} if not self.window(q, use_case)}
        return {c.tenant_id for c in seen.ready if c.queue in closed} if closed else set()

    def _share(
        self, pool: Pool, wanted: Sequence[_Wanted], limit: int, blocked: dict[UUID, Blocked]
    ) -> tuple[Sequence[Chosen], AbstractSet[str]]:
        """Divide a pool's slots; returns what has one, in order, and who could have used more."""
        if not wanted:
            return (), frozenset()
        places, rooms = self._places(pool, limit), self._rooms(wanted)
        slot_seconds = self._run_seconds_of_all(wanted, RUN_SECONDS)
        if _within(rooms, wanted) and places.hold(
            Counter([each[5].queue for _, each in wanted]), max(slot_seconds.values())
        ):
            # One use case has them in order; several only differ by their jobs.
            several = wanted[0][0] != wanted[-1][0]
            ranked = sorted(wanted, key=_contender) if several else wanted
            given = [(name, each[5]) for name, each in ranked]
            self._count_limited(given, rooms)
            return given, frozenset()
        use_case_of = {contender[4]: name for name, contender in wanted}
        lanes: defaultdict[str, list[Contender]] = defaultdict(list)
        for _, contender in wanted:
            lanes[contender[5].tenant_id].append(contender)
        for lane in lanes.values():
            lane.sort()
        choice = share_slots(
            lanes,
            places,
            rooms,
            contest=self._memory.pool(pool.queues),
            running=self._running.of_pools[pool.queues],
            quotas=self._config.per_tenant_quotas,
            run_seconds=self._run_seconds_of_all(wanted, ROUND_SECONDS).__getitem__,
            slot_seconds=slot_seconds.__getitem__,
        )
        given = [(use_case_of[each[4]], each[5]) for each in choice.contenders]
        self._count_limited(given, rooms)
        if self._explain:
            blocked.update(passed_over(lanes, choice.chosen, Reason.WINDOW_FULL))
        return given, choice.waiting

    def _count_limited(self, given: Sequence[Chosen], rooms: Mapping[str, int]) -> None:
        """Let the next pools know what limited tenants have got in this one."""
        if rooms:
            for _, candidate in given:
                self._running.of_tenants[candidate.tenant_id] += 1

    def _run_seconds_of_all(self, wanted: Sequence[_Wanted], guess: float) -> Mapping[str, float]:
        """Return how long jobs of any of the use cases hold a slot, by type, at most."""
        expected: dict[str, float] = {}
        for name, type_ in {(name, contender[5].type) for name, contender in wanted}:
            seconds = self._run_seconds(name, guess)(type_)
            expected[type_] = max(expected.get(type_, 0.0), seconds)
        return expected

    def _rooms(self, wanted: Sequence[_Wanted]) -> dict[str, int]:
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

    def _is_whole(self, seen: Mapping[str, Seen]) -> bool:
        """Tell whether nobody can be waiting for a slot who was not shown.

        A use case that nobody looked at because it is full has nobody waiting for slots.
        """
        return all(each.whole for each in seen.values()) and all(
            name in seen or self.free(name) <= 0 for name in self._config.use_case_configs
        )


def _tenants_shown(seen: Seen) -> set[str]:
    return {*seen.named, *[candidate.tenant_id for candidate in seen.ready]}


def _short_of_slots(
    selections: Mapping[str, Selection], chosen: Sequence[Chosen]
) -> Mapping[str, AbstractSet[str]]:
    """Return whose chosen jobs found no slot, of the use cases of which there are any."""
    if len(chosen) == sum(len(each.contenders) for each in selections.values()):
        return {}
    given = {candidate.id for _, candidate in chosen}
    lost = {
        name: {each[5].tenant_id for each in selection.contenders if each[4] not in given}
        for name, selection in selections.items()
    }
    return {name: tenants for name, tenants in lost.items() if tenants}


_Wanted: TypeAlias = tuple[str, Contender]
"""A use case, and a job that it has chosen and that needs a slot."""
_contender = itemgetter(1)


def _within(rooms: Mapping[str, int], wanted: Sequence[_Wanted]) -> bool:
    """Tell whether no limited tenant wants more than it may run."""
    if not rooms:
        return True
    counts = Counter([contender[5].tenant_id for _, contender in wanted])
    return all(counts[tenant] <= room for tenant, room in rooms.items())


def _count_passes(contest: Contest, given: Sequence[Chosen], late: Sequence[Candidate]) -> None:
    """Count what began while late jobs waited: what was chosen and got no slot has not."""
    if late:
        ids = {candidate.id for candidate in late}
        contest.pass_over(len(given), sum(candidate.id in ids for _, candidate in given))


def _by_name(pool: Pool) -> list[str]:
    return sorted(pool.queues)
