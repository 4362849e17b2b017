"""How jobs get into the table: whole calls, without duplicates, within the limits of tenants.

A tenant with a limit has a row in `admissions`, which tells how many live jobs it has at most.
While that leaves room, a call raises it and inserts in one statement, whatever the backlog. When
it does not, the call locks the row, counts, and leaves the count behind for those to come.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from async_jobs.adapters.postgres.pool import LOCK_TIMEOUT_SECONDS, AnyConnection
from async_jobs.adapters.postgres.rows import new_columns, new_values
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.errors import TenantBusy, Unavailable
from async_jobs.domain.job import LIVE, TERMINAL, Job, Phase
from async_jobs.domain.lifecycle import Change
from async_jobs.domain.quota import Refused, admit
from async_jobs.ports.store import Added, AddResult, Duplicate, Invalid

INSERT_ROUNDS_MAX = 10
_FINISHED = frozenset(Phase(status.value) for status in TERMINAL)


class _Limit(NamedTuple):
    """All jobs of a call belong to this tenant, which may have so many pending."""

    tenant_id: str
    max_pending: int


class _Found(NamedTuple):
    """The ids that were inserted, and for every other job who stood in its way."""

    inserted: Collection[UUID]
    twins: Mapping[UUID, AddResult]


class _TurnedAwayError(Exception):
    """Carries the reason out of a transaction, so that leaving it rolls everything back."""

    def __init__(self, reason: Refused | Invalid, found: _Found) -> None:
        self.reason = reason
        self.found = found


async def add(
    connection: AnyConnection, jobs: Sequence[Job], limits: Mapping[str, int], *, apart: bool
) -> list[AddResult]:
    """Add all jobs or none, or each for itself; see `JobStore.add`.

    Raises:
        TenantBusy: the jobs of a tenant with a limit are being admitted by a transaction that
            does not end in time.
        Unavailable: what was waited for in vain is something else, and is named.
    """
    is_callers = connection.is_in_transaction()
    if limits and is_callers:
        # A session of our own bounds its waits without a trip.
        wait = timedelta(seconds=LOCK_TIMEOUT_SECONDS)
        try:
            await connection.execute(sql("wait_for_admissions"), sorted(limits), wait)
        except asyncpg.LockNotAvailableError as error:
            raise TenantBusy(sorted(limits), LOCK_TIMEOUT_SECONDS) from error
    try:
        return await _add(connection, jobs, limits, apart=apart)
    except asyncpg.LockNotAvailableError as error:
        waited_for = _waited_for(error)
        if limits and not is_callers:
            # An aborted transaction answers no question, and that of the caller has the rows.
            locked = [] if waited_for else await _locked_tables(connection)
            if not locked and waited_for != "jobs":
                raise TenantBusy(sorted(limits), LOCK_TIMEOUT_SECONDS) from error
        raise Unavailable(
            f"another transaction did not end within {LOCK_TIMEOUT_SECONDS:g} s or the session's"
            f" lock_timeout, and holds {_HELD.get(waited_for, _LOCK)}; nothing was written"
        ) from error


_LOCK: Final = "a lock on the tables of async_jobs, as a migration, an index or a backup may"
_HELD: Final = {
    "jobs": "a job with the same dedupe key or id",
    "admissions": "the admission of the same tenant, whose jobs another process counts",
}


def _waited_for(error: asyncpg.LockNotAvailableError) -> str:
    """Return the table of whose rows one was waited for; nothing if that is not told.

    In every language the server's context has its name in quotes.
    """
    context = getattr(error, "context", None) or ""
    return next((table for table in _HELD if f'"{table}"' in context), "")


async def _locked_tables(connection: AnyConnection) -> list[str]:
    """Return the tables that are locked as a whole; none if that cannot be found out."""
    with suppress(asyncpg.PostgresError):
        return [row["name"] for row in await connection.fetch(sql("locked_tables"))]
    return []


def may_wait_for(jobs: Iterable[Job], limits: Mapping[str, int]) -> frozenset[str]:
    """Return the tenants whose other transactions an `add` may have to wait for."""
    keyed = {job.tenant_id for job in jobs if job.dedupe_key is not None}
    return frozenset(keyed.union(limits))


async def _add(
    connection: AnyConnection, jobs: Sequence[Job], limits: Mapping[str, int], *, apart: bool
) -> list[AddResult]:
    limit = _the_limit(jobs, limits)
    may_fit = limit is not None or not limits
    if may_fit and (apart or len(jobs) == 1):
        # Nothing that could have to be undone: one statement, one round trip.
        found = await _insert(connection, jobs, limit)
        if found is not None:
            return _answers(jobs, found, None)
        may_fit = False
    try:
        async with _undoable(connection):
            found = await _insert(connection, jobs, limit) if may_fit else None
            if found is None:
                found = await _insert_and_count(connection, jobs, limits, apart=apart)
            else:
                _check_ids(found)
    except _TurnedAwayError as away:
        # What the call found before it was undone still tells duplicates from new jobs.
        return _answers(jobs, away.found, away.reason)
    return _answers(jobs, found, None)


@asynccontextmanager
async def _undoable(connection: AnyConnection) -> AsyncIterator[None]:
    """A transaction, or part of the caller's; undone by an error."""
    if not connection.is_in_transaction():
        async with connection.transaction(isolation="read_committed"):
            yield
        return
    # By hand: the driver makes no savepoint in a transaction that a statement has begun.
    await connection.execute("SAVEPOINT async_jobs")
    try:
        yield
    except BaseException:
        if not connection.is_closed():
            await connection.execute(
                "ROLLBACK TO SAVEPOINT async_jobs; RELEASE SAVEPOINT async_jobs"
            )
        raise
    await connection.execute("RELEASE SAVEPOINT async_jobs")


async def count_anew(connection: AnyConnection, tenants: Collection[str]) -> None:
    """Lock the admissions of some tenants; from now on whoever adds for them counts."""
    # In one order for everybody, so that calls for the same tenants wait, but not in a ring.
    await connection.execute(sql("lock_admissions"), sorted(tenants))


def revived(changes: Iterable[Change]) -> set[str]:
    """Return the tenants of whose finished jobs some become live again."""
    return {
        change.job.tenant_id
        for change in changes
        if change.fence.phase in _FINISHED and change.job.status in LIVE
    }


def _the_limit(jobs: Sequence[Job], limits: Mapping[str, int]) -> _Limit | None:
    """Return the limit of the one tenant of all jobs, if that is how it is."""
    tenant = jobs[0].tenant_id
    if limits.keys() != {tenant} or any(job.tenant_id != tenant for job in jobs):
        return None
    return _Limit(tenant, limits[tenant])


async def _insert(
    connection: AnyConnection, jobs: Sequence[Job], limit: _Limit | None
) -> _Found | None:
    """Insert what is new; None, and nothing inserted, if the limit needs a count."""
    inserted: set[UUID] = set()
    twins: dict[UUID, AddResult] = {}
    waiting = sorted(jobs, key=_place)
    for _ in range(INSERT_ROUNDS_MAX):
        # Once some are in, room for the others is taken as well.
        within = (None, None) if limit is None or inserted else limit
        if len(waiting) == 1:
            row = await connection.fetchrow(sql("add_job"), *new_values(waiting[0]), *within)
        else:
            row = await connection.fetchrow(sql("add_jobs"), *new_columns(waiting), *within)
        if row is None:
            return None
        if row["all_inserted"]:
            return _Found(inserted.union([job.id for job in waiting]), twins)
        inserted.update(row["inserted"] or ())
        waiting = [job for job in waiting if job.id not in inserted]
        if waiting:
            twins |= await _twins(connection, waiting)
            # Whoever stood in the way may have finished before it could be seen.
            waiting = [job for job in waiting if job.id not in twins]
        if not waiting:
            return _Found(inserted, twins)
    raise Unavailable("a dedupe key changed hands too often while a job was being added")


def _place(job: Job) -> tuple[str, str, int]:
    """Return where a job is inserted among others.

    In one order for everybody, so that calls with the same keys wait, but not in a ring.
    """
    return job.tenant_id, job.dedupe_key or "", job.id.int


async def _twins(connection: AnyConnection, jobs: Sequence[Job]) -> dict[UUID, AddResult]:
    keyed = [job for job in jobs if job.dedupe_key is not None]
    rows = await connection.fetch(
        sql("find_twins"),
        [job.id for job in jobs],
        [job.tenant_id for job in keyed],
        [job.dedupe_key for job in keyed],
    )
    owners = {row["id"]: row["tenant_id"] for row in rows if row["dedupe_key"] is None}
    holders = {
        (row["tenant_id"], row["dedupe_key"]): row["id"]
        for row in rows
        if row["dedupe_key"] is not None
    }
    twins: dict[UUID, AddResult] = {}
    for job in jobs:
        holder = holders.get((job.tenant_id, job.dedupe_key))
        if owners.get(job.id, job.tenant_id) != job.tenant_id:
            twins[job.id] = Invalid(job.id, "id", "is taken; choose another")
        elif job.id in owners:
            twins[job.id] = Duplicate(job.id)
        elif holder is not None:
            twins[job.id] = Duplicate(holder)
    return twins


def _check_ids(found: _Found) -> None:
    for twin in found.twins.values():
        if isinstance(twin, Invalid):
            raise _TurnedAwayError(twin, found)


async def _insert_and_count(
    connection: AnyConnection, jobs: Sequence[Job], limits: Mapping[str, int], *, apart: bool
) -> _Found:
    """Insert what is new, and keep it if the exact numbers of pending jobs allow it."""
    await count_anew(connection, limits)
    found = await _insert(connection, jobs, None)
    assert found is not None, "nothing is refused without a limit"
    if not apart:
        _check_ids(found)
    # By id, because a call may hold the same job twice.
    new = list({job.id: job.tenant_id for job in jobs if job.id in found.inserted}.values())
    rows = await connection.fetch(sql("count_admissions"), list(limits))
    pending = {row["tenant_id"]: row["pending"] for row in rows}
    # The count includes what was just inserted; the rule wants it without.
    before = {tenant: count - new.count(tenant) for tenant, count in pending.items()}
    if (refused := admit(new, before, limits)) is not None:
        raise _TurnedAwayError(refused, found)
    return found


def _answers(jobs: Sequence[Job], found: _Found, away: Refused | Invalid | None) -> list[AddResult]:
    """Return one result per job in order; `away` takes the place of all that would be added."""
    if away is None and len(found.inserted) == len(jobs):
        return [Added(job.id) for job in jobs]
    answered: set[UUID] = set()
    results: list[AddResult] = []
    for job in jobs:
        twin = found.twins.get(job.id)
        if twin is None:
            # The same id twice in one call: the first is the job, the second its duplicate.
            twin = Duplicate(job.id) if job.id in answered else Added(job.id)
        answered.add(job.id)
        asks_for_nothing = (isinstance(twin, Duplicate) and twin.of not in found.inserted) or (
            isinstance(twin, Invalid) and isinstance(away, Refused)
        )
        results.append(twin if away is None or asks_for_nothing else away)
    return results
