"""Worker: receive, claim, run, settle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta

from async_jobs.application import failpoints
from async_jobs.application.handling.job_logs import bind_job
from async_jobs.application.handling.registry import JobRegistry
from async_jobs.application.settings import WorkerSettings
from async_jobs.application.waiting import all_done, end, until_stopped
from async_jobs.application.working.attempt import Attempt, StopReason, attempts_of
from async_jobs.application.working.claiming import Claimer
from async_jobs.application.working.draining import drain
from async_jobs.application.working.error_hooks import ErrorHooks, ErrorThread
from async_jobs.application.working.heartbeat import Identity, keep_announcing, withdraw
from async_jobs.application.working.outbox_receiving import OutboxReceiver
from async_jobs.application.working.queue_receiving import QueueReceiver
from async_jobs.application.working.receiving import Intake, Receiver
from async_jobs.application.working.renewal import (
    RenewalHost,
    Renewals,
    hear_cancellations,
    keep_renewing,
)
from async_jobs.application.working.room import Room
from async_jobs.application.working.settlement import Settler
from async_jobs.application.working.slots import Slots
from async_jobs.application.working.watchdog import Watchdog
from async_jobs.domain import lifecycle
from async_jobs.domain.errors import AsyncJobsError
from async_jobs.domain.facts import HandlerMissing, StaleOutcomeDropped
from async_jobs.domain.job import Job
from async_jobs.domain.patience import snoozed, without_handler
from async_jobs.domain.reporting import job_ids
from async_jobs.domain.run_times import RunTimes
from async_jobs.domain.trace_context import trace_id_of
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.queue import RECEIVE_MAX, JobQueue, Outbox
from async_jobs.ports.signal import Signal
from async_jobs.ports.store import Store
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.tracing import NO_TRACING, Tracing
from async_jobs.ports.workers import WorkerInfo, Workers

# What the end of a shutdown may take at most beyond the drain timeout, once each.
SETTLE_SECONDS, END_SECONDS = 2.0, 1.0


class Worker:
    """Executes jobs of some queues, at most `settings.slots` at once.

    Args:
        queues: those to receive from whose hand-offs are elsewhere.
        registry: the handlers.
        outboxes: those to receive from whose hand-offs are in the database of the jobs.
        make_renewal_host: makes the thread that renews the leases; None renews on the same
            event loop, which is right for adapters in memory.
        on_error: told of passing failures.
        hooks: tells the registry's error hooks; by default in a thread of its own.
        tracing: surrounds attempts with spans.
    """

    def __init__(
        self,
        identity: Identity,
        store: Store,
        queues: Sequence[JobQueue],
        registry: JobRegistry,
        *,
        clock: Clock,
        chance: Chance,
        signal: Signal,
        workers: Workers,
        telemetry: Telemetry,
        outboxes: Sequence[Outbox] = (),
        settings: WorkerSettings | None = None,
        make_renewal_host: Callable[[Renewals], RenewalHost] | None = None,
        on_error: Callable[[Exception], None] = lambda error: None,
        hooks: ErrorHooks | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._identity, self._store, self._registry = identity, store, registry
        self._clock, self._tracing = clock, tracing
        self._chance = chance
        self._signal = signal
        self._workers = workers
        self._telemetry = telemetry
        self._settings = settings or WorkerSettings()
        self._on_error = on_error
        self._hooks = hooks or ErrorThread(registry, on_error)
        self._loop: asyncio.AbstractEventLoop | None = None
        lease_seconds = self._settings.lease_seconds
        self._renewals = Renewals(lease_seconds=lease_seconds, stop=self._stop_from_any_thread)
        self._renewal_host = make_renewal_host(self._renewals) if make_renewal_host else None
        self._renewal_wanted = asyncio.Event()
        self._settler = Settler(
            store,
            clock=clock,
            chance=chance,
            signal=signal,
            telemetry=telemetry,
            on_settled=self._settled,
            recorded=self._settings.recorded,
        )
        self._threads = ThreadPoolExecutor(self._settings.slots, thread_name_prefix="handler")
        self._room = Room(self._settings.places, in_hand=self._in_hand, clock=clock)
        self._slots = Slots(
            self._settings.slots,
            self._execute,
            on_free=self._room.changed.set,
            give_back=lambda attempt: self._settler.add(attempt, lifecycle.Released()),
            is_alone=self._is_alone,
        )
        self.job_in = self._slots.job_in  # whose handler runs in a task: for any thread to ask
        self._room.on_given_back = self._slots.fill
        intake, share = self._intake(), self._room.share
        self._receivers: list[Receiver] = [
            *(QueueReceiver(each, intake, share()) for each in queues),
            *(OutboxReceiver(each, intake, share()) for each in outboxes),
        ]
        self._watchdog = self._guarded()
        self._run_times = RunTimes()

    def _guarded(self) -> Watchdog:
        return Watchdog(
            self._slots,
            self._receivers,
            self._conclude,
            clock=self._clock,
            telemetry=self._telemetry,
            settings=self._settings,
            has_room=lambda: self._has_room,
            renewal_host=self._renewal_host,
        )

    def _intake(self) -> Intake:
        claimer = Claimer(
            self._identity.worker_id,
            self._store,
            clock=self._clock,
            chance=self._chance,
            telemetry=self._telemetry,
            lease_seconds=self._settings.lease_seconds,
            knows=lambda type: self._registry.get(type) is not None,
        )
        poll_seconds = self._settings.poll_interval_seconds
        return Intake(claimer, self._begin, self._clock, self._chance, poll_seconds, self._on_error)

    def _is_alone(self, attempt: Attempt) -> bool:
        return not self._room.reserved and self._renewals.holds_only(attempt)

    def ready(self) -> bool:
        """Tell whether work could be received lately, or all slots are busy and not stuck."""
        if self._loop is None or self._slots.closed or self._slots.all_stuck:
            return False
        is_heard = self._watchdog.silent_seconds < self._settings.stall_seconds / 4
        return is_heard or not self._has_room

    @property
    def running(self) -> int:
        """How many handlers run; those that do after `run` has ended would not stop."""
        return len(self._slots.running)

    # --- one round, for tests and teams with loops of their own ---

    async def step(self) -> int:
        """Receive what is there, run it to the end, settle it; returns how many jobs ran."""
        attempts: list[Attempt] = []
        for receiver in self._receivers:
            room = min(self._settings.slots - len(attempts), RECEIVE_MAX)
            if room > 0:
                async with receiver.jobs(max_jobs=room) as jobs:
                    attempts += await self._claimed(jobs)
        # Another queue is the first one next time.
        self._receivers = [*self._receivers[1:], *self._receivers[:1]]
        self._start(attempts)
        while True:
            await self._ended(attempts)
            await self._settler.settle_group()
            # What was settled may have left a suspect alone, which has begun then.
            if all(task.done() for task in self._slots.tasks):
                return len(attempts)

    async def _ended(self, attempts: Sequence[Attempt]) -> None:
        try:
            if tasks := self._slots.tasks:
                await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for attempt in attempts:
                attempt.stop(StopReason.SHUTDOWN, at=self._clock.monotonic())
            raise
        self._slots.check()

    # --- the loop ---

    async def run(self, stop: asyncio.Event) -> None:
        """Execute jobs until `stop` is set, then drain.

        Draining: no more receiving; what is unclaimed is given back; handlers get
        `drain_timeout_seconds` to finish; what still runs is cancelled and released.

        Raises:
            WorkerStalledError: nothing could be received for `stall_seconds`.
        """
        self._loop = asyncio.get_running_loop()
        self._watchdog.note_all_heard()
        settling = asyncio.create_task(self._settler.run())
        helpers = [
            asyncio.create_task(self._slots.until_broken()),
            asyncio.create_task(self._watchdog.watch()),
            asyncio.create_task(self._keep_announcing()),
            asyncio.create_task(self._hear_cancellations()),
            *self._start_renewals(),
        ]
        # The caller's `stop` is the caller's to set: what ends one worker may not end others.
        leaving = asyncio.Event()
        receivers = [asyncio.create_task(each.run(leaving)) for each in self._receivers]
        try:
            await until_stopped(stop, [settling, *helpers, *receivers])
        except AsyncJobsError as error:
            self._on_error(error)  # draining may take a while, in which nobody would know why
            raise
        finally:
            leaving.set()
            self._slots.close()
            self._room.close()
            await drain(
                receivers,
                self._slots,
                self._watchdog,
                self._room.changed,
                conclude=self._conclude,
                clock=self._clock,
                settings=self._settings,
            )
            self._settler.close()
            await all_done([settling], self._clock, seconds=SETTLE_SECONDS)
            # A handler that swallows its cancellation must not keep the process from ending.
            everything = [settling, *helpers, *receivers, *self._slots.tasks]
            await end(everything, self._clock, seconds=END_SECONDS)
            await self._hooks.finish(self._clock, seconds=SETTLE_SECONDS)
            if self._renewal_host is not None:
                self._renewal_host.stop()
            self._threads.shutdown(wait=False, cancel_futures=True)
            await withdraw(self._workers, self._identity.worker_id, self._clock)

    def _start_renewals(self) -> list[asyncio.Task[None]]:
        if self._renewal_host is not None:
            self._renewal_host.start()
            return []
        renewing = keep_renewing(
            self._renewals,
            self._store,
            self._clock,
            every_seconds=self._settings.renewal_seconds,
            wanted=self._renewal_wanted,
            on_error=self._on_error,
        )
        return [asyncio.create_task(renewing)]

    # --- claiming ---

    async def _begin(self, jobs: Sequence[Job]) -> None:
        self._start(await self._claimed(jobs))

    @property
    def _has_room(self) -> bool:
        return self._in_hand() < self._settings.slots

    def _in_hand(self) -> int:
        """Return how many places are taken: all of them by a suspect, or when nothing can run."""
        can_run = self._slots.is_open and not self._slots.all_stuck
        return self._slots.in_hand if can_run else self._settings.places

    async def _claimed(self, jobs: Sequence[Job]) -> list[Attempt]:
        attempts = attempts_of(
            jobs,
            self._registry,
            self._clock,
            timeout_seconds=self._settings.job_timeout_seconds,
            margin=self._settings.lost_margin,
        )
        self._renewals.add(attempts)
        if attempts:
            await failpoints.reached(failpoints.WORKER_AFTER_CLAIM_BEFORE_HANDLER)
        return attempts

    # --- running and settling ---

    def _start(self, attempts: Iterable[Attempt]) -> None:
        known: list[Attempt] = []
        for attempt in attempts:
            if attempt.handler is None:
                self._postpone(attempt)
            elif self._slots.closed:
                self._settler.add(attempt, lifecycle.Released())
            else:
                known.append(attempt)
        self._slots.add(known)
        if self._slots.waiting_suspect is not None:
            # From now on all leases end together, by which it is known later that it waited.
            self._renew_at_once()

    async def _execute(self, attempt: Attempt) -> None:
        # It may have waited for its slot until its lease was over.
        if self._clock.monotonic() >= attempt.held_until:
            self._watchdog.stop_if_lost(attempt)
        with self._tracing.attempting(attempt.job) as span:
            attempt.trace_id = span.trace_id or trace_id_of(attempt.job.headers)
            bind_job(attempt.context())
            event = await attempt.run(self._clock, self._chance, self._threads)
            if (error := attempt.error) is not None:
                attempt.error = None
                self._hooks.tell(error, attempt.context())
            span.ended(event, stopped_by=attempt.stop_reason)
        if attempt.began_at is not None and attempt.stop_reason is None:
            seconds = self._clock.monotonic() - attempt.began_at
            self._run_times.observe(attempt.job.type, seconds)
        if isinstance(event, lifecycle.Snoozed):
            age_max = timedelta(seconds=self._settings.snooze_max_seconds)
            event = snoozed(attempt.job, event, now=self._clock.now(), age_max=age_max)
        self._conclude(attempt, event)

    def _postpone(self, attempt: Attempt) -> None:
        """Leave a job of an unknown type to a worker that knows it, for as long as one may come."""
        now = self._clock.now()
        self._telemetry.record(HandlerMissing(**job_ids(attempt.job, at=now)))
        delay = timedelta(seconds=self._settings.missing_handler_delay_seconds)
        wait_max = timedelta(seconds=self._settings.unknown_type_max_seconds)
        self._room.changed.set()
        event = without_handler(attempt.job, now=now, delay=delay, wait_max=wait_max)
        self._settler.add(attempt, event)

    def _conclude(self, attempt: Attempt, event: lifecycle.JobEvent | None) -> None:
        if event is not None:
            self._settler.add(attempt, event)
        elif not attempt.settled:
            attempt.settled = True
            self._renewals.discard(attempt)
            ids = job_ids(attempt.job, at=self._clock.now())
            self._telemetry.record(StaleOutcomeDropped(outcome="none", **ids))

    def _settled(self, attempt: Attempt) -> None:
        self._renewals.discard(attempt)
        self._slots.fill()

    # --- stopping handlers ---

    def _stop_from_any_thread(self, attempt: Attempt, reason: StopReason) -> None:
        def stop() -> None:
            attempt.stop(reason, at=self._clock.monotonic())

        if self._loop is None:
            stop()
            return
        with suppress(RuntimeError):  # the loop is closed: nothing runs any more
            self._loop.call_soon_threadsafe(stop)

    # --- telling others ---

    def _describe(self, now: datetime) -> WorkerInfo:
        return self._identity.as_of(
            now,
            alive_seconds=3 * self._settings.heartbeat_seconds,
            queues=tuple(receiver.name for receiver in self._receivers),
            slots=self._settings.slots,
            busy=len(self._slots.running) if self._slots.is_open else self._settings.slots,
            run_times=self._run_times.means,
            types=self._registry.types,
        )

    def _keep_announcing(self) -> Coroutine[None, None, None]:
        return keep_announcing(
            self._workers,
            self._clock,
            self._describe,
            telemetry=self._telemetry,
            every_seconds=self._settings.heartbeat_seconds,
            on_error=self._on_error,
        )

    def _hear_cancellations(self) -> Coroutine[None, None, None]:
        return hear_cancellations(
            self._signal,
            self._identity.worker_id,
            timeout_seconds=self._settings.renewal_seconds,
            renew=self._renew_at_once,
        )

    def _renew_at_once(self) -> None:
        self._renewal_wanted.set()
        if self._renewal_host is not None:
            self._renewal_host.want()
