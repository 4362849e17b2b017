"""History: what became of each attempt that ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from async_jobs.domain.history import AttemptRecord


class Tidied(NamedTuple):
    """What a call of `tidy` did: how many days it made room for, and how many it forgot."""

    made: int = 0
    dropped: int = 0


class History(Protocol):
    """Gives back the records that a store keeps with changes (`Change.record`), for a while.

    Promises:
        HI-1 The record of a change is there if the change was applied, once, as it was given;
            of a change that lost its comparison there is none. It stays when the job is forgotten.
        HI-2 `attempts` returns the records of one job, in the order in which they ended; the
            latest if there are more than `limit`.
        HI-3 A row that is set aside because nobody can read it has a record of that, too.
        HI-4 A record is kept although nobody has made room for its day: nothing is lost while
            `tidy` is not called, and what was kept meanwhile ends as all else does.
        HI-5 `tidy` forgets whole days (UTC): those that ended at least `days` days ago and, oldest
            first, as many as it takes to come down to `bytes_max`. Never the day of `now`, nor
            what lies after it.
        HI-6 Whoever tidies at the same time as others, or is killed while doing so, harms nothing.

    Not promised: that a day which alone has more than `bytes_max` is cut short; that what was
    kept without room for its day is forgotten before the last of it is old enough.
    """

    async def attempts(self, job_id: UUID, *, limit: int) -> Sequence[AttemptRecord]:
        """Return the latest records of a job, at most `limit`, oldest first."""
        ...

    async def tidy(self, now: datetime, *, days: int, bytes_max: int) -> Tidied:
        """Make room for the days to come, and forget those that are too old, or too much.

        Args:
            now: the instant that decides.
            days: how many days are kept besides today.
            bytes_max: how much is kept.
        """
        ...
