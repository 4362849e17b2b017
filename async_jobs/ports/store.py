"""JobStore: the system of record, and DispatchTurn: the exclusive right to lease from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.job import HandOff, Job, JobFilter, JobPage, JsonValue
from async_jobs.domain.lifecycle import Change, Claimed
from async_jobs.domain.quota import Refused
from async_jobs.domain.scheduling import Candidate, LeaseGrant
from async_jobs.domain.turns import RunningCount
from async_jobs.ports.queue import AdjacentQueue


@dataclass(frozen=True, slots=True)
class Added:
    """The job was admitted and is stored."""

    job_id: UUID


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The job was there already, by id or by live dedupe key; nothing was added for it."""

    of: UUID


@dataclass(frozen=True, slots=True)
class Invalid:
    """The call was turned away, whole: this job's `field` cannot be accepted."""

    job_id: UUID
    field: str
    problem: str


AddResult: TypeAlias = Added | Duplicate | Refused | Invalid


class Applied(NamedTuple):
    """The answer to `save`.

    Attributes:
        ids: the jobs whose change stands; all others lost the comparison and are unchanged.
        conflicting: among the losers, those that another live job's dedupe key kept out.
        refused: among the losers, those that the store will not write by a rule of its own, as a
            constraint or a trigger, each with the kind of refusal (`StoreRefused.refusal`). The
            adapter has told of them.
    """

    ids: frozenset[UUID]
    conflicting: frozenset[UUID] = frozenset()
    refused: Mapping[UUID, str] = MappingProxyType({})


class Success(NamedTuple):
    """The handler of a claimed job returned `result`, during the lease of this number.

    Attributes:
        worker_id: who claimed it; None for whoever that is.
    """

    job_id: UUID
    lease_seq: int
    result: JsonValue
    worker_id: str | None = None


class Upcoming(NamedTuple):
    """The answer to `promote`.

    Attributes:
        run_at: when the next scheduled job comes due; None if there is none.
        promoted: how many due jobs `heads` shows by this call that it did not show before.
    """

    run_at: datetime | None
    promoted: int = 0


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


class DispatchTurn(Protocol):
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

    async def running(self, workers: Collection[str] = ()) -> Sequence[RunningCount]:
        """Count the running jobs of all use cases, held or not, in no particular order.

        Args:
            workers: ids; what others have claimed is counted as `strays` besides.
        """
        ...

    async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
        """Return the ready jobs of each queried use case; reads O(limit) rows for each."""
        ...

    async def lease(
        self, grants: Sequence[LeaseGrant], *, onto: Sequence[AdjacentQueue] = ()
    ) -> frozenset[UUID]:
        """Lease jobs that are still pending under the number expected; returns which were.

        Args:
            grants: which jobs, no two of the same.
            onto: lanes beside the jobs. What is leased for the queue of one of these names is
                handed off on it with the same commit (AQ-5).
        """
        ...


class JobStore(Protocol):
    """The system of record. Rules live in the domain; a store compares and sets.

    Every write is a batch of at most 1,000. An adapter takes `unreadable`, called with the id
    (or None) and the problem of every stored row that is no job any more.

    Promises:
        JS-1 A job read back equals the job added, to the microsecond, payload included (key
            order aside).
        JS-2 Of several saves that expect the same state, exactly one is applied; the losers
            change nothing and are told. Saves of different jobs do not affect each other.
        JS-3 `add` never admits more than a tenant's limit, whatever runs beside it; a refused
            call leaves nothing behind. Duplicates charge nothing.
        JS-4 At most one live job per (tenant, dedupe key), whatever runs beside it, rollbacks
            included; a finished job frees its key. A `save` that would break it is not
            applied and is reported as conflicting.
        JS-5 `heads` shows ready jobs, none that is not due: all of them when they are at most
            `limit`. When there are more, it shows the `limit` most urgent ones that can still be
            on time, and of some tenants a beginning of what they have in the order priority,
            deadline, id (late ones last if they are sidelined): of those to whom the most urgent
            jobs belong, of those named, and of others in the order of their names from `after`
            on: the fewer, the more tenants the former are, but an eighth of `limit` at least.
            With `resume` it comes round to every waiting tenant. Late jobs hide no others.
        JS-6 No two turns ever hold the same use case, or the same tenant, at once; a turn
            whose holder died is free again without an operator.
        JS-7 Leases made in turns never take running above the count the holder saw plus what
            it leased; a turn that ends in an error has leased nothing.
        JS-8 `find` pages, newest first, neither repeat nor skip a job that existed throughout.
        JS-9 Every read that is given a tenant sees that tenant's jobs only; a foreign id looks
            exactly like a missing one.
        JS-10 What a caller does to an object after handing it over, or after receiving it,
            changes nothing in the store.
        JS-11 One unreadable row never hides the others: it is reported and skipped; `find` tells
            of it in its page, by what of it can be told, whatever the limit and the filter. Turns,
            which read no whole jobs, show, lease and count it like any other; a claim may
            consume its lease, as nobody executes it.
        JS-12 A save whose reply was lost can be repeated: the second time says applied.
        JS-13 `purge` removes terminal jobs only, oldest first, at most `limit`;
            `oldest_finished` tells what it could remove.
        JS-14 Adding an id that the same tenant already has is a `Duplicate` and changes
            nothing; an id that another tenant has is `Invalid`, says nothing about whose it
            is, and leaves nothing of the call behind but what stands `apart`.
        JS-15 `expired` returns exactly the running jobs whose lease is over, longest first.
        JS-16 `promote` returns the run_at of the next job that is not due yet; a due job is
            visible to `heads` after a `promote` at or after its `run_at`, which says how many
            were not visible before.
        JS-17 What is added within a caller's transaction is committed or rolled back with it.
            What is no open transaction of the adapter's own kind is refused by an
            `InvalidJobError` about `connection`, and nothing is added.
        JS-18 `lease` gives exactly the job that `advance` makes of it with `Leased`.
        JS-19 `set_aside` gives back the running rows that cannot be read and whose lease is
            over, longest first, at most `limit`: pending, without a lease, due at `until`. It
            ends none, charges no attempt but, if it was claimed, a crash, and touches nothing
            else. Whoever writes about the old lease loses, as does a `set_aside` that a renewal
            overtook.
        JS-20 `claim` gives exactly the job that `advance` makes of it with `Claimed`, for
            every hand-off whose lease is the job's present one and can be claimed. Of many
            claims of a lease one wins; the losers are absent and have changed nothing.
        JS-21 `succeed` gives exactly the job that `advance` makes of it with `Succeeded`, for
            every claimed job whose present lease is the one named, whether or not its
            cancellation was asked for. The losers are absent and have changed nothing.
            Repeated when the reply was lost, it gives the same answer.

    Not promised: that two reads in a row see the same state; any order of `get`; that a row that
    the store refuses to write (`Applied.refused`) is shown, promoted or found expired like others:
    it may be left out for a while (`domain.patience.refused_pause`), for it must not hide them.
    """

    async def add(
        self,
        jobs: Sequence[Job],
        limits: Mapping[str, int],
        *,
        within: object | None = None,
        apart: bool = False,
    ) -> list[AddResult]:
        """Admit and insert, all or nothing, one result per job in order.

        Args:
            jobs: new pending jobs.
            limits: the pending limit of each tenant in `jobs` that has one.
            within: an open transaction of the adapter's own kind to write in; the adapter
                then commits nothing.
            apart: each job stands for itself: one that is invalid leaves the others in, and a
                call that is cut off may have added some. They are still refused together.

        A refused call answers `Refused` or `Invalid` for every job that is not a duplicate.
        """
        ...

    async def get(self, ids: Collection[UUID], *, tenant_id: str | None = None) -> list[Job]:
        """Return the jobs that exist, in no particular order."""
        ...

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        """Return one page of at most `limit` matching jobs, by descending id below `before`."""
        ...

    def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AbstractAsyncContextManager[DispatchTurn]:
        """Take the right to dispatch what nobody else holds just now; never waits for it."""
        ...

    async def save(self, changes: Sequence[Change]) -> Applied:
        """Compare and set a batch: each job replaces the stored one if its fence holds.

        No two changes of a batch may name the same job.
        """
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
        """
        ...

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


Unreadable: TypeAlias = "Callable[[UUID | None, str], None]"
"""Told of a row that is no job any more: its id as far as there is one, and the problem."""

Unwritable: TypeAlias = "Callable[[UUID, str], None]"
"""Told of a job that the database refuses to write, and by what."""
