"""What keeps jobs waiting and fails nothing: whoever sees it tells it now and then.

A scheduler sees the most; that none runs, only others can see.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from async_jobs.domain import facts
from async_jobs.domain.errors import AsyncJobsError, Unavailable
from async_jobs.domain.limits import DELAY_TOLERANCE_MAX, Limits
from async_jobs.domain.presence import SchedulerInfo, WorkerInfo
from async_jobs.domain.troubles import NO_TIME, Findings, troubles
from async_jobs.ports.clock import Clock
from async_jobs.ports.schedulers import Schedulers
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.telemetry import Telemetry

# What a start or a rollout mends by itself is not told.
PATIENCE_SECONDS = 15.0
TOLD_AGAIN_SECONDS = 3_600.0
COUNTED_SECONDS = 300.0
LOOK_SECONDS = 30.0


class _Lasting:
    """Picks the troubles to tell: each once it has lasted, and again every hour."""

    def __init__(self) -> None:
        self._tell_at: dict[facts.Fact, float] = {}

    def due(
        self, troubles: Collection[facts.Fact], at: float, patience: Callable[[facts.Fact], float]
    ) -> list[facts.Fact]:
        """Return those of all present troubles that are to be told at a monotonic time.

        They are told apart by all they hold: without their instants they are known again.
        """
        self._tell_at = {each: due for each, due in self._tell_at.items() if each in troubles}
        told = []
        for trouble in sorted(troubles, key=repr):
            if at >= self._tell_at.setdefault(trouble, at + patience(trouble)):
                self._tell_at[trouble] = at + TOLD_AGAIN_SECONDS
                told.append(trouble)
        return told


class Notices:
    """Tells each trouble once it has lasted, and again every hour for as long as it does.

    Args:
        config: the use cases that are scheduled.
        clock: the store's time.
        telemetry: is told.
        statistics: tells which use cases have jobs; None leaves that out.
        transport: what carries this scheduler's hand-offs; empty leaves that out.
    """

    def __init__(
        self,
        config: Limits,
        *,
        clock: Clock,
        telemetry: Telemetry,
        statistics: Statistics | None = None,
        transport: str = "",
    ) -> None:
        self._config = config
        self._clock = clock
        self._telemetry = telemetry
        self._statistics = statistics
        self._transport = transport
        self._handed_off: set[str] = set()
        self._stored: Collection[str] = ()
        self._others: Sequence[SchedulerInfo] = ()
        self._count_due_at = float("-inf")
        self._lasting = _Lasting()

    def beside(self, schedulers: Sequence[SchedulerInfo]) -> None:
        """Take note of the other live schedulers."""
        self._others = schedulers

    def handed_off(self, queues: Iterable[str]) -> None:
        """Remember that hand-offs went to some queues."""
        self._handed_off.update(queues)

    async def look(self, workers: Sequence[WorkerInfo]) -> None:
        """Tell what is due to be told, the live workers being these."""
        at, now = self._clock.monotonic(), self._clock.now()
        await self._count(at)
        for trouble in self._lasting.due(set(self._troubles(workers)), at, _patience):
            self._telemetry.record(replace(trouble, at=now))

    async def _count(self, at: float) -> None:
        if self._statistics is not None and at >= self._count_due_at:
            self._count_due_at = at + COUNTED_SECONDS
            with suppress(Unavailable):
                self._stored = await self._statistics.use_cases()

    def _troubles(self, workers: Sequence[WorkerInfo]) -> Iterator[facts.Fact]:
        self._handed_off.difference_update(*[worker.queues for worker in workers])
        return troubles(
            Findings(
                config=self._config,
                workers=workers,
                transport=self._transport,
                stored=self._stored,
                used=self._handed_off,
                schedulers=self._others,
            )
        )


def _patience(trouble: facts.Fact) -> float:
    # Nobody else can end a pause meanwhile: it is in this scheduler's own settings.
    return 0.0 if isinstance(trouble, facts.UseCasePaused) else PATIENCE_SECONDS


class SchedulerWatch:
    """Sees from outside, as from a worker, that jobs are pending and no scheduler ticks.

    Args:
        schedulers: where they tell that they do.
        statistics: tells whether jobs are pending.
        clock: the store's time.
        telemetry: is told, once it has lasted, and again every hour.
    """

    def __init__(
        self,
        schedulers: Schedulers,
        statistics: Statistics,
        *,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._schedulers = schedulers
        self._statistics = statistics
        self._clock = clock
        self._telemetry = telemetry
        self._lasting = _Lasting()

    async def run(self) -> None:
        """Look at intervals, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            with suppress(AsyncJobsError):  # the worker's own business fails by it as well
                await self.look()

    async def look(self) -> None:
        """Tell that there is no scheduler, if that is so and due to be told."""
        missing = await self.missing()
        present = set() if missing is None else {replace(missing, at=NO_TIME)}
        for trouble in self._lasting.due(present, self._clock.monotonic(), _patience):
            self._telemetry.record(replace(trouble, at=self._clock.now()))

    async def missing(self) -> facts.SchedulerMissing | None:
        """Return what there is to tell at this moment; None where all is well.

        Raises:
            Unavailable: nobody answered.
        """
        await self._clock.sync()
        now = self._clock.now()
        known = await self._schedulers.known()
        if any(each.is_alive(now) for each in known) or not await self._has_pending(now):
            return None
        return facts.SchedulerMissing(at=now, ticked_at=known[0].ticked_at if known else None)

    async def _has_pending(self, now: datetime) -> bool:
        names = await self._statistics.use_cases()
        counts = await self._statistics.due_by(names, now + DELAY_TOLERANCE_MAX, limit=1)
        return any(counted.jobs for counted in counts.values())
