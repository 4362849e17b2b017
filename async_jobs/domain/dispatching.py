"""One round over all use cases: what a turn has seen, and what it therefore leases.

Each use case first chooses what its capacity allows (`scheduling.select`); then the use cases whose
jobs the same slots can run divide these (`slots.share_slots`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from async_jobs.domain.controls import Control
from async_jobs.domain.deadline import LatePolicy, is_late
from async_jobs.domain.fairness import Contest, ServiceMemory
from async_jobs.domain.limits import Limits
from async_jobs.domain.pools import Fleet, Pool
from async_jobs.domain.running import Running
from async_jobs.domain.scheduling import (
    Blocked,
    Candidate,
    Reason,
    Selection,
    SelectionRequest,
    select,
)
from async_jobs.domain.slots import Share, Slots, by_name
from async_jobs.domain.turns import Chosen, Round, RunningCount, Seen

__all__ = ["Chosen", "Round", "RunningCount", "Seen", "TurnView"]


@dataclass(slots=True)
class _Shut:
    """The tenants with jobs for queues of a pool that can hold no more.

    `beside` are those whose pool has places for another queue: they wait for that one alone, so
    what they have had holds nobody down who waits for the others.
    """

    tenants: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)


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
        pauses: what may not start besides what limits of zero keep from it.
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
        pauses: Sequence[Control] = (),
        explain: bool = False,
    ) -> None:
        self._config = config
        self._fleet = fleet
        self._memory = memory
        self._tenants_unheld = tenants_unheld
        self.limit = max(0, limit)
        self._now = now
        self._pauses = [pause.scope for pause in pauses]
        self._explain = explain
        self._running = Running(counts, fleet, lambda name: memory.turnover(name).seconds)
        self._slots = Slots(config, self._running, fleet, memory, limit=self.limit, explain=explain)
        self._closed: Mapping[str, Collection[str]] = {}
        """The queues of which nothing can begin, by use case, once there is a choice to make."""
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
        return self._slots.window(queue, use_case)

    def owed(self, use_case: str, queues: Iterable[str], limit: int) -> tuple[str, ...]:
        """Return tenants that are known to wait, those who had the least first, at most `limit`.

        They wait for the capacity of the use case, or for the slots that serve its queues.
        """
        pools = {self._fleet.pool_of(queue) for queue in queues}
        contests = [self._memory.use_case(use_case)]
        contests += [self._memory.pool(pool.queues) for pool in sorted(pools, key=by_name)]
        contests = [contest for contest in contests if contest.waiting]
        each = -(-limit // max(1, len(contests)))
        owed = (tenant for contest in contests for tenant in contest.most_owed(each))
        return tuple(dict.fromkeys(owed))

    # --- the choice ---

    def choose(self, seen: Mapping[str, Seen]) -> Round:
        """Choose what to lease, use case by use case, and then pool by pool."""
        seen, paused = self._without_paused(seen)
        shut: defaultdict[Pool, _Shut] = defaultdict(_Shut)
        self._closed = self._slots.closed({name: each.known for name, each in seen.items()})
        selections = {name: self._select(name, each, shut) for name, each in seen.items()}
        wanted = self._slots.by_pool(selections)
        why = Blocked(Reason.PAUSED)
        blocked = {candidate.id: why for _, candidate in paused if self._explain}
        for selection in selections.values():
            blocked.update(selection.blocked)
        late = self._late(seen, selections)
        chosen: list[Chosen] = []
        shares: dict[Pool, Share] = {}
        pools = {*wanted, *shut, *map(self._fleet.pool_of, self._memory.queues)}
        for pool in self._slots.in_order(pools, wanted):
            shares[pool] = self._slots.share(
                pool, wanted[pool], selections, self.limit - len(chosen)
            )
            chosen += shares[pool].given
            blocked.update(shares[pool].blocked)
        started: defaultdict[str, list[Chosen]] = defaultdict(list)
        for each in chosen:
            started[each[0]].append(each)
            if blocked:
                blocked.pop(each[1].id, None)
        short = {
            name
            for name, selection in selections.items()
            if len(started[name]) < len(selection.contenders)
        }
        shown = {name: _tenants_shown(each) for name, each in seen.items()}
        self._conclude_pools(seen, shown, selections, shares, shut, short, late.values())
        self._conclude_use_cases(seen, shown, selections, shares, started, late)
        for name, part in self._running.parts_in_slots(started).items():
            self._memory.turnover(name).started(len(started.get(name, ())), part)
        return Round(
            chosen=chosen,
            expired=[c for each in selections.values() for c in each.expired],
            blocked=blocked,
            late={name for name, each in selections.items() if each.has_late},
            paused=paused,
            more=self._leaves_places(seen, short, chosen),
        )

    def _without_paused(
        self, seen: Mapping[str, Seen]
    ) -> tuple[Mapping[str, Seen], Sequence[Chosen]]:
        """Return what is seen without what is paused, which nobody waits for, and the latter."""
        if not self._pauses:
            return seen, ()
        left: dict[str, Seen] = {}
        paused: list[Chosen] = []
        for name, each in seen.items():
            scopes = [scope for scope in self._pauses if scope.use_case in (None, name)]
            held = {c.id: c for c in each.known if any(s.covers(name, c) for s in scopes)}
            paused += [(name, candidate) for candidate in held.values()]
            left[name] = (
                each
                if not held
                else replace(
                    each,
                    ready=[c for c in each.ready if c.id not in held],
                    late=[c for c in each.late if c.id not in held],
                    # It is known of them that they wait for no place.
                    named={*each.named, *[c.tenant_id for c in held.values()]},
                )
            )
        return left, paused

    def _conclude_pools(
        self,
        seen: Mapping[str, Seen],
        shown_of: Mapping[str, AbstractSet[str]],
        selections: Mapping[str, Selection],
        shares: Mapping[Pool, Share],
        shut: Mapping[Pool, _Shut],
        short: Collection[str],
        late: Collection[Candidate],
    ) -> None:
        """Note who waits for slots; `short` are the use cases whose chosen jobs found too few."""
        shown = set[str]().union(*shown_of.values())
        whole = self._is_whole(seen)
        for pool, share in shares.items():
            contest = self._memory.pool(pool.queues)
            counts = Counter([candidate.tenant_id for _, candidate in share.given])
            known = shown | contest.waiting if whole else shown
            # Whom a use case left behind, for others that found no slot, waits for slots as well.
            behind = {
                candidate.tenant_id
                for name in short
                for candidate in seen[name].ready
                if candidate.queue in pool.queues
            } & set[str]().union(*[selections[name].waiting for name in short])
            overdue = [c for c in late if c.queue in pool.queues]
            _count_passes(contest, share.given, overdue)
            out = shut.get(pool, _Shut())
            waiting = share.waiting | out.tenants | behind
            held_back = share.held_back | (out.beside - share.waiting)
            contest.conclude(counts, waiting, known, held_back)

    def _conclude_use_cases(
        self,
        seen: Mapping[str, Seen],
        shown_of: Mapping[str, AbstractSet[str]],
        selections: Mapping[str, Selection],
        shares: Mapping[Pool, Share],
        started: Mapping[str, Sequence[Chosen]],
        late: Collection[UUID],
    ) -> None:
        """Note who waits for the capacity of each use case."""
        for name, selection in selections.items():
            contest = self._memory.use_case(name)
            shown = shown_of[name]
            known = shown | contest.waiting if seen[name].whole else shown
            # Who waits for a slot first waits for the capacity as before: no debt is forgotten.
            without = self._without_slots(name, seen[name])
            known = known - without
            if late:
                of_use_case = [c for c in seen[name].ready if c.id in late]
                _count_passes(contest, started[name], of_use_case)
            counts = Counter([candidate.tenant_id for _, candidate in started[name]])
            waiting = _waiting(name, selection, shares, started[name])
            contest.conclude(counts, waiting, known, selection.held_back | (without - waiting))

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
        left = {c.queue for name in short for c in seen[name].ready if c.id not in given}
        return self._slots.are_idle(left, chosen)

    def _select(self, use_case: str, seen: Seen, shut: defaultdict[Pool, _Shut]) -> Selection:
        """Choose in one use case; `shut` learns who waits for slots that there are none of."""
        known = seen.known
        if not known:
            return Selection()
        config = self._config.use_case_configs[use_case]
        closed = self._closed.get(use_case, ())
        left_out = [c for c in known if c.queue in closed] if closed else []
        if left_out:
            # What waits for a full queue must not stand before what waits for another one;
            # only what is to be buried needs no room.
            for candidate in left_out:
                pool = self._fleet.pool_of(candidate.queue)
                shut[pool].tenants.add(candidate.tenant_id)
                if any(self.window(queue, use_case) for queue in pool.queues):
                    shut[pool].beside.add(candidate.tenant_id)
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
                run_seconds=self._slots.run_seconds(use_case),
                explain=self._explain,
            )
        )
        if not left_out or not self._explain:
            return selection
        why = dict.fromkeys((c.id for c in left_out), Blocked(Reason.WINDOW_FULL))
        return replace(selection, blocked={**why, **selection.blocked})

    def _without_slots(self, use_case: str, seen: Seen) -> set[str]:
        """Return the tenants whose jobs were left out because their queues can hold no more."""
        closed = self._closed.get(use_case, ())
        return {c.tenant_id for c in seen.ready if c.queue in closed} if closed else set()

    def _is_whole(self, seen: Mapping[str, Seen]) -> bool:
        """Tell whether nobody can be waiting for a slot who was not shown.

        A use case that nobody looked at because it is full has nobody waiting for slots.
        """
        return all(each.whole for each in seen.values()) and all(
            name in seen or self.free(name) <= 0 for name in self._config.use_case_configs
        )


def _tenants_shown(seen: Seen) -> set[str]:
    return {*seen.named, *[candidate.tenant_id for candidate in seen.ready]}


def _waiting(
    use_case: str,
    selection: Selection,
    shares: Mapping[Pool, Share],
    started: Sequence[Chosen],
) -> AbstractSet[str]:
    """Return who waits for a use case's capacity once the slots are shared."""
    short = {pool: each for pool, each in shares.items() if each.waiting or each.beyond}
    if not selection.waiting or not short:
        return selection.waiting
    given = {candidate.id for _, candidate in started}
    left = {
        (contender[5].tenant_id, contender[5].queue)
        for lane in selection.lanes.values()
        for contender in lane
        if contender[4] not in given
    }
    for pool, share in short.items():
        # Who is short of slots and has some for another use case's jobs lets this capacity go.
        elsewhere = {candidate.tenant_id for name, candidate in share.given if name != use_case}
        refused = {tenant for name, tenant in share.beyond if name == use_case}
        lets_go = (elsewhere & share.waiting) - refused
        left = {(t, queue) for t, queue in left if queue not in pool.queues or t not in lets_go}
    return {tenant for tenant, _ in left}


def _count_passes(contest: Contest, given: Sequence[Chosen], late: Sequence[Candidate]) -> None:
    """Count what began while late jobs waited: what was chosen and got no slot has not."""
    if late:
        ids = {candidate.id for candidate in late}
        contest.pass_over(len(given), sum(candidate.id in ids for _, candidate in given))
