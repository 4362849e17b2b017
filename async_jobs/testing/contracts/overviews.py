"""The contract of `Overview`."""

from __future__ import annotations

from datetime import datetime

import pytest

from async_jobs.domain.backlog import Backlog
from async_jobs.domain.controls import Scope
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.domain.outlook import Counted
from async_jobs.domain.scheduling import grant
from async_jobs.ports.leases import HeadsQuery, Sight
from async_jobs.ports.overview import Overview
from async_jobs.ports.store import Store
from async_jobs.testing.builders import SimpleLimits, a_job, candidate_of, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.holding import version_of
from async_jobs.testing.contracts.scenes import PATHS, added, in_phase, soon, stored

USE_CASES = ("notifications", "reports")
LIMITS = SimpleLimits(
    use_case_configs={
        "notifications": UseCaseConfig(late_policy=LatePolicy.SIDELINE),
        "reports": UseCaseConfig(late_policy=LatePolicy.EXPIRE),
    }
)


async def told_by(sight: Sight, now: datetime = NOW) -> tuple[object, object]:
    """Return all that can be seen."""
    queries = [
        HeadsQuery(use_case=name, limit=20, late_policy=LIMITS.use_case_configs[name].late_policy)
        for name in USE_CASES
    ]
    heads = await sight.heads(queries, now)
    shown = {
        name: (sorted(each.ready), sorted(each.late), each.resume) for name, each in heads.items()
    }
    return sorted(await sight.running({"worker-1": 0})), shown


class OverviewContract:
    """Everything `Overview` promises, OV-1 to OV-6.

    Subclass it as `TestMyOverview` and override the fixtures `store` and `overview`.
    """

    @pytest.fixture
    async def store(self) -> Store:
        """A store without jobs."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    async def overview(self, store: Store) -> Overview:
        """The overview under test, of the jobs in `store`."""
        raise NotImplementedError("override the fixture `overview`")

    async def test_ov_1_a_look_shows_what_a_turn_is_shown(
        self, overview: Overview, store: Store
    ) -> None:
        """What runs, and what is ready or late, and nothing that is not due."""
        for phase in PATHS:
            await in_phase(store, phase)
            await in_phase(store, phase, use_case="reports", tenant_id="bolt", queue="slow")
        for index in range(6):
            await added(store, tenant_id=f"tenant {index}", priority=index % 2)
            await added(store, use_case="reports", run_at=later(-9), deadline_at=later(-index))
        await added(store, run_at=later(30))
        await store.promote(NOW, limit=100, sidelined=["notifications"])

        async with store.turn(USE_CASES) as turn:
            of_a_turn = await told_by(turn)
        async with overview.looking(USE_CASES) as look:
            assert await told_by(look) == of_a_turn

    async def test_ov_2_a_look_is_answered_while_turns_are_held(
        self, overview: Overview, store: Store
    ) -> None:
        """It shows what is committed: what the turn leases is seen once it has ended."""
        job = await added(store)
        async with store.turn(USE_CASES, ["acme"]) as turn:
            await turn.lease([grant(candidate_of(job), until=later(60), now=NOW)])
            async with overview.looking(USE_CASES) as look:
                running, heads = await soon(told_by(look))

        assert running == []
        assert str(job.id) in str(heads)

    async def test_ov_2_nobody_waits_for_a_look(self, overview: Overview, store: Store) -> None:
        """Turns are held, and jobs are leased and added, in the middle of it."""
        job = await added(store)
        async with overview.looking(USE_CASES) as look:
            await told_by(look)
            async with store.turn(USE_CASES, ["acme"]) as turn:
                held = turn.use_cases, turn.tenants
                leased = await soon(
                    turn.lease([grant(candidate_of(job), until=later(60), now=NOW)])
                )
            await soon(added(store))
            await look.running()

        assert held == (frozenset(USE_CASES), frozenset({"acme"}))
        assert leased == {job.id}

    async def test_ov_3_the_place_of_a_job_is_told(self, overview: Overview, store: Store) -> None:
        """By priority, deadline and id, late ones last; of its own tenant and use case."""
        late = await added(store, run_at=later(-90), deadline_at=later(-30))
        jobs = [a_job(deadline_at=later(60 - index), priority=index // 3) for index in range(6)]
        await stored(store, *jobs, *(a_job(tenant_id="bolt") for _ in range(3)))
        await added(store, use_case="reports", priority=9)
        await store.promote(NOW, limit=100, sidelined=["notifications"])
        async with overview.looking(USE_CASES) as look:
            places = [
                await look.ahead(job, LIMITS, NOW, limit=100)
                for job in (jobs[5], jobs[4], jobs[3], jobs[2], jobs[1], jobs[0], late)
            ]
            few = await look.ahead(jobs[0], LIMITS, NOW, limit=3)
            exact = await look.ahead(jobs[2], LIMITS, NOW, limit=3)

        assert places == [Counted(place) for place in range(7)]
        assert few == Counted(3, at_least=True)
        assert exact == Counted(3)

    async def test_ov_3_what_is_not_shown_has_no_place(
        self, overview: Overview, store: Store
    ) -> None:
        """It is not due."""
        await added(store)
        job = await added(store, run_at=later(30))
        async with overview.looking(USE_CASES) as look:
            assert await look.ahead(job, LIMITS, NOW, limit=100) is None

    async def test_ov_4_what_is_pending_of_tenants_is_counted(
        self, overview: Overview, store: Store
    ) -> None:
        """Due or not, by use case; nothing of others, and nothing that runs or has ended."""
        for phase in PATHS:
            await in_phase(store, phase)
        await added(store, run_at=later(30))
        await added(store, use_case="unknown")
        await stored(store, *(a_job(tenant_id="bolt") for _ in range(3)))
        await added(store, tenant_id="core")
        async with overview.looking(USE_CASES) as look:
            counts = await look.pending_of(["acme", "bolt", "dune"], limit=3)
            few = await look.pending_of(["bolt"], limit=2)

        assert counts == {
            "acme": {"notifications": Counted(2), "unknown": Counted(1)},
            "bolt": {"notifications": Counted(3)},
            "dune": {},
        }
        assert few == {"bolt": {"notifications": Counted(2, at_least=True)}}

    async def test_ov_5_what_comes_due_is_named_by_its_kind(
        self, overview: Overview, store: Store
    ) -> None:
        """Each kind once; those first that come due first."""
        for phase in PATHS:
            await in_phase(store, phase, type="other")
        for seconds, type_ in ((30, "b"), (10, "a"), (20, "a"), (40, "c")):
            await added(store, run_at=later(seconds), type=type_)
        await added(store, run_at=later(15), tenant_id="bolt", queue="slow", type="a")
        async with overview.looking(USE_CASES) as look:
            first = await look.coming(NOW, limit=3)
            both = await look.coming(NOW, limit=100)

        kinds = [
            ("acme", "notifications", "a"),
            ("acme", "notifications", "b"),
            ("acme", "notifications", "c"),
            ("bolt", "slow", "a"),
        ]
        assert sorted(first) == [kinds[0], kinds[3]]
        assert sorted(both) == kinds

    async def test_ov_6_what_waits_is_told_by_its_deadlines(
        self, overview: Overview, store: Store
    ) -> None:
        """Late ones and others, promoted or not; nothing that runs, has ended, or is another's."""
        for phase in PATHS:
            await in_phase(store, phase, run_at=later(-9), deadline_at=later(-5))
        await added(store, use_case="unknown")
        await added(store, run_at=later(-90), deadline_at=later(-30))
        await added(store, deadline_at=later(7))
        await added(store, deadline_at=later(3))
        await store.promote(NOW, limit=100, sidelined=["notifications"])
        await added(store, deadline_at=later(5))
        for due_in, left in ((20, 90), (10, 40), (30, 35)):
            await added(store, run_at=later(due_in), deadline_at=later(left))
        await added(store, use_case="reports", run_at=later(15), deadline_at=later(95))
        async with overview.looking(USE_CASES) as look:
            told = await look.backlog(USE_CASES, NOW, limit=100)
            few = await look.backlog(["notifications"], NOW, limit=2)

        due, scheduled = [-30, -5, 3, 5, 7], [35, 40, 90]
        assert {name: Backlog(*map(list, each)) for name, each in told.items()} == {
            "notifications": Backlog([*map(later, due)], [*map(later, scheduled)]),
            "reports": Backlog([], [later(95)]),
        }
        assert [*map(list, few["notifications"])] == [[later(-30), later(-5)], [later(40)]]

    async def test_ov_6_what_is_paused_is_no_backlog(
        self, store: Store, overview: Overview
    ) -> None:
        """Its deadlines ask for no start."""
        await added(store, deadline_at=later(5))
        await added(store, type="other", deadline_at=later(7))
        scopes, tenants = [Scope(type="send_email")], [("notifications", "acme")]

        await store.hold(tenants, scopes, now=NOW, version=await version_of(store), limit=10)

        async with overview.looking(USE_CASES) as look:
            told = await look.backlog(USE_CASES, NOW, limit=100)
        assert [*map(list, told["notifications"])] == [[later(7)], []]
