"""What keeps jobs waiting and fails nothing: whoever sees it tells it now and then.

A scheduler sees the most; that none runs, only others can see.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from async_jobs.domain import facts
from async_jobs.domain.errors import AsyncJobsError, Unavailable
from async_jobs.domain.limits import DELAY_TOLERANCE_MAX, Limits, queue_of
from async_jobs.ports.checkpoints import Checkpoints
from async_jobs.ports.clock import Clock
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.workers import WorkerInfo

# What a start or a rollout mends by itself is not told.
PATIENCE_SECONDS = 15.0
TOLD_AGAIN_SECONDS = 3_600.0
COUNTED_SECONDS = 300.0
BEAT = "scheduler"
"""The checkpoint in which schedulers tell that they tick."""
BEAT_SECONDS = 15.0
SILENT_SECONDS = 60.0
"""A scheduler that has said nothing for so long is gone, unless it ticks more seldom than that."""
LOOK_SECONDS = 30.0
_NO_TIME = datetime.min.replace(tzinfo=UTC)


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
        self._count_due_at = float("-inf")
        self._lasting = _Lasting()

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
        """Yield every trouble there is, without its instant, so that it is known again."""
        configs = self._config.use_case_configs
        fed = {queue_of(name, each) for name, each in configs.items()}
        served = {queue for worker in workers for queue in worker.queues}
        self._handed_off -= served
        for queue in self._handed_off:
            yield facts.QueueUnattended(at=_NO_TIME, queue=queue)
        for queue in served - fed:
            yield facts.QueueUnfed(at=_NO_TIME, queue=queue)
        for worker in workers:
            if self._transport and worker.transport and worker.transport != self._transport:
                for queue in fed.intersection(worker.queues):
                    yield facts.TransportsDiffer(
                        at=_NO_TIME,
                        queue=queue,
                        scheduler=self._transport,
                        worker=worker.transport,
                    )
        for name in self._stored:
            if name not in configs:
                yield facts.UseCaseUnknown(at=_NO_TIME, use_case=name)
        for name, each in configs.items():
            if each.max_concurrent == 0:
                yield facts.UseCasePaused(at=_NO_TIME, use_case=name)


def _patience(trouble: facts.Fact) -> float:
    # Nobody else can end a pause meanwhile: it is in this scheduler's own settings.
    return 0.0 if isinstance(trouble, facts.UseCasePaused) else PATIENCE_SECONDS


async def beat(checkpoints: Checkpoints, now: datetime, *, interval_seconds: float) -> None:
    """Tell those who look for a scheduler that one ticks.

    Args:
        checkpoints: where they look.
        now: the instant of the tick.
        interval_seconds: after which it ticks again, even if nobody wakes it.
    """
    lasting = timedelta(seconds=max(SILENT_SECONDS, 3 * interval_seconds))
    state = {"ticked_at": now.isoformat(), "alive_until": (now + lasting).isoformat()}
    await checkpoints.save(BEAT, state)


class SchedulerWatch:
    """Sees from outside, as from a worker, that jobs are pending and no scheduler ticks.

    Args:
        checkpoints: where schedulers tell that they do.
        statistics: tells whether jobs are pending.
        clock: the store's time.
        telemetry: is told, once it has lasted, and again every hour.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        statistics: Statistics,
        *,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._checkpoints = checkpoints
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
        troubles = set() if missing is None else {replace(missing, at=_NO_TIME)}
        for trouble in self._lasting.due(troubles, self._clock.monotonic(), _patience):
            self._telemetry.record(replace(trouble, at=self._clock.now()))

    async def missing(self) -> facts.SchedulerMissing | None:
        """Return what there is to tell at this moment; None where all is well.

        Raises:
            Unavailable: nobody answered.
        """
        await self._clock.sync()
        now = self._clock.now()
        state = await self._checkpoints.load(BEAT) or {}
        alive_until = _instant(state.get("alive_until"))
        if (alive_until is not None and now < alive_until) or not await self._has_pending(now):
            return None
        return facts.SchedulerMissing(at=now, ticked_at=_instant(state.get("ticked_at")))

    async def _has_pending(self, now: datetime) -> bool:
        names = await self._statistics.use_cases()
        counts = await self._statistics.due_by(names, now + DELAY_TOLERANCE_MAX, limit=1)
        return any(counted.jobs for counted in counts.values())


def _instant(value: object) -> datetime | None:
    """Return an instant that a scheduler wrote; None for what no version of it has written."""
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return instant if instant is None or instant.tzinfo is not None else None
