"""A hypothesis machine that drives a store beside a plain dict and compares at every step."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.errors import IllegalTransition
from async_jobs.domain.job import Job, JobFilter, JobStatus
from async_jobs.domain.lifecycle import (
    Amended,
    Cancelled,
    CancelRequested,
    Change,
    Claimed,
    Expired,
    Failed,
    HandOffFailed,
    JobEvent,
    Leased,
    LeaseExpired,
    Rejected,
    Released,
    Renewed,
    Restored,
    Retried,
    Snoozed,
    Succeeded,
    change,
)
from async_jobs.domain.scheduling import LeaseGrant, grant
from async_jobs.extras import require
from async_jobs.ports.leases import Heads, HeadsQuery
from async_jobs.ports.store import Invalid, Store
from async_jobs.testing.builders import a_job
from async_jobs.testing.clocks import NOW, ManualChance
from async_jobs.testing.model import StoreModel, in_window, is_shown_rightly, most_urgent

try:
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
except ModuleNotFoundError:
    require("async_jobs.testing.machines", "hypothesis")
    raise

T = TypeVar("T")

USE_CASES = {
    "notifications": LatePolicy.RUN,
    "reports": LatePolicy.SIDELINE,
    "reminders": LatePolicy.EXPIRE,
}
TENANTS = ("acme", "limited", "zoo")
LIMITS = {"limited": 3}
LEASE_SECONDS = 30

seconds = st.sampled_from([0, 1, 10, 40])


class RollBack(Exception):
    """Ends a turn in an error."""


@st.composite
def new_jobs(draw: st.DrawFn) -> dict[str, Any]:
    """Return what sets one new job apart from another; instants are relative."""
    return {
        "tenant_id": draw(st.sampled_from(TENANTS)),
        "use_case": draw(st.sampled_from(sorted(USE_CASES))),
        "dedupe_key": draw(st.sampled_from([None, None, "daily", "weekly"])),
        "priority": draw(st.integers(-1, 1)),
        "max_attempts": draw(st.integers(1, 2)),
        "delay_tolerance": timedelta(seconds=draw(seconds)),
        "run_at": timedelta(seconds=draw(seconds)),
    }


class JobStoreMachine(RuleBasedStateMachine):
    """Subclass it, say how to open an empty store, and run it as a test.

        class MyMachine(JobStoreMachine):
            @asynccontextmanager
            async def open_store(self) -> AsyncIterator[Store]:
                yield MyStore()

        TestMyMachine = MyMachine.TestCase

    Each run has an event loop and an empty store of its own.
    """

    def open_store(self) -> AbstractAsyncContextManager[Store]:
        """Open an empty store; it is closed when the run is over."""
        raise NotImplementedError("override open_store")

    def __init__(self) -> None:
        super().__init__()
        self.model = StoreModel()
        self.now = NOW
        self.chance = ManualChance()
        self.past: list[Job] = []
        self.last_changes: list[Change] = []
        self.runner = asyncio.Runner()
        self.resources = AsyncExitStack()
        self.store = self.run(self.resources.enter_async_context(self.open_store()))

    def teardown(self) -> None:
        """Close the store."""
        self.run(self.resources.aclose())
        self.runner.close()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Await one call of the store."""
        return self.runner.run(call)

    # --- what callers do ---

    @rule(step=st.sampled_from([0.000_001, 1, 10, LEASE_SECONDS, 100]))
    def time_passes(self, step: float) -> None:
        """Nothing happens by itself."""
        self.now += timedelta(seconds=step)

    @rule(batch=st.lists(new_jobs(), min_size=1, max_size=4))
    def add(self, batch: list[dict[str, Any]]) -> None:
        """New jobs of a few tenants come in, one of them limited."""
        self.add_jobs([self.job_of(each) for each in batch])

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), one=new_jobs(), other=new_jobs())
    def add_again(self, data: st.DataObject, one: dict[str, Any], other: dict[str, Any]) -> None:
        """An id comes in a second time, from its own tenant or from another."""
        again = replace(self.job_of(one), id=self.some_job(data).id)
        self.add_jobs([self.job_of(other), again])

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), draw=st.sampled_from([0.0, 0.5]))
    def something_happens(self, data: st.DataObject, draw: float) -> None:
        """One event befalls a job, as it stands or as somebody knew it long ago."""
        stale = data.draw(st.booleans()) and self.past
        job = data.draw(st.sampled_from(self.past)) if stale else self.some_job(data)
        changes = []
        for event in data.draw(st.permutations(self.events(draw))):
            with suppress(IllegalTransition):
                changes = [change(job, event, now=self.now)]
                break
        self.save(changes)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data())
    def workers_settle(self, data: st.DataObject) -> None:
        """Many jobs at once take whatever step they can, in one batch."""
        changes = []
        for job in self.jobs_apart():
            claim = Claimed("w", self.until())
            events: list[JobEvent] = [claim, Succeeded([1.5]), Failed("x"), Retried()]
            for event in data.draw(st.permutations(events)):
                with suppress(IllegalTransition):
                    changes.append(change(job, event, now=self.now))
                    break
        self.save(changes)

    @rule()
    def a_save_is_repeated(self) -> None:
        """The reply to the last one was lost."""
        self.save(self.last_changes)

    @rule(
        limit=st.sampled_from([1, 2, 100]),
        named=st.sampled_from([(), ("zoo",), ("nobody",)]),
        use=st.integers(0, 3),
        fails=st.booleans(),
    )
    def dispatch(self, limit: int, named: tuple[str, ...], use: int, fails: bool) -> None:
        """A scheduler looks, and leases some of what it sees."""
        with suppress(RollBack):
            self.run(self.turn(limit, named, use, fails))

    @rule(limit=st.sampled_from([1, 100]))
    def reap(self, limit: int) -> None:
        """Leases that are over end."""
        over = self.run(self.store.expired(self.now, limit=limit))
        assert over == self.model.expired(self.now)[:limit]
        self.save([change(job, LeaseExpired(), now=self.now) for job in over])

    @rule(use_case=st.sampled_from(sorted(USE_CASES)), limit=st.sampled_from([1, 100]))
    def purge(self, use_case: str, limit: int) -> None:
        """Finished jobs are forgotten."""
        forgotten = self.run(self.store.purge(use_case, before=self.now, limit=limit))
        assert forgotten == self.model.purge(use_case, before=self.now, limit=limit)

    # --- what must hold ---

    @invariant()
    def the_store_holds_what_the_model_holds(self) -> None:
        """Every job, field by field, and nothing else."""
        page = self.run(self.store.find(JobFilter(), limit=1_000))
        assert list(page.jobs) == self.model.find(JobFilter())

    @rule(
        tenant_id=st.sampled_from([None, *TENANTS]),
        use_case=st.sampled_from([None, *sorted(USE_CASES)]),
        status=st.sampled_from([None, *JobStatus]),
        limit=st.integers(1, 4),
    )
    def pages_are_right(
        self, tenant_id: str | None, use_case: str | None, status: JobStatus | None, limit: int
    ) -> None:
        """Whatever the filter and the size of a page."""
        criteria = JobFilter(tenant_id=tenant_id, use_case=use_case, status=status)
        assert self.run(self.walk(criteria, limit)) == self.model.find(criteria)

    # --- how it is done ---

    def job_of(self, drawn: dict[str, Any]) -> Job:
        """Return a new job, created now."""
        run_at = self.now + drawn["run_at"]
        id = self.chance.uuid(self.now)
        return a_job(**{**drawn, "id": id, "created_at": self.now, "run_at": run_at})

    def some_job(self, data: st.DataObject) -> Job:
        """Return one of the stored jobs."""
        return self.model.jobs[data.draw(st.sampled_from(sorted(self.model.jobs)))]

    def jobs_apart(self) -> list[Job]:
        """Return the stored jobs, without those that share a dedupe key.

        In what order a batch frees and takes one key is no promise.
        """
        by_key: dict[object, list[Job]] = {}
        for job in self.model.jobs.values():
            by_key.setdefault((job.tenant_id, job.dedupe_key or job.id), []).append(job)
        return [jobs[0] for jobs in by_key.values() if len(jobs) == 1]

    def events(self, draw: float) -> list[JobEvent]:
        """Return one of every kind, at the present instant."""
        return [
            Leased(self.until()),
            HandOffFailed("throttled"),
            Claimed("worker", self.until()),
            Renewed(self.until()),
            Succeeded({"sent": True}),
            Failed("refused", draw=draw),
            Failed("later", retry_after=timedelta(seconds=10)),
            Rejected("no such address"),
            Snoozed(self.until()),
            Released(),
            CancelRequested(),
            Cancelled(),
            LeaseExpired(draw),
            Expired(),
            Retried(),
            Amended(run_at=self.until(), delay_tolerance=timedelta(seconds=7), priority=2),
            Restored(),
        ]

    def until(self) -> Any:
        """Return when a lease given now ends."""
        return self.now + timedelta(seconds=LEASE_SECONDS)

    def add_jobs(self, jobs: Sequence[Job]) -> None:
        """Add to both, and compare the answers but for their wording."""
        told = self.run(self.store.add(jobs, LIMITS))
        expected = self.model.add(jobs, LIMITS)
        assert [type(result) for result in told] == [type(result) for result in expected]
        for result, wanted in zip(told, expected, strict=True):
            assert isinstance(result, Invalid) or result == wanted

    def save(self, changes: list[Change]) -> None:
        """Save to both, and compare the answers."""
        before = [self.model.jobs[c.job.id] for c in changes if c.job.id in self.model.jobs]
        assert self.run(self.store.save(changes)) == self.model.save(changes)
        self.last_changes = changes
        self.past = [*before, *self.past][:20]

    async def turn(self, limit: int, named: tuple[str, ...], use: int, fails: bool) -> None:
        """Look at every use case and lease the first few of each tenant."""
        sidelined = [u for u, policy in USE_CASES.items() if policy is LatePolicy.SIDELINE]
        upcoming = await self.store.promote(self.now, limit=1_000, sidelined=sidelined)
        assert upcoming.run_at == self.model.next_run_at(self.now)
        queries = [
            HeadsQuery(use_case=name, limit=limit, tenants=named, late_policy=policy)
            for name, policy in USE_CASES.items()
        ]
        grants: list[LeaseGrant] = []
        async with self.store.turn(list(USE_CASES)) as turn:
            assert turn.use_cases == set(USE_CASES)
            for use_case, heads in (await turn.heads(queries, self.now)).items():
                self.check_heads(use_case, heads, limit, named)
                grants += [grant(c, until=self.until(), now=self.now) for c in heads.ready[:use]]
            leased = await turn.lease(grants)
            assert leased == {grant.job_id for grant in grants}
            if fails:
                raise RollBack
        assert self.model.lease(grants) == leased

    def check_heads(self, use_case: str, heads: Heads, limit: int, named: Collection[str]) -> None:
        """Compare what is shown with all that is ready."""
        policy = USE_CASES[use_case]
        whole = self.model.lanes(use_case, now=self.now, late_policy=policy)
        shown: dict[str, list[Any]] = {}
        for candidate in heads.ready:
            shown.setdefault(candidate.tenant_id, []).append(candidate)
        ready = [c for lane in whole.values() for c in lane]
        urgent = most_urgent(ready, limit, self.now)
        window = in_window(ready, limit, self.now)
        assert all(is_shown_rightly(lane, whole[tenant], window) for tenant, lane in shown.items())
        assert set(heads.ready) >= set(urgent)
        if sum(map(len, whole.values())) <= limit:
            assert shown == whole
        else:
            assert len(heads.ready) >= limit
        by_name = sorted(whole)[: -(-limit // 8)]
        assert set(shown) >= {*by_name, *named} & whole.keys()

    async def walk(self, criteria: JobFilter, limit: int) -> list[Job]:
        """Return all pages."""
        jobs: list[Job] = []
        before: UUID | None = None
        while True:
            page = await self.store.find(criteria, limit=limit, before=before)
            jobs += page.jobs
            before = page.next_cursor
            if before is None:
                return jobs
