"""JobStore, JS-4: one live job per dedupe key."""

from __future__ import annotations

import asyncio

import pytest

from async_jobs.domain.job import LIVE, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    Claimed,
    Leased,
    Rejected,
    Retried,
    Succeeded,
    change,
)
from async_jobs.ports.store import Added, Duplicate, Store
from async_jobs.testing.builders import a_job, later
from async_jobs.testing.contracts.scenes import (
    UNTIL,
    Transaction,
    added,
    against_open,
    all_jobs,
    happened,
    in_phase,
    kinds,
    race,
    soon,
    the_job,
)
from async_jobs.testing.contracts.store_fixtures import StoreFixtures

TERMINAL_PHASES = (Phase.SUCCEEDED, Phase.DEAD, Phase.CANCELLED)
LIVE_PHASES = (Phase.PENDING, Phase.HANDED_OFF, Phase.CLAIMED, Phase.CANCELLING)


class DedupeContract(StoreFixtures):
    """JS-4: at most one live job per tenant and dedupe key."""

    async def test_js_4_a_live_key_answers_with_its_job(self, store: Store) -> None:
        """The second job with a key is a duplicate of the first, and is not stored."""
        first = await added(store, dedupe_key="daily")
        second = a_job(dedupe_key="daily")

        assert await store.add([second], {}) == [Duplicate(first.id)]
        assert await store.get([second.id]) == []

    async def test_js_4_a_call_may_hold_its_own_duplicate(self, store: Store) -> None:
        """Of two jobs with one key in one call the first is added, and it charges one place."""
        first, second = a_job(dedupe_key="daily"), a_job(dedupe_key="daily")

        results = await store.add([first, second], {"acme": 1})

        assert results == [Added(first.id), Duplicate(first.id)]
        assert await all_jobs(store) == [first]

    async def test_js_4_one_of_32_racing_duplicates_is_added(
        self, store: Store, other_store: Store
    ) -> None:
        """All callers end up with the same job, whichever it is."""
        calls = [
            (store, other_store)[i % 2].add([a_job(dedupe_key="daily")], {}) for i in range(32)
        ]

        results = [result for answer in await race(*calls) for result in answer]

        (winner,) = await all_jobs(store)
        assert results.count(Added(winner.id)) == 1
        assert results.count(Duplicate(winner.id)) == 31

    async def test_js_4_racing_batches_agree_on_every_key(
        self, store: Store, other_store: Store
    ) -> None:
        """Batches of the same ten keys, in opposite order, each get one answer per key."""
        keys = [f"key-{i}" for i in range(10)]
        batches = [[a_job(dedupe_key=key) for key in keys[:: 1 if i % 2 else -1]] for i in range(8)]
        calls = [(store, other_store)[i % 2].add(batch, {}) for i, batch in enumerate(batches)]

        answers = await race(*calls)

        live = {job.dedupe_key: job.id for job in await all_jobs(store)}
        assert sorted(key for key in live if key) == keys
        for batch, answer in zip(batches, answers, strict=True):
            holders = [(job.id, live[job.dedupe_key]) for job in batch]
            assert answer == [
                Added(mine) if mine == holder else Duplicate(holder) for mine, holder in holders
            ]

    async def test_js_4_tenants_have_keys_of_their_own(self, store: Store) -> None:
        """The same key of another tenant is another key."""
        results = await store.add(
            [a_job(tenant_id="one", dedupe_key="k"), a_job(tenant_id="two", dedupe_key="k")], {}
        )

        assert kinds(results) == ["Added", "Added"]

    @pytest.mark.parametrize("phase", LIVE_PHASES)
    async def test_js_4_a_live_job_keeps_its_key(self, store: Store, phase: Phase) -> None:
        """Waiting, handed off, executing or about to be cancelled: the key is taken."""
        job = await in_phase(store, phase, dedupe_key="daily")

        assert await store.add([a_job(dedupe_key="daily")], {}) == [Duplicate(job.id)]

    @pytest.mark.parametrize("phase", TERMINAL_PHASES)
    async def test_js_4_a_finished_job_frees_its_key(self, store: Store, phase: Phase) -> None:
        """However it ended, the next job may take the key, and then holds it."""
        await in_phase(store, phase, dedupe_key="daily")
        heir = a_job(dedupe_key="daily")

        assert await store.add([heir], {}) == [Added(heir.id)]
        assert await store.add([a_job(dedupe_key="daily")], {}) == [Duplicate(heir.id)]

    @pytest.mark.parametrize("commits", [True, False])
    async def test_js_4_an_open_transaction_holds_its_key(
        self, store: Store, transaction: Transaction, commits: bool
    ) -> None:
        """Racing duplicates wait for it: its job if it commits, else one of theirs."""
        first = a_job(dedupe_key="daily")

        answers = await against_open(
            transaction,
            store,
            first=lambda within: store.add([first], {}, within=within),
            rival=lambda: race(*(store.add([a_job(dedupe_key="daily")], {}) for _ in range(4))),
            commits=commits,
        )

        (live,) = await all_jobs(store)
        assert (live.id == first.id) == commits
        expected = ["Duplicate"] * 4 if commits else ["Added"] + ["Duplicate"] * 3
        assert sorted(kind for answer in answers for kind in kinds(answer)) == expected
        heirs = {Added(live.id)} if not commits else set()
        assert {r for answer in answers for r in answer} == {Duplicate(live.id)} | heirs

    async def test_js_4_a_key_may_come_free_while_others_ask_for_it(
        self, store: Store, other_store: Store
    ) -> None:
        """Its job ends beside four adds: one of them gets the key, or all were too early."""
        for _ in range(12):
            holder = await in_phase(store, Phase.CLAIMED, dedupe_key="daily")
            ending = asyncio.ensure_future(
                other_store.save([change(holder, Succeeded(), now=later(1))])
            )
            twins = [a_job(dedupe_key="daily") for _ in range(4)]
            calls = [(store, other_store)[i % 2].add([twin], {}) for i, twin in enumerate(twins)]

            answers = await race(*calls)

            assert (await soon(ending)).ids == {holder.id}
            heirs = [job for job in await all_jobs(store) if job.status in LIVE]
            heir_ids = {heir.id for heir in heirs}
            assert kinds(r for answer in answers for r in answer).count("Added") == len(heirs) <= 1
            known = {Duplicate(each) for each in (holder.id, *heir_ids)}
            assert {r for a in answers for r in a} <= known | {Added(heir) for heir in heir_ids}
            await store.save([change(heir, Cancelled(), now=later(1)) for heir in heirs])

    async def test_js_4_a_save_that_revives_a_taken_key_conflicts(self, store: Store) -> None:
        """An operator's retry is kept out by the job that has the key now; others go through."""
        old = await in_phase(store, Phase.DEAD, dedupe_key="daily")
        other = await in_phase(store, Phase.DEAD)
        heir = await added(store, dedupe_key="daily")

        applied = await store.save([change(job, Retried(), now=later(1)) for job in (old, other)])

        assert applied.ids == {other.id}
        assert applied.conflicting == {old.id}
        assert await the_job(store, old.id) == old
        assert await the_job(store, heir.id) == heir

    async def test_js_4_a_retry_takes_its_free_key_again(self, store: Store) -> None:
        """Nobody has the key any more, so the retried job holds it."""
        old = await in_phase(store, Phase.CANCELLED, dedupe_key="daily")
        await in_phase(store, Phase.SUCCEEDED, dedupe_key="daily")

        revived = await happened(store, old, Retried(), now=later(1))

        assert await store.add([a_job(dedupe_key="daily")], {}) == [Duplicate(revived.id)]

    async def test_js_4_one_of_racing_retries_takes_the_key(
        self, store: Store, other_store: Store
    ) -> None:
        """Eight dead jobs had one key in turn; of eight retries at once one is applied."""
        dead = [await in_phase(store, Phase.DEAD, dedupe_key="daily") for _ in range(8)]
        calls = [
            (store, other_store)[i % 2].save([change(job, Retried(), now=later(1))])
            for i, job in enumerate(dead)
        ]

        answers = await race(*calls)

        winners = [job for job, answer in zip(dead, answers, strict=True) if answer.ids]
        losers = [job for job, answer in zip(dead, answers, strict=True) if answer.conflicting]
        assert len(winners) == 1
        assert len(losers) == 7
        live = [job for job in await all_jobs(store) if job.status in LIVE]
        assert [job.id for job in live] == [winners[0].id]

    async def test_js_4_one_of_two_retries_in_a_batch_takes_the_key(self, store: Store) -> None:
        """Within one batch, too, the first to live keeps the second out."""
        dead = [await in_phase(store, Phase.DEAD, dedupe_key="daily") for _ in range(2)]

        applied = await store.save([change(job, Retried(), now=later(1)) for job in dead])

        assert len(applied.ids) == len(applied.conflicting) == 1
        assert applied.ids | applied.conflicting == {job.id for job in dead}

    @pytest.mark.parametrize("commits", [True, False])
    async def test_js_4_a_retry_meets_a_key_in_an_open_transaction(
        self, store: Store, transaction: Transaction, commits: bool
    ) -> None:
        """Whether the retry conflicts is for the transaction to decide."""
        old = await in_phase(store, Phase.DEAD, dedupe_key="daily")

        applied = await against_open(
            transaction,
            store,
            first=lambda within: store.add([a_job(dedupe_key="daily")], {}, within=within),
            rival=lambda: store.save([change(old, Retried(), now=later(1))]),
            commits=commits,
        )

        assert applied.ids == (frozenset() if commits else {old.id})
        assert applied.conflicting == ({old.id} if commits else frozenset())
        assert len([job for job in await all_jobs(store) if job.status in LIVE]) == 1

    async def test_js_4_no_step_of_a_life_loses_the_key(self, store: Store) -> None:
        """From lease to retry and back the key stays taken while the job lives."""
        job = await added(store, dedupe_key="daily", max_attempts=1)
        twin = [a_job(dedupe_key="daily")]
        for event in (Leased(UNTIL), Claimed("worker-1", UNTIL), Rejected("no"), Retried()):
            job = await happened(store, job, event)
            if job.status in LIVE:
                assert await store.add(twin, {}) == [Duplicate(job.id)]

        job = await happened(store, job, Leased(UNTIL), Claimed("worker-1", UNTIL), Succeeded())
        assert await store.add(twin, {}) == [Added(twin[0].id)]
