"""One dispatch turn: what is leased, within which limits, and what a failure costs."""

from __future__ import annotations

from collections import Counter

import pytest

from async_jobs.application.scheduling.dispatcher import Dispatched
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.errors import StoreRefused, Unavailable
from async_jobs.domain.facts import JobLeased, UseCaseSkipped
from async_jobs.domain.job import Job, JobStatus, Phase
from async_jobs.domain.lifecycle import Cancelled
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.testing.builders import a_job, later
from async_jobs.testing.contracts.scenes import added, happened, in_phase, stored
from tests.unit.application.stage import Stage, handoff_of, limits
from tests.unit.application.turns import (
    LEASE,
    TWO,
    dispatch,
    dispatcher,
    ids,
    ids_of,
    running,
    wide,
    windows,
)

# --- What a turn does ------------------------------------------------------------------------


async def test_a_lease_is_what_the_domain_says_and_is_handed_off() -> None:
    """The hand-off names the lease; the job waits for a worker until the lease is over."""
    stage = Stage()
    job = await added(stage.memory)

    dispatched = await dispatch(stage)

    leased = await stage.job(job)
    assert dispatched.by_queue == {"notifications": [handoff_of(leased)]}
    assert (leased.phase, leased.lease_seq, leased.attempts) == (Phase.HANDED_OFF, 1, 0)
    assert leased.lease_expires_at == later(60)


async def test_every_lease_is_told() -> None:
    """With the lane it goes to."""
    stage = Stage()
    job = await added(stage.memory)

    await dispatch(stage)

    assert stage.telemetry.facts == [
        JobLeased(
            at=later(0),
            job_id=job.id,
            tenant_id="acme",
            use_case="notifications",
            lease_seq=1,
            queue="notifications",
        )
    ]


async def test_the_earliest_deadlines_are_leased_up_to_the_capacity() -> None:
    """What is claimed and what waits for a worker counts alike."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=4)))
    await in_phase(stage.memory, Phase.CLAIMED)
    await in_phase(stage.memory, Phase.HANDED_OFF)
    jobs = [await added(stage.memory, deadline_at=later(60 - i)) for i in range(5)]

    dispatched = await dispatch(stage)

    assert ids(dispatched) == ids_of(jobs[:2:-1])
    assert await running(stage) == {"notifications": 4}


async def test_nothing_starts_before_it_is_due() -> None:
    """Not a microsecond."""
    stage = Stage()
    job = await added(stage.memory, run_at=later(1))

    stage.clock.advance(0.999_999)
    early = await dispatch(stage)
    stage.clock.advance(0.000_001)
    due = await dispatch(stage)

    assert (ids(early), ids(due)) == ([], [job.id])


async def test_a_use_case_without_capacity_is_paused() -> None:
    """And what runs of it runs on."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=0)))
    await in_phase(stage.memory, Phase.CLAIMED)
    await added(stage.memory)

    dispatched = await dispatch(stage)

    assert ids(dispatched) == []
    assert await running(stage) == {"notifications": 1}


async def test_hand_offs_are_sorted_by_lane() -> None:
    """A job may name another queue than its use case's."""
    stage = Stage(limits(**TWO))
    here = await added(stage.memory)
    there = await added(stage.memory, queue="reports")

    dispatched = await dispatch(stage)

    assert {queue: [h.job_id for h in each] for queue, each in dispatched.by_queue.items()} == {
        "notifications": [here.id],
        "reports": [there.id],
    }


async def test_one_turn_leases_a_thousand_jobs_at_most() -> None:
    """The next one goes on."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=2_000)))
    await stored(stage.memory, *(a_job() for _ in range(1_010)))

    first = await dispatch(stage, windows(notifications=2_000))
    second = await dispatch(stage, windows(notifications=2_000))

    assert (len(ids(first)), len(ids(second))) == (1_000, 10)


async def test_a_job_that_was_cancelled_in_between_is_not_handed_off() -> None:
    """The lease is a compare-and-set; the others are leased."""
    stage = Stage()
    jobs = [await added(stage.memory) for _ in range(2)]

    async def cancel() -> None:
        await happened(stage.memory, jobs[0], Cancelled())

    stage.store.before("lease", cancel)

    dispatched = await dispatch(stage)

    assert ids(dispatched) == [jobs[1].id]
    assert [fact.job_id for fact in stage.telemetry.of(JobLeased)] == [jobs[1].id]


# --- Tenants ---------------------------------------------------------------------------------


async def test_a_tenant_is_limited_over_all_use_cases() -> None:
    """What one use case takes in a turn, the next one sees; the most pressing takes first."""
    stage = Stage(limits({"acme": TenantQuota(max_running=3)}, **TWO))
    await in_phase(stage.memory, Phase.CLAIMED, use_case="reports")
    late = [await added(stage.memory, deadline_at=later(50)) for _ in range(3)]
    soon = await added(stage.memory, use_case="reports", deadline_at=later(10))
    other = await added(stage.memory, tenant_id="other", deadline_at=later(90))

    dispatched = await dispatch(stage)

    assert set(ids(dispatched)) == {soon.id, late[0].id, other.id}
    assert await running(stage) == {"reports": 2, "notifications": 2}


async def test_a_paused_tenant_keeps_nobody_else_waiting() -> None:
    """Its jobs stay pending, however urgent."""
    stage = Stage(limits({"acme": TenantQuota(max_running=0)}, **TWO))
    await added(stage.memory, deadline_at=later(1))
    other = await added(stage.memory, tenant_id="other")

    dispatched = await dispatch(stage)

    assert ids(dispatched) == [other.id]


async def test_a_tenant_that_another_scheduler_leases_for_waits() -> None:
    """Two schedulers must not both fill the last place; those without a limit go on."""
    stage = Stage(limits({"acme": TenantQuota(max_running=3)}, **TWO))
    await added(stage.memory)
    other = await added(stage.memory, tenant_id="other")

    async with stage.memory.turn([], ["acme"]):
        beside = await dispatch(stage)
    after = await dispatch(stage)

    assert ids(beside) == [other.id]
    assert len(ids(after)) == 1


async def test_a_backlog_of_another_tenant_costs_two_turns_at_most() -> None:
    """Its four hundred jobs press as well, are more urgent, and more than a turn looks at."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=2)))
    backlog = [a_job(tenant_id="big", deadline_at=later(20)) for _ in range(400)]
    await stored(stage.memory, *backlog)
    mine = await added(stage.memory, tenant_id="small", deadline_at=later(25))
    scheduler = dispatcher(stage)

    first = await scheduler.dispatch(["notifications"], wide, LEASE)
    second = await scheduler.dispatch(["notifications"], wide, LEASE)

    assert mine.id in {*ids(first), *ids(second)}


async def test_no_backlog_hides_a_tenant_for_ever() -> None:
    """More tenants wait than a turn can look at, all behind one whose jobs fill the view."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=2)))
    backlog = [a_job(tenant_id="big", deadline_at=later(20)) for _ in range(100)]
    small = [a_job(tenant_id=f"small-{i:02}", deadline_at=later(21 + i / 10)) for i in range(70)]
    await stored(stage.memory, *backlog, *small)
    scheduler = dispatcher(stage)
    served: list[str] = []

    for _ in small:
        dispatched = await scheduler.dispatch(["notifications"], wide, LEASE)
        (handoff,) = [each for each in dispatched.handoffs if each.tenant_id != "big"]
        served.append(handoff.tenant_id)
        await happened(stage.memory, await stage.job(handoff.job_id), Cancelled())

    assert sorted(served) == [job.tenant_id for job in small]


async def test_the_walk_over_the_tenants_goes_on_where_it_ended() -> None:
    """Each look shows others, until it comes round."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=64)))
    tenants = [f"tenant-{i:03}" for i in range(150)]
    await stored(stage.memory, *(a_job(tenant_id=tenant) for tenant in tenants))
    scheduler = dispatcher(stage)

    for _ in range(11):
        await scheduler.dispatch(["notifications"], windows(notifications=0), LEASE)

    ends = [tenants[n] for n in range(15, 144, 16)]
    assert [query.after for (query,) in stage.store.queries] == ["", *ends, ""]


# --- Late jobs -------------------------------------------------------------------------------


async def late_and_punctual(
    policy: LatePolicy, capacity: int, *, deadline_seconds: float = 5
) -> tuple[Stage, Job, Job]:
    """Return a stage with one late job and one that can still be on time, and presses."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=capacity, late_policy=policy)))
    late = await added(stage.memory, run_at=later(-60), deadline_at=later(-1))
    return stage, late, await added(stage.memory, deadline_at=later(deadline_seconds))


async def test_late_jobs_run_first_where_the_use_case_says_so() -> None:
    """They are simply the most urgent."""
    stage, late, _ = await late_and_punctual(LatePolicy.RUN, capacity=1)

    assert ids(await dispatch(stage)) == [late.id]


async def test_late_jobs_stand_behind_what_presses_by_default() -> None:
    """Nobody has to say so."""
    assert UseCaseConfig().late_policy is LatePolicy.SIDELINE


async def test_sidelined_jobs_run_before_what_can_wait() -> None:
    """Which loses nothing by it."""
    stage, late, _ = await late_and_punctual(LatePolicy.SIDELINE, 1, deadline_seconds=60)

    assert ids(await dispatch(stage)) == [late.id]


async def test_a_turn_names_the_use_cases_that_showed_late_jobs() -> None:
    """Of those which put them behind others."""
    sidelined, *_ = await late_and_punctual(LatePolicy.SIDELINE, 1)
    first, *_ = await late_and_punctual(LatePolicy.RUN, 1)

    assert [set((await dispatch(stage)).late) for stage in (sidelined, first)] == [
        {"notifications"},
        set(),
    ]


async def test_sidelined_jobs_run_after_what_presses() -> None:
    """And beside it if there is room."""
    stage, late, punctual = await late_and_punctual(LatePolicy.SIDELINE, capacity=1)
    with_room, late_with_room, punctual_with_room = await late_and_punctual(LatePolicy.SIDELINE, 2)

    assert ids(await dispatch(stage)) == [punctual.id]
    assert set(ids(await dispatch(with_room))) == {late_with_room.id, punctual_with_room.id}
    assert (await stage.job(late)).status is JobStatus.PENDING


@pytest.mark.parametrize("capacity", [0, 1])
async def test_expired_jobs_are_named_instead_of_leased(capacity: int) -> None:
    """Even when there is no room for anything."""
    stage, late, punctual = await late_and_punctual(LatePolicy.EXPIRE, capacity)

    dispatched = await dispatch(stage, windows(notifications=capacity))

    assert [each.id for each in dispatched.expired] == [late.id]
    assert ids(dispatched) == [punctual.id][:capacity]


# --- Failures --------------------------------------------------------------------------------


async def test_a_use_case_that_fails_is_skipped_and_told() -> None:
    """Its heads cannot be read; the others go on as if nothing had happened."""
    stage = Stage(limits(alerts=UseCaseConfig(), **TWO))
    stage.store.broken.add("notifications")
    jobs = {
        name: await added(stage.memory, use_case=name) for name in stage.config.use_case_configs
    }

    dispatched = await dispatch(stage)

    assert set(ids(dispatched)) == {jobs["alerts"].id, jobs["reports"].id}
    (skipped,) = stage.telemetry.of(UseCaseSkipped)
    assert (skipped.use_case, skipped.at) == ("notifications", later(0))
    assert "cannot be read" in skipped.error
    assert len(stage.telemetry.of(JobLeased)) == 2


async def test_the_limits_hold_when_use_cases_are_dispatched_one_by_one() -> None:
    """The shared window and the tenant's limit count what the one before has leased."""
    config = limits(
        {"acme": TenantQuota(max_running=3)},
        alerts=UseCaseConfig(),
        notifications=UseCaseConfig(queue="lane"),
        reports=UseCaseConfig(queue="lane"),
    )
    stage = Stage(config)
    stage.store.broken.add("alerts")
    for use_case in ("notifications", "reports"):
        for tenant in ("acme", "other"):
            for _ in range(4):
                await added(stage.memory, use_case=use_case, queue="lane", tenant_id=tenant)

    dispatched = await dispatch(stage, windows(lane=12))

    assert len(ids(dispatched)) == 11
    assert Counter(handoff.tenant_id for handoff in dispatched.handoffs)["acme"] == 3


async def test_the_limit_of_a_call_holds_when_use_cases_are_dispatched_one_by_one() -> None:
    """What the first one leased is taken off for the next."""
    stage = Stage(limits(alerts=UseCaseConfig(), **TWO))
    stage.store.broken.add("alerts")
    for use_case in ("notifications", "reports") * 4:
        await added(stage.memory, use_case=use_case)

    dispatched = await dispatcher(stage).dispatch(["alerts", *TWO], wide, LEASE, limit=5)

    assert len(ids(dispatched)) == 5
    assert await running(stage) == {"notifications": 4, "reports": 1}


async def test_a_turn_that_fails_has_leased_nothing() -> None:
    """And nothing was told that is not true."""
    stage = Stage()
    job = await added(stage.memory)

    async def fail() -> None:
        raise RuntimeError("a bug")

    stage.store.after("lease", fail)

    dispatched = await dispatch(stage)

    assert dispatched == Dispatched()
    assert await stage.job(job) == job
    assert [type(fact) for fact in stage.telemetry.facts] == [UseCaseSkipped]


@pytest.mark.parametrize("call", ["turn", "running", "heads", "lease"])
async def test_an_unavailable_store_is_not_a_use_case_that_fails(call: str) -> None:
    """It would fail for each of them; the tick is over."""
    stage = Stage(limits(**TWO))
    job = await added(stage.memory)

    async def unavailable() -> None:
        raise Unavailable("nobody answers")

    stage.store.before(call, unavailable)

    with pytest.raises(Unavailable):
        await dispatch(stage)

    assert await stage.job(job) == job
    assert stage.telemetry.facts == []


async def test_what_another_scheduler_holds_is_skipped_this_time() -> None:
    """Nobody waits for it."""
    stage = Stage(limits(**TWO))
    await added(stage.memory)
    mine = await added(stage.memory, use_case="reports")

    async with stage.memory.turn(["notifications"]):
        beside = await dispatch(stage)
    async with stage.memory.turn(list(TWO)):
        nothing = await dispatch(stage)

    assert (ids(beside), nothing) == ([mine.id], Dispatched())


# --- What the store refuses ------------------------------------------------------------------


async def test_what_is_refused_leaves_its_place_to_others_in_the_same_turn() -> None:
    """Even to jobs of the same tenant, if those behind it are not refused."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=1)))
    bad = await added(stage.memory, deadline_at=later(30))
    good = await added(stage.memory, deadline_at=later(60))
    stage.store.unwritable = {bad.id}

    dispatched = await dispatch(stage)

    assert ids(dispatched) == [good.id]
    assert dispatched.refused == 1
    assert [fact.job_id for fact in stage.telemetry.of(JobLeased)] == [good.id]


async def test_a_tenant_of_whose_jobs_many_are_refused_takes_no_others_place() -> None:
    """At last the turn passes over its jobs; and what was leased counts in each of its rounds."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=3)))
    bad = [await added(stage.memory, tenant_id="a", deadline_at=later(30)) for _ in range(20)]
    for tenant in ("b", "c", "d", "e"):
        await added(stage.memory, tenant_id=tenant, deadline_at=later(60))
    stage.store.unwritable = set(ids_of(bad))

    dispatched = await dispatch(stage)

    assert len(dispatched.handoffs) == 3
    assert await running(stage) == {"notifications": 3}
    assert 0 < dispatched.refused < len(bad)


async def test_late_jobs_are_buried_once_however_many_rounds_a_turn_has() -> None:
    """Each round is shown them."""
    config = UseCaseConfig(max_concurrent=1, late_policy=LatePolicy.EXPIRE)
    stage = Stage(limits(notifications=config))
    late = await added(stage.memory, deadline_at=later(-1), run_at=later(-2))
    bad = await added(stage.memory)
    stage.store.unwritable = {bad.id}

    dispatched = await dispatch(stage)

    assert dispatched.refused == 1
    assert [candidate.id for candidate in dispatched.expired] == [late.id]


async def test_a_turn_that_is_refused_is_taken_again_at_once() -> None:
    """By then the store finds out which lease it was; no use case is skipped for it."""
    stage = Stage()
    job = await added(stage.memory)

    async def refuse() -> None:
        raise StoreRefused("no", "RaiseError")

    stage.store.before("lease", refuse)

    assert ids(await dispatch(stage)) == [job.id]
    assert not stage.telemetry.of(UseCaseSkipped)
