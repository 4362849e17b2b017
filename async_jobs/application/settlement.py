"""Settler: outcomes, committed in groups."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar
from uuid import UUID

from async_jobs.application import failpoints
from async_jobs.application.attempt import Attempt
from async_jobs.domain import lifecycle
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.errors import IllegalTransition, Unavailable
from async_jobs.domain.facts import StaleOutcomeDropped, job_ids, tell
from async_jobs.domain.job import Job
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.signal import DISPATCH, Signal
from async_jobs.ports.store import JobStore
from async_jobs.ports.telemetry import Telemetry

T = TypeVar("T")
_Outcomes: TypeAlias = Mapping[UUID, tuple[Job, lifecycle.JobEvent]]

GROUP_MAX = 1_000
ROUNDS_MAX = 3
_RETRY = BackoffPolicy(base_delay_seconds=0.1, max_delay_seconds=5.0, jitter=0.5)


class Settler:
    """Turns outcomes into saved jobs.

    Outcomes that arrive while a group is being saved form the next group, so that the
    commits are few when they are slow and prompt when they are quick.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        clock: Clock,
        chance: Chance,
        signal: Signal,
        telemetry: Telemetry,
        on_settled: Callable[[Attempt], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._chance = chance
        self._signal = signal
        self._telemetry = telemetry
        self._on_settled = on_settled
        self._waiting: list[tuple[Attempt, lifecycle.JobEvent]] = []
        self._arrived = asyncio.Event()
        self._closing = False

    def add(self, attempt: Attempt, event: lifecycle.JobEvent) -> None:
        """Hand an outcome in; an attempt has one, whoever tells it first."""
        if attempt.settled:
            return
        attempt.settled = True
        self._waiting.append((attempt, event))
        self._arrived.set()

    def close(self) -> None:
        """Let `run` end once everything handed in is settled."""
        self._closing = True
        self._arrived.set()

    async def run(self) -> None:
        """Settle group after group until closed and empty."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self.settle_group()
            if self._closing:
                return

    async def settle_group(self) -> None:
        """Settle what has been handed in, at most 1,000 outcomes; returns when it is done."""
        group, self._waiting = self._waiting[:GROUP_MAX], self._waiting[GROUP_MAX:]
        if not group:
            return
        await failpoints.reached(failpoints.WORKER_AFTER_HANDLER_BEFORE_OUTCOME)
        try:
            await self._settle(group)
        finally:
            for attempt, _ in group:
                self._on_settled(attempt)
        self._signal.notify(DISPATCH)
        await failpoints.reached(failpoints.WORKER_AFTER_OUTCOME)

    async def _settle(self, group: Sequence[tuple[Attempt, lifecycle.JobEvent]]) -> None:
        left: _Outcomes = {attempt.job.id: (attempt.job, event) for attempt, event in group}
        for _ in range(ROUNDS_MAX):
            left = await self._save(left)
            if not left:
                return
            left = await self._still_ours(left)
        for job, event in left.values():
            self._drop(job, event)

    async def _save(self, outcomes: _Outcomes) -> _Outcomes:
        """Save what can be saved; returns what lost its comparison."""
        await self._clock.sync()
        now = self._clock.now()
        changes = {}
        for job, event in outcomes.values():
            try:
                changes[job.id] = lifecycle.change(job, event, now=now)
            except IllegalTransition:
                self._drop(job, event)
        applied = await self._patiently(lambda: self._store.save(list(changes.values())), outcomes)
        saved = frozenset[UUID]() if applied is None else applied.ids
        for job_id in saved:
            job, event = outcomes[job_id]
            for fact in tell(job, event, changes[job_id].job, at=now):
                self._telemetry.record(fact)
        return {job_id: outcomes[job_id] for job_id in changes.keys() - saved}

    async def _still_ours(self, lost: _Outcomes) -> _Outcomes:
        """Look why outcomes lost: a cancel request came in between, or the lease is gone."""
        jobs = await self._patiently(lambda: self._store.get(list(lost)), lost)
        stored = {job.id: job for job in jobs or ()}
        ours: dict[UUID, tuple[Job, lifecycle.JobEvent]] = {}
        for job_id, (job, event) in lost.items():
            now_stored = stored.get(job_id)
            if (
                now_stored is not None
                and now_stored.lease_seq == job.lease_seq
                and now_stored.started_at is not None
            ):
                ours[job_id] = (now_stored, event)
            else:
                self._drop(job, event)
        return ours

    async def _patiently(self, call: Callable[[], Awaitable[T]], about: _Outcomes) -> T | None:
        """Repeat a call while the store is unavailable, until every lease concerned is over.

        Repeating is safe: a save that took effect unheard says applied the second time.
        """
        failures = 0
        while True:
            try:
                return await call()
            except Unavailable:
                failures += 1
                if not any(_holds_lease(job, self._clock) for job, _ in about.values()):
                    return None
                pause = _RETRY.delay(failures, self._chance.uniform())
                await self._clock.sleep(pause.total_seconds())

    def _drop(self, job: Job, event: lifecycle.JobEvent) -> None:
        ids = job_ids(job, at=self._clock.now())
        self._telemetry.record(StaleOutcomeDropped(event=type(event).__name__, **ids))


def _holds_lease(job: Job, clock: Clock) -> bool:
    return job.lease_expires_at is not None and job.lease_expires_at > clock.now()
