"""Claimer: a batch of deliveries becomes the jobs this worker may execute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from async_jobs.domain import lifecycle
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.errors import IllegalTransition, Unavailable
from async_jobs.domain.facts import PoisonDropped, tell
from async_jobs.domain.job import HandOff, Job
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.queue import Delivery
from async_jobs.ports.store import JobStore
from async_jobs.ports.telemetry import Telemetry

TRIES_MAX = 4
_RETRY = BackoffPolicy(base_delay_seconds=0.2, max_delay_seconds=2.0, jitter=0.5)


class Claimer:
    """Consumes leases by compare-and-set, so that a second delivery of one claims nothing."""

    def __init__(
        self,
        worker_id: str,
        store: JobStore,
        *,
        clock: Clock,
        chance: Chance,
        telemetry: Telemetry,
        lease_seconds: float,
    ) -> None:
        self._worker_id = worker_id
        self._store = store
        self._clock = clock
        self._chance = chance
        self._telemetry = telemetry
        self._lease_for = timedelta(seconds=lease_seconds)

    async def claim(self, queue: str, deliveries: Sequence[Delivery]) -> list[Job]:
        """Return the jobs claimed, in the order of their deliveries; the others are stale.

        Raises:
            Unavailable: the store did not answer. What may have been claimed all the same is
                executed by nobody, and comes back when its lease expires.
        """
        await self._clock.sync()
        wanted = self._wanted(queue, deliveries)
        if not wanted:
            return []
        jobs = {job.id: job for job in await self._store.get(list(wanted))}
        now = self._clock.now()
        claimed = lifecycle.Claimed(self._worker_id, now + self._lease_for)
        changes: dict[UUID, lifecycle.Change] = {}
        for job_id, handoff in wanted.items():
            job = jobs.get(job_id)
            if job is None or handoff.lease_seq not in (None, job.lease_seq):
                continue
            with suppress(IllegalTransition):
                changes[job_id] = lifecycle.change(job, claimed, now=now)
        applied = await self._save(list(changes.values()))
        mine = [job_id for job_id in changes if job_id in applied]
        for job_id in mine:
            for fact in tell(jobs[job_id], claimed, changes[job_id].job, at=now):
                self._telemetry.record(fact)
        return [changes[job_id].job for job_id in mine]

    def _wanted(self, queue: str, deliveries: Sequence[Delivery]) -> dict[UUID, HandOff]:
        """Return one hand-off a job: a bare id, which means its current lease, else the newest."""
        wanted: dict[UUID, HandOff] = {}
        for delivery in deliveries:
            handoff = delivery.handoff
            if handoff is None:
                at = self._clock.now()
                self._telemetry.record(PoisonDropped(at=at, queue=queue, problem=delivery.problem))
                continue
            known = wanted.get(handoff.job_id)
            if known is None or _newness(known) < _newness(handoff):
                wanted[handoff.job_id] = handoff
        return wanted

    async def _save(self, changes: Sequence[lifecycle.Change]) -> frozenset[UUID]:
        """Save, repeating what went unheard: a claim that took effect says applied again."""
        for attempt in range(1, TRIES_MAX):
            try:
                return (await self._store.save(changes)).ids
            except Unavailable:
                pause = _RETRY.delay(attempt, self._chance.uniform())
                await self._clock.sleep(pause.total_seconds())
        return (await self._store.save(changes)).ids


def _newness(handoff: HandOff) -> float:
    return math.inf if handoff.lease_seq is None else handoff.lease_seq
