"""Batches of which the database refuses some rows: the others are written all the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

import asyncpg

from async_jobs.domain.errors import StoreRefused
from async_jobs.domain.patience import REFUSED_PAUSE_MAX, refused_pause
from async_jobs.ports.store import Unwritable

T = TypeVar("T")
Row = TypeVar("Row")

REMEMBERED = 1_000


class _Refused(NamedTuple):
    """What is known of a row: its problem, and how often it was met since the row was left alone.

    `until` is when it may be tried again; None if it is in nobody's way.
    """

    problem: str
    times: int
    until: datetime | None


class Apart:
    """Writes batches, and tells once of each row that a trigger or a constraint refuses.

    A row that is refused again and again, as at each try to end its lease, is told of when its
    problem is another one, or when a thousand others came between. Between two tries it is left
    alone for a while (`refused_pause`).
    """

    def __init__(self, unwritable: Unwritable) -> None:
        self._unwritable = unwritable
        self._rows: OrderedDict[UUID, _Refused] = OrderedDict()

    async def write(
        self,
        rows: Sequence[Row],
        write: Callable[[Sequence[Row]], Awaitable[Sequence[T]]],
        *,
        refused: Callable[[Row, StoreRefused], object],
    ) -> list[T]:
        """Write all rows in one call; if some are refused, the others by ever smaller calls.

        Args:
            rows: the batch.
            write: writes rows of it, all or none.
            refused: told of each row that cannot be written, with the reason.
        """
        try:
            return list(await write(rows))
        except StoreRefused as error:
            if len(rows) <= 1:
                for row in rows:
                    refused(row, error)
                return []
        half = len(rows) // 2
        written = await self.write(rows[:half], write, refused=refused)
        return written + await self.write(rows[half:], write, refused=refused)

    def tell(self, job_id: UUID, error: StoreRefused, *, at: datetime | None = None) -> None:
        """Tell of a job whose row could not be written.

        Args:
            job_id: which.
            error: why.
            at: the instant from which it is left alone; None to try it like any other.
        """
        problem = error.refusal
        known = self._rows.pop(job_id, _Refused("", 0, None))
        if known.problem != problem:
            self._unwritable(job_id, problem)
        times, until = known.times, known.until
        if at is not None and (until is None or at >= until):
            # One that nothing was heard of for a long time has been written meanwhile.
            is_anew = until is not None and at >= until + REFUSED_PAUSE_MAX
            times = 1 if is_anew else times + 1
            until = at + refused_pause(times)
        self._rows[job_id] = _Refused(problem, times, until)
        while len(self._rows) > REMEMBERED:
            self._rows.popitem(last=False)

    def knows_any(self, job_ids: Iterable[UUID]) -> bool:
        """Tell whether one of these rows was refused lately, and so may be refused again."""
        return bool(self._rows) and not self._rows.keys().isdisjoint(job_ids)

    def left_alone(self, now: datetime) -> list[UUID]:
        """Return the rows that were refused lately, and are not to be tried again yet."""
        rows = self._rows.items()
        return [job_id for job_id, row in rows if row.until is not None and row.until > now]


def takes_a_key(error: StoreRefused) -> bool:
    """Tell whether another live job holds the dedupe key."""
    cause = error.__cause__
    return (
        isinstance(cause, asyncpg.UniqueViolationError)
        and getattr(cause, "constraint_name", None) == "idx_jobs_dedupe_key"
    )
