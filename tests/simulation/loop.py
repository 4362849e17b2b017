"""An event loop that owns time and the order in which processes take their steps.

Every task belongs to a process: the one whose context it was started in. Within a process
callbacks run in the order in which they were scheduled, as asyncio has it; which process takes
the next step is chance. Time stands still while anybody can take a step, and then jumps to the
next timer. A process can stand still, and it can die: then none of its code runs any more, not
even its `finally` blocks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar, TypeVarTuple

from tests.simulation.dice import Dice

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STEPS_AT_ONE_INSTANT_MAX = 200_000
TASKS_KEPT_MAX = 64


class NothingLeftToDo(Exception):
    """Everybody waits for somebody else, for ever."""


class NeverRests(Exception):
    """Time does not go on, because somebody always has something to do at once."""


class Process:
    """What lives and dies as a whole.

    Attributes:
        standing: how many reasons there are for which it takes no steps.
        dead: it takes no steps ever again.
        fuse: how many steps it takes before it dies; None for no such plan.
    """

    __slots__ = ("_busy", "_tasks_max", "dead", "fuse", "name", "ready", "standing", "tasks")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[_Call] = deque()
        self.standing = 0
        self.dead = False
        self.fuse: int | None = None
        # Kept, because a task that nobody holds is closed by the garbage collector, which runs
        # what a dead process must not run.
        self.tasks: list[asyncio.Task[Any]] = []
        self._tasks_max = TASKS_KEPT_MAX
        self._busy = False

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a task, and let go of those that are done."""
        if len(self.tasks) >= self._tasks_max:
            self.tasks = [each for each in self.tasks if not each.done()]
            self._tasks_max = max(TASKS_KEPT_MAX, 2 * len(self.tasks))
        self.tasks.append(task)

    def __repr__(self) -> str:
        return self.name


PROCESS: ContextVar[Process] = ContextVar("PROCESS")


class _Call(asyncio.TimerHandle):
    """A callback to come. Its fields are its own, for speed and to depend on nothing private."""

    __slots__ = ("args", "at", "callback", "context", "given_up", "process")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        process: Process,
        at: float,
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.process = process
        self.at = at
        self.given_up = False

    def __repr__(self) -> str:
        return f"<{self.callback} of {self.process}>"

    def cancel(self) -> None:
        self.given_up = True

    def cancelled(self) -> bool:
        return self.given_up

    def when(self) -> float:
        return self.at


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Implements what asyncio's tasks, futures and locks need of a loop, and nothing else.

    Args:
        dice: decides which process takes the next step.
        on_death: told of a process whose fuse has burnt down, which dies of it.

    Attributes:
        steps: how many callbacks have run.
        failure: set by anybody who has seen enough; `run` raises it after the step.
        unhandled: what asyncio reported as never looked at.
    """

    def __init__(self, dice: Dice, on_death: Callable[[Process], None]) -> None:
        self._draw = dice.draw
        self._on_death = on_death
        self._now = 0.0
        self._timers: list[tuple[float, int, _Call]] = []
        self._scheduled = 0
        self._busy: list[Process] = []
        self.steps = 0
        self._steps_max = STEPS_AT_ONE_INSTANT_MAX
        self.failure: BaseException | None = None
        self.unhandled: list[dict[str, Any]] = []
        self.outside = Process("outside")
        self.processes: list[Process] = [self.outside]

    # --- processes ---

    def process(self, name: str) -> Process:
        """Return a new process."""
        process = Process(name)
        self.processes.append(process)
        return process

    def context_of(self, process: Process) -> Context:
        """Return a context in which everything belongs to the process."""
        context = copy_context()
        context.run(PROCESS.set, process)
        return context

    def start(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task of the process."""
        return self.create_task(work, context=self.context_of(process))

    def start_in(self, context: Context, work: Coroutine[Any, Any, object]) -> None:
        """Start a task in a context, and leave it to itself."""
        _ = self.create_task(work, context=context)

    def stand_still(self, process: Process) -> None:
        """Let the process take no step until `go_on` was called as often as this."""
        process.standing += 1

    def go_on(self, process: Process) -> None:
        """End one reason to stand still."""
        process.standing -= 1
        self._mark(process)

    def kill(self, process: Process) -> None:
        """Let the process take no step ever again."""
        process.dead = True

    def revive(self, process: Process) -> None:
        """Let a dead process go on where it was: for tidying up when all is over."""
        process.dead, process.standing, process.fuse = False, 0, None
        self._mark(process)

    # --- running ---

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a task of the outside to its end.

        Raises:
            NothingLeftToDo: it waits for what cannot happen.
            NeverRests: time does not go on.
        """
        task = self.start(self.outside, work)
        asyncio._set_running_loop(self)
        try:
            self._run_until(task.done)
        finally:
            asyncio._set_running_loop(None)
        return task.result()

    def _run_until(self, is_over: Callable[[], bool]) -> None:
        """Take steps; all of a simulation is in here, so it asks for nothing twice."""
        busy, draw = self._busy, self._draw
        while not is_over():
            while not busy:
                self._let_time_pass()
            index = int(draw() * len(busy)) if len(busy) > 1 else 0
            process = busy[index]
            ready = process.ready
            stands = process.dead or process.standing > 0 or not ready
            call = None if stands else ready.popleft()
            if not ready or stands:
                process._busy = False
                busy[index] = busy[-1]
                busy.pop()
            if call is None or call.given_up:
                continue
            if process.fuse is None or not self._burns_down(process, call):
                self.steps += 1
                if self.steps > self._steps_max:
                    raise NeverRests(f"at {self._now:.3f} s, {call!r}")
                call.context.run(call.callback, *call.args)
            if self.failure is not None:
                raise self.failure

    def _burns_down(self, process: Process, call: _Call) -> bool:
        """Shorten a fuse; tells whether the process dies of it, or might, instead of a step."""
        assert process.fuse is not None
        process.fuse -= 1
        if process.fuse >= 0:
            return False
        process.ready.appendleft(call)
        self._mark(process)
        process.fuse = None
        self._on_death(process)
        return True

    def _mark(self, process: Process) -> None:
        if process.ready and not (process._busy or process.dead or process.standing > 0):
            process._busy = True
            self._busy.append(process)

    def _let_time_pass(self) -> None:
        timers = self._timers
        if not timers:
            raise NothingLeftToDo(f"at {self._now:.3f} s")
        self._now = now = max(self._now, timers[0][0])
        self._steps_max = self.steps + STEPS_AT_ONE_INSTANT_MAX
        while timers and timers[0][0] <= now:
            call = heappop(timers)[2]
            if not call.given_up:
                process = call.process
                process.ready.append(call)
                if not process._busy:
                    self._mark(process)

    # --- what asyncio asks of a loop ---

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if context is None:
            context = copy_context()
        process = context.get(PROCESS, self.outside)
        call = _Call(callback, args, context, process, self._now)
        process.ready.append(call)
        if not process._busy:
            self._mark(process)
        return call

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        # As `call_at`, which is one call too many for what happens all the time.
        if context is None:
            context = copy_context()
        when = self._now + delay
        call = _Call(callback, args, context, context.get(PROCESS, self.outside), when)
        self._scheduled += 1
        heappush(self._timers, (when, self._scheduled, call))
        return call

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_later(when - self._now, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[Any]:
        if context is None:
            context = copy_context()
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        context.get(PROCESS, self.outside).keep(task)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Call the function a moment later, as a thread would."""
        answer: asyncio.Future[T] = self.create_future()

        def call() -> None:
            try:
                result = func(*args)
            except BaseException as error:
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(result)

        self.call_later(0.001 + self._draw(), call)
        return answer

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.unhandled.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.unhandled.append(context)

    # Every task and future asks: a builtin that returns False costs least.
    get_debug = bool

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False


async def never() -> Any:
    """Wait for ever."""
    await asyncio.get_running_loop().create_future()
