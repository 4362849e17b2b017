"""Reports: a driving port. What operators ask about what was, in process or over HTTP."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Protocol

from async_jobs.domain.tallies import Attainment


class Reports(Protocol):
    """See whether what was promised was kept.

    Promises:
        RP-1 `attainment` sums what processes have counted and told, by use case, tenant, type and
            step of time as it was asked; no group is there of which nothing is known.
        RP-2 Who asks within tenants is told of these only.
        RP-3 What cannot be asked is refused by the name of the argument; so is a use case that is
            not configured and of which nothing is known in that time, with those that are.

    Not promised: what the processes have counted in the last ten seconds, and what those had
    counted since then that were killed; that tenants are told apart of whom little is told.
    """

    async def attainment(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step: timedelta | None = None,
        use_case: str | None = None,
        tenants: Collection[str] | None = None,
        type: str | None = None,
        by: Collection[str] = ("use_case",),
    ) -> Attainment:
        """Say which share of jobs started in time, and what became of them.

        Args:
            since: from when on; by default a day before `until`. What began more than 48 hours
                ago is kept by whole hours, for 90 days.
            until: up to when; by default now.
            step: whole minutes, at most a thousand of them; None tells the whole time as one.
            use_case: only jobs of this one.
            tenants: only jobs of these.
            type: only jobs of this one.
            by: what is told apart: `use_case`, `tenant_id`, `type`.
        """
        ...
