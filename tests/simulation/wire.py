"""What lies between a process and the components it calls: time, loss, and doubt.

A call travels to the component, takes effect there in a task of the component's own, and its
answer travels back. Either way can take long or be lost. Whoever calls learns `Unavailable`, and
cannot know whether the call took effect, or still will.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar, cast
from uuid import UUID

import asyncpg

from async_jobs.domain.errors import Unavailable
from async_jobs.domain.job import HandOff, Job, JobFilter, JobPage
from async_jobs.domain.lifecycle import Change
from async_jobs.domain.scheduling import LeaseGrant
from async_jobs.ports.queue import Acked, Delivery, JobQueue, Sent
from async_jobs.ports.store import (
    AddResult,
    Applied,
    Heads,
    HeadsQuery,
    RunningCount,
    Upcoming,
)
from async_jobs.ports.workers import WorkerInfo, Workers
from tests.simulation.dice import Dice
from tests.simulation.faults import Faults
from tests.simulation.judge import Node
from tests.simulation.loop import Process, SimulatedLoop
from tests.simulation.witness import WRITER, WitnessedStore

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


class RemoteTurn:
    """Implements `DispatchTurn` over a link."""

    def __init__(self, link: Link, session: Session) -> None:
        self._link = link
        self._session = session
        self._inner = session.inner

    @property
    def use_cases(self) -> frozenset[str]:
        return cast("frozenset[str]", self._inner.use_cases)

    @property
    def tenants(self) -> frozenset[str]:
        return cast("frozenset[str]", self._inner.tenants)

    async def running(self) -> Sequence[RunningCount]:
        counts: Sequence[RunningCount] = await self._link.within(
            self._session, "running", self._inner.running
        )
        return counts

    async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
        look = partial(self._inner.heads, queries, now)
        heads: Mapping[str, Heads] = await self._link.within(self._session, "heads", look)
        return heads

    async def lease(self, grants: Sequence[LeaseGrant]) -> frozenset[UUID]:
        take = partial(self._inner.lease, grants)
        leased: frozenset[UUID] = await self._link.within(self._session, "lease", take)
        return leased


class RemoteStore:
    """Implements `JobStore` over a link."""

    def __init__(self, link: Link, store: WitnessedStore) -> None:
        self._link = link
        self._store = store

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[object]:
        """Open a caller's own transaction, to be passed as `within`."""
        async with self._link.session("transaction", self._store.transaction) as session:
            yield session

    @asynccontextmanager
    async def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AsyncIterator[RemoteTurn]:
        opening = partial(self._store.turn, use_cases, tenants)
        async with self._link.session("turn", opening) as session:
            yield RemoteTurn(self._link, session)

    async def add(
        self, jobs: Sequence[Job], limits: Mapping[str, int], *, within: object | None = None
    ) -> list[AddResult]:
        if within is None:
            return await self._link.call("add", partial(self._store.add, jobs, limits))
        assert isinstance(within, Session)
        add = partial(self._store.add, jobs, limits, within=within.inner)
        return await self._link.within(within, "add", add)

    async def get(self, ids: Collection[UUID], *, tenant_id: str | None = None) -> list[Job]:
        return await self._link.call("get", partial(self._store.get, ids, tenant_id=tenant_id))

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        look = partial(self._store.find, criteria, limit=limit, before=before)
        return await self._link.call("find", look)

    async def save(self, changes: Sequence[Change]) -> Applied:
        return await self._link.call("save", partial(self._store.save, changes))

    async def expired(self, now: datetime, *, limit: int) -> list[Job]:
        return await self._link.call("expired", partial(self._store.expired, now, limit=limit))

    async def set_aside(self, now: datetime, *, until: datetime, limit: int) -> int:
        give_back = partial(self._store.set_aside, now, until=until, limit=limit)
        return await self._link.call("set_aside", give_back)

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        promote = partial(self._store.promote, now, limit=limit, sidelined=sidelined)
        return await self._link.call("promote", promote)

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        forget = partial(self._store.purge, use_case, before=before, limit=limit)
        return await self._link.call("purge", forget)


class RemoteWorkers:
    """Implements `Workers` over a link."""

    def __init__(self, link: Link, workers: Workers) -> None:
        self._link = link
        self._workers = workers

    async def announce(self, worker: WorkerInfo) -> None:
        await self._link.call("announce", partial(self._workers.announce, worker))

    async def live(self, now: datetime) -> Sequence[WorkerInfo]:
        return await self._link.call("live", partial(self._workers.live, now))

    async def withdraw(self, worker_id: str) -> None:
        await self._link.call("withdraw", partial(self._workers.withdraw, worker_id))


class RemoteQueue:
    """Implements `JobQueue` over a link."""

    def __init__(self, link: Link, queue: JobQueue) -> None:
        self._link = link
        self._queue = queue

    @property
    def name(self) -> str:
        return self._queue.name

    async def send(self, handoffs: Sequence[HandOff]) -> list[Sent]:
        return await self._link.call("send", partial(self._queue.send, handoffs))

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        receive = partial(self._queue.receive, max_messages=max_messages, wait_seconds=wait_seconds)
        return await self._link.call("receive", receive, wait_seconds=wait_seconds)

    async def ack(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        return await self._settled("ack", deliveries)

    async def release(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        return await self._settled("release", deliveries)

    async def _settled(self, what: str, deliveries: Sequence[Delivery]) -> list[Acked]:
        if not deliveries:
            return []
        settle = self._queue.ack if what == "ack" else self._queue.release
        try:
            return await self._link.call(what, partial(settle, deliveries))
        except Unavailable as error:
            return [Acked(delivery, str(error)) for delivery in deliveries]

    async def depth(self) -> int:
        return await self._link.call("depth", self._queue.depth)


class ClockPool:
    """As much of a pool as `PostgresClock` needs: connections that tell the database's time."""

    def __init__(
        self, link: Link, loop: SimulatedLoop, node: Node, now: Callable[[], datetime]
    ) -> None:
        self._link = link
        self._loop = loop
        self._node = node
        self._now = now

    def as_pool(self) -> asyncpg.Pool:
        return cast("asyncpg.Pool", self)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[ClockConnection]:
        connection = ClockConnection(self._link, self._loop, self._now)
        yield connection
        # A clock that is measured is wrong by half of its shortest round trip at most.
        error = min(connection.trips) / 2 + 0.001
        self._node.clock_error = max(self._node.clock_error, error)


class ClockConnection:
    """Tells the database's time, and remembers how long each answer took."""

    def __init__(self, link: Link, loop: SimulatedLoop, now: Callable[[], datetime]) -> None:
        self._link = link
        self._loop = loop
        self._now = now
        self.trips: list[float] = []

    async def fetchval(self, query: str) -> datetime:
        sent = self._loop.time()

        async def tell() -> datetime:
            return self._now()

        time = await self._link.call("time", tell)
        self.trips.append(self._loop.time() - sent)
        return time
