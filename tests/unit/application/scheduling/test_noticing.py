"""What a scheduler tells of jobs that wait without anything having failed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

import pytest

from async_jobs.adapters.memory.schedulers import MemorySchedulers
from async_jobs.adapters.memory.statistics import MemoryStatistics
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.application.scheduling.chores.announcing import SILENT_SECONDS
from async_jobs.application.scheduling.noticing import (
    LOOK_SECONDS,
    PATIENCE_SECONDS,
    TOLD_AGAIN_SECONDS,
    Notices,
    SchedulerWatch,
)
from async_jobs.domain import facts
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.domain.presence import SchedulerInfo
from async_jobs.ports.workers import WorkerInfo
from async_jobs.testing.builders import RecordingTelemetry, SimpleLimits, a_worker
from async_jobs.testing.clocks import ManualClock
from async_jobs.testing.contracts.scenes import added
from tests.unit.application.stage import Stage


class Watched:
    """Notices on a clock of the test's own, and what they have told."""

    def __init__(self, **use_cases: UseCaseConfig) -> None:
        self.clock = ManualClock()
        self.store = MemoryJobStore()
        self.telemetry = RecordingTelemetry()
        configs = use_cases or {"mail": UseCaseConfig()}
        self.notices = Notices(
            SimpleLimits(use_case_configs=configs, per_tenant_quotas={}),
            clock=self.clock,
            telemetry=self.telemetry,
            statistics=MemoryStatistics(self.store),
            transport="sqs",
        )

    async def told(self, *workers: WorkerInfo, seconds: float = 0.0) -> Sequence[dict[str, Any]]:
        """Return what is told newly when it looks after so many seconds."""
        before = len(self.telemetry.facts)
        self.clock.advance(seconds=seconds)
        await self.notices.look(workers)
        return [shown(fact) for fact in self.telemetry.facts[before:]]


def shown(fact: facts.Fact) -> dict[str, Any]:
    names: Collection[str] = type(fact).__dataclass_fields__
    told = {name: getattr(fact, name) for name in names if name != "at"}
    return {"kind": type(fact).__name__} | told


@pytest.fixture
def watched() -> Watched:
    return Watched()


def serving(*queues: str, transport: str = "sqs") -> WorkerInfo:
    return a_worker(queues=queues, transport=transport)


async def test_nothing_is_told_where_all_is_well(watched: Watched) -> None:
    """However long one looks."""
    watched.notices.handed_off(["mail"])
    await added(watched.store, use_case="mail")

    for _ in range(3):
        assert await watched.told(serving("mail"), seconds=TOLD_AGAIN_SECONDS) == []


async def test_a_queue_without_a_worker_is_told_once_an_hour(watched: Watched) -> None:
    """Not at once: its first worker may be on its way."""
    watched.notices.handed_off(["mail"])
    unattended = [{"kind": "QueueUnattended", "queue": "mail"}]

    assert await watched.told() == []
    assert await watched.told(seconds=PATIENCE_SECONDS) == unattended
    assert await watched.told(seconds=TOLD_AGAIN_SECONDS - 1) == []
    assert await watched.told(seconds=1) == unattended
    assert await watched.told(serving("mail"), seconds=TOLD_AGAIN_SECONDS) == []
    assert await watched.told(seconds=TOLD_AGAIN_SECONDS) == []


async def test_what_is_gone_before_it_is_told_begins_anew(watched: Watched) -> None:
    """A rollout is no trouble, however many there are."""
    for _ in range(5):
        watched.notices.handed_off(["mail"])
        assert await watched.told(seconds=PATIENCE_SECONDS - 1) == []
        assert await watched.told(serving("mail"), seconds=1) == []


async def test_a_queue_that_nobody_feeds_is_told(watched: Watched) -> None:
    """The name was mistyped, or its use case is no longer configured."""
    await watched.told(serving("mial"))

    assert await watched.told(serving("mial"), seconds=PATIENCE_SECONDS) == [
        {"kind": "QueueUnfed", "queue": "mial"}
    ]


async def test_transports_that_differ_are_told(watched: Watched) -> None:
    """One variable was forgotten; a worker that does not say, as older ones, is left alone."""
    workers = [
        serving("mail", transport="postgres"),
        serving("mail"),
        serving("mail", transport=""),
    ]
    await watched.told(*workers)

    assert await watched.told(*workers, seconds=PATIENCE_SECONDS) == [
        {"kind": "TransportsDiffer", "queue": "mail", "scheduler": "sqs", "worker": "postgres"}
    ]


async def test_a_use_case_that_is_no_longer_configured_is_told(watched: Watched) -> None:
    """As long as it has jobs."""
    await added(watched.store, use_case="former")
    await watched.told()

    assert await watched.told(seconds=PATIENCE_SECONDS) == [
        {"kind": "UseCaseUnknown", "use_case": "former"}
    ]


async def test_a_paused_use_case_is_told_at_the_start() -> None:
    """Nobody else says so, and its jobs wait."""
    watched = Watched(mail=UseCaseConfig(max_concurrent=0), labels=UseCaseConfig())
    paused = [{"kind": "UseCasePaused", "use_case": "mail"}]

    assert await watched.told() == paused
    assert await watched.told(seconds=60) == []
    assert await watched.told(seconds=TOLD_AGAIN_SECONDS) == paused


# --- that no scheduler runs, as others see it ---


class Outside:
    """A watch beside a scheduler that the test ticks, on one clock."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.schedulers = MemorySchedulers()
        self.scheduler = self.stage.scheduler(schedulers=self.schedulers, interval_seconds=1.0)
        self.telemetry = RecordingTelemetry()
        self.watch = SchedulerWatch(
            self.schedulers,
            MemoryStatistics(self.stage.memory),
            clock=self.stage.clock,
            telemetry=self.telemetry,
        )

    async def told(self, seconds: float) -> list[facts.Fact]:
        """Return what is told when it looks after so many seconds."""
        self.telemetry.facts.clear()
        self.stage.clock.advance(seconds=seconds)
        await self.watch.look()
        return list(self.telemetry.facts)


async def test_a_scheduler_that_never_was_is_missed_once_jobs_wait() -> None:
    """Once it has lasted, and again every hour."""
    outside = Outside()
    assert await outside.told(SILENT_SECONDS) == []
    await added(outside.stage.memory)

    assert await outside.told(0) == []
    assert await outside.told(PATIENCE_SECONDS) == [
        facts.SchedulerMissing(at=outside.stage.clock.now(), ticked_at=None)
    ]
    assert await outside.told(TOLD_AGAIN_SECONDS - 1) == []
    assert len(await outside.told(1)) == 1


async def test_a_scheduler_that_has_ended_is_missed_with_its_last_tick() -> None:
    """It told that it ticked for as long as it did, and nobody was missed then."""
    outside = Outside()
    ticked_at = outside.stage.clock.now()
    for _ in range(10):
        await added(outside.stage.memory, use_case="another")
        await outside.scheduler.tick()
        ticked_at = outside.stage.clock.now()
        assert await outside.told(LOOK_SECONDS) == []

    assert await outside.told(SILENT_SECONDS - LOOK_SECONDS) == []
    assert await outside.told(PATIENCE_SECONDS) == [
        facts.SchedulerMissing(at=outside.stage.clock.now(), ticked_at=ticked_at)
    ]

    await outside.scheduler.tick()
    assert await outside.told(PATIENCE_SECONDS) == []


async def test_a_scheduler_that_ticks_seldom_is_not_missed() -> None:
    """How long a tick is good for follows from the interval."""
    outside = Outside()
    await added(outside.stage.memory, use_case="another")
    seldom = outside.stage.scheduler(schedulers=outside.schedulers, interval_seconds=600.0)
    await seldom.tick()

    assert await outside.told(600) == []
    assert await outside.told(600) == []


async def test_a_watch_looks_at_intervals_whatever_fails_meanwhile() -> None:
    """What nobody answers is asked again."""
    outside = Outside()
    await added(outside.stage.memory)
    outside.watch = SchedulerWatch(
        FailingOnce(),
        MemoryStatistics(outside.stage.memory),
        clock=outside.stage.clock,
        telemetry=outside.telemetry,
    )
    running = asyncio.create_task(outside.watch.run())

    await outside.stage.elapse(4 * LOOK_SECONDS, step_seconds=LOOK_SECONDS)
    running.cancel()

    assert [type(fact) for fact in outside.telemetry.facts] == [facts.SchedulerMissing]


class FailingOnce(MemorySchedulers):
    """Does not answer the first question."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def known(self) -> Sequence[SchedulerInfo]:
        self.asked += 1
        if self.asked == 1:
            raise Unavailable("nobody answered")
        return await super().known()
