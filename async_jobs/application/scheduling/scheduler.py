"""Scheduler: one tick reaps, promotes and dispatches; a loop of ticks runs the system."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from async_jobs.application import failpoints
from async_jobs.application.changes import Changes
from async_jobs.application.in_force import InForce
from async_jobs.application.scheduling.chores.announcing import Announcing, SchedulerIdentity
from async_jobs.application.scheduling.chores.bulk import WorkingBulk
from async_jobs.application.scheduling.chores.chore import Chores
from async_jobs.application.scheduling.chores.counting_slots import CountingSlots
from async_jobs.application.scheduling.chores.expiring import Expiring
from async_jobs.application.scheduling.chores.forgetting import Forgetting
from async_jobs.application.scheduling.chores.keeping_history import KeepingHistory
from async_jobs.application.scheduling.chores.pausing import Pausing
from async_jobs.application.scheduling.chores.purging import Purging
from async_jobs.application.scheduling.chores.quarantining import Quarantining
from async_jobs.application.scheduling.chores.readying import Readying
from async_jobs.application.scheduling.chores.reaping import Reaped, Reaping
from async_jobs.application.scheduling.chores.remembering import Remembering
from async_jobs.application.scheduling.chores.rolling_up import RollingUp
from async_jobs.application.scheduling.chores.surveying import Surveying
from async_jobs.application.scheduling.dispatcher import Dispatched, Dispatcher
from async_jobs.application.scheduling.handing_off import Sender
from async_jobs.application.scheduling.noticing import Notices
from async_jobs.application.settings import SchedulerSettings
from async_jobs.application.waiting import all_done, end
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError
from async_jobs.domain.limits import Limits
from async_jobs.domain.pools import Fleet
from async_jobs.domain.readings import SchedulerTicked
from async_jobs.ports.bulk import Bulk
from async_jobs.ports.checkpoints import Checkpoints
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.controls import Controls
from async_jobs.ports.history import History
from async_jobs.ports.overview import Overview
from async_jobs.ports.queue import JobQueue, Outbox
from async_jobs.ports.schedulers import Schedulers
from async_jobs.ports.signal import DISPATCH, Signal
from async_jobs.ports.store import Store
from async_jobs.ports.tallies import Tallies
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.tracing import NO_TRACING, Tracing
from async_jobs.ports.upkeep import Upcoming
from async_jobs.ports.workers import Workers

# What a tick may take to end once the scheduler is told to stop.
STOP_SECONDS = 3.0
# A scheduler that found by itself what it should have been told of does not trust signals so long.
DEAF_SECONDS = 60.0
DISPATCHES_REMEMBERED = 8
# A slot that falls idle waits for the turn under way, for the next one, and for its claim.
TURNS_OF_A_HAND_OFF = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What one tick did.

    Attributes:
        leased: jobs handed off; `unsent` of them were taken back at once.
        reaped: leases that were over.
        expired: late jobs that became dead.
        next_run_at: when the next scheduled job comes due, or the next batch of a bulk operation.
        more: a bound was met, late jobs made way, leases were refused, or jobs came due after the
            dispatch, so that another tick should follow at once.
    """

    leased: int = 0
    unsent: int = 0
    reaped: int = 0
    expired: int = 0
    next_run_at: datetime | None = None
    more: bool = False

    @property
    def idle(self) -> bool:
        """True when nothing happened and nothing is known to be left to do."""
        return not (self.leased or self.reaped or self.expired or self.more)


class Scheduler:
    """Runs what is due, within every limit. Any number may run side by side.

    Args:
        queue_of: gives the queue of a name, to send hand-offs to once their leases are committed.
        outbox_of: gives the outbox of a name, for which that is one commit; None where the queue
            of that name is none.
        overview: what gauges of all that waits are read from; None for none.
    """

    def __init__(
        self,
        config: Limits,
        store: Store,
        queue_of: Callable[[str], JobQueue],
        *,
        clock: Clock,
        chance: Chance,
        signal: Signal,
        workers: Workers,
        telemetry: Telemetry,
        outbox_of: Callable[[str], Outbox | None] = lambda queue: None,
        controls: Controls | None = None,
        checkpoints: Checkpoints | None = None,
        schedulers: Schedulers | None = None,
        overview: Overview | None = None,
        identity: SchedulerIdentity | None = None,
        settings: SchedulerSettings | None = None,
        notices: Notices | None = None,
        tallies: Tallies | None = None,
        history: History | None = None,
        tracing: Tracing = NO_TRACING,
        bulk: Bulk | None = None,
    ) -> None:
        self._limits = limits = InForce(config, controls, clock=clock)
        self._telemetry, self._tracing = telemetry, tracing
        self._clock = clock
        self._chance = chance
        self._signal = signal
        self._settings = settings = settings or SchedulerSettings()
        self._notices = notices = notices or Notices(config, clock=clock, telemetry=telemetry)
        self._dispatcher = Dispatcher(
            self._limits,
            store,
            clock,
            telemetry,
            outbox_of=outbox_of,
            interval=timedelta(seconds=settings.interval_seconds),
        )
        changes = Changes(store, telemetry)
        self._sender = Sender(queue_of, store, changes, clock=clock, chance=chance)
        self._expiring = Expiring(store, changes, clock=clock)
        self._chores = Chores(clock, telemetry)
        self._reaping = Reaping(store, changes, settings, clock=clock, chance=chance)
        self._quarantining = Quarantining(store, settings, clock=clock)
        self._readying = Readying(store, settings, clock=clock)
        self._counting_slots = CountingSlots(workers, self._notices, settings, clock=clock)
        self._remembering = Remembering(checkpoints, self._dispatcher, clock=clock)
        self._pausing = Pausing(store, self._limits, clock=clock)
        self._forgetting = Forgetting(controls, bulk, self._limits, clock=clock)
        self._bulk = WorkingBulk(bulk, limits, clock=clock, signal=signal, telemetry=telemetry)
        self._purging = Purging(self._limits, store, settings, clock=clock, telemetry=telemetry)
        self._keeping_history = KeepingHistory(history, settings, clock=clock)
        self._announcing = Announcing(schedulers, identity, config, notices, settings, clock=clock)
        self._rolling_up = RollingUp(tallies, clock=clock)
        self._surveying = Surveying(overview, checkpoints, limits, clock=clock, telemetry=telemetry)
        self._deaf_until = float("-inf")
        self._dispatch_seconds = 0.0
        """How long it took lately to lease and send."""
        self._ticked_at: float | None = None

    def ready(self) -> bool:
        """Tell whether a tick succeeded lately."""
        silent_max = max(10.0, 5 * self._settings.interval_seconds)
        at = self._ticked_at
        return at is not None and self._clock.monotonic() - at < silent_max

    def problem(self) -> str | None:
        """Tell what it does not know, and goes on without."""
        return self._limits.problem

    # --- the loop ---

    async def run(self, stop: asyncio.Event, on_error: Callable[[Exception], None]) -> None:
        """Tick until `stop` is set: when woken, when something comes due, and at intervals.

        Args:
            stop: set it to end after the tick under way.
            on_error: told of ticks that failed.
        """
        stopping = asyncio.ensure_future(stop.wait())
        failures = 0
        slept_through = False
        try:
            while not stop.is_set():
                try:
                    tick = await self._tick_until(stopping)
                    failures = 0
                    if slept_through and tick.leased and not tick.reaped:
                        # Something was there to lease, and nobody said so.
                        self._deaf_until = self._clock.monotonic() + DEAF_SECONDS
                    slept_through = False
                except ConfigurationError:
                    raise
                except AsyncJobsError as error:
                    on_error(error)
                    failures += 1
                    await self._until(stopping, self._pause_after(failures))
                    continue
                if not tick.more:
                    pause = self._pause_seconds(tick)
                    if await self._until(stopping, pause):
                        self._deaf_until = float("-inf")
                    else:
                        slept_through = pause >= self._settings.interval_seconds
        finally:
            stopping.cancel()

    async def _tick_until(self, stopping: asyncio.Future[Any]) -> Tick:
        """Tick; once it is time to stop, the tick under way gets a few seconds to end.

        One that is cut off leaves nothing that the next scheduler's first tick does not mend.
        """
        ticking = asyncio.ensure_future(self.tick())
        try:
            await asyncio.wait((ticking, stopping), return_when=asyncio.FIRST_COMPLETED)
            await all_done([ticking], self._clock, seconds=STOP_SECONDS)
        finally:
            await end([ticking], self._clock, seconds=STOP_SECONDS)
        return ticking.result() if ticking.done() and not ticking.cancelled() else Tick()

    def _pause_after(self, failures: int) -> float:
        policy = BackoffPolicy(
            base_delay_seconds=self._settings.interval_seconds, max_delay_seconds=15.0, jitter=0.5
        )
        return policy.delay(failures, self._chance.uniform()).total_seconds()

    def _pause_seconds(self, tick: Tick) -> float:
        pause = self._settings.interval_seconds
        if tick.next_run_at is not None:
            pause = min(pause, max(0.0, (tick.next_run_at - self._clock.now()).total_seconds()))
        return pause

    async def _until(self, stopping: asyncio.Future[Any], seconds: float) -> bool:
        """Pause; returns whether a signal ended it."""
        woken = asyncio.ensure_future(self._signal.wait(DISPATCH, timeout_seconds=seconds))
        try:
            await asyncio.wait((woken, stopping), return_when=asyncio.FIRST_COMPLETED)
            return woken.done() and woken.result()
        finally:
            woken.cancel()
            with suppress(asyncio.CancelledError):
                await woken

    # --- one tick ---

    async def tick(self) -> Tick:
        """Reap, promote and dispatch once; a chore that fails is told of and tried again later.

        Raises:
            Unavailable: nothing could be dispatched; what was done stays done, the rest waits.
        """
        began = self._clock.monotonic()
        await self._clock.sync()
        try:
            tick = await self._tick(self._clock.monotonic())
        except Exception:
            self._chores.forget()
            raise
        self._chores.tell()
        if self._telemetry.wants(SchedulerTicked):
            took = timedelta(seconds=self._clock.monotonic() - began)
            leased = tick.leased - tick.unsent
            told = SchedulerTicked(at=self._clock.now(), took=took, leased=leased)
            self._telemetry.record(told)
        return tick

    async def _tick(self, at: float) -> Tick:
        do = self._chores.do
        reaped, aside, purging = Reaped(), False, False
        if self._reaping.is_due(at):
            reaped = await do(self._reaping, self._reaping.reap, otherwise=reaped)
        if self._quarantining.is_due(at):
            aside = await do(self._quarantining, self._quarantining.set_aside, otherwise=False)
        upcoming = await self._promote() if self._readying.presses else None
        if self._counting_slots.is_due(at):
            await do(self._counting_slots, self._counting_slots.count, otherwise=None)
        if self._remembering.is_due(at):
            await do(self._remembering, self._remembering.remember, otherwise=None)
        dispatched, unsent = await self._dispatch()
        unseen = 0
        if upcoming is None:
            upcoming = await self._promote()
            unseen = upcoming.promoted
        expired = await self._expiring.end(dispatched.expired)
        paused = await self._pause(at, dispatched)
        bulk = await self._work_bulk()
        if self._purging.is_due(at):
            purging = await do(self._purging, self._purging.purge, otherwise=False)
        if not dispatched.handoffs:
            self._chores.check(self._readying)  # a standby, which writes nothing, shows no job
        await self._announce(at, dispatched)
        await self._keep_what_was(at, dispatched)
        self._ticked_at = self._clock.monotonic()
        sent = len(dispatched.handoffs) - unsent
        return Tick(
            leased=len(dispatched.handoffs),
            unsent=unsent,
            reaped=reaped.leases,
            expired=expired,
            next_run_at=_first(upcoming.run_at, self._bulk.next_at),
            more=(
                reaped.more
                # What a transport took in part, it may take the rest of.
                or (sent > 0 and (dispatched.more or unsent > 0))
                # Each of them is left alone now, and keeps no other from its place.
                or dispatched.refused > 0
                or aside
                or purging
                or paused
                or bulk
                # Late jobs stand before others in what a dispatch sees, up to its bound.
                or expired > 0
                or unseen > 0
                or self._readying.is_past(upcoming.run_at)
            ),
        )

    async def _dispatch(self) -> tuple[Dispatched, int]:
        """Lease and send; returns what was leased, and how much of it was not sent."""
        began = self._clock.monotonic()
        dispatched = await self._dispatcher.dispatch(
            list(self._limits.use_case_configs),
            self._fleet_now(),
            timedelta(seconds=self._settings.dispatch_timeout_seconds),
        )
        self._readying.late = dispatched.late
        await failpoints.reached(failpoints.SCHEDULER_AFTER_LEASE_BEFORE_SEND)
        unsent = 0
        if dispatched.by_queue:
            so_far = self._clock.monotonic() - began
            with self._tracing.handing_off(dispatched.started, seconds=so_far) as span:
                unsent = await self._send(dispatched)
                span.sent(unsent=unsent)
            self._notices.handed_off(dispatched.by_queue)
            took = self._clock.monotonic() - began
            self._dispatch_seconds += (took - self._dispatch_seconds) / DISPATCHES_REMEMBERED
        return dispatched, unsent

    async def _pause(self, at: float, dispatched: Dispatched) -> bool:
        """Hide what is paused and show what is not; returns whether turns see others by it."""
        do, pausing = self._chores.do, self._pausing
        held = await do(pausing, partial(pausing.hold, dispatched.paused), otherwise=False)
        released = False
        if pausing.is_due(at):
            released = await do(pausing, pausing.release, otherwise=False)
        if self._forgetting.is_due(at):
            await do(self._forgetting, self._forgetting.forget, otherwise=None)
        return held or released

    async def _work_bulk(self) -> bool:
        """Take a batch of what operators do to many jobs; returns whether turns see others."""
        if not self._bulk.is_due(self._clock.monotonic()):
            return False
        return await self._chores.do(self._bulk, self._bulk.work, otherwise=False)

    async def _announce(self, at: float, dispatched: Dispatched) -> None:
        announcing = self._announcing
        announcing.started(dispatched.started)
        if announcing.is_due(at):
            announce = partial(
                announcing.announce,
                since=at,
                leads=dispatched.leads,
                hand_off_seconds=self._hand_off_seconds,
                turnovers=self._dispatcher.memory.saved_turnovers(),
                closed=self._sender.closed(),
                measures=self._surveying.is_wanted,
            )
            await self._chores.do(announcing, announce, otherwise=None)
        surveying = self._surveying
        if surveying.is_wanted and surveying.is_due(at):
            survey = partial(
                surveying.survey,
                self._counting_slots,
                self._dispatcher.memory,
                is_first=announcing.is_first,
            )
            await self._chores.do(surveying, survey, otherwise=None)

    async def _keep_what_was(self, at: float, dispatched: Dispatched) -> None:
        """Tidy what is kept of the past: records of attempts, and sums."""
        if self._keeping_history.is_due(at):
            tidy = self._keeping_history.tidy
            await self._chores.do(self._keeping_history, tidy, otherwise=None)
        self._rolling_up.leased(len(dispatched.handoffs))
        if self._rolling_up.is_due(at):
            await self._chores.do(self._rolling_up, self._rolling_up.roll_up, otherwise=None)

    async def _promote(self) -> Upcoming:
        return await self._chores.do(
            self._readying, self._readying.promote, otherwise=Upcoming(None)
        )

    @property
    def _hand_off_seconds(self) -> float:
        """For how long a slot is idle until that is seen, and its next job is there."""
        under_load = TURNS_OF_A_HAND_OFF * self._dispatch_seconds
        usual = max(self._settings.hand_off_seconds, under_load)
        is_deaf = self._clock.monotonic() < self._deaf_until
        return max(usual, self._settings.interval_seconds) if is_deaf else usual

    def _fleet_now(self) -> Fleet:
        """Return the slots as they are to be filled."""
        fleet = self._counting_slots.fleet
        closed, seconds = self._sender.closed(), self._hand_off_seconds
        return replace(fleet, closed=closed, hand_off_seconds=seconds)

    async def _send(self, dispatched: Dispatched) -> int:
        """Send what has not left with the leases; returns how many were taken back."""
        by_queue = dispatched.by_queue
        if not self._counting_slots.fleet.knows(by_queue):
            # Their first workers may have come: until that is seen, their windows are small.
            self._counting_slots.repeat()
        return await self._sender.send(
            {queue: by_queue[queue] for queue in by_queue if queue not in dispatched.sent}
        )


def _first(*instants: datetime | None) -> datetime | None:
    return min((at for at in instants if at is not None), default=None)
