"""JobService: the driving port `Jobs`, over a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

from async_jobs.application import failpoints
from async_jobs.application.enqueueing.foresight import outlook_of
from async_jobs.application.enqueueing.group_commit import Gatherer
from async_jobs.application.in_force import (
    WAITED_SECONDS,
    WAITED_WITHIN_SECONDS,
    InForce,
)
from async_jobs.domain import lifecycle
from async_jobs.domain.bounds import (
    JOBS_PER_CALL_MAX,
    JOBS_PER_PAGE_MAX,
    check_name,
    check_status,
    check_uuid,
)
from async_jobs.domain.enqueue import new_job
from async_jobs.domain.errors import (
    ConfigurationError,
    IllegalTransition,
    InvalidJobError,
    JobNotFoundError,
    QuotaExceededError,
    StoreRefused,
    Unavailable,
)
from async_jobs.domain.facts import Fact, JobEnqueued
from async_jobs.domain.job import (
    Enqueued,
    EnqueueJobRequest,
    Job,
    JobFilter,
    JobPage,
    JobStatus,
    UnreadableJob,
)
from async_jobs.domain.limits import UNLIMITED, KeptAttempts, Limits
from async_jobs.domain.outlook import Outlook
from async_jobs.domain.quota import Refused, limited_tenants
from async_jobs.domain.readings import JobDuplicate, QuotaRefused
from async_jobs.domain.reporting import job_ids, tell
from async_jobs.domain.trace_context import carrying
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.controls import Controls
from async_jobs.ports.signal import DISPATCH, Signal, cancellation
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.store import Added, AddResult, Duplicate, Invalid, JobStore
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.tracing import NO_TRACING, Tracing
from async_jobs.ports.workers import Workers

TRIES_MAX = 10
# How many requests are checked before others get their turn on the event loop.
JOBS_AT_ONCE = 8


class JobService:
    """Implements `Jobs`; see there for what each call promises.

    Args:
        config: the known use cases and the tenants' quotas, nothing else of a configuration.
        store: the system of record.
        clock: the store's time.
        chance: makes ids.
        signal: wakes schedulers and workers; None leaves them to their polling.
        telemetry: is told what happened.
        controls: what operators ordered; None for nothing.
        statistics, workers: what waits, and who is alive; only `outlook` needs them.
        tracing: surrounds what enqueues with spans, and gives jobs their context.
    """

    def __init__(
        self,
        config: Limits,
        store: JobStore,
        *,
        clock: Clock,
        chance: Chance,
        signal: Signal | None = None,
        telemetry: Telemetry | None = None,
        statistics: Statistics | None = None,
        workers: Workers | None = None,
        controls: Controls | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._config = InForce(config, controls, clock=clock)
        self._store = store
        self._statistics = statistics
        self._workers = workers
        self._clock = clock
        self._chance = chance
        self._signal = signal
        self._telemetry = telemetry
        self._tracing = tracing
        self._gatherer = Gatherer(partial(self._add, apart=True), self._is_limited, clock)

    # --- Jobs ---

    async def enqueue(
        self,
        request: EnqueueJobRequest,
        *,
        connection: object | None = None,
        session: object | None = None,
    ) -> Enqueued:
        """See `Jobs`.

        Args:
            request: what to run, for whom, and how late it may start.
            connection: the caller's own connection with an open transaction (asyncpg, for a
                store on Postgres; READ COMMITTED, or a limited tenant's pending jobs are
                counted as they were before the transaction). Nothing else is asked. The job is
                committed or rolled back with it, and schedulers are woken by its commit.
            session: instead, the caller's own `AsyncSession` of SQLAlchemy 2 (or an
                `AsyncConnection`) on postgresql+asyncpg; its transaction is begun if need be.

        Raises:
            InvalidJobError: also for a connection without an open transaction.
            TenantBusy: transactions that enqueued for a tenant with `max_pending_jobs` do not end.
            Exception: what the driver raises when the database gives up the caller's
                transaction for another one's sake (SQLSTATE 40001, 40P01): repeat all of it.
        """
        within = _transaction(connection, session)
        with self._tracing.enqueueing([request]) as span:
            job = self._new_job(request, await self._time(within), span.headers)
            if within is None:
                result = await self._gatherer.add(job)
            else:
                (result,) = await self._add([job], within=within)
            self._count([job], [result])
            enqueued = _enqueued(result)
            span.enqueued([enqueued.job_id], duplicates=int(enqueued.duplicate))
        await failpoints.reached(failpoints.API_AFTER_COMMIT_BEFORE_REPLY)
        if not enqueued.duplicate:
            await self._announce([job], within)
        return enqueued

    async def enqueue_many(
        self,
        requests: Sequence[EnqueueJobRequest],
        *,
        connection: object | None = None,
        session: object | None = None,
    ) -> list[Enqueued]:
        """See `Jobs`; `connection` and `session` as in `enqueue`."""
        if len(requests) > JOBS_PER_CALL_MAX:
            raise InvalidJobError(
                "jobs", f"must be at most {JOBS_PER_CALL_MAX}; got {len(requests)}"
            )
        within = _transaction(connection, session)
        with self._tracing.enqueueing(requests) as span:
            now = await self._time(within)
            jobs = await self._new_jobs(requests, now, span.headers)
            results = await self._add(jobs, within=within)
            self._count(jobs, results)
            for result in results:
                if isinstance(result, Invalid):
                    index = next(i for i, job in enumerate(jobs) if job.id == result.job_id)
                    raise _at(index, InvalidJobError(result.field, result.problem))
            enqueued = [_enqueued(result) for result in results]
            duplicates = sum(each.duplicate for each in enqueued)
            span.enqueued([each.job_id for each in enqueued], duplicates=duplicates)
        await failpoints.reached(failpoints.API_AFTER_COMMIT_BEFORE_REPLY)
        added = [job for job, each in zip(jobs, enqueued, strict=True) if not each.duplicate]
        await self._announce(added, within)
        return enqueued

    async def _time(self, within: object | None) -> datetime:
        if within is None:
            await self._clock.sync()
        else:
            await self._clock.sync(within=within)
        patience = WAITED_SECONDS if within is None else WAITED_WITHIN_SECONDS
        await self._config.refresh(patience=patience)
        return self._clock.now()

    async def _add(
        self, jobs: Sequence[Job], *, within: object | None = None, apart: bool = False
    ) -> Sequence[AddResult]:
        limits = limited_tenants((job.tenant_id for job in jobs), self._config.per_tenant_quotas)
        return await self._store.add(jobs, limits, within=within, apart=apart)

    def _is_limited(self, tenant: str) -> bool:
        quota = self._config.per_tenant_quotas.get(tenant, UNLIMITED)
        return quota.max_pending_jobs is not None

    async def _new_jobs(
        self, requests: Sequence[EnqueueJobRequest], now: datetime, context: Mapping[str, str]
    ) -> list[Job]:
        jobs = []
        for index, request in enumerate(requests):
            if index % JOBS_AT_ONCE == JOBS_AT_ONCE - 1:
                await self._clock.sleep(0)  # payloads of many values take a while to check
            try:
                jobs.append(self._new_job(request, now, context))
            except InvalidJobError as error:
                raise _at(index, error) from None
        return jobs

    def _new_job(
        self, request: EnqueueJobRequest, now: datetime, context: Mapping[str, str]
    ) -> Job:
        job = new_job(request, self._config, now=now, id=self._chance.uuid(now))
        return job.after(headers=carrying(job.headers, context)) if context else job

    async def _announce(self, added: Sequence[Job], within: object | None) -> None:
        # Also for jobs that are due later: a scheduler sleeps until the next one it knows.
        if within is not None:
            if added and self._signal is not None:
                await self._signal.notify_within(DISPATCH, within)
            return  # whether it will be committed nobody can tell yet
        if added:
            self._notify(DISPATCH)
        if self._telemetry is None or not self._telemetry.wants(JobEnqueued):
            return
        for job in added:
            ids = job_ids(job, at=job.created_at)
            self._telemetry.record(
                JobEnqueued(run_at=job.run_at, deadline_at=job.deadline_at, **ids)
            )

    def _count(self, jobs: Sequence[Job], results: Sequence[AddResult]) -> None:
        """Tell what came of jobs that were not added, to those who count it."""
        if self._telemetry is None:
            return
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, Added):
                continue
            at, tenant, use_case = job.created_at, job.tenant_id, job.use_case
            if isinstance(result, Duplicate) and self._telemetry.wants(JobDuplicate):
                told = JobDuplicate(at=at, tenant_id=tenant, use_case=use_case, type=job.type)
                self._telemetry.record(told)
            elif isinstance(result, Refused) and self._telemetry.wants(QuotaRefused):
                self._telemetry.record(QuotaRefused(at=at, tenant_id=tenant, use_case=use_case))

    async def get_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        """See `Jobs`."""
        _check_names(tenant_id=tenant_id)
        check_uuid("job_id", job_id)
        await self._clock.sync()  # whoever tells of a row that cannot be read says when
        unreadable: list[UnreadableJob] = []
        jobs = await self._store.get([job_id], tenant_id=tenant_id, unreadable=unreadable.append)
        if not jobs:
            why = unreadable[0].problem if unreadable else ""
            raise JobNotFoundError(job_id, unreadable=why)
        return jobs[0]

    async def list_jobs(
        self,
        *,
        tenant_id: str | None = None,
        use_case: str | None = None,
        status: JobStatus | str | None = None,
        limit: int = 100,
        cursor: UUID | None = None,
    ) -> JobPage:
        """See `Jobs`."""
        if type(limit) is not int or not 1 <= limit <= JOBS_PER_PAGE_MAX:
            raise InvalidJobError("limit", f"must be an integer from 1 to {JOBS_PER_PAGE_MAX}")
        _check_names(tenant_id=tenant_id, use_case=use_case)
        wanted = None if status is None else check_status("status", status)
        if cursor is not None:
            check_uuid("cursor", cursor)
        criteria = JobFilter(tenant_id=tenant_id, use_case=use_case, status=wanted)
        await self._clock.sync()
        return await self._store.find(criteria, limit=limit, before=cursor)

    async def cancel_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        """See `Jobs`."""
        for _ in range(TRIES_MAX):
            job = await self.get_job(job_id, tenant_id=tenant_id)
            event = lifecycle.cancelling(job)
            if event is None:
                return job
            after = await self._apply(job, event)
            if after is not None:
                if job.worker_id is not None:
                    self._notify(cancellation(job.worker_id))
                return after
        raise Unavailable(f"job {job_id} changed hands too often to be cancelled; try again")

    async def retry_job(self, job_id: UUID, *, tenant_id: str | None = None) -> Job:
        """See `Jobs`. A retry is an operator's decision and asks for no quota."""
        for _ in range(TRIES_MAX):
            job = await self.get_job(job_id, tenant_id=tenant_id)
            after = await self._apply(job, lifecycle.Retried())
            if after is not None:
                return after
        raise Unavailable(f"job {job_id} changed hands too often to be retried; try again")

    # --- before it is enqueued ---

    async def outlook(self, request: EnqueueJobRequest) -> Outlook:
        """Tell whether a job would start in time, were it enqueued now; nothing is enqueued.

        An estimate, see `Outlook`. How long a job runs is what live workers tell of its type; of a
        type that none has run lately, `RUN_SECONDS`, a guess.

        Raises:
            InvalidJobError: the job could not be enqueued.
            ConfigurationError: the service was made without `statistics` or `workers`.
        """
        statistics, workers = self._statistics, self._workers
        if statistics is None or workers is None:
            given = {"statistics": statistics, "workers": workers}
            missing = " and ".join(name for name, port in given.items() if port is None)
            raise ConfigurationError(f"an outlook needs a JobService that was given {missing}")
        job = self._new_job(request, await self._time(None), {})
        return await outlook_of(job, self._config.holds, statistics=statistics, workers=workers)

    # --- shared ---

    async def _apply(self, job: Job, event: lifecycle.JobEvent) -> Job | None:
        """Carry out one event; None when the job is no longer what it was thought to be."""
        await self._clock.sync()
        now = self._clock.now()
        config = self._config.use_case_configs.get(job.use_case)
        all_are_kept = config is not None and config.history is KeptAttempts.ALL
        change = lifecycle.change(job, event, now=now, all_are_kept=all_are_kept)
        applied = await self._store.save([change])
        if job.id in applied.conflicting:
            raise IllegalTransition(
                state=job.phase.value,
                event=type(event).__name__,
                why="another live job has its dedupe key",
            )
        if (refusal := applied.refused.get(job.id)) is not None:
            raise StoreRefused(f"the store refused to change job {job.id}: {refusal}", refusal)
        if job.id not in applied.ids:
            return None
        self._record(tell(job, event, change.job, at=now))
        self._notify(DISPATCH)
        return change.job

    def _notify(self, topic: str) -> None:
        if self._signal is not None:
            self._signal.notify(topic)

    def _record(self, facts: Iterable[Fact]) -> None:
        if self._telemetry is not None:
            for fact in facts:
                self._telemetry.record(fact)


def _transaction(connection: object | None, session: object | None) -> object | None:
    """Return what a caller hands in to write in; None for a transaction of the store's own."""
    if connection is not None and session is not None:
        raise InvalidJobError("session", "must not be given together with `connection`")
    return connection if session is None else session


def _at(index: int, error: InvalidJobError) -> InvalidJobError:
    """Return the error with the job's place in the call."""
    return InvalidJobError(f"jobs[{index}].{error.field}", error.problem)


def _check_names(**names: str | None) -> None:
    """Refuse names that no job can have: some stores cannot even look for them."""
    for field, name in names.items():
        if name is not None:
            check_name(field, name)


def _enqueued(result: AddResult) -> Enqueued:
    match result:
        case Added(job_id=job_id):
            return Enqueued(job_id)
        case Duplicate(of=job_id):
            return Enqueued(job_id, duplicate=True)
        case Refused(tenant_id=tenant_id, limit=limit, used=used, asked=asked):
            raise QuotaExceededError(tenant_id=tenant_id, limit=limit, used=used, asked=asked)
        case Invalid(field=field, problem=problem):
            raise InvalidJobError(field, problem)
