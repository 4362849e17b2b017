"""Where a turn looks: at which ready jobs of which use cases, and at how many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.dispatching import Seen, TurnView
from async_jobs.domain.limits import Limits, queue_of
from async_jobs.ports.leases import Heads, HeadsQuery

LEASES_MAX = 1_000
# Looking at fewer jobs than this would blind the policy to tenants when few places are free.
HEADS_MIN = 64
# Of many use cases each is looked at for fewer. Where nothing can be handed off, so many show
# whether there is something for another queue.
HEADS_LEAST = 16
# Use cases that share places are shown for so many times as many, in case some have no jobs.
HEADS_FACTOR = 2


class Lookout:
    """Asks for heads.

    Of each use case it remembers where its walk over tenants stands, which queues its jobs were
    for when it last looked, and whether some were hidden.
    """

    def __init__(self, config: Limits) -> None:
        self._config = config
        self._resume: dict[str, str] = {}
        self._fed: dict[str, frozenset[str]] = {}
        self._hidden: set[str] = set()
        """The use cases that had more ready jobs than were shown."""

    def queries(self, use_cases: Iterable[str], view: TurnView) -> list[HeadsQuery]:
        """Return what to ask to be shown of use cases, each configured."""
        policies = {name: self._config.use_case_configs[name].late_policy for name in use_cases}
        # Without room there is nothing to look for, but late jobs still have to be buried.
        looking = [
            name
            for name in sorted(policies)
            if view.free(name) > 0 or policies[name] is LatePolicy.EXPIRE
        ]
        fed = {name: view.free(name) for name in looking if self._fed.get(name) != frozenset()}
        window = max((self._windows(name, view) for name in fed), default=0)
        least = min(HEADS_MIN, _level(fed.values(), LEASES_MAX))
        part = _level(fed.values(), min(LEASES_MAX, HEADS_FACTOR * window))
        return [self._query(name, policies[name], view, part, least) for name in looking]

    def _query(
        self, use_case: str, policy: LatePolicy, view: TurnView, part: int, least: int
    ) -> HeadsQuery:
        limit = self._look_at(use_case, view, part, least)
        tenants: tuple[str, ...] = ()
        if use_case in self._hidden:
            # Who waits for longest must be seen, whatever is more urgent.
            tenants = view.owed(use_case, self._queues_of(use_case), -(-limit // 2))
        return HeadsQuery(
            use_case=use_case,
            limit=limit,
            tenants=tenants,
            after=self._resume.get(use_case, ""),
            late_policy=policy,
        )

    def _queues_of(self, use_case: str) -> set[str]:
        config = self._config.use_case_configs[use_case]
        return {queue_of(use_case, config), *self._fed.get(use_case, ())}

    def _windows(self, use_case: str, view: TurnView) -> int:
        """Return how many hand-offs of a use case its queues have places for."""
        return sum(view.window(queue, use_case) for queue in self._queues_of(use_case))

    def _look_at(self, use_case: str, view: TurnView, part: int, least: int) -> int:
        """Return at how many ready jobs to look: as many as could be leased, within bounds.

        Args:
            use_case: whose jobs.
            view: tells how many may run.
            part: of what there are places for, if the use cases with ready jobs divide them evenly
                and none has more than it has room for.
            least: what shows the policy enough however few places there are.
        """
        config = self._config.use_case_configs[use_case]
        room = min(view.free(use_case), LEASES_MAX)
        if config.late_policy is LatePolicy.EXPIRE:  # to bury a job takes no place
            return max(room, HEADS_MIN)
        windows = self._windows(use_case, view)
        if not windows:
            return HEADS_LEAST
        return max(min(room, windows, part), least, HEADS_LEAST)

    def seen(self, queries: Sequence[HeadsQuery], heads: Mapping[str, Heads]) -> Mapping[str, Seen]:
        """Return what the heads show, and remember what to ask next time."""
        seen: dict[str, Seen] = {}
        for query in queries:
            name = query.use_case
            shown = heads.get(name)
            if shown is None:
                continue
            self._resume[name] = shown.resume
            self._fed[name] = shown.queues
            whole = len(shown.ready) < query.limit
            (self._hidden.discard if whole else self._hidden.add)(name)
            seen[name] = Seen(ready=shown.ready, late=shown.late, named=query.tenants, whole=whole)
        return seen


def _level(rooms: Iterable[int], left: int) -> int:
    """Return how much of what is left each may have; what one has no room for goes to others."""
    most = left
    rising = sorted(max(0, room) for room in rooms)
    for served, room in enumerate(rising):
        part = left // (len(rising) - served)
        if room >= part:
            return part
        left -= room
    return most
