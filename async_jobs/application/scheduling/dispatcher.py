"""One dispatch turn: count, look, select, lease. Shared by the scheduler and own loops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from async_jobs.application.in_force import InForce
from async_jobs.application.looking import LEASES_MAX, Lookout
from async_jobs.domain.dispatching import Chosen, Round, TurnView
from async_jobs.domain.errors import ConfigurationError, StoreRefused, Unavailable
from async_jobs.domain.facts import JobLeased, UseCaseSkipped
from async_jobs.domain.fairness import ServiceMemory
from async_jobs.domain.job import HandOff
from async_jobs.domain.limits import Limits, TenantQuota
from async_jobs.domain.pools import Fleet
from async_jobs.domain.scheduling import Candidate, grant
from async_jobs.ports.clock import Clock
from async_jobs.ports.leases import DispatchTurn, Leases
from async_jobs.ports.queue import Outbox
from async_jobs.ports.telemetry import Telemetry

# What is refused leaves its place to others: in the last round to those of other tenants only, for
# who knows how many more of the same tenant's jobs are refused.
ROUNDS_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """What a turn did.

    Attributes:
        by_queue: the hand-offs of what was leased.
        sent: outboxes, whose hand-offs were sent with their leases.
        expired: late jobs to bury.
        late: the use cases that showed late jobs which go behind others.
        more: places are left, and there may be jobs for them that the turn did not see.
        refused: how many jobs the store refuses to lease; their places may be left.
        started: how many jobs were leased, by use case.
        leads: the use cases whose turn was held.
        paused: what stood before others and may not start.
    """

    by_queue: Mapping[str, Sequence[HandOff]] = field(default_factory=dict)
    sent: Collection[str] = ()
    expired: Sequence[Candidate] = ()
    late: Collection[str] = ()
    more: bool = False
    refused: int = 0
    started: Mapping[str, int] = field(default_factory=dict)
    leads: Collection[str] = ()
    paused: Sequence[Chosen] = ()

    @property
    def handoffs(self) -> list[HandOff]:
        """The hand-offs of all queues."""
        return [handoff for handoffs in self.by_queue.values() for handoff in handoffs]


class _Leased(NamedTuple):
    """What a round of a turn chose, what of it was leased by which number, and onto which outboxes.

    `more` as in `Dispatched`.
    """

    chosen: Round
    seqs: Mapping[UUID, int]
    sent: Collection[str]
    more: bool


class _Taken(NamedTuple):
    """A turn that has ended, and what was leased in it, if it was known what controls stand."""

    turn: DispatchTurn
    limited: AbstractSet[str]
    now: datetime
    rounds: Sequence[_Leased]
    knows_controls: bool


class Dispatcher:
    """Leases by the scheduling policy.

    Of each use case it remembers where it looked last (`Lookout`); of each tenant that waits, what
    it has had (`memory`).

    Args:
        outbox_of: gives the outbox of a queue, whose hand-offs commit with their leases; None for a
            queue of which that is not so, which is left to the caller.
        interval: how much time passes between two turns at most, as long as nothing fails.
    """

    def __init__(
        self,
        config: Limits,
        leases: Leases,
        clock: Clock,
        telemetry: Telemetry | None = None,
        *,
        outbox_of: Callable[[str], Outbox | None] = lambda queue: None,
        interval: timedelta = timedelta(seconds=1),
    ) -> None:
        self.memory = ServiceMemory(interval)
        self._config = InForce.of(config)
        self._leases = leases
        self._clock = clock
        self._telemetry = telemetry
        self._outbox_of = outbox_of
        self._lookout = Lookout(self._config)
        self._limited = _Limited()

    async def dispatch(
        self,
        use_cases: Collection[str],
        fleet: Fleet,
        lease_for: timedelta,
        *,
        limit: int = LEASES_MAX,
    ) -> Dispatched:
        """Lease what may run of the use cases that no other scheduler holds just now.

        A use case whose dispatch fails is told of and skipped; it never stops the others.

        Args:
            use_cases: names, each configured.
            fleet: the slots there are to run them.
            lease_for: how long the leases last unless a worker claims them.
            limit: how many jobs to lease at most, at most 1,000.

        Raises:
            Unavailable: the store did not answer.
            ConfigurationError: it is set up wrongly.
        """
        problem: Exception
        for _ in range(2):
            try:
                return await self._turn(use_cases, fleet, lease_for, limit)
            except (Unavailable, ConfigurationError):
                raise
            except StoreRefused as refusal:
                problem = refusal  # from now on the store finds out which leases it refuses
            except Exception as error:
                problem = error
                break
        if len(use_cases) == 1:
            self._skip(next(iter(use_cases)), problem)
            return Dispatched()
        parts: list[Dispatched] = []
        for name in use_cases:
            left = limit - sum(len(part.handoffs) for part in parts)
            parts.append(await self.dispatch([name], fleet, lease_for, limit=left))
        return _merged(parts)

    async def _turn(
        self, use_cases: Collection[str], fleet: Fleet, lease_for: timedelta, limit: int
    ) -> Dispatched:
        await self._clock.sync()
        self._config.settle(self._clock.now())
        taken = await self._taken(use_cases, fleet, lease_for, limit)
        if not taken.knows_controls:
            # Those that changed may limit tenants whose turn has to be taken as well.
            await self._config.read(self._clock.now())
            taken = await self._taken(use_cases, fleet, lease_for, limit, in_any_case=True)
        turn, limited, now, rounds = taken.turn, taken.limited, taken.now, taken.rounds
        if not rounds:
            return Dispatched()
        sees_all = len(turn.tenants) == len(limited) and len(turn.use_cases) == len(use_cases)
        more = not sees_all or any(each.more for each in rounds)
        parts = [self._dispatched(each, now) for each in rounds]
        leased = any(part.by_queue for part in parts)
        # What is to be buried, or is paused, is seen in every round.
        return replace(
            _merged(parts),
            expired=parts[0].expired,
            paused=rounds[0].chosen.paused,
            more=leased and more,
            refused=len(turn.refused),
            leads=turn.use_cases,
        )

    async def _taken(
        self,
        use_cases: Collection[str],
        fleet: Fleet,
        lease_for: timedelta,
        limit: int,
        *,
        in_any_case: bool = False,
    ) -> _Taken:
        """Take a turn, and lease in it if it is known what controls stand, or in any case."""
        limited = self._limited.of(self._config.per_tenant_quotas)
        async with self._leases.turn(use_cases, limited) as turn:
            now = self._clock.now()
            knows = in_any_case or self._config.knows(turn.controls)
            rounds: list[_Leased] = []
            if knows and turn.use_cases:
                rounds = await self._rounds(turn, limited, fleet, now, lease_for, limit)
        return _Taken(turn, limited, now, rounds, knows)

    async def _rounds(
        self,
        turn: DispatchTurn,
        limited: AbstractSet[str],
        fleet: Fleet,
        now: datetime,
        lease_for: timedelta,
        limit: int,
    ) -> list[_Leased]:
        # To subtract all from all costs by their number, turn after turn.
        held_all = len(turn.tenants) == len(limited)
        unheld: AbstractSet[str] = frozenset() if held_all else limited - turn.tenants
        rounds: list[_Leased] = []
        refused, passed = 0, frozenset[str]()
        while not rounds or (refused < len(turn.refused) and len(rounds) < ROUNDS_MAX):
            refused = len(turn.refused)
            if len(rounds) == ROUNDS_MAX - 1:
                passed = _tenants_of(turn.refused, rounds)
            view = TurnView(
                self._config,
                await turn.running(fleet.workers),
                fleet,
                self.memory,
                tenants_unheld=unheld,
                limit=limit - sum(len(each.seqs) for each in rounds),
                now=now,
                pauses=self._config.pauses,
            )
            rounds.append(await self._round(turn, view, now, now + lease_for, passed))
        return rounds

    async def _round(
        self,
        turn: DispatchTurn,
        view: TurnView,
        now: datetime,
        until: datetime,
        passed: AbstractSet[str],
    ) -> _Leased:
        """Look, choose and lease; the jobs of some tenants are passed over."""
        queries = self._lookout.queries(turn.use_cases, view)
        heads = await turn.heads(queries, now) if queries else {}
        seen = self._lookout.seen(queries, heads)
        if passed:
            seen = {
                name: replace(each, ready=[c for c in each.ready if c.tenant_id not in passed])
                for name, each in seen.items()
            }
        chosen = view.choose(seen)
        grants = [grant(c, until=until, now=now) for _, c in chosen.chosen]
        outboxes = self._outboxes_of(c for _, c in chosen.chosen)
        leased = await turn.lease(grants, onto=outboxes)
        return _Leased(
            chosen,
            {each.job_id: each.lease_seq for each in grants if each.job_id in leased},
            {outbox.name for outbox in outboxes},
            len(grants) >= view.limit or chosen.more or view.hides_work(seen, chosen.chosen),
        )

    def _outboxes_of(self, chosen: Iterable[Candidate]) -> list[Outbox]:
        """Return the outboxes for which something was chosen."""
        outboxes: list[Outbox] = []
        for name in sorted({candidate.queue for candidate in chosen}):
            # One that cannot be opened is told of when its hand-offs are sent.
            with suppress(Exception):
                outbox = self._outbox_of(name)
                if outbox is not None:
                    outboxes.append(outbox)
        return outboxes

    def _dispatched(self, part: _Leased, now: datetime) -> Dispatched:
        by_queue: dict[str, list[HandOff]] = {}
        leased = [each for each in part.chosen.chosen if each[1].id in part.seqs]
        for _, c in leased:
            by_queue.setdefault(c.queue, []).append(HandOff(c.id, part.seqs[c.id], c.tenant_id))
        self._tell(leased, part.seqs, now)
        return Dispatched(
            by_queue=by_queue,
            sent=part.sent,
            expired=part.chosen.expired,
            late=part.chosen.late,
            started=Counter([use_case for use_case, _ in leased]),
        )

    def _tell(self, leased: Sequence[Chosen], seqs: Mapping[UUID, int], now: datetime) -> None:
        if self._telemetry is None or not self._telemetry.wants(JobLeased):
            return
        for use_case, c in leased:
            self._telemetry.record(
                JobLeased(
                    at=now,
                    job_id=c.id,
                    tenant_id=c.tenant_id,
                    use_case=use_case,
                    lease_seq=seqs[c.id],
                    queue=c.queue,
                )
            )

    def _skip(self, use_case: str, error: Exception) -> None:
        if self._telemetry is not None:
            at = self._clock.now()
            told = f"{type(error).__name__}: {error}"
            self._telemetry.record(UseCaseSkipped(at=at, use_case=use_case, error=told))


class _Limited:
    """The tenants that `max_running` limits, kept as long as the quotas stay what they are."""

    def __init__(self) -> None:
        self._quotas: Mapping[str, TenantQuota] = {}
        self._tenants: frozenset[str] = frozenset()

    def of(self, quotas: Mapping[str, TenantQuota]) -> frozenset[str]:
        """Return the limited ones among those with a quota."""
        # Quotas may be changed in place: to compare them costs a fifth of sorting them out.
        if self._quotas != quotas:
            self._quotas = dict(quotas)
            self._tenants = frozenset(
                tenant for tenant, quota in quotas.items() if quota.max_running is not None
            )
        return self._tenants


def _tenants_of(job_ids: Collection[UUID], rounds: Iterable[_Leased]) -> frozenset[str]:
    return frozenset(
        c.tenant_id for each in rounds for _, c in each.chosen.chosen if c.id in job_ids
    )


def _merged(parts: Sequence[Dispatched]) -> Dispatched:
    by_queue: dict[str, list[HandOff]] = {}
    for part in parts:
        for queue, handoffs in part.by_queue.items():
            by_queue.setdefault(queue, []).extend(handoffs)
    return Dispatched(
        by_queue=by_queue,
        sent={queue for part in parts for queue in part.sent},
        expired=[c for part in parts for c in part.expired],
        late={name for part in parts for name in part.late},
        more=any(part.more for part in parts),
        refused=sum(part.refused for part in parts),
        started=sum((Counter(part.started) for part in parts), Counter()),
        leads={name for part in parts for name in part.leads},
        paused=[each for part in parts for each in part.paused],
    )
