"""Leases, LS-1: what a scheduler is shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest

from async_jobs.domain.deadline import LatePolicy, is_late
from async_jobs.domain.job import Job, Phase
from async_jobs.domain.lifecycle import (
    Claimed,
    Released,
)
from async_jobs.domain.scheduling import Candidate, grant, in_tenant_order
from async_jobs.ports.leases import Heads, HeadsQuery
from async_jobs.ports.store import Store
from async_jobs.testing.builders import a_job, candidate_of, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.scenes import (
    PATHS,
    UNTIL,
    added,
    happened,
    heads_of,
    in_phase,
    leased,
    stored,
)
from async_jobs.testing.contracts.store_fixtures import StoreFixtures
from async_jobs.testing.model import in_window, is_shown_rightly, most_urgent

every_policy = pytest.mark.parametrize("policy", list(LatePolicy))


def a_backlog(size: int, *, tenants: int) -> list[Job]:
    """Return due jobs of several tenants, half of them late at `later(100)`, in a mixed order."""
    return [
        a_job(
            tenant_id=f"tenant-{i % tenants}",
            priority=i * 5 % 3,
            deadline_at=later(100 + (i * 37 % 101) - 50),
        )
        for i in range(size)
    ]


def eighth(limit: int) -> int:
    """Return how many tenants are shown by name at least."""
    return -(-limit // 8)


def lanes(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    """Return the candidates of each tenant, in the order given."""
    by_tenant: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_tenant.setdefault(candidate.tenant_id, []).append(candidate)
    return by_tenant


def lanes_of(jobs: Sequence[Job], policy: LatePolicy, now: datetime) -> dict[str, list[Candidate]]:
    """Return each tenant's jobs in scheduling order."""
    candidates = [candidate_of(job) for job in jobs]
    return lanes(in_tenant_order(candidates, policy, now))


class HeadsContract(StoreFixtures):
    """LS-1: ready jobs, in order, none of them early."""

    @every_policy
    async def test_ls_1_a_small_backlog_is_shown_whole_and_in_order(
        self, store: Store, policy: LatePolicy
    ) -> None:
        """Within each tenant by priority, deadline and id; late ones where the policy says."""
        jobs, now = a_backlog(60, tenants=4), later(100)
        await stored(store, *jobs)

        heads = await heads_of(store, now=now, limit=60, late_policy=policy)

        assert lanes(heads.ready) == lanes_of(jobs, policy, now)
        assert len(heads.ready) == 60

    @every_policy
    @pytest.mark.parametrize("limit", [1, 3, 7, 20])
    async def test_ls_1_of_a_large_backlog_the_beginning_of_each_lane_is_shown(
        self, store: Store, policy: LatePolicy, limit: int
    ) -> None:
        """Only a most urgent job is shown though its tenant has a better one that is not."""
        jobs, now = a_backlog(90, tenants=6), later(100)
        await stored(store, *jobs)
        urgent = most_urgent(map(candidate_of, jobs), limit, now)

        heads = await heads_of(store, now=now, limit=limit, late_policy=policy)

        shown, whole = lanes(heads.ready), lanes_of(jobs, policy, now)
        window = in_window(map(candidate_of, jobs), limit, now)
        assert all(is_shown_rightly(lane, whole[tenant], window) for tenant, lane in shown.items())
        assert set(heads.ready) >= set(urgent)
        assert set(shown) >= set(sorted(whole)[: eighth(limit)])
        assert len(shown) >= min(len(whole), limit / 2)

    async def test_ls_1_a_tie_is_broken_by_the_id(self, store: Store) -> None:
        """Of equals the older job goes first, whatever the order in which they were added."""
        jobs = [a_job() for _ in range(20)]
        await stored(store, *jobs[10:])
        await stored(store, *jobs[:10])

        heads = await heads_of(store)

        assert heads.ready == tuple(candidate_of(job) for job in jobs)

    @pytest.mark.parametrize("phase", sorted(set(PATHS) - {Phase.PENDING}))
    async def test_ls_1_only_pending_jobs_are_shown(self, store: Store, phase: Phase) -> None:
        """Whatever runs or has ended is not ready."""
        await in_phase(store, phase)

        assert await heads_of(store) == Heads()

    async def test_ls_1_nothing_is_shown_early(self, store: Store) -> None:
        """A job is due at its run_at, and not a microsecond before."""
        jobs = [await added(store, run_at=later(10 + i / 1_000_000)) for i in range(-1, 2)]

        heads = await heads_of(store, now=later(10))

        assert heads.ready == tuple(candidate_of(job) for job in jobs[:2])

    async def test_ls_1_a_scheduler_whose_clock_is_behind_is_shown_nothing_early(
        self, store: Store
    ) -> None:
        """Due is decided by the instant asked about, whoever has promoted the job already."""
        job = await added(store, run_at=later(10))
        await store.promote(later(20), limit=10)

        assert (await heads_of(store, now=later(9))).ready == ()
        assert (await heads_of(store, now=later(10))).ready == (candidate_of(job),)

    async def test_ls_1_each_use_case_has_its_own(self, store: Store) -> None:
        """One question for several use cases; none sees another's jobs."""
        mail = await added(store, use_case="notifications", queue="shared")
        report = await added(store, use_case="reports", queue="shared", priority=5)
        await added(store, use_case="other", queue="shared")
        queries = [HeadsQuery(use_case=u, limit=10) for u in ("reports", "notifications", "idle")]
        await store.promote(NOW, limit=10)

        async with store.turn(["notifications", "reports", "idle"]) as turn:
            heads = await turn.heads(queries, NOW)

        assert heads.keys() == {"notifications", "reports", "idle"}
        assert heads["notifications"].ready == (candidate_of(mail),)
        assert heads["reports"].ready == (candidate_of(report),)
        assert heads["idle"] == Heads()

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
    async def test_ls_1_the_walk_comes_round_to_every_tenant(
        self, store: Store, limit: int
    ) -> None:
        """`limit` tenants at a time by name, beside one whose jobs are all more urgent."""
        names = [f"tenant-{i}" for i in range(7)]
        urgent = [a_job(tenant_id="zealous", deadline_at=later(1)) for _ in range(30)]
        calm = [a_job(tenant_id=name, deadline_at=later(100)) for name in names for _ in range(3)]
        await stored(store, *urgent, *calm)
        first_jobs = [candidate_of(job) for job in (*calm[::3], urgent[0])]

        after, met = "", []
        for _ in range(8):
            heads = await heads_of(store, limit=limit, after=after)
            page = [c for c in first_jobs if c.tenant_id > after][:limit]
            assert set(page) <= set(heads.ready)
            met += page
            after = heads.resume
            if not after:
                break
        assert after == "" or limit == 1
        assert met == first_jobs

    @pytest.mark.parametrize("limit", [1, 7, 9, 20])
    async def test_ls_1_the_walk_comes_round_beside_many_urgent_tenants(
        self, store: Store, limit: int
    ) -> None:
        """An eighth of `limit` at a time by name, though the urgent ones fill the view."""
        urgent = [a_job(tenant_id=f"urgent-{i}", deadline_at=later(1)) for i in range(limit)]
        calm = [a_job(tenant_id=f"calm-{i}", deadline_at=later(100)) for i in range(9)]
        await stored(store, *urgent, *calm)
        everybody = {candidate_of(job) for job in (*urgent, *calm)}

        after, met = "", set()
        for _ in range(1 + len(everybody) // eighth(limit)):
            heads = await heads_of(store, limit=limit, after=after)
            assert {candidate_of(job) for job in urgent} <= set(heads.ready)
            met |= set(heads.ready)
            after = heads.resume
            if not after:
                break
        assert after == ""
        assert met == everybody

    async def test_ls_1_the_walk_starts_again_after_the_last_tenant(self, store: Store) -> None:
        """Resumed behind everybody, it shows the first ones next."""
        await stored(store, *(a_job(tenant_id=f"tenant-{i}") for i in range(4)))

        after, met = "zzz", set()
        for _ in range(1 + 4):
            heads = await heads_of(store, limit=2, after=after)
            met |= {candidate.tenant_id for candidate in heads.ready}
            after = heads.resume

        assert met == {f"tenant-{i}" for i in range(4)}

    async def test_ls_1_what_is_shown_does_not_grow_with_the_backlog(self, store: Store) -> None:
        """However many jobs wait, a scheduler reads about as many as it asked for."""
        await stored(store, *a_backlog(100, tenants=4))
        small = await heads_of(store, now=later(100), limit=5)
        await stored(store, *a_backlog(900, tenants=4))
        large = await heads_of(store, now=later(100), limit=5)

        assert len(large.ready) <= max(len(small.ready), 4 * 5)

    async def test_ls_1_a_leased_job_is_shown_no_more_until_it_comes_back(
        self, store: Store
    ) -> None:
        """Under its new number, with the deadline it then has."""
        job = await leased(store, await added(store))
        assert (await heads_of(store)).ready == ()

        back = await happened(store, job, Claimed("w", UNTIL), Released())

        assert (await heads_of(store)).ready == (candidate_of(back),)

    async def test_ls_1_what_a_turn_has_leased_it_is_not_shown_again(self, store: Store) -> None:
        """Even before its leases are visible to others."""
        jobs = [await added(store) for _ in range(3)]
        await store.promote(NOW, limit=10)
        query = HeadsQuery(use_case="notifications", limit=10)

        async with store.turn(["notifications"]) as turn:
            await turn.lease([grant(candidate_of(jobs[1]), until=UNTIL, now=NOW)])
            heads = (await turn.heads([query], NOW))["notifications"]

        assert heads.ready == (candidate_of(jobs[0]), candidate_of(jobs[2]))

    @pytest.mark.parametrize("limit", [1, 5, 100])
    async def test_ls_1_late_jobs_are_listed_where_they_expire(
        self, store: Store, limit: int
    ) -> None:
        """Earliest deadline first, across tenants, wherever they stand in their lanes."""
        jobs, now = a_backlog(60, tenants=4), later(100)
        await stored(store, *jobs)

        heads = await heads_of(store, now=now, limit=limit, late_policy=LatePolicy.EXPIRE)

        late = sorted((j.deadline_at, j.id) for j in jobs if is_late(j.deadline_at, now))
        assert [candidate.id for candidate in heads.late] == [id for _, id in late][:limit]
        by_id = {job.id: candidate_of(job) for job in jobs}
        assert all(by_id[candidate.id] == candidate for candidate in heads.late)

    @pytest.mark.parametrize("policy", [LatePolicy.RUN, LatePolicy.SIDELINE])
    async def test_ls_1_late_jobs_are_listed_nowhere_else(
        self, store: Store, policy: LatePolicy
    ) -> None:
        """Other policies run late jobs, so they are ready like any."""
        await added(store, deadline_at=later(1))

        heads = await heads_of(store, now=later(100), late_policy=policy)

        assert (len(heads.ready), heads.late) == (1, ())

    async def test_ls_1_a_job_on_its_deadline_is_not_late(self, store: Store) -> None:
        """Late begins a microsecond after it."""
        jobs = {}
        for policy in LatePolicy:
            on_time = await added(store, use_case=policy, deadline_at=later(10), priority=-1)
            late = await added(store, use_case=policy, deadline_at=later(9.999_999), priority=1)
            jobs[policy] = (candidate_of(on_time), candidate_of(late))

        heads = {p: await heads_of(store, p, now=later(10), late_policy=p) for p in LatePolicy}

        assert heads[LatePolicy.RUN].ready == jobs[LatePolicy.RUN][::-1]
        assert heads[LatePolicy.SIDELINE].ready == jobs[LatePolicy.SIDELINE]
        assert heads[LatePolicy.EXPIRE].late == jobs[LatePolicy.EXPIRE][1:]
