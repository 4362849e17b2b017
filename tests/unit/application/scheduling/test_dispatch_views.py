"""How far a dispatch turn looks, and how much of what it sees fits into the windows."""

from __future__ import annotations

import pytest

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.job import Phase
from async_jobs.domain.lifecycle import Cancelled
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.domain.pools import Fleet
from async_jobs.testing.builders import a_job, later
from async_jobs.testing.contracts.scenes import added, happened, in_phase, stored
from tests.unit.application.stage import Stage, limits
from tests.unit.application.turns import (
    LEASE,
    TWO,
    dispatch,
    dispatcher,
    ids,
    ids_of,
    wide,
    windows,
)

# --- How far a turn looks --------------------------------------------------------------------


async def looks(use_cases: int, *, max_concurrent: int) -> list[int]:
    """Return at how many jobs of each use case a turn looks once it knows that all have some."""
    names = [f"use-case-{i}" for i in range(use_cases)]
    config = UseCaseConfig(queue="lane", max_concurrent=max_concurrent)
    stage = Stage(limits(**dict.fromkeys(names, config)))
    one = dispatcher(stage)
    for name in names:
        await stored(stage.memory, *(a_job(use_case=name, queue="lane") for _ in range(2)))
    await one.dispatch(names, windows(lane=1), LEASE)
    await one.dispatch(names, windows(lane=2_000), LEASE)
    return [query.limit for query in stage.store.queries[-1]]


@pytest.mark.parametrize(
    ("use_cases", "each"), [(1, 1_000), (2, 500), (10, 100), (20, 50), (100, 16)]
)
async def test_use_cases_together_see_what_a_turn_can_lease(use_cases: int, each: int) -> None:
    """However many there are; of each a few at least."""
    assert await looks(use_cases, max_concurrent=5_000) == [each] * use_cases


async def test_where_little_may_run_a_turn_looks_further() -> None:
    """A place must not go to whoever stands first for want of others to compare."""
    assert await looks(3, max_concurrent=3) == [64] * 3


async def test_idle_use_cases_do_not_narrow_the_view() -> None:
    """A busy one sees as much as if it were alone."""
    names = [f"use-case-{i}" for i in range(10)]
    stage = Stage(limits(**{name: UseCaseConfig(max_concurrent=5_000) for name in names}))
    one = dispatcher(stage)
    await stored(stage.memory, *(a_job(use_case="use-case-3", queue="lane") for _ in range(2)))
    await one.dispatch(names, Fleet(window_min=1), LEASE)

    await one.dispatch(names, wide, LEASE)

    assert max(query.limit for query in stage.store.queries[-1]) == 1_000


@pytest.mark.parametrize(
    ("places", "looked_at"),
    [
        ({"small": 1, "wide": 5_000}, {"small": 64, "wide": 999}),
        ({"small": 100, "some": 500, "wide": 5_000}, {"small": 100, "some": 450, "wide": 450}),
        ({"one": 400, "other": 300}, {"one": 400, "other": 300}),
    ],
)
async def test_what_a_use_case_has_no_place_for_others_may_look_at(
    places: dict[str, int], looked_at: dict[str, int]
) -> None:
    """One that is nearly full does not halve what the others get of a turn."""
    stage = Stage(
        limits(**{n: UseCaseConfig(max_concurrent=p, queue="lane") for n, p in places.items()})
    )
    one = dispatcher(stage)
    for name in places:
        await stored(stage.memory, a_job(use_case=name, queue="lane"))
    await one.dispatch(list(places), windows(lane=0), LEASE)

    await one.dispatch(list(places), windows(lane=2_000), LEASE)

    assert {query.use_case: query.limit for query in stage.store.queries[-1]} == looked_at


async def test_what_a_turn_leaves_behind_is_decided_by_deadline() -> None:
    """Not by the order of the use cases, though each alone could take all of it."""
    names = ("alpha", "beta", "gamma")
    config = UseCaseConfig(max_concurrent=1_000, queue="lane")
    stage = Stage(limits(**dict.fromkeys(names, config)))
    jobs = [
        a_job(use_case=names[i % 3], queue="lane", deadline_at=later(3_000 - i))
        for i in range(1_200)
    ]
    await stored(stage.memory, *jobs)

    leased = ids(await dispatch(stage, windows(lane=5_000)))

    assert set(leased) == set(ids_of(jobs[-len(leased) :]))
    assert len(leased) == 999


async def test_a_turn_tells_whether_there_may_be_more_for_places_that_are_left() -> None:
    """Each of many use cases has more jobs than it was looked at for; the next turn has them."""
    names = [f"use-case-{i}" for i in range(30)]
    config = UseCaseConfig(max_concurrent=1_000, queue="lane")
    stage = Stage(limits(**dict.fromkeys(names, config)))
    for name in names:
        await stored(stage.memory, *(a_job(use_case=name, queue="lane") for _ in range(40)))
    one = dispatcher(stage)

    turns = [await one.dispatch(names, windows(lane=5_000), LEASE) for _ in range(3)]

    assert [len(ids(turn)) for turn in turns] == [30 * 33, 30 * 7, 0]
    assert [turn.more for turn in turns] == [True, False, False]


@pytest.mark.parametrize(
    ("places", "window", "more"),
    [(2_000, 2_000, True), (1_005, 1_003, True), (900, 2_000, False), (2_000, 900, False)],
)
async def test_without_places_there_is_no_more(places: int, window: int, more: bool) -> None:
    """What ends wakes the scheduler; a turn that took as many as it can cannot tell."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=places)))
    await stored(stage.memory, *(a_job() for _ in range(1_010)))

    dispatched = await dispatch(stage, windows(notifications=window))

    assert dispatched.more is more


async def test_what_somebody_else_holds_may_be_more() -> None:
    """A turn that leased, and could not look at everything, is followed by another one."""
    stage = Stage(limits(**TWO))
    await added(stage.memory)

    async with stage.memory.turn(["reports"]):
        beside = await dispatch(stage)
        nothing = await dispatch(stage)

    assert (len(ids(beside)), beside.more) == (1, True)
    assert (ids(nothing), nothing.more) == ([], False)


# --- Who is named ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backlog", "named"), [(100, ("big", "small")), (10, ())], ids=["hidden", "all shown"]
)
async def test_tenants_that_wait_are_named_when_not_all_was_shown(
    backlog: int, named: tuple[str, ...]
) -> None:
    """They must be seen, whatever is more urgent; nobody is hidden in what is shown as a whole."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=1)))
    await stored(stage.memory, *(a_job(tenant_id="big") for _ in range(backlog)))
    await added(stage.memory, tenant_id="small")
    one = dispatcher(stage)
    (leased,) = (await one.dispatch(["notifications"], wide, LEASE)).handoffs
    await happened(stage.memory, await stage.job(leased.job_id), Cancelled())

    await one.dispatch(["notifications"], wide, LEASE)

    (first,), (second,) = stage.store.queries
    assert (first.tenants, tuple(sorted(second.tenants))) == ((), named)


async def test_a_tenant_that_waits_for_a_slot_is_named() -> None:
    """Its jobs are the least urgent ones."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=2)))
    backlog = [a_job(tenant_id="big", deadline_at=later(200)) for _ in range(100)]
    await stored(stage.memory, *backlog)
    one = dispatcher(stage)
    first = await one.dispatch(["notifications"], wide, LEASE)
    await added(stage.memory, tenant_id="small", deadline_at=later(300))
    stage.clock.advance(1)
    await happened(stage.memory, await stage.job(first.handoffs[0].job_id), Cancelled())
    second = await one.dispatch(["notifications"], windows(notifications=0), LEASE)

    stage.clock.advance(1)
    await one.dispatch(["notifications"], wide, LEASE)

    assert (len(ids(first)), ids(second)) == (2, [])
    assert "small" in stage.store.queries[-1][0].tenants


# --- The hand-off window ---------------------------------------------------------------------


async def test_use_cases_on_one_queue_share_its_window_by_deadline() -> None:
    """Neither stands before the other because of its name."""
    stage = Stage(
        limits(notifications=UseCaseConfig(queue="lane"), reports=UseCaseConfig(queue="lane"))
    )
    jobs = [
        await added(
            stage.memory,
            use_case=("notifications", "reports")[i % 2],
            queue="lane",
            deadline_at=later(60 - i),
        )
        for i in range(8)
    ]

    dispatched = await dispatch(stage, windows(lane=3))

    assert set(ids(dispatched)) == set(ids_of(jobs[5:]))


async def test_the_window_is_the_slots_that_are_idle() -> None:
    """Two wait on the lane already, and one is executed."""
    stage = Stage()
    for phase in (Phase.HANDED_OFF, Phase.HANDED_OFF, Phase.CLAIMED):
        await in_phase(stage.memory, phase)
    for _ in range(5):
        await added(stage.memory)

    dispatched = await dispatch(stage, windows(notifications=4))

    assert len(ids(dispatched)) == 1


async def test_a_full_window_lets_nothing_out() -> None:
    """Also when it has shrunk below what is on the lane."""
    stage = Stage()
    for _ in range(2):
        await in_phase(stage.memory, Phase.HANDED_OFF)
    await added(stage.memory)

    dispatched = await dispatch(stage, windows(notifications=1))

    assert ids(dispatched) == []


@pytest.mark.parametrize("policy", list(LatePolicy))
@pytest.mark.parametrize("deadline_seconds", [-5, 10], ids=["late", "on time"])
async def test_a_full_queue_does_not_stand_before_another_one(
    policy: LatePolicy, deadline_seconds: float
) -> None:
    """The use case's most urgent jobs name a lane that takes nothing; the rest goes on."""
    stage = Stage(
        limits(
            notifications=UseCaseConfig(max_concurrent=2, late_policy=policy),
            reports=UseCaseConfig(),
        )
    )
    for _ in range(5):
        await added(stage.memory, run_at=later(-60), deadline_at=later(deadline_seconds))
    free = [await added(stage.memory, queue="reports") for _ in range(3)]

    dispatched = await dispatch(stage, windows(notifications=0, reports=10))

    assert ids(dispatched) == ids_of(free[:2])


async def test_what_the_window_cut_off_goes_next() -> None:
    """The most urgent ones first, in turn after turn."""
    stage = Stage()
    jobs = [await added(stage.memory, deadline_at=later(60 - i)) for i in range(4)]

    first = await dispatch(stage, windows(notifications=2))
    second = await dispatch(stage, windows(notifications=4))

    assert ids(first) + ids(second) == ids_of(jobs[::-1])
