"""Announcing: that a scheduler ticks, and by which limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.application.scheduling.noticing import Notices
from async_jobs.application.settings import SchedulerSettings
from async_jobs.domain.job import JsonValue
from async_jobs.domain.limits import Limits
from async_jobs.domain.presence import SchedulerInfo
from async_jobs.domain.start_rates import StartRates
from async_jobs.domain.troubles import digest_of, limits_of
from async_jobs.ports.clock import Clock
from async_jobs.ports.schedulers import Schedulers

BEAT_SECONDS: Final = 15.0
SILENT_SECONDS: Final = 3 * BEAT_SECONDS
"""A scheduler that has said nothing for so long is gone, unless it ticks more seldom than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerIdentity:
    """Who a scheduler is: a fresh id for every start, and what it tells of itself."""

    scheduler_id: str
    host: str = "unknown"
    version: str = "unknown"
    transport: str = ""


class Announcing(Chore):
    """Writes one row. A crash leaves it to end by itself.

    Args:
        schedulers: the register; None to tell nobody.
        identity: whose row.
        config: the limits it keeps.
        notices: is told of the other schedulers.
        settings: how often it ticks.
        clock: the store's time.
    """

    def __init__(
        self,
        schedulers: Schedulers | None,
        identity: SchedulerIdentity | None,
        config: Limits,
        notices: Notices,
        settings: SchedulerSettings,
        *,
        clock: Clock,
    ) -> None:
        super().__init__("announce", BEAT_SECONDS)
        self._schedulers = schedulers
        self._identity = identity
        self._config = config
        self._notices = notices
        self._lasting = timedelta(seconds=max(SILENT_SECONDS, 3 * settings.interval_seconds))
        self._clock = clock
        self._rates = StartRates()
        self.is_first = schedulers is None or identity is None
        """Whether it is the one of those that measure that looks at all that waits."""

    def started(self, counts: Mapping[str, int]) -> None:
        """Count jobs that were leased, by use case."""
        self._rates.add(counts)

    async def announce(
        self,
        *,
        since: float,
        leads: Collection[str],
        hand_off_seconds: float,
        turnovers: Mapping[str, JsonValue],
        closed: Collection[str],
        measures: bool = False,
    ) -> None:
        """Tell that this one ticks.

        Args:
            since: when the tick began, as monotonic time.
            leads: the use cases of which it held the turn.
            hand_off_seconds: how long it expects a hand-off to take.
            turnovers: how long jobs of each use case hold a slot.
            closed: queues it leaves alone.
            measures: whether it would look at all that waits.
        """
        if self._schedulers is None or self._identity is None:
            return
        now, at = self._clock.now(), self._clock.monotonic()
        others = await self._schedulers.announce(
            SchedulerInfo(
                scheduler_id=self._identity.scheduler_id,
                host=self._identity.host,
                version=self._identity.version,
                transport=self._identity.transport,
                ticked_at=now,
                tick_seconds=at - since,
                alive_until=now + self._lasting,
                leads=tuple(sorted(leads)),
                limits=limits_of(self._config),
                settings=digest_of(self._config),
                start_rates=self._rates.until(at),
                hand_off_seconds=hand_off_seconds,
                turnovers=turnovers,
                closed=tuple(sorted(closed)),
                measures=measures,
            )
        )
        own = self._identity.scheduler_id
        self.is_first = all(own < other.scheduler_id for other in others if other.measures)
        self._notices.beside(others)
