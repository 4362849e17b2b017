"""The parts of the system on memory adapters, around one clock that the test owns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

from async_jobs.adapters.memory.queue import MemoryJobQueue
from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.application.handling.registry import JobContext, JobRegistry
from async_jobs.application.own_loops import OwnLoops
from async_jobs.application.scheduling.chores.announcing import SchedulerIdentity
from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.application.settings import SchedulerSettings, WorkerSettings
from async_jobs.application.working.heartbeat import Identity
from async_jobs.application.working.renewal import RenewalHost, Renewals
from async_jobs.application.working.worker import Worker
from async_jobs.domain.facts import Fact
from async_jobs.domain.job import HandOff, Job, Phase
from async_jobs.domain.limits import Limits, TenantQuota, UseCaseConfig
from async_jobs.ports.checkpoints import Checkpoints
from async_jobs.ports.controls import Controls
from async_jobs.ports.overview import Overview
from async_jobs.ports.queue import JobQueue, Outbox
from async_jobs.ports.schedulers import Schedulers
from async_jobs.ports.signal import DISPATCH, Signal
from async_jobs.ports.store import Store
from async_jobs.ports.tallies import Tallies
from async_jobs.ports.workers import Workers
from async_jobs.testing.builders import RecordingTelemetry, SimpleLimits, a_job, later
from async_jobs.testing.clocks import ManualChance, ManualClock, let_others_run
from async_jobs.testing.contracts.scenes import added, all_jobs, leased, stored, the_job
from tests.unit.application.faults import FaultyQueue, FaultyStore

STUCK_SECONDS = 30.0
"""After this long a test counts as hanging. No test that passes takes a fraction of it."""


async def until(condition: Callable[[], object]) -> None:
    """Let others run, threads included, until something holds."""
    async with asyncio.timeout(STUCK_SECONDS):
        while not condition():
            await let_others_run()


class Stage:
    """Everything around one clock that the test owns.

    Attributes:
        errors: what schedulers and workers told `on_error`.
    """

    def __init__(self, config: Limits | None = None, *, seed: int = 0) -> None:
        self.config: Limits = config or SimpleLimits()
        self.clock = ManualClock()
        self.chance = ManualChance(seed)
        self.memory = MemoryJobStore()
        self.store = FaultyStore(self.memory)
        self.signal = MemorySignal(clock=self.clock)
        self.workers = MemoryWorkers()
        self.telemetry = RecordingTelemetry()
        self.registry = JobRegistry()
        self.errors: list[Exception] = []
        self._queues: dict[str, FaultyQueue] = {}

    def queue(self, name: str = "notifications") -> FaultyQueue:
        """Return the lane of that name."""
        if name not in self._queues:
            self._queues[name] = FaultyQueue(MemoryJobQueue(name, clock=self.clock))
        return self._queues[name]

    def service(self) -> OwnLoops:
        """Return a service that tells and wakes."""
        return OwnLoops(
            self.config,
            self.store,
            clock=self.clock,
            chance=self.chance,
            signal=self.signal,
            telemetry=self.telemetry,
        )

    def scheduler(
        self,
        *,
        queue_of: Callable[[str], JobQueue] | None = None,
        outbox_of: Callable[[str], Outbox | None] = lambda name: None,
        store: Store | None = None,
        checkpoints: Checkpoints | None = None,
        schedulers: Schedulers | None = None,
        tallies: Tallies | None = None,
        overview: Overview | None = None,
        controls: Controls | None = None,
        **settings: Any,
    ) -> Scheduler:
        """Return one of the schedulers."""
        return Scheduler(
            self.config,
            store or self.store,
            queue_of or self.queue,
            outbox_of=outbox_of,
            clock=self.clock,
            chance=self.chance,
            signal=self.signal,
            workers=self.workers,
            telemetry=self.telemetry,
            checkpoints=checkpoints,
            schedulers=schedulers,
            overview=overview,
            controls=controls,
            identity=SchedulerIdentity(scheduler_id="scheduler-1"),
            settings=SchedulerSettings(**settings),
            tallies=tallies,
        )

    def worker(
        self,
        *queues: JobQueue,
        outboxes: Sequence[Outbox] = (),
        worker_id: str = "worker-1",
        store: Store | None = None,
        signal: Signal | None = None,
        workers: Workers | None = None,
        make_renewal_host: Callable[[Renewals], RenewalHost] | None = None,
        **settings: Any,
    ) -> Worker:
        """Return one of the workers, by default of the lane `notifications`."""
        return Worker(
            Identity(worker_id=worker_id),
            store or self.store,
            queues or ([] if outboxes else [self.queue()]),
            self.registry,
            outboxes=outboxes,
            clock=self.clock,
            chance=self.chance,
            signal=signal or self.signal,
            workers=workers or self.workers,
            telemetry=self.telemetry,
            settings=WorkerSettings(**settings),
            make_renewal_host=make_renewal_host,
            on_error=self.errors.append,
        )

    async def handed_off(self, **overrides: Any) -> Job:
        """Add a job, lease it for a minute and put its hand-off on its lane."""
        lease = later(self.clock.monotonic() + 60)
        job = await leased(
            self.memory, await added(self.memory, **overrides), until=lease, now=self.clock.now()
        )
        self.queue(job.queue).inner.put(handoff_of(job))
        return job

    async def job(self, job: Job | UUID) -> Job:
        """Return a job as it stands."""
        return await the_job(self.memory, job if isinstance(job, UUID) else job.id)

    async def elapse(self, seconds: float, *, step_seconds: float = 0.5) -> None:
        """Let time pass step by step, and everybody do what is due."""
        until = self.clock.monotonic() + seconds
        while (left := until - self.clock.monotonic()) > 0:
            self.clock.advance(min(step_seconds, left))
            await let_others_run(20)
        await quiet()

    async def seconds_until_done(self, task: asyncio.Future[Any], *, at_most: float) -> float:
        """Let time pass until a task is done; returns how long that took by the clock."""
        began = self.clock.monotonic()
        await quiet()
        while not task.done():
            assert self.clock.monotonic() - began < at_most, "it takes too long"
            self.clock.advance(0.25)
            await let_others_run(20)
        return self.clock.monotonic() - began

    @asynccontextmanager
    async def running(self, *workers: Worker) -> AsyncIterator[asyncio.Event]:
        """Run workers for the length of a block; yields what stops them."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(worker.run(stop)) for worker in workers]
        await quiet()
        try:
            yield stop
        finally:
            stop.set()
            everything = asyncio.gather(*tasks)
            await self.seconds_until_done(everything, at_most=60)
            await everything


async def quiet() -> None:
    """Let everybody run until nothing is left to do but to wait for time or threads."""
    await let_others_run(40)


def handoff_of(job: Job) -> HandOff:
    """Return the hand-off of the job's lease."""
    return HandOff(job.id, job.lease_seq, job.tenant_id)


def limits(
    quotas: Mapping[str, TenantQuota] | None = None, /, **use_cases: UseCaseConfig
) -> SimpleLimits:
    """Return limits with these use cases."""
    return SimpleLimits(use_case_configs=use_cases, per_tenant_quotas=quotas or {})


class Runs:
    """A handler that tells what ran, and waits until it may end.

    Attributes:
        started: the contexts of all executions, in order.
        now: how many execute at this moment; `most` is the maximum seen.
    """

    def __init__(self) -> None:
        self.started: list[JobContext] = []
        self.ended: list[JobContext] = []
        self.now = 0
        self.most = 0
        self.may_end = asyncio.Event()

    async def __call__(self, ctx: JobContext, payload: Any) -> None:
        self.started.append(ctx)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await let_others_run()
            await self.may_end.wait()
            self.ended.append(ctx)
        finally:
            self.now -= 1


class Stubborn:
    """An async handler that ignores its cancellation until the test lets it end."""

    def __init__(self) -> None:
        self.started = 0
        self.may_end = asyncio.Event()

    async def __call__(self, ctx: JobContext, payload: Any) -> str:
        self.started += 1
        while not self.may_end.is_set():
            with suppress(asyncio.CancelledError):
                await self.may_end.wait()
        return "done at last"


async def phases(stage: Stage, jobs: Sequence[Job]) -> list[Phase]:
    """Return where the jobs stand, in order."""
    return [(await stage.job(job)).phase for job in jobs]


async def count(stage: Stage, phase: Phase) -> int:
    """Return how many jobs are in a phase."""
    return sum(job.phase is phase for job in await all_jobs(stage.memory))


async def sent(stage: Stage, queue: str = "notifications") -> list[HandOff]:
    """Receive what is on a lane."""
    deliveries = await stage.queue(queue).inner.receive(max_messages=1_000, wait_seconds=0)
    return [delivery.handoff for delivery in deliveries if delivery.handoff is not None]


async def is_empty(stage: Stage, queue: str = "notifications") -> bool:
    """Tell whether a lane holds nothing, not even what was received and not acked."""
    stage.clock.advance(600)
    return await stage.queue(queue).inner.depth() == 0


@asynccontextmanager
async def stopped(stage: Stage, worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """Run a worker for the length of a block, which gets its task; it may have ended by itself."""
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    await quiet()
    try:
        yield task
    finally:
        stop.set()
        await stage.seconds_until_done(task, at_most=400)


def wide() -> Stage:
    """Return a stage whose use cases are limited by their windows only."""
    return Stage(
        limits(
            notifications=UseCaseConfig(max_concurrent=1_000),
            reports=UseCaseConfig(max_concurrent=1_000),
        )
    )


async def waiting(stage: Stage, jobs: int, **overrides: Any) -> None:
    """Add so many jobs that are due."""
    await stored(stage.memory, *(a_job(**overrides) for _ in range(jobs)))


async def woken(stage: Stage, topic: str = DISPATCH) -> bool:
    """Tell whether somebody was woken since this was asked last."""
    return await stage.signal.wait(topic, timeout_seconds=0)


def told(stage: Stage) -> list[type[Fact]]:
    """Return the kinds of all facts told."""
    return [type(fact) for fact in stage.telemetry.facts]
