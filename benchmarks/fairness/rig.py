"""Runs a trace through the application's own scheduler, in virtual time.

The scheduler, the dispatcher and the rules are the real ones; store, lanes, workers and time are
the rig's. A tick happens at the latest after the interval, and when something was enqueued or a
job ended, as signals would have it, `latency` after the signal. It takes no time itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.application.settings import SchedulerSettings
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.facts import Fact
from async_jobs.domain.job import Job, JobStatus
from async_jobs.domain.lifecycle import Failed, change
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from benchmarks.fairness import shapes
from benchmarks.fairness.fleet import NEVER, Fleet
from benchmarks.fairness.shapes import Success
from benchmarks.fairness.store import IndexedJobStore
from benchmarks.fairness.world import SECOND, TICK, Ran, Trace

BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
TICKS_MAX = 10_000


class VirtualClock:
    """Implements `Clock`: it stands where the rig puts it."""

    def __init__(self) -> None:
        self._at = 0
        self._now = BEGINNING

    def set(self, at: int) -> None:
        """Move on to so many milliseconds after the beginning."""
        self._at = at
        self._now = instant(at)

    def now(self) -> datetime:
        """See `Clock`."""
        return self._now

    def monotonic(self) -> float:
        """See `Clock`."""
        return self._at / SECOND

    async def sleep(self, seconds: float) -> None:
        """See `Clock`. Nothing that the rig drives sleeps."""

    async def sync(self, *, within: object | None = None) -> None:
        """See `Clock`. There is nothing to measure."""


class SeededChance:
    """Implements `Chance`."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def uniform(self) -> float:
        """See `Chance`."""
        return self._random.random()

    def uuid(self, at: datetime) -> UUID:
        """See `Chance`. Nothing that the rig drives makes ids that have to grow."""
        return UUID(int=self._random.getrandbits(128))


class Silent:
    """Implements `Telemetry` and `Signal`: nobody listens, and the rig itself wakes."""

    def wants(self, kind: type[Fact]) -> bool:
        """See `Telemetry`."""
        return False

    def record(self, fact: Fact) -> None:
        """See `Telemetry`."""

    def notify(self, topic: str) -> None:
        """See `Signal`."""

    async def notify_within(self, topic: str, within: object) -> None:
        """See `Signal`."""

    async def wait(self, topic: str, *, timeout_seconds: float) -> bool:
        """See `Signal`."""
        return False


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Implements `Limits`."""

    use_case_configs: Mapping[str, UseCaseConfig]
    per_tenant_quotas: Mapping[str, TenantQuota]


def instant(at: int) -> datetime:
    """Return the instant of so many milliseconds after the beginning."""
    return BEGINNING + at * MILLISECOND


def settings_of(trace: Trace) -> Settings:
    """Return the limits under which a trace runs."""
    configs = {}
    for name, each in trace.use_cases.items():
        late: dict[str, Any] = {} if each.late is None else {"late_policy": each.late}
        configs[name] = UseCaseConfig(max_concurrent=each.cap, queue=each.queue, **late)
    quotas = {
        tenant: TenantQuota(
            weight=trace.weights.get(tenant, 1.0), max_running=trace.max_running.get(tenant)
        )
        for tenant in trace.weights.keys() | trace.max_running.keys()
        if trace.weights.get(tenant, 1.0) != 1.0 or tenant in trace.max_running
    }
    return Settings(use_case_configs=configs, per_tenant_quotas=quotas)


def run(trace: Trace, *, latency: int = 0, interval: int = TICK) -> Ran:
    """Run a trace.

    Args:
        trace: what happens.
        latency: milliseconds from a signal to the leases that it leads to.
        interval: the longest pause between two ticks.
    """
    return asyncio.run(_Rig(trace, latency, interval).run())


class _Rig:
    def __init__(self, trace: Trace, latency: int, interval: int) -> None:
        self._trace = trace
        self._latency = latency
        self._interval = interval
        self._ran = Ran(trace=trace)
        self._clock = VirtualClock()
        self._store = IndexedJobStore()
        config = settings_of(trace)
        register = MemoryWorkers()
        queues = sorted({trace.queue_of(name) for name in trace.use_cases})
        lanes = [self._store.lane(name) for name in queues]
        self._fleet = Fleet(trace.slots, trace.workers, lanes, register)
        self._scheduler = shapes.scheduler(
            shapes.World(
                config=config,
                store=self._store,
                lane_of=self._store.lane,
                clock=self._clock,
                chance=SeededChance(1),
                signal=Silent(),
                workers=register,
                telemetry=Silent(),
                settings=SchedulerSettings(interval_seconds=interval / SECOND),
            )
        )
        self._at = 0
        self._next_job = 0
        self._unfinished = len(trace.work)
        self._next_tick = 0
        self._woken_tick = NEVER

    async def run(self) -> Ran:
        horizon = NEVER if self._trace.horizon is None else self._trace.horizon
        while self._unfinished:
            at = min(self._next_tick, self._woken_tick, self._fleet.next_event, self._next_enqueue)
            if at > horizon:
                break
            self._at = at
            self._clock.set(at)
            await self._fleet.announce(self._clock.now(), at)
            woken = await self._end()
            self._claim()
            if self._enqueue() or woken:
                self._woken_tick = min(self._woken_tick, at + self._latency)
            await self._tick_if_due()
        return self._ran

    @property
    def _next_enqueue(self) -> int:
        jobs = self._trace.work
        return jobs[self._next_job].enqueued if self._next_job < len(jobs) else NEVER

    def _enqueue(self) -> bool:
        """Hand in what the trace hands in now."""
        first = self._next_job
        while self._next_enqueue <= self._at:
            self._store.put_in(self._job(self._next_job))
            self._next_job += 1
        return self._next_job > first

    def _job(self, index: int) -> Job:
        work, now = self._trace.work[index], self._clock.now()
        run_at = now if work.due <= self._at else instant(work.due)
        tolerance = work.tolerance * MILLISECOND
        return Job(
            id=UUID(int=index + 1),
            tenant_id=work.tenant,
            use_case=work.use_case,
            type=work.kind,
            queue=self._trace.queue_of(work.use_case),
            status=JobStatus.PENDING,
            payload={},
            run_at=run_at,
            delay_tolerance=tolerance,
            deadline_at=run_at + tolerance,
            priority=work.priority,
            attempts=0,
            max_attempts=100,
            backoff_policy=_NO_BACKOFF,
            lease_expires_at=None,
            last_error=None,
            dedupe_key=None,
            enqueue_failed=False,
            created_at=now,
            updated_at=now,
        )

    async def _end(self) -> bool:
        """End the jobs whose time is over; those that fail come back."""
        jobs = self._fleet.ended(self._at)
        now = self._clock.now()
        for job in jobs:
            index = job.id.int - 1
            if self._trace.fails is not None and self._trace.fails(index, job.attempts):
                pause = self._trace.pause(index, job.attempts) * MILLISECOND
                await self._store.save([change(job, Failed("", retry_after=pause), now=now)])
            else:
                await self._store.succeed([Success(job.id, job.lease_seq, None)], now=now)
                self._unfinished -= 1
        return bool(jobs)

    def _claim(self) -> None:
        if self._fleet.busy < self._trace.slots:
            self._fleet.claim(self._clock.now(), self._at, self._begin)

    def _begin(self, job: Job) -> int:
        index = job.id.int - 1
        self._ran.start(index, job.attempts, self._at)
        return self._trace.work[index].length

    async def _tick_if_due(self) -> None:
        now = self._clock.now()
        at_interval = self._at >= self._next_tick
        if not at_interval and self._at < self._woken_tick:
            return
        self._woken_tick = NEVER
        if not at_interval and not self._store.has_ready and not self._store.due_by(now):
            return  # woken for nothing
        for _ in range(TICKS_MAX):
            tick = await self._scheduler.tick()
            self._ran.turns += 1
            self._ran.ran_out += tick.reaped
            self._unfinished -= tick.expired
            self._claim()
            if not tick.more:
                break
            if self._latency:
                self._woken_tick = self._at + self._latency
                break
        else:
            raise RuntimeError("the scheduler always finds more to do")
        self._next_tick = self._at + self._interval
        if tick.next_run_at is not None:
            due = (tick.next_run_at - BEGINNING) // MILLISECOND
            self._next_tick = min(self._next_tick, max(self._at + 1, due))


_NO_BACKOFF = BackoffPolicy()
