"""A dispatch turn: one transaction that holds advisory locks."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from uuid import UUID
from zlib import crc32

import asyncpg

from async_jobs.adapters.postgres.pool import AnyConnection
from async_jobs.adapters.postgres.rows import candidates_of
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.scheduling import Candidate, LeaseGrant
from async_jobs.ports.store import Heads, HeadsQuery, RunningCount

TENANT_LOCKS = 1_024


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

    @classmethod
    async def take(
        cls,
        connection: AnyConnection,
        use_cases: Collection[str],
        tenants: Collection[str],
    ) -> PostgresTurn:
        """Take what is free, in one round trip, waiting for nothing."""
        keys = {("use_case", name): lock_key("use_case", name) for name in use_cases}
        keys |= {("turn_tenant", name): turn_key(name) for name in tenants}
        rows = await connection.fetch(sql("take_turns"), sorted(set(keys.values())))
        taken = {row["key"] for row in rows if row["taken"]}
        held = {thing for thing, key in keys.items() if key in taken}
        return cls(
            connection,
            frozenset(name for kind, name in held if kind == "use_case"),
            frozenset(name for kind, name in held if kind == "turn_tenant"),
        )

    @property
    def use_cases(self) -> frozenset[str]:
        """See `DispatchTurn`."""
        return self._use_cases

    @property
    def tenants(self) -> frozenset[str]:
        """See `DispatchTurn`."""
        return self._tenants

    async def running(self) -> Sequence[RunningCount]:
        """See `DispatchTurn`."""
        rows = await self._connection.fetch(sql("running_counts"))
        return [RunningCount(*row.values()) for row in rows]

    async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
        """See `DispatchTurn`."""
        held = [query for query in queries if query.use_case in self._use_cases]
        if not held:
            return {}
        rows = await self._connection.fetch(
            sql("ready_heads"),
            [query.use_case for query in held],
            [query.limit for query in held],
            [query.after for query in held],
            now,
        )
        late = await self._late([q for q in held if q.late_policy is LatePolicy.EXPIRE], now)
        grouped: dict[str, list[asyncpg.Record]] = {query.use_case: [] for query in held}
        for row in rows:
            grouped[row["use_case"]].append(row)
        return {
            query.use_case: Heads(
                ready=tuple(candidates_of(grouped[query.use_case])),
                late=late.get(query.use_case, ()),
                resume=_resume(grouped[query.use_case], query),
            )
            for query in held
        }

    async def _late(
        self, queries: Sequence[HeadsQuery], now: datetime
    ) -> Mapping[str, tuple[Candidate, ...]]:
        if not queries:
            return {}
        rows = await self._connection.fetch(
            sql("late_heads"),
            [query.use_case for query in queries],
            [query.limit for query in queries],
            now,
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

    async def lease(self, grants: Sequence[LeaseGrant]) -> frozenset[UUID]:
        """See `DispatchTurn`."""
        if not grants:
            return frozenset()
        ordered = sorted(grants, key=lambda grant: grant.job_id)
        rows = await self._connection.fetch(
            sql("lease_jobs"),
            [grant.job_id for grant in ordered],
            [grant.expected_lease_seq for grant in ordered],
            [grant.lease_seq for grant in ordered],
            [grant.until for grant in ordered],
            [grant.at for grant in ordered],
        )
        return frozenset(row["id"] for row in rows)


def _resume(rows: Sequence[asyncpg.Record], query: HeadsQuery) -> str:
    """Return the last tenant of a walk that went its full length, else start over."""
    last: asyncpg.Record | None = max(rows, key=lambda row: row["step"], default=None)
    if last is None or last["step"] < query.limit:
        return ""
    return str(last["tenant_id"])
