"""The contract of `BulkSteering`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from async_jobs.domain.audit import Action, Operator
from async_jobs.domain.bulk import BULK_MAX, TOKEN_LASTS, Amendment, BulkAction, BulkState
from async_jobs.domain.controls import Scope
from async_jobs.domain.errors import BulkNotFoundError, InvalidJobError
from async_jobs.domain.filters import JobQuery
from async_jobs.domain.job import JobStatus, Phase
from async_jobs.ports.bulk import Bulk
from async_jobs.ports.bulk_steering import BulkRequest, BulkSteering
from async_jobs.ports.controls import Controls
from async_jobs.ports.store import Store
from async_jobs.testing.builders import an_id, later
from async_jobs.testing.clocks import ManualClock
from async_jobs.testing.contracts.bulk import all_of, step
from async_jobs.testing.contracts.scenes import added, in_phase, the_job

ADA, BOB = Operator(actor="ada", address="10.0.0.7"), Operator(actor="bob")
WHY = "the provider is back"
CANCEL = BulkRequest(action=BulkAction.CANCEL, criteria=JobQuery(tenant_id="acme"))
RETRY = BulkRequest(action=BulkAction.RETRY, criteria=JobQuery(tenant_id="acme"))


class BulkSteeringContract:
    """Everything `BulkSteering` promises, BS-1 to BS-7.

    Subclass it as `TestMyBulkSteering` and override the fixtures.
    """

    @pytest.fixture
    async def store(self) -> Store:
        """The store whose jobs are changed, without any."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    async def bulk(self, store: Store) -> Bulk:
        """What is kept beside it."""
        raise NotImplementedError("override the fixture `bulk`")

    @pytest.fixture
    async def controls(self, store: Store) -> Controls:
        """The controls beside the store, which keep the audit."""
        raise NotImplementedError("override the fixture `controls`")

    @pytest.fixture
    async def bulk_steering(self, bulk: Bulk) -> BulkSteering:
        """The port under test, over `bulk`."""
        raise NotImplementedError("override the fixture `bulk_steering`")

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time of `bulk_steering`."""
        return ManualClock()

    async def test_bs_1_a_preview_counts_and_changes_nothing(
        self, store: Store, bulk_steering: BulkSteering, controls: Controls
    ) -> None:
        """The jobs that match, of the statuses that the action is for."""
        jobs = [await in_phase(store, Phase.DEAD) for _ in range(3)]
        await in_phase(store, Phase.DEAD, tenant_id="bolt")
        await in_phase(store, Phase.CANCELLED)

        preview = await bulk_steering.preview(RETRY)

        assert (preview.count, preview.at_least) == (3, False)
        assert sorted(await store.get([j.id for j in jobs]), key=lambda j: j.id) == jobs
        assert list(await bulk_steering.operations()) == []
        assert list(await controls.operations(limit=9)) == []

    async def test_bs_2_what_was_counted_is_changed(
        self, store: Store, bulk: Bulk, bulk_steering: BulkSteering, clock: ManualClock
    ) -> None:
        """And no more: one that comes between is not."""
        for _ in range(2):
            await added(store)
        preview = await bulk_steering.preview(CANCEL)
        await added(store)
        clock.advance(seconds=100)

        begun = await bulk_steering.start(CANCEL, token=preview.token, reason=WHY, operator=ADA)
        over = await all_of(bulk, begun)

        assert (begun.state, begun.matched, begun.maximum) == (BulkState.RUNNING, 2, 2)
        assert (over.done, over.state) == (2, BulkState.FINISHED)

    async def test_bs_2_a_greater_maximum_has_to_be_said(
        self, store: Store, bulk: Bulk, bulk_steering: BulkSteering, clock: ManualClock
    ) -> None:
        """Started again by its id, it is there once, as it stands."""
        preview = await bulk_steering.preview(CANCEL)
        for _ in range(3):
            await added(store)
        clock.advance(seconds=100)
        given: dict[str, Any] = {
            "token": preview.token,
            "reason": WHY,
            "operator": ADA,
            "maximum": 10,
            "operation_id": an_id(),
        }

        begun = await bulk_steering.start(CANCEL, **given)
        over = await all_of(bulk, begun)

        assert over.done == 3
        assert await bulk_steering.start(CANCEL, **given) == over
        assert list(await bulk_steering.operations()) == [over]

    async def test_bs_2_an_id_is_of_one_operation(
        self, bulk_steering: BulkSteering, controls: Controls
    ) -> None:
        """Another one by it is refused, and nothing is told of the one that is there."""
        by_id: dict[str, Any] = {"reason": WHY, "operator": ADA, "operation_id": an_id()}
        preview = await bulk_steering.preview(CANCEL)
        begun = await bulk_steering.start(CANCEL, token=preview.token, **by_id)
        of_bolt = replace(CANCEL, criteria=JobQuery(tenant_id="bolt"))

        for request in (of_bolt, RETRY):
            tenants = [str(request.criteria.tenant_id)]
            preview = await bulk_steering.preview(request, tenants=tenants)
            with pytest.raises(InvalidJobError) as refused:
                await bulk_steering.start(request, token=preview.token, tenants=tenants, **by_id)
            assert refused.value.field == "operation_id"
        assert list(await bulk_steering.operations()) == [begun]
        assert len(await controls.operations(limit=9)) == 1

    async def test_bs_2_a_token_is_of_one_request_and_time(
        self, bulk_steering: BulkSteering, clock: ManualClock
    ) -> None:
        """Of another one, or of long ago, it is refused, and nothing begins."""
        preview = await bulk_steering.preview(CANCEL)
        other = replace(CANCEL, criteria=JobQuery(tenant_id="bolt"))
        assert preview.until == clock.now() + TOKEN_LASTS

        for request in (other, RETRY, CANCEL):
            if request is CANCEL:
                clock.advance(seconds=TOKEN_LASTS.total_seconds())
            with pytest.raises(InvalidJobError) as refused:
                await bulk_steering.start(request, token=preview.token, reason=WHY, operator=ADA)
            assert refused.value.field == "token"
        assert list(await bulk_steering.operations()) == []

    @pytest.mark.parametrize(
        ("request_given", "given", "field"),
        [
            (replace(CANCEL, criteria=JobQuery()), {}, "filter"),
            (replace(CANCEL, criteria=JobQuery(tenant_id="a\nb")), {}, "tenant_id"),
            (
                replace(CANCEL, criteria=JobQuery(statuses=frozenset({JobStatus.DEAD}))),
                {},
                "statuses",
            ),
            (replace(CANCEL, action=BulkAction.UNDO), {}, "action"),
            (replace(CANCEL, action=BulkAction.TOLERATE), {}, "delay_tolerance"),
            (replace(CANCEL, amendment=Amendment(priority=1)), {}, "priority"),
            (CANCEL, {"reason": ""}, "reason"),
            (CANCEL, {"maximum": 0}, "max"),
            (CANCEL, {"maximum": BULK_MAX + 1}, "max"),
        ],
    )
    async def test_bs_3_what_is_out_of_bounds_is_refused(
        self,
        bulk_steering: BulkSteering,
        request_given: BulkRequest,
        given: dict[str, Any],
        field: str,
    ) -> None:
        """By its field; by the preview already, if it is about the jobs."""

        async def previewed_and_started() -> None:
            preview = await bulk_steering.preview(request_given)
            wanted = {"token": preview.token, "reason": WHY, "operator": ADA, **given}
            await bulk_steering.start(request_given, **wanted)

        with pytest.raises(InvalidJobError) as refused:
            await previewed_and_started()

        assert refused.value.field == field
        assert list(await bulk_steering.operations()) == []

    async def test_bs_3_all_jobs_have_to_be_meant(
        self, store: Store, bulk_steering: BulkSteering
    ) -> None:
        """By saying so."""
        await added(store)

        preview = await bulk_steering.preview(BulkRequest(action=BulkAction.CANCEL, all_jobs=True))

        assert preview.count == 1

    async def test_bs_4_it_is_told_how_far_each_is(
        self, store: Store, bulk: Bulk, bulk_steering: BulkSteering, clock: ManualClock
    ) -> None:
        """The newest first."""
        for _ in range(3):
            await added(store)
        preview = await bulk_steering.preview(CANCEL)
        clock.advance(seconds=100)
        first, second = [
            await bulk_steering.start(CANCEL, token=preview.token, reason=WHY, operator=ADA)
            for _ in range(2)
        ]

        stepped = await step(bulk, limit=2)

        assert stepped.operation is not None
        assert await bulk_steering.get(first.id) == stepped.operation
        assert stepped.operation.done == 2
        assert list(await bulk_steering.operations(limit=1)) == [second]
        assert list(await bulk_steering.operations(before=second.id)) == [stepped.operation]
        with pytest.raises(BulkNotFoundError):
            await bulk_steering.get(an_id())

    async def test_bs_5_what_was_cancelled_comes_back(
        self, store: Store, bulk: Bulk, bulk_steering: BulkSteering, clock: ManualClock
    ) -> None:
        """Also of what was stopped half-way; not while it is under way."""
        jobs = [await added(store) for _ in range(3)]
        preview = await bulk_steering.preview(CANCEL)
        clock.advance(seconds=100)
        begun = await bulk_steering.start(CANCEL, token=preview.token, reason=WHY, operator=ADA)
        await step(bulk, limit=2)

        with pytest.raises(InvalidJobError, match="must have ended"):
            await bulk_steering.undo(begun.id, reason=WHY, operator=ADA)
        stopped = await bulk_steering.stop(begun.id, reason="a mistake", operator=BOB)
        undo = await bulk_steering.undo(begun.id, reason="a mistake", operator=BOB)
        over = await all_of(bulk, undo)

        assert (stopped.state, stopped.done) == (BulkState.CANCELLED, 2)
        assert (undo.undoes, undo.matched, over.done) == (begun.id, 2, 2)
        for job in jobs:
            assert (await the_job(store, job.id)).phase is Phase.PENDING
        with pytest.raises(InvalidJobError, match="must be of a cancel"):
            await bulk_steering.undo(undo.id, reason=WHY, operator=ADA)

    async def test_bs_6_every_act_is_in_the_audit(
        self, bulk_steering: BulkSteering, controls: Controls, clock: ManualClock
    ) -> None:
        """Who, from where, why, and what was to be done."""
        request = BulkRequest(
            action=BulkAction.RESCHEDULE,
            criteria=JobQuery(types=frozenset({"mail"}), tenant_id="acme"),
            amendment=Amendment(run_at=later(600)),
        )
        preview = await bulk_steering.preview(request)
        begun = await bulk_steering.start(
            request, token=preview.token, reason=WHY, operator=ADA, maximum=5
        )
        clock.advance(seconds=1)
        await bulk_steering.stop(begun.id, reason="enough", operator=BOB)
        await bulk_steering.stop(begun.id, reason="again", operator=BOB)

        stop, start = await controls.operations(limit=9, control_id=begun.id)

        assert [start.action, stop.action] == [Action.BULK, Action.BULK_STOP]
        assert (start.actor, start.address, start.reason) == ("ada", "10.0.0.7", WHY)
        assert (stop.actor, stop.address, stop.reason) == ("bob", "", "enough")
        assert start.scope == stop.scope == Scope(tenant_id="acme", type="mail")
        assert start.after == {
            "action": "reschedule",
            "filter": {"tenant_id": "acme", "types": ["mail"]},
            "matched": 0,
            "max": 5,
            "run_at": later(600).isoformat(),
        }
        assert stop.at == start.at + timedelta(seconds=1)

    async def test_bs_7_within_tenants_nothing_of_others_is_reached(
        self, store: Store, bulk_steering: BulkSteering
    ) -> None:
        """A filter that does not name one of them is refused."""
        await added(store)
        preview = await bulk_steering.preview(CANCEL, tenants=["acme", "x"])
        mine = await bulk_steering.start(
            CANCEL, token=preview.token, reason=WHY, operator=ADA, tenants=["acme"]
        )
        everybodys = BulkRequest(action=BulkAction.CANCEL, all_jobs=True)

        assert preview.count == 1
        for request in (CANCEL, everybodys):
            with pytest.raises(InvalidJobError) as refused:
                await bulk_steering.preview(request, tenants=["bolt"])
            assert refused.value.field == "tenant_id"
        assert list(await bulk_steering.operations(tenants=["acme"])) == [mine]
        assert list(await bulk_steering.operations(tenants=["bolt"])) == []
        for call in (
            bulk_steering.get(mine.id, tenants=["bolt"]),
            bulk_steering.stop(mine.id, reason=WHY, operator=BOB, tenants=["bolt"]),
            bulk_steering.undo(mine.id, reason=WHY, operator=BOB, tenants=["bolt"]),
        ):
            with pytest.raises(BulkNotFoundError):
                await call
