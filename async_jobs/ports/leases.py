"""Leases: who may run a job now, and DispatchTurn: the exclusive right to give leases."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.job import HandOff, Job, JsonValue
from async_jobs.domain.lifecycle import Claimed
from async_jobs.domain.scheduling import Candidate, LeaseGrant
from async_jobs.domain.turns import RunningCount
from async_jobs.ports.queue import Outbox

NOBODY: Final[Mapping[str, int]] = MappingProxyType({})
"""No workers, for `DispatchTurn.running`."""


class Success(NamedTuple):
    """The handler of a claimed job returned `result`, during the lease of this number.

    Attributes:
        worker_id: who claimed it; None for whoever that is.
    """

    job_id: UUID
    lease_seq: int
    result: JsonValue
    worker_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsQuery:
    """Which ready jobs a scheduler wants to see of one use case.

    Attributes:
        use_case: must be one the turn holds.
        limit: how many it could lease at most; bounds what is read, at least 1.
        tenants: at most `limit` tenants that have to be shown if they have ready jobs.
        after: where the walk over the tenants goes on (`Heads.resume` of the last turn).
        late_policy: `expire` also asks for late jobs behind others; `sideline` puts late
            jobs behind.
    """

    use_case: str
    limit: int
    tenants: tuple[str, ...] = ()
    after: str = ""
    late_policy: LatePolicy = LatePolicy.RUN


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Ready jobs of one use case.

    Attributes:
        ready: for each tenant a beginning of its ready jobs by priority, deadline and id, and the
            most urgent jobs of all; at least `limit` jobs if there are so many.
        late: with the policy `expire`, late jobs, earliest deadline first, at most `limit`.
        resume: pass it as `after` next time, so that every waiting tenant has its turn even
            when there are more tenants than one turn can look at.
    """

    ready: tuple[Candidate, ...] = ()
    late: tuple[Candidate, ...] = ()
    resume: str = ""

    @property
    def queues(self) -> frozenset[str]:
        """The queues that the ready jobs are for."""
        return frozenset({candidate.queue for candidate in self.ready})


class Sight(Protocol):
    """What there is to decide about, at one moment."""

    async def running(self, workers: Mapping[str, int] = NOBODY) -> Sequence[RunningCount]:
        """Count the running jobs of all use cases, held or not, in no particular order.

        Args:
            workers: by id, the number of the group with which its claims are counted: 0 if they
                need not be told apart. What others have claimed is counted as `strays` besides.
        """
        ...

    async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
        """Return the ready jobs of each queried use case; reads O(limit) rows for each."""
        ...


class DispatchTurn(Sight, Protocol):
    """The exclusive right to lease jobs of `use_cases`, and of limited tenants in `tenants`.

    What it leases becomes visible when the context ends without an error, and not before.
    """

    @property
    def use_cases(self) -> frozenset[str]:
        """The use cases of those asked for that nobody else holds."""
        ...

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants of those asked for that nobody else holds."""
        ...

    @property
    def controls(self) -> int:
        """The version of all controls when the turn began; 0 where the adapter knows of none."""
        ...

    @property
    def refused(self) -> Collection[UUID]:
        """What it was to lease and the store will not write, by a rule of its own.

        The adapter has told of it, and `heads` leaves it out for a while.
        """
        ...

    async def lease(
        self, grants: Sequence[LeaseGrant], *, onto: Sequence[Outbox] = ()
    ) -> frozenset[UUID]:
        """Lease jobs that are still pending under the number expected; returns which were.

        Args:
            grants: which jobs, no two of the same.
            onto: outboxes. What is leased for the queue of one of these names is
                handed off on it with the same commit (OB-5).
        """
        ...


class Leases(Protocol):
    """Gives, consumes and ends leases: the right to run a job until an instant.

    Every write is a batch of at most 1,000.

    Promises:
        LS-1 `heads` shows ready jobs, none that is not due: all of them when they are at most
            `limit`. When there are more, it shows the `limit` most urgent ones that can still be
            on time, and of some tenants a beginning of what they have in the order priority,
            deadline, id (late ones last if they are sidelined): of those to whom the most urgent
            jobs belong, of those named, and of others in the order of their names from `after`
            on: the fewer, the more tenants the former are, but an eighth of `limit` at least.
            With `resume` it comes round to every waiting tenant. Late jobs hide no others: where
            fewer than `limit` can be on time, the most overdue ones may be shown besides.
        LS-2 No two turns ever hold the same use case, or the same tenant, at once; a turn
            whose holder died is free again without an operator.
        LS-3 Leases made in turns never take running above the count the holder saw plus what
            it leased; a turn that ends in an error has leased nothing.
        LS-4 `expired` returns exactly the running jobs whose lease is over, longest first.
        LS-5 `lease` gives exactly the job that `advance` makes of it with `Leased`.
        LS-6 `set_aside` gives back the running rows that cannot be read and whose lease is
            over, longest first, at most `limit`: pending, without a lease, due at `until`. It
            ends none, charges no attempt but, if it was claimed, a crash, and touches nothing
            else. Whoever writes about the old lease loses, as does a `set_aside` that a renewal
            overtook.
        LS-7 `claim` gives exactly the job that `advance` makes of it with `Claimed`, for
            every hand-off whose lease is the job's present one and can be claimed. Of many
            claims of a lease one wins; the losers are absent and have changed nothing.
        LS-8 `succeed` gives exactly the job that `advance` makes of it with `Succeeded`, for
            every claimed job whose present lease is the one named, whether or not its
            cancellation was asked for. The losers are absent and have changed nothing.
            Repeated when the reply was lost, it gives the same answer.

    Not promised: that a row that the store refuses to write (`Applied.refused`) is shown or found
    expired like others: it may be left out for a while (`domain.patience.refused_pause`), for it
    must not hide them.
    """

    def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AbstractAsyncContextManager[DispatchTurn]:
        """Take the right to dispatch what nobody else holds just now; never waits for it."""
        ...

    async def claim(
        self, handoffs: Sequence[HandOff], claimed: Claimed, *, now: datetime
    ) -> list[Job]:
        """Consume leases, each by one compare-and-set; returns the jobs claimed, in any order.

        Args:
            handoffs: what was received, no two of the same job. One without `lease_seq` stands
                for the job's present lease.
            claimed: by whom, and until when.
            now: the instant of the claim.
        """
        ...

    async def succeed(self, successes: Sequence[Success], *, now: datetime) -> frozenset[UUID]:
        """End the leases of jobs that succeeded; returns the jobs of which that stands.

        Args:
            successes: what became of claimed jobs, no two of the same job.
            now: the instant of their end.
        """
        ...

    async def expired(self, now: datetime, *, limit: int) -> list[Job]:
        """Return running jobs whose lease ended at or before `now`, longest first."""
        ...

    async def set_aside(self, now: datetime, *, until: datetime, limit: int) -> int:
        """Give back what `expired` cannot return, so that it keeps no slot for ever.

        Asked at intervals, an unreadable row keeps its slot for its lease and one interval.

        Args:
            now: the instant that decides whose lease is over.
            until: when the rows are due again; after `now`.
            limit: how many rows one call may touch.

        Returns how many were set aside. What they hold then is `domain.unreadable.aside`'s rule.
        Each leaves a record (`History`, HI-3).
        """
        ...
