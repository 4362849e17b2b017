"""What became of attempts, on the table `attempts`: a partition a day, dropped as a whole."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Final
from uuid import UUID

import asyncpg

from async_jobs.adapters.postgres.errors import retried, translated
from async_jobs.adapters.postgres.pool import AnyConnection, borrowed, fetched
from async_jobs.adapters.postgres.records import record_of_row
from async_jobs.adapters.postgres.schemas import Whereabouts
from async_jobs.adapters.postgres.statements import sql
from async_jobs.adapters.postgres.turn import lock_key
from async_jobs.domain.history import AttemptRecord
from async_jobs.domain.history_days import Part, to_drop, to_make, today
from async_jobs.ports.history import Tidied

DEFAULT: Final = "attempts_default"
_OF_A_DAY: Final = re.compile(r"attempts_(\d{8})")
# While it waits for a lock, all wait behind it who end attempts or read of them.
_WAIT: Final = "SET LOCAL lock_timeout = '500ms'"
_CLOSE: Final = f"LOCK TABLE {DEFAULT} IN ACCESS EXCLUSIVE MODE"
_TAKE: Final = "SELECT pg_try_advisory_xact_lock($1)"


class PostgresHistory:
    """Implements `History` over what a `PostgresJobStore` keeps.

    Tidying makes and drops tables, by functions of the schema: it takes DELETE on `attempts`.
    """

    def __init__(self, pool: asyncpg.Pool, *, whereabouts: Whereabouts | None = None) -> None:
        self._pool = pool
        self._whereabouts = whereabouts

    async def attempts(self, job_id: UUID, *, limit: int) -> Sequence[AttemptRecord]:
        """See `History`."""

        async def once() -> list[asyncpg.Record]:
            return await fetched(
                self._pool, sql("attempts_of_job"), job_id, limit, whereabouts=self._whereabouts
            )

        async with translated(self._pool):
            rows = await retried(once)
        return [record_of_row(row) for row in reversed(rows)]

    async def tidy(self, now: datetime, *, days: int, bytes_max: int) -> Tidied:
        """See `History`. Each step is committed for itself; whoever comes second leaves it."""

        def old(parts: Sequence[Part]) -> list[Part]:
            return to_drop(parts, now, days=days, bytes_max=bytes_max)

        made = dropped = 0
        async with self._tidying() as turn:
            if turn is None:
                return Tidied()
            if to_make(turn.parts, now):
                await turn.close_default()
            for day in to_make(turn.parts, now):
                await turn.make(day)
                made += 1
            is_over = bool(old(turn.parts))
        while is_over:
            async with self._tidying() as turn:
                left = [] if turn is None else old(turn.parts)
                is_over = turn is not None and bool(left) and await turn.drop(left[0], old)
                dropped += is_over
        return Tidied(made, dropped)

    @asynccontextmanager
    async def _tidying(self) -> AsyncIterator[_Turn | None]:
        """Begin to tidy, if nobody else does."""
        async with (
            translated(self._pool),
            borrowed(self._pool, self._whereabouts) as connection,
            connection.transaction(isolation="read_committed"),
        ):
            await connection.execute(_WAIT)
            is_ours = await connection.fetchval(_TAKE, lock_key("history", ""))
            yield await _Turn.take(connection) if is_ours else None


class _Turn:
    """The right to make and drop partitions, within a transaction.

    Attributes:
        parts: those that are ours.
    """

    def __init__(self, connection: AnyConnection, parts: Sequence[Part]) -> None:
        self._connection = connection
        self.parts = parts

    @classmethod
    async def take(cls, connection: AnyConnection) -> _Turn:
        """Look at the partitions there are."""
        return cls(connection, _parts(await connection.fetch(sql("history_parts"))))

    async def close_default(self) -> None:
        """Let nobody write to the default partition any more, and see what is in it by now."""
        await self._connection.execute(_CLOSE)
        self.parts = _parts(await self._connection.fetch(sql("history_parts")))

    async def make(self, day: date) -> None:
        """Make the partition of a day."""
        await self._connection.fetch(sql("add_attempts_day"), day)

    async def drop(self, part: Part, old: Callable[[Sequence[Part]], list[Part]]) -> bool:
        """Forget a part; returns whether that was still right."""
        if part.day is None:
            await self.close_default()
            if all(each.day is not None for each in old(self.parts)):
                return False
        await self._connection.fetch(sql("drop_attempts"), part.name)
        return True


def _parts(rows: Sequence[asyncpg.Record]) -> list[Part]:
    return [part for row in rows if (part := _part(row))]


def _part(row: asyncpg.Record) -> Part | None:
    """Return a partition; None for one that somebody else has made."""
    if row["name"] == DEFAULT:
        oldest, newest = (
            None if at is None else today(at) for at in (row["oldest"], row["newest"])
        )
        return Part(DEFAULT, None, row["size"], oldest, newest)
    found = _OF_A_DAY.fullmatch(row["name"])
    if found is None:
        return None
    day = datetime.strptime(found[1], "%Y%m%d").replace(tzinfo=UTC).date()
    return Part(row["name"], day, row["size"], day, day)
