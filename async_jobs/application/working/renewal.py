"""Renewals: all running leases of a process, extended in one batch, away from the event loop.

A handler that blocks the event loop must not lose its lease for that. So in production the
renewals run in a thread with an event loop and a connection of its own (`RenewalThread`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from typing import Protocol, TypeAlias
from uuid import UUID

from async_jobs.application.working.attempt import Attempt, StopReason
from async_jobs.domain import lifecycle
from async_jobs.domain.errors import AsyncJobsError, IllegalTransition
from async_jobs.domain.job import Job, Phase
from async_jobs.ports.clock import Clock
from async_jobs.ports.signal import Signal, cancellation
from async_jobs.ports.store import Store

BATCH_MAX = 1_000

OpenStore: TypeAlias = Callable[[], AbstractAsyncContextManager[tuple[Store, Clock]]]
"""Opens a store and its clock on the event loop that calls it."""


class Renewals:
    """The leases this process holds, and what to do with them. Safe to share between threads.

    Args:
        lease_seconds: how long a renewed lease lasts.
        stop: called with an attempt and the reason when its handler has to stop.
    """

    def __init__(
        self, *, lease_seconds: float, stop: Callable[[Attempt, StopReason], None]
    ) -> None:
        self._lease_for = timedelta(seconds=lease_seconds)
        self._stop = stop
        self._attempts: dict[UUID, Attempt] = {}

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Begin to hold the leases of attempts."""
        for attempt in attempts:
            self._attempts[attempt.job.id] = attempt

    def discard(self, attempt: Attempt) -> None:
        """Cease to hold a lease."""
        if self._attempts.get(attempt.job.id) is attempt:
            self._attempts.pop(attempt.job.id, None)

    @property
    def held(self) -> list[Attempt]:
        """The attempts whose leases are held, as of now."""
        return list(self._attempts.values())

    def holds(self, job_id: UUID) -> bool:
        """Tell whether this process holds a lease of the job."""
        return job_id in self._attempts

    def holds_only(self, attempt: Attempt) -> bool:
        """Tell whether no lease is held but that of an attempt."""
        return all(each is attempt for each in self._attempts.values())

    async def renew(self, store: Store, clock: Clock) -> None:
        """Extend every lease held; learn which were lost and which jobs are to be cancelled.

        Raises:
            Unavailable: the store did not answer; the leases run on towards their end.
        """
        await clock.sync()
        attempts = self.held
        for start in range(0, len(attempts), BATCH_MAX):
            lost = await self._renew(store, clock, attempts[start : start + BATCH_MAX])
            if lost:
                await self._look_why(store, clock, lost)

    async def _renew(
        self, store: Store, clock: Clock, attempts: Sequence[Attempt]
    ) -> list[Attempt]:
        """Extend leases; returns the attempts for which that failed."""
        now = clock.now()
        changes = {}
        for attempt in attempts:
            with suppress(IllegalTransition):
                renewed = lifecycle.Renewed(now + self._lease_for)
                changes[attempt.job.id] = lifecycle.change(attempt.job, renewed, now=now)
        applied = await store.save(list(changes.values()))
        lost = []
        for attempt in attempts:
            if attempt.job.id in applied.ids:
                attempt.job = changes[attempt.job.id].job
            else:
                lost.append(attempt)
        return lost

    async def _look_why(self, store: Store, clock: Clock, lost: Sequence[Attempt]) -> None:
        stored = {job.id: job for job in await store.get([a.job.id for a in lost])}
        again = []
        for attempt in lost:
            job = stored.get(attempt.job.id)
            if job is None or not _same_lease(job, attempt.job):
                if not attempt.settled:
                    self._stop(attempt, StopReason.LEASE_LOST)
                continue
            # Ours still: a cancellation was asked for, or an earlier renewal went unheard.
            attempt.job = job
            again.append(attempt)
            if job.phase is Phase.CANCELLING:
                self._stop(attempt, StopReason.CANCELLED)
        for attempt in await self._renew(store, clock, again):
            if not attempt.settled:
                self._stop(attempt, StopReason.LEASE_LOST)


def _same_lease(stored: Job, known: Job) -> bool:
    # The number alone may come again, when a failover has lost what was committed last.
    return (stored.lease_seq, stored.worker_id) == (
        known.lease_seq,
        known.worker_id,
    ) and stored.phase in (Phase.CLAIMED, Phase.CANCELLING)


async def keep_renewing(
    renewals: Renewals,
    store: Store,
    clock: Clock,
    *,
    every_seconds: float,
    wanted: asyncio.Event,
    on_error: Callable[[Exception], None],
) -> None:
    """Renew at intervals, and at once whenever `wanted` is set, until cancelled.

    Args:
        renewals: the leases.
        store: where to renew them.
        clock: the store's time.
        every_seconds: the interval; a third of the lease leaves room for two failures.
        wanted: set when a cancellation may have been asked for.
        on_error: told when a pass failed; the next one comes sooner.
    """
    pause = every_seconds
    while True:
        waiting = asyncio.ensure_future(wanted.wait())
        sleeping = asyncio.ensure_future(clock.sleep(pause))
        try:
            await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            sleeping.cancel()
        wanted.clear()
        try:
            await renewals.renew(store, clock)
            pause = every_seconds
        except AsyncJobsError as error:
            on_error(error)
            pause = every_seconds / 8


class RenewalHost(Protocol):
    """Where the renewals run: a thread in production."""

    @property
    def alive(self) -> bool:
        """True while leases are being renewed."""
        ...

    def start(self) -> None:
        """Begin to renew."""
        ...

    def want(self) -> None:
        """Renew at once."""
        ...

    def stop(self) -> None:
        """Cease to renew."""
        ...


async def hear_cancellations(
    signal: Signal,
    worker_id: str,
    *,
    timeout_seconds: float,
    renew: Callable[[], None],
) -> None:
    """Renew at once when a cancellation was asked for, until cancelled.

    Renewing is how it is learned what was asked for.
    """
    topic = cancellation(worker_id)
    while True:
        if await signal.wait(topic, timeout_seconds=timeout_seconds):
            renew()


class RenewalThread:
    """Runs `keep_renewing` in a thread with its own event loop and its own store.

    Args:
        open_store: opens the store on the thread's loop.
        every_seconds: the interval of the renewals.
        on_error: told, in that thread, when a pass failed.
    """

    def __init__(
        self,
        renewals: Renewals,
        open_store: OpenStore,
        *,
        every_seconds: float,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._renewals = renewals
        self._open_store = open_store
        self._every_seconds = every_seconds
        self._on_error = on_error
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._wanted: asyncio.Event | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._main, name="lease-renewal", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def want(self) -> None:
        """Let it renew at once; from any thread."""
        self._call(self._set_wanted)

    def stop(self) -> None:
        """Let the thread end; from any thread. It does not wait for that."""
        self._stopped = True
        self._call(lambda: self._task and self._task.cancel())

    def _set_wanted(self) -> None:
        if self._wanted is not None:
            self._wanted.set()

    @property
    def alive(self) -> bool:
        """True while leases are being renewed."""
        return self._thread.is_alive()

    def _call(self, what: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed: the thread has ended
                loop.call_soon_threadsafe(what)

    def _main(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self._run())

    async def _run(self) -> None:
        self._wanted = asyncio.Event()
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        # A stop that came before there was a loop to tell left this mark.
        while not self._stopped:
            try:
                async with self._open_store() as (store, clock):
                    await keep_renewing(
                        self._renewals,
                        store,
                        clock,
                        every_seconds=self._every_seconds,
                        wanted=self._wanted,
                        on_error=self._on_error,
                    )
            except AsyncJobsError as error:
                # Not even a connection: leases may still be saved if the next try succeeds.
                self._on_error(error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), timeout=self._every_seconds / 8)
                self._wanted.clear()
