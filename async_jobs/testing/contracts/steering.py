"""The contract of `Steering`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from async_jobs.domain.audit import Action, Operator
from async_jobs.domain.controls import Control, Scope
from async_jobs.domain.errors import (
    ControlChanged,
    ControlNotFoundError,
    InvalidJobError,
)
from async_jobs.ports.steering import ControlRequest, Steering
from async_jobs.testing.builders import an_id, later
from async_jobs.testing.clocks import NOW, ManualClock

ADA, BOB = Operator(actor="ada", address="10.0.0.7"), Operator(actor="bob")
MAIL = Scope(use_case="notifications")


def a_pause(scope: Scope = MAIL, **overrides: Any) -> ControlRequest:
    """Return a request to pause."""
    wanted: dict[str, Any] = {"reason": "the provider is down", **overrides}
    return ControlRequest(scope=scope, **wanted)


def a_limit(**limits: Any) -> ControlRequest:
    """Return a request to limit a use case."""
    return a_pause(limits=limits or {"max_concurrent": 3})


async def only(steering: Steering) -> Control:
    """Return the one control that stands."""
    (control,) = await steering.controls()
    return control


class SteeringContract:
    """Everything `Steering` promises, SE-1 to SE-6; made with `KIT_LIMITS`.

    Subclass it as `TestMySteering` and override the fixtures.
    """

    @pytest.fixture
    async def steering(self) -> Steering:
        """The port under test, without any control or operation."""
        raise NotImplementedError("override the fixture `steering`")

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The time of `steering`."""
        return ManualClock()

    async def test_se_1_what_stands_is_told(self, steering: Steering, clock: ManualClock) -> None:
        """With all there is to know of it, and no longer than it stands."""
        put = await steering.put(a_pause(until=later(60)), operator=ADA)
        limit = await steering.put(a_limit(), operator=BOB)

        assert list(await steering.controls()) == [put, limit]
        assert (put.scope, put.limits, put.actor) == (MAIL, None, "ada")
        assert (put.reason, put.since, put.until) == ("the provider is down", NOW, later(60))
        assert limit.limits == {"max_concurrent": 3}
        assert limit.version > put.version > 0
        clock.advance(seconds=60)
        assert list(await steering.controls()) == [limit]

    async def test_se_2_a_change_wants_the_version(self, steering: Steering) -> None:
        """Who does not know what stands is told who put it, and why."""
        first = await steering.put(a_limit(), operator=ADA)

        with pytest.raises(ControlChanged, match="by 'ada': the provider is down") as refused:
            await steering.put(a_limit(max_concurrent=9), operator=BOB)
        assert refused.value.version == first.version
        second = await steering.put(
            a_limit(max_concurrent=9), operator=BOB, expected_version=first.version
        )
        with pytest.raises(ControlChanged):
            await steering.end(
                second.id, reason="over", operator=ADA, expected_version=first.version
            )

        assert second.id == first.id
        assert await only(steering) == second
        await steering.end(second.id, reason="over", operator=ADA)
        assert list(await steering.controls()) == []
        with pytest.raises(ControlChanged, match="no control stands there"):
            await steering.put(a_limit(), operator=ADA, expected_version=second.version)

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"scope": Scope(use_case="unknown")}, "scope.use_case"),
            ({"reason": ""}, "reason"),
            ({"until": NOW}, "until"),
            ({"limits": {"max_concurrent": -1}}, "limits.max_concurrent"),
            ({"limits": {}}, "limits"),
            (
                {"scope": Scope(tenant_id="a"), "limits": {"max_running": 2**40}},
                "limits.max_running",
            ),
            ({"scope": Scope(type="t"), "limits": {"weight": 2}}, "scope"),
        ],
    )
    async def test_se_3_what_is_out_of_bounds_is_refused(
        self, steering: Steering, given: dict[str, Any], field: str
    ) -> None:
        """By its field; a preview says the same."""
        request = a_pause(**given)

        for call in (steering.preview(request), steering.put(request, operator=ADA)):
            with pytest.raises(InvalidJobError) as refused:
                await call
            assert refused.value.field == field
        assert list(await steering.controls()) == []
        assert list(await steering.audit()) == []

    async def test_se_4_a_preview_tells_and_changes_nothing(self, steering: Steering) -> None:
        """What holds, what would, and how much runs."""
        standing = await steering.put(a_limit(max_concurrent=3), operator=ADA)

        limit = await steering.preview(a_limit(max_concurrent=7))
        pause = await steering.preview(a_pause())
        of_type = await steering.preview(a_pause(Scope(type="send_email")))

        assert (limit.current, limit.changes) == (standing, {"max_concurrent": (3, 7)})
        assert (pause.current, pause.changes) == (None, {"max_concurrent": (3, 0)})
        assert (pause.running, of_type.running) == (0, None)
        assert await only(steering) == standing
        assert len(await steering.audit()) == 1

    async def test_se_5_every_change_is_in_the_audit(self, steering: Steering) -> None:
        """Who, from where, why, and what was and is."""
        control = await steering.put(a_pause(until=later(60)), operator=ADA)
        await steering.end(control.id, reason="it is back", operator=BOB)

        ended, put = await steering.audit(control_id=control.id)

        assert [put.action, ended.action] == [Action.PAUSE, Action.RESUME]
        assert (put.actor, put.address, put.reason) == ("ada", "10.0.0.7", "the provider is down")
        assert (ended.actor, ended.address, ended.reason) == ("bob", "", "it is back")
        assert put.before is None
        assert put.after == ended.before
        assert put.after is not None
        assert put.after["until"] == later(60).isoformat()
        assert ended.after is None
        assert list(await steering.audit(limit=1)) == [ended]
        assert list(await steering.audit(before=ended.id)) == [put]

    async def test_se_5_a_change_is_reverted(self, steering: Steering) -> None:
        """What stood before stands again, unless somebody changed it since."""
        first = await steering.put(a_limit(max_concurrent=3), operator=ADA)
        await steering.put(a_limit(max_concurrent=9), operator=ADA, expected_version=first.version)
        second, put = await steering.audit()

        with pytest.raises(ControlChanged):
            await steering.revert(put.id, reason="no", operator=BOB)
        back = await steering.revert(second.id, reason="it was right", operator=BOB)
        assert back is not None
        assert back == await only(steering)
        assert (back.limits, back.actor) == ({"max_concurrent": 3}, "bob")
        (reverting, *_) = await steering.audit()
        assert await steering.revert(reverting.id, reason="no", operator=ADA) is not None
        assert (await only(steering)).limits == {"max_concurrent": 9}

    async def test_se_5_an_end_and_a_beginning_are_reverted(self, steering: Steering) -> None:
        """Into a beginning, and an end."""
        control = await steering.put(a_pause(), operator=ADA)
        await steering.end(control.id, reason="over", operator=ADA)
        (ended, _) = await steering.audit()

        again = await steering.revert(ended.id, reason="not over", operator=BOB)
        assert again is not None
        assert again.is_pause
        (reverting, *_) = await steering.audit()
        assert reverting.action is Action.REVERT
        assert await steering.revert(reverting.id, reason="over now", operator=BOB) is None
        assert list(await steering.controls()) == []

    async def test_se_6_within_tenants_others_are_out_of_reach(self, steering: Steering) -> None:
        """They look as if they were missing."""
        of_all = await steering.put(a_pause(Scope(type="send_email")), operator=ADA)
        theirs = await steering.put(a_pause(Scope(tenant_id="globex")), operator=ADA)
        mine = Scope(tenant_id="acme", type="send_email")
        own = await steering.put(a_pause(mine), operator=BOB, tenants=["acme"])

        assert list(await steering.controls(tenants=["acme"])) == [own]
        for scope in (theirs.scope, of_all.scope):
            for call in (
                steering.put(a_pause(scope), operator=BOB, tenants=["acme"]),
                steering.preview(a_pause(scope), tenants=["acme"]),
            ):
                with pytest.raises(InvalidJobError, match=r"scope\.tenant_id"):
                    await call
        operations = await steering.audit()
        foreign = {each.id: each.control_id for each in operations if each.control_id != own.id}
        for operation_id, control_id in [*foreign.items(), (an_id(), UUID(int=7))]:
            with pytest.raises(ControlNotFoundError):
                await steering.end(control_id, reason="x", operator=BOB, tenants=["acme"])
            with pytest.raises(ControlNotFoundError):
                await steering.revert(operation_id, reason="x", operator=BOB, tenants=["acme"])
        audited = await steering.audit(tenants=["acme"])
        assert [each.control_id for each in audited] == [own.id]
        assert len(await steering.controls()) == 3
