"""Leases, LS-1: what matters of a large backlog is seen."""

from __future__ import annotations

from datetime import timedelta

import pytest

from async_jobs.domain.deadline import LatePolicy
from async_jobs.ports.leases import HeadsQuery
from async_jobs.ports.store import Store
from async_jobs.testing.builders import a_job, candidate_of, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.leases.heads import a_backlog, every_policy, lanes, lanes_of
from async_jobs.testing.contracts.scenes import added, heads_of, stored
from async_jobs.testing.contracts.store_fixtures import StoreFixtures


class ViewsContract(StoreFixtures):
    """LS-1: of more jobs than can be looked at, what matters is seen."""

    @every_policy
    async def test_ls_1_overdue_jobs_hide_no_urgent_one(
        self, store: Store, policy: LatePolicy
    ) -> None:
        """Two thousand of them, of the same tenants."""
        tenants = ("acme", "zoo")
        for batch in range(2):
            overdue = [
                a_job(tenant_id=tenants[i % 2], deadline_at=later(10 * batch), priority=i % 3)
                for i in range(1_000)
            ]
            await stored(store, *overdue)
        urgent = [a_job(tenant_id=name, deadline_at=later(101)) for name in (*tenants, "new")]
        await stored(store, *urgent)

        heads = await heads_of(store, now=later(100), limit=10, late_policy=policy)

        assert set(heads.ready) >= {candidate_of(job) for job in urgent}
        assert 10 <= len(heads.ready) == len(set(heads.ready)) <= 4 * 10

    @pytest.mark.parametrize("limit", [2, 10, 40])
    async def test_ls_1_priority_hides_no_urgent_job(self, store: Store, limit: int) -> None:
        """Its tenant has many that it likes better and that can wait; each is shown once."""
        calm = [a_job(priority=5, deadline_at=later(1_000)) for _ in range(150)]
        urgent = [a_job(priority=i % 2, deadline_at=later(5)) for i in range(2)]
        await stored(store, *calm[:100], *urgent, *calm[100:])

        ready = (await heads_of(store, limit=limit)).ready

        assert ready[0] == candidate_of(calm[0])
        assert set(ready) >= {candidate_of(job) for job in urgent}
        assert len(set(ready)) == len(ready) <= 4 * limit

    async def test_ls_1_equal_deadlines_hide_no_earlier_one(self, store: Store) -> None:
        """What is added in bulk is often due at one instant."""
        calm = [a_job(priority=5, deadline_at=later(1_000)) for _ in range(150)]
        urgent = a_job(deadline_at=later(999.999_999))
        await stored(store, *calm, urgent)

        assert candidate_of(urgent) in (await heads_of(store, limit=20)).ready

    async def test_ls_1_urgent_jobs_of_several_use_cases_stay_apart(self, store: Store) -> None:
        """Those that priority hides are shown in their own use case, where it has hidden any."""
        urgent = {}
        for name in ("notifications", "reports"):
            calm = [a_job(use_case=name, priority=5, deadline_at=later(900)) for _ in range(50)]
            await stored(store, *calm)
            urgent[name] = candidate_of(await added(store, use_case=name, deadline_at=later(5)))
        first = await added(store, use_case="plain")
        queries = [HeadsQuery(use_case=name, limit=5) for name in ("plain", *urgent)]
        await store.promote(NOW, limit=1_000)

        async with store.turn(["plain", *urgent]) as turn:
            heads = await turn.heads(queries, NOW)

        assert heads["plain"].ready == (candidate_of(first),)
        for name, hidden in urgent.items():
            assert [c for c in heads[name].ready if c.priority == 0] == [hidden]

    async def test_ls_1_late_jobs_fill_what_urgent_ones_leave(self, store: Store) -> None:
        """Those that were put behind as well; whoever sees fewer than `limit` has seen all."""
        late = [a_job(tenant_id=f"late-{i % 3}", deadline_at=later(1)) for i in range(30)]
        urgent = [a_job(tenant_id="late-0", deadline_at=later(200)) for _ in range(4)]
        await stored(store, *late, *urgent)

        for policy in (LatePolicy.RUN, LatePolicy.SIDELINE, LatePolicy.SIDELINE):
            heads = await heads_of(store, now=later(100), limit=10, late_policy=policy)

            assert set(heads.ready) >= {candidate_of(job) for job in urgent}
            assert len(heads.ready) >= 10

    @every_policy
    @pytest.mark.parametrize("size", [1, 8, 9, 10, 11, 30])
    async def test_ls_1_fewer_than_the_limit_are_all_there_are(
        self, store: Store, policy: LatePolicy, size: int
    ) -> None:
        """And of more there are as many at least, whoever is named."""
        jobs, now = a_backlog(size, tenants=3), later(100)
        await stored(store, *jobs)

        for tenants in ((), ("tenant-1", "nobody")):
            heads = await heads_of(store, now=now, limit=9, tenants=tenants, late_policy=policy)

            assert len(heads.ready) >= min(size, 9)
            assert size > 9 or lanes(heads.ready) == lanes_of(jobs, policy, now)

    async def test_ls_1_named_tenants_are_shown_behind_a_flood(self, store: Store) -> None:
        """A beginning of what each has, in its own order; whoever has nothing is not missed."""
        flood = [a_job(tenant_id="a", deadline_at=later(1)) for _ in range(60)]
        others = [a_job(tenant_id=f"b-{i}", deadline_at=later(50)) for i in range(10)]
        named = [
            a_job(tenant_id=name, priority=i % 2, deadline_at=later(100))
            for name in ("y", "z")
            for i in range(8)
        ]
        await stored(store, *flood, *others, *named)
        whole = lanes_of(named, LatePolicy.RUN, NOW)

        shown = lanes(
            (await heads_of(store, limit=4, tenants=("y", "nobody", "z"), after="a")).ready
        )

        assert shown.keys() >= {"a", "b-0", "y", "z"}
        assert all(shown[name] == whole[name][: len(shown[name])] for name in whole)
        assert not shown.keys() & {"nobody"}

    async def test_ls_1_who_is_named_is_named_in_one_use_case(self, store: Store) -> None:
        """In another one it waits for the walk."""
        for use_case in ("notifications", "reports"):
            flood = [
                a_job(use_case=use_case, tenant_id="a", deadline_at=later(1)) for _ in range(9)
            ]
            others = [a_job(use_case=use_case, tenant_id=f"b-{i}") for i in range(9)]
            await stored(store, *flood, *others, a_job(use_case=use_case, tenant_id="z"))
        queries = [
            HeadsQuery(use_case="notifications", limit=2),
            HeadsQuery(use_case="reports", limit=2, tenants=("z",)),
        ]
        await store.promote(NOW, limit=100)

        async with store.turn(["notifications", "reports"]) as turn:
            heads = await turn.heads(queries, NOW)

        assert {name: "z" in lanes(each.ready) for name, each in heads.items()} == {
            "notifications": False,
            "reports": True,
        }

    async def test_ls_1_the_walk_comes_round_beside_named_tenants(self, store: Store) -> None:
        """As many as may be named, turn after turn."""
        names = [f"tenant-{i}" for i in range(12)]
        await stored(store, *(a_job(tenant_id=name) for name in names for _ in range(2)))

        after, met = "", set()
        for _ in range(1 + len(names)):
            heads = await heads_of(store, limit=4, tenants=tuple(names[-4:]), after=after)
            assert set(lanes(heads.ready)) >= set(names[-4:])
            met |= set(lanes(heads.ready))
            after = heads.resume
            if not after:
                break
        assert after == ""
        assert met == set(names)

    async def test_ls_1_a_candidate_tells_its_tolerance_and_type(self, store: Store) -> None:
        """To the microsecond, whether it is late or not."""
        tolerance = timedelta(days=2, hours=3, microseconds=1)
        jobs = [
            a_job(type="report.monthly", delay_tolerance=tolerance, priority=1),
            a_job(type="report.daily", delay_tolerance=timedelta(0), run_at=later(-1)),
        ]
        await stored(store, *jobs)

        heads = await heads_of(store, late_policy=LatePolicy.EXPIRE)

        told = [(candidate.type, candidate.tolerance_seconds) for candidate in heads.ready]
        assert told == [("report.monthly", 183_600.000_001), ("report.daily", 0.0)]
        assert heads.late == (candidate_of(jobs[1]),)
