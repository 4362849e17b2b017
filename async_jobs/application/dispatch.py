"""One dispatch turn: count, look, select, lease. Shared by the scheduler and own loops."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from async_jobs.domain.deadline import LatePolicy, is_late
from async_jobs.domain.errors import AsyncJobsError
from async_jobs.domain.facts import JobLeased, UseCaseSkipped
from async_jobs.domain.job import HandOff
from async_jobs.domain.limits import Limits, queue_of
from async_jobs.domain.scheduling import (
    Candidate,
    Selection,
    SelectionRequest,
    grant,
    select,
    share_window,
)
from async_jobs.ports.clock import Clock
from async_jobs.ports.queue import AdjacentQueue, JobQueue
from async_jobs.ports.store import DispatchTurn, Heads, HeadsQuery, JobStore, RunningCount
from async_jobs.ports.telemetry import Telemetry

WindowOf: TypeAlias = Callable[[str, int], int]
"""(queue, its unclaimed hand-offs) → how many more it may hold."""

LEASES_MAX = 1_000
# Looking at fewer jobs than this would blind the policy to tenants when few places are free.
HEADS_MIN = 64
# Of many use cases each is looked at for fewer. Where nothing can be handed off, so many show
# whether there is something for another queue.
HEADS_LEAST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """What a turn did.

    Attributes:
        by_queue: the hand-offs of what was leased.
        sent: queues beside the jobs, whose hand-offs were sent with their leases.
        expired: late jobs to bury.
        more: places are left, and there may be jobs for them that the turn did not see.
    """

    by_queue: Mapping[str, Sequence[HandOff]] = field(default_factory=dict)
    sent: Collection[str] = ()
    expired: Sequence[Candidate] = ()
    more: bool = False

    @property
    def handoffs(self) -> list[HandOff]:
        """The hand-offs of all queues."""
        return [handoff for handoffs in self.by_queue.values() for handoff in handoffs]


class Dispatcher:
    """Leases by the scheduling policy.

    Of each use case it remembers where its walk over tenants stands, and which queues its jobs
    were for when it last looked.

    Args:
        queue_of: the lanes; where one is beside the jobs, it hands off too. None hands nothing
            off.
    """

    def __init__(
        self,
        config: Limits,
        store: JobStore,
        clock: Clock,
        telemetry: Telemetry | None = None,
        *,
        queue_of: Callable[[str], JobQueue] | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._queue_of = queue_of
        self._resume: dict[str, str] = {}
        self._fed: dict[str, frozenset[str]] = {}

    async def dispatch(
        self,
        use_cases: Collection[str],
        window_of: WindowOf,
        lease_for: timedelta,
        *,
        limit: int = LEASES_MAX,
    ) -> Dispatched:
        """Lease what may run of the use cases that no other scheduler holds just now.

        A use case whose dispatch fails is told of and skipped; it never stops the others.

        Args:
            use_cases: names, each configured.
            window_of: how many more hand-offs a queue may hold.
            lease_for: how long the leases last unless a worker claims them.
            limit: how many jobs to lease at most, at most 1,000.

        Raises:
            AsyncJobsError: the store is unavailable or set up wrongly.
        """
        try:
            return await self._turn(use_cases, window_of, lease_for, limit)
        except AsyncJobsError:
            raise
        except Exception as error:
            if len(use_cases) == 1:
                self._skip(next(iter(use_cases)), error)
                return Dispatched()
        parts: list[Dispatched] = []
        for name in use_cases:
            left = limit - sum(len(part.handoffs) for part in parts)
            parts.append(await self.dispatch([name], window_of, lease_for, limit=left))
        return _merged(parts)

    async def _turn(
        self, use_cases: Collection[str], window_of: WindowOf, lease_for: timedelta, limit: int
    ) -> Dispatched:
        await self._clock.sync()
        quotas = self._config.per_tenant_quotas
        limited = frozenset(t for t, quota in quotas.items() if quota.max_running is not None)
        async with self._store.turn(use_cases, limited) as turn:
            if not turn.use_cases:
                return Dispatched()
            now = self._clock.now()
            unheld = limited - turn.tenants
            window = _at_most(limit, window_of)
            view = _View(self._config, await turn.running(), window, unheld)
            queries = self._queries(turn, view)
            heads = await turn.heads(queries, now) if queries else {}
            self._resume |= {name: each.resume for name, each in heads.items()}
            self._fed |= {name: each.queues for name, each in heads.items()}
            selections = view.selections(heads, now)
            chosen = [c for selection in selections.values() for c in selection.chosen]
            grants = [grant(c, until=now + lease_for, now=now) for c in chosen[: max(0, limit)]]
            lanes = self._lanes_of(chosen)
            leased = await turn.lease(grants, onto=lanes)
            sees_all = not unheld and len(turn.use_cases) == len(use_cases)
            more = (
                len(grants) >= limit
                or not sees_all
                or view.leaves_places(queries, heads, selections)
            )
        seqs = {each.job_id: each.lease_seq for each in grants if each.job_id in leased}
        sent = {lane.name for lane in lanes}
        return self._dispatched(selections, seqs, now, sent=sent, more=bool(leased) and more)

    def _lanes_of(self, chosen: Sequence[Candidate]) -> list[AdjacentQueue]:
        """Return the lanes beside the jobs for which something was chosen."""
        lanes: list[AdjacentQueue] = []
        if self._queue_of is not None:
            for name in sorted({candidate.queue for candidate in chosen}):
                # A lane that cannot be opened is told of when its hand-offs are sent.
                with suppress(Exception):
                    lane = self._queue_of(name)
                    if isinstance(lane, AdjacentQueue):
                        lanes.append(lane)
        return lanes

    def _queries(self, turn: DispatchTurn, view: _View) -> list[HeadsQuery]:
        policies = {
            name: self._config.use_case_configs[name].late_policy for name in turn.use_cases
        }
        # Without room there is nothing to look for, but late jobs still have to be buried.
        looking = [
            name
            for name in sorted(policies)
            if view.free(name) > 0 or policies[name] is LatePolicy.EXPIRE
        ]
        part = _level([view.free(name) for name in looking if self._fed.get(name) != frozenset()])
        return [
            HeadsQuery(
                use_case=name,
                limit=self._look_at(name, view, part),
                after=self._resume.get(name, ""),
                late_policy=policies[name],
            )
            for name in looking
        ]

    def _look_at(self, use_case: str, view: _View, part: int) -> int:
        """Return at how many ready jobs to look: as many as could be leased, within bounds.

        Args:
            use_case: whose jobs.
            view: tells how many may run.
            part: of what a turn can lease, if the use cases with ready jobs divide it evenly and
                none has more than it has room for.
        """
        config = self._config.use_case_configs[use_case]
        room = min(view.free(use_case), LEASES_MAX)
        if config.late_policy is LatePolicy.EXPIRE:  # to bury a job takes no place
            return max(room, HEADS_MIN)
        queues = {queue_of(use_case, config), *self._fed.get(use_case, ())}
        windows = sum(view.window(queue) for queue in queues)
        if not windows:
            return HEADS_LEAST
        return max(min(room, windows, part), min(HEADS_MIN, part), HEADS_LEAST)

    def _dispatched(
        self,
        selections: Mapping[str, Selection],
        seqs: Mapping[UUID, int],
        now: datetime,
        *,
        sent: Collection[str],
        more: bool,
    ) -> Dispatched:
        by_queue: dict[str, list[HandOff]] = {}
        for use_case, selection in selections.items():
            leased = [(c, seqs[c.id]) for c in selection.chosen if c.id in seqs]
            for c, seq in leased:
                by_queue.setdefault(c.queue, []).append(HandOff(c.id, seq, c.tenant_id))
            self._tell(use_case, leased, now)
        expired = [c for selection in selections.values() for c in selection.expired]
        return Dispatched(by_queue=by_queue, sent=sent, expired=expired, more=more)

    def _tell(self, use_case: str, leased: Sequence[tuple[Candidate, int]], now: datetime) -> None:
        if self._telemetry is None or not self._telemetry.wants(JobLeased):
            return
        for c, seq in leased:
            self._telemetry.record(
                JobLeased(
                    at=now,
                    job_id=c.id,
                    tenant_id=c.tenant_id,
                    use_case=use_case,
                    lease_seq=seq,
                    queue=c.queue,
                )
            )

    def _skip(self, use_case: str, error: Exception) -> None:
        if self._telemetry is not None:
            at = self._clock.now()
            told = f"{type(error).__name__}: {error}"
            self._telemetry.record(UseCaseSkipped(at=at, use_case=use_case, error=told))


class _View:
    """What a turn saw, and the policy applied to it, use case by use case."""

    def __init__(
        self,
        config: Limits,
        counts: Sequence[RunningCount],
        window_of: WindowOf,
        tenants_unheld: frozenset[str],
    ) -> None:
        self._config = config
        self._window_of = window_of
        self._tenants_unheld = tenants_unheld
        self._running: defaultdict[str, defaultdict[str, int]] = defaultdict(_counts)
        self._tenant_running: Counter[str] = Counter()
        self._unclaimed: Counter[str] = Counter()
        self._windows: dict[str, int] = {}
        for count in counts:
            running = count.claimed + count.unclaimed
            self._running[count.use_case][count.tenant_id] += running
            self._tenant_running[count.tenant_id] += running
            self._unclaimed[count.queue] += count.unclaimed

    def free(self, use_case: str) -> int:
        """Return how many more jobs of the use case may run."""
        running = sum(self._running[use_case].values())
        return self._config.use_case_configs[use_case].max_concurrent - running

    def window(self, queue: str) -> int:
        """Return how many more hand-offs a queue may hold in this turn."""
        if queue not in self._windows:
            self._windows[queue] = max(0, self._window_of(queue, self._unclaimed[queue]))
        return self._windows[queue]

    def selections(self, heads: Mapping[str, Heads], now: datetime) -> Mapping[str, Selection]:
        """Select in each use case, the most pressing one first, then share the windows."""
        selections: dict[str, Selection] = {}
        for use_case in sorted(heads, key=lambda name: (_most_urgent(heads[name], now), name)):
            selection = self._select(use_case, heads[use_case], now)
            selections[use_case] = selection
            # Tenants are limited over all use cases: the next one sees what this one took.
            self._tenant_running.update(candidate.tenant_id for candidate in selection.chosen)
        return self._within_windows(selections)

    def leaves_places(
        self,
        queries: Sequence[HeadsQuery],
        heads: Mapping[str, Heads],
        selections: Mapping[str, Selection],
    ) -> bool:
        """Tell whether jobs that were not shown might have been chosen as well."""
        taken = Counter(c.queue for selection in selections.values() for c in selection.chosen)
        return any(
            # All are shown when they are fewer than was asked for.
            len(heads[name].ready) >= query.limit
            and len(selections[name].chosen) < self.free(name)
            and any(taken[queue] < self.window(queue) for queue in heads[name].queues)
            for query in queries
            if (name := query.use_case) in selections
        )

    def _select(self, use_case: str, heads: Heads, now: datetime) -> Selection:
        config = self._config.use_case_configs[use_case]
        expires = config.late_policy is LatePolicy.EXPIRE
        known: Collection[Candidate] = heads.ready
        if heads.late:
            known = {c.id: c for c in (*heads.ready, *heads.late)}.values()
        windows = {queue: self.window(queue) for queue in {c.queue for c in known}}
        if not all(windows.values()):
            # What waits for a full queue must not stand before what waits for another one;
            # only what is to be buried needs no room.
            known = [
                c for c in known if windows[c.queue] or (expires and is_late(c.deadline_at, now))
            ]
        return select(
            SelectionRequest(
                config=config,
                now=now,
                running=self._running[use_case],
                tenant_running=self._tenant_running,
                quotas=self._config.per_tenant_quotas,
                window=sum(windows.values()),
                candidates=known,
                tenants_unheld=self._tenants_unheld,
                explain=False,
            )
        )

    def _within_windows(self, selections: Mapping[str, Selection]) -> Mapping[str, Selection]:
        chosen = Counter(c.queue for selection in selections.values() for c in selection.chosen)
        if len(chosen) == 1:
            return share_window(selections, self.window(*chosen), explain=False)
        crowded = [queue for queue, count in chosen.items() if count > self.window(queue)]
        for queue in crowded:
            of_queue = {
                name: replace(s, chosen=tuple(c for c in s.chosen if c.queue == queue))
                for name, s in selections.items()
            }
            shared = share_window(of_queue, self.window(queue), explain=False)
            kept = {c.id for selection in shared.values() for c in selection.chosen}
            selections = {
                name: replace(
                    s, chosen=tuple(c for c in s.chosen if c.queue != queue or c.id in kept)
                )
                for name, s in selections.items()
            }
        return selections


def _level(rooms: Iterable[int]) -> int:
    """Return how much of a turn's leases each may have; what one has no room for goes to others."""
    left = LEASES_MAX
    rising = sorted(max(0, room) for room in rooms)
    for served, room in enumerate(rising):
        part = left // (len(rising) - served)
        if room >= part:
            return part
        left -= room
    return LEASES_MAX


def _counts() -> defaultdict[str, int]:
    return defaultdict(int)


def _at_most(limit: int, window_of: WindowOf) -> WindowOf:
    return lambda queue, unclaimed: min(limit, window_of(queue, unclaimed))


def _most_urgent(heads: Heads, now: datetime) -> datetime:
    return min((candidate.deadline_at for candidate in heads.ready), default=now)


def _merged(parts: Sequence[Dispatched]) -> Dispatched:
    by_queue: dict[str, list[HandOff]] = {}
    for part in parts:
        for queue, handoffs in part.by_queue.items():
            by_queue.setdefault(queue, []).extend(handoffs)
    return Dispatched(
        by_queue=by_queue,
        sent={queue for part in parts for queue in part.sent},
        expired=[c for part in parts for c in part.expired],
        more=any(part.more for part in parts),
    )
