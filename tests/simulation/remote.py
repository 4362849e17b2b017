"""The ports as a process has them: over a link each, so that every call can be late or lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import cast
from uuid import UUID

import asyncpg

from async_jobs.adapters.memory.controls import MemoryControls
from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.domain.controls import Scope
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.job import HandOff, Job, JobFilter, JobPage, JsonValue
from async_jobs.domain.lifecycle import Change, Claimed
from async_jobs.domain.scheduling import LeaseGrant
from async_jobs.domain.turns import RunningCount
from async_jobs.ports.checkpoints import Checkpoints
from async_jobs.ports.controls import Standing
from async_jobs.ports.leases import NOBODY, Heads, HeadsQuery, Success
from async_jobs.ports.queue import Acked, Claims, Delivery, JobQueue, Outbox, Sent
from async_jobs.ports.store import (
    AddResult,
    Applied,
    ToldUnreadable,
)
from async_jobs.ports.upkeep import Place, Released, Upcoming
from async_jobs.ports.workers import WorkerInfo, Workers
from tests.simulation.loop import SimulatedLoop
from tests.simulation.records import Node
from tests.simulation.wire import Link, Session
from tests.simulation.witness import WitnessedStore


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

    @property
    def controls(self) -> int:
        return cast("int", self._inner.controls)

    @property
    def refused(self) -> Collection[UUID]:
        return cast("Collection[UUID]", self._inner.refused)

    async def running(self, workers: Mapping[str, int] = NOBODY) -> Sequence[RunningCount]:
        counts: Sequence[RunningCount] = await self._link.within(
            self._session, "running", partial(self._inner.running, workers)
        )
        return counts

    async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
        look = partial(self._inner.heads, queries, now)
        heads: Mapping[str, Heads] = await self._link.within(self._session, "heads", look)
        return heads

    async def lease(
        self, grants: Sequence[LeaseGrant], *, onto: Sequence[Outbox] = ()
    ) -> frozenset[UUID]:
        # The database has the lanes themselves.
        lanes = [lane.inner for lane in onto if isinstance(lane, RemoteOutbox)]
        take = partial(self._inner.lease, grants, onto=lanes)
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
        self,
        jobs: Sequence[Job],
        limits: Mapping[str, int],
        *,
        within: object | None = None,
        apart: bool = False,
    ) -> list[AddResult]:
        if within is None:
            add = partial(self._store.add, jobs, limits, apart=apart)
            return await self._link.call("add", add)
        assert isinstance(within, Session)
        add = partial(self._store.add, jobs, limits, within=within.inner)
        return await self._link.within(within, "add", add)

    async def get(
        self,
        ids: Collection[UUID],
        *,
        tenant_id: str | None = None,
        unreadable: ToldUnreadable | None = None,
    ) -> list[Job]:
        look = partial(self._store.get, ids, tenant_id=tenant_id, unreadable=unreadable)
        return await self._link.call("get", look)

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        look = partial(self._store.find, criteria, limit=limit, before=before)
        return await self._link.call("find", look)

    async def save(self, changes: Sequence[Change]) -> Applied:
        return await self._link.call("save", partial(self._store.save, changes))

    async def claim(
        self, handoffs: Sequence[HandOff], claimed: Claimed, *, now: datetime
    ) -> list[Job]:
        return await self._link.call(
            "claim", partial(self._store.claim, handoffs, claimed, now=now)
        )

    async def succeed(self, successes: Sequence[Success], *, now: datetime) -> frozenset[UUID]:
        return await self._link.call("succeed", partial(self._store.succeed, successes, now=now))

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

    async def hold(
        self,
        seen: Collection[tuple[str, str]],
        scopes: Sequence[Scope],
        *,
        now: datetime,
        version: int,
        limit: int,
    ) -> int:
        hold = partial(self._store.hold, seen, scopes, now=now, version=version, limit=limit)
        return await self._link.call("hold", hold)

    async def release(
        self,
        use_cases: Sequence[str],
        scopes: Sequence[Scope],
        *,
        version: int,
        limit: int,
        after: Place | None = None,
    ) -> Released:
        release = partial(
            self._store.release, use_cases, scopes, version=version, limit=limit, after=after
        )
        return await self._link.call("release", release)

    async def oldest_finished(self) -> Mapping[str, datetime]:
        return await self._link.call("oldest_finished", self._store.oldest_finished)

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


class RemoteCheckpoints:
    """Implements `Checkpoints` over a link."""

    def __init__(self, link: Link, checkpoints: Checkpoints) -> None:
        self._link = link
        self._checkpoints = checkpoints

    async def save(self, name: str, state: Mapping[str, JsonValue]) -> None:
        await self._link.call("remember", partial(self._checkpoints.save, name, state))

    async def load(self, name: str) -> Mapping[str, JsonValue] | None:
        return await self._link.call("recall", partial(self._checkpoints.load, name))


class RemoteControls(MemoryControls):
    """The controls over a link, for processes that keep them; operators have another way."""

    def __init__(self, link: Link, controls: MemoryControls) -> None:
        super().__init__()
        self._link = link
        self._inner = controls

    async def version(self) -> int:
        return await self._link.call("version", self._inner.version)

    async def known(self, now: datetime) -> Standing:
        return await self._link.call("known", partial(self._inner.known, now))

    async def forget(self, before: datetime, *, limit: int) -> int:
        forget = partial(self._inner.forget, before, limit=limit)
        return await self._link.call("forget", forget)


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


class RemoteOutbox(RemoteQueue):
    """Implements `Outbox` over a link.

    Attributes:
        inner: the lane as the database has it.
    """

    def __init__(self, link: Link, queue: Outbox) -> None:
        super().__init__(link, queue)
        self.inner = queue

    async def claim(self, claimed: Claimed, *, now: datetime, max_messages: int) -> Claims:
        take = partial(self.inner.claim, claimed, now=now, max_messages=max_messages)
        return await self._link.call("claim off", take)

    async def claimed(self, worker_id: str, instants: Collection[datetime]) -> list[Job]:
        look = partial(self.inner.claimed, worker_id, instants)
        return await self._link.call("claimed", look)

    async def wait(self, seconds: float) -> None:
        wait = partial(self.inner.wait, seconds)
        await self._link.call("wait", wait, wait_seconds=seconds)


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
        error = min(connection.trips) + 0.001
        self._node.clock_error = max(self._node.clock_error, error)


class RemoteClock(PostgresClock):
    """A clock that measures by its pool: the sessions of a simulated client tell no time."""

    async def sync(self, *, within: object | None = None) -> None:
        await super().sync()


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
