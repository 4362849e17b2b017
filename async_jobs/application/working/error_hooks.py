"""Error hooks: an application is told of what its handlers raise, for Sentry and its like.

A hook is somebody else's code about somebody's failure: whatever it does, jobs go on.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from queue import Full, Queue
from threading import Thread
from typing import Final, TypeAlias

from async_jobs.application.handling.registry import JobContext, JobRegistry
from async_jobs.domain.errors import AsyncJobsError
from async_jobs.ports.clock import Clock

WAITING_MAX: Final = 100
"""So many errors wait for a hook at most: each keeps what its frames hold."""
POLL_SECONDS: Final = 0.05
TROUBLES_MAX: Final = 100

_Told: TypeAlias = tuple[contextvars.Context, BaseException, JobContext]


class ErrorHooks:
    """Calls the hooks of a registry, here and now: for tests.

    Args:
        registry: whose hooks.
        on_trouble: told of a hook that raises, once for each kind of what it raises, and when
            errors had to be left out.
    """

    def __init__(
        self, registry: JobRegistry, on_trouble: Callable[[Exception], None] = lambda error: None
    ) -> None:
        self._registry = registry
        self._on_trouble = on_trouble
        self._troubles: set[str] = set()

    def tell(self, error: BaseException, context: JobContext) -> None:
        """Tell of an error that has failed an attempt, in the context that the handler had."""
        if self._registry.error_hooks:
            self._take((contextvars.copy_context(), error, context))

    async def finish(self, clock: Clock, *, seconds: float) -> None:
        """Wait until the hooks have been told, for a while."""

    def _take(self, told: _Told) -> None:
        self._call(told)

    def _call(self, told: _Told) -> None:
        variables, error, context = told
        for hook in self._registry.error_hooks:
            try:
                variables.run(hook, error, context)
            except BaseException as trouble:  # a hook that gives up is no reason to do so
                kind = type(trouble).__name__
                self._tell(f"an error hook raised {kind}: what handlers raise may go untold")

    def _tell(self, trouble: str) -> None:
        if trouble not in self._troubles and len(self._troubles) < TROUBLES_MAX:
            self._troubles.add(trouble)
            self._on_trouble(AsyncJobsError(trouble))


class ErrorThread(ErrorHooks):
    """Calls the hooks in a thread of its own, one error after the other.

    A hook that hangs keeps no handler, no outcome and no shutdown waiting. What does not fit into
    the line then is left out.
    """

    def __init__(
        self, registry: JobRegistry, on_trouble: Callable[[Exception], None] = lambda error: None
    ) -> None:
        super().__init__(registry, on_trouble)
        self._line: Queue[_Told] = Queue(WAITING_MAX)
        self._thread: Thread | None = None

    def _take(self, told: _Told) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._work, name="error-hooks", daemon=True)
            self._thread.start()
        try:
            self._line.put_nowait(told)
        except Full:
            self._tell(f"error hooks are slow: {WAITING_MAX} errors wait, others are left out")

    def _work(self) -> None:
        while True:
            told = self._line.get()
            try:
                self._call(told)
            finally:
                # What its frames hold goes now, and not when the next error comes.
                del told
                self._line.task_done()

    async def finish(self, clock: Clock, *, seconds: float) -> None:
        """Wait until the hooks have been told, for a while."""
        until = clock.monotonic() + seconds
        while self._line.unfinished_tasks and clock.monotonic() < until:
            await clock.sleep(POLL_SECONDS)
