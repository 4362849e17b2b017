"""Tallies: sums of what happened to jobs, kept by minute and then by hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from async_jobs.domain.tallies import Batch, Group, TallyQuery


class Tallies(Protocol):
    """Keeps sums that processes add, and answers with sums of them. Never for correctness.

    Promises:
        TL-1 What was added is in every later answer it belongs to, summed with all else that is.
        TL-2 A batch counts once: the same number of its source again, or a smaller one, adds
            nothing, whoever repeats it.
        TL-3 `sums` tells apart what it was asked to, and leaves out what it was not asked for.
        TL-4 `roll_up` makes hours of minutes that began before an instant; no sum of whole hours
            changes, and what is added to such a minute later counts as well.
        TL-5 `forget` drops hours that began before an instant, and nothing else.
        TL-6 `roll_up` and `forget` take as many rows as the limit, the oldest first, and return how
            many; several may do so at once.

    Not promised: that a batch is kept whose answer nobody heard, until it is added again.
    """

    async def add(self, batch: Batch, *, at: datetime) -> None:
        """Add what a process has counted.

        Raises:
            Unavailable: nobody answered; repeat the batch as it is.
        """
        ...

    async def sums(self, query: TallyQuery, *, limit: int) -> Mapping[Group, Sequence[int]]:
        """Return the sums of each group that was asked for; at most so many, the first in order.

        Raises:
            Unavailable: nobody answered.
        """
        ...

    async def roll_up(self, before: datetime, *, limit: int) -> int:
        """Make hours of minutes; returns of how many rows.

        Raises:
            Unavailable: nobody answered.
        """
        ...

    async def forget(self, before: datetime, *, limit: int) -> int:
        """Drop hours, and what is known of sources that have added nothing since; returns of how
        many rows.

        Raises:
            Unavailable: nobody answered.
        """
        ...
