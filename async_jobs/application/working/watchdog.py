"""The watchdog: stops what runs too long or has lost its lease, and a worker that hears nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeAlias

from async_jobs.application.settings import WorkerSettings
from async_jobs.application.working.attempt import Attempt, StopReason
from async_jobs.application.working.receiving import Receiver
from async_jobs.application.working.renewal import RenewalHost
from async_jobs.application.working.slots import Slots
from async_jobs.domain import lifecycle
from async_jobs.domain.errors import AsyncJobsError
from async_jobs.domain.facts import HandlerStuck
from async_jobs.domain.reporting import job_ids
from async_jobs.ports.clock import Clock
from async_jobs.ports.telemetry import Telemetry

Conclude: TypeAlias = Callable[[Attempt, "lifecycle.JobEvent | None"], None]
"""Settles an attempt by what ended it; by None if there is nothing to settle."""


class WorkerStalledError(AsyncJobsError):
    """Nothing can be received or renewed any more; the process should end and be replaced."""


class Watchdog:
    """Looks after what a worker runs.

    Args:
        slots: what runs, and what waits for a slot.
        receivers: what has to be heard of.
        conclude: settles attempts.
        has_room: tells whether the worker would take more.
        renewal_host: the thread that renews the leases, if one does.
    """

    def __init__(
        self,
        slots: Slots,
        receivers: Sequence[Receiver],
        conclude: Conclude,
        *,
        clock: Clock,
        telemetry: Telemetry,
        settings: WorkerSettings,
        has_room: Callable[[], bool],
        renewal_host: RenewalHost | None,
    ) -> None:
        self._slots = slots
        self._receivers = receivers
        self._conclude = conclude
        self._clock = clock
        self._telemetry = telemetry
        self._settings = settings
        self._has_room = has_room
        self._renewal_host = renewal_host

    async def watch(self) -> None:
        """Stop what ran too long or lost its lease; give up when nothing can be received."""
        while True:
            await self._clock.sleep(self._settings.watch_seconds)
            now = self._clock.monotonic()
            for attempt in self._slots.running:
                self._look_at(attempt, now)
            if (suspect := self._slots.waiting_suspect) is not None:
                self._look_at_waiting(suspect, now)
            if self._slots.all_stuck:
                # Others may run what waits here. If it stays so, that is a stall.
                for attempt in self._slots.take_waiting():
                    self._conclude(attempt, lifecycle.Released())
            elif not self._has_room():
                # The time without room does not count as time without a receive.
                self.note_all_heard()
            if not self._slots.closed:
                self._give_up_if_stalled()

    def _give_up_if_stalled(self) -> None:
        silent_for = self.silent_seconds
        if silent_for > self._settings.stall_seconds:
            if self._slots.all_stuck:
                raise WorkerStalledError("every slot is taken by a handler that does not stop")
            raise WorkerStalledError(f"no receive has succeeded for {silent_for:.0f} s")
        if self._renewal_host is not None and not self._renewal_host.alive:
            raise WorkerStalledError("leases are no longer renewed")

    @property
    def silent_seconds(self) -> float:
        """For how long nothing could be received from the lane that was heard of least lately."""
        return self._clock.monotonic() - min(each.heard_at for each in self._receivers)

    def note_all_heard(self) -> None:
        for receiver in self._receivers:
            receiver.heard_at = self._clock.monotonic()

    def _look_at(self, attempt: Attempt, now: float) -> None:
        if attempt.stopped_at is not None:
            if now - attempt.stopped_at > self._settings.cancel_grace_seconds:
                self.abandon(attempt)
            return
        if attempt.began_at is not None and now - attempt.began_at > attempt.timeout_seconds:
            attempt.stop(StopReason.TIMED_OUT, at=now)
        self.stop_if_lost(attempt)

    def _look_at_waiting(self, suspect: Attempt, now: float) -> None:
        """Put a suspect off that finds no time alone, and leave the worker to others meanwhile."""
        suspect.waits_since = now if suspect.waits_since is None else suspect.waits_since
        self.stop_if_lost(suspect)
        delay = self._settings.suspect_wait_seconds
        if suspect.stop_reason is None and now - suspect.waits_since < delay:
            return
        put_off = lifecycle.Snoozed(self._clock.now() + timedelta(seconds=delay))
        self._conclude(suspect, put_off if suspect.stop_reason is None else suspect.stop_event())
        self._slots.let_go(suspect)

    def stop_if_lost(self, attempt: Attempt) -> None:
        """Stop what could not be renewed in time, before somebody else may execute it."""
        lease_end = attempt.job.lease_expires_at
        if lease_end is not None and lease_end - self._settings.lost_margin <= self._clock.now():
            attempt.stop(StopReason.LEASE_LOST, at=self._clock.monotonic())

    def abandon(self, attempt: Attempt) -> None:
        """Settle for a handler that does not stop. It keeps its slot until it returns."""
        if attempt.settled:
            return
        ids = job_ids(attempt.job, at=self._clock.now())
        self._telemetry.record(HandlerStuck(reason=str(attempt.stop_reason), **ids))
        self._conclude(attempt, attempt.stop_event())
        self._slots.let_go(attempt)
