"""Moves that many contract tests share: bring a job somewhere, race, let time pass."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.job import Job, JobFilter, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    CancelRequested,
    Claimed,
    JobEvent,
    Leased,
    LeaseExpired,
    Rejected,
    Succeeded,
    change,
)
from async_jobs.domain.scheduling import grant
from async_jobs.ports.leases import Heads, HeadsQuery
from async_jobs.ports.store import Added, AddResult, Store
from async_jobs.testing.builders import a_job, candidate_of, later
from async_jobs.testing.clocks import NOW, let_others_run

T = TypeVar("T")

Corrupt: TypeAlias = Callable[[UUID], Awaitable[None]]
"""Makes the stored row of a job unreadable."""
Mend: TypeAlias = Callable[[UUID], Awaitable[None]]
"""Makes a row that was corrupted readable again, as it stands."""
Transaction: TypeAlias = Callable[[], AbstractAsyncContextManager[object]]
"""Opens a transaction for `within`: committed at the end, rolled back by an error."""
Elapse: TypeAlias = Callable[[float], Awaitable[None]]
"""Makes so many seconds pass for an adapter."""

STUCK_SECONDS = 30.0
"""After this long a race counts as a deadlock. No test that passes takes a fraction of it."""

UNTIL = later(60)
"""When the leases of these stories end, unless they say otherwise."""

PATHS: dict[Phase, tuple[JobEvent, ...]] = {
    Phase.PENDING: (),
    Phase.HANDED_OFF: (Leased(UNTIL),),
    Phase.CLAIMED: (Leased(UNTIL), Claimed("worker-1", UNTIL)),
    Phase.CANCELLING: (Leased(UNTIL), Claimed("worker-1", UNTIL), CancelRequested()),
    Phase.SUCCEEDED: (Leased(UNTIL), Claimed("worker-1", UNTIL), Succeeded({"sent": True})),
    Phase.DEAD: (Leased(UNTIL), Claimed("worker-1", UNTIL), Rejected("no such address")),
    Phase.CANCELLED: (Cancelled(),),
}
"""What has to happen to a new job until it is in a phase."""


CRASH: tuple[JobEvent, ...] = (Leased(UNTIL), Claimed("worker-0", NOW), LeaseExpired())
"""What happens to a pending job whose worker dies at once."""


class RollBack(Exception):
    """Raised in a transaction or a turn to end it in an error."""


async def race(*calls: Awaitable[T]) -> list[T]:
    """Await all at once; a deadlock is an error instead of a test that hangs."""
    async with asyncio.timeout(STUCK_SECONDS):
        return await asyncio.gather(*calls)


async def soon(call: Awaitable[T]) -> T:
    """Await what should take no time worth speaking of."""
    async with asyncio.timeout(STUCK_SECONDS):
        return await call


async def meanwhile(store: Store) -> None:
    """Let what was started come to where it waits: other tasks run, and round trips pass."""
    for _ in range(15):
        await let_others_run()
        await store.get([])
        await store.find(JobFilter(tenant_id="nobody"), limit=1)


async def until_done(task: asyncio.Future[Any], elapse: Elapse, step_seconds: float) -> float:
    """Let time pass, step by step, until the task is done; returns how many seconds it took."""
    for step in range(500):
        await let_others_run(5)
        if task.done():
            return step * step_seconds
        await elapse(step_seconds)
    task.cancel()
    raise AssertionError(f"still waiting after {500 * step_seconds} s")


async def against_open(
    transaction: Transaction,
    store: Store,
    *,
    first: Callable[[object], Awaitable[object]],
    rival: Callable[[], Awaitable[T]],
    commits: bool,
) -> T:
    """Let `rival` meet a transaction that has done `first` and then commits or rolls back."""
    meeting = None
    with contextlib.suppress(RollBack):
        async with transaction() as within:
            await first(within)
            meeting = asyncio.ensure_future(rival())
            await meanwhile(store)
            if not commits:
                raise RollBack
    assert meeting is not None
    return await soon(meeting)


async def stored(store: Store, *jobs: Job) -> None:
    """Add new jobs without any limit."""
    results = await store.add(jobs, {})
    assert results == [Added(job.id) for job in jobs]


async def added(store: Store, **overrides: Any) -> Job:
    """Add one new job, see `a_job`."""
    job = a_job(**overrides)
    await stored(store, job)
    return job


async def the_job(store: Store, job_id: UUID) -> Job:
    """Return the one job with this id."""
    (job,) = await store.get([job_id])
    return job


async def happened(store: Store, job: Job, *events: JobEvent, now: datetime = NOW) -> Job:
    """Make events happen to a stored job, one save each; returns the job as it then stands."""
    for event in events:
        step = change(job, event, now=now)
        applied = await store.save([step])
        assert applied.ids == {job.id}, f"{type(event).__name__} was not applied"
        job = step.job
    return job


async def in_phase(store: Store, phase: Phase, **overrides: Any) -> Job:
    """Add a job and bring it into a phase."""
    return await happened(store, await added(store, **overrides), *PATHS[phase])


async def all_jobs(store: Store, criteria: JobFilter | None = None) -> list[Job]:
    """Return every job that matches, page by page."""
    jobs: list[Job] = []
    before: UUID | None = None
    while True:
        page = await store.find(criteria or JobFilter(), limit=100, before=before)
        jobs += page.jobs
        before = page.next_cursor
        if before is None:
            return jobs


async def heads_of(
    store: Store,
    use_case: str = "notifications",
    *,
    now: datetime = NOW,
    limit: int = 100,
    tenants: tuple[str, ...] = (),
    after: str = "",
    late_policy: LatePolicy = LatePolicy.RUN,
) -> Heads:
    """Return what a scheduler sees: promoted at `now`, then asked in a turn of its own."""
    sidelined = [use_case] if late_policy is LatePolicy.SIDELINE else []
    await store.promote(now, limit=1_000, sidelined=sidelined)
    query = HeadsQuery(
        use_case=use_case, limit=limit, tenants=tenants, after=after, late_policy=late_policy
    )
    async with store.turn([use_case]) as turn:
        assert turn.use_cases == {use_case}
        return (await turn.heads([query], now))[use_case]


async def leased(store: Store, job: Job, *, until: datetime = UNTIL, now: datetime = NOW) -> Job:
    """Lease a pending job in a turn; returns the job as it then stands."""
    async with store.turn([job.use_case]) as turn:
        ids = await turn.lease([grant(candidate_of(job), until=until, now=now)])
        assert ids == {job.id}
    return await the_job(store, job.id)


def kinds(results: Iterable[AddResult]) -> list[str]:
    """Return the results of an `add` as the names of their kinds."""
    return [type(result).__name__ for result in results]
