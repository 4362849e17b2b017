"""Stores whose `add` breaks one promise each."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from async_jobs.domain.job import Job, JobFilter, JobStatus
from async_jobs.domain.quota import Refused
from async_jobs.ports.store import Added, AddResult, Invalid
from async_jobs.testing.clocks import let_others_run
from tests.sabotage.saboteurs.stores import Untouched


class Add(Protocol):
    """What the store behind does, as it was asked to unless somebody says otherwise."""

    def __call__(
        self,
        jobs: Sequence[Job],
        limits: Mapping[str, int],
        *,
        within: object | None = ...,
        apart: bool = ...,
    ) -> Awaitable[list[AddResult]]: ...


class Door(Untouched):
    """Hands every call on; the saboteurs change how it adds."""

    async def add(
        self,
        jobs: Sequence[Job],
        limits: Mapping[str, int],
        *,
        within: object | None = None,
        apart: bool = False,
    ) -> list[AddResult]:
        return await self.admit(jobs, limits, partial(super().add, within=within, apart=apart))

    async def admit(
        self, jobs: Sequence[Job], limits: Mapping[str, int], add: Add
    ) -> list[AddResult]:
        return await add(jobs, limits)


class CountsOutsideTheLock(Door):
    """Counts, lets others run, and inserts by what it had counted."""

    breaks = "JS-3"

    async def admit(
        self, jobs: Sequence[Job], limits: Mapping[str, int], add: Add
    ) -> list[AddResult]:
        pending = await self.all(JobFilter(status=JobStatus.PENDING))
        used = {t: sum(job.tenant_id == t for job in pending) for t in limits}
        asked = {t: sum(job.tenant_id == t for job in jobs) for t in limits}
        await let_others_run()
        for tenant, limit in sorted(limits.items()):
            if used[tenant] + asked[tenant] > limit:
                refused = Refused(
                    tenant_id=tenant, limit=limit, used=used[tenant], asked=asked[tenant]
                )
                return [refused] * len(jobs)
        return await add(jobs, {})


class LeavesPartsBehind(Door):
    """Adds the jobs of a call one by one, until one is refused."""

    breaks = "JS-3"

    async def admit(
        self, jobs: Sequence[Job], limits: Mapping[str, int], add: Add
    ) -> list[AddResult]:
        results: list[AddResult] = []
        for job in jobs:
            results += await add([job], limits)
        return results


class ForgetsKeysOfRunningJobs(Door):
    """Looks for a dedupe key among pending jobs only."""

    breaks = "JS-4"

    async def admit(
        self, jobs: Sequence[Job], limits: Mapping[str, int], add: Add
    ) -> list[AddResult]:
        running = await self.all(JobFilter(status=JobStatus.RUNNING))
        free = {job.dedupe_key for job in running}
        loose = [replace(job, dedupe_key=None) if job.dedupe_key in free else job for job in jobs]
        return await add(loose, limits)


class LooksForKeysOutsideTheLock(Door):
    """Looks, lets others run, and inserts by what it had seen."""

    breaks = "JS-4"

    async def admit(
        self, jobs: Sequence[Job], limits: Mapping[str, int], add: Add
    ) -> list[AddResult]:
        seen = {(job.tenant_id, job.dedupe_key) for job in await self.all(JobFilter())}
        await let_others_run()
        free = [(job.tenant_id, job.dedupe_key) not in seen for job in jobs]
        loose = [replace(j, dedupe_key=None) if f else j for j, f in zip(jobs, free, strict=True)]
        return await add(loose, limits)


class TellsWhoseItIs(Door):
    """Names the owner of an id that is taken."""

    breaks = "JS-10"

    async def admit(
        self, jobs: Sequence[Job], limits: Mapping[str, int], add: Add
    ) -> list[AddResult]:
        results = await add(jobs, limits)
        owners = {job.id: job.tenant_id for job in await self.all(JobFilter())}
        return [
            replace(r, problem=f"is {owners[r.job_id]}'s") if isinstance(r, Invalid) else r
            for r in results
        ]


class AddsTwice(Door):
    """Takes a repeated id for a new job."""

    breaks = "JS-10"

    async def admit(
        self, jobs: Sequence[Job], limits: Mapping[str, int], add: Add
    ) -> list[AddResult]:
        await add(jobs, limits)
        return [Added(job.id) for job in jobs]


class AddsAllOrNothing(Door):
    """Lets an invalid job keep out those that stand apart from it."""

    breaks = "JS-10"

    async def admit(
        self, jobs: Sequence[Job], limits: Mapping[str, int], add: Add
    ) -> list[AddResult]:
        return await add(jobs, limits, apart=False)


class CommitsAtOnce(Door):
    """Adds outside of the transaction it was given."""

    breaks = "JS-11"

    async def admit(
        self, jobs: Sequence[Job], limits: Mapping[str, int], add: Add
    ) -> list[AddResult]:
        return await add(jobs, limits, within=None)
