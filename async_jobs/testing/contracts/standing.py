"""What `Operations` promises of the controls that stand: a part of OP-6, within OP-3."""

from __future__ import annotations

from async_jobs.domain.controls import Control, Scope
from async_jobs.ports.controls import Controls
from async_jobs.ports.operations import Operations
from async_jobs.testing.builders import a_control, an_operation, later
from async_jobs.testing.contracts.jobs import KIT_LIMITS


async def ordered(controls: Controls, control: Control) -> None:
    """Put a control where there is none."""
    assert (await controls.change(an_operation(control), control, expected=0)).applied


class StandingContract:
    """A part of `OperationsContract`, which has the fixtures; `controls` are those it keeps."""

    async def test_op_6_status_tells_what_stands_and_whose_limit_holds(
        self, operations: Operations, controls: Controls
    ) -> None:
        """By whom and why, until when; what has ended is not there."""
        use_case = Scope(use_case="notifications")
        limit = a_control(scope=use_case, limits={"max_concurrent": 7}, until=later(60))
        pause = a_control(scope=Scope(type="send_email", tenant_id="acme"))
        await ordered(controls, limit)
        await ordered(controls, pause)
        await ordered(controls, a_control(scope=Scope(queue="slow"), until=later(-1)))

        status = await operations.status()

        limits = {each.use_case: (each.limit, each.limit_from) for each in status.use_cases}
        others = KIT_LIMITS.use_case_configs.keys() - {"notifications"}
        assert limits["notifications"] == (7, limit.id)
        assert {limits[name][1] for name in others} == {None}
        first, second = status.controls
        assert (first.id, first.scope, first.limits) == (limit.id, use_case.names, limit.limits)
        assert (first.since, first.until, first.version) == (limit.since, limit.until, 1)
        assert (second.id, second.scope, second.limits) == (pause.id, pause.scope.names, None)
        assert (second.actor, second.reason) == (pause.actor, pause.reason)

    async def test_op_3_within_tenants_others_controls_are_not_told(
        self, operations: Operations, controls: Controls
    ) -> None:
        """Nor who ordered those of all."""
        of_all = a_control(scope=Scope(type="send_email"))
        own, others = (a_control(scope=Scope(tenant_id=name)) for name in ("acme", "bolt"))
        for each in (of_all, own, others):
            await ordered(controls, each)

        status = await operations.status(tenants=["acme"])

        told = [(each.id, each.actor, each.reason) for each in status.controls]
        assert told == [(of_all.id, None, None), (own.id, own.actor, own.reason)]
