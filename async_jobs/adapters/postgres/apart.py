"""Batches of which the database refuses some rows: the others are written all the same."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import UUID

import asyncpg

from async_jobs.domain.errors import StoreRefused
from async_jobs.ports.store import Unwritable

T = TypeVar("T")
Row = TypeVar("Row")

REMEMBERED = 1_000


class Apart:
    """Writes batches, and tells once of each row that a trigger or a constraint refuses.

    A row that is refused again and again, as at each try to end its lease, is told of when its
    problem is another one, or when a thousand others came between.
    """

    def __init__(self, unwritable: Unwritable) -> None:
        self._unwritable = unwritable
        self._told: OrderedDict[UUID, str] = OrderedDict()

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

    def tell(self, job_id: UUID, error: StoreRefused) -> None:
        """Tell of a job whose row could not be written."""
        problem = error.refusal
        if self._told.get(job_id) != problem:
            self._unwritable(job_id, problem)
        self._told[job_id] = problem
        self._told.move_to_end(job_id)
        while len(self._told) > REMEMBERED:
            self._told.popitem(last=False)

    @property
    def known(self) -> list[UUID]:
        """The rows that were refused lately."""
        return list(self._told)


def takes_a_key(error: StoreRefused) -> bool:
    """Tell whether another live job holds the dedupe key."""
    cause = error.__cause__
    return (
        isinstance(cause, asyncpg.UniqueViolationError)
        and getattr(cause, "constraint_name", None) == "idx_jobs_dedupe_key"
    )
