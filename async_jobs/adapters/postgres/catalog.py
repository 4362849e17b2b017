"""Jobs by whatever is known of them, on the table `jobs`, within bounds of rows and of time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import UUID

import asyncpg

from async_jobs.adapters.postgres.columns import PLACEHOLDERS
from async_jobs.adapters.postgres.conditions import Arguments, ids_looked_at, looked_at, where
from async_jobs.adapters.postgres.errors import translated
from async_jobs.adapters.postgres.pool import AnyConnection, borrowed
from async_jobs.adapters.postgres.rows import jobs_of
from async_jobs.adapters.postgres.schemas import Whereabouts
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.error_groups import ErrorGroup, ErrorGroups, ErrorQuery
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.filters import FoundPage, JobQuery, id_bounds
from async_jobs.domain.job import UnreadableJob
from async_jobs.domain.outlook import Counted
from async_jobs.ports.store import Unreadable

T = TypeVar("T")
STATEMENT_SECONDS: Final = 2.0
LABELS_INDEX: Final = "idx_jobs_labels"
"""Made by whoever wants it: docs/operations.md."""
_FEWER: Final = (1, 10, 100)
"""What took too long is tried with so many times fewer jobs to look at."""


class PostgresCatalog:
    """Implements `Catalog` on the tables of a `PostgresJobStore`.

    Args:
        pool: as for the store.
        whereabouts: as for the store.
        unreadable: told of every row that is no job any more.
        statement_seconds: how long a statement may take. One that takes longer is tried again with
            a tenth of the jobs to look at, twice.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        whereabouts: Whereabouts | None = None,
        unreadable: Unreadable | None = None,
        statement_seconds: float = STATEMENT_SECONDS,
    ) -> None:
        self._pool = pool
        self._whereabouts = whereabouts
        self._unreadable = unreadable or (lambda job_id, problem: None)
        self._statement_seconds = statement_seconds

    async def matching(
        self, query: JobQuery, *, limit: int, look_at: int, before: UUID | None = None
    ) -> FoundPage:
        """See `Catalog`."""
        bounds = id_bounds(query, before=before)
        if bounds is None:
            return FoundPage()

        async def read(connection: AnyConnection, most: int) -> FoundPage:
            by = await self._by_labels(connection, query, is_first=most == look_at)
            found = await page_of(
                connection, query, bounds, limit=limit, look_at=most, by_labels=by
            )
            return self._page(*found)

        return await self._within_time(read, look_at)

    async def count(self, query: JobQuery, *, limit: int, look_at: int) -> Counted:
        """See `Catalog`."""
        bounds = id_bounds(query)
        if bounds is None:
            return Counted(0)

        async def read(connection: AnyConnection, most: int) -> Counted:
            by = await self._by_labels(connection, query, is_first=most == look_at)
            return await count_of(
                connection, query, bounds, limit=limit, look_at=most, by_labels=by
            )

        return await self._within_time(read, look_at)

    async def error_groups(self, query: ErrorQuery, *, limit: int, look_at: int) -> ErrorGroups:
        """See `Catalog`."""

        async def read(connection: AnyConnection, most: int) -> ErrorGroups:
            time = query.since, query.until
            rows = await connection.fetch(
                sql("error_groups"), *time, most, query.tenant_id, query.use_case, limit + 1
            )
            ends = await connection.fetch(sql("last_record_looked_at"), *time, most)
            return ErrorGroups(
                since=query.since,
                until=query.until,
                groups=tuple(ErrorGroup(**dict(row)) for row in rows[:limit]),
                looked_back_to=ends[0]["ended_at"] if len(ends) > 1 else None,
                more=len(rows) > limit,
            )

        return await self._within_time(read, look_at)

    async def _by_labels(
        self, connection: AnyConnection, query: JobQuery, *, is_first: bool
    ) -> bool:
        """Tell whether to look jobs up by their labels: there is an index, and it is selective."""
        if not query.labels or not is_first:
            return False
        return bool(await connection.fetchval(f"SELECT to_regclass('{LABELS_INDEX}') IS NOT NULL"))

    def _page(self, rows: list[asyncpg.Record], last: asyncpg.Record | None) -> FoundPage:
        unreadable: list[UnreadableJob] = []
        jobs = tuple(jobs_of(rows, unreadable.append))
        for row in unreadable:
            self._unreadable(row.id, row.problem)
        return FoundPage(
            jobs=jobs,
            next_cursor=None if last is None else last["id"],
            looked_back_to=None if last is None else last["created_at"],
            unreadable=tuple(unreadable),
        )

    async def _within_time(
        self, read: Callable[[AnyConnection, int], Awaitable[T]], look_at: int
    ) -> T:
        """Read in one snapshot; less of it if it takes too long."""
        for fewer in _FEWER:
            try:
                async with (
                    translated(self._pool),
                    borrowed(self._pool, self._whereabouts) as connection,
                    connection.transaction(isolation="repeatable_read", readonly=True),
                ):
                    await bound_statements(connection, self._statement_seconds)
                    return await read(connection, max(1, look_at // fewer))
            except Unavailable as error:
                if not isinstance(error.__cause__, asyncpg.QueryCanceledError):
                    raise
        raise Unavailable(
            "the search takes too long; narrow it, or try again when less is going on"
        )


async def bound_statements(connection: AnyConnection, seconds: float) -> None:
    """Let no statement of the transaction take longer, and have each planned for its values.

    A plan for any tenant and any ids would read all there is.
    """
    await connection.execute(
        f"SET LOCAL statement_timeout = {max(1, int(seconds * 1000))};"
        " SET LOCAL plan_cache_mode = force_custom_plan"
    )


async def page_of(
    connection: AnyConnection,
    query: JobQuery,
    bounds: tuple[UUID, UUID],
    *,
    limit: int,
    look_at: int,
    by_labels: bool = False,
) -> tuple[list[asyncpg.Record], asyncpg.Record | None]:
    """Return the rows of a page, and the one where to go on; None for the last page."""
    arguments = Arguments()
    jobs = looked_at(query, bounds, look_at, arguments, by_labels=by_labels)
    statement = (
        f" /*search_jobs*/\nSELECT {PLACEHOLDERS['{job_columns}']} FROM ({jobs}) AS j"
        f" WHERE {where(query, arguments)}"
        f" ORDER BY j.id DESC LIMIT {arguments.add(limit + 1, 'bigint')}"
    )
    rows = await connection.fetch(statement, *arguments)
    if len(rows) > limit:
        return rows[:limit], rows[limit - 1]
    return rows, await _last_looked_at(connection, query, bounds, look_at, by_labels=by_labels)


async def count_of(
    connection: AnyConnection,
    query: JobQuery,
    bounds: tuple[UUID, UUID],
    *,
    limit: int,
    look_at: int,
    by_labels: bool = False,
) -> Counted:
    """Count the jobs of a query."""
    arguments = Arguments()
    jobs = looked_at(query, bounds, look_at, arguments, by_labels=by_labels)
    statement = (
        f" /*count_jobs*/\nSELECT count(*) FROM (SELECT FROM ({jobs}) AS j"
        f" WHERE {where(query, arguments)}"
        f" LIMIT {arguments.add(limit + 1, 'bigint')}) AS found"
    )
    found: int = await connection.fetchval(statement, *arguments)
    if found > limit:
        return Counted(limit, at_least=True)
    last = await _last_looked_at(connection, query, bounds, look_at, by_labels=by_labels)
    return Counted(found, at_least=last is not None)


async def _last_looked_at(
    connection: AnyConnection,
    query: JobQuery,
    bounds: tuple[UUID, UUID],
    most: int,
    *,
    by_labels: bool,
) -> asyncpg.Record | None:
    """Return the job where the look ended; None if it ended for want of jobs."""
    if query.ids is not None and len(query.ids) < most:
        return None
    arguments = Arguments()
    ids = ids_looked_at(query, bounds, most + 1, arguments, by_labels=by_labels)
    statement = (
        f" /*last_looked_at*/\nSELECT id, created_at FROM ({ids}) AS j"
        f" ORDER BY id DESC OFFSET {arguments.add(most - 1, 'bigint')} LIMIT 2"
    )
    rows = await connection.fetch(statement, *arguments)
    return rows[0] if len(rows) > 1 else None
