"""For teams that run loops of their own: they lease jobs, run them, and tell the outcomes."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Final

from async_jobs.application.enqueueing.service import TRIES_MAX, JobService
from async_jobs.application.scheduling.dispatcher import Dispatcher
from async_jobs.domain import lifecycle
from async_jobs.domain.bounds import bounded_error, check_result
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.enqueue import unknown_name
from async_jobs.domain.errors import IllegalTransition
from async_jobs.domain.job import CLAIMED, Job, JsonValue
from async_jobs.domain.limits import Limits
from async_jobs.domain.pools import Fleet
from async_jobs.domain.reporting import tell
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.controls import Controls
from async_jobs.ports.leases import Leases
from async_jobs.ports.signal import Signal
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.store import Store
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.tracing import NO_TRACING, Tracing
from async_jobs.ports.upkeep import Upkeep
from async_jobs.ports.workers import Workers

BOUNDLESS: Final = 1 << 60
"""More hand-offs than there can ever be: a loop of one's own waits for no worker."""
PROMOTED_AT_ONCE: Final = 1_000


class OwnLoops(JobService):
    """A `JobService` that also leases jobs to whoever asks.

    Args:
        store: the system of record, which gives the leases too.
        config, clock, chance, signal, telemetry, statistics, workers, controls, tracing: as for
            `JobService`.
    """

    def __init__(
        self,
        config: Limits,
        store: Store,
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
        super().__init__(
            config,
            store,
            clock=clock,
            chance=chance,
            signal=signal,
            telemetry=telemetry,
            statistics=statistics,
            workers=workers,
            controls=controls,
            tracing=tracing,
        )
        self._leases: Leases = store
        self._upkeep: Upkeep = store

    @cached_property
    def _dispatcher(self) -> Dispatcher:
        return Dispatcher(self._config, self._leases, self._clock, self._telemetry)

    async def lease_jobs_for_use_case(
        self, use_case: str, *, worker_id: str, limit: int = 10, lease_seconds: float = 60.0
    ) -> list[Job]:
        """Lease and claim up to `limit` jobs by the scheduling policy, charging an attempt each.

        The caller executes them and tells the outcome by one of the `mark_job_…` calls, within
        `lease_seconds`; after that the job belongs to somebody else and the call fails.

        Raises:
            InvalidJobError: the use case is unknown.
        """
        if use_case not in self._config.use_case_configs:
            raise unknown_name("use_case", self._config.use_case_configs)
        await self._promote()
        until = timedelta(seconds=lease_seconds)
        # Whoever asks has the slots; hand-offs of other loops take none of them.
        dispatched = await self._dispatcher.dispatch(
            [use_case], Fleet(window_min=BOUNDLESS), until, limit=limit
        )
        now = self._clock.now()
        claimed = lifecycle.Claimed(worker_id, now + until)
        jobs = await self._leases.claim(dispatched.handoffs, claimed, now=now)
        for job in jobs:
            self._record(tell(job, claimed, job, at=now))
        return jobs

    async def _promote(self) -> None:
        """Make due jobs visible: there may be no scheduler that does it."""
        configs = self._config.use_case_configs
        sidelined = [n for n, each in configs.items() if each.late_policy is LatePolicy.SIDELINE]
        await self._clock.sync()
        await self._upkeep.promote(self._clock.now(), limit=PROMOTED_AT_ONCE, sidelined=sidelined)

    async def mark_job_succeeded(self, job: Job, result: JsonValue = None) -> Job:
        """Tell that a leased job succeeded.

        Raises:
            IllegalTransition: the lease was lost; the outcome changed nothing.
        """
        return await self._conclude(job, lifecycle.Succeeded(check_result(result)))

    async def mark_job_retry(
        self, job: Job, error: str, *, retry_after: timedelta | None = None
    ) -> Job:
        """Tell that a leased job failed; it is tried again while it has attempts left."""
        draw = self._chance.uniform()
        return await self._conclude(job, lifecycle.Failed(error, retry_after, draw))

    async def mark_job_dead(self, job: Job, error: str) -> Job:
        """Tell that a leased job failed for good."""
        return await self._conclude(job, lifecycle.Rejected(bounded_error(error)))

    async def _conclude(self, job: Job, event: lifecycle.JobEvent) -> Job:
        known = job
        for _ in range(TRIES_MAX):
            after = await self._apply(known, event)
            if after is not None:
                return after
            known = await self.get_job(job.id)
            if _tells(known, job, event):
                return known
            if not _still_holds(known, job):
                break
        raise IllegalTransition(
            state=known.phase.value, event=type(event).__name__, why="the lease was lost"
        )


def _still_holds(stored: Job, job: Job) -> bool:
    """Tell whether a job is still claimed as it was known: by that number, and by that worker."""
    return stored.phase in CLAIMED and (
        (stored.lease_seq, stored.worker_id) == (job.lease_seq, job.worker_id)
    )


def _tells(stored: Job, job: Job, event: lifecycle.JobEvent) -> bool:
    """Tell whether this very outcome was stored before, by a call whose reply was lost.

    Only the holder of a lease can end it with its own words; instants and delays may differ.
    """
    if stored.lease_seq != job.lease_seq or stored.phase in CLAIMED:
        return False
    told = lifecycle.advance(job, event, now=stored.updated_at)
    return (stored.status, stored.attempts, stored.last_error, stored.result) == (
        told.status,
        told.attempts,
        told.last_error,
        told.result,
    )
