"""Surveying: what waits, what can run it and whose it is, for gauges; by one scheduler of many."""

from __future__ import annotations

from typing import Final

from async_jobs.application.scheduling.chores.chore import Chore
from async_jobs.application.scheduling.chores.counting_slots import CountingSlots
from async_jobs.domain.backlog import Surveyor
from async_jobs.domain.fairness import CONTESTED_WITHIN, ServiceMemory
from async_jobs.domain.limits import Limits
from async_jobs.domain.outlook import COUNT_MAX
from async_jobs.domain.readings import BacklogSurveyed, SharesSurveyed
from async_jobs.ports.checkpoints import CHECKPOINT, Checkpoints
from async_jobs.ports.clock import Clock
from async_jobs.ports.overview import Overview
from async_jobs.ports.telemetry import Telemetry

SURVEY_SECONDS: Final = 15.0
"""As often as most are scraped."""
COUNTED_IN_ALL_MAX: Final = 10_000
"""So many jobs that are due a survey looks at, and at as many that are scheduled; each use case
has an equal part of it. Meanwhile, some hundredths of a second, the scheduler does nothing else.
"""


class Surveying(Chore):
    """Reads one snapshot, and writes nothing. Where nobody wants to know, it reads nothing.

    Args:
        overview: what a turn would see; None to look at nothing.
        checkpoints: what schedulers remember of who had how much.
        config: the limits that are kept.
        clock: the store's time.
        telemetry: told of what was seen.
    """

    def __init__(
        self,
        overview: Overview | None,
        checkpoints: Checkpoints | None,
        config: Limits,
        *,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        super().__init__("survey", SURVEY_SECONDS)
        self._overview = overview
        self._checkpoints = checkpoints
        self._config = config
        self._clock = clock
        self._telemetry = telemetry
        self._has_told = False

    @property
    def is_wanted(self) -> bool:
        """Whether somebody wants to know, and there is something to look at."""
        return self._overview is not None and self._telemetry.wants(BacklogSurveyed)

    async def survey(self, slots: CountingSlots, memory: ServiceMemory, *, is_first: bool) -> None:
        """Look and tell if this scheduler is the one to do so; else take back what it told.

        Args:
            slots: knows who is alive.
            memory: knows how long jobs hold a slot.
            is_first: whether it is the one.
        """
        if not is_first:
            if self._has_told:
                self._has_told = False
                self._telemetry.record(BacklogSurveyed(at=self._clock.now()))
                self._telemetry.record(SharesSurveyed(at=self._clock.now()))
            return
        assert self._overview is not None
        configs, now = self._config.use_case_configs, self._clock.now()
        fleet = slots.fleet
        limit = min(COUNT_MAX, max(100, COUNTED_IN_ALL_MAX // max(1, len(configs))))
        async with self._overview.looking(configs) as look:
            counts = await look.running(fleet.workers)
            backlogs = await look.backlog(configs, now, limit=limit)
        surveyor = Surveyor(
            config=self._config,
            fleet=fleet,
            receiving=slots.receiving,
            counts=counts,
            backlogs=backlogs,
            run_seconds=lambda name: memory.turnover(name).seconds,
            now=now,
        )
        self._has_told = True
        self._telemetry.record(
            BacklogSurveyed(
                at=now, use_cases=tuple(surveyor.use_cases()), queues=tuple(surveyor.queues())
            )
        )
        if self._telemetry.wants(SharesSurveyed):
            state = await self._checkpoints.load(CHECKPOINT) if self._checkpoints else None
            contested = ServiceMemory()
            contested.restore(state or {}, counted_since=now - CONTESTED_WITHIN)
            self._telemetry.record(
                SharesSurveyed(
                    at=now,
                    capacity=tuple(surveyor.capacity_shares(contested)),
                    slots=tuple(surveyor.slot_shares(contested)),
                )
            )
