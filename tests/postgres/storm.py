"""Whatever awaits the database, cancelled at any of its awaits; and what must be left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg

from async_jobs.adapters.postgres.clock import PostgresClock
from async_jobs.adapters.postgres.outbox import PostgresOutbox
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.signal import PostgresSignal
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.workers import PostgresWorkers
from async_jobs.application.handling.registry import JobRegistry
from async_jobs.application.own_loops import OwnLoops
from async_jobs.application.scheduling.dispatcher import Dispatcher
from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.application.settings import SchedulerSettings
from async_jobs.application.working.heartbeat import Identity
from async_jobs.application.working.worker import Worker
from async_jobs.domain import lifecycle
from async_jobs.domain.errors import IllegalTransition, JobNotFoundError, QuotaExceededError
from async_jobs.domain.job import Job, JobFilter, JobStatus
from async_jobs.domain.pools import Fleet
from async_jobs.testing.builders import (
    RecordingTelemetry,
    SimpleLimits,
    a_handoff,
    a_job,
    a_quota,
    a_request,
    a_use_case,
    a_worker,
)
from async_jobs.testing.clocks import ManualChance, ManualClock
from tests.kit.harness import clock, eventually

POOL_SIZE = 8
CONFIG = SimpleLimits(
    {
        "notifications": a_use_case(max_concurrent=20, late_policy="sideline"),
        "reports": a_use_case(max_concurrent=5, late_policy="expire"),
    },
    {"acme": a_quota(max_pending_jobs=1_000, max_running=10)},
)
LIMITS = {"acme": 1_000}


class World:
    """All adapters of one process on one pool, and an operator's connection beside it."""

    def __init__(self, pool: asyncpg.Pool, operator: asyncpg.Connection, seed: int) -> None:
        self.pool, self.operator = pool, operator
        self.clock, self.chance = ManualClock(), ManualChance(seed)
        self.store = PostgresJobStore(pool)
        self.signal = PostgresSignal(pool, clock=clock)
        self.workers = PostgresWorkers(pool)
        self.telemetry = RecordingTelemetry()
        self.service = OwnLoops(
            CONFIG, self.store, clock=self.clock, chance=self.chance, signal=self.signal
        )
        self.dispatcher = Dispatcher(CONFIG, self.store, self.clock)
        self.registry = JobRegistry()
        self.registry.register("send_email", _nothing)

    def queue(self, name: str = "notifications") -> PostgresOutbox:
        return PostgresOutbox(self.store, name, clock=self.clock)

    def scheduler(self) -> Scheduler:
        return Scheduler(
            CONFIG,
            self.store,
            self.queue,
            outbox_of=self.queue,
            clock=self.clock,
            chance=self.chance,
            signal=self.signal,
            workers=self.workers,
            telemetry=self.telemetry,
            settings=SchedulerSettings(retention_seconds=60.0),
        )

    def worker(self) -> Worker:
        return Worker(
            Identity(worker_id="worker-1"),
            self.store,
            [],
            self.registry,
            outboxes=[self.queue(name) for name in CONFIG.use_case_configs],
            clock=self.clock,
            chance=self.chance,
            signal=self.signal,
            workers=self.workers,
            telemetry=self.telemetry,
        )

    @property
    def listening(self) -> int:
        """How many connections the signal keeps."""
        return int(self.signal._listener is not None)

    async def some_job(self, status: JobStatus) -> Job | None:
        page = await self.store.find(JobFilter(status=status), limit=20)
        return page.jobs[int(self.chance.uniform() * len(page.jobs))] if page.jobs else None


async def _nothing(context: object, payload: dict[str, Any]) -> None:
    pass


@asynccontextmanager
async def world(dsn: str, seed: int) -> AsyncIterator[World]:
    """Yield a world with some jobs in it; in the end its listener lets go of its connection."""
    operator = await asyncpg.connect(dsn)
    async with await create_pool(dsn, max_size=POOL_SIZE) as pool:
        found = World(pool, operator, seed)
        await found.store.add([a_job() for _ in range(50)], {})
        try:
            yield found
        finally:
            await found.signal.close()
            # A close would wait for whatever leaked, and for ever.
            pool.terminate()
            await operator.close()


# --- what is cancelled ----------------------------------------------------------------------------

Operation: TypeAlias = Callable[[World], Coroutine[Any, Any, object]]


async def add(world: World) -> None:
    await world.store.add([a_job(dedupe_key="daily")], {})


async def add_limited(world: World) -> None:
    await world.store.add([a_job(), a_job(use_case="reports", dedupe_key="daily")], LIMITS)


async def add_refused(world: World) -> None:
    """Is rolled back by the adapter itself."""
    await world.store.add([a_job()], {"acme": 0})


async def add_within(world: World) -> None:
    async with world.pool.acquire() as connection, connection.transaction():
        await world.store.add([a_job(tenant_id="zeta")], {}, within=connection)
        await world.store.add([a_job()], LIMITS, within=connection)


async def get_and_find(world: World) -> None:
    page = await world.store.find(JobFilter(tenant_id="acme"), limit=10)
    await world.store.get([job.id for job in page.jobs], tenant_id="acme")


async def save(world: World) -> None:
    job = await world.some_job(JobStatus.PENDING)
    if job is not None:
        change = lifecycle.change(job, lifecycle.Cancelled(), now=world.clock.now())
        await world.store.save([change])


async def lease(world: World) -> None:
    await world.dispatcher.dispatch(
        list(CONFIG.use_case_configs), Fleet(window_min=3), timedelta(seconds=60)
    )


async def reap(world: World) -> None:
    over = await world.store.expired(world.clock.now(), limit=5)
    now = world.clock.now()
    await world.store.save(
        [lifecycle.change(job, lifecycle.LeaseExpired(), now=now) for job in over]
    )


async def promote(world: World) -> None:
    await world.store.promote(world.clock.now(), limit=100, sidelined=["notifications"])


async def purge(world: World) -> None:
    before = world.clock.now() - timedelta(seconds=60)
    await world.store.purge("notifications", before=before, limit=10)


async def send(world: World) -> None:
    await world.queue().send([a_handoff()])
    await world.queue().depth()


async def receive_and_ack(world: World) -> None:
    got = await world.queue().receive(max_messages=3, wait_seconds=0)
    await world.queue().ack(got)


async def receive_and_release(world: World) -> None:
    got = await world.queue().receive(max_messages=3, wait_seconds=0)
    await world.queue().release(got)


async def claim_off(world: World) -> None:
    now = world.clock.now()
    claimed = lifecycle.Claimed("worker-1", now + timedelta(seconds=60))
    await world.queue().claim(claimed, now=now, max_messages=3)
    await world.queue().claimed("worker-1", [now])


async def announce(world: World) -> None:
    await world.workers.announce(a_worker(worker_id="worker-1"))
    await world.workers.live(world.clock.now())
    await world.workers.withdraw("worker-1")


async def measure(world: World) -> None:
    await PostgresClock(world.pool, host=clock).refresh()


async def wait(world: World) -> None:
    world.signal.notify("topic")
    await world.signal.wait("topic", timeout_seconds=0.01)


async def enqueue(world: World) -> None:
    with suppress(QuotaExceededError):
        await world.service.enqueue_many([a_request(), a_request(dedupe_key="hourly")])


async def cancel_and_retry(world: World) -> None:
    job = await world.some_job(JobStatus.RUNNING) or await world.some_job(JobStatus.CANCELLED)
    if job is not None:
        with suppress(IllegalTransition, JobNotFoundError):
            await world.service.cancel_job(job.id)
            await world.service.retry_job(job.id)


async def own_loop(world: World) -> None:
    mine = await world.service.lease_jobs_for_use_case("reports", worker_id="loop", limit=2)
    for job in mine:
        with suppress(IllegalTransition, JobNotFoundError):
            await world.service.mark_job_succeeded(job)


async def tick(world: World) -> None:
    await world.scheduler().tick()


async def step(world: World) -> None:
    await world.worker().step()


OPERATIONS: tuple[Operation, ...] = (
    *(add, add_limited, add_refused, add_within, get_and_find, save, lease, reap, promote, purge),
    *(send, receive_and_ack, receive_and_release, claim_off, announce, measure, wait),
    *(enqueue, cancel_and_retry, own_loop, tick, step),
)


# --- where it is cancelled ------------------------------------------------------------------------

PLACES = ("acquire", "release", "begin", "commit", "rollback", "statement", "elsewhere")
_PLACE_OF = {
    **dict.fromkeys(("_acquire", "acquire"), "acquire"),
    "release": "release",
    "start": "begin",
    "_Transaction__commit": "commit",
    "__commit": "commit",
    "_Transaction__rollback": "rollback",
    "__rollback": "rollback",
    **dict.fromkeys(("_execute", "_do_execute", "execute", "fetch"), "statement"),
}


def frames(coroutine: object) -> Iterator[Any]:
    """Yield the frames that wait for one another, the outermost first."""
    waiting: Any = coroutine
    while waiting is not None:
        kinds = ("cr_frame", "gi_frame", "ag_frame")
        frame = next((getattr(waiting, kind) for kind in kinds if hasattr(waiting, kind)), None)
        if frame is not None:
            yield frame
        waiting = _awaited(waiting, frame)


def _awaited(waiting: Any, frame: Any) -> Any:
    for name in ("cr_await", "gi_yieldfrom", "ag_await"):
        if hasattr(waiting, name):
            awaited = getattr(waiting, name)
            if type(awaited).__name__.startswith("async_generator_"):
                # A step of an async context manager, which does not tell whose step it is.
                return frame.f_locals["self"].gen
            return awaited
    return None


def place_of(coroutine: object) -> str:
    """Return what the driver is doing for a coroutine that waits."""
    place = "elsewhere"
    for frame in frames(coroutine):
        if "asyncpg" in frame.f_code.co_filename:
            found = _PLACE_OF.get(frame.f_code.co_name, place)
            # BEGIN and COMMIT are statements too, and what a release waits for is a release.
            place = place if found == "statement" and place != "elsewhere" else found
    return place


@dataclass
class Strike:
    """A cancellation: at which wait of an operation, and how many loop turns after it began.

    Attributes:
        place: only waits of this kind count; None for all.
        at: which of them, from 1.
        turns: how many turns of the loop later, so that the answer may have come by then.
        by_timeout: by `asyncio.timeout` instead of the task's `cancel`.
        struck_in: the place of the wait, once struck; None when the operation ended before.
        waits: how many waits there were.
        swallowed: true when the operation was cancelled and ended as if nothing had happened.
    """

    at: int
    turns: int = 0
    place: str | None = None
    by_timeout: bool = False
    struck_in: str | None = None
    waits: int = 0
    swallowed: bool = False
    found: int = field(default=0, repr=False)

    async def run(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Await the coroutine and strike; passes on what it raises, but the strike itself."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        try:
            async with asyncio.timeout(None) as limit:

                def strike(turns: int) -> None:
                    if turns:
                        loop.call_soon(strike, turns - 1)
                    elif task.done() or self.struck_in is None:
                        return
                    elif self.by_timeout:
                        limit.reschedule(loop.time())
                    else:
                        task.cancel()

                watched = _Watched(coroutine, lambda: self._look(coroutine, strike))
                await watched
                self.swallowed = watched.was_cancelled
                self.struck_in = None
        except (asyncio.CancelledError, TimeoutError):
            if self.struck_in is None:
                raise

    async def is_struck(self) -> bool:
        return self.struck_in is not None

    def _look(self, coroutine: object, strike: Callable[[int], None]) -> None:
        self.waits += 1
        if self.struck_in is not None:
            return
        here = place_of(coroutine)
        self.found += self.place in (None, here)
        if self.found == self.at and self.place in (None, here):
            self.struck_in = here
            strike(self.turns)


class _Watched:
    """Awaits a coroutine, and looks whenever it is about to wait."""

    def __init__(self, coroutine: Coroutine[Any, Any, object], look: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._look = look
        self.was_cancelled = False

    def __await__(self) -> Generator[Any, Any, object]:
        steps = self._coroutine
        answer: BaseException | None = None
        while True:
            try:
                waited_for = steps.send(None) if answer is None else steps.throw(answer)
            except StopIteration as end:
                return end.value
            self._look()
            answer = None
            try:
                yield waited_for
            except BaseException as error:
                answer = error
                self.was_cancelled |= isinstance(error, asyncio.CancelledError)


# --- what must be left ----------------------------------------------------------------------------

_HELD = """
SELECT a.pid, a.state, a.query, l.locktype FROM pg_stat_activity AS a
LEFT JOIN pg_locks AS l ON l.pid = a.pid
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
    AND a.backend_type = 'client backend' AND (a.state <> 'idle' OR l.pid IS NOT NULL)
"""
_BROKEN = """
SELECT
    (SELECT count(*) FROM jobs WHERE (status = 'running') <> (lease_expires_at IS NOT NULL)),
    (SELECT count(*) FROM jobs
        WHERE (status IN ('succeeded', 'dead', 'cancelled')) <> (finished_at IS NOT NULL)),
    (SELECT count(*) FROM (SELECT FROM jobs WHERE status IN ('pending', 'running')
        AND dedupe_key IS NOT NULL GROUP BY tenant_id, dedupe_key HAVING count(*) > 1) AS twins),
    (SELECT count(*) FROM jobs WHERE attempts > max_attempts),
    greatest(0, (SELECT count(*) FROM jobs WHERE status = 'running'
        AND use_case = 'notifications') - 20),
    greatest(0, (SELECT count(*) FROM jobs WHERE status = 'running' AND use_case = 'reports') - 5),
    greatest(0, (SELECT count(*) FROM jobs WHERE status = 'running' AND tenant_id = 'acme') - 10)
"""


async def assert_whole(world: World, *, seconds: float = 30.0) -> None:
    """Fail unless nothing is held, every connection answers, and the rows make sense."""
    told: list[object] = []

    async def nothing_is_held() -> bool:
        told[:] = await world.operator.fetch(_HELD)
        return not told

    try:
        await eventually(nothing_is_held, "every transaction ends", seconds=seconds)
    except AssertionError:
        raise AssertionError(f"held: {told}") from None
    lent: list[Any] = []
    try:
        async with asyncio.timeout(seconds):
            while len(lent) < POOL_SIZE - world.listening:
                lent.append(await world.pool.acquire())
            answers = [await connection.fetchval("SELECT 1") for connection in lent]
    except TimeoutError:
        raise AssertionError(f"only {len(lent)} connections are left") from None
    for connection in lent:
        await world.pool.release(connection)
    assert answers == [1] * len(lent)

    async def all_are_back() -> bool:
        # Whoever told of something meanwhile borrows a connection for a moment.
        return world.pool.get_size() - world.pool.get_idle_size() == world.listening

    await eventually(all_are_back, "every connection is given back", seconds=seconds)
    assert tuple(await world.operator.fetchrow(_BROKEN) or ()) == (0,) * 7
    async with world.store.turn(CONFIG.use_case_configs, ["acme"]) as turn:
        assert turn.use_cases == set(CONFIG.use_case_configs)
        assert turn.tenants == {"acme"}
