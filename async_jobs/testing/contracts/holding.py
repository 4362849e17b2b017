"""The contract of `Upkeep`: hiding what is paused, and showing it again. UP-3 to UP-5."""

from __future__ import annotations

from operator import attrgetter
from uuid import UUID

import pytest

from async_jobs.domain.controls import Scope
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.lifecycle import Cancelled, Retried
from async_jobs.ports.store import Store
from async_jobs.testing.builders import later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.scenes import added, happened, heads_of, leased
from async_jobs.testing.contracts.store_fixtures import StoreFixtures

by_id = attrgetter("id")
SEND, OTHER = Scope(type="send_email"), Scope(type="other")
SEEN = [("notifications", "acme")]


class HoldingContract(StoreFixtures):
    """UP-3 to UP-5: hiding what is paused, and showing it again."""

    async def test_up_3_what_is_paused_is_hidden(self, store: Store) -> None:
        """From turns alone, and as it was; whatever lane it is in."""
        paused = [
            await added(store),
            await added(store, deadline_at=later(-5), run_at=later(-6)),
            await added(store, priority=9),
        ]
        others = [await added(store, type="other"), await added(store, use_case="reports")]
        await heads_of(store, late_policy=LatePolicy.SIDELINE)

        held = await store.hold(SEEN, [SEND], now=NOW, version=await version_of(store), limit=10)

        assert held == 3
        assert await shown_of(store) == {others[0].id}
        assert await shown_of(store, "reports") == {others[1].id}
        expiring = await heads_of(store, now=later(100), late_policy=LatePolicy.EXPIRE)
        assert {each.id for each in expiring.late} == {others[0].id}
        assert sorted(await store.get([job.id for job in paused]), key=by_id) == paused

    @pytest.mark.parametrize(
        "scope",
        [
            Scope(tenant_id="acme", type="send_email"),
            Scope(use_case="notifications", tenant_id="acme"),
            Scope(queue="notifications", tenant_id="acme"),
            Scope(use_case="notifications", tenant_id="acme", type="send_email", queue="fast"),
        ],
    )
    async def test_up_3_a_scope_is_all_of_its_names(self, store: Store, scope: Scope) -> None:
        """What lacks one of them is not paused."""
        jobs = [
            await added(store, tenant_id=tenant, type=type_, queue=queue)
            for tenant in ("acme", "globex")
            for type_ in ("send_email", "other")
            for queue in ("notifications", "fast")
        ]
        seen = [("notifications", tenant) for tenant in ("acme", "globex")]
        await heads_of(store)

        await store.hold(seen, [scope], now=NOW, version=await version_of(store), limit=10)

        left = {job.id for job in jobs if not scope.covers(job.use_case, job)}
        assert await shown_of(store) == left

    async def test_up_3_what_is_not_due_is_left(self, store: Store) -> None:
        """It is in nobody's way yet; nor is what runs."""
        await added(store, run_at=later(60))
        running = await leased(store, await added(store))
        await heads_of(store)

        held = await store.hold(SEEN, [SEND], now=NOW, version=await version_of(store), limit=10)

        assert held == 0
        assert await store.get([running.id]) == [running]
        assert len((await heads_of(store, now=later(60))).ready) == 1

    async def test_up_3_what_presses_is_hidden_first(self, store: Store) -> None:
        """A bounded number at once, and the rest by the next calls."""
        jobs = [await added(store, deadline_at=later(10 + n)) for n in range(5)]
        other = await added(store, type="other", deadline_at=later(99))
        await heads_of(store)
        version = await version_of(store)

        await store.hold(SEEN, [SEND], now=NOW, version=version, limit=2)
        after_one = await shown_of(store)
        while await store.hold(SEEN, [SEND], now=NOW, version=version, limit=2):
            pass

        assert after_one == {other.id, *[job.id for job in jobs[2:]]}
        assert await shown_of(store) == {other.id}

    async def test_up_3_hidden_tenants_do_not_end_the_walk(self, store: Store) -> None:
        """However many have nothing but paused jobs, the walk comes to those behind them."""
        for number in range(20):
            await added(store, tenant_id=f"b{number:02}", deadline_at=later(5))
        for tenant in ("a", "c", "d", "e"):
            for number in range(3):
                deadline = later(10 if tenant == "a" else 50 + number)
                await added(store, tenant_id=tenant, type="other", deadline_at=deadline)
        await heads_of(store)
        seen = [("notifications", f"b{number:02}") for number in range(20)]
        await store.hold(seen, [SEND], now=NOW, version=await version_of(store), limit=100)

        tenants, after = set[str](), ""
        for _ in range(40):
            heads = await heads_of(store, limit=2, after=after)
            tenants |= {each.tenant_id for each in heads.ready}
            after = heads.resume

        assert tenants == {"a", "c", "d", "e"}

    async def test_up_4_what_is_released_is_shown(self, store: Store) -> None:
        """What another pause covers stays hidden; a walk comes to all."""
        jobs = [
            await added(store, type=type_, use_case=use_case, deadline_at=later(10 + n))
            for n in range(3)
            for type_ in ("send_email", "other")
            for use_case in ("notifications", "reports")
        ]
        seen = [(use_case, "acme") for use_case in ("notifications", "reports")]
        version = await version_of(store)
        for use_case, _ in seen:
            await heads_of(store, use_case)
        await store.hold(seen, [SEND, OTHER], now=NOW, version=version, limit=100)

        use_cases, released, after = ["a", "notifications", "reports"], 0, None
        for _ in range(20):
            answer = await store.release(use_cases, [OTHER], version=version, limit=5, after=after)
            released, after = released + answer.released, answer.after
            if after is None:
                break

        assert after is None
        assert released == 6
        for use_case, _ in seen:
            shown = {j.id for j in jobs if j.use_case == use_case and j.type == "send_email"}
            assert await shown_of(store, use_case) == shown

    async def test_up_4_what_was_hidden_is_what_it_was(self, store: Store) -> None:
        """It is leased as if it had never been hidden, and sidelined if it is late by then."""
        late, timely = await added(store, deadline_at=later(5)), await added(store, priority=-1)
        await heads_of(store)
        version = await version_of(store)
        await store.hold(SEEN, [SEND], now=NOW, version=version, limit=100)
        await store.release(["notifications"], [], version=version, limit=100)

        heads = await heads_of(store, now=later(6), late_policy=LatePolicy.SIDELINE)
        run = await leased(store, timely)

        assert [each.id for each in heads.ready] == [timely.id, late.id]
        assert (run.lease_seq, run.attempts) == (1, 0)

    async def test_up_4_what_happens_to_a_hidden_job_happens(self, store: Store) -> None:
        """It is cancelled like any other; what is retried is shown again."""
        job = await added(store)
        await heads_of(store)
        version = await version_of(store)
        await store.hold(SEEN, [SEND], now=NOW, version=version, limit=100)

        cancelled = await happened(store, job, Cancelled())
        assert await store.get([job.id]) == [cancelled]
        await happened(store, cancelled, Retried())

        assert await shown_of(store) == {job.id}

    async def test_up_5_nothing_happens_by_another_version(self, store: Store) -> None:
        """Who does not know what stands now hides nothing, and shows nothing."""
        jobs = [await added(store), await added(store)]
        await heads_of(store)
        version = await version_of(store)

        assert await store.hold(SEEN, [SEND], now=NOW, version=version + 1, limit=9) == 0
        assert await shown_of(store) == {job.id for job in jobs}
        await store.hold(SEEN, [SEND], now=NOW, version=version, limit=9)
        answer = await store.release(["notifications"], [], version=version + 1, limit=9)
        assert answer.released == 0
        assert await shown_of(store) == set()


async def version_of(store: Store) -> int:
    """Return the version of all controls."""
    async with store.turn([]) as turn:
        return turn.controls


async def shown_of(store: Store, use_case: str = "notifications") -> set[UUID]:
    """Return what a turn is shown."""
    heads = await heads_of(store, use_case, late_policy=LatePolicy.SIDELINE)
    return {each.id for each in heads.ready}
