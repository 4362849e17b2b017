"""The outlook that a service gives: what it counts, on which slots, and that it changes nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from async_jobs.adapters.memory.statistics import MemoryStatistics
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.application.enqueueing.service import JobService
from async_jobs.domain.controls import Scope
from async_jobs.domain.errors import ConfigurationError, InvalidJobError
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.domain.outlook import Outlook
from async_jobs.entrypoints.wiring import library
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.workers import Workers
from async_jobs.testing.builders import (
    SimpleLimits,
    a_control,
    a_request,
    a_worker,
    an_operation,
    later,
)
from async_jobs.testing.clocks import ManualChance, ManualClock
from async_jobs.testing.contracts.scenes import added, all_jobs
from async_jobs.testing.system import memory_system

LIMITS = SimpleLimits(
    use_case_configs={
        "notifications": UseCaseConfig(max_concurrent=100),
        "reports": UseCaseConfig(max_concurrent=100, queue="slow"),
        "exports": UseCaseConfig(max_concurrent=2, queue="slow"),
        "paused": UseCaseConfig(max_concurrent=0, queue="slow"),
    }
)
IN_A_MINUTE = timedelta(seconds=60)


class Office:
    """A service, the jobs it knows of, and the workers."""

    def __init__(self) -> None:
        self.store, self.workers = MemoryJobStore(), MemoryWorkers()
        self.service = self.served(statistics=MemoryStatistics(self.store), workers=self.workers)

    def served(
        self, *, statistics: Statistics | None = None, workers: Workers | None = None
    ) -> JobService:
        return JobService(
            LIMITS,
            self.store,
            clock=ManualClock(),
            chance=ManualChance(),
            statistics=statistics,
            workers=workers,
        )

    async def hires(self, *queues: str, slots: int = 10, busy: int = 10, **seconds: float) -> None:
        await self.workers.announce(
            a_worker(queues=queues, slots=slots, busy=busy, run_times=seconds)
        )

    async def foresees(
        self, use_case: str, type: str = "send_email", *, queue: str | None = None
    ) -> Outlook:
        return await self.service.outlook(
            a_request(use_case=use_case, type=type, queue=queue, delay_tolerance=IN_A_MINUTE)
        )


@pytest.fixture
def office() -> Office:
    return Office()


async def test_nothing_is_enqueued(office: Office) -> None:
    """Whatever the answer is."""
    await office.hires("notifications")

    await office.foresees("notifications")

    assert await all_jobs(office.store) == []


async def test_what_shares_the_slots_stands_ahead(office: Office) -> None:
    """Of all use cases and tenants, if its deadline is not after the job's own."""
    await office.hires("notifications", "slow")
    for use_case, seconds in (("notifications", 30), ("reports", 60), ("exports", 61)):
        await added(office.store, use_case=use_case, tenant_id=use_case, deadline_at=later(seconds))

    outlook = await office.foresees("notifications")

    assert (outlook.ahead, outlook.capacity_rate) == (2, 10.0)
    assert (outlook.can_be_met, outlook.at_least) == (True, False)


async def test_what_runs_elsewhere_does_not(office: Office) -> None:
    """Workers that have no queue in common are two pools."""
    await office.hires("notifications", slots=3)
    await office.hires("slow", slots=5)
    await added(office.store, use_case="reports")

    outlook = await office.foresees("notifications")

    assert (outlook.ahead, outlook.capacity_rate) == (0, 3.0)


async def test_run_times_are_those_that_workers_tell(office: Office) -> None:
    """The mean of all that ran the type lately; a guess of a second for others."""
    await office.hires("notifications", send_email=2)
    await office.hires("notifications", send_email=6)

    known = await office.foresees("notifications", "send_email")
    unknown = await office.foresees("notifications", "send_fax")

    assert (known.capacity_rate, unknown.capacity_rate) == (5.0, 20.0)


async def test_a_use_case_is_held_to_its_own_capacity(office: Office) -> None:
    """However many slots there are; only what is its own stands ahead of it there."""
    await office.hires("slow", slots=100, busy=50)
    for use_case in ("exports", *["reports"] * 30):
        await added(office.store, use_case=use_case)

    exports, reports = await office.foresees("exports"), await office.foresees("reports")

    assert (exports.ahead, exports.capacity_rate) == (1, 2.0)
    assert (reports.ahead, reports.required_rate) == (31, 0.0)


async def test_slots_that_do_not_receive_its_queue_do_not_count(office: Office) -> None:
    """Though others of the pool may."""
    await office.hires("notifications", "slow", slots=1, busy=1)
    await office.hires("notifications", slots=50, busy=50)

    reports, mails = await office.foresees("reports"), await office.foresees("notifications")

    assert (reports.capacity_rate, mails.capacity_rate) == (1.0, 51.0)


async def test_the_queue_of_the_request_decides_on_the_slots(office: Office) -> None:
    """As it will when the job is enqueued."""
    await office.hires("slow", slots=7)

    outlook = await office.foresees("notifications", queue="slow")

    assert outlook.capacity_rate == 7.0


@pytest.mark.parametrize("use_case", ["notifications", "paused"])
async def test_without_slots_nothing_can_be_met(office: Office, use_case: str) -> None:
    """No worker receives the one's queue, and the other may run nothing."""
    await office.hires("slow", busy=0)

    outlook = await office.foresees(use_case)

    assert (outlook.can_be_met, outlook.expected_start_in_seconds) == (False, None)


@pytest.mark.parametrize(
    "names",
    [{"use_case": "notifications"}, {"tenant_id": "acme"}, {"type": "send_email"}],
    ids=["use case", "tenant", "type"],
)
async def test_what_operators_pause_cannot_be_met(names: dict[str, str]) -> None:
    """By the controls that stand now, though this service has enqueued nothing."""
    system = memory_system(use_cases=["notifications"])
    await system.workers.announce(a_worker(slots=2))
    control = a_control(scope=Scope(**names))
    await system.store.controls.change(an_operation(control), control, expected=0)

    outlook = await system.service.outlook(a_request())

    assert (outlook.can_be_met, outlook.expected_start_in_seconds) == (False, None)


async def test_what_could_not_be_enqueued_has_no_outlook(office: Office) -> None:
    """The same error as that of an enqueue."""
    with pytest.raises(InvalidJobError, match="use_case: is not configured"):
        await office.foresees("nobody knows it")


async def test_a_service_says_what_it_lacks(office: Office) -> None:
    """By the names of its arguments."""
    statistics = MemoryStatistics(office.store)

    with pytest.raises(ConfigurationError, match="was given statistics and workers"):
        await office.served().outlook(a_request())
    with pytest.raises(ConfigurationError, match="was given workers"):
        await office.served(statistics=statistics).outlook(a_request())
    with pytest.raises(ConfigurationError, match="statistics and workers"):
        await library.JobService(LIMITS, office.store).outlook(a_request())


async def test_a_system_in_memory_foresees_what_the_workers_allow_that_a_test_announces() -> None:
    """There are none at first."""
    system = memory_system(use_cases=["notifications"])
    await system.service.enqueue(a_request())

    nobody = await system.service.outlook(a_request())
    await system.workers.announce(a_worker(slots=2))
    somebody = await system.service.outlook(a_request())

    assert (nobody.ahead, nobody.can_be_met) == (1, False)
    assert (somebody.ahead, somebody.can_be_met) == (1, True)
