"""Overview: what a turn would see, read beside all turns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import NamedTuple, Protocol

from async_jobs.domain.backlog import Backlog
from async_jobs.domain.job import Job
from async_jobs.domain.limits import Limits
from async_jobs.domain.outlook import Counted
from async_jobs.ports.leases import Sight


class Coming(NamedTuple):
    """There are scheduled jobs of this tenant, for this queue and of this type."""

    tenant_id: str
    queue: str
    type: str


class Look(Sight, Protocol):
    """One look, at one moment."""

    async def ahead(self, job: Job, config: Limits, now: datetime, *, limit: int) -> Counted | None:
        """Count the ready jobs of a job's tenant and use case that are shown before it.

        Args:
            job: one that is pending and due.
            config: whether the use case's late jobs go behind.
            now: the instant that decides what is late.
            limit: how far it is counted.

        Returns None while the job is not shown yet, because it came due a moment ago.
        """
        ...

    async def pending_of(
        self, tenants: Collection[str], *, limit: int
    ) -> Mapping[str, Mapping[str, Counted]]:
        """Count pending jobs, due or not, by tenant and use case; at most `limit` of each tenant.

        Where there may be more of a tenant, each of its counts says `at_least`.
        """
        ...

    async def coming(self, now: datetime, *, limit: int) -> Collection[Coming]:
        """Return of whom and of which kind the scheduled jobs are that come due first.

        Args:
            now: the instant that decides what is due.
            limit: at so many jobs a call looks.
        """
        ...

    async def backlog(
        self, use_cases: Collection[str], now: datetime, *, limit: int
    ) -> Mapping[str, Backlog]:
        """Tell by when pending jobs have to start; every use case is in the answer.

        Of more than `limit` jobs that came due a moment ago any may be left out.

        Args:
            use_cases: the use cases asked about.
            now: the instant that decides what is due.
            limit: how many due jobs of each are told of at most, and scheduled ones of all.
        """
        ...


class Overview(Protocol):
    """For explanations and screens; never for correctness.

    Promises:
        OV-1 `running` and `heads` of a look are what a turn over the same use cases would count
            and be shown at that moment.
        OV-2 Whoever holds which turns meanwhile, a look is answered; and whatever is looked at,
            turns are held, jobs leased, claimed and added as if nobody looked.
        OV-3 `ahead` tells how many jobs of the same tenant and use case `heads` would show before
            a job, exactly up to the limit.
        OV-4 `pending_of` counts what is pending of the tenants asked for and of no other, exactly
            up to the limit.
        OV-5 `coming` names the kinds of the scheduled jobs that come due first, each once, and of
            none that is due or does not wait.
        OV-6 `backlog` tells the deadline of each pending job of a use case, due or scheduled, in
            their order, and of nothing else: of the due ones those that have to start first, of
            the scheduled ones those that come due first among all use cases', up to the limit.
            What a pause hides from turns is left out.
    """

    def looking(self, use_cases: Collection[str]) -> AbstractAsyncContextManager[Look]:
        """Look at use cases for as long as the context lasts; hold it for no longer than needed."""
        ...
