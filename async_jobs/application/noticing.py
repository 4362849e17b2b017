"""What keeps jobs waiting and fails nothing: a scheduler sees it, and tells it now and then."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from async_jobs.domain import facts
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.limits import Limits, queue_of
from async_jobs.ports.clock import Clock
from async_jobs.ports.statistics import Statistics
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.workers import WorkerInfo

# What a start or a rollout mends by itself is not told.
PATIENCE_SECONDS = 15.0
TOLD_AGAIN_SECONDS = 3_600.0
COUNTED_SECONDS = 300.0
_NO_TIME = datetime.min.replace(tzinfo=UTC)


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
        self._tell_at: dict[facts.Fact, float] = {}

    def handed_off(self, queues: Iterable[str]) -> None:
        """Remember that hand-offs went to some queues."""
        self._handed_off.update(queues)

    async def look(self, workers: Sequence[WorkerInfo]) -> None:
        """Tell what is due to be told, the live workers being these."""
        at, now = self._clock.monotonic(), self._clock.now()
        await self._count(at)
        troubles = set(self._troubles(workers))
        self._tell_at = {each: due for each, due in self._tell_at.items() if each in troubles}
        for trouble in sorted(troubles, key=repr):
            # Nobody else can end a pause meanwhile: it is in this scheduler's own settings.
            patience = 0.0 if isinstance(trouble, facts.UseCasePaused) else PATIENCE_SECONDS
            if at >= self._tell_at.setdefault(trouble, at + patience):
                self._tell_at[trouble] = at + TOLD_AGAIN_SECONDS
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
