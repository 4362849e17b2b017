"""Which handler blocks the event loop of a worker: told while it does, from another thread."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from async_jobs.application.handling.outcomes import places_in
from async_jobs.application.handling.registry import JobContext, running_job
from async_jobs.application.working.worker import Worker
from async_jobs.domain.bounds import Places
from async_jobs.domain.facts import LoopBlocked
from async_jobs.entrypoints.programs.signals import WATCHDOG
from async_jobs.entrypoints.wiring.container import Container
from async_jobs.ports.clock import Clock
from async_jobs.ports.telemetry import Telemetry


@contextmanager
def telling_what_blocks(worker: Worker, container: Container) -> Iterator[None]:
    """Have the watchdog tell which handler blocks the running loop, for the length of a block."""
    WATCHDOG.holder = BlockingHandler(worker, container.telemetry(), container.clock())
    try:
        yield
    finally:
        WATCHDOG.holder = None


class BlockingHandler:
    """Knows which handler of a worker holds the loop that this is made on."""

    def __init__(self, worker: Worker, telemetry: Telemetry, clock: Clock) -> None:
        self._worker = worker
        self._telemetry = telemetry
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def told(self, seconds: float) -> None:
        """Tell it as a fact."""
        now, job, places = self._clock.now(), self._job(), self._places()
        fact = LoopBlocked(at=now, blocked_for=timedelta(seconds=seconds), places=places)
        if job is not None:
            fact = replace(
                fact,
                job_id=job.job_id,
                tenant_id=job.tenant_id,
                use_case=job.use_case,
                type=job.type,
                attempt=job.attempt,
            )
        self._telemetry.record(fact)

    def problem(self, seconds: float) -> str:
        """Return it in a sentence."""
        job, places = self._job(), self._places()
        who = "something" if job is None else f"the handler of {job.type!r}"
        where = f", at {places[-1]}" if places else ""
        return f"{who} has blocked the event loop for {seconds:.0f} s{where}"

    def _job(self) -> JobContext | None:
        task = asyncio.current_task(self._loop)
        job = self._worker.job_in(task)
        if job is not None:
            return JobContext.of(job, threading.Event())
        # A task that the handler has made runs in a copy of its context.
        context = getattr(task, "get_context", None)  # new in Python 3.12
        return None if context is None else context().get(running_job)

    def _places(self) -> Places:
        frame = sys._current_frames().get(self._thread)
        return () if frame is None else places_in(frame)
