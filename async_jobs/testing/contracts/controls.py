"""The contract of `Controls`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from async_jobs.domain.audit import Action, Operation, described
from async_jobs.domain.controls import Control, Scope
from async_jobs.ports.controls import Changed, Controls
from async_jobs.testing.builders import a_control, an_id, an_operation, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.contracts.scenes import race


async def put(controls: Controls, control: Control, *, expected: int = 0) -> Changed:
    """Put a control, by an operation at the instant since when it is."""
    return await controls.change(an_operation(control), control, expected=expected)


class ControlsContract:
    """Everything `Controls` promises, CT-1 to CT-6.

    Subclass it as `TestMyControls` and override the fixture `controls`.
    """

    @pytest.fixture
    async def controls(self) -> Controls:
        """The adapter under test, without any control or operation."""
        raise NotImplementedError("override the fixture `controls`")

    async def test_ct_1_controls_are_known_as_they_were_put(self, controls: Controls) -> None:
        """Every field of them, by version; whatever names are given."""
        scopes = [
            Scope(use_case="mail", tenant_id="a'\"é", type="%", queue="\\"),
            Scope(type="send_email"),
            Scope(queue="mail"),
            Scope(tenant_id="acme"),
            Scope(use_case="mail"),
        ]
        expected = []
        for number, scope in enumerate(scopes):
            control = a_control(scope=scope, until=later(60.000_001 * (number + 1)))
            changed = await put(controls, control)
            expected.append(replace(control, version=changed.version))
        limited = a_control(
            scope=Scope(use_case="mail"), limits={"max_concurrent": 3, "late_policy": "run"}
        )
        expected.append(replace(limited, version=(await put(controls, limited)).version))

        known = await controls.known(NOW)

        assert list(known.controls) == expected
        assert known.version == await controls.version() == expected[-1].version

    async def test_ct_1_what_has_ended_is_not_known(self, controls: Controls) -> None:
        """At the instant of its end, by itself."""
        await put(controls, a_control(until=later(60)))

        assert len((await controls.known(later(59.999_999))).controls) == 1
        assert len((await controls.known(later(60))).controls) == 0

    async def test_ct_2_a_change_wants_what_stands(self, controls: Controls) -> None:
        """Who has not seen it changes nothing, and is told of it."""
        first = await put(controls, a_control())
        other = a_control(actor="bob")

        refused = [
            await put(controls, other),
            await put(controls, other, expected=first.version + 1),
        ]
        replaced = await put(controls, other, expected=first.version)

        assert [each.applied for each in refused] == [False, False]
        assert [each.current for each in refused] == [first.current, first.current]
        assert replaced.applied
        assert replaced.current == replace(other, version=replaced.version)
        assert list((await controls.known(NOW)).controls) == [replaced.current]

    async def test_ct_2_the_end_of_a_control_wants_it_too(self, controls: Controls) -> None:
        """It is gone then, and its place is free."""
        control = a_control()
        put_first = await put(controls, control)
        ending = an_operation(control, action=Action.RESUME, before=described(control), after=None)

        lost = await controls.change(ending, control, expected=0, ends=True)
        ended = await controls.change(ending, control, expected=put_first.version, ends=True)

        assert (lost.applied, ended.applied) == (False, True)
        assert ended.current is None
        assert list((await controls.known(NOW)).controls) == []
        assert (await put(controls, a_control())).applied

    async def test_ct_2_one_that_has_ended_is_none(self, controls: Controls) -> None:
        """Its place is free as if it had never been."""
        await put(controls, a_control(until=later(60)))

        assert not (await put(controls, a_control(since=later(59)))).applied
        assert (await put(controls, a_control(since=later(60)))).applied

    async def test_ct_2_of_racing_changes_one_wins(self, controls: Controls) -> None:
        """And its operation is the only one."""
        racing = [a_control(actor=f"operator {number}") for number in range(8)]

        answers = await race(*(put(controls, each) for each in racing))

        (winner,) = [each for each, answer in zip(racing, answers, strict=True) if answer.applied]
        assert {each.current and each.current.id for each in answers} == {winner.id}
        assert [each.actor for each in await controls.operations(limit=10)] == [winner.actor]

    async def test_ct_3_an_operation_comes_with_its_change(self, controls: Controls) -> None:
        """A change that is refused leaves none."""
        control = a_control(limits={"weight": 2.5}, scope=Scope(tenant_id="acme"), until=later(9))
        operation = an_operation(control, before={"limits": None, "reason": "…"}, address="::1")

        changed = await controls.change(operation, control, expected=0)
        await put(controls, a_control(scope=control.scope, limits={"weight": 3.0}))

        assert list(await controls.operations(limit=10)) == [
            replace(operation, version=changed.version)
        ]

    async def test_ct_3_a_change_can_be_repeated(self, controls: Controls) -> None:
        """When the reply was lost."""
        control = a_control()
        operation = an_operation(control)

        first = await controls.change(operation, control, expected=0)
        second = await controls.change(operation, control, expected=0)

        assert first.applied
        assert second.applied
        assert second.current == first.current
        assert second.version == await controls.version() == first.version
        assert len(await controls.operations(limit=10)) == 1

    async def test_ct_4_the_version_grows_with_changes(self, controls: Controls) -> None:
        """And with nothing else."""
        before = await controls.version()
        first = await put(controls, a_control())
        await put(controls, a_control())
        await controls.known(NOW)
        await controls.forget(NOW, limit=10)
        between = await controls.version()
        second = await put(controls, a_control(scope=Scope(tenant_id="acme")))

        assert before < first.version == between < second.version == await controls.version()

    async def test_ct_5_operations_are_paged(self, controls: Controls) -> None:
        """The newest first; of a control, or of tenants, only those that are asked for."""
        written: list[Operation] = []
        for number in range(5):
            scope = Scope(use_case=f"u{number}", tenant_id="acme" if number % 2 else None)
            control = a_control(scope=scope, since=later(number))
            operation = an_operation(control)
            changed = await controls.change(operation, control, expected=0)
            written.insert(0, replace(operation, version=changed.version))

        first = await controls.operations(limit=3)
        rest = await controls.operations(limit=3, before=first[-1].id)
        one = written[2]

        assert [*first, *rest] == written
        assert list(await controls.operations(limit=9, control_id=one.control_id)) == [one]
        assert list(await controls.operations(limit=9, control_id=an_id())) == []
        assert list(await controls.operations(limit=9, tenants=["acme", "x"])) == written[1::2]
        assert list(await controls.operations(limit=9, tenants=["x"])) == []

    async def test_ct_6_what_is_old_is_forgotten(self, controls: Controls) -> None:
        """The oldest first, a bounded number at once; what stands stays."""
        for number in range(4):
            until = later(number + 0.5) if number < 2 else None
            control = a_control(
                scope=Scope(use_case=f"u{number}"), since=later(number), until=until
            )
            await put(controls, control)
        version = await controls.version()

        counts = [await controls.forget(later(3), limit=2) for _ in range(3)]

        assert counts == [2, 1, 0]
        assert [each.at for each in await controls.operations(limit=9)] == [later(3)]
        standing = await controls.known(NOW - timedelta(days=1))
        assert [each.scope.use_case for each in standing.controls] == ["u2", "u3"]
        assert standing.version == version
