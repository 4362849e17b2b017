"""A process of our own: it leaves in time, and its children are no part of it."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, TypeVar

from async_jobs.domain.errors import ConfigurationError
from async_jobs.host import SystemClock

T = TypeVar("T")

EXIT_STOPPED, EXIT_FAILED, EXIT_WRONG_USE = 0, 1, 2
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
LEAVE_SECONDS: Final = 1.0
"""What the interpreter gets to end once a program has: for exit handlers, not for threads."""
FORCE_SECONDS: Final = 10.0
"""What a program may take beyond its drain timeout, whatever hangs."""
TELL_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.2
REPEAT_SECONDS: Final = 0.5
"""A signal to a whole group may come more than once, as children and supervisors pass it on."""

_clock = SystemClock()


class Terminated(SystemExit):
    """SIGTERM came before a program had begun."""


def own_process() -> None:
    """Say that this process is the program's alone: it is ended when the program is.

    From here on SIGTERM ends it, as number 1 of a container too, and its children are let be.
    """
    WATCHDOG.is_on = True
    signal.signal(signal.SIGTERM, _terminated)
    _let_children_be()


def _terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated(128 + number)


# --- children -----------------------------------------------------------------------------------


def _let_children_be() -> None:
    """Give forked children their own signals.

    They would inherit the handlers and the pipe that wakes the event loop: a child that is
    terminated would tell its parent that it was the parent. Signals wait from before the fork
    until the child is rid of them.
    """
    masks = threading.local()

    def before() -> None:
        masks.kept = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def after() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.kept)

    def in_child() -> None:
        WATCHDOG.is_on = False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        after()

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=in_child)


# --- leaving ------------------------------------------------------------------------------------


def _no_problem() -> str | None:
    return None


class Watchdog:
    """Ends this process at a deadline, from a thread of its own: the loop may be what hangs.

    It also ends a process whose loop does not go round any more: leases are renewed by another
    thread, so that a handler that blocks the loop for good would keep its job and all others.

    Attributes:
        is_on: True where the process is the program's alone; else nothing is ended.
        logger: told why.
        silence_seconds: for how long the loop may stand still.
        problem: asked for what blocks the loop, to be told when the process is ended.
    """

    def __init__(self) -> None:
        self.is_on = False
        self.logger = logging.getLogger("async_jobs")
        self.silence_seconds = math.inf
        self.problem = _no_problem
        self._beats = 0
        self._deadline, self._code = math.inf, EXIT_FAILED
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def leave_within(self, seconds: float, code: int) -> None:
        """End the process with `code` if it has not ended by itself by then.

        Signal handlers may call it. The earliest deadline counts.
        """
        deadline = _clock.monotonic() + seconds
        if deadline < self._deadline:
            self._deadline, self._code = deadline, code

    def beat(self) -> None:
        """Say that the loop goes round."""
        self._beats += 1

    def start(self) -> None:
        """Begin to watch."""
        if self.is_on and not self._thread.is_alive():
            self._thread.start()

    def _problem(self) -> str | None:
        with suppress(Exception):  # whatever it is, the process has to end
            return self.problem()
        return None

    def _watch(self) -> None:
        pause, heard, looks = threading.Event(), 0, 0
        while _clock.monotonic() < self._deadline:
            pause.wait(LOOK_SECONDS)
            # Looks are counted, for in a process that was paused this thread stood still as well.
            looks = looks + 1 if heard == self._beats else 0
            heard = self._beats
            if looks * LOOK_SECONDS > self.silence_seconds:
                told: dict[str, object] = {
                    "seconds": looks * LOOK_SECONDS,
                    "problem": self.problem(),
                }
                leave(EXIT_FAILED, "exiting_beside_a_blocked_loop", told)
        told = {"threads": _what_hangs(), "problem": self._problem()}
        leave(self._code, "exiting_by_force", told)


WATCHDOG: Final = Watchdog()


def _what_hangs() -> list[str]:
    main = threading.main_thread()
    return [each.name for each in threading.enumerate() if not each.daemon and each is not main]


def leave(code: int, event: str, told: Mapping[str, object]) -> None:
    """End this process at once; whatever holds a lock of the log cannot keep it.

    What is `told` as None is left out.
    """

    def tell() -> None:
        extra = {name: value for name, value in told.items() if value is not None}
        WATCHDOG.logger.error(event, extra=extra)
        logging.shutdown()

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    teller.join(TELL_SECONDS)
    _exit(code)


_before_exit: list[Callable[[], object]] = []


@contextmanager
def before_a_forced_exit(act: Callable[[], object]) -> Iterator[None]:
    """Have `act` called if this process is ended by force within the block.

    From any thread, or from the handler of a signal; it must not wait for anything.
    """
    _before_exit.append(act)
    try:
        yield
    finally:
        _before_exit.remove(act)


def _exit(code: int) -> None:
    for act in tuple(_before_exit):
        with suppress(Exception):
            act()
    os._exit(code)


def run_program(run: Callable[[Coroutine[Any, Any, T]], T], main: Coroutine[Any, Any, T]) -> T:
    """Run a program; once it has ended its process ends soon, if it is the program's own.

    Tasks that swallow their cancellation, threads that do not return and exit handlers that hang
    would keep the interpreter for as long as they like.

    Args:
        run: runs a coroutine on an event loop.
        main: the program.
    """

    async def watched() -> T:
        WATCHDOG.start()
        code = EXIT_FAILED
        try:
            result = await main
            code = EXIT_STOPPED
        except ConfigurationError:
            code = EXIT_WRONG_USE
            raise
        finally:
            WATCHDOG.leave_within(LEAVE_SECONDS, code)
        return result

    return run(watched())


# --- signals ------------------------------------------------------------------------------------


@contextmanager
def hearing_signals(
    received: Callable[[signal.Signals], None], logger: logging.Logger, *, force_seconds: float
) -> Iterator[None]:
    """Call `received` on the running loop for each SIGTERM and SIGINT, for the length of a block.

    Also when other code in this process takes the handlers away: they are put back. Whatever the
    loop does, a second signal ends the process at once, unless it comes right behind the first,
    and else it ends `force_seconds` after the first one.

    Without a handler the kernel keeps signals from process number 1, as programs in containers
    are: so this is around everything that may take long, a wait for a database above all.
    """
    loop = asyncio.get_running_loop()
    ours: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {}
    timer: asyncio.TimerHandle
    since: float | None = None

    def install(number: signal.Signals) -> None:
        try:
            loop.add_signal_handler(number, received, number)
        except NotImplementedError:
            raise ConfigurationError(
                f"async-jobs runs on Linux and macOS; on {sys.platform} run it in a container or in"
                " WSL"
            ) from None
        wakes_loop = signal.getsignal(number)

        def at_once(number: int, frame: FrameType | None) -> None:
            nonlocal since
            now = _clock.monotonic()
            since = now if since is None else since
            if now - since > REPEAT_SECONDS:
                _exit(128 + number)
            WATCHDOG.leave_within(force_seconds, EXIT_FAILED)
            if callable(wakes_loop):
                wakes_loop(number, frame)

        ours[number] = at_once
        signal.signal(number, at_once)

    def look() -> None:
        nonlocal timer
        WATCHDOG.beat()
        for number in SIGNALS:
            if signal.getsignal(number) is not ours[number]:
                logger.warning("signal_handler_restored", extra={"signal": number.name})
                install(number)
        timer = loop.call_later(LOOK_SECONDS, look)

    for number in SIGNALS:
        install(number)
    timer = loop.call_later(LOOK_SECONDS, look)
    try:
        yield
    finally:
        timer.cancel()
        for number in SIGNALS:
            loop.remove_signal_handler(number)
