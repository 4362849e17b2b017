"""Which handler blocks the event loop of a worker: told while it does, from another thread."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Final, TypeAlias

from async_jobs.application.handling.outcomes import places_in
from async_jobs.application.handling.registry import JobContext, running_job
from async_jobs.application.working.worker import Worker
from async_jobs.domain.bounds import Places
from async_jobs.domain.facts import LoopBlocked
from async_jobs.entrypoints.wiring.container import Container
from async_jobs.ports.clock import Clock
from async_jobs.ports.telemetry import Telemetry

LOOK_SECONDS: Final = 0.2
BLOCKED_LOOKS: Final = 15
"""A loop that stands still for so many looks is blocked: a handler may take a moment for itself."""
AGAIN_LOOKS: Final = 300

Problem: TypeAlias = Callable[[], str | None]


@contextmanager
def telling_what_blocks(worker: Worker, container: Container) -> Iterator[Problem]:
    """Tell which handler blocks the running loop, for the length of a block.

    Yields what returns it in a sentence, or None while the loop goes round; any thread may ask.
    """
    watch = LoopWatch(worker, container.telemetry(), container.clock())
    watch.start()
    try:
        yield watch.problem
    finally:
        watch.stop()


class LoopWatch:
    """Watches the loop that it is made on, from a thread of its own."""

    def __init__(self, worker: Worker, telemetry: Telemetry, clock: Clock) -> None:
        self._worker = worker
        self._telemetry = telemetry
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._loops_thread = threading.get_ident()
        self._beats = self._looks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to watch."""
        self._beat()
        threading.Thread(target=self._watch, name="loop-watch", daemon=True).start()

    def stop(self) -> None:
        """Cease to watch; the thread ends by itself."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._beats += 1
        self._timer = self._loop.call_later(LOOK_SECONDS, self._beat)

    def _watch(self) -> None:
        heard = 0
        while not self._stopped.wait(LOOK_SECONDS):
            # Looks are counted, for in a process that was paused this thread stood still as well.
            self._looks = self._looks + 1 if heard == self._beats else 0
            heard = self._beats
            if self._looks % AGAIN_LOOKS == BLOCKED_LOOKS:
                with suppress(Exception):  # telling must break nothing that is watched here
                    self.tell(self._looks * LOOK_SECONDS)

    def tell(self, seconds: float) -> None:
        """Tell as a fact what holds the loop, since so many seconds."""
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

    def problem(self) -> str | None:
        """Return what blocks the loop, in a sentence; None while it goes round."""
        if self._looks < BLOCKED_LOOKS:
            return None
        seconds = self._looks * LOOK_SECONDS
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
        frame = sys._current_frames().get(self._loops_thread)
        return () if frame is None else places_in(frame)
