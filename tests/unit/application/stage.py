"""The parts of the system on memory adapters, and a store and queues that fail when told to."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from async_jobs.adapters.memory.queue import MemoryJobQueue
from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.application.registry import JobContext, JobRegistry
from async_jobs.application.renewal import RenewalHost, Renewals
from async_jobs.application.scheduler import Scheduler
from async_jobs.application.service import JobService
from async_jobs.application.settings import SchedulerSettings, WorkerSettings
from async_jobs.application.worker import Identity, Worker
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.job import HandOff, Job, JobFilter, JobPage
from async_jobs.domain.lifecycle import Change
from async_jobs.domain.limits import Limits, TenantQuota, UseCaseConfig
from async_jobs.domain.scheduling import LeaseGrant
from async_jobs.ports.queue import Acked, Delivery, JobQueue, Sent
from async_jobs.ports.signal import Signal
from async_jobs.ports.store import (
    AddResult,
    Applied,
    DispatchTurn,
    Heads,
    HeadsQuery,
    JobStore,
    RunningCount,
    Upcoming,
)
from async_jobs.ports.workers import Workers
from async_jobs.testing.builders import RecordingTelemetry, SimpleLimits, later
from async_jobs.testing.clocks import ManualChance, ManualClock, let_others_run
from async_jobs.testing.contracts.scenes import added, leased, the_job

T = TypeVar("T")
Hook: TypeAlias = Callable[[], Awaitable[object]]

STUCK_SECONDS = 30.0
"""After this long a test counts as hanging. No test that passes takes a fraction of it."""


async def unavailable() -> None:
    """Be a component that does not answer."""
    raise Unavailable("nobody answers")


async def until(condition: Callable[[], object]) -> None:
    """Let others run, threads included, until something holds."""
    async with asyncio.timeout(STUCK_SECONDS):
        while not condition():
            await let_others_run()


class Faulty:
    """Calls that can be made to fail, to wait, or to be overtaken by something else.

    Attributes:
        calls: how often each method was called.
        down: no call gets through while it is True.
        around: awaited before each call that gets through, and after it.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.down = False
        self.around: Hook | None = None
        self._before: dict[str, deque[Hook]] = {}
        self._after: dict[str, deque[Hook]] = {}

    def before(self, method: str, *hooks: Hook) -> None:
        """Await one of the hooks before each of the next calls of a method."""
        self._before.setdefault(method, deque()).extend(hooks)

    def after(self, method: str, *hooks: Hook) -> None:
        """Await one of the hooks after each of the next calls took effect, before its answer."""
        self._after.setdefault(method, deque()).extend(hooks)

    async def _through(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls[method] += 1
        if self.down:
            await unavailable()
        if hooks := self._before.get(method):
            await hooks.popleft()()
        if self.around is not None:
            await self.around()
        answer = await call()
        if hooks := self._after.get(method):
            await hooks.popleft()()
        if self.around is not None:
            await self.around()
        return answer


class FaultyStore(Faulty):
    """Implements `JobStore` over another one.

    Attributes:
        broken: the use cases whose heads cannot be read.
        queries: what was asked of each look at the heads.
        saved: the jobs of each save, by id.
    """

    def __init__(self, inner: JobStore) -> None:
        super().__init__()
        self.inner = inner
        self.queries: list[Sequence[HeadsQuery]] = []
        self.broken: set[str] = set()
        self.saved: list[list[UUID]] = []

    async def add(
        self, jobs: Sequence[Job], limits: Mapping[str, int], *, within: object | None = None
    ) -> list[AddResult]:
        return await self._through("add", lambda: self.inner.add(jobs, limits, within=within))

    async def get(self, ids: Collection[UUID], *, tenant_id: str | None = None) -> list[Job]:
        return await self._through("get", lambda: self.inner.get(ids, tenant_id=tenant_id))

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        return await self._through(
            "find", lambda: self.inner.find(criteria, limit=limit, before=before)
        )

    @asynccontextmanager
    async def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AsyncIterator[DispatchTurn]:
        await self._through("turn", let_others_run)
        async with self.inner.turn(use_cases, tenants) as turn:
            yield FaultyTurn(turn, self)

    async def save(self, changes: Sequence[Change]) -> Applied:
        self.saved.append([change.job.id for change in changes])
        return await self._through("save", lambda: self.inner.save(changes))

    async def expired(self, now: datetime, *, limit: int) -> list[Job]:
        return await self._through("expired", lambda: self.inner.expired(now, limit=limit))

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        return await self._through(
            "promote", lambda: self.inner.promote(now, limit=limit, sidelined=sidelined)
        )

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        return await self._through(
            "purge", lambda: self.inner.purge(use_case, before=before, limit=limit)
        )

    async def through(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call of a turn fail like one of the store's own."""
        return await self._through(method, call)


class FaultyTurn:
    """Implements `DispatchTurn` over another one."""

    def __init__(self, inner: DispatchTurn, store: FaultyStore) -> None:
        self._inner = inner
        self._store = store

    @property
    def use_cases(self) -> frozenset[str]:
        return self._inner.use_cases

    @property
    def tenants(self) -> frozenset[str]:
        return self._inner.tenants

    async def running(self) -> Sequence[RunningCount]:
        return await self._store.through("running", self._inner.running)

    async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
        self._store.queries.append(queries)
        for query in queries:
            if query.use_case in self._store.broken:
                raise RuntimeError(f"the heads of {query.use_case} cannot be read")
        return await self._store.through("heads", lambda: self._inner.heads(queries, now))

    async def lease(self, grants: Sequence[LeaseGrant]) -> frozenset[UUID]:
        return await self._store.through("lease", lambda: self._inner.lease(grants))


class FaultyQueue(Faulty):
    """Implements `JobQueue` over the one in memory.

    Attributes:
        refuses: says why a hand-off is not accepted; None when it is.
        answers: changes what `send` answers.
        room: the `max_messages` of each receive.
    """

    def __init__(self, inner: MemoryJobQueue) -> None:
        super().__init__()
        self.inner = inner
        self.refuses: Callable[[HandOff], str | None] = lambda handoff: None
        self.answers: Callable[[list[Sent]], list[Sent]] = lambda sents: sents
        self.room: list[int] = []

    @property
    def name(self) -> str:
        return self.inner.name

    async def send(self, handoffs: Sequence[HandOff]) -> list[Sent]:
        accepted = [each for each in handoffs if self.refuses(each) is None]
        await self._through("send", lambda: self.inner.send(accepted))
        return self.answers([Sent(each, self.refuses(each)) for each in handoffs])

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        self.room.append(max_messages)
        return await self._through(
            "receive",
            lambda: self.inner.receive(max_messages=max_messages, wait_seconds=wait_seconds),
        )

    async def ack(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        return await self._through("ack", lambda: self.inner.ack(deliveries))

    async def release(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        return await self._through("release", lambda: self.inner.release(deliveries))

    async def depth(self) -> int:
        return await self._through("depth", self.inner.depth)


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

    def service(self) -> JobService:
        """Return a service that tells and wakes."""
        return JobService(
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
        store: JobStore | None = None,
        **settings: Any,
    ) -> Scheduler:
        """Return one of the schedulers."""
        return Scheduler(
            self.config,
            store or self.store,
            queue_of or self.queue,
            clock=self.clock,
            chance=self.chance,
            signal=self.signal,
            workers=self.workers,
            telemetry=self.telemetry,
            settings=SchedulerSettings(**settings),
        )

    def worker(
        self,
        *queues: JobQueue,
        worker_id: str = "worker-1",
        store: JobStore | None = None,
        signal: Signal | None = None,
        workers: Workers | None = None,
        make_renewal_host: Callable[[Renewals], RenewalHost] | None = None,
        **settings: Any,
    ) -> Worker:
        """Return one of the workers, by default of the lane `notifications`."""
        return Worker(
            Identity(worker_id=worker_id),
            store or self.store,
            queues or [self.queue()],
            self.registry,
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


def _implements(store: FaultyStore, queue: FaultyQueue) -> tuple[JobStore, JobQueue]:
    return store, queue
