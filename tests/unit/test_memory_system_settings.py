"""How a system in memory is set up: use cases, quotas, transports, seed, clock and handlers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import get_args

import pytest

from async_jobs.adapters.memory.outbox import MemoryOutbox
from async_jobs.application.handling.registry import JobRegistry, job_registry
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.errors import InvalidJobError, QuotaExceededError
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.host import SystemClock
from async_jobs.testing import MemorySystem, SimpleLimits, memory_system
from async_jobs.testing.clocks import NOW
from async_jobs.testing.system import Transport
from tests.unit.greeting import greeting, request


@pytest.fixture
def async_jobs_registry() -> JobRegistry:
    """The handlers of these tests instead of everybody's."""
    return JobRegistry()


async def test_use_cases_may_be_named_or_set_up() -> None:
    """By name alone, with settings, or as an application's own configuration."""
    config = SimpleLimits(use_case_configs={"mails": UseCaseConfig(default_max_attempts=9)})
    systems = [
        memory_system(use_cases=["mails", "labels"], registry=JobRegistry()),
        memory_system(use_cases={"mails": UseCaseConfig(default_max_attempts=9)}),
        memory_system(config),
    ]

    attempts = []
    for system in systems:
        enqueued = await system.service.enqueue(request(use_case="mails"))
        attempts.append((await system.service.get_job(enqueued.job_id)).max_attempts)

    assert attempts == [5, 9, 9]


async def test_an_unknown_use_case_is_refused_as_in_production(async_jobs: MemorySystem) -> None:
    """A typing error is found by the unit test."""
    with pytest.raises(InvalidJobError, match="default"):
        await async_jobs.service.enqueue(request(use_case="defualt"))


async def test_quotas_hold_as_in_production() -> None:
    """Pending jobs and running ones."""
    system = memory_system(per_tenant_quotas={"acme": TenantQuota(max_pending_jobs=1)})
    await system.service.enqueue(request())

    with pytest.raises(QuotaExceededError):
        await system.service.enqueue(request())


async def test_late_policies_hold_as_in_production() -> None:
    """The clock is the test's."""
    registry = JobRegistry()
    greeted = greeting(registry)
    system = memory_system(
        use_cases={"default": UseCaseConfig(late_policy=LatePolicy.EXPIRE)}, registry=registry
    )
    await system.service.enqueue(request())
    system.clock.advance(seconds=61)

    ran = await system.run_until_idle()

    (job,) = await system.jobs()
    assert (ran, greeted, job.last_error) == (0, [], "deadline_missed")


async def test_several_queues_are_all_served() -> None:
    """Each use case's own one, and those that jobs name."""
    registry = JobRegistry()
    greeted = greeting(registry)
    system = memory_system(
        use_cases={
            "default": UseCaseConfig(),
            "mails": UseCaseConfig(queue="slow"),
            "labels": UseCaseConfig(),
        },
        registry=registry,
    )
    await system.service.enqueue(request(payload={"to": "default"}))
    await system.service.enqueue(request(use_case="mails", payload={"to": "mails"}))
    await system.service.enqueue(request(queue="labels", payload={"to": "labels"}))

    await system.run_until_idle()

    assert sorted(greeted) == ["default", "labels", "mails"]


@pytest.mark.parametrize("transport", get_args(Transport))
async def test_hand_offs_are_carried_by_either_transport(transport: Transport) -> None:
    """By default as on Postgres: with the lease's commit, and off it with the claim's."""
    registry = JobRegistry()
    greeted = greeting(registry)
    system = memory_system(registry=registry, transport=transport)
    await system.service.enqueue(request(payload={"to": "world"}))

    await system.run_until_idle()

    assert greeted == ["world"]
    assert isinstance(system.queue("default"), MemoryOutbox) == (transport == "outbox")
    assert isinstance(memory_system().queue("default"), MemoryOutbox)


def test_another_transport_is_refused() -> None:
    """By what is allowed."""
    with pytest.raises(ValueError, match="transport must be one of outbox, queue"):
        memory_system(transport="sqs")  # type: ignore[arg-type]


async def test_the_same_seed_gives_the_same_run() -> None:
    """Ids included, at the same instant; another seed gives others."""
    ids = []
    for seed in (1, 1, 2):
        system = memory_system(seed=seed, now=NOW)
        ids.append((await system.service.enqueue(request())).job_id)

    assert ids[0] == ids[1] != ids[2]


async def test_the_clock_stands_at_the_hosts_time(async_jobs: MemorySystem) -> None:
    """So that what an application asks for tomorrow is not long past."""
    greeted = greeting(async_jobs.registry)
    tomorrow = SystemClock().now() + timedelta(days=1)
    await async_jobs.service.enqueue(request(run_at=tomorrow))

    assert await async_jobs.run_until_idle() == 0
    async_jobs.clock.advance(seconds=24 * 3600 + 60)
    assert await async_jobs.run_until_idle() == 1
    assert greeted == ["Ada"]


async def test_the_clock_stands_where_it_is_told_to() -> None:
    """In UTC, as everywhere; an instant without a time zone is none."""
    there = datetime(2031, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    system = memory_system(now=there)

    assert system.clock.now() == there
    assert system.clock.now().tzinfo is UTC
    with pytest.raises(ValueError, match="now must be a datetime with a time zone"):
        memory_system(now=there.replace(tzinfo=None))


async def test_two_systems_share_nothing() -> None:
    """A test begins with an empty one."""
    one, other = memory_system(), memory_system()
    await one.service.enqueue(request())

    assert (len(await one.jobs()), await other.jobs()) == (1, [])


def test_the_handlers_are_everybodys_unless_others_are_given() -> None:
    """Those that `@job_registry.handler` registered."""
    assert memory_system().registry is job_registry


def test_a_module_may_bring_its_own_handlers(
    async_jobs: MemorySystem, async_jobs_registry: JobRegistry
) -> None:
    """By overriding the fixture."""
    assert async_jobs.registry is async_jobs_registry
