"""A scheduler announces itself where it wrote anyway: one row, every fifteen seconds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from async_jobs.adapters.memory.schedulers import MemorySchedulers
from async_jobs.application.scheduling.chores.announcing import BEAT_SECONDS, SILENT_SECONDS
from async_jobs.application.scheduling.noticing import PATIENCE_SECONDS
from async_jobs.domain import facts
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.domain.presence import SchedulerInfo
from async_jobs.domain.start_rates import LATELY_SECONDS, StartRates
from async_jobs.domain.troubles import digest_of
from async_jobs.testing.builders import SimpleLimits, a_scheduler
from async_jobs.testing.contracts.scenes import added
from tests.unit.application.stage import Stage


class Counted(MemorySchedulers):
    """Counts the announcements."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def announce(self, scheduler: SchedulerInfo) -> Sequence[SchedulerInfo]:
        self.calls += 1
        return await super().announce(scheduler)


async def test_a_scheduler_tells_of_its_tick_its_limits_and_what_it_started() -> None:
    """As of its last announcement."""
    stage = Stage()
    schedulers = Counted()
    scheduler = stage.scheduler(schedulers=schedulers)
    await scheduler.tick()
    for _ in range(5):
        await added(stage.memory)
    await scheduler.tick()
    stage.clock.advance(seconds=BEAT_SECONDS)
    await scheduler.tick()

    (known,) = await schedulers.known()

    now = stage.clock.now()
    assert (known.scheduler_id, known.ticked_at, known.tick_seconds) == ("scheduler-1", now, 0)
    assert known.alive_until == now + timedelta(seconds=SILENT_SECONDS)
    assert (known.leads, known.limits) == (("notifications",), {"notifications": 10})
    assert known.settings == digest_of(stage.config)
    assert known.start_rates == {"notifications": 5 / BEAT_SECONDS}
    assert known.turnovers.keys() == {"notifications"}


async def test_an_idle_scheduler_announces_itself_no_more_often_than_needed() -> None:
    """Once in fifteen seconds, however often it ticks."""
    stage = Stage()
    schedulers = Counted()
    scheduler = stage.scheduler(schedulers=schedulers)
    for _ in range(60):
        await scheduler.tick()
        stage.clock.advance(seconds=1)

    assert schedulers.calls == 60 / BEAT_SECONDS


async def test_limits_that_differ_are_told_once_they_have_lasted() -> None:
    """By each scheduler of the other one, with the use cases; equal limits are no news."""
    stage = Stage()
    schedulers = MemorySchedulers()
    scheduler = stage.scheduler(schedulers=schedulers)
    own = digest_of(stage.config)
    for name, limit, settings in (("same", 10, own), ("other", 3, "x"), ("silent", 3, "")):
        await schedulers.announce(
            a_scheduler(
                scheduler_id=name,
                limits={"notifications": limit},
                settings=settings,
                alive_until=stage.clock.now() + timedelta(hours=1),
            )
        )
    for _ in range(5):
        await scheduler.tick()
        stage.clock.advance(seconds=PATIENCE_SECONDS)

    (told,) = stage.telemetry.of(facts.LimitsDiffer)
    assert (told.scheduler_id, told.use_cases) == ("other", ("notifications",))


def test_a_digest_tells_limits_apart_by_which_schedulers_decide() -> None:
    """And by nothing else: what only an enqueue looks at may differ."""
    use_case, quota = UseCaseConfig(), TenantQuota(max_running=3)

    def digest(each: UseCaseConfig = use_case, tenant: TenantQuota = quota) -> str:
        return digest_of(
            SimpleLimits(use_case_configs={"mail": each}, per_tenant_quotas={"acme": tenant})
        )

    assert digest() == digest(UseCaseConfig(default_max_attempts=9, queue="mail"))
    assert digest() == digest(tenant=TenantQuota(max_running=3, max_pending_jobs=9))
    different = {
        digest(),
        digest(UseCaseConfig(max_concurrent=9)),
        digest(UseCaseConfig(queue="other")),
        digest(tenant=TenantQuota(max_running=4)),
        digest(tenant=TenantQuota(max_running=3, weight=2)),
    }
    assert len(different) == 5


def test_what_started_long_ago_weighs_less_and_less() -> None:
    """Of what is not repeated, a third is left after a minute."""
    rates = StartRates()
    rates.add({"mail": 9})
    assert rates.until(0) == {}
    rates.add({"mail": 30})

    first = rates.until(15)
    later = rates.until(74)

    assert first == {"mail": 2.0}
    assert 0.7 < later["mail"] < 0.75


@pytest.mark.parametrize(
    ("started", "elapsed", "quiet"), [(30, 15, LATELY_SECONDS), (1, 40, 3 * 40)]
)
def test_a_use_case_is_quiet_that_has_started_nothing_for_long(
    started: int, elapsed: float, quiet: float
) -> None:
    """For a minute, and for as long as three starts took; then its rate is not known."""
    rates = StartRates()
    rates.until(0)
    rates.add({"mail": started})

    assert rates.until(elapsed) == {"mail": started / elapsed}
    assert rates.until(elapsed + quiet - 1).keys() == {"mail"}
    assert rates.until(elapsed + quiet) == {}
    rates.add({"mail": 4})
    assert rates.until(elapsed + quiet + 4) == {"mail": 1.0}
