"""A store and queues that fail, wait or are overtaken when a test says so."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias, TypeVar
from uuid import UUID

from async_jobs.adapters.memory.checkpoints import MemoryCheckpoints
from async_jobs.adapters.memory.outbox import MemoryOutbox
from async_jobs.adapters.memory.queue import MemoryJobQueue
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.adapters.memory.workers import MemoryWorkers
from async_jobs.domain.controls import Scope
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.job import HandOff, Job, JobFilter, JobPage, JsonValue
from async_jobs.domain.lifecycle import Change, Claimed
from async_jobs.domain.scheduling import LeaseGrant
from async_jobs.domain.turns import RunningCount
from async_jobs.ports.clock import Clock
from async_jobs.ports.leases import NOBODY, DispatchTurn, Heads, HeadsQuery, Success
from async_jobs.ports.queue import Acked, Claims, Delivery, JobQueue, Outbox, Sent
from async_jobs.ports.store import (
    AddResult,
    Applied,
    Store,
    ToldUnreadable,
)
from async_jobs.ports.upkeep import Place, Released, Upcoming
from async_jobs.ports.workers import WorkerInfo
from async_jobs.testing.clocks import let_others_run

T = TypeVar("T")
Hook: TypeAlias = Callable[[], Awaitable[object]]


async def unavailable() -> None:
    """Be a component that does not answer."""
    raise Unavailable("nobody answers")


class Killed(Exception):
    """The process dies here."""


async def die() -> None:
    """Be a process that is killed."""
    raise Killed


class Faulty:
    """Calls that can be made to fail, to wait, or to be overtaken by something else.

    Attributes:
        calls: how often each method was called.
        down: no call gets through while it is True.
        around: awaited before each call that gets through, and after it.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.down = False
        self.around: Hook | None = None
        self._before: dict[str, deque[Hook]] = {}
        self._after: dict[str, deque[Hook]] = {}

    def before(self, method: str, *hooks: Hook) -> None:
        """Await one of the hooks before each of the next calls of a method."""
        self._before.setdefault(method, deque()).extend(hooks)

    def after(self, method: str, *hooks: Hook) -> None:
        """Await one of the hooks after each of the next calls took effect, before its answer."""
        self._after.setdefault(method, deque()).extend(hooks)

    async def _through(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls[method] += 1
        if self.down:
            await unavailable()
        if hooks := self._before.get(method):
            await hooks.popleft()()
        if self.around is not None:
            await self.around()
        answer = await call()
        if hooks := self._after.get(method):
            await hooks.popleft()()
        if self.around is not None:
            await self.around()
        return answer


class FaultyStore(Faulty):
    """Implements `JobStore` over another one.

    Attributes:
        broken: the use cases whose heads cannot be read.
        queries: what was asked of each look at the heads.
        saved: the jobs of each save, by id.
        sidelined: the use cases whose late jobs were to stand back at the last promotion.
        unwritable: the jobs that it refuses to lease; those are `left_alone` from then on.
    """

    def __init__(self, inner: Store) -> None:
        super().__init__()
        self.inner = inner
        self.queries: list[Sequence[HeadsQuery]] = []
        self.broken: set[str] = set()
        self.saved: list[list[UUID]] = []
        self.sidelined: list[str] = []
        self.unwritable: set[UUID] = set()
        self.left_alone: set[UUID] = set()

    async def add(
        self,
        jobs: Sequence[Job],
        limits: Mapping[str, int],
        *,
        within: object | None = None,
        apart: bool = False,
    ) -> list[AddResult]:
        return await self._through(
            "add", lambda: self.inner.add(jobs, limits, within=within, apart=apart)
        )

    async def get(
        self,
        ids: Collection[UUID],
        *,
        tenant_id: str | None = None,
        unreadable: ToldUnreadable | None = None,
    ) -> list[Job]:
        return await self._through(
            "get", lambda: self.inner.get(ids, tenant_id=tenant_id, unreadable=unreadable)
        )

    async def find(self, criteria: JobFilter, *, limit: int, before: UUID | None = None) -> JobPage:
        return await self._through(
            "find", lambda: self.inner.find(criteria, limit=limit, before=before)
        )

    @asynccontextmanager
    async def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AsyncIterator[DispatchTurn]:
        await self._through("turn", let_others_run)
        async with self.inner.turn(use_cases, tenants) as turn:
            yield FaultyTurn(turn, self)

    async def save(self, changes: Sequence[Change]) -> Applied:
        self.saved.append([change.job.id for change in changes])
        return await self._through("save", lambda: self.inner.save(changes))

    async def claim(
        self, handoffs: Sequence[HandOff], claimed: Claimed, *, now: datetime
    ) -> list[Job]:
        return await self._through("claim", lambda: self.inner.claim(handoffs, claimed, now=now))

    async def succeed(self, successes: Sequence[Success], *, now: datetime) -> frozenset[UUID]:
        self.saved.append([success.job_id for success in successes])
        return await self._through("succeed", lambda: self.inner.succeed(successes, now=now))

    async def expired(self, now: datetime, *, limit: int) -> list[Job]:
        return await self._through("expired", lambda: self.inner.expired(now, limit=limit))

    async def set_aside(self, now: datetime, *, until: datetime, limit: int) -> int:
        return await self._through(
            "set_aside", lambda: self.inner.set_aside(now, until=until, limit=limit)
        )

    async def promote(
        self, now: datetime, *, limit: int, sidelined: Collection[str] = ()
    ) -> Upcoming:
        self.sidelined = list(sidelined)
        return await self._through(
            "promote", lambda: self.inner.promote(now, limit=limit, sidelined=sidelined)
        )

    async def hold(
        self,
        seen: Collection[tuple[str, str]],
        scopes: Sequence[Scope],
        *,
        now: datetime,
        version: int,
        limit: int,
    ) -> int:
        return await self._through(
            "hold",
            lambda: self.inner.hold(seen, scopes, now=now, version=version, limit=limit),
        )

    async def release(
        self,
        use_cases: Sequence[str],
        scopes: Sequence[Scope],
        *,
        version: int,
        limit: int,
        after: Place | None = None,
    ) -> Released:
        return await self._through(
            "release",
            lambda: self.inner.release(
                use_cases, scopes, version=version, limit=limit, after=after
            ),
        )

    async def oldest_finished(self) -> Mapping[str, datetime]:
        return await self._through("oldest_finished", self.inner.oldest_finished)

    async def purge(self, use_case: str, *, before: datetime, limit: int) -> int:
        return await self._through(
            "purge", lambda: self.inner.purge(use_case, before=before, limit=limit)
        )

    async def through(self, method: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call of a turn fail like one of the store's own."""
        return await self._through(method, call)


class FaultyTurn:
    """Implements `DispatchTurn` over another one."""

    def __init__(self, inner: DispatchTurn, store: FaultyStore) -> None:
        self._inner = inner
        self._store = store
        self._refused: set[UUID] = set()

    @property
    def use_cases(self) -> frozenset[str]:
        return self._inner.use_cases

    @property
    def tenants(self) -> frozenset[str]:
        return self._inner.tenants

    @property
    def controls(self) -> int:
        return self._inner.controls

    @property
    def refused(self) -> Collection[UUID]:
        return self._refused

    async def running(self, workers: Mapping[str, int] = NOBODY) -> Sequence[RunningCount]:
        return await self._store.through("running", lambda: self._inner.running(workers))

    async def heads(self, queries: Sequence[HeadsQuery], now: datetime) -> Mapping[str, Heads]:
        self._store.queries.append(queries)
        for query in queries:
            if query.use_case in self._store.broken:
                raise RuntimeError(f"the heads of {query.use_case} cannot be read")
        heads = await self._store.through("heads", lambda: self._inner.heads(queries, now))
        alone = self._store.left_alone
        return {
            name: replace(each, ready=tuple(c for c in each.ready if c.id not in alone))
            for name, each in heads.items()
        }

    async def lease(
        self, grants: Sequence[LeaseGrant], *, onto: Sequence[Outbox] = ()
    ) -> frozenset[UUID]:
        refused = {grant.job_id for grant in grants} & self._store.unwritable
        self._refused |= refused
        self._store.left_alone |= refused
        allowed = [grant for grant in grants if grant.job_id not in refused]
        return await self._store.through("lease", lambda: self._inner.lease(allowed, onto=onto))


class FaultyQueue(Faulty):
    """Implements `JobQueue` over the one in memory.

    Attributes:
        refuses: says why a hand-off is not accepted; None when it is.
        answers: changes what `send` answers.
        room: the `max_messages` of each receive.
    """

    def __init__(self, inner: MemoryJobQueue) -> None:
        super().__init__()
        self.inner = inner
        self.refuses: Callable[[HandOff], str | None] = lambda handoff: None
        self.answers: Callable[[list[Sent]], list[Sent]] = lambda sents: sents
        self.room: list[int] = []

    @property
    def name(self) -> str:
        return self.inner.name

    async def send(self, handoffs: Sequence[HandOff]) -> list[Sent]:
        accepted = [each for each in handoffs if self.refuses(each) is None]
        await self._through("send", lambda: self.inner.send(accepted))
        return self.answers([Sent(each, self.refuses(each)) for each in handoffs])

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        self.room.append(max_messages)
        return await self._through(
            "receive",
            lambda: self.inner.receive(max_messages=max_messages, wait_seconds=wait_seconds),
        )

    async def ack(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        return await self._through("ack", lambda: self.inner.ack(deliveries))

    async def release(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        return await self._through("release", lambda: self.inner.release(deliveries))

    async def depth(self) -> int:
        return await self._through("depth", self.inner.depth)


def _implements(store: FaultyStore, queue: FaultyQueue) -> tuple[Store, JobQueue]:
    return store, queue


class FaultyOutbox(Faulty, MemoryOutbox):
    """An outbox of a store."""

    def __init__(self, store: MemoryJobStore, name: str, *, clock: Clock) -> None:
        Faulty.__init__(self)
        MemoryOutbox.__init__(self, store, name, clock=clock)

    async def send(self, handoffs: Sequence[HandOff]) -> list[Sent]:
        call = super().send
        return await self._through("send", lambda: call(handoffs))

    async def claim(self, claimed: Claimed, *, now: datetime, max_messages: int) -> Claims:
        call = super().claim
        return await self._through(
            "claim", lambda: call(claimed, now=now, max_messages=max_messages)
        )

    async def claimed(self, worker_id: str, instants: Collection[datetime]) -> list[Job]:
        call = super().claimed
        return await self._through("claimed", lambda: call(worker_id, instants))


class FaultyWorkers(Faulty, MemoryWorkers):
    """A register of workers that can be made to fail."""

    def __init__(self) -> None:
        Faulty.__init__(self)
        MemoryWorkers.__init__(self)

    async def live(self, now: datetime) -> Sequence[WorkerInfo]:
        call = super().live
        return await self._through("live", lambda: call(now))


class FaultyCheckpoints(Faulty, MemoryCheckpoints):
    """Checkpoints that can be made to fail."""

    def __init__(self) -> None:
        Faulty.__init__(self)
        MemoryCheckpoints.__init__(self)

    async def load(self, name: str) -> Mapping[str, JsonValue] | None:
        call = super().load
        return await self._through("load", lambda: call(name))
