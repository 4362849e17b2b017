"""Enqueues that come at the same time are committed together, and answered as if alone."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from functools import partial
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.application.enqueueing.group_commit import (
    FLIGHTS_MAX,
    GROUP_FULL,
    PATIENCE_SECONDS,
    Gatherer,
    _Line,
    answered_alone,
)
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.job import Job
from async_jobs.domain.quota import Refused
from async_jobs.ports.store import Added, AddResult, Duplicate, Invalid
from async_jobs.testing.builders import a_job
from async_jobs.testing.clocks import ManualClock, let_others_run
from async_jobs.testing.contracts.scenes import all_jobs, race
from tests.unit.application.stage import quiet


class Desk:
    """Adds jobs to a set, a call at a time, when it is let.

    Attributes:
        calls: the ids of each call.
        room: how many jobs of a tenant it takes at most; any number of others.
        foreign: ids that somebody else has.
        broken: ids that no call may hold.
    """

    def __init__(self) -> None:
        self.calls: list[list[UUID]] = []
        self.jobs: dict[UUID, Job] = {}
        self.room: dict[str, int] = {}
        self.foreign: set[UUID] = set()
        self.broken: set[UUID] = set()
        self.is_up = True
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def add(self, jobs: Sequence[Job]) -> Sequence[AddResult]:
        self.calls.append([job.id for job in jobs])
        await self.is_open.wait()
        if not self.is_up:
            raise Unavailable("nobody answers")
        if {job.id for job in jobs} & self.broken:
            raise ValueError("what is that?")
        away = self._away(jobs)
        results: list[AddResult] = []
        for job in jobs:
            if job.id in self.jobs:
                results.append(Duplicate(job.id))
            elif job.id in self.foreign:
                results.append(Invalid(job.id, "id", "is taken; choose another"))
            else:
                results.append(away or Added(job.id))
        if away is None:
            self.jobs |= {job.id: job for job in jobs if job.id not in self.foreign}
        return results

    def _away(self, jobs: Sequence[Job]) -> Refused | None:
        new = [job for job in jobs if job.id not in self.jobs.keys() | self.foreign]
        for tenant, limit in sorted(self.room.items()):
            used = sum(job.tenant_id == tenant for job in self.jobs.values())
            asked = sum(job.tenant_id == tenant for job in new)
            if used + asked > limit:
                return Refused(tenant_id=tenant, limit=limit, used=used, asked=asked)
        return None


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.fixture
async def gatherer(desk: Desk, clock: ManualClock) -> Gatherer:
    return Gatherer(desk.add, lambda tenant: tenant in desk.room, clock)


async def test_a_job_alone_is_added_at_once(gatherer: Gatherer, desk: Desk) -> None:
    """Without waiting for anybody."""
    job = a_job()

    assert await gatherer.add(job) == Added(job.id)
    assert desk.calls == [[job.id]]


async def test_what_comes_meanwhile_forms_the_next_group(gatherer: Gatherer, desk: Desk) -> None:
    """Whoever came first is added first, and everybody hears of his own job."""
    jobs = [a_job() for _ in range(9)]
    desk.is_open.clear()
    asking = [asyncio.ensure_future(gatherer.add(jobs[0]))]
    await quiet()
    asking += [asyncio.ensure_future(gatherer.add(job)) for job in jobs[1:]]
    await quiet()
    desk.is_open.set()

    answers = await asyncio.gather(*asking)

    assert answers == [Added(job.id) for job in jobs]
    assert desk.calls == [[jobs[0].id], [job.id for job in jobs[1:]]]


async def test_a_full_group_waits_for_no_other(gatherer: Gatherer, desk: Desk) -> None:
    """But a third one does: two keep both the process and its store busy."""
    desk.is_open.clear()
    jobs = [a_job() for _ in range(4 * GROUP_FULL)]
    asking = [asyncio.ensure_future(gatherer.add(job)) for job in jobs[: 2 * GROUP_FULL]]
    await quiet()
    asking += [asyncio.ensure_future(gatherer.add(job)) for job in jobs[2 * GROUP_FULL :]]
    await quiet()
    under_way = [len(call) for call in desk.calls]
    desk.is_open.set()

    answers = await asyncio.gather(*asking)

    assert under_way == [GROUP_FULL] * 2
    assert [len(call) for call in desk.calls] == [GROUP_FULL, GROUP_FULL, 2 * GROUP_FULL]
    assert answers == [Added(job.id) for job in jobs]


async def test_a_small_group_waits_until_none_is_under_way(gatherer: Gatherer, desk: Desk) -> None:
    """A commit of its own would cost everybody more than it gains."""
    desk.is_open.clear()
    asking = [asyncio.ensure_future(gatherer.add(a_job())) for _ in range(2 * GROUP_FULL - 1)]
    await quiet()
    under_way = [len(call) for call in desk.calls]
    desk.is_open.set()

    await asyncio.gather(*asking)

    assert under_way == [GROUP_FULL]
    assert [len(call) for call in desk.calls] == [GROUP_FULL, GROUP_FULL - 1]


async def test_nobody_is_answered_before_the_commit(gatherer: Gatherer, desk: Desk) -> None:
    """Neither the first nor the others."""
    desk.is_open.clear()
    asking = [asyncio.ensure_future(gatherer.add(a_job())) for _ in range(3)]
    await quiet()

    assert not any(each.done() for each in asking)
    desk.is_open.set()
    await asyncio.gather(*asking)
    assert len(desk.jobs) == 3


async def test_a_group_that_waits_for_a_lock_holds_up_nobody(
    gatherer: Gatherer, desk: Desk, clock: ManualClock
) -> None:
    """After a moment the others go on without it, in so many groups at most."""
    desk.is_open.clear()
    asking = []
    for _ in range(FLIGHTS_MAX + 2):
        asking.append(asyncio.ensure_future(gatherer.add(a_job())))
        await quiet()
        clock.advance(PATIENCE_SECONDS)
        await quiet()

    assert len(desk.calls) == FLIGHTS_MAX
    desk.is_open.set()
    await asyncio.gather(*asking)
    assert len(desk.jobs) == FLIGHTS_MAX + 2


async def test_a_tenant_that_has_to_wait_holds_up_no_other(
    gatherer: Gatherer, desk: Desk, clock: ManualClock
) -> None:
    """For its quota, or for a key that somebody holds: such jobs go with their own tenant's."""
    desk.room = {"limited": 9}
    jobs = [
        a_job(tenant_id="limited"),
        a_job(tenant_id="keyed", dedupe_key="daily"),
        a_job(tenant_id="limited", dedupe_key="daily"),
        a_job(tenant_id="keyed"),
        a_job(tenant_id="free"),
    ]

    await race(*(gatherer.add(job) for job in jobs))

    assert {frozenset(call) for call in desk.calls} == {
        frozenset({jobs[0].id, jobs[2].id}),
        frozenset({jobs[1].id}),
        frozenset({jobs[3].id, jobs[4].id}),
    }
    assert not gatherer._lines


async def test_a_refused_job_costs_the_others_nothing(gatherer: Gatherer, desk: Desk) -> None:
    """As many as have room are added, first come first served."""
    desk.room = {"full": 2}
    jobs = [a_job(tenant_id="full" if n % 2 else "other") for n in range(10)]

    answers = await race(*(gatherer.add(job) for job in jobs))

    assert [type(each) for each in answers[::2]] == [Added] * 5
    assert [type(each) for each in answers[1::2]] == [Added, Added, Refused, Refused, Refused]
    assert answers[-1] == Refused(tenant_id="full", limit=2, used=2, asked=1)


async def test_an_invalid_job_costs_the_others_nothing(gatherer: Gatherer, desk: Desk) -> None:
    """Its id is somebody else's."""
    jobs = [a_job() for _ in range(5)]
    desk.foreign = {jobs[2].id, jobs[4].id}

    answers = await race(*(gatherer.add(job) for job in jobs))

    assert [type(each) for each in answers] == [Added, Added, Invalid, Added, Invalid]


async def test_the_same_job_twice_is_one_and_a_duplicate(gatherer: Gatherer) -> None:
    """Though both came in the same moment."""
    job = a_job()

    answers = await race(*(gatherer.add(job) for _ in range(3)))

    assert answers == [Added(job.id), Duplicate(job.id), Duplicate(job.id)]


async def test_what_nobody_expected_is_told_to_whom_it_concerns(
    gatherer: Gatherer, desk: Desk
) -> None:
    """The others are added."""
    jobs = [a_job() for _ in range(6)]
    desk.broken = {jobs[3].id}

    answers = await asyncio.gather(*map(gatherer.add, jobs), return_exceptions=True)

    assert [type(each) for each in answers] == [Added] * 3 + [ValueError] + [Added] * 2


async def test_a_store_that_does_not_answer_is_told_to_all(gatherer: Gatherer, desk: Desk) -> None:
    """And asked again by whoever comes next."""
    desk.is_up = False

    answers = await asyncio.gather(
        *(gatherer.add(a_job()) for _ in range(4)), return_exceptions=True
    )
    desk.is_up = True

    assert [type(each) for each in answers] == [Unavailable] * 4
    assert isinstance(await gatherer.add(a_job()), Added)


async def test_a_caller_that_goes_takes_nobody_along(gatherer: Gatherer, desk: Desk) -> None:
    """Before its group is on its way its job is left out; later it may be there or not."""
    desk.is_open.clear()
    jobs = [a_job() for _ in range(6)]
    asking = [asyncio.ensure_future(gatherer.add(job)) for job in jobs[:2]]
    await quiet()
    asking += [asyncio.ensure_future(gatherer.add(job)) for job in jobs[2:]]
    await quiet()
    for gone in (asking[0], asking[3]):
        gone.cancel()
    await quiet()
    desk.is_open.set()

    answers = await asyncio.gather(*asking, return_exceptions=True)

    assert [type(answer) for answer in answers] == [
        asyncio.CancelledError,
        Added,
        Added,
        asyncio.CancelledError,
        Added,
        Added,
    ]
    assert desk.jobs.keys() - {jobs[0].id} == {jobs[n].id for n in (1, 2, 4, 5)}


@pytest.mark.parametrize("is_on_its_way", [False, True])
async def test_a_lone_caller_that_goes_takes_nobody_along(
    gatherer: Gatherer, desk: Desk, is_on_its_way: bool
) -> None:
    """Whoever waits behind goes on without it, and is not cancelled with it."""
    desk.is_open.clear()
    lone = asyncio.ensure_future(gatherer.add(a_job()))
    await (quiet() if is_on_its_way else let_others_run())
    asking = [asyncio.ensure_future(gatherer.add(a_job())) for _ in range(3)]
    if is_on_its_way:
        await quiet()
    lone.cancel()
    desk.is_open.set()

    answers = await asyncio.gather(lone, *asking, return_exceptions=True)

    assert [type(answer) for answer in answers] == [asyncio.CancelledError, *[Added] * 3]
    assert not gatherer._lines


async def test_who_comes_in_the_same_moment_as_a_lone_caller_shares_its_group(
    gatherer: Gatherer, desk: Desk
) -> None:
    """The first one first."""
    jobs = [a_job() for _ in range(3)]

    answers = await race(*(gatherer.add(job) for job in jobs))

    assert answers == [Added(job.id) for job in jobs]
    assert desk.calls == [[job.id for job in jobs]]


async def test_a_lone_caller_that_fails_takes_nobody_along(gatherer: Gatherer, desk: Desk) -> None:
    """Its error is its own."""
    bad, good = a_job(), a_job()
    desk.broken = {bad.id}
    desk.is_open.clear()
    asking = [asyncio.ensure_future(gatherer.add(bad))]
    await quiet()
    asking.append(asyncio.ensure_future(gatherer.add(good)))
    await quiet()
    desk.is_open.set()

    answers = await asyncio.gather(*asking, return_exceptions=True)

    assert [type(answer) for answer in answers] == [ValueError, Added]


async def test_callers_are_let_go_when_the_work_is_ended(gatherer: Gatherer, desk: Desk) -> None:
    """As when an event loop ends: nobody waits for ever, and those behind go on."""
    desk.is_open.clear()
    asking = [asyncio.ensure_future(gatherer.add(a_job())) for _ in range(2)]
    await quiet()
    behind = asyncio.ensure_future(gatherer.add(a_job()))
    await quiet()
    (line,) = gatherer._lines.values()
    (flight,) = line._flights
    flight.cancel()

    for each in asking:
        with pytest.raises(asyncio.CancelledError):
            await each
    desk.is_open.set()
    assert isinstance(await behind, Added)


def test_an_event_loop_that_ends_leaves_nobody_behind(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a caller nor a task that nobody waits for."""

    async def main() -> None:
        desk = Desk()
        desk.is_open.clear()
        gatherer = Gatherer(desk.add, lambda tenant: False, clock)
        left = []
        for _ in range(3):
            left.append(asyncio.ensure_future(gatherer.add(a_job())))
            await quiet()

    asyncio.run(main())
    gc.collect()

    assert not caplog.records


LIMITS = {"one": 1, "two": 2}
TENANTS = st.sampled_from(["free", *LIMITS])
FOREIGN = UUID(int=1)
ASKED = st.tuples(TENANTS, st.sampled_from([None, None, "daily", "hourly"]), st.integers(1, 9))


@given(st.lists(ASKED, max_size=14))
def test_answers_are_those_of_one_after_the_other(asked: list[tuple[str, str | None, int]]) -> None:
    """Whatever a group holds: refused, invalid, repeated and new jobs of several tenants."""
    jobs = [
        # Two tenants never choose the same id, but for the one that is somebody else's.
        a_job(
            id=FOREIGN if number == 1 else UUID(int=10 * (number + 10 * "fot".index(tenant[0]))),
            tenant_id=tenant,
            dedupe_key=key,
        )
        for tenant, key, number in asked
    ]

    async def desk() -> MemoryJobStore:
        store = MemoryJobStore()
        await store.add([a_job(id=FOREIGN, tenant_id="other")], {})
        return store

    async def add(store: MemoryJobStore, jobs: Sequence[Job]) -> Sequence[AddResult]:
        limits = {job.tenant_id: LIMITS[job.tenant_id] for job in jobs if job.tenant_id in LIMITS}
        return await store.add(jobs, limits, apart=True)

    async def main() -> None:
        together, alone = await desk(), await desk()
        # All in one line, which the gatherer itself would not let them be.
        line = _Line(partial(add, together), ManualClock(), on_empty=lambda: None)

        answers = await asyncio.gather(*map(line.add, jobs))

        assert answers == [(await add(alone, [job]))[0] for job in jobs]
        assert await all_jobs(together) == await all_jobs(alone)

    asyncio.run(main())


def test_an_answer_is_known_or_asked_for_again() -> None:
    """Of a refused group every job is either answered or added once more."""
    jobs = [a_job(tenant_id=tenant) for tenant in ("full", "other", "full")]
    away = Refused(tenant_id="full", limit=5, used=4, asked=2)

    assert answered_alone(jobs, [away] * 3) == [
        None,
        None,
        Refused(tenant_id="full", limit=5, used=5, asked=1),
    ]
