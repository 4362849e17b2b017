"""Statistics: how much waits, counted as far as somebody needs to know."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from async_jobs.domain.outlook import Counted


class Statistics(Protocol):
    """Counts of the jobs in a store. For estimates and screens; never for correctness.

    Promises:
        ST-1 `due_by` counts the pending jobs of each use case whose deadline is at or before the
            instant, due or not; none of what runs or has ended, and 0 where there are none.
        ST-2 No count is more than there are, nor more than the limit; and it is exact, unless it
            says `at_least`.
        ST-3 It says `at_least` only where the use case has as many as the limit, or where as many
            as that of any use case are scheduled for later and become due by the instant.
        ST-4 `use_cases` names every use case that has a job that is pending and due, or has
            ended, and none that has no job.

    Not promised: that counts are of one moment, or leave out what cannot be read.
    """

    async def due_by(
        self, use_cases: Collection[str], instant: datetime, *, limit: int
    ) -> Mapping[str, Counted]:
        """Count what has to start by an instant, by use case; every use case is in the answer.

        Args:
            use_cases: the use cases asked about.
            instant: the latest deadline that counts.
            limit: how far each is counted; it bounds what the call costs.

        Raises:
            Unavailable: nobody answered.
        """
        ...

    async def use_cases(self) -> Collection[str]:
        """Return the names of the use cases that jobs are stored of.

        Raises:
            Unavailable: nobody answered.
        """
        ...
