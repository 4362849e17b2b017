"""Scheduler: one tick reaps, promotes and dispatches; a loop of ticks runs the system."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from async_jobs.application import failpoints
from async_jobs.application.scheduling.chores import Chore, Chores
from async_jobs.application.scheduling.dispatcher import Dispatched, Dispatcher
from async_jobs.application.scheduling.handing_off import Sender
from async_jobs.application.scheduling.noticing import BEAT_SECONDS, Notices, beat
from async_jobs.application.scheduling.purging import Purge
from async_jobs.application.settings import SchedulerSettings
from async_jobs.application.waiting import all_done, end
from async_jobs.domain import lifecycle
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.crashes import who_waited
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError, IllegalTransition
from async_jobs.domain.facts import Fact, tell
from async_jobs.domain.job import Job, Phase
from async_jobs.domain.limits import Limits
from async_jobs.domain.pools import Fleet, pools_of
from async_jobs.domain.run_times import RunTimes
from async_jobs.domain.scheduling import Candidate
from async_jobs.ports.checkpoints import Checkpoints
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.queue import JobQueue, Sent
from async_jobs.ports.signal import DISPATCH, Signal
from async_jobs.ports.store import JobStore, Upcoming
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.workers import Workers

BATCH_MAX = 1_000
# What a tick may take to end once the scheduler is told to stop.
STOP_SECONDS = 3.0
# However long the interval, workers that join are noticed within this time.
SLOTS_SECONDS = 5.0
CHECKPOINT = "fairness"
CHECKPOINT_SECONDS = 5.0
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
        next_run_at: when the next scheduled job comes due.
        more: a bound was met, late jobs made way, or jobs came due after the dispatch, so that
            another tick should follow at once.
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
    """Runs what is due, within every limit. Any number may run side by side."""

    def __init__(
        self,
        config: Limits,
        store: JobStore,
        queue_of: Callable[[str], JobQueue],
        *,
        clock: Clock,
        chance: Chance,
        signal: Signal,
        workers: Workers,
        telemetry: Telemetry,
        checkpoints: Checkpoints | None = None,
        settings: SchedulerSettings | None = None,
        notices: Notices | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._checkpoints = checkpoints
        self._clock = clock
        self._chance = chance
        self._signal = signal
        self._workers = workers
        self._telemetry = telemetry
        self._settings = settings or SchedulerSettings()
        self._notices = notices or Notices(config, clock=clock, telemetry=telemetry)
        self._dispatcher = Dispatcher(
            config,
            store,
            clock,
            telemetry,
            queue_of=queue_of,
            interval=timedelta(seconds=self._settings.interval_seconds),
        )
        self._next_run_at: datetime | None = datetime.min.replace(tzinfo=UTC)  # nothing is known
        self._fleet = Fleet(window_min=self._settings.window_min)
        self._late: Collection[str] = ()
        """In which use cases late jobs stood before others when last looked."""
        self._deaf_until = float("-inf")
        self._dispatch_seconds = 0.0
        """How long it took lately to lease and send."""
        self._sender = Sender(queue_of, clock=clock, chance=chance)
        self._chores = Chores(clock, telemetry)
        interval_seconds = self._settings.interval_seconds
        self._reaping = Chore("reap", interval_seconds)
        self._promoting = Chore("promote", 0.0)
        self._counting_slots = Chore("count slots", min(interval_seconds, SLOTS_SECONDS))
        self._purging = Chore("purge", self._settings.purge_interval_seconds)
        self._purge = Purge(config, store, self._settings, clock=clock, telemetry=telemetry)
        self._remembering = Chore("checkpoint", CHECKPOINT_SECONDS)
        self._beating = Chore("beat", BEAT_SECONDS)
        self._setting_aside = Chore("set aside", self._settings.purge_interval_seconds)
        self._ticked_at: float | None = None

    def ready(self) -> bool:
        """Tell whether a tick succeeded lately."""
        silent_max = max(10.0, 5 * self._settings.interval_seconds)
        at = self._ticked_at
        return at is not None and self._clock.monotonic() - at < silent_max

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
        await self._clock.sync()
        try:
            tick = await self._tick(self._clock.monotonic())
        except Exception:
            self._chores.forget()
            raise
        self._chores.tell()
        return tick

    async def _tick(self, at: float) -> Tick:
        do = self._chores.do
        (reaped, reaping), aside, purging = (0, False), False, False
        if self._reaping.is_due(at):
            reaped, reaping = await do(self._reaping, self._reap, otherwise=(0, False))
        if self._setting_aside.is_due(at):
            aside = await do(self._setting_aside, self._set_aside, otherwise=False)
        upcoming = await self._promote() if self._promotion_presses else None
        if self._counting_slots.is_due(at):
            await do(self._counting_slots, self._count_slots, otherwise=None)
        if self._remembering.is_due(at):
            await do(self._remembering, self._remember, otherwise=None)
        began = self._clock.monotonic()
        dispatched = await self._dispatcher.dispatch(
            list(self._config.use_case_configs),
            self._fleet_now(),
            timedelta(seconds=self._settings.dispatch_timeout_seconds),
        )
        self._late = dispatched.late
        await failpoints.reached(failpoints.SCHEDULER_AFTER_LEASE_BEFORE_SEND)
        unsent = await self._send(dispatched)
        if dispatched.by_queue:
            self._notices.handed_off(dispatched.by_queue)
            took = self._clock.monotonic() - began
            self._dispatch_seconds += (took - self._dispatch_seconds) / DISPATCHES_REMEMBERED
        unseen = 0
        if upcoming is None:
            upcoming = await self._promote()
            unseen = upcoming.promoted
        expired = await self._bury(dispatched.expired)
        if self._purging.is_due(at):
            purging = await do(self._purging, self._purge.some, otherwise=False)
            if purging:
                self._purging.repeat()
        if not dispatched.handoffs:
            self._chores.check(self._promoting)  # a standby, which writes nothing, shows no job
        if self._beating.is_due(at):
            await do(self._beating, self._beat, otherwise=None)
        self._ticked_at = self._clock.monotonic()
        sent = len(dispatched.handoffs) - unsent
        return Tick(
            leased=len(dispatched.handoffs),
            unsent=unsent,
            reaped=reaped,
            expired=expired,
            next_run_at=upcoming.run_at,
            more=(
                reaping
                # What a transport took in part, it may take the rest of.
                or (sent > 0 and (dispatched.more or unsent > 0))
                or aside
                or purging
                # Late jobs stand before others in what a dispatch sees, up to its bound.
                or expired > 0
                or unseen > 0
                or self._is_due(upcoming.run_at)
            ),
        )

    @property
    def _promotion_presses(self) -> bool:
        """Tell whether a dispatch must wait for what came due since the last one.

        Otherwise what is ready does not wait for that trip, which follows the dispatch.
        """
        return self._is_due(self._next_run_at)

    def _is_due(self, at: datetime | None) -> bool:
        return at is not None and at <= self._clock.now()

    async def _promote(self) -> Upcoming:
        return await self._chores.do(self._promoting, self._promoted, otherwise=Upcoming(None))

    async def _promoted(self) -> Upcoming:
        upcoming = await self._store.promote(
            self._clock.now(), limit=self._settings.promote_limit, sidelined=sorted(self._late)
        )
        self._next_run_at = upcoming.run_at
        return upcoming

    async def _reap(self) -> tuple[int, bool]:
        """End leases that are over; returns how many, and whether more may be left."""
        now = self._clock.now()
        over = await self._store.expired(now, limit=self._settings.reap_limit)
        if over:
            await failpoints.reached(failpoints.REAPER_BETWEEN_READ_AND_SAVE)
        waited = who_waited(over)
        events = [
            (job, lifecycle.LeaseExpired(self._chance.uniform(), waited=job.id in waited))
            for job in over
        ]
        reaped = await self._apply(events, now)
        more = len(over) == self._settings.reap_limit
        if more:
            self._reaping.repeat()
        return reaped, more

    async def _set_aside(self) -> bool:
        """Free the slots of rows that cannot be read; returns whether more may be left."""
        now = self._clock.now()
        until = now + timedelta(seconds=self._settings.unreadable_delay_seconds)
        limit = self._settings.reap_limit
        more = await self._store.set_aside(now, until=until, limit=limit) == limit
        if more:
            self._setting_aside.repeat()
        return more

    async def _remember(self) -> None:
        """Take over what another scheduler knows of who had how much, or tell what this one does.

        Without it all tenants are equal again, which is fair but to those who have waited.
        """
        if self._checkpoints is None:
            return
        memory = self._dispatcher.memory
        if memory.looked_away(self._clock.now()):
            state = await self._checkpoints.load(CHECKPOINT)
            if state is not None:
                memory.restore(state)
        elif memory.is_contested:
            await self._checkpoints.save(CHECKPOINT, memory.saved())

    async def _beat(self) -> None:
        if self._checkpoints is not None:
            seconds = self._settings.interval_seconds
            await beat(self._checkpoints, self._clock.now(), interval_seconds=seconds)

    async def _count_slots(self) -> None:
        workers = await self._workers.live(self._clock.now())
        await self._notices.look(workers)
        self._fleet = Fleet(
            pools=pools_of((worker.queues, worker.slots) for worker in workers),
            window_min=self._settings.window_min,
            run_times=RunTimes.merged(worker.run_times for worker in workers),
            workers=frozenset(worker.worker_id for worker in workers),
        )

    def _fleet_now(self) -> Fleet:
        """Return the slots as they are to be filled; one is idle for so long until that is seen."""
        under_load = TURNS_OF_A_HAND_OFF * self._dispatch_seconds
        usual = max(self._settings.hand_off_seconds, under_load)
        is_deaf = self._clock.monotonic() < self._deaf_until
        seconds = max(usual, self._settings.interval_seconds) if is_deaf else usual
        return replace(self._fleet, closed=self._sender.closed(), hand_off_seconds=seconds)

    async def _send(self, dispatched: Dispatched) -> int:
        """Send to all queues at once; takes back what a transport did not accept."""
        by_queue = dispatched.by_queue
        if not self._fleet.knows(by_queue):
            # Their first workers may have come: until that is seen, their windows are small.
            self._counting_slots.repeat()
        by_queue = {queue: by_queue[queue] for queue in by_queue if queue not in dispatched.sent}
        failed = await self._sender.send(by_queue)
        if by_queue:
            await failpoints.reached(failpoints.SCHEDULER_AFTER_SEND_BEFORE_MARK)
        if failed:
            await self._take_back(failed)
        return len(failed)

    async def _take_back(self, failed: Iterable[Sent]) -> None:
        errors = {sent.handoff.job_id: sent for sent in failed}
        jobs = await self._store.get(list(errors))
        events = [
            (job, lifecycle.HandOffFailed(errors[job.id].error or ""))
            for job in jobs
            if job.phase is Phase.HANDED_OFF and job.lease_seq == errors[job.id].handoff.lease_seq
        ]
        await self._apply(events, self._clock.now())

    async def _bury(self, late: Sequence[Candidate]) -> int:
        buried = 0
        for start in range(0, len(late), BATCH_MAX):
            ids = [candidate.id for candidate in late[start : start + BATCH_MAX]]
            events = [(job, lifecycle.Expired()) for job in await self._store.get(ids)]
            buried += await self._apply(events, self._clock.now())
        return buried

    async def _apply(self, events: Sequence[tuple[Job, lifecycle.JobEvent]], now: datetime) -> int:
        """Carry out events on jobs as they were read; whoever changed meanwhile is left alone."""
        changes = {}
        for job, event in events:
            with suppress(IllegalTransition):
                changes[job.id] = (job, event, lifecycle.change(job, event, now=now))
        if not changes:
            return 0
        applied = await self._store.save([change for *_, change in changes.values()])
        for job_id in applied.ids:
            job, event, change = changes[job_id]
            self._record(tell(job, event, change.job, at=now))
        return len(applied.ids)

    def _record(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            self._telemetry.record(fact)
