"""Batches of which the database refuses some rows: the others are written all the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple, TypeVar
from uuid import UUID

import asyncpg

from async_jobs.domain.errors import StoreRefused
from async_jobs.domain.patience import REFUSED_PAUSE_MAX, refused_pause
from async_jobs.ports.store import Unwritable

T = TypeVar("T")
Row = TypeVar("Row")

REMEMBERED: Final = 10_000
MET_MAX: Final = 32
"""So many refusals a call finds out about at most where what is left can wait for the next one."""
TOLD_MAX: Final = 10
TOLD_AGAIN: Final = timedelta(hours=1)
_PROBLEMS_MAX: Final = 100

UNCHANGED: Final = StoreRefused(
    "the database changed nothing", "left as it was, as by a trigger that returns NULL"
)


class _Refused(NamedTuple):
    """What is known of a row: its problem, when that was told, how often in a row it was met.

    `until` is when it may be tried again. `pending_in` is the use case in which it was refused as a
    pending one, if it was.
    """

    problem: str
    told_at: datetime
    times: int
    until: datetime
    pending_in: str


class Apart:
    """Writes batches, and tells of each row that a trigger or a constraint refuses, now and then.

    Of a row that is refused again and again, as at each try to end its lease, it tells when its
    problem is another one, and every hour; of one problem, of ten rows in an hour, however many
    have it. Between two tries a row is left alone for a while.

    Args:
        unwritable: told.
        pause: for how long a row is left alone that was refused so many times in a row.
    """

    def __init__(
        self, unwritable: Unwritable, pause: Callable[[int], timedelta] = refused_pause
    ) -> None:
        self._unwritable = unwritable
        self._pause = pause
        self._rows: OrderedDict[UUID, _Refused] = OrderedDict()
        self._told: OrderedDict[str, tuple[datetime, int]] = OrderedDict()
        """Of each problem, since when rows are counted that were told of, and how many."""

    async def write(
        self,
        rows: Sequence[Row],
        write: Callable[[Sequence[Row]], Awaitable[Sequence[T]]],
        *,
        refused: Callable[[Row, StoreRefused], object],
        met_max: int | None = None,
    ) -> list[T]:
        """Write all rows in one call; if some are refused, the others by ever smaller calls.

        Args:
            rows: the batch.
            write: writes rows of it, all or none.
            refused: told of each row that cannot be written, with the reason.
            met_max: after so many of them the rest is left, from some row on.
        """
        written: list[T] = []
        met = 0
        left = [rows]
        while left and met != met_max:
            some = left.pop()
            try:
                written += await write(some)
            except StoreRefused as error:
                if len(some) > 1:
                    half = len(some) // 2
                    left += [some[half:], some[:half]]
                    continue
                for row in some:
                    met += 1
                    refused(row, error)
        return written

    def tell(
        self, job_id: UUID, error: StoreRefused, *, at: datetime, pending_in: str = ""
    ) -> None:
        """Tell of a job whose row could not be written at an instant; it is left alone then.

        Args:
            job_id: which job.
            error: why.
            at: when.
            pending_in: its use case, if the job was pending, and turns are not to show it.
        """
        problem = error.refusal
        known = self._rows.pop(job_id, None)
        if known is None:
            times, until, told_at = 1, at + self._pause(1), at
        else:
            times, until, told_at = known.times, known.until, known.told_at
            pending_in = pending_in or known.pending_in
            if at >= until:
                # One that nothing was heard of for a long time has been written meanwhile.
                times = 1 if at >= until + REFUSED_PAUSE_MAX else times + 1
                until = at + self._pause(times)
        if known is None or known.problem != problem or at >= told_at + TOLD_AGAIN:
            told_at = at
            self._tell(job_id, problem, at)
        self._rows[job_id] = _Refused(problem, told_at, times, until, pending_in)
        while len(self._rows) > REMEMBERED:
            self._rows.popitem(last=False)

    def _tell(self, job_id: UUID, problem: str, at: datetime) -> None:
        since, count = self._told.pop(problem, (at, 0))
        if at >= since + TOLD_AGAIN:
            since, count = at, 0
        self._told[problem] = since, count + 1
        while len(self._told) > _PROBLEMS_MAX:
            self._told.popitem(last=False)
        if count < TOLD_MAX:
            self._unwritable(job_id, problem)
        elif count == TOLD_MAX:
            self._unwritable(job_id, f"{problem}, as of more rows: no more is told for an hour")

    def knows_any(self, job_ids: Iterable[UUID]) -> bool:
        """Tell whether one of these rows was refused lately, and so may be refused again."""
        return bool(self._rows) and not self._rows.keys().isdisjoint(job_ids)

    def left_alone(self, now: datetime) -> list[UUID]:
        """Return the rows that were refused lately, and are not to be tried again yet."""
        return [job_id for job_id, row in self._rows.items() if row.until > now]

    def not_ready(self, now: datetime, use_cases: Collection[str]) -> list[UUID]:
        """Return the rows among them that were refused as pending ones of some use cases."""
        return [
            job_id
            for job_id, row in self._rows.items()
            if row.pending_in in use_cases and row.until > now
        ]

    def leaves_alone(self, job_id: UUID, now: datetime) -> bool:
        """Tell whether a row is one of those that are not to be tried again yet."""
        row = self._rows.get(job_id)
        return row is not None and row.until > now


def takes_a_key(error: StoreRefused) -> bool:
    """Tell whether another live job holds the dedupe key."""
    cause = error.__cause__
    return (
        isinstance(cause, asyncpg.UniqueViolationError)
        and getattr(cause, "constraint_name", None) == "idx_jobs_dedupe_key"
    )
