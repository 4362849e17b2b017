"""memory_system: the whole of async_jobs inside a unit test, in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar, get_args
from uuid import UUID

from async_jobs.adapters.memory.bulk import MemoryBulk
from async_jobs.adapters.memory.catalog import MemoryCatalog
from async_jobs.adapters.memory.checkpoints import MemoryCheckpoints
from async_jobs.adapters.memory.history import MemoryHistory
from async_jobs.adapters.memory.outbox import MemoryOutbox
from async_jobs.adapters.memory.overview import MemoryOverview
from async_jobs.adapters.memory.queue import MemoryJobQueue
from async_jobs.adapters.memory.schedulers import MemorySchedulers
from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.memory.statistics import MemoryStatistics
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.tallies import MemoryTallies
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.adapters.telemetry.labels import TENANTS_MAX, TopTenants
from async_jobs.adapters.telemetry.several import SeveralTelemetries
from async_jobs.adapters.telemetry.tallying import TallyTelemetry
from async_jobs.application.enqueueing.service import JobService
from async_jobs.application.handling.outcomes import is_outcome
from async_jobs.application.handling.registry import (
    ErrorHook,
    Handler,
    JobContext,
    JobRegistry,
    job_registry,
)
from async_jobs.application.operating.bulk import BulkService
from async_jobs.application.operating.operations import OperationsService
from async_jobs.application.operating.reporting import ReportsService
from async_jobs.application.operating.searching import SearchService
from async_jobs.application.operating.steering import SteeringService
from async_jobs.application.scheduling.chores.announcing import SchedulerIdentity
from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.application.settings import SchedulerSettings, WorkerSettings
from async_jobs.application.working.error_hooks import ErrorHooks
from async_jobs.application.working.heartbeat import Identity
from async_jobs.application.working.worker import Worker
from async_jobs.domain.deadline import DEADLINE_MISSED
from async_jobs.domain.facts import Fact, HandlerMissing, JobDied, JobFailed, RowUnreadable
from async_jobs.domain.job import Job, JobStatus
from async_jobs.domain.limits import (
    Limits,
    TenantQuota,
    UseCaseConfig,
    queue_of,
    recorded_of,
)
from async_jobs.host import SystemClock
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.tracing import NO_TRACING, Tracing
from async_jobs.testing.builders import RecordingTelemetry, SimpleLimits
from async_jobs.testing.clocks import ManualChance, ManualClock

AnyFact = TypeVar("AnyFact", bound=Fact)

ROUNDS_MAX = 100_000

Transport: TypeAlias = Literal["outbox", "queue"]
"""What carries hand-offs: an outbox in the database of the jobs, or a queue elsewhere."""


class _Watched(JobRegistry):
    """A registry's handlers, whose errors are kept as well.

    Attributes:
        errors: what they raised, but for outcomes like `Reject`.
        meant: the jobs whose failure is an outcome that the handler raised or returned.
    """

    def __init__(self, registry: JobRegistry) -> None:
        super().__init__()
        self._registry = registry
        self.errors: list[Exception] = []
        self.meant: set[UUID] = set()
        self.keeps = False

    @property
    def types(self) -> tuple[str, ...]:
        """See `JobRegistry`."""
        return self._registry.types

    def get(self, type: str) -> Handler | None:
        """See `JobRegistry`; what was registered meanwhile is there."""
        handler = self._registry.get(type)
        if handler is None:
            return None
        call = self._awaited if handler.is_async else self._called
        return replace(handler, function=partial(call, handler.function))

    @property
    def error_hooks(self) -> tuple[ErrorHook, ...]:
        """See `JobRegistry`."""
        return self._registry.error_hooks

    def _keep(self, context: JobContext, error: BaseException) -> None:
        if not self.keeps:
            return
        if is_outcome(error):
            self.meant.add(context.job_id)
        elif isinstance(error, Exception):
            self.errors.append(error)

    @contextmanager
    def _kept(self, context: JobContext) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._keep(context, error)
            raise

    def _called(self, function: Callable[..., Any], context: JobContext, payload: Any) -> Any:
        with self._kept(context):
            result = function(context, payload)
        if isinstance(result, BaseException):
            self._keep(context, result)
        return result

    async def _awaited(
        self, function: Callable[..., Any], context: JobContext, payload: Any
    ) -> Any:
        with self._kept(context):
            result = await function(context, payload)
        if isinstance(result, BaseException):
            self._keep(context, result)
        return result

    def check(self) -> None:
        """Raise what was kept, if anything."""
        errors, self.errors = self.errors, []
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup("several handlers failed", errors)


class MemorySystem:
    """A service, a scheduler and a worker on memory adapters and a clock that the test owns.

    Nothing runs by itself: `run_until_idle` does what is due, `clock.advance` makes more due.

    Attributes:
        service: what the application under test calls.
        operations: what its operators ask.
        steering: what they order.
        bulk: what they do to many jobs at once.
        search: what they look for.
        reports: what became of the jobs, as of the last `run_until_idle`.
        clock: stands still until it is advanced.
        store: the system of record; `store.transaction()` stands in for a database
            transaction to pass as `connection`.
        registry: the handlers.
        telemetry: every fact told so far.
        workers: who is known to be alive: nobody, unless the test announces a worker.
    """

    def __init__(
        self,
        config: Limits,
        *,
        registry: JobRegistry,
        clock: ManualClock,
        chance: ManualChance,
        transport: Transport = "outbox",
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self.config, self.registry, self.clock = config, registry, clock
        self.telemetry = RecordingTelemetry()
        self.store = MemoryJobStore(unreadable=self._tell_unreadable)
        self._handlers, self._transport, self._tracing = _Watched(registry), transport, tracing
        self._queues, self._outboxes = dict[str, MemoryJobQueue](), dict[str, MemoryOutbox]()
        self.workers = MemoryWorkers()
        telling = self._telling()
        signal = MemorySignal(clock=clock)
        checkpoints, schedulers = MemoryCheckpoints(), MemorySchedulers()
        statistics = MemoryStatistics(self.store)
        ports: dict[str, Any] = {
            "workers": self.workers,
            "clock": clock,
            "controls": self.store.controls,
        }
        known: dict[str, Any] = {
            "schedulers": schedulers,
            "checkpoints": checkpoints,
            "history": MemoryHistory(self.store),
        }
        self.service = JobService(
            config,
            self.store,
            chance=chance,
            signal=signal,
            telemetry=telling,
            statistics=statistics,
            tracing=tracing,
            **ports,
        )
        ports["settings"] = SchedulerSettings(window_min=1_000)
        self.operations = OperationsService(
            config,
            self.store,
            MemoryOverview(self.store),
            statistics=statistics,
            **known,
            **ports,
        )
        own: dict[str, Any] = {"clock": clock, "chance": chance, "signal": signal}
        overview, bulk = MemoryOverview(self.store), MemoryBulk(self.store)
        self.steering = SteeringService(config, self.store.controls, overview, **own)
        self.bulk = BulkService(bulk, **own)
        self.search = SearchService(MemoryCatalog(self.store), clock=clock)
        ports |= {**own, "telemetry": telling}
        self.scheduler = self._scheduler(bulk=bulk, **known, **ports)
        self.worker = self._worker(signal, chance, telling)

    def _scheduler(self, **ports: Any) -> Scheduler:
        return Scheduler(
            self.config,
            self.store,
            self.queue,
            outbox_of=self._outbox_of,
            identity=SchedulerIdentity(scheduler_id="scheduler-1"),
            tracing=self._tracing,
            **ports,
        )

    def _tell_unreadable(self, job_id: UUID | None, problem: str) -> None:
        at = self.clock.now()
        self.telemetry.record(RowUnreadable(at=at, job_id=job_id, problem=problem))

    def _telling(self) -> Telemetry:
        self._counting = TallyTelemetry("memory", TopTenants(TENANTS_MAX, lambda tenant: True))
        self._tallies = MemoryTallies()
        self.reports = ReportsService(self._tallies, clock=self.clock, config=self.config)
        return SeveralTelemetries([self.telemetry, self._counting])

    async def _tally(self) -> None:
        """Keep what was counted, as each process does every ten seconds."""
        if (batch := self._counting.take()) is not None:
            await self._tallies.add(batch, at=self.clock.now())

    def _worker(self, signal: MemorySignal, chance: ManualChance, telling: Telemetry) -> Worker:
        queues, outboxes = self._to_receive_from()
        return Worker(
            Identity(worker_id="worker-1"),
            self.store,
            queues,
            self._handlers,
            outboxes=outboxes,
            clock=self.clock,
            chance=chance,
            signal=signal,
            workers=self.workers,
            telemetry=telling,
            tracing=self._tracing,
            hooks=ErrorHooks(self._handlers),  # told before `run_until_idle` returns
            settings=WorkerSettings(slots=100, recorded=recorded_of(self.config.use_case_configs)),
        )

    def queue(self, name: str) -> MemoryJobQueue:
        """Return the queue of that name."""
        outbox = self._outbox_of(name)
        if outbox is not None:
            return outbox
        if name not in self._queues:
            self._queues[name] = MemoryJobQueue(name, clock=self.clock)
        return self._queues[name]

    def _outbox_of(self, name: str) -> MemoryOutbox | None:
        if self._transport != "outbox":
            return None
        if name not in self._outboxes:
            self._outboxes[name] = MemoryOutbox(self.store, name, clock=self.clock)
        return self._outboxes[name]

    def _to_receive_from(self) -> tuple[Sequence[MemoryJobQueue], Sequence[MemoryOutbox]]:
        names = sorted({queue_of(n, each) for n, each in self.config.use_case_configs.items()})
        outboxes = [outbox for name in names if (outbox := self._outbox_of(name)) is not None]
        return [] if outboxes else [self.queue(name) for name in names], outboxes

    async def run_until_idle(self, *, raise_errors: bool = False) -> int:
        """Schedule and execute until nothing more is due; returns how many attempts ran.

        The clock does not move. A job that waits for its backoff or its `run_at` is not due:
        advance the clock and call this again.

        Args:
            raise_errors: raise what handlers raised, but for outcomes like `Reject`, once the
                round in which they did has ended: the error itself, or a group of several. A job
                that failed without, as by a payload that its handler cannot take, is a
                `RuntimeError` with the job's last error.

        Raises:
            RuntimeError: the jobs never come to rest, e.g. each enqueues another one.
        """
        ran = 0
        self._handlers.errors.clear()
        self._handlers.meant.clear()
        told = len(self.telemetry.facts)
        self._handlers.keeps = raise_errors
        for _ in range(ROUNDS_MAX):
            tick = await self.scheduler.tick()
            ran_now = await self.worker.step()
            ran += ran_now
            if raise_errors:
                self._handlers.check()
                await self._check_failures(self.telemetry.facts[told:])
                told = len(self.telemetry.facts)
                self._handlers.meant.clear()
            if tick.idle and not ran_now:
                await self._tally()
                return ran
        raise RuntimeError(f"the jobs did not come to rest within {ROUNDS_MAX} rounds")

    async def _check_failures(self, facts: Iterable[Fact]) -> None:
        """Raise for a job that failed although no handler said so, and not by its deadline."""
        for fact in facts:
            match fact:
                case HandlerMissing(type=type):
                    raise RuntimeError(f"no handler is registered for the type {type!r}")
                case JobFailed() | JobDied() if fact.job_id not in self._handlers.meant:
                    job = await self.service.get_job(fact.job_id)
                    error = job.last_error or ""
                    if not error.startswith(DEADLINE_MISSED):
                        raise RuntimeError(f"job {job.id} of type {job.type!r} failed: {error}")

    async def jobs(
        self,
        *,
        tenant_id: str | None = None,
        use_case: str | None = None,
        status: JobStatus | str | None = None,
    ) -> list[Job]:
        """Return every matching job, oldest first."""
        jobs: list[Job] = []
        cursor = None
        while True:
            page = await self.service.list_jobs(
                tenant_id=tenant_id, use_case=use_case, status=status, limit=1_000, cursor=cursor
            )
            jobs += page.jobs
            cursor = page.next_cursor
            if cursor is None:
                return jobs[::-1]


def memory_system(
    config: Limits | None = None,
    *,
    use_cases: Mapping[str, UseCaseConfig] | Iterable[str] = ("default",),
    per_tenant_quotas: Mapping[str, TenantQuota] | None = None,
    registry: JobRegistry = job_registry,
    seed: int = 0,
    now: datetime | None = None,
    transport: Transport = "outbox",
    tracing: Tracing = NO_TRACING,
) -> MemorySystem:
    """Return async_jobs in memory.

    Args:
        config: an `AsyncJobsConfig`, or anything with its `use_case_configs` and
            `per_tenant_quotas`; instead of the next two arguments.
        use_cases: the known use cases, with their settings or by name alone.
        per_tenant_quotas: limits and weights of tenants.
        registry: the handlers; by default those that `@job_registry.handler` registered.
        seed: the seed of ids and jitter; the same seed and the same `now` give the same run.
        now: the instant at which the system's clock stands until it is advanced; by default the
            instant of this call, so that `run_at` of an application that asks the host's clock
            means what it says.
        transport: what carries hand-offs: an `outbox` in the database of the jobs, as on Postgres
            by default, or a `queue` elsewhere, as SQS.
        tracing: an `OpenTelemetryTracing`, to see spans; by default there are none.

    Raises:
        ValueError: `now` has no time zone, or `transport` is something else.
    """
    if transport not in get_args(Transport):
        raise ValueError(f"transport must be one of {', '.join(get_args(Transport))}")
    if now is None:
        now = SystemClock().now()
    elif now.utcoffset() is None:
        raise ValueError("now must be a datetime with a time zone")
    if config is None:
        named = (
            use_cases
            if isinstance(use_cases, Mapping)
            else {name: UseCaseConfig() for name in use_cases}
        )
        config = SimpleLimits(use_case_configs=named, per_tenant_quotas=per_tenant_quotas or {})
    clock = ManualClock(now.astimezone(UTC))
    return MemorySystem(
        config,
        registry=registry,
        clock=clock,
        chance=ManualChance(seed),
        transport=transport,
        tracing=tracing,
    )
