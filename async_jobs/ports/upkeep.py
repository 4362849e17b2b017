"""Upkeep: keeping what is stored ready, and small."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol


class Upcoming(NamedTuple):
    """The answer to `promote`.

    Attributes:
        run_at: when the next scheduled job comes due, or now if there is more to do at once; None
            if there is neither.
        promoted: how many due jobs `heads` shows by this call that it did not show before.
    """

    run_at: datetime | None
    promoted: int = 0


class Upkeep(Protocol):
    """Makes due what was scheduled, and forgets what has ended.

    Promises:
        UP-1 `purge` removes terminal jobs only, oldest first, at most `limit`;
            `oldest_finished` tells what it could remove.
        UP-2 `promote` returns the run_at of the next job that is not due yet; a due job is
            visible to `heads` after a `promote` at or after its `run_at`, which says how many
            were not visible before.

    Not promised: that a row that the store refuses to write is promoted like others: it may be
    left out for a while (`domain.patience.refused_pause`), for it must not hide them.
    """

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        """Make due what was scheduled for later, at most `limit` jobs at a time.

        Args:
            now: the instant that decides.
            limit: how many rows one call may touch; when more are due, `run_at` of the
                answer is not after `now`.
            sidelined: the use cases whose late jobs go behind those still on time.
        """
        ...

    async def oldest_finished(self) -> Mapping[str, datetime]:
        """Return the use cases that have terminal jobs, each with when the first of them ended.

        It takes them from the jobs, so that those that nobody configures any more are among them.
        """
        ...

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        """Forget terminal jobs that finished before an instant; returns how many."""
        ...
