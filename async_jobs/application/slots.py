"""Slots: attempts are run, so many at once, and the others wait in line."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from async_jobs.application.attempt import Attempt


class Slots:
    """Runs each attempt in a task of its own, as soon as there is a slot for it.

    Args:
        count: how many attempts run at once.
        execute: runs an attempt to its end. What it raises is no attempt's failure but a
            defect of the process, and ends `until_broken`.
        on_free: called whenever an attempt has left its slot.

    Attributes:
        closed: True once nothing is started any more.
    """

    def __init__(
        self,
        count: int,
        execute: Callable[[Attempt], Awaitable[None]],
        *,
        on_free: Callable[[], None],
    ) -> None:
        self._count = count
        self._execute = execute
        self._on_free = on_free
        self._waiting: deque[Attempt] = deque()
        # In order of their start, so that a seeded simulation has one order to repeat.
        self._running: dict[Attempt, asyncio.Task[None]] = {}
        self._defect: BaseException | None = None
        self._broken = asyncio.Event()
        self.closed = False

    @property
    def in_hand(self) -> int:
        """How many attempts run or wait."""
        return len(self._waiting) + len(self._running)

    @property
    def running(self) -> Sequence[Attempt]:
        """What runs now, in order of its start."""
        return list(self._running)

    @property
    def tasks(self) -> Collection[asyncio.Task[None]]:
        """What runs the attempts."""
        return list(self._running.values())

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Put attempts in line, first come, first served."""
        self._waiting.extend(attempts)
        self._fill()

    def close(self) -> None:
        """Start nothing any more."""
        self.closed = True

    def take_waiting(self) -> Sequence[Attempt]:
        """Take those out of the line who have not started."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    async def until_broken(self) -> None:
        """Wait for a defect, and raise it."""
        await self._broken.wait()
        self.check()

    def check(self) -> None:
        """Raise the defect, if there is one."""
        if self._defect is not None:
            raise self._defect

    def _fill(self) -> None:
        if not self._waiting or self.closed:
            return
        loop = asyncio.get_running_loop()
        while self._waiting and len(self._running) < self._count:
            attempt = self._waiting.popleft()
            self._running[attempt] = loop.create_task(self._run(attempt))

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
        self._fill()
