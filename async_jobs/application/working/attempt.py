"""One claimed attempt: the handler that runs it, and how it may be made to stop."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
import signal
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterable
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import cast

from async_jobs.application.handling.outcomes import (
    StopRequested,
    event_of,
    is_failure,
    is_stop,
    places_of,
)
from async_jobs.application.handling.registry import Handler, JobContext, JobRegistry, running_job
from async_jobs.application.handling.results import success_with
from async_jobs.domain import lifecycle, wording
from async_jobs.domain.job import Job, JsonValue, copied
from async_jobs.ports.clock import Chance, Clock


class StopReason(StrEnum):
    """Why a running handler is made to stop."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    LEASE_LOST = "lease lost"
    SHUTDOWN = "shutdown"


class _Flag:
    """Implements `Cancellation`. Setting and reading one attribute needs no lock."""

    __slots__ = ("_is_set",)

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set


class Attempt:
    """A claimed job on its way through a handler.

    `handler` is None when this process has none for the job's type. Until the monotonic time
    `held_until` its lease lasts, renewed or not.
    `job` is the job as this worker last knew it. Renewals replace it, from another thread, as
    does its settlement, by a single assignment. `in_thread` is set by the handler's thread;
    everything else belongs to the event loop's.
    """

    def __init__(
        self,
        job: Job,
        handler: Handler | None,
        *,
        timeout_seconds: float,
        held_until: float = -math.inf,
    ) -> None:
        self.job = job
        self.held_until = held_until
        self.handler = handler
        self.timeout_seconds = timeout_seconds
        self.waits_since: float | None = None  # a suspect, until it is alone
        self.began_at: float | None = None
        self.stopped_at: float | None = None
        self.stop_reason: StopReason | None = None
        self.settled = False
        self.trace_id: str | None = None
        self.error: BaseException | None = None  # what it failed by, for whoever wants to be told
        self.in_thread = False  # a thread executes the handler, and may outlive its slot
        self._cancellation = _Flag()
        self._context: JobContext | None = None
        self._task: asyncio.Task[object] | None = None  # of an async handler, while it runs

    def stop(self, reason: StopReason, *, at: float) -> None:
        """Make the handler stop: cancel it when it is async, tell it when it is not.

        Only the first reason counts. `at` is the monotonic time.
        """
        if self.stop_reason is not None:
            return
        self.stop_reason = reason
        self.stopped_at = at
        self._cancellation.set()
        if self._task is not None:
            self._task.cancel()

    async def run(
        self, clock: Clock, chance: Chance, threads: Executor
    ) -> lifecycle.JobEvent | None:
        """Run the handler to its end; returns the event to settle, None when there is none.

        It takes a task of its own, which is what `stop` cancels and what the handler's context
        belongs to, so that nothing is left behind for the next job.
        """
        self.began_at = clock.monotonic()
        if self._cancellation.is_set():
            return self.stop_event()
        try:
            result = await self._call(threads)
            if not isinstance(result, BaseException):
                return _returned(result)
            # Who returns an exception has not done the work, and says so.
            return self._failed(result, clock, chance)
        except asyncio.CancelledError as error:
            if self._cancellation.is_set():
                return self._stopped(error)
            return lifecycle.Failed(wording.CANCELLED_ITSELF, draw=chance.uniform())
        except StopRequested as error:
            if self._cancellation.is_set():
                return self._stopped(error)
            return lifecycle.Failed(wording.STOPPED_UNASKED, draw=chance.uniform())
        except GeneratorExit:
            raise
        except BaseException as error:
            # What a thread raised has left it, and was no signal's: those come to the main one.
            if self._runs_here and _interrupts(error):
                raise
            has_stopped = self._cancellation.is_set() and is_stop(error)
            if has_stopped or self.stop_reason in (StopReason.CANCELLED, StopReason.LEASE_LOST):
                return self._stopped(error)
            return self._failed(error, clock, chance)

    def _failed(self, error: BaseException, clock: Clock, chance: Chance) -> lifecycle.JobEvent:
        event = event_of(error, now=clock.now(), draw=chance.uniform())
        self.error = error if is_failure(error, event) else None
        return event

    def _stopped(self, by: BaseException) -> lifecycle.JobEvent | None:
        """Return what the stop means; of a timeout, where in the code it found the handler."""
        event = self.stop_event()
        if isinstance(event, lifecycle.Failed):
            self.error = TimeoutError(event.error)
            self.error.__cause__ = by
            return replace(event, places=places_of(by))
        return event

    def context(self) -> JobContext:
        """Return what the handler knows of its job: the same each time, as it began with it."""
        if self._context is None:
            self._context = JobContext.of(self.job, self._cancellation, self.trace_id)
        return self._context

    async def _call(self, threads: Executor) -> object:
        """Call the handler: in this task, which a stop cancels meanwhile, or in a thread."""
        assert self.handler is not None, "an attempt without a handler is never run"
        function = self.handler.function
        context = self.context()
        running_job.set(context)
        # The handler may change what it is given; the job keeps what it was enqueued with.
        payload = self.handler.load(copied(self.job.payload))
        if self.handler.is_async:
            self._task = asyncio.current_task()
            try:
                return await cast("Awaitable[JsonValue]", function(context, payload))
            finally:
                self._task = None
        variables = contextvars.copy_context()

        def call() -> object:
            self.in_thread = True
            try:
                return variables.run(function, context, payload)
            except StopIteration as error:
                # A future cannot hold it, so nobody would ever learn of the end.
                raise RuntimeError("the handler raised StopIteration") from error
            finally:
                self.in_thread = False

        # A thread cannot be cancelled: its slot stays taken until the function returns.
        return await asyncio.get_running_loop().run_in_executor(threads, call)

    @property
    def _runs_here(self) -> bool:
        return self.handler is not None and self.handler.is_async

    def stop_event(self) -> lifecycle.JobEvent | None:
        """Return what a stop means for the job; None when the lease is somebody else's."""
        match self.stop_reason:
            case StopReason.CANCELLED:
                return lifecycle.Cancelled()
            case StopReason.TIMED_OUT:
                return lifecycle.Failed(f"{wording.TIMED_OUT} after {self.timeout_seconds:g} s")
            case StopReason.SHUTDOWN:
                return lifecycle.Released()
            case _:
                return None


def _returned(result: object) -> lifecycle.JobEvent:
    """Return what a result means: of what has yet to run, nothing is done."""
    if result is None:
        return success_with(result)
    if isinstance(result, Generator | AsyncGenerator):
        return lifecycle.Rejected(wording.RETURNED_A_GENERATOR)
    if inspect.isawaitable(result):
        return lifecycle.Rejected(wording.RETURNED_AN_AWAITABLE)
    if isinstance(result, type) and issubclass(result, BaseException):
        return lifecycle.Rejected(wording.RETURNED_A_CLASS)
    return success_with(result)


def _interrupts(error: BaseException) -> bool:
    """Tell whether a signal's handler raised an error, wherever the process was just then.

    All else that comes out of a job's handler is its own, whatever class it has: extension
    modules, for example, raise what is no `Exception` for data that they cannot take.
    """
    if not isinstance(error, KeyboardInterrupt):
        return False
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return True  # there is no telling
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_name == "_on_sigint"  # asyncio's


def attempts_of(
    jobs: Iterable[Job],
    registry: JobRegistry,
    clock: Clock,
    *,
    timeout_seconds: float,
    margin: timedelta,
) -> list[Attempt]:
    """Return the attempts that claimed jobs are.

    Args:
        jobs: what was claimed, mostly in one batch.
        registry: the handlers.
        clock: the store's time.
        timeout_seconds: the longest run where the handler sets none of its own.
        margin: how long before its lease ends an unrenewed handler is stopped.
    """
    attempts = []
    end: datetime | None = None
    held_until = -math.inf
    for job in jobs:
        if job.lease_expires_at is not None and job.lease_expires_at is not end:
            end = job.lease_expires_at  # mostly that of the whole batch
            held_until = clock.monotonic() + (end - margin - clock.now()).total_seconds()
        handler = registry.get(job.type)
        own = None if handler is None else handler.timeout_seconds
        timeout = timeout_seconds if own is None else own
        attempts.append(Attempt(job, handler, timeout_seconds=timeout, held_until=held_until))
    return attempts
