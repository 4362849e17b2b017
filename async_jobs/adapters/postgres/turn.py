"""A dispatch turn: one transaction that holds advisory locks."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any, TypeAlias
from uuid import UUID
from zlib import crc32

import asyncpg

from async_jobs.adapters.postgres.apart import MET_MAX, UNCHANGED, Apart
from async_jobs.adapters.postgres.errors import translated
from async_jobs.adapters.postgres.pool import AnyConnection
from async_jobs.adapters.postgres.queue import PostgresJobQueue
from async_jobs.adapters.postgres.rows import candidates_of
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.errors import StoreRefused
from async_jobs.domain.scheduling import Candidate, LeaseGrant
from async_jobs.domain.turns import RunningCount
from async_jobs.ports.leases import NOBODY, Heads, HeadsQuery
from async_jobs.ports.queue import Outbox

TENANT_LOCKS = 1_024
_Lease: TypeAlias = tuple[UUID, int, int, int]
"""Which job, the number of its last lease and of this one, and its place in the order."""
# What the commit would check is checked now, and again when it comes to what follows.
_CHECK_AS_COMMIT_WOULD = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED"


def lock_key(kind: str, name: str) -> int:
    """Return the advisory lock of a named thing, as a signed 64-bit key.

    Two names that share a key share a lock, which costs time, never correctness.
    """
    digest = hashlib.blake2b(f"async_jobs/{kind}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


@cache
def _tenant_locks() -> Sequence[int]:
    return [lock_key("turn_tenant", str(number)) for number in range(TENANT_LOCKS)]


def turn_key(tenant_id: str) -> int:
    """Return the advisory lock that a turn holds for a tenant, which it shares with others.

    A turn asks for all tenants with a limit at once, and the server's lock table is small.
    """
    return _tenant_locks()[crc32(tenant_id.encode()) % TENANT_LOCKS]


@lru_cache(maxsize=1)
def _by_turn_key(tenants: frozenset[str]) -> Mapping[int, Sequence[str]]:
    """Return tenants by their lock; kept, because turn after turn asks for the same ones."""
    by_key: dict[int, list[str]] = {}
    for tenant in tenants:
        by_key.setdefault(turn_key(tenant), []).append(tenant)
    return by_key


class PostgresTurn:
    """Implements `DispatchTurn` within an open transaction of the store's."""

    def __init__(
        self,
        connection: AnyConnection,
        use_cases: frozenset[str],
        tenants: frozenset[str],
    ) -> None:
        self._connection = connection
        self._use_cases = use_cases
        self._tenants = tenants
        self.handed_off: set[PostgresJobQueue] = set()
        """The lanes on which its hand-offs are once it has been committed."""
        self.apart: Apart | None = None
        """Knows which rows were refused lately: they are not shown for a while."""
        self.leases_apart = False
        """True where rows may be refused: the others are leased, for two more trips."""
        self._refused: set[UUID] = set()
        self._controls = 0

    @classmethod
    async def take(
        cls,
        connection: AnyConnection,
        use_cases: Collection[str],
        tenants: Collection[str],
    ) -> PostgresTurn:
        """Take what is free, in one round trip, waiting for nothing."""
        keys = {name: lock_key("use_case", name) for name in use_cases}
        limited = frozenset(tenants)
        tenants_of = _by_turn_key(limited)
        rows = await connection.fetch(sql("take_turns"), sorted({*keys.values(), *tenants_of}))
        version = next((row["controls"] for row in rows if row["key"] is None), 0)
        missed = {row["key"] for row in rows if row["key"] is not None}
        if not tenants_of.keys().isdisjoint(missed):
            limited = limited.difference(*(tenants_of.get(key, ()) for key in missed))
        free = frozenset(name for name, key in keys.items() if key not in missed)
        turn = cls(connection, free, limited)
        turn._controls = version
        return turn

    @property
    def use_cases(self) -> frozenset[str]:
        """See `DispatchTurn`."""
        return self._use_cases

    @property
    def tenants(self) -> frozenset[str]:
        """See `DispatchTurn`."""
        return self._tenants

    @property
    def controls(self) -> int:
        """See `DispatchTurn`."""
        return self._controls

    @property
    def refused(self) -> Collection[UUID]:
        """See `DispatchTurn`."""
        return self._refused

    async def running(self, workers: Mapping[str, int] = NOBODY) -> Sequence[RunningCount]:
        """See `DispatchTurn`."""
        ids = list(workers)
        if groups := {id_: number for id_, number in workers.items() if number}:
            told_apart, numbers = list(groups), list(groups.values())
            counting = sql("running_counts_by_group")
            rows = await self._connection.fetch(counting, ids, told_apart, numbers)
        else:
            rows = await self._connection.fetch(sql("running_counts"), ids)
        return [RunningCount(*row) for row in rows]

    async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
        """See `DispatchTurn`."""
        held = [query for query in queries if query.use_case in self._use_cases]
        if not held:
            return {}
        hidden: Sequence[UUID] = ()
        if self.apart is not None:
            hidden = self.apart.not_ready(now, {query.use_case for query in held})
        rows = await self._connection.fetch(
            sql("ready_heads"),
            [query.use_case for query in held],
            [query.limit for query in held],
            [query.after for query in held],
            now,
            [tenant for query in held for tenant in query.tenants],
            [place for place, query in enumerate(held, 1) for _ in query.tenants],
            hidden,
        )
        marks = Counter(map(_mark_of, rows))
        resume = _resume(rows) if any(mark & _IS_LAST for mark in marks) else {}
        if resume:
            rows = [row for row in rows if row["id"] is not None]
        shown = _by_place(rows, len(held))
        urgent = await self._urgent(
            [
                query
                for place, (query, each) in enumerate(zip(held, shown, strict=True), 1)
                if len(each) >= query.limit > _count(marks, place, _PRESSES)
            ],
            now,
            hidden,
        )
        expiring = [query for query in held if query.late_policy is LatePolicy.EXPIRE]
        late = await self._late(expiring, now, hidden)
        return {
            query.use_case: Heads(
                ready=_with(candidates_of(each), urgent.get(query.use_case, ())),
                late=late.get(query.use_case, ()),
                resume=resume.get(place, ""),
            )
            for place, (query, each) in enumerate(zip(held, shown, strict=True), 1)
        }

    async def _urgent(
        self, queries: Sequence[HeadsQuery], now: datetime, hidden: Sequence[UUID]
    ) -> Mapping[str, Sequence[Candidate]]:
        if not queries:
            return {}
        rows = await self._connection.fetch(
            sql("urgent_heads"),
            [query.use_case for query in queries],
            [query.limit for query in queries],
            now,
            hidden,
        )
        urgent: dict[str, list[Candidate]] = {}
        for row, candidate in zip(rows, candidates_of(rows), strict=True):
            urgent.setdefault(row["use_case"], []).append(candidate)
        return urgent

    async def _late(
        self, queries: Sequence[HeadsQuery], now: datetime, hidden: Sequence[UUID]
    ) -> Mapping[str, tuple[Candidate, ...]]:
        if not queries:
            return {}
        rows = await self._connection.fetch(
            sql("late_heads"),
            [query.use_case for query in queries],
            [query.limit for query in queries],
            now,
            hidden,
        )
        late: dict[str, list[Candidate]] = {query.use_case: [] for query in queries}
        for row, candidate in zip(rows, candidates_of(rows), strict=True):
            late[row["use_case"]].append(candidate)
        return {
            query.use_case: tuple(
                sorted(late[query.use_case], key=lambda c: (c.deadline_at, c.id))[: query.limit]
            )
            for query in queries
        }

    async def lease(
        self, grants: Sequence[LeaseGrant], *, onto: Sequence[Outbox] = ()
    ) -> frozenset[UUID]:
        """See `DispatchTurn`. `onto` are lanes of this adapter."""
        lanes = [lane for lane in onto if isinstance(lane, PostgresJobQueue)]
        if len(lanes) < len(onto):
            raise TypeError("a turn hands off on queues of its own database only")
        self.handed_off |= set(lanes)
        # Those of a turn mostly share their times, and to encode times for each costs most.
        by_times: defaultdict[tuple[datetime, datetime], list[_Lease]]
        by_times = defaultdict(list)
        for place, (job_id, expected_seq, seq, until, at) in enumerate(grants):
            by_times[until, at].append((job_id, expected_seq, seq, place))
        apart = self._apart_for(grants)
        leased: set[UUID] = set()
        for times, alike in by_times.items():
            alike.sort()
            after = (
                *times,
                [lane.name for lane in lanes],
                [lane.channel for lane in lanes if lane.channel is not None],
            )
            problems: dict[UUID, StoreRefused] = {}
            if apart is None:
                tried, done = alike, await self._lease(alike, after)
            else:
                tried, done = await self._lease_apart(apart, alike, after, problems)
            ids = {row[0] for row in done}
            if len(ids) < len(tried):
                lost = [each for each in tried if each[0] not in ids]
                await self._tell_refused(lost, problems, at=times[1])
            leased |= ids
        return frozenset(leased)

    def _apart_for(self, grants: Sequence[LeaseGrant]) -> Apart | None:
        """Return what leases each for itself, if some of them may be refused."""
        apart = self.apart
        if apart is None or self.leases_apart:
            return apart
        return apart if apart.knows_any(grant.job_id for grant in grants) else None

    async def _lease(self, alike: Sequence[_Lease], after: Sequence[Any]) -> list[asyncpg.Record]:
        return await self._connection.fetch(sql("lease_jobs"), *zip(*alike, strict=True), *after)

    async def _lease_apart(
        self,
        apart: Apart,
        alike: Sequence[_Lease],
        after: Sequence[Any],
        problems: dict[UUID, StoreRefused],
    ) -> tuple[list[_Lease], list[asyncpg.Record]]:
        """Return what was tried, and what was leased of it; adds the problems of what was refused.

        After many refusals the rest is left to another turn: others may wait for this one's locks.
        """
        tried: list[_Lease] = []

        async def write(some: Sequence[_Lease]) -> list[asyncpg.Record]:
            async with translated(), self._connection.transaction():
                leased = await self._lease(some, after)
                await self._connection.execute(_CHECK_AS_COMMIT_WOULD)
            tried.extend(some)
            return leased

        def refused(row: _Lease, error: StoreRefused) -> None:
            tried.append(row)
            problems[row[0]] = error

        return tried, await apart.write(alike, write, refused=refused, met_max=MET_MAX)

    async def _tell_refused(
        self, lost: Sequence[_Lease], problems: Mapping[UUID, StoreRefused], *, at: datetime
    ) -> None:
        """Tell of those that are as they were, though nobody else has changed them."""
        if self.apart is None:
            return
        ids, expected, *_ = zip(*lost, strict=True)
        for row in await self._connection.fetch(sql("still_pending"), ids, expected):
            self._refused.add(row["id"])
            error = problems.get(row["id"], UNCHANGED)
            self.apart.tell(row["id"], error, at=at, pending_in=row["use_case"])


# What `ready_heads` says of a row beside the place of its use case.
_PRESSES, _IS_LAST, _PLACE_BITS = 1, 2, 2
_mark_of = itemgetter(0)


def _count(marks: Mapping[int, int], place: int, bit: int) -> int:
    """Return how many rows of a use case have a bit set, by the counts of their marks."""
    start = place << _PLACE_BITS
    marked = range(start, start + (1 << _PLACE_BITS))
    return sum(marks.get(mark, 0) for mark in marked if mark & bit)


def _by_place(rows: Sequence[asyncpg.Record], count: int) -> Sequence[Sequence[asyncpg.Record]]:
    """Return the rows of each use case."""
    if count == 1:
        return [rows]
    shown: list[list[asyncpg.Record]] = [[] for _ in range(count)]
    for row in rows:
        shown[(row[0] >> _PLACE_BITS) - 1].append(row)
    return shown


def _with(shown: list[Candidate], urgent: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Add the urgent jobs that are not shown yet."""
    if urgent:
        known = {candidate.id for candidate in shown}
        shown += [candidate for candidate in urgent if candidate.id not in known]
    return tuple(shown)


def _resume(rows: Sequence[asyncpg.Record]) -> Mapping[int, str]:
    """Return the last tenant of each walk that has others before it, by its use case's place."""
    return {row[0] >> _PLACE_BITS: row["resume"] for row in rows if row[0] & _IS_LAST}
