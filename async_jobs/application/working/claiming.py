"""Claimer: hand-offs become the jobs this worker may execute."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from async_jobs.domain import lifecycle
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.facts import PoisonDropped
from async_jobs.domain.job import HandOff, Job, Phase
from async_jobs.domain.reporting import start_is_news, tell
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.queue import Claims, Delivery, Outbox
from async_jobs.ports.store import Store
from async_jobs.ports.telemetry import Telemetry

TRIES_MAX = 4
_RETRY = BackoffPolicy(base_delay_seconds=0.2, max_delay_seconds=2.0, jitter=0.5)


class Claimer:
    """Consumes leases by compare-and-set, so that a second delivery of one claims nothing."""

    def __init__(
        self,
        worker_id: str,
        store: Store,
        *,
        clock: Clock,
        chance: Chance,
        telemetry: Telemetry,
        lease_seconds: float,
        knows: Callable[[str], bool] = lambda type: True,
    ) -> None:
        self._worker_id = worker_id
        self._store = store
        self._clock = clock
        self._chance = chance
        self._telemetry = telemetry
        self._lease_for = timedelta(seconds=lease_seconds)
        self._knows = knows
        self._latest: datetime | None = None

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
        jobs = {job.id: job for job in await self._patiently(wanted)}
        mine = [jobs[job_id] for job_id in wanted if job_id in jobs]
        self._tell(mine)
        return mine

    async def claim_off(self, lane: Outbox, max_jobs: int) -> Claims:
        """Claim what is next in an outbox, without waiting for it.

        Raises:
            Unavailable: the lane did not answer; as for `claim`.
        """
        await self._clock.sync()
        claims = await self._claim_off_patiently(lane, max_jobs)
        for problem in claims.poison:
            self._drop(lane.name, problem)
        self._tell(claims.jobs)
        return claims

    async def _claim_off_patiently(self, lane: Outbox, max_jobs: int) -> Claims:
        instants: set[datetime] = set()
        failures = 0
        while True:
            try:
                return await self._claim_off(lane, max_jobs, instants)
            except Unavailable:
                failures += 1
                if failures == TRIES_MAX:
                    raise
                await self._pause(failures)

    async def _claim_off(self, lane: Outbox, max_jobs: int, instants: set[datetime]) -> Claims:
        """Claim at an instant of its own, which is added; look first for what others brought."""
        now = self._now()
        if instants and (unheard := await lane.claimed(self._worker_id, instants)):
            return Claims(unheard, more=True)
        instants.add(now)
        claimed = lifecycle.Claimed(self._worker_id, now + self._lease_for)
        return await lane.claim(claimed, now=now, max_messages=max_jobs)

    def _tell(self, jobs: Iterable[Job]) -> None:
        wanted = self._telemetry.wants
        for job in jobs:
            at = cast("datetime", job.started_at)
            # Without a handler for it here, it does not start: it is put off.
            if start_is_news(job, at=at, wanted=wanted) and self._knows(job.type):
                # What is told of a start does not change with it, so that one job is enough.
                event = lifecycle.Claimed(self._worker_id, cast("datetime", job.lease_expires_at))
                for fact in tell(job, event, job, at=at, wanted=wanted):
                    self._telemetry.record(fact)

    def _drop(self, queue: str, problem: str) -> None:
        self._telemetry.record(PoisonDropped(at=self._clock.now(), queue=queue, problem=problem))

    async def _pause(self, failures: int) -> None:
        pause = _RETRY.delay(failures, self._chance.uniform())
        await self._clock.sleep(pause.total_seconds())

    def _now(self) -> datetime:
        """Return an instant of which this worker has claimed nothing yet: it tells claims apart."""
        now = self._clock.now()
        if self._latest is not None and now <= self._latest:
            now = self._latest + timedelta(microseconds=1)
        self._latest = now
        return now

    def _wanted(self, queue: str, deliveries: Sequence[Delivery]) -> dict[UUID, HandOff]:
        """Return one hand-off a job: a bare id, which means its current lease, else the newest."""
        wanted: dict[UUID, HandOff] = {}
        for delivery in deliveries:
            handoff = delivery.handoff
            if handoff is None:
                self._drop(queue, delivery.problem)
                continue
            known = wanted.get(handoff.job_id)
            if known is None or _newness(known) < _newness(handoff):
                wanted[handoff.job_id] = handoff
        return wanted

    async def _patiently(self, wanted: Mapping[UUID, HandOff]) -> list[Job]:
        """Claim, repeating what went unheard; what took effect unheard is found by its instant.

        Each try is of its own instant, or a lease that is over meanwhile would be claimed.
        """
        handoffs = list(wanted.values())
        instants: set[datetime | None] = set()
        while True:
            now = self._now()
            instants.add(now)
            claimed = lifecycle.Claimed(self._worker_id, now + self._lease_for)
            try:
                jobs = await self._store.claim(handoffs, claimed, now=now)
                if len(instants) > 1:
                    left = wanted.keys() - {job.id for job in jobs}
                    jobs += await self._claimed_unheard(left, instants)
                return jobs
            except Unavailable:
                if len(instants) == TRIES_MAX:
                    raise
                await self._pause(len(instants))

    async def _claimed_unheard(
        self, ids: Collection[UUID], instants: Collection[datetime | None]
    ) -> list[Job]:
        return [
            job
            for job in await self._store.get(list(ids))
            if job.phase is Phase.CLAIMED
            and job.worker_id == self._worker_id
            and job.started_at in instants
        ]


def _newness(handoff: HandOff) -> float:
    return math.inf if handoff.lease_seq is None else handoff.lease_seq
