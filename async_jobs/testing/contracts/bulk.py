"""The contract of `Bulk`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import pytest

from async_jobs.domain.audit import Action
from async_jobs.domain.bulk import (
    Amendment,
    BulkAction,
    BulkOperation,
    BulkState,
    Decision,
    decide,
    stopped,
)
from async_jobs.domain.filters import JobQuery, Span
from async_jobs.domain.job import Job, JobStatus, Phase
from async_jobs.domain.lifecycle import Cancelled
from async_jobs.ports.bulk import Bulk, Decide, Stepped
from async_jobs.ports.controls import Controls
from async_jobs.ports.history import History
from async_jobs.ports.store import Added, Store
from async_jobs.testing.builders import a_bulk_operation, a_job, an_audit, an_id, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.scenes import (
    Corrupt,
    RollBack,
    added,
    happened,
    in_phase,
    race,
    soon,
    the_job,
)

AT = later(100)
"""When batches are taken."""
REST = timedelta(seconds=10)


def by_the_rules(at: datetime = AT) -> Decide:
    """Return what decides as schedulers do."""

    async def decided(operation: BulkOperation, jobs: Sequence[Job]) -> Sequence[Decision]:
        return [decide(operation, job, now=at) for job in jobs]

    return decided


def rest(under_way: int) -> timedelta:
    """Rest for longer where more is under way."""
    return REST * under_way


async def begun(
    bulk: Bulk, action: BulkAction, query: JobQuery | None = None, **given: object
) -> BulkOperation:
    """Begin an operation at `AT`."""
    operation = a_bulk_operation(action, criteria=query or JobQuery(), created_at=AT, **given)
    return await bulk.create(operation, an_audit(operation))


async def step(bulk: Bulk, at: datetime = AT, *, limit: int = 100) -> Stepped:
    """Take a batch."""
    return await bulk.step(at, limit=limit, decide=by_the_rules(at), pause=rest)


async def all_of(bulk: Bulk, operation: BulkOperation, *, limit: int = 100) -> BulkOperation:
    """Take batches until the operation is over."""
    at = AT
    for _ in range(20):
        stepped = await step(bulk, at, limit=limit)
        assert stepped.operation is not None
        if stepped.operation.state is not BulkState.RUNNING:
            return stepped.operation
        assert stepped.due_at is not None
        at = stepped.due_at
    raise AssertionError("it does not end")


class BulkContract:
    """Everything `Bulk` promises, BU-1 to BU-9.

    Subclass it as `TestMyBulk` and override the fixtures.
    """

    @pytest.fixture
    async def store(self) -> Store:
        """The store whose jobs are changed, without any."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    async def bulk(self, store: Store) -> Bulk:
        """The adapter under test."""
        raise NotImplementedError("override the fixture `bulk`")

    @pytest.fixture
    async def other_bulk(self, store: Store) -> Bulk:
        """The same through a client that shares nothing but what is stored; else `bulk` itself."""
        raise NotImplementedError("override the fixture `other_bulk`")

    @pytest.fixture
    async def controls(self, store: Store) -> Controls:
        """The controls beside the store, which keep the audit."""
        raise NotImplementedError("override the fixture `controls`")

    @pytest.fixture
    async def history(self, store: Store) -> History:
        """The records beside the store."""
        raise NotImplementedError("override the fixture `history`")

    @pytest.fixture
    async def corrupt(self, store: Store) -> Corrupt:
        """Makes the stored row of a job unreadable."""
        raise NotImplementedError("override the fixture `corrupt`")

    async def test_bu_1_an_operation_is_read_back(self, bulk: Bulk) -> None:
        """With all its fields; begun again, it is there once and as it stands."""
        query = JobQuery(
            tenant_id="a'\"é",
            types=frozenset({"%", "\\"}),
            statuses=frozenset({JobStatus.DEAD}),
            created=Span(since=later(-60.000_001)),
        )
        operation = await begun(
            bulk,
            BulkAction.RESCHEDULE,
            replace(query, statuses=None),
            amendment=Amendment(run_at=later(60.000_001)),
            undoes=an_id(),
            maximum=7,
        )

        again = await bulk.create(operation, an_audit(operation))

        assert operation == again == await bulk.get(operation.id)
        assert list(await bulk.operations(limit=9)) == [operation]
        assert await bulk.get(an_id()) is None

    async def test_bu_1_operations_are_paged(self, bulk: Bulk) -> None:
        """The newest first; of tenants only those whose filter names one of them."""
        tenants = ["acme", None, "bolt", "acme", None]
        queries = [JobQuery(tenant_id=tenant) for tenant in tenants]
        written = [await begun(bulk, BulkAction.RETRY, query) for query in queries][::-1]

        first = await bulk.operations(limit=3)
        others = await bulk.operations(limit=3, before=first[-1].id)

        assert [*first, *others] == written
        theirs = await bulk.operations(limit=9, tenants=["acme", "x"])
        assert list(theirs) == [written[1], written[4]]

    async def test_bu_2_every_job_that_matches_is_changed_once(
        self, store: Store, bulk: Bulk
    ) -> None:
        """In batches, to the last one; what does not match stays as it is."""
        dead = [await in_phase(store, Phase.DEAD) for _ in range(5)]
        others = [
            await in_phase(store, Phase.DEAD, tenant_id="bolt"),
            await in_phase(store, Phase.CANCELLED),
            await in_phase(store, Phase.SUCCEEDED),
            await in_phase(store, Phase.CLAIMED),
        ]
        query = JobQuery(tenant_id="acme")
        counted = [await bulk.count(BulkAction.RETRY, query, limit=most) for most in (3, 100)]
        operation = await begun(bulk, BulkAction.RETRY, query)

        over = await all_of(bulk, operation, limit=2)

        assert counted == [3, 5]
        assert (over.done, over.skipped, over.failed) == (5, 0, 0)
        assert over.state is BulkState.FINISHED
        assert {job.phase for job in await store.get([job.id for job in dead])} == {Phase.PENDING}
        for job in others:
            assert await the_job(store, job.id) == job
        assert await bulk.get(operation.id) == over
        assert (await step(bulk, later(10_000))).operation is None

    async def test_bu_2_what_came_later_was_not_meant(self, store: Store, bulk: Bulk) -> None:
        """A job that was enqueued after the operation began."""
        before = await added(store, created_at=AT)
        await begun(bulk, BulkAction.CANCEL)
        after = await added(store, created_at=AT + timedelta(microseconds=1))

        stepped = await step(bulk, AT + REST)

        assert stepped.changed == {before.id}
        assert (await the_job(store, after.id)).phase is Phase.PENDING

    async def test_bu_2_a_maximum_ends_it(self, store: Store, bulk: Bulk) -> None:
        """However many more there are."""
        jobs = [await added(store) for _ in range(5)]
        operation = await begun(bulk, BulkAction.CANCEL, maximum=3)

        over = await all_of(bulk, operation, limit=2)

        assert (over.done, over.state) == (3, BulkState.FINISHED)
        phases = [job.phase for job in await store.get([job.id for job in jobs])]
        assert phases.count(Phase.CANCELLED) == 3

    async def test_bu_2_each_action_does_what_it_says(self, store: Store, bulk: Bulk) -> None:
        """To what waits."""
        job = await added(store)
        for action, amendment in (
            (BulkAction.RESCHEDULE, Amendment(run_at=later(600))),
            (BulkAction.PRIORITISE, Amendment(priority=-7)),
            (BulkAction.TOLERATE, Amendment(delay_tolerance=timedelta(minutes=9))),
        ):
            await all_of(bulk, await begun(bulk, action, amendment=amendment))

        stands = await the_job(store, job.id)

        assert (stands.run_at, stands.priority) == (later(600), -7)
        assert stands.deadline_at == later(600 + 9 * 60)
        assert stands.first_deadline == job.deadline_at
        assert stands.lease_seq == job.lease_seq + 3

    async def test_bu_3_a_batch_that_is_cut_off_leaves_nothing(
        self, store: Store, bulk: Bulk
    ) -> None:
        """Neither its changes nor its counts; the next one shows the same jobs."""
        job = await added(store)
        operation = await begun(bulk, BulkAction.CANCEL)
        shown: list[UUID] = []

        async def cut_off(operation: BulkOperation, jobs: Sequence[Job]) -> Sequence[Decision]:
            shown.extend(each.id for each in jobs)
            raise RollBack

        for _ in range(2):
            with pytest.raises(RollBack):
                await bulk.step(AT, limit=9, decide=cut_off, pause=rest)

        assert shown == [job.id, job.id]
        assert await the_job(store, job.id) == job
        assert await bulk.get(operation.id) == operation
        assert (await step(bulk)).changed == {job.id}

    async def test_bu_4_one_batch_is_under_way_at_a_time(
        self, store: Store, bulk: Bulk, other_bulk: Bulk
    ) -> None:
        """Whoever comes second leaves it, and does not wait."""
        jobs = [await added(store) for _ in range(2)]
        operation = await begun(bulk, BulkAction.CANCEL)
        in_it, go_on = asyncio.Event(), asyncio.Event()

        async def slow(operation: BulkOperation, jobs: Sequence[Job]) -> Sequence[Decision]:
            in_it.set()
            await go_on.wait()
            return await by_the_rules()(operation, jobs)

        first = asyncio.ensure_future(bulk.step(AT, limit=1, decide=slow, pause=rest))
        await soon(in_it.wait())
        second = await soon(step(other_bulk))
        go_on.set()
        stepped = await soon(first)

        assert (second.operation, second.due_at) == (None, AT)
        assert stepped.operation == replace(operation, done=1, cursor=jobs[1].id, due_at=AT + REST)

    async def test_bu_4_a_batch_waits_until_it_is_due(self, store: Store, bulk: Bulk) -> None:
        """Those of several operations alternate, and rest for longer the more there are."""
        for _ in range(4):
            await added(store)
        first = await begun(bulk, BulkAction.CANCEL)
        second = await begun(bulk, BulkAction.CANCEL)

        taken = [await step(bulk, AT, limit=1) for _ in range(3)]
        again = await step(bulk, AT + 2 * REST, limit=1)

        told = [each.operation and each.operation.id for each in [*taken, again]]
        assert told == [first.id, second.id, None, first.id]
        assert [each.due_at for each in taken] == [AT, AT + 2 * REST, AT + 2 * REST]

    async def test_bu_4_of_racing_steps_none_repeats_a_job(
        self, store: Store, bulk: Bulk, other_bulk: Bulk
    ) -> None:
        """Each is changed by one of them."""
        jobs = [await in_phase(store, Phase.DEAD) for _ in range(6)]
        operation = await begun(bulk, BulkAction.RETRY)
        at, seen = AT, list[UUID]()
        for _ in range(12):
            answers = await race(*(step(each, at, limit=1) for each in (bulk, other_bulk) * 2))
            for answer in answers:
                seen += answer.changed
            at += REST

        assert sorted(seen) == sorted(job.id for job in jobs)
        over = await bulk.get(operation.id)
        assert over is not None
        assert (over.done, over.state) == (6, BulkState.FINISHED)

    async def test_bu_5_a_key_that_is_taken_keeps_one_job_out(
        self, store: Store, bulk: Bulk
    ) -> None:
        """It is skipped; the others of its batch are changed."""
        dead = await in_phase(store, Phase.DEAD, dedupe_key="k")
        other = await in_phase(store, Phase.DEAD)
        await added(store, dedupe_key="k")

        over = await all_of(bulk, await begun(bulk, BulkAction.RETRY))

        assert (over.done, over.skipped, over.failed) == (1, 1, 0)
        assert await the_job(store, dead.id) == dead
        assert (await the_job(store, other.id)).phase is Phase.PENDING

    async def test_bu_5_a_row_that_is_no_job_fails_alone(
        self, store: Store, bulk: Bulk, corrupt: Corrupt
    ) -> None:
        """It keeps no other back, and the operation says why."""
        jobs = [await in_phase(store, Phase.DEAD) for _ in range(3)]
        await corrupt(jobs[1].id)

        over = await all_of(bulk, await begun(bulk, BulkAction.RETRY))

        assert (over.done, over.skipped, over.failed) == (2, 0, 1)
        assert over.problem is not None
        assert over.problem.startswith("a row that is no job any more")

    async def test_bu_5_what_runs_is_asked_to_stop(self, store: Store, bulk: Bulk) -> None:
        """What asks already is skipped, and so is what has ended."""
        claimed = await in_phase(store, Phase.CLAIMED)
        await in_phase(store, Phase.CANCELLING)
        await in_phase(store, Phase.SUCCEEDED)

        over = await all_of(bulk, await begun(bulk, BulkAction.CANCEL))

        assert (over.done, over.skipped, over.failed) == (1, 1, 0)
        assert (await the_job(store, claimed.id)).phase is Phase.CANCELLING

    async def test_bu_6_a_deleted_job_is_gone_with_all_of_it(
        self, store: Store, bulk: Bulk, history: History
    ) -> None:
        """Its records, its id and its key; what runs stays."""
        dead = await in_phase(store, Phase.DEAD, dedupe_key="k")
        other = await in_phase(store, Phase.DEAD, tenant_id="bolt")
        idle = await added(store, dedupe_key="w")
        running = await in_phase(store, Phase.CLAIMED)
        assert await history.attempts(dead.id, limit=9)

        over = await all_of(bulk, await begun(bulk, BulkAction.DELETE, JobQuery(tenant_id="acme")))

        assert (over.done, over.skipped, over.failed) == (2, 1, 0)
        ids = [dead.id, idle.id, running.id, other.id]
        assert {job.id for job in await store.get(ids)} == {running.id, other.id}
        assert list(await history.attempts(dead.id, limit=9)) == []
        assert await history.attempts(other.id, limit=9)
        again = a_job(id=idle.id, dedupe_key="w")
        assert await store.add([again], {}) == [Added(idle.id)]

    async def test_bu_7_an_undo_takes_back_what_was_cancelled(
        self, store: Store, bulk: Bulk
    ) -> None:
        """By that operation, as long as nobody changed it since; with all that the job had."""
        jobs = [await added(store, run_at=later(600), priority=n) for n in range(4)]
        by_hand = await in_phase(store, Phase.CANCELLED)
        cancelled = await all_of(bulk, await begun(bulk, BulkAction.CANCEL), limit=2)
        retrying = JobQuery(ids=frozenset({jobs[0].id}), statuses=frozenset({JobStatus.CANCELLED}))
        await all_of(bulk, await begun(bulk, BulkAction.RETRY, retrying))
        again = await the_job(store, jobs[0].id)
        await happened(store, again, Cancelled(), now=later(300))

        undo = await begun(bulk, BulkAction.UNDO, undoes=cancelled.id, maximum=cancelled.done)
        over = await all_of(bulk, undo, limit=2)

        assert (over.done, over.skipped, over.state) == (3, 1, BulkState.FINISHED)
        for job in jobs[1:]:
            stands = await the_job(store, job.id)
            assert stands == job.after(lease_seq=job.lease_seq + 1, updated_at=stands.updated_at)
        assert await the_job(store, by_hand.id) == by_hand

    async def test_bu_8_an_operation_comes_with_its_audit(
        self, bulk: Bulk, controls: Controls
    ) -> None:
        """And with another version, so that schedulers look; a second call adds nothing."""
        before = await controls.version()
        operation = a_bulk_operation()
        audit = an_audit(operation)

        await bulk.create(operation, audit)
        await bulk.create(operation, an_audit(operation))

        version = await controls.version()
        assert version > before
        (written,) = await controls.operations(limit=9)
        assert written == replace(audit, version=version)

    async def test_bu_8_what_is_stopped_takes_no_more_batches(
        self, store: Store, bulk: Bulk, controls: Controls
    ) -> None:
        """What was done stays done; what has ended is not stopped again."""
        for _ in range(3):
            await added(store)
        operation = await begun(bulk, BulkAction.CANCEL)
        stepped = await step(bulk, limit=1)
        audit = partial(an_audit, operation, Action.BULK_STOP)

        ended = await bulk.stop(operation.id, audit(at=later(200)))
        again = await bulk.stop(operation.id, audit(at=later(300)))

        assert stepped.operation is not None
        assert ended == again == stopped(stepped.operation, now=later(200))
        assert await step(bulk, later(10_000)) == Stepped(None, frozenset(), None)
        actions = [each.action for each in await controls.operations(limit=9)]
        assert actions == [Action.BULK_STOP, Action.BULK]
        assert await bulk.stop(an_id(), audit(at=NOW)) is None

    async def test_bu_9_what_ended_long_ago_is_forgotten(self, bulk: Bulk) -> None:
        """The oldest first, a bounded number at once; never what is under way."""
        operations = [await begun(bulk, BulkAction.RETRY) for _ in range(4)]
        for number, operation in enumerate(operations[:3]):
            await bulk.stop(operation.id, an_audit(operation, at=later(number)))

        counts = [await bulk.forget(later(2), limit=1) for _ in range(3)]

        assert counts == [1, 1, 0]
        left = [each.id for each in await bulk.operations(limit=9)]
        assert left == [operations[3].id, operations[2].id]
