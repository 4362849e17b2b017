"""Stores that break one promise each: a thin layer of malice over the memory store.

`test_saboteurs_are_caught.py` binds the contract to every one of them and expects it to turn red.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import ClassVar
from uuid import UUID

from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.domain.controls import Scope
from async_jobs.domain.job import (
    HandOff,
    Job,
    JobFilter,
    JobPage,
    JobStatus,
    Payload,
    Phase,
)
from async_jobs.domain.lifecycle import Cancelled, Change, Claimed, Fence, LeaseExpired, change
from async_jobs.ports.leases import DispatchTurn, Success
from async_jobs.ports.store import (
    AddResult,
    Applied,
    ToldUnreadable,
)
from async_jobs.ports.upkeep import Place, Released, Upcoming
from async_jobs.testing.builders import UnreadableRows, later

HOUR = timedelta(hours=1)


class Untouched:
    """Hands every call on: what the saboteurs are before they break something."""

    breaks = ""

    def __init__(self, unreadable: UnreadableRows) -> None:
        self.inner = MemoryJobStore(unreadable=unreadable)

    @property
    def transaction(self) -> Callable[[], AbstractAsyncContextManager[object]]:
        return self.inner.transaction

    async def corrupt(self, job_id: UUID) -> None:
        self.inner.corrupt(job_id)

    async def mend(self, job_id: UUID) -> None:
        self.inner.mend(job_id)

    async def add(
        self,
        jobs: Sequence[Job],
        limits: Mapping[str, int],
        *,
        within: object | None = None,
        apart: bool = False,
    ) -> list[AddResult]:
        return await self.inner.add(jobs, limits, within=within, apart=apart)

    async def get(
        self,
        ids: Collection[UUID],
        *,
        tenant_id: str | None = None,
        unreadable: ToldUnreadable | None = None,
    ) -> list[Job]:
        return await self.inner.get(ids, tenant_id=tenant_id, unreadable=unreadable)

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        return await self.inner.find(criteria, limit=limit, before=before)

    @asynccontextmanager
    async def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AsyncIterator[DispatchTurn]:
        async with self.inner.turn(use_cases, tenants) as turn:
            yield turn

    async def save(self, changes: Sequence[Change]) -> Applied:
        return await self.inner.save(changes)

    async def claim(
        self, handoffs: Sequence[HandOff], claimed: Claimed, *, now: datetime
    ) -> list[Job]:
        return await self.inner.claim(handoffs, claimed, now=now)

    async def succeed(self, successes: Sequence[Success], *, now: datetime) -> frozenset[UUID]:
        return await self.inner.succeed(successes, now=now)

    async def expired(self, now: datetime, *, limit: int) -> list[Job]:
        return await self.inner.expired(now, limit=limit)

    async def set_aside(self, now: datetime, *, until: datetime, limit: int) -> int:
        return await self.inner.set_aside(now, until=until, limit=limit)

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        return await self.inner.promote(now, limit=limit, sidelined=sidelined)

    async def hold(
        self,
        seen: Collection[tuple[str, str]],
        scopes: Sequence[Scope],
        *,
        now: datetime,
        version: int,
        limit: int,
    ) -> int:
        return await self.inner.hold(seen, scopes, now=now, version=version, limit=limit)

    async def release(
        self,
        use_cases: Sequence[str],
        scopes: Sequence[Scope],
        *,
        version: int,
        limit: int,
        after: Place | None = None,
    ) -> Released:
        return await self.inner.release(
            use_cases, scopes, version=version, limit=limit, after=after
        )

    async def oldest_finished(self) -> Mapping[str, datetime]:
        return await self.inner.oldest_finished()

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        return await self.inner.purge(use_case, before=before, limit=limit)

    async def all(self, criteria: JobFilter) -> list[Job]:
        return list((await self.inner.find(criteria, limit=10_000)).jobs)

    async def fence_of(self, job_id: UUID) -> Fence | None:
        """Return what a change of the job, as it stands, would have to expect."""
        for job in await self.inner.get([job_id]):
            return Fence(job.lease_seq, job.phase, job.lease_expires_at)
        return None


# --- what is read ---


class Rounds(Untouched):
    """Keeps instants to the millisecond."""

    breaks = "JS-1"

    async def get(
        self,
        ids: Collection[UUID],
        *,
        tenant_id: str | None = None,
        unreadable: ToldUnreadable | None = None,
    ) -> list[Job]:
        jobs = await super().get(ids, tenant_id=tenant_id, unreadable=unreadable)
        return [replace(job, run_at=job.run_at.replace(microsecond=0)) for job in jobs]


class SkipsAtBorders(Untouched):
    """Leaves out the last job of every page but the last."""

    breaks = "JS-5"

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        jobs, cursor, _ = await super().find(criteria, limit=limit, before=before)
        return JobPage(jobs[:-1] if cursor else jobs, cursor)


class RepeatsAtBorders(Untouched):
    """Begins a page with the job that ended the one before."""

    breaks = "JS-5"

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        after = UUID(int=before.int + 1) if before else None
        return await super().find(criteria, limit=limit + bool(before), before=after)


class ForgetsTenants(Untouched):
    """Gives any job to anybody who knows its id."""

    breaks = "JS-6"

    async def get(
        self,
        ids: Collection[UUID],
        *,
        tenant_id: str | None = None,
        unreadable: ToldUnreadable | None = None,
    ) -> list[Job]:
        return await super().get(ids, unreadable=unreadable)


class KeepsObjects(Untouched):
    """Returns the payload that it was handed, instead of a copy."""

    breaks = "JS-7"

    def __init__(self, unreadable: UnreadableRows) -> None:
        super().__init__(unreadable)
        self.payloads: dict[UUID, Payload] = {}

    async def add(
        self,
        jobs: Sequence[Job],
        limits: Mapping[str, int],
        *,
        within: object | None = None,
        apart: bool = False,
    ) -> list[AddResult]:
        self.payloads |= {job.id: job.payload for job in jobs}
        return await super().add(jobs, limits, within=within, apart=apart)

    async def get(
        self,
        ids: Collection[UUID],
        *,
        tenant_id: str | None = None,
        unreadable: ToldUnreadable | None = None,
    ) -> list[Job]:
        jobs = await super().get(ids, tenant_id=tenant_id, unreadable=unreadable)
        return [replace(job, payload=self.payloads[job.id]) for job in jobs]


class ChokesOnBadRows(Untouched):
    """Fails as a whole when one row is unreadable."""

    breaks = "JS-8"

    def __init__(self, unreadable: UnreadableRows) -> None:
        super().__init__(unreadable)
        self.inner = MemoryJobStore(unreadable=self.choke)

    def choke(self, job_id: UUID | None, problem: str) -> None:
        raise ValueError(problem)


class PassesOverBadRows(Untouched):
    """Tells nobody who pages that a row cannot be read."""

    breaks = "JS-8"

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        page = await super().find(criteria, limit=limit, before=before)
        return page._replace(unreadable=())


class ReapsEarly(Untouched):
    """Takes leases for over that are not."""

    breaks = "LS-4"

    async def expired(self, now: datetime, *, limit: int) -> list[Job]:
        return await super().expired(now + HOUR, limit=limit)


class LeavesThemTheirSlots(Untouched):
    """Never gives an unreadable row back."""

    breaks = "LS-6"

    async def set_aside(self, now: datetime, *, until: datetime, limit: int) -> int:
        return 0


class SetsAsideEarly(Untouched):
    """Takes a lease away that is not over."""

    breaks = "LS-6"

    async def set_aside(self, now: datetime, *, until: datetime, limit: int) -> int:
        return await super().set_aside(now + HOUR, until=until, limit=limit)


class SetsAsideWithoutEnd(Untouched):
    """Ignores how many rows it may touch at a time."""

    breaks = "LS-6"

    async def set_aside(self, now: datetime, *, until: datetime, limit: int) -> int:
        return await super().set_aside(now, until=until, limit=10_000)


class SetsAsideTheReadable(Untouched):
    """Gives back whatever has a lease that is over."""

    breaks = "LS-6"

    async def set_aside(self, now: datetime, *, until: datetime, limit: int) -> int:
        over = await super().expired(now, limit=limit)
        await super().save([change(job, LeaseExpired(), now=now) for job in over])
        return len(over) + await super().set_aside(now, until=until, limit=limit)


class ShowsItAtOnce(Untouched):
    """Lets a row that was set aside be leased again at once."""

    breaks = "LS-6"

    async def set_aside(self, now: datetime, *, until: datetime, limit: int) -> int:
        return await super().set_aside(now, until=now, limit=limit)


# --- what is claimed ---


class ClaimsWhateverLease(Untouched):
    """Takes every hand-off for one of the present lease."""

    breaks = "LS-7"

    async def claim(
        self, handoffs: Sequence[HandOff], claimed: Claimed, *, now: datetime
    ) -> list[Job]:
        bare = [handoff._replace(lease_seq=None) for handoff in handoffs]
        return await super().claim(bare, claimed, now=now)


class ClaimsWhatIsOver(Untouched):
    """Does not look at the end of the lease."""

    breaks = "LS-7"

    async def claim(
        self, handoffs: Sequence[HandOff], claimed: Claimed, *, now: datetime
    ) -> list[Job]:
        return await super().claim(handoffs, claimed, now=min(now, later(30)))


class ClaimsTwice(Untouched):
    """Gives what is claimed already once more."""

    breaks = "LS-7"

    async def claim(
        self, handoffs: Sequence[HandOff], claimed: Claimed, *, now: datetime
    ) -> list[Job]:
        await super().claim(handoffs, claimed, now=now)
        jobs = await super().get([handoff.job_id for handoff in handoffs])
        return [job for job in jobs if job.phase is Phase.CLAIMED]


class ForgetsBareIds(Untouched):
    """Claims only what is numbered."""

    breaks = "LS-7"

    async def claim(
        self, handoffs: Sequence[HandOff], claimed: Claimed, *, now: datetime
    ) -> list[Job]:
        numbered = [handoff for handoff in handoffs if handoff.lease_seq is not None]
        return await super().claim(numbered, claimed, now=now)


# --- what succeeds ---


class SucceedsInAnyLease(Untouched):
    """Takes every success for one of the present lease."""

    breaks = "LS-8"

    async def succeed(self, successes: Sequence[Success], *, now: datetime) -> frozenset[UUID]:
        present = {
            job.id: job.lease_seq for job in await super().get([s.job_id for s in successes])
        }
        told = [s._replace(lease_seq=present.get(s.job_id, s.lease_seq)) for s in successes]
        return await super().succeed(told, now=now)


class SucceedsInPhase(Untouched):
    """Drops the success of a job that it finds in another phase than it expects."""

    phases: ClassVar[Collection[Phase]]
    breaks = ""

    async def succeed(self, successes: Sequence[Success], *, now: datetime) -> frozenset[UUID]:
        jobs = await super().get([success.job_id for success in successes])
        expected = {job.id for job in jobs if job.phase in self.phases}
        return await super().succeed([s for s in successes if s.job_id in expected], now=now)


class SucceedsOnce(SucceedsInPhase):
    """Tells whoever repeats a success that the lease is lost."""

    phases = (Phase.CLAIMED, Phase.CANCELLING)
    breaks = "LS-8"


class SucceedsUnlessCancelled(SucceedsInPhase):
    """Drops the success of a job whose cancellation was asked for."""

    phases = (Phase.CLAIMED, Phase.SUCCEEDED)
    breaks = "LS-8"


# --- what is written ---


class IgnoresFences(Untouched):
    """Overwrites whatever is there."""

    breaks = "JS-2"

    async def save(self, changes: Sequence[Change]) -> Applied:
        fences = [await self.fence_of(change.job.id) or change.fence for change in changes]
        return await super().save(
            [
                replace(c, fence=self.loosened(c.fence, f))
                for c, f in zip(changes, fences, strict=True)
            ]
        )

    def loosened(self, expected: Fence, found: Fence) -> Fence:
        return found


class IgnoresLeaseNumbers(IgnoresFences):
    """Compares the phase only."""

    def loosened(self, expected: Fence, found: Fence) -> Fence:
        return replace(expected, lease_seq=found.lease_seq)


class IgnoresPhases(IgnoresFences):
    """Compares the lease number only."""

    def loosened(self, expected: Fence, found: Fence) -> Fence:
        return replace(expected, phase=found.phase)


class IgnoresRenewals(IgnoresFences):
    """Does not compare the end of the lease."""

    def loosened(self, expected: Fence, found: Fence) -> Fence:
        return replace(expected, lease_expires_at=None)


class TellsAllTheyWon(Untouched):
    """Keeps the losers out, and does not say so."""

    breaks = "JS-2"

    async def save(self, changes: Sequence[Change]) -> Applied:
        await super().save(changes)
        return Applied(frozenset(change.job.id for change in changes))


class StopsAtTheFirstLoser(Untouched):
    """Applies a batch up to the first change that loses."""

    breaks = "JS-2"

    async def save(self, changes: Sequence[Change]) -> Applied:
        applied = Applied(frozenset())
        for each in changes:
            one = await super().save([each])
            applied = Applied(applied.ids | one.ids, applied.conflicting | one.conflicting)
            if not one.ids:
                break
        return applied


class CannotBeRepeated(Untouched):
    """Says that a change lost because it was applied before."""

    breaks = "JS-9"

    async def save(self, changes: Sequence[Change]) -> Applied:
        found = {change.job.id: await self.fence_of(change.job.id) for change in changes}
        applied = await super().save(changes)
        seqs = {c.job.id: (c.fence.lease_seq, c.fence.phase) for c in changes}
        fresh = {i for i, f in found.items() if f and (f.lease_seq, f.phase) == seqs[i]}
        return Applied(applied.ids & fresh, applied.conflicting)


class PurgesTheLiving(Untouched):
    """Takes pending jobs for finished ones."""

    breaks = "UP-1"

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        pending = await self.all(JobFilter(use_case=use_case, status=JobStatus.PENDING))
        long_ago = before - HOUR
        await super().save([change(job, Cancelled(), now=long_ago) for job in pending])
        return await super().purge(use_case, before=before, limit=limit)


class PurgesWithoutEnd(Untouched):
    """Ignores how much it may purge at a time."""

    breaks = "UP-1"

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        return await super().purge(use_case, before=before, limit=10_000)


class HoldsWholeTenants(Untouched):
    """Hides all that the tenants have whose paused jobs were seen."""

    breaks = "UP-3"

    async def hold(
        self,
        seen: Collection[tuple[str, str]],
        scopes: Sequence[Scope],
        *,
        now: datetime,
        version: int,
        limit: int,
    ) -> int:
        tenants = [Scope(tenant_id=tenant) for _, tenant in seen]
        return await super().hold(seen, tenants, now=now, version=version, limit=limit)


class ReleasesOneBatch(Untouched):
    """Takes the end of a batch for the end of all that is hidden."""

    breaks = "UP-4"

    async def release(
        self,
        use_cases: Sequence[str],
        scopes: Sequence[Scope],
        *,
        version: int,
        limit: int,
        after: Place | None = None,
    ) -> Released:
        answer = await super().release(use_cases, scopes, version=version, limit=limit, after=after)
        return answer._replace(after=None)


class HoldsByAnyVersion(Untouched):
    """Hides by controls that may have changed since."""

    breaks = "UP-5"

    async def hold(
        self,
        seen: Collection[tuple[str, str]],
        scopes: Sequence[Scope],
        *,
        now: datetime,
        version: int,
        limit: int,
    ) -> int:
        version = self.inner.controls.current_version
        return await super().hold(seen, scopes, now=now, version=version, limit=limit)


class RevivesInConflict(Untouched):
    """Lets a retry through though its key is taken."""

    breaks = "JS-4"

    async def save(self, changes: Sequence[Change]) -> Applied:
        applied = await super().save(changes)
        kept_out = [c for c in changes if c.job.id in applied.conflicting]
        loose = [replace(c, job=replace(c.job, dedupe_key=None)) for c in kept_out]
        return Applied(applied.ids | (await super().save(loose)).ids)
