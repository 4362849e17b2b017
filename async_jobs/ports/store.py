"""JobStore: the system of record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

from async_jobs.domain.job import Job, JobFilter, JobPage, UnreadableJob
from async_jobs.domain.lifecycle import Change
from async_jobs.domain.quota import Refused
from async_jobs.ports.leases import Leases
from async_jobs.ports.upkeep import Upkeep


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


class JobStore(Protocol):
    """What is known of each job. Rules live in the domain; a store compares and sets.

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
        JS-5 `find` pages, newest first, neither repeat nor skip a job that existed throughout.
        JS-6 Every read that is given a tenant sees that tenant's jobs only; a foreign id looks
            exactly like a missing one.
        JS-7 What a caller does to an object after handing it over, or after receiving it,
            changes nothing in the store.
        JS-8 One unreadable row never hides the others: it is reported and skipped; `find` tells
            of it in its page, whatever the limit and the filter, and `get` tells its caller if
            asked to, by what of it can be told. Turns, which read no whole jobs, show, lease and
            count it like any other; a claim may consume its lease, as nobody executes it.
        JS-9 A save whose reply was lost can be repeated: the second time says applied.
        JS-10 Adding an id that the same tenant already has is a `Duplicate` and changes
            nothing; an id that another tenant has is `Invalid`, says nothing about whose it
            is, and leaves nothing of the call behind but what stands `apart`.
        JS-11 What is added within a caller's transaction is committed or rolled back with it.
            What is no open transaction of the adapter's own kind is refused by an
            `InvalidJobError` about `connection`, and nothing is added.

    Not promised: that two reads in a row see the same state; any order of `get`.
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

    async def get(
        self,
        ids: Collection[UUID],
        *,
        tenant_id: str | None = None,
        unreadable: ToldUnreadable | None = None,
    ) -> list[Job]:
        """Return the jobs that exist, in no particular order.

        Args:
            ids: whose.
            tenant_id: whose jobs alone; None for everybody's.
            unreadable: told of those among the rows that are no jobs any more, besides what the
                adapter tells.
        """
        ...

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        """Return one page of at most `limit` matching jobs, by descending id below `before`."""
        ...

    async def save(self, changes: Sequence[Change]) -> Applied:
        """Compare and set a batch: each job replaces the stored one if its fence holds.

        No two changes of a batch may name the same job. The record of a change is kept with it
        (`History`, HI-1).
        """
        ...


class Store(JobStore, Leases, Upkeep, Protocol):
    """All that schedulers and workers need of the place where jobs are kept."""


Unreadable: TypeAlias = "Callable[[UUID | None, str], None]"
"""Told of a row that is no job any more: its id as far as there is one, and the problem."""

ToldUnreadable: TypeAlias = "Callable[[UnreadableJob], object]"
"""Told of a row that is no job any more, by whoever reads it for somebody."""

Unwritable: TypeAlias = "Callable[[UUID, str], None]"
"""Told of a job that the database refuses to write, and by what."""
