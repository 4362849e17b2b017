"""Upkeep: keeping what is stored ready, and small."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from async_jobs.domain.controls import Scope


class Upcoming(NamedTuple):
    """The answer to `promote`.

    Attributes:
        run_at: when the next scheduled job comes due, or now if there is more to do at once; None
            if there is neither.
        promoted: how many due jobs `heads` shows by this call that it did not show before.
    """

    run_at: datetime | None
    promoted: int = 0


class Place(NamedTuple):
    """Where a walk over what is held stands: after a job, by its use case, deadline and id."""

    use_case: str
    deadline_at: datetime
    job_id: UUID


class Released(NamedTuple):
    """The answer to `release`.

    Attributes:
        released: how many jobs turns see again.
        after: where to go on; None at the end.
    """

    released: int
    after: Place | None


class Upkeep(Protocol):
    """Makes due what was scheduled, and forgets what has ended.

    Promises:
        UP-1 `purge` removes terminal jobs only, oldest first, at most `limit`;
            `oldest_finished` tells what it could remove.
        UP-2 `promote` returns the run_at of the next job that is not due yet; a due job is
            visible to `heads` after a `promote` at or after its `run_at`, which says how many
            were not visible before.
        UP-3 `hold` hides from `heads` jobs that wait, are due and in a scope, those first that are
            in the way of others there, and no other job; it reads a bounded number, and changes
            nothing else about them. They are still pending for everybody else.
        UP-4 `release` walks over all that is hidden so, a bounded number at a time, and shows to
            `heads`, as they would be without, those that are in no scope.
        UP-5 Neither does anything unless the version of all controls is still the one given; while
            one works, it does not change.

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

    async def hold(
        self,
        seen: Collection[tuple[str, str]],
        scopes: Sequence[Scope],
        *,
        now: datetime,
        version: int,
        limit: int,
    ) -> int:
        """Hide what may not start; returns how many jobs that were.

        Args:
            seen: the use cases and tenants of which heads showed such jobs.
            scopes: what may not start.
            now: the instant that decides what is due.
            version: of the controls that say so.
            limit: how many jobs of each use case, and of each tenant, to read at most.
        """
        ...

    async def release(
        self,
        use_cases: Sequence[str],
        scopes: Sequence[Scope],
        *,
        version: int,
        limit: int,
        after: Place | None = None,
    ) -> Released:
        """Show again what may start.

        Args:
            use_cases: of which, sorted; the same ones throughout a walk.
            scopes: what may not start.
            version: of the controls that say so.
            limit: how many hidden jobs to read at most.
            after: where the walk stands; None at its beginning.
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
