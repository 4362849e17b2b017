"""Slots: attempts are run, so many at once, and the others wait in line.

A suspect (`domain/crashes.py`) is run apart: it waits until this process holds no other lease, and
from its arrival to its end nothing else is started. What came with it or comes meanwhile is given
back at once, so that nobody else is in hand if it ends the process.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any

from async_jobs.application.working.attempt import Attempt
from async_jobs.domain.crashes import is_suspect
from async_jobs.domain.job import Job


class Slots:
    """Runs each attempt in a task of its own, as soon as there is a slot for it.

    Args:
        count: how many attempts run at once.
        execute: runs an attempt to its end. What it raises is no attempt's failure but a
            defect of the process, and ends `until_broken`.
        on_free: called whenever an attempt has left its slot.
        give_back: called with each attempt that will not be started, because of a suspect.
        is_alone: tells whether the process holds no lease but that of an attempt, which has not
            begun, and asks for none.

    Attributes:
        closed: True once nothing is started any more.
    """

    def __init__(
        self,
        count: int,
        execute: Callable[[Attempt], Awaitable[None]],
        *,
        on_free: Callable[[], None],
        give_back: Callable[[Attempt], None],
        is_alone: Callable[[Attempt], bool],
    ) -> None:
        self._count = count
        self._execute = execute
        self._on_free = on_free
        self._give_back = give_back
        self._is_alone = is_alone
        self._waiting: deque[Attempt] = deque()
        self._context = contextvars.copy_context()
        self._suspect: Attempt | None = None
        # In order of their start, so that a seeded simulation has one order to repeat.
        self._running: dict[Attempt, asyncio.Task[None]] = {}
        self._defect: BaseException | None = None
        self._broken = asyncio.Event()
        self.closed = False

    @property
    def in_hand(self) -> int:
        """How many attempts run or wait."""
        waits = self.waiting_suspect is not None
        return len(self._waiting) + len(self._running) + waits

    @property
    def is_open(self) -> bool:
        """True unless a suspect waits or runs, which wants nobody beside it."""
        return self._suspect is None

    @property
    def waiting_suspect(self) -> Attempt | None:
        """The suspect that waits for the others to end, if there is one."""
        return None if self._suspect in self._running else self._suspect

    @property
    def running(self) -> Sequence[Attempt]:
        """What runs now, in order of its start."""
        return list(self._running)

    @property
    def all_stuck(self) -> bool:
        """True when every slot is taken by a handler that did not stop and was settled for."""
        return len(self._running) >= self._count and all(each.settled for each in self._running)

    @property
    def tasks(self) -> Collection[asyncio.Task[None]]:
        """What runs the attempts."""
        return list(self._running.values())

    def job_in(self, task: asyncio.Task[Any] | None) -> Job | None:
        """Return the job that runs in a task of the event loop; any thread may ask."""
        found = (attempt.job for attempt, running in list(self._running.items()) if running is task)
        return next(found, None)

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Put attempts in line, first come, first served; a suspect behind what finds a slot."""
        # Not that of whatever frees a slot: a handler leaves nothing behind for the next one.
        self._context = contextvars.copy_context()
        suspects: list[Attempt] = []
        for attempt in attempts:
            (suspects if is_suspect(attempt.job) else self._waiting).append(attempt)
        if self._suspect is None:
            self.fill()
            if suspects:
                self._suspect = suspects.pop(0)
        if self._suspect is not None:
            for attempt in (*self._take_line(), *suspects):
                self._give_back(attempt)
        self.fill()

    def close(self) -> None:
        """Start nothing any more."""
        self.closed = True

    def take_waiting(self) -> Sequence[Attempt]:
        """Take those out of the line who have not started."""
        suspect = self.waiting_suspect
        if suspect is None:
            return self._take_line()
        self.let_go(suspect)
        return [*self._take_line(), suspect]

    def let_go(self, attempt: Attempt) -> None:
        """Keep nobody waiting for an attempt, if it is the suspect: it is settled, or to be."""
        if attempt is self._suspect:
            self._suspect = None
            self._on_free()

    def fill(self) -> None:
        """Start what may be started now; to be called whenever that may be more than before."""
        if self.closed or len(self._running) >= self._count:
            return
        suspect = self.waiting_suspect
        if suspect is not None:
            # Who is settled and runs on does not stop: it has no lease to lose.
            if all(each.settled for each in self._running) and self._is_alone(suspect):
                self._start(suspect)
            return
        while self._waiting and len(self._running) < self._count:
            self._start(self._waiting.popleft())

    async def until_broken(self) -> None:
        """Wait for a defect, and raise it."""
        await self._broken.wait()
        self.check()

    def check(self) -> None:
        """Raise the defect, if there is one."""
        if self._defect is not None:
            raise self._defect

    def _take_line(self) -> list[Attempt]:
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def _start(self, attempt: Attempt) -> None:
        self._running[attempt] = asyncio.get_running_loop().create_task(
            self._run(attempt), context=self._context.copy()
        )

    async def _run(self, attempt: Attempt) -> None:
        try:
            await self._execute(attempt)
        except BaseException as error:
            self._defect = error
            self._broken.set()
        finally:
            # A thread that does not return keeps its slot, though nobody waits for it.
            if not attempt.in_thread:
                del self._running[attempt]
            self._on_free()
            self.let_go(attempt)
        self.fill()
