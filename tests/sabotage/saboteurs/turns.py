"""Stores whose turns break one promise each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from itertools import takewhile
from uuid import UUID

from async_jobs.domain.deadline import is_late
from async_jobs.domain.lifecycle import Leased, change
from async_jobs.domain.scheduling import Candidate, LeaseGrant
from async_jobs.domain.turns import RunningCount
from async_jobs.ports.leases import NOBODY, DispatchTurn, Heads, HeadsQuery
from async_jobs.ports.queue import Outbox
from async_jobs.ports.upkeep import Upcoming
from async_jobs.testing.builders import UnreadableRows
from async_jobs.testing.clocks import NOW
from async_jobs.testing.model import most_urgent
from tests.sabotage.saboteurs.stores import HOUR, Untouched


class Turn:
    """Hands every question on; the saboteurs change one."""

    def __init__(self, inner: DispatchTurn, store: Untouched) -> None:
        self.inner = inner
        self.store = store

    @property
    def use_cases(self) -> frozenset[str]:
        return self.inner.use_cases

    @property
    def tenants(self) -> frozenset[str]:
        return self.inner.tenants

    @property
    def controls(self) -> int:
        return self.inner.controls

    @property
    def refused(self) -> Collection[UUID]:
        return self.inner.refused

    async def running(self, workers: Mapping[str, int] = NOBODY) -> Sequence[RunningCount]:
        return await self.inner.running(workers)

    async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
        return await self.inner.heads(queries, now)

    async def lease(
        self, grants: Sequence[LeaseGrant], *, onto: Sequence[Outbox] = ()
    ) -> frozenset[UUID]:
        return await self.inner.lease(grants, onto=onto)


class InTurns(Untouched):
    """A store whose turns are of another kind."""

    class Kind(Turn):
        """What the saboteurs replace."""

    @asynccontextmanager
    async def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AsyncIterator[DispatchTurn]:
        async with super().turn(use_cases, tenants) as turn:
            yield self.Kind(turn, self)


class ShowsEarly(InTurns):
    """Shows jobs that are not due."""

    breaks = "LS-1"

    class Kind(Turn):
        async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
            return await super().heads(queries, now + HOUR)


class ShowsInDisorder(InTurns):
    """Shows the jobs of each tenant from their end."""

    breaks = "LS-1"

    class Kind(Turn):
        async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
            heads = await super().heads(queries, now)
            return {name: replace(each, ready=each.ready[::-1]) for name, each in heads.items()}


class ShowsTheLoudOnly(InTurns):
    """Shows the most urgent jobs, so that a large backlog hides the tenants behind it."""

    breaks = "LS-1"

    class Kind(Turn):
        async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
            heads = await super().heads(queries, now)
            limits = {query.use_case: query.limit for query in queries}
            return {
                name: Heads(
                    ready=tuple(sorted(each.ready, key=lambda c: c.deadline_at)[: limits[name]]),
                    late=each.late,
                )
                for name, each in heads.items()
            }


class ShowsUrgentBehindPriority(InTurns):
    """Shows a beginning of what each tenant has, and nothing else."""

    breaks = "LS-1"

    class Kind(Turn):
        async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
            heads = await super().heads(queries, now)
            whole = await super().heads([replace(query, limit=10_000) for query in queries], now)
            return {
                name: replace(each, ready=beginnings(each.ready, whole[name].ready))
                for name, each in heads.items()
            }


class ShowsUrgentBehindOverdue(InTurns):
    """The same, but only of tenants that have late jobs."""

    breaks = "LS-1"

    class Kind(Turn):
        async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
            heads = await super().heads(queries, now)
            whole = await super().heads([replace(query, limit=10_000) for query in queries], now)
            return {
                name: replace(each, ready=beginnings(each.ready, whole[name].ready, now))
                for name, each in heads.items()
            }


class ForgetsWhoIsNamed(InTurns):
    """Shows named tenants when their turn comes."""

    breaks = "LS-1"

    class Kind(Turn):
        async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
            return await super().heads([replace(query, tenants=()) for query in queries], now)


class ShowsNamedTenantsOnly(InTurns):
    """Forgets the rotation where tenants are named."""

    breaks = "LS-1"

    class Kind(Turn):
        async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
            heads = dict(await super().heads(queries, now))
            for query in queries:
                if query.tenants:
                    shown = heads[query.use_case]
                    ready = tuple(c for c in shown.ready if c.tenant_id in query.tenants)
                    heads[query.use_case] = replace(shown, ready=ready, resume="")
            return heads


class ShowsFewerThanThereAre(InTurns):
    """Shows less than was asked for, so that a scheduler takes a part for the whole."""

    breaks = "LS-1"

    class Kind(Turn):
        async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
            fewer = [replace(query, limit=max(1, query.limit - 1)) for query in queries]
            limits = {query.use_case: query.limit for query in fewer}
            heads = await super().heads(fewer, now)
            return {
                name: replace(each, ready=each.ready[: limits[name]])
                for name, each in heads.items()
            }


class ShowsUrgentTwice(InTurns):
    """Shows the most urgent job in its tenant's order, and once more at the end."""

    breaks = "LS-1"

    class Kind(Turn):
        async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
            heads = await super().heads(queries, now)
            return {
                name: replace(each, ready=each.ready + tuple(most_urgent(each.ready, 1, now)))
                for name, each in heads.items()
            }


class TellsNoTolerance(InTurns):
    """Shows jobs as if all were due by their deadline at once."""

    breaks = "LS-1"

    class Kind(Turn):
        async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
            heads = await super().heads(queries, now)
            return {
                name: replace(
                    each, ready=tuple(c._replace(tolerance_seconds=0.0) for c in each.ready)
                )
                for name, each in heads.items()
            }


class TellsNoType(InTurns):
    """Shows late jobs without what kind of work they are."""

    breaks = "LS-1"

    class Kind(Turn):
        async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
            heads = await super().heads(queries, now)
            return {
                name: replace(each, late=tuple(c._replace(type="") for c in each.late))
                for name, each in heads.items()
            }


def beginnings(
    shown: Sequence[Candidate], whole: Sequence[Candidate], now: datetime | None = None
) -> tuple[Candidate, ...]:
    """Leave out what is shown behind something that is not, of those with jobs late at `now`."""
    known, kept = set(shown), []
    for tenant in dict.fromkeys(candidate.tenant_id for candidate in shown):
        lane = [candidate for candidate in whole if candidate.tenant_id == tenant]
        if now is None or any(is_late(candidate.deadline_at, now) for candidate in lane):
            lane = list(takewhile(known.__contains__, lane))
        kept += [candidate for candidate in lane if candidate in known]
    return tuple(kept)


class Overlaps(InTurns):
    """Gives everybody whatever they ask for."""

    breaks = "LS-2"

    @asynccontextmanager
    async def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AsyncIterator[DispatchTurn]:
        class Everything(Turn):
            use_cases = frozenset(use_cases)
            tenants = frozenset(tenants)

        async with super().turn(use_cases, tenants) as turn:
            yield Everything(turn, self)


class NeverLetsGo(InTurns):
    """Keeps a turn whose holder broke off."""

    breaks = "LS-2"

    def __init__(self, unreadable: UnreadableRows) -> None:
        super().__init__(unreadable)
        self.stuck: set[str] = set()

    @asynccontextmanager
    async def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AsyncIterator[DispatchTurn]:
        free = [name for name in use_cases if name not in self.stuck]
        async with super().turn(free, tenants) as turn:
            try:
                yield turn
            except BaseException:
                self.stuck |= turn.use_cases
                raise


class LeasesAtOnce(InTurns):
    """Leases for everybody to see, and for good, before the turn has ended."""

    breaks = "LS-3"

    class Kind(Turn):
        async def lease(
            self, grants: Sequence[LeaseGrant], *, onto: Sequence[Outbox] = ()
        ) -> frozenset[UUID]:
            by_id = {grant.job_id: grant for grant in grants}
            jobs = await self.store.get(by_id)
            known = [job for job in jobs if job.lease_seq == by_id[job.id].expected_lease_seq]
            leases = [
                change(job, Leased(by_id[job.id].until), now=by_id[job.id].at) for job in known
            ]
            return (await self.store.save(leases)).ids


class LeasesByIdAlone(InTurns):
    """Ignores the lease number that a grant expects."""

    breaks = "LS-3"

    class Kind(Turn):
        async def lease(
            self, grants: Sequence[LeaseGrant], *, onto: Sequence[Outbox] = ()
        ) -> frozenset[UUID]:
            jobs = await self.store.get([grant.job_id for grant in grants])
            seqs = {job.id: job.lease_seq for job in jobs}
            found = [g._replace(expected_lease_seq=seqs.get(g.job_id, 0)) for g in grants]
            return await super().lease(found, onto=onto)


class CountsTooFew(InTurns):
    """Counts claimed jobs only, so that hand-offs under way break the cap."""

    breaks = "LS-3"

    class Kind(Turn):
        async def running(self, workers: Mapping[str, int] = NOBODY) -> Sequence[RunningCount]:
            return [count._replace(unclaimed=0) for count in await super().running(workers)]


class KnowsNoTomorrow(Untouched):
    """Cannot tell when the next job comes due."""

    breaks = "UP-2"

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        await super().promote(now, limit=limit, sidelined=sidelined)
        return Upcoming(None)


class TellsOfPromotionsThatWereNone(Untouched):
    """Says that a job was made visible which everybody saw before."""

    breaks = "UP-2"

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        upcoming = await super().promote(now, limit=limit, sidelined=sidelined)
        return upcoming._replace(promoted=upcoming.promoted + 1)


class LeasesByItsOwnClock(InTurns):
    """Puts an instant of its own into what it leases."""

    breaks = "LS-5"

    class Kind(Turn):
        async def lease(
            self, grants: Sequence[LeaseGrant], *, onto: Sequence[Outbox] = ()
        ) -> frozenset[UUID]:
            return await super().lease([grant._replace(at=NOW) for grant in grants], onto=onto)
