"""Settler: outcomes, committed in groups."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TypeAlias, TypeVar
from uuid import UUID

from async_jobs.application import failpoints
from async_jobs.application.working.attempt import Attempt
from async_jobs.domain import lifecycle
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.errors import IllegalTransition, StoreRefused, Unavailable
from async_jobs.domain.facts import JobSucceeded, StaleOutcomeDropped
from async_jobs.domain.job import CLAIMED, Job
from async_jobs.domain.refused import TRIES_MAX, instead_of
from async_jobs.domain.reporting import job_ids, tell
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.leases import Success
from async_jobs.ports.signal import DISPATCH, Signal
from async_jobs.ports.store import Store
from async_jobs.ports.telemetry import Telemetry

T = TypeVar("T")
_Outcomes: TypeAlias = Mapping[UUID, tuple[Attempt, lifecycle.JobEvent]]

GROUP_MAX = 1_000
ROUNDS_MAX = 3
_RETRY = BackoffPolicy(base_delay_seconds=0.1, max_delay_seconds=5.0, jitter=0.5)


class Settler:
    """Turns outcomes into saved jobs.

    Outcomes that arrive while a group is being saved form the next group, so that the
    commits are few when they are slow and prompt when they are quick.

    Args:
        recorded: the use cases of which successes and snoozes are recorded, too.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        chance: Chance,
        signal: Signal,
        telemetry: Telemetry,
        on_settled: Callable[[Attempt], None],
        recorded: Collection[str] = (),
    ) -> None:
        self._store = store
        self._clock = clock
        self._chance = chance
        self._signal = signal
        self._telemetry = telemetry
        self._on_settled = on_settled
        self._recorded = recorded
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
        group = self._next_group()
        if not group:
            return
        await failpoints.reached(failpoints.WORKER_AFTER_HANDLER_BEFORE_OUTCOME)
        try:
            await self._settle(group)
        finally:
            for attempt, _ in group.values():
                self._on_settled(attempt)
        self._signal.notify(DISPATCH)
        await failpoints.reached(failpoints.WORKER_AFTER_OUTCOME)

    def _next_group(self) -> _Outcomes:
        """Take what may be saved together: no save names a job twice.

        A job is there twice when its first lease was lost and this worker claimed it again.
        """
        group: dict[UUID, tuple[Attempt, lifecycle.JobEvent]] = {}
        left = []
        for attempt, event in self._waiting:
            if len(group) < GROUP_MAX and attempt.job.id not in group:
                group[attempt.job.id] = (attempt, event)
            else:
                left.append((attempt, event))
        self._waiting = left
        return group

    async def _settle(self, group: _Outcomes) -> None:
        left = group
        for tried in range(ROUNDS_MAX):
            left = await self._save(left, anew=tried > 0)
            if left:
                left = await self._still_ours(left)
            if not left:
                return
        for attempt, event in left.values():
            self._drop(attempt.job, event)

    async def _save(self, outcomes: _Outcomes, *, anew: bool) -> _Outcomes:
        """Save what can be saved; returns what lost its comparison.

        What is saved anew is changed like any other job: only that tells what was refused. So is
        a success that is recorded.
        """
        await self._clock.sync()
        now = self._clock.now()
        successes: list[Success] = []
        others: dict[UUID, tuple[Attempt, lifecycle.JobEvent]] = {}
        for job_id, (attempt, event) in outcomes.items():
            job = attempt.job
            is_plain = not anew and job.use_case not in self._recorded
            if is_plain and isinstance(event, lifecycle.Succeeded):
                successes.append(Success(job_id, job.lease_seq, event.result, job.worker_id))
            else:
                others[job_id] = (attempt, event)
        lost = await self._succeed(successes, outcomes, now) if successes else {}
        return {**lost, **(await self._change(others, now) if others else {})}

    async def _succeed(
        self, successes: Sequence[Success], outcomes: _Outcomes, now: datetime
    ) -> _Outcomes:
        succeeded = await self._patiently(lambda: self._store.succeed(successes, now=now), outcomes)
        if succeeded is None:
            succeeded = frozenset()
        all_are_told = self._telemetry.wants(JobSucceeded)
        for id, _, result, *_ in successes:
            # A result that was left out has something in its place, and is always told.
            if (all_are_told or result is not None) and id in succeeded:
                attempt, event = outcomes[id]
                # What is told of a success does not change with it, so that one job is enough.
                self._tell(attempt.job, event, attempt.job, now)
        if len(succeeded) == len(successes):
            return {}
        return {id: outcomes[id] for id, *_ in successes if id not in succeeded}

    async def _change(self, outcomes: _Outcomes, now: datetime) -> _Outcomes:
        """Save outcomes by changes; in the place of one that is refused what can be kept.

        If nothing can, after three tries, the store has told of it, and the job is left to the end
        of its lease.
        """
        lost: set[UUID] = set()
        left = outcomes
        for _ in range(TRIES_MAX):
            if not left:
                break
            known = {job_id: attempt.job for job_id, (attempt, _) in left.items()}
            changes = {}
            for job_id, (_, event) in left.items():
                try:
                    changes[job_id] = self._step(known[job_id], event, now)
                except IllegalTransition:
                    self._drop(known[job_id], event)
            save = partial(self._store.save, list(changes.values()))
            applied = await self._patiently(save, left)
            if applied is None:
                lost |= changes.keys()
                break
            for job_id in applied.ids:
                self._tell(known[job_id], left[job_id][1], changes[job_id].job, now)
            lost |= changes.keys() - applied.ids - applied.refused.keys()
            left = {
                job_id: (left[job_id][0], instead)
                for job_id, refusal in applied.refused.items()
                if (instead := instead_of(left[job_id][1], refusal)) is not None
            }
        return {job_id: outcomes[job_id] for job_id in lost}

    def _step(self, job: Job, event: lifecycle.JobEvent, now: datetime) -> lifecycle.Change:
        all_are_kept = job.use_case in self._recorded
        return lifecycle.change(job, event, now=now, all_are_kept=all_are_kept)

    def _tell(self, before: Job, event: lifecycle.JobEvent, after: Job, at: datetime) -> None:
        for fact in tell(before, event, after, at=at, wanted=self._telemetry.wants):
            self._telemetry.record(fact)

    async def _still_ours(self, lost: _Outcomes) -> _Outcomes:
        """Look why outcomes lost: a cancel request came in between, or the lease is gone."""
        jobs = await self._patiently(lambda: self._store.get(list(lost)), lost)
        stored = {job.id: job for job in jobs or ()}
        ours = {}
        for job_id, (attempt, event) in lost.items():
            job = stored.get(job_id)
            if (
                job is not None
                and job.lease_seq == attempt.job.lease_seq
                and job.worker_id == attempt.job.worker_id
                and job.phase in CLAIMED
            ):
                attempt.job = job
                ours[job_id] = (attempt, event)
            else:
                self._drop(attempt.job, event)
        return ours

    async def _patiently(self, call: Callable[[], Awaitable[T]], about: _Outcomes) -> T | None:
        """Repeat a call while the store does not take it, until every lease concerned is over.

        Repeating is safe: a save that took effect unheard says applied the second time.
        """
        failures = 0
        while True:
            try:
                return await call()
            except (Unavailable, StoreRefused):
                failures += 1
                # Asked anew each time, for renewals may get through all the while.
                if not any(_holds_lease(attempt.job, self._clock) for attempt, _ in about.values()):
                    return None
                pause = _RETRY.delay(failures, self._chance.uniform())
                await self._clock.sleep(pause.total_seconds())

    def _drop(self, job: Job, event: lifecycle.JobEvent) -> None:
        ids = job_ids(job, at=self._clock.now())
        self._telemetry.record(StaleOutcomeDropped(outcome=type(event).__name__, **ids))


def _holds_lease(job: Job, clock: Clock) -> bool:
    return job.lease_expires_at is not None and job.lease_expires_at > clock.now()
