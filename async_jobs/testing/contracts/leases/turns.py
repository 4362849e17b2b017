"""Leases, LS-2, LS-3 and LS-5: turns, and what is leased in them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from async_jobs.domain.job import Job, JobFilter, JobStatus, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    Claimed,
    Failed,
    HandOffFailed,
    JobEvent,
    Leased,
    Released,
    Retried,
    Snoozed,
    Succeeded,
    advance,
    change,
)
from async_jobs.domain.scheduling import grant
from async_jobs.ports.leases import DispatchTurn, HeadsQuery
from async_jobs.ports.store import Store
from async_jobs.testing.builders import a_job, an_id, candidate_of, later
from async_jobs.testing.clocks import NOW, let_others_run
from async_jobs.testing.contracts.scenes import (
    CRASH,
    PATHS,
    UNTIL,
    RollBack,
    added,
    all_jobs,
    happened,
    heads_of,
    in_phase,
    leased,
    meanwhile,
    race,
    soon,
    stored,
    the_job,
)
from async_jobs.testing.contracts.store_fixtures import StoreFixtures

RUNNING = JobFilter(status=JobStatus.RUNNING)

LIVES: dict[str, tuple[dict[str, Any], tuple[JobEvent, ...]]] = {
    "new": ({}, ()),
    "refused by the transport": ({}, (Leased(UNTIL), HandOffFailed("throttled"))),
    "failed before": ({}, (Leased(UNTIL), Claimed("w", UNTIL), Failed("💥"))),
    "left by a dead worker": ({}, CRASH),
    "released": ({}, (Leased(UNTIL), Claimed("w", UNTIL), Released())),
    "snoozed": ({}, (Leased(UNTIL), Claimed("w", UNTIL), Snoozed(later(600)))),
    "retried": ({"dedupe_key": "daily"}, (Cancelled(), Retried())),
    "rich": (
        {
            "payload": {"é": [1.5, {"deep": None}]},
            "priority": -7,
            "headers": {"trace": "1"},
            "delay_tolerance": timedelta(days=30, microseconds=1),
        },
        (),
    ),
}


class TurnsContract(StoreFixtures):
    """LS-2: who holds the right to lease."""

    async def test_ls_2_a_turn_holds_what_it_asked_for(self, store: Store) -> None:
        """Use cases and tenants, known or never heard of."""
        async with store.turn(["notifications", "reports"], ["acme"]) as turn:
            assert turn.use_cases == {"notifications", "reports"}
            assert turn.tenants == {"acme"}
        async with store.turn([]) as turn:
            assert turn.use_cases == turn.tenants == frozenset()

    async def test_ls_2_a_second_turn_gets_what_is_left(
        self, store: Store, other_store: Store
    ) -> None:
        """It does not wait for the first, and takes what the first does not hold."""
        async with store.turn(["a", "b"], ["one"]):
            async with other_store.turn(["b", "c"], ["one", "two"]) as turn:
                assert turn.use_cases == {"c"}
                assert turn.tenants == {"two"}
            async with other_store.turn(["a"], ["one"]) as turn:
                assert turn.use_cases == turn.tenants == frozenset()
        async with other_store.turn(["b"], ["one"]) as turn:
            assert turn.use_cases == {"b"}
            assert turn.tenants == {"one"}

    async def test_ls_2_a_use_case_and_a_tenant_of_one_name_are_two(
        self, store: Store, other_store: Store
    ) -> None:
        """The names live in rooms of their own."""
        async with store.turn(["acme"]), other_store.turn([], ["acme"]) as turn:
            assert turn.tenants == {"acme"}

    async def test_ls_2_any_name_can_be_held(self, store: Store, other_store: Store) -> None:
        """200 of them at once, long ones and odd ones, each apart from all others."""
        names = ["ü𝄞'\"%s;-" * 20, " ", "a", "A", "a ", *(f"use case {i}" for i in range(195))]
        first = store.turn(names[::2], names[1::2])
        async with first as turn, other_store.turn(names, names) as other:
            assert turn.use_cases == set(names[::2])
            assert other.use_cases == set(names[1::2])
            assert other.tenants == set(names[::2])

    async def test_ls_2_racing_turns_never_overlap(self, store: Store, other_store: Store) -> None:
        """Eight schedulers try again and again; each time at most one of them is in."""
        inside: set[str] = set()
        turns = 0

        async def scheduler(mine: Store) -> None:
            nonlocal turns
            for _ in range(10):
                async with mine.turn(["notifications", "reports"], ["acme"]) as turn:
                    held = {*turn.use_cases, *turn.tenants}
                    assert not held & inside
                    inside.update(held)
                    turns += bool(held)
                    await turn.running()
                    inside.difference_update(held)

        await race(*(scheduler((store, other_store)[i % 2]) for i in range(8)))

        assert turns > 0
        async with store.turn(["notifications", "reports"], ["acme"]) as turn:
            assert len(turn.use_cases | turn.tenants) == 3

    @pytest.mark.parametrize("how", ["error", "cancelled"])
    async def test_ls_2_a_turn_that_breaks_off_is_free_again(
        self, store: Store, other_store: Store, how: str
    ) -> None:
        """Whether its holder failed or was cancelled while it held the turn."""
        holding = asyncio.Event()

        async def holder() -> None:
            async with store.turn(["notifications"], ["acme"]) as turn:
                assert turn.use_cases
                holding.set()
                if how == "error":
                    raise RollBack
                await asyncio.Event().wait()

        task = asyncio.ensure_future(holder())
        await soon(holding.wait())
        if how == "cancelled":
            task.cancel()
        with contextlib.suppress(RollBack, asyncio.CancelledError):
            await soon(task)

        async with other_store.turn(["notifications"], ["acme"]) as turn:
            assert turn.use_cases == {"notifications"}
            assert turn.tenants == {"acme"}

    @pytest.mark.parametrize("after", range(12))
    async def test_ls_2_a_turn_cancelled_anywhere_is_free_again(
        self, store: Store, other_store: Store, after: int
    ) -> None:
        """On its way in, in the middle of a question, or on its way out."""
        job = await added(store)

        async def holder() -> None:
            async with store.turn(["notifications"]) as turn:
                await turn.running()
                await turn.lease([grant(candidate_of(job), until=UNTIL, now=NOW)])

        task = asyncio.ensure_future(holder())
        await let_others_run(after)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await soon(task)

        async with other_store.turn(["notifications"]) as turn:
            assert turn.use_cases == {"notifications"}
        assert (await the_job(store, job.id)).phase in {Phase.PENDING, Phase.HANDED_OFF}


class LeasingContract(StoreFixtures):
    """LS-3 and LS-5: what turns count and lease."""

    async def test_ls_3_running_counts_every_running_job(self, store: Store) -> None:
        """By use case, tenant and queue, claimed apart from unclaimed, held or not."""
        for phase in PATHS:
            await in_phase(store, phase)
            await in_phase(store, phase, tenant_id="other")
        await in_phase(store, Phase.HANDED_OFF, use_case="reports", queue="slow")
        await in_phase(store, Phase.CLAIMED, use_case="reports", queue="slow")
        await in_phase(store, Phase.CLAIMED, use_case="reports", queue="fast")

        async with store.turn(["notifications"]) as turn:
            counts = await turn.running()

        assert sorted(count[:5] for count in counts) == [
            ("notifications", "acme", "notifications", 2, 1),
            ("notifications", "other", "notifications", 2, 1),
            ("reports", "acme", "fast", 1, 0),
            ("reports", "acme", "slow", 1, 1),
        ]

    async def test_ls_3_claims_of_workers_that_were_not_asked_for_are_strays(
        self, store: Store
    ) -> None:
        """What runs in workers that are gone takes no slot of those that live."""
        job = await in_phase(store, Phase.CLAIMED)
        await in_phase(store, Phase.HANDED_OFF)
        assert job.worker_id is not None

        async with store.turn(["notifications"]) as turn:
            known = await turn.running({job.worker_id: 0, "another": 0})
            unknown = await turn.running({"another": 0})

        assert known == [("notifications", "acme", "notifications", 1, 1, 0, 0)]
        assert unknown == [("notifications", "acme", "notifications", 1, 1, 1, 0)]

    async def test_ls_3_claims_are_counted_by_the_group_of_their_worker(self, store: Store) -> None:
        """Which slots they take depends on it; a group has as many workers as it likes."""
        for worker_id in ("one", "two", "gone"):
            await happened(store, await added(store), Leased(UNTIL), Claimed(worker_id, UNTIL))
        await in_phase(store, Phase.HANDED_OFF)

        async with store.turn(["notifications"]) as turn:
            alike = await turn.running({"one": 7, "idle": 7, "two": 7})
            apart = await turn.running({"one": 2, "idle": 7, "two": 1})

        lane = ("notifications", "acme", "notifications")
        assert sorted(alike) == [(*lane, 1, 1, 1, 0), (*lane, 2, 0, 0, 7)]
        assert sorted(apart) == [(*lane, 1, 0, 0, 1), (*lane, 1, 0, 0, 2), (*lane, 1, 1, 1, 0)]

    async def test_ls_3_a_lease_is_visible_when_its_turn_has_ended(
        self, store: Store, other_store: Store
    ) -> None:
        """And not before."""
        job = await added(store)
        async with store.turn([job.use_case]) as turn:
            ids = await turn.lease([grant(candidate_of(job), until=UNTIL, now=NOW)])
            assert ids == {job.id}
            assert await other_store.get([job.id]) == [job]

        assert (await the_job(other_store, job.id)).status is JobStatus.RUNNING

    async def test_ls_3_a_turn_that_fails_has_leased_nothing(self, store: Store) -> None:
        """Its jobs are as they were."""
        job = await added(store)
        with contextlib.suppress(RollBack):
            async with store.turn([job.use_case]) as turn:
                await turn.lease([grant(candidate_of(job), until=UNTIL, now=NOW)])
                raise RollBack

        assert await the_job(store, job.id) == job
        assert await leased(store, job) != job

    async def test_ls_3_a_lease_needs_the_number_it_expects(self, store: Store) -> None:
        """A job that has moved on since it was read is left alone; the others are leased."""
        known = [await in_phase(store, Phase.HANDED_OFF) for _ in range(2)]
        known = [await happened(store, job, HandOffFailed("throttled")) for job in known]
        moved = await happened(store, known[0], Leased(UNTIL), HandOffFailed("again"))
        newer = candidate_of(known[1])._replace(lease_seq=known[1].lease_seq + 1)
        fresh = await added(store)

        async with store.turn(["notifications"]) as turn:
            candidates = [candidate_of(known[0]), newer, candidate_of(fresh)]
            ids = await turn.lease([grant(c, until=UNTIL, now=NOW) for c in candidates])

        assert ids == {fresh.id}
        assert sorted(await all_jobs(store), key=lambda job: job.id)[:2] == [moved, known[1]]

    @pytest.mark.parametrize("phase", sorted(set(PATHS) - {Phase.PENDING}))
    async def test_ls_3_only_pending_jobs_are_leased(self, store: Store, phase: Phase) -> None:
        """The number alone does not do."""
        job = await in_phase(store, phase)
        ghost = a_job()

        async with store.turn([job.use_case]) as turn:
            grants = [grant(candidate_of(j), until=later(300), now=NOW) for j in (job, ghost)]
            assert await turn.lease(grants) == frozenset()

        assert await all_jobs(store) == [job]

    @pytest.mark.parametrize("fails", [True, False])
    async def test_ls_3_a_change_that_meets_an_open_lease_waits_for_its_end(
        self, store: Store, other_store: Store, fails: bool
    ) -> None:
        """A cancel finds the job leased, or as it was if the turn failed."""
        job = await added(store)
        cancelling = None
        with contextlib.suppress(RollBack):
            async with store.turn([job.use_case]) as turn:
                await turn.lease([grant(candidate_of(job), until=UNTIL, now=NOW)])
                cancel = change(job, Cancelled(), now=later(1))
                cancelling = asyncio.ensure_future(other_store.save([cancel]))
                await meanwhile(other_store)
                if fails:
                    raise RollBack
        assert cancelling is not None

        assert (await soon(cancelling)).ids == ({job.id} if fails else frozenset())
        expected = Phase.CANCELLED if fails else Phase.HANDED_OFF
        assert (await the_job(store, job.id)).phase is expected

    async def test_ls_3_a_job_that_changed_under_the_turn_is_not_leased(
        self, store: Store, other_store: Store
    ) -> None:
        """It was cancelled between being shown and being leased."""
        job = await added(store)
        await store.promote(NOW, limit=10)
        async with store.turn([job.use_case]) as turn:
            query = HeadsQuery(use_case=job.use_case, limit=10)
            (shown,) = (await turn.heads([query], NOW))[job.use_case].ready
            cancelled = await happened(other_store, job, Cancelled())
            assert await turn.lease([grant(shown, until=UNTIL, now=NOW)]) == frozenset()

        assert await the_job(store, job.id) == cancelled

    async def test_ls_3_four_racing_schedulers_keep_to_the_cap(
        self, store: Store, other_store: Store
    ) -> None:
        """Forty jobs, three places, workers that free them: never a fourth job runs."""
        cap = 3
        await stored(store, *(a_job() for _ in range(40)))
        seen: list[int] = []

        async def scheduler(mine: Store) -> None:
            while any(job.status is JobStatus.PENDING for job in await all_jobs(mine)):
                await tick(mine, cap)
                running = await all_jobs(mine, RUNNING)
                seen.append(len(running))
                await finish(mine, running)

        await race(*(scheduler((store, other_store)[i % 2]) for i in range(4)))

        assert max(seen) <= cap
        assert {job.phase for job in await all_jobs(store)} <= {Phase.HANDED_OFF, Phase.SUCCEEDED}

    @pytest.mark.parametrize("life", list(LIVES))
    async def test_ls_5_a_lease_gives_what_advance_gives(self, store: Store, life: str) -> None:
        """All fields of it, whatever the job has been through."""
        overrides, events = LIVES[life]
        job = await happened(store, await added(store, **overrides), *events)
        now, until = later(5_000.000_001), later(5_060.123_456)

        assert await leased(store, job, until=until, now=now) == advance(
            job, Leased(until), now=now
        )

    async def test_ls_5_a_lease_of_heads_gives_what_advance_gives(self, store: Store) -> None:
        """The whole way: promoted, shown, granted; a thousand at once."""
        jobs = [a_job(run_at=later(i % 50), tenant_id=f"tenant-{i % 7}") for i in range(1_000)]
        await stored(store, *jobs)
        now, until = later(50), later(110)
        ready = (await heads_of(store, now=now, limit=1_000)).ready
        async with store.turn(["notifications"]) as turn:
            ids = await turn.lease([grant(c, until=until, now=now) for c in ready])

        assert ids == {job.id for job in jobs}
        assert await all_jobs(store) == [advance(job, Leased(until), now=now) for job in jobs[::-1]]

    async def test_ls_5_each_grant_of_a_batch_has_its_own_values(self, store: Store) -> None:
        """Numbers, ends and instants are not mixed up."""
        back: list[JobEvent] = [Leased(UNTIL), HandOffFailed("no")]
        jobs = [await happened(store, await added(store), *back * i) for i in range(4)]
        async with store.turn(["notifications"]) as turn:
            grants = [
                grant(candidate_of(job), until=later(100 + i), now=later(i))
                for i, job in enumerate(jobs)
            ]
            await turn.lease([*grants[::-1], grants[0]._replace(job_id=an_id())])
            assert not turn.refused  # who has lost to somebody is not refused

        assert (
            await all_jobs(store)
            == [advance(job, Leased(later(100 + i)), now=later(i)) for i, job in enumerate(jobs)][
                ::-1
            ]
        )


async def tick(store: Store, cap: int) -> None:
    """Dispatch as a scheduler does: hold, count, look, lease what the cap leaves room for."""
    await store.promote(NOW, limit=100)
    async with store.turn(["notifications"]) as turn:
        if turn.use_cases:
            await fill(turn, cap)


async def fill(turn: DispatchTurn, cap: int) -> None:
    """Lease as many jobs as fit under the cap."""
    running = sum(count.claimed + count.unclaimed for count in await turn.running())
    heads = await turn.heads([HeadsQuery(use_case="notifications", limit=cap)], NOW)
    chosen = heads["notifications"].ready[: max(0, cap - running)]
    await turn.lease([grant(candidate, until=UNTIL, now=NOW) for candidate in chosen])


async def finish(store: Store, jobs: Sequence[Job]) -> None:
    """Work as workers do: claim what is handed off, and settle it."""
    fresh = [job for job in jobs if job.phase is Phase.HANDED_OFF]
    claims = [change(job, Claimed("worker-1", UNTIL), now=later(1)) for job in fresh]
    claimed = (await store.save(claims)).ids
    outcomes = [
        change(claim.job, Succeeded(), now=later(2)) for claim in claims if claim.job.id in claimed
    ]
    await store.save(outcomes)
