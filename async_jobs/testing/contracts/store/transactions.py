"""JobStore, JS-11: what is added in a caller's own transaction."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.quota import Refused
from async_jobs.ports.store import Duplicate, Store
from async_jobs.testing.builders import a_job
from async_jobs.testing.contracts.scenes import (
    RollBack,
    Transaction,
    added,
    all_jobs,
    kinds,
    soon,
)
from async_jobs.testing.contracts.store_fixtures import StoreFixtures


class TransactionContract(StoreFixtures):
    """JS-11: adding within the caller's transaction."""

    async def test_js_11_a_commit_makes_the_job_visible(
        self, store: Store, other_store: Store, transaction: Transaction
    ) -> None:
        """Nobody sees the job before the caller's own work is committed."""
        job = a_job()
        async with transaction() as within:
            assert kinds(await store.add([job], {}, within=within)) == ["Added"]
            assert await other_store.get([job.id]) == []
            assert await all_jobs(other_store) == []

        assert await other_store.get([job.id]) == [job]

    async def test_js_11_a_rollback_takes_the_job_back(
        self, store: Store, transaction: Transaction
    ) -> None:
        """The caller's work failed, so there is nothing to run, and its key is free."""
        job = a_job(dedupe_key="daily")
        with contextlib.suppress(RollBack):
            async with transaction() as within:
                await store.add([job], {}, within=within)
                raise RollBack

        assert await all_jobs(store) == []
        assert kinds(await store.add([a_job(dedupe_key="daily")], {"acme": 1})) == ["Added"]

    async def test_js_11_a_transaction_sees_what_it_added(
        self, store: Store, transaction: Transaction
    ) -> None:
        """Its own jobs count against the limit, hold their keys, and are known by id."""
        first = a_job(dedupe_key="daily")
        async with transaction() as within:
            await store.add([first], {"acme": 1}, within=within)
            repeated = await store.add([replace(first)], {"acme": 1}, within=within)
            twin = await store.add([a_job(dedupe_key="daily")], {"acme": 1}, within=within)
            more = await store.add([a_job()], {"acme": 1}, within=within)

        assert repeated == twin == [Duplicate(first.id)]
        assert more == [Refused(tenant_id="acme", limit=1, used=1, asked=1)]
        assert await all_jobs(store) == [first]

    async def test_js_11_a_call_turned_away_leaves_the_transaction_usable(
        self, store: Store, transaction: Transaction
    ) -> None:
        """Refused, invalid and duplicate are answers: what else it did is still committed."""
        theirs = await added(store, tenant_id="other")
        first, last = a_job(), a_job()
        async with transaction() as within:
            await store.add([first], {}, within=within)
            refused = await store.add([a_job()], {"acme": 0}, within=within)
            invalid = await store.add([a_job(), a_job(id=theirs.id)], {}, within=within)
            await store.add([last], {}, within=within)

        assert kinds([*refused, *invalid]) == ["Refused", "Invalid", "Invalid"]
        assert await all_jobs(store) == [last, first, theirs]

    async def test_js_11_open_transactions_do_not_disturb_each_other(
        self, store: Store, transaction: Transaction
    ) -> None:
        """Interleaved, for different tenants and keys: each ends in its own way."""
        jobs = [a_job(tenant_id=f"tenant-{i % 2}", dedupe_key=f"key-{i}") for i in range(4)]
        limits = {"tenant-0": 2, "tenant-1": 2}
        async with transaction() as first:
            await soon(store.add(jobs[:1], {"tenant-0": 2}, within=first))
            with contextlib.suppress(RollBack):
                async with transaction() as second:
                    await soon(store.add(jobs[1:2], {"tenant-1": 2}, within=second))
                    await soon(store.add(jobs[2:3], {"tenant-0": 2}, within=first))
                    await soon(store.add(jobs[3:], {"tenant-1": 2}, within=second))
                    raise RollBack

        assert await all_jobs(store) == [jobs[2], jobs[0]]
        new = [a_job(tenant_id="tenant-1", dedupe_key=key) for key in ("key-1", "key-3")]
        assert kinds(await store.add(new, limits)) == ["Added", "Added"]

    async def test_js_11_a_transaction_that_is_over_is_refused(
        self, store: Store, transaction: Transaction
    ) -> None:
        """Else the job would be there whatever became of the caller's own work."""
        async with transaction() as within:
            pass

        with pytest.raises(InvalidJobError) as refused:
            await store.add([a_job()], {}, within=within)

        assert refused.value.field == "connection"
        assert await all_jobs(store) == []

    @pytest.mark.parametrize("within", [object(), "", 0])
    async def test_js_11_what_is_no_transaction_is_refused(
        self, store: Store, within: object
    ) -> None:
        """Nor is it taken for none."""
        with pytest.raises(InvalidJobError) as refused:
            await store.add([a_job()], {}, within=within)

        assert refused.value.field == "connection"
        assert type(within).__name__ in refused.value.problem
        assert await all_jobs(store) == []
