"""What lies between a process and the components it calls: time, loss, and doubt.

A call travels to the component, takes effect there in a task of the component's own, and its
answer travels back. Either way can take long or be lost. Whoever calls learns `Unavailable`, and
cannot know whether the call took effect, or still will.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from async_jobs.domain.errors import Unavailable
from tests.simulation.dice import Dice
from tests.simulation.faults import Faults
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.records import Node
from tests.simulation.witness import WRITER

T = TypeVar("T")

TIMEOUT_SECONDS = 30.0
SESSION_SECONDS = 60.0
"""An idle transaction is ended by the database after so long."""
SHORTEST, LONGEST = 0.000_5, 0.005
SLOW_SECONDS = 20.0


@dataclass(slots=True)
class Weather:
    """What calls meet just now; shared by all processes.

    Attributes:
        faults: what can go wrong.
        over: the simulation has ended: nobody answers any more.
        down: the names of the components that answer nobody for a while.
        noted: told of each fault by name.
    """

    faults: Faults
    over: bool
    down: dict[str, int]
    noted: Callable[[str], None]

    def fall(self, component: str) -> None:
        self.down[component] = self.down.get(component, 0) + 1

    def rise(self, component: str) -> None:
        self.down[component] -= 1


class Session:
    """A transaction that stays open between calls, and ends with whoever opened it."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.end: asyncio.Future[bool] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self.inner: Any = None
        self._statements = 0
        self._dropped = False

    @property
    def is_open(self) -> bool:
        return not (self._dropped or self.end.done())

    def drop(self) -> None:
        """Roll back, if it is still open: after the statement under way, as databases do."""
        self._dropped = True
        if not self._statements and not self.end.done():
            self.end.set_result(False)

    async def execute(self, statement: Callable[[], Awaitable[T]]) -> T:
        """Execute a statement in the transaction."""
        if not self.is_open:
            raise Unavailable("the transaction was ended meanwhile")
        self._statements += 1
        try:
            return await statement()
        finally:
            self._statements -= 1
            if self._dropped:
                self.drop()

    async def finish(self) -> None:
        """Commit."""
        if not self.is_open:
            raise Unavailable("the transaction was ended meanwhile")
        self.end.set_result(True)
        await self.gone


class _RolledBack(Exception):
    pass


class Link:
    """One process's way to one component.

    Args:
        component: the component's process, in which calls take effect.
    """

    def __init__(
        self, loop: SimulatedLoop, node: Node, component: Process, weather: Weather, dice: Dice
    ) -> None:
        self._loop = loop
        self._node = node
        self._weather = weather
        self._dice = dice
        self._name = component.name
        self._context = loop.context_of(component)
        self._context.run(WRITER.set, node)
        self._sessions: list[Session] = []
        self.unreachable = 0
        """How many reasons there are for which this process alone reaches nobody."""

    @property
    def _is_down(self) -> bool:
        return self.unreachable > 0 or self._weather.down.get(self._name, 0) > 0

    def _in_component(self) -> Context:
        return self._context.copy()

    async def call(
        self, what: str, work: Callable[[], Awaitable[T]], *, wait_seconds: float = 0.0
    ) -> T:
        """Let `work` take effect in the component; returns its answer.

        Args:
            what: its name, for messages.
            work: what takes effect.
            wait_seconds: for how long it may wait there on top of the timeout.

        Raises:
            Unavailable: nobody answered, or the answer was lost.
        """
        if self._weather.over:
            raise Unavailable("it is over")
        began = self._loop.time()
        try:
            return await self._call(what, work, wait_seconds)
        finally:
            if self._loop.time() - began > wait_seconds + 3 * LONGEST:
                self._node.has_trouble(self._loop.time())

    async def _call(self, what: str, work: Callable[[], Awaitable[T]], wait_seconds: float) -> T:
        faults, dice = self._weather.faults, self._dice
        there, back = dice.between(SHORTEST, LONGEST), dice.between(SHORTEST, LONGEST)
        if self._is_down:
            self._trouble("unavailable_before")
            await self._later(dice.pick([there, TIMEOUT_SECONDS]))
            raise Unavailable(f"{self._name} is down")
        if dice.happens(faults.unavailable_before):
            self._trouble("unavailable_before")
            await self._later(there)
            raise Unavailable(f"{what} was lost")
        if dice.happens(faults.slow_calls):
            self._trouble("slow_calls")
            there, back = dice.between(0, SLOW_SECONDS / 2), dice.between(0, SLOW_SECONDS / 2)
        if dice.happens(faults.late_effects):
            self._trouble("late_effects")
            there = TIMEOUT_SECONDS + wait_seconds + dice.pause(30)
        lost = dice.happens(faults.unavailable_after)
        if lost:
            self._trouble("unavailable_after")
        answer: asyncio.Future[T] = self._loop.create_future()
        arrival = partial(self._serve, work, answer, back, Unavailable(f"{what}: no answer"), lost)
        self._loop.call_later(there, self._arrive, arrival, context=self._context)
        giving_up = self._loop.call_later(
            TIMEOUT_SECONDS + wait_seconds, self._give_up, answer, what
        )
        try:
            return await answer
        finally:
            giving_up.cancel()

    def _arrive(self, arrival: Callable[[], Any]) -> None:
        self._loop.start_in(self._in_component(), arrival())

    async def _serve(
        self,
        work: Callable[[], Awaitable[T]],
        answer: asyncio.Future[T],
        back: float,
        silence: Unavailable,
        lost: bool,
    ) -> None:
        try:
            result = await work()
        except Exception as error:
            self._loop.call_later(back, self._fail, answer, silence if lost else error)
        else:
            if lost or self._is_down:
                self._loop.call_later(back, self._fail, answer, silence)
            else:
                self._loop.call_later(back, self._deliver, answer, result)

    def _deliver(self, answer: asyncio.Future[T], result: T) -> None:
        if not answer.done():
            answer.set_result(result)

    def _fail(self, answer: asyncio.Future[Any], error: Exception) -> None:
        if not answer.done():
            answer.set_exception(error)
            answer.exception()  # whoever asked may have been cancelled: nobody need look

    def _give_up(self, answer: asyncio.Future[Any], what: str) -> None:
        if not answer.done():
            self._trouble("timeouts")
            answer.set_exception(Unavailable(f"{what} took too long"))
            answer.exception()

    async def _later(self, seconds: float) -> None:
        waiting: asyncio.Future[None] = self._loop.create_future()
        self._loop.call_later(seconds, self._deliver, waiting, None)
        await waiting

    def _trouble(self, kind: str) -> None:
        self._node.has_trouble(self._loop.time())
        self._weather.noted(kind)

    # --- transactions ---

    @asynccontextmanager
    async def session(
        self, what: str, opening: Callable[[], AbstractAsyncContextManager[Any]]
    ) -> AsyncIterator[Session]:
        """Open a transaction in the component; commits when the block ends without an error."""
        session = Session(self._loop)
        self._sessions = [each for each in self._sessions if each.is_open]
        self._sessions.append(session)
        try:
            await self.call(what, partial(self._open, opening, session))
            yield session
        except BaseException:
            self._loop.call_later(
                self._dice.between(SHORTEST, LONGEST), session.drop, context=self._context
            )
            raise
        await self.call(f"commit of {what}", session.finish)

    async def _open(
        self, opening: Callable[[], AbstractAsyncContextManager[Any]], session: Session
    ) -> None:
        opened: asyncio.Future[None] = self._loop.create_future()
        self._loop.start_in(self._in_component(), self._hold(opening, session, opened))
        self._loop.call_later(SESSION_SECONDS, session.drop, context=self._context)
        await opened

    async def _hold(
        self,
        opening: Callable[[], AbstractAsyncContextManager[Any]],
        session: Session,
        opened: asyncio.Future[None],
    ) -> None:
        try:
            async with opening() as session.inner:
                self._deliver(opened, None)
                if not await session.end:
                    raise _RolledBack
        except _RolledBack:
            pass
        finally:
            session.gone.set_result(None)

    async def within(self, session: Session, what: str, work: Callable[[], Awaitable[T]]) -> T:
        """Let `work` take effect in an open transaction."""
        return await self.call(what, partial(session.execute, work))

    def cut(self) -> None:
        """The connection is gone: the component notices, sooner or later, and rolls back."""
        for session in self._sessions:
            noticed = self._dice.pick([0.0, LONGEST, self._dice.between(0, SESSION_SECONDS / 4)])
            self._loop.call_later(noticed, session.drop, context=self._context)
