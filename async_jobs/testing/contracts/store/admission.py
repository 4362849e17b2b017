"""JobStore, JS-3 and JS-10: what gets in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from async_jobs.domain.job import JobFilter, JobStatus, Phase
from async_jobs.domain.lifecycle import Cancelled, Retried, Snoozed
from async_jobs.domain.quota import Refused
from async_jobs.ports.store import Added, Duplicate, Invalid, Store
from async_jobs.testing.builders import a_job, an_id, later
from async_jobs.testing.contracts.scenes import (
    PATHS,
    Transaction,
    added,
    against_open,
    all_jobs,
    happened,
    in_phase,
    kinds,
    race,
    stored,
    the_job,
)
from async_jobs.testing.contracts.store_fixtures import StoreFixtures


class QuotaContract(StoreFixtures):
    """JS-3: a tenant's limit of pending jobs."""

    async def test_js_3_a_call_may_fill_the_limit_and_not_pass_it(self, store: Store) -> None:
        """With room for three, three are admitted, and then not one more."""
        filled = await store.add([a_job() for _ in range(3)], {"acme": 3})
        passed = await store.add([a_job()], {"acme": 3})

        assert kinds(filled) == ["Added"] * 3
        assert passed == [Refused(tenant_id="acme", limit=3, used=3, asked=1)]
        assert len(await all_jobs(store)) == 3

    async def test_js_3_a_limit_of_zero_admits_nothing(self, store: Store) -> None:
        """A tenant may be shut out altogether."""
        results = await store.add([a_job()], {"acme": 0})

        assert results == [Refused(tenant_id="acme", limit=0, used=0, asked=1)]

    async def test_js_3_one_of_64_racing_adds_gets_the_last_place(
        self, store: Store, other_store: Store
    ) -> None:
        """64 callers see one free place; 63 learn that it is gone."""
        await stored(store, a_job(), a_job())
        calls = [(store, other_store)[i % 2].add([a_job()], {"acme": 3}) for i in range(64)]

        results = [result for answer in await race(*calls) for result in answer]

        assert sorted(kinds(results)) == ["Added"] + ["Refused"] * 63
        assert len(await all_jobs(store, JobFilter(status=JobStatus.PENDING))) == 3

    @pytest.mark.parametrize("apart", [False, True])
    async def test_js_3_racing_batches_fill_the_limit_as_far_as_they_fit(
        self, store: Store, other_store: Store, apart: bool
    ) -> None:
        """Batches of one to four race for ten places: each gets in whole or not at all."""
        batches = [[a_job() for _ in range(i % 4 + 1)] for i in range(20)]
        calls = [
            (store, other_store)[i % 2].add(batch, {"acme": 10}, apart=apart)
            for i, batch in enumerate(batches)
        ]

        answers = await race(*calls)

        admitted = {r.job_id for answer in answers for r in answer if isinstance(r, Added)}
        assert all(len(set(kinds(answer))) == 1 for answer in answers)
        assert {job.id for job in await all_jobs(store)} == admitted
        room = 10 - len(admitted)
        assert 0 <= room < min(len(answer) for answer in answers if kinds(answer)[0] != "Added")

    async def test_js_3_a_refused_call_leaves_nothing_behind(self, store: Store) -> None:
        """One tenant without room keeps out the whole call, other tenants' jobs included."""
        free = a_job(tenant_id="free")
        full = [a_job(tenant_id="full") for _ in range(3)]

        results = await store.add([full[0], free, *full[1:]], {"full": 2})

        assert results == [Refused(tenant_id="full", limit=2, used=0, asked=3)] * 4
        assert await all_jobs(store) == []
        assert await store.add([free], {}) == [Added(free.id)]

    @pytest.mark.parametrize("beside", [[], ["free"]], ids=["alone", "beside another tenant"])
    async def test_js_3_what_stands_apart_is_refused_together(
        self, store: Store, beside: list[str]
    ) -> None:
        """Who wants a part of it admitted asks again for less."""
        batch = [a_job(tenant_id=tenant) for tenant in ["full", *beside, "full", "full"]]

        results = await store.add(batch, {"full": 2}, apart=True)

        refused = Refused(tenant_id="full", limit=2, used=0, asked=3)
        assert results == [refused] * len(batch)
        assert await all_jobs(store) == []

    async def test_js_3_a_refused_call_frees_its_dedupe_keys(self, store: Store) -> None:
        """A key in a refused call was never taken."""
        refused = await store.add([a_job(dedupe_key="daily")], {"acme": 0})
        again = await store.add([a_job(dedupe_key="daily")], {"acme": 1})

        assert kinds(refused) == ["Refused"]
        assert kinds(again) == ["Added"]

    async def test_js_3_a_refused_call_is_no_duplicate_of_itself(self, store: Store) -> None:
        """What repeats a job of the same call is refused with it: there is nothing to ask for."""
        first = a_job(dedupe_key="daily")
        batch = [first, a_job(dedupe_key="daily"), replace(first), a_job()]

        results = await store.add(batch, {"acme": 1})

        assert results == [Refused(tenant_id="acme", limit=1, used=0, asked=2)] * 4

    @pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.PENDING}))
    async def test_js_3_only_pending_jobs_count(self, store: Store, phase: Phase) -> None:
        """A job that runs or has ended takes no place."""
        await in_phase(store, phase)

        assert kinds(await store.add([a_job()], {"acme": 1})) == ["Added"]

    async def test_js_3_a_job_that_waits_for_later_counts(self, store: Store) -> None:
        """Pending is pending, whether due or not."""
        await added(store, run_at=later(3_600))

        assert kinds(await store.add([a_job()], {"acme": 1})) == ["Refused"]

    async def test_js_3_a_job_that_comes_back_from_a_worker_counts(self, store: Store) -> None:
        """Whatever was known of the tenant while it ran."""
        runs = await in_phase(store, Phase.CLAIMED)
        admitted = await store.add([a_job()], {"acme": 2})
        await happened(store, runs, Snoozed(later(60)))

        assert kinds(admitted) == ["Added"]
        assert kinds(await store.add([a_job()], {"acme": 2})) == ["Refused"]

    async def test_js_3_a_job_that_is_retried_counts(self, store: Store) -> None:
        """Whatever was known of the tenant while it was dead."""
        dead = await in_phase(store, Phase.DEAD)
        admitted = await store.add([a_job()], {"acme": 2})
        await happened(store, dead, Retried())

        assert kinds(admitted) == ["Added"]
        assert kinds(await store.add([a_job()], {"acme": 2})) == ["Refused"]

    @pytest.mark.parametrize("others", [0, 1])
    async def test_js_3_a_job_that_was_added_without_a_limit_counts(
        self, store: Store, others: int
    ) -> None:
        """By whoever knows of none, alone or with others, between two calls of who does."""
        admitted = await store.add([a_job()], {"acme": 2})
        await stored(store, a_job(), *[a_job(tenant_id="calm")] * others)

        assert kinds(admitted) == ["Added"]
        assert kinds(await store.add([a_job()], {"acme": 2})) == ["Refused"]

    async def test_js_3_room_is_found_again(self, store: Store) -> None:
        """As often as a place becomes free, however many were taken before."""
        admitted: list[str] = []
        for _ in range(3):
            first, second = a_job(), a_job()
            admitted += kinds(await store.add([first], {"acme": 2}))
            admitted += kinds(await store.add([second], {"acme": 2}))
            admitted += kinds(await store.add([a_job()], {"acme": 2}))
            await happened(store, first, Cancelled())
            await happened(store, second, Cancelled())

        assert admitted == ["Added", "Added", "Refused"] * 3

    async def test_js_3_duplicates_charge_nothing(self, store: Store) -> None:
        """With one free place, two duplicates and one new job fit."""
        first = await added(store, dedupe_key="daily")
        new = a_job()

        results = await store.add([replace(first), a_job(dedupe_key="daily"), new], {"acme": 2})

        assert results == [Duplicate(first.id), Duplicate(first.id), Added(new.id)]

    async def test_js_3_a_refused_call_still_tells_its_duplicates(self, store: Store) -> None:
        """Whoever repeats a call that had succeeded learns so, however full the tenant is."""
        first = await added(store, dedupe_key="daily")

        results = await store.add([a_job(), a_job(dedupe_key="daily")], {"acme": 1})

        refused = Refused(tenant_id="acme", limit=1, used=1, asked=1)
        assert results == [refused, Duplicate(first.id)]

    async def test_js_3_tenants_are_counted_apart(self, store: Store) -> None:
        """One tenant's backlog takes no place of another's."""
        await stored(store, *(a_job(tenant_id="busy") for _ in range(5)))

        results = await store.add([a_job(tenant_id="calm")], {"busy": 5, "calm": 1})

        assert kinds(results) == ["Added"]

    async def test_js_3_racing_calls_for_the_same_tenants_do_not_deadlock(
        self, store: Store, other_store: Store
    ) -> None:
        """Calls that name the same limited tenants in opposite order all come to an end."""
        tenants = [f"tenant-{i}" for i in range(6)]
        limits = dict.fromkeys(tenants, 5)
        calls = []
        for i in range(20):
            order = tenants if i % 2 else tenants[::-1]
            batch = [a_job(tenant_id=tenant) for tenant in order]
            calls.append((store, other_store)[i % 2].add(batch, {t: limits[t] for t in order}))

        answers = await race(*calls)

        assert sum(kinds(answer)[0] == "Added" for answer in answers) == 5
        assert len(await all_jobs(store)) == 30

    @pytest.mark.parametrize("commits", [True, False])
    async def test_js_3_an_open_transaction_holds_its_place(
        self, store: Store, transaction: Transaction, commits: bool
    ) -> None:
        """The last place goes to the transaction that took it first, unless it rolls back."""
        rival = await against_open(
            transaction,
            store,
            first=lambda within: store.add([a_job()], {"acme": 1}, within=within),
            rival=lambda: store.add([a_job()], {"acme": 1}),
            commits=commits,
        )

        assert kinds(rival) == ["Refused" if commits else "Added"]
        assert len(await all_jobs(store)) == 1


class IdentityContract(StoreFixtures):
    """JS-10: an id is taken once."""

    @pytest.mark.parametrize("phase", list(PATHS))
    async def test_js_10_a_known_id_is_a_duplicate_and_changes_nothing(
        self, store: Store, phase: Phase
    ) -> None:
        """Whatever became of the job, and whatever the repetition says."""
        job = await in_phase(store, phase)
        again = a_job(id=job.id, payload={"to": "somebody else"}, use_case="reports")

        assert await store.add([again], {"acme": 0}) == [Duplicate(job.id)]
        assert await the_job(store, job.id) == job

    async def test_js_10_a_call_may_name_an_id_twice(self, store: Store) -> None:
        """The second is a duplicate of the first."""
        job = a_job()

        results = await store.add([job, replace(job)], {"acme": 1})

        assert results == [Added(job.id), Duplicate(job.id)]

    async def test_js_10_racing_adds_of_an_id_add_it_once(
        self, store: Store, other_store: Store
    ) -> None:
        """A client that repeats itself before the first answer creates one job."""
        job = a_job()
        calls = [(store, other_store)[i % 2].add([replace(job)], {"acme": 1}) for i in range(16)]

        results = [result for answer in await race(*calls) for result in answer]

        assert sorted(kinds(results)) == ["Added"] + ["Duplicate"] * 15
        assert await all_jobs(store) == [job]

    async def test_js_10_a_foreign_id_is_invalid_and_tells_nothing(self, store: Store) -> None:
        """The answer names the field, not the owner, and nothing of the call is added."""
        theirs = await added(store, tenant_id="secretive")
        mine = a_job()

        results = await store.add([mine, a_job(id=theirs.id)], {})

        assert kinds(results) == ["Invalid", "Invalid"]
        assert {(r.job_id, r.field) for r in results if isinstance(r, Invalid)} == {
            (theirs.id, "id")
        }
        assert "secretive" not in str(results)
        assert await all_jobs(store) == [theirs]

    @pytest.mark.parametrize("limits", [{}, {"acme": 9}], ids=["unlimited", "limited"])
    async def test_js_10_an_invalid_job_leaves_those_that_stand_apart(
        self, store: Store, limits: dict[str, int]
    ) -> None:
        """Each is answered for itself."""
        theirs = await added(store, tenant_id="secretive")
        known = await added(store, dedupe_key="daily")
        mine = [a_job(dedupe_key="hourly"), a_job()]
        repeated = a_job(dedupe_key="daily")

        results = await store.add(
            [mine[0], a_job(id=theirs.id, dedupe_key="hourly"), repeated, mine[1]],
            limits,
            apart=True,
        )

        assert kinds(results) == ["Added", "Invalid", "Duplicate", "Added"]
        assert results[2] == Duplicate(known.id)
        assert {job.id for job in await all_jobs(store)} == {
            theirs.id,
            known.id,
            *(job.id for job in mine),
        }

    async def test_js_10_an_invalid_job_asks_for_no_room(self, store: Store) -> None:
        """When those that stand apart are refused, it is invalid all the same."""
        theirs = await added(store, tenant_id="secretive")
        known = await added(store)
        batch = [known, a_job(id=theirs.id), a_job(), a_job()]

        results = await store.add(batch, {"acme": 2}, apart=True)

        refused = Refused(tenant_id="acme", limit=2, used=1, asked=2)
        assert kinds(results) == ["Duplicate", "Invalid", "Refused", "Refused"]
        assert results[2:] == [refused, refused]

    async def test_js_10_one_of_two_tenants_gets_an_id_they_race_for(
        self, store: Store, other_store: Store
    ) -> None:
        """Eight calls of each tenant: one adds, its tenant's are duplicates, others invalid."""
        job_id = an_id()
        tenants = ["one", "two"] * 8
        calls = [
            (store, other_store)[i // 2 % 2].add([a_job(id=job_id, tenant_id=tenant)], {})
            for i, tenant in enumerate(tenants)
        ]

        results = [result for answer in await race(*calls) for result in answer]

        owner = (await the_job(store, job_id)).tenant_id
        by_tenant = {
            t: kinds(r for u, r in zip(tenants, results, strict=True) if u == t) for t in tenants
        }
        assert sorted(by_tenant.pop(owner)) == ["Added"] + ["Duplicate"] * 7
        assert [*by_tenant.values()] == [["Invalid"] * 8]

    @pytest.mark.parametrize("commits", [True, False])
    async def test_js_10_an_open_transaction_holds_its_id(
        self, store: Store, transaction: Transaction, commits: bool
    ) -> None:
        """A repetition waits for the first call's transaction."""
        job = a_job()

        repetition = await against_open(
            transaction,
            store,
            first=lambda within: store.add([job], {}, within=within),
            rival=lambda: store.add([replace(job)], {}),
            commits=commits,
        )

        assert kinds(repetition) == ["Duplicate" if commits else "Added"]
        assert await all_jobs(store) == [job]
