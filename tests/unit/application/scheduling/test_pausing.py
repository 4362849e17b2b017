"""Pauses and limits that operators ordered, as schedulers and enqueues keep them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from async_jobs.adapters.memory.controls import MemoryControls
from async_jobs.application.handling.registry import JobRegistry
from async_jobs.application.in_force import FRESH_SECONDS, InForce
from async_jobs.domain.controls import Control, Scope
from async_jobs.domain.errors import QuotaExceededError, Unavailable
from async_jobs.domain.explain import Why
from async_jobs.domain.job import JobStatus
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.ports.controls import Standing
from async_jobs.testing.builders import (
    SimpleLimits,
    a_control,
    a_request,
    a_worker,
    an_operation,
    later,
)
from async_jobs.testing.clocks import ManualClock
from async_jobs.testing.system import MemorySystem, memory_system

USE_CASES = {"mail": UseCaseConfig(), "reports": UseCaseConfig()}


class Deaf(MemoryControls):
    """Controls that cannot be read while `is_down`."""

    is_down = False
    asked = 0

    async def version(self) -> int:
        self.asked += 1
        self.check()
        return await super().version()

    async def known(self, now: datetime) -> Standing:
        self.check()
        return await super().known(now)

    def check(self) -> None:
        if self.is_down:
            raise Unavailable("nobody answers")


class Unread(MemoryControls):
    """Controls of which nothing but their version can be read."""

    async def known(self, now: datetime) -> Standing:
        raise Unavailable("nobody answers")


@pytest.fixture
def system() -> MemorySystem:
    system = memory_system(use_cases=USE_CASES, registry=JobRegistry())

    @system.registry.handler("noisy")
    @system.registry.handler("quiet")
    def run(ctx: object, payload: object) -> None:
        pass

    return system


async def order(system: MemorySystem, control: Control) -> Control:
    """Put a control where there is none."""
    changed = await system.store.controls.change(an_operation(control), control, expected=0)
    assert changed.current is not None
    return changed.current


async def end(system: MemorySystem, control: Control) -> None:
    """End a control."""
    operation = an_operation(control, after=None)
    await system.store.controls.change(operation, control, expected=control.version, ends=True)


async def enqueued(system: MemorySystem, count: int, **overrides: object) -> None:
    given = {"use_case": "mail", "type": "noisy", **overrides}
    for _ in range(count):
        await system.service.enqueue(a_request(**given))


async def waiting(system: MemorySystem, use_case: str | None = None) -> int:
    page = await system.service.list_jobs(use_case=use_case, status=JobStatus.PENDING, limit=1_000)
    return len(page.jobs)


@pytest.mark.parametrize(
    "names",
    [
        {"use_case": "mail"},
        {"tenant_id": "acme"},
        {"type": "noisy"},
        {"queue": "mail"},
        {"use_case": "mail", "tenant_id": "acme"},
        {"tenant_id": "acme", "type": "noisy"},
    ],
)
async def test_what_is_paused_does_not_start_until_it_is_resumed(
    system: MemorySystem, names: dict[str, str]
) -> None:
    """And all else goes on; at the end all have run, with the attempts of anybody."""
    scope = Scope(**names)
    await enqueued(system, 5)
    await enqueued(system, 5, tenant_id="globex", use_case="reports", type="quiet")
    control = await order(system, a_control(scope=scope))

    await system.run_until_idle()
    await enqueued(system, 5)
    await system.run_until_idle()

    assert await waiting(system, use_case="mail") == 10
    assert await waiting(system, use_case="reports") == 0
    await end(system, control)
    await system.run_until_idle()
    page = await system.service.list_jobs(limit=100)
    assert {(job.status, job.attempts) for job in page.jobs} == {(JobStatus.SUCCEEDED, 1)}


async def test_what_is_hidden_from_turns_is_told_of(system: MemorySystem) -> None:
    """By whom and why, in the status too: it is due, and nobody is missing for it."""
    await system.workers.announce(a_worker(queues=("mail",), types=("noisy", "quiet")))
    await order(system, a_control(scope=Scope(type="noisy")))
    await order(system, a_control(scope=Scope(type="quiet", use_case="reports")))
    await enqueued(system, 3)
    await system.run_until_idle()

    of_use_case = await system.operations.explain_waiting(use_case="mail")
    of_tenant = await system.operations.explain_waiting(tenant_id="acme")
    status = await system.operations.status()

    assert "start now. All of type 'noisy' is paused by 'ada' (the prov" in of_use_case.sentence
    assert "quiet" not in of_use_case.sentence
    assert "start now. All of type 'noisy' is paused since" in of_tenant.sentence
    scopes = [each.data["scope"] for each in status.warnings if each.code == "paused"]
    assert scopes == [{"type": "noisy"}]


async def test_what_an_operator_paused_is_changed_by_ending_that(system: MemorySystem) -> None:
    """Raising the limits of the environment would change nothing."""
    await enqueued(system, 1)
    await order(system, a_control(scope=Scope(use_case="mail")))

    waiting = await system.operations.explain_waiting(use_case="mail")
    status = await system.operations.status()

    changes = {each.code: each.change for each in waiting.reasons}
    assert changes[Why.USE_CASE_PAUSED].startswith("the control has to be ended")
    assert [each.code for each in status.warnings if "paused" in each.code] == ["paused"]


async def test_a_pause_ends_by_itself(system: MemorySystem) -> None:
    """At its instant, without a word."""
    await enqueued(system, 3)
    until = system.clock.now() + timedelta(seconds=60)
    await order(system, a_control(scope=Scope(type="noisy"), until=until))
    await system.run_until_idle()
    assert await waiting(system) == 3

    system.clock.advance(seconds=60)
    await system.run_until_idle()

    assert await waiting(system) == 0


async def test_one_of_two_pauses_is_not_enough(system: MemorySystem) -> None:
    """What the other one covers stays where it is."""
    await enqueued(system, 2)
    await enqueued(system, 2, type="quiet")
    both = await order(system, a_control(scope=Scope(queue="mail")))
    await order(system, a_control(scope=Scope(type="noisy")))
    await system.run_until_idle()

    await end(system, both)
    await system.run_until_idle()

    left = (await system.service.list_jobs(status=JobStatus.PENDING)).jobs
    assert {job.type for job in left} == {"noisy"}


async def test_a_limit_is_kept_from_the_next_tick_on(system: MemorySystem) -> None:
    """A tenant that was not limited is, at once."""
    await enqueued(system, 5)
    await order(system, a_control(scope=Scope(tenant_id="acme"), limits={"max_running": 2}))

    tick = await system.scheduler.tick()

    assert tick.leased == 2


async def test_a_quota_is_kept_by_enqueues_within_two_seconds() -> None:
    """Without any signal; who asked a moment ago asks nobody."""
    system = memory_system(use_cases=USE_CASES)
    await enqueued(system, 2)
    limits = {"max_pending_jobs": 2}
    control = await order(system, a_control(scope=Scope(tenant_id="acme"), limits=limits))

    system.clock.advance(seconds=FRESH_SECONDS)
    with pytest.raises(QuotaExceededError, match="may have 2 pending jobs"):
        await enqueued(system, 1)
    await end(system, control)
    with pytest.raises(QuotaExceededError):
        await enqueued(system, 1)

    system.clock.advance(seconds=FRESH_SECONDS)
    await enqueued(system, 1)


async def test_what_cannot_be_read_leaves_what_was_known() -> None:
    """And is told of until it can be read again."""
    clock, controls = ManualClock(), Deaf()
    in_force = InForce(SimpleLimits(USE_CASES), controls, clock=clock)
    control = a_control(scope=Scope(use_case="mail"))
    await controls.change(an_operation(control), control, expected=0)
    await in_force.refresh()

    controls.is_down = True
    clock.advance(seconds=FRESH_SECONDS)
    await in_force.refresh()

    assert in_force.use_case_configs["mail"].max_concurrent == 0
    assert "Unavailable: nobody answers" in (in_force.problem or "")
    await in_force.refresh()
    assert controls.asked == 2
    controls.is_down = False
    clock.advance(seconds=FRESH_SECONDS)
    await in_force.refresh()
    assert in_force.problem is None


async def test_who_has_never_read_the_controls_starts_nothing() -> None:
    """They may be all that keeps jobs from starting."""
    controls = Deaf()
    control = a_control()
    await controls.change(an_operation(control), control, expected=0)
    in_force = InForce(SimpleLimits(USE_CASES), controls, clock=ManualClock())
    controls.is_down = True

    assert not in_force.knows(1)
    with pytest.raises(Unavailable):
        await in_force.read(later())


async def test_who_has_never_read_the_controls_enqueues() -> None:
    """By the limits of the environment, also where it is told that there are controls."""
    controls = Unread()
    control = a_control(scope=Scope(use_case="mail"))
    await controls.change(an_operation(control), control, expected=0)
    in_force = InForce(SimpleLimits(USE_CASES), controls, clock=ManualClock())

    await in_force.refresh()

    assert in_force.use_case_configs == USE_CASES
    assert "Unavailable: nobody answers" in str(in_force.problem)


async def test_where_there_was_never_a_control_none_is_read() -> None:
    """The turn says so."""
    controls = Deaf()
    controls.is_down = True
    in_force = InForce(SimpleLimits(USE_CASES), controls, clock=ManualClock())

    assert in_force.knows(0)
    assert in_force.problem is None


async def test_operations_are_forgotten_after_four_hundred_days(system: MemorySystem) -> None:
    """By whichever scheduler ticks then; what stands is kept."""
    since = system.clock.now()
    control = await order(system, a_control(scope=Scope(type="noisy"), since=since))
    await system.run_until_idle()
    system.clock.advance(seconds=timedelta(days=399).total_seconds())
    await system.run_until_idle()
    assert len(await system.store.controls.operations(limit=9)) == 1

    system.clock.advance(seconds=timedelta(days=2).total_seconds())
    await system.run_until_idle()

    assert list(await system.store.controls.operations(limit=9)) == []
    assert list((await system.store.controls.known(system.clock.now())).controls) == [control]
