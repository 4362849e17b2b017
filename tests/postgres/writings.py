"""Whatever writes through the Postgres adapters, each on the same job, key, tenant or lane."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeAlias
from uuid import UUID

import asyncpg

from async_jobs.adapters.postgres.outbox import PostgresOutbox
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.turn import PostgresTurn
from async_jobs.adapters.postgres.workers import PostgresWorkers
from async_jobs.application.scheduling.dispatcher import Dispatcher
from async_jobs.domain import lifecycle
from async_jobs.domain.job import HandOff, Job, JsonValue
from async_jobs.domain.lifecycle import Change, JobEvent, advance, change
from async_jobs.domain.pools import Fleet
from async_jobs.domain.turns import RunningCount
from async_jobs.ports.leases import NOBODY, Success
from async_jobs.ports.queue import Delivery
from async_jobs.ports.upkeep import Upcoming
from async_jobs.testing.builders import SimpleLimits, a_job, a_quota, a_use_case, a_worker, later
from async_jobs.testing.clocks import NOW, ManualClock

LANE = "notifications"
CONFIG = SimpleLimits(
    {"notifications": a_use_case(max_concurrent=1), "reports": a_use_case(max_concurrent=5)},
    {"acme": a_quota(max_pending_jobs=2, max_running=1)},
)
LIMITS = {"acme": 2}

# --- the scene: one contested job, and its neighbours ---------------------------------------------

CONTESTED = UUID(int=0x10)
OLD_LEASE_END, OVER = later(-500), later(61)


def _history() -> dict[str, Job]:
    """Return the versions of the contested job by the name of what it is in each."""
    added = a_job(id=CONTESTED, created_at=later(-600), dedupe_key="daily", max_attempts=3)
    once_leased = advance(added, lifecycle.Leased(later(-580)), now=later(-590))
    once_claimed = advance(
        # By the worker that has it again: the number alone tells the leases apart.
        once_leased,
        lifecycle.Claimed("worker-1", OLD_LEASE_END),
        now=later(-585),
    )
    due = advance(once_claimed, lifecycle.LeaseExpired(), now=OLD_LEASE_END)
    handed = advance(due, lifecycle.Leased(later(60)), now=later(-10))
    claimed = advance(handed, lifecycle.Claimed("worker-1", later(60)), now=later(-5))
    return {
        "added": added,
        "once leased": once_leased,
        "once claimed": once_claimed,
        "due": due,
        "pending": due,
        "handed": handed,
        "claimed": claimed,
        "cancelling": advance(claimed, lifecycle.CancelRequested(), now=later(-4)),
        "cancelled": advance(due, lifecycle.Cancelled(), now=later(-200)),
    }


VERSIONS = _history()
SCENES = ("absent", "due", "pending", "handed", "claimed", "damaged", "cancelling", "cancelled")
DAMAGE = "UPDATE jobs SET backoff_policy = '[]' WHERE id = $1"
"""Makes a claimed job unreadable; its worker knows nothing of it, and goes on."""

# Of another tenant in the same use case, and of the same tenant in another use case.
NEIGHBOUR = a_job(id=UUID(int=0x20), tenant_id="zeta", dedupe_key="hourly")
SIBLING = a_job(id=UUID(int=0x30), use_case="reports")
TOMORROW = a_job(
    id=UUID(int=0x40), tenant_id="beta", use_case="reports", run_at=NOW + timedelta(days=1)
)
MESSAGE = 10**15
"""The id of a message that was received once and is visible again."""
WORKER = a_worker(worker_id="worker-1")


TABLES = ("jobs", "handoffs", "workers", "admissions")
RESET = "".join(
    f"DELETE FROM {table};"
    f" INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM {{scene}}_{table};"
    for table in TABLES
)
"""Makes the rows those of a scene, and no others."""


async def set_up(connection: asyncpg.Connection, store: PostgresJobStore) -> None:
    """Write every scene with the adapters, and keep its rows in tables beside the real ones."""
    for scene in SCENES:
        for table in TABLES:
            await connection.execute(f"DELETE FROM {table}")
        if scene != "absent":
            await _live_up_to("claimed" if scene == "damaged" else scene, store)
        if scene == "damaged":
            await connection.execute(DAMAGE, CONTESTED)
        await store.add([NEIGHBOUR, TOMORROW], {})
        # In all scenes but one the tenant's jobs have been counted before.
        await store.add([SIBLING], {} if scene == "claimed" else LIMITS)
        await PostgresWorkers(store.pool).announce(WORKER)
        await connection.execute(
            "INSERT INTO handoffs (queue, id, job_id, lease_seq, tenant_id, visible_at, receipts)"
            " OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, 2, 'acme', $4, 1)",
            *(LANE, MESSAGE, CONTESTED, later(-1)),
        )
        for table in TABLES:
            await connection.execute(f"CREATE TABLE {scene}_{table} AS SELECT * FROM {table}")


async def _live_up_to(scene: str, store: PostgresJobStore) -> None:
    await store.add([VERSIONS["added"]], {})
    path = ["added", "once leased", "once claimed", "due"]
    path += {"cancelled": ["cancelled"], "due": [], "pending": []}.get(
        scene, ["handed", "claimed", "cancelling"]
    )
    for before, after in itertools.pairwise(path):
        old, new = VERSIONS[before], VERSIONS[after]
        fence = lifecycle.Fence(old.lease_seq, old.phase)
        assert (await store.save([Change(fence, new)])).ids == {CONTESTED}
        if after == "due" and scene != "due":
            await store.promote(later(-300), limit=10)
        if after == scene:
            break
    assert await store.get([CONTESTED]) == [VERSIONS[scene]]


# --- who writes -----------------------------------------------------------------------------------


class Gate:
    """Where a turn stands between its count and its look at the jobs, until it may go on."""

    def __init__(self, *, is_open: bool) -> None:
        self.reached, self.opened = asyncio.Event(), asyncio.Event()
        if is_open:
            self.opened.set()

    async def passed(self) -> None:
        if not self.opened.is_set():
            self.reached.set()
            await self.opened.wait()


class PacedTurn(PostgresTurn):
    """The adapter's own turn, which stops at a gate once it has counted."""

    gate: Gate

    async def running(self, workers: Mapping[str, int] = NOBODY) -> Sequence[RunningCount]:
        counts = await super().running(workers)
        await self.gate.passed()
        return counts


class PacedStore(PostgresJobStore):
    """The adapter's own store, whose turns stop at a gate."""

    def __init__(self, pool: asyncpg.Pool, gate: Gate) -> None:
        super().__init__(pool)
        self.gate = gate

    @asynccontextmanager
    async def turn(
        self, use_cases: Collection[str], tenants: Collection[str] = ()
    ) -> AsyncIterator[PostgresTurn]:
        async with super().turn(use_cases, tenants) as turn:
            paced = PacedTurn(turn._connection, turn.use_cases, turn.tenants)
            paced.gate = self.gate
            yield paced


class Session:
    """The adapters as one process has them: all on one pool, or on what stands in for one."""

    def __init__(self, pool: asyncpg.Pool, *, paced: bool = False) -> None:
        self.pool = pool
        self.gate = Gate(is_open=not paced)
        self.store = PacedStore(pool, self.gate)
        self.queue = PostgresOutbox(self.store, LANE, clock=ManualClock())
        self.workers = PostgresWorkers(pool)


Answer: TypeAlias = object


@dataclass(frozen=True)
class Writing:
    """Something that writes.

    Attributes:
        scene: what the contested job has to be for it to change anything; None when it does so
            in every scene.
        run: does it and answers.
        passes_over: True when it leaves out what others hold instead of waiting for it.
        nothing: what it answers when it has left out everything.
        around: what it does when it leaves out one tenant only, whom somebody else holds.
        pauses: True when it is several statements, of which the last may come long after the
            first: it is then also tried with the first one's end in between.
        ends_a_lease: True when, applied, it is the one outcome of the contested job's lease.
    """

    name: str
    scene: str | None
    run: Callable[[Session], Awaitable[Answer]]
    passes_over: bool = False
    nothing: Answer = None
    around: Writing | None = None
    pauses: bool = False
    ends_a_lease: bool = False


def _adding(*jobs: Job, limited: bool = False) -> Callable[[Session], Awaitable[Answer]]:
    async def run(session: Session) -> Answer:
        return await session.store.add(jobs, LIMITS if limited else {})

    return run


async def _add_within(session: Session) -> Answer:
    """In a transaction of the caller's, which goes on after the first job."""
    keyed, other = _new(0x53, dedupe_key="daily"), _new(0x54, tenant_id="zeta")
    async with session.pool.acquire() as connection, connection.transaction():
        first = await session.store.add([keyed], LIMITS, within=connection)
        return first + await session.store.add([other], {}, within=connection)


def _new(number: int, **fields: object) -> Job:
    return a_job(id=UUID(int=number), **fields)


def _dispatching(
    use_case: str, config: SimpleLimits = CONFIG, *, beside: bool = False
) -> Callable[[Session], Awaitable[Answer]]:
    async def run(session: Session) -> Answer:
        lanes = {LANE: session.queue} if beside else {}
        dispatcher = Dispatcher(config, session.store, ManualClock(), outbox_of=lanes.get)
        done = await dispatcher.dispatch([use_case], Fleet(window_min=100), timedelta(seconds=60))
        return done.handoffs

    return run


def _saving(
    known: str, event: JobEvent, *more: Change, at: float = 0.0
) -> Callable[[Session], Awaitable[Answer]]:
    changes = [*more, change(VERSIONS[known], event, now=later(at))]

    async def run(session: Session) -> Answer:
        return await session.store.save(changes)

    return run


def _claiming(known: str, claimed: lifecycle.Claimed) -> Callable[[Session], Awaitable[Answer]]:
    handoff = HandOff(CONTESTED, VERSIONS[known].lease_seq, "acme")

    async def run(session: Session) -> Answer:
        return await session.store.claim([handoff], claimed, now=NOW)

    return run


def _succeeding(known: str, result: JsonValue) -> Callable[[Session], Awaitable[Answer]]:
    told = Success(CONTESTED, VERSIONS[known].lease_seq, result)

    async def run(session: Session) -> Answer:
        return await session.store.succeed([told], now=NOW)

    return run


async def _promote(session: Session) -> Answer:
    return await session.store.promote(NOW, limit=10)


async def _sideline(session: Session) -> Answer:
    return await session.store.promote(NOW, limit=10, sidelined=["notifications"])


async def _set_aside(session: Session) -> Answer:
    return await session.store.set_aside(OVER, until=later(361), limit=10)


async def _purge(session: Session) -> Answer:
    return await session.store.purge("notifications", before=later(-100), limit=10)


async def _send(session: Session) -> Answer:
    return await session.queue.send([HandOff(CONTESTED, 3, "acme")])


async def _receive(session: Session) -> Answer:
    """The receipts' ids are left out: a message sent meanwhile may have any."""
    got = await session.queue.receive(max_messages=10, wait_seconds=0)
    return sorted((d.handoff.lease_seq or 0, d.receipt.split(":")[1]) for d in got if d.handoff)


DELIVERY = Delivery(f"{MESSAGE}:1", HandOff(CONTESTED, 2, "acme"))


async def _claim_off(session: Session) -> Answer:
    """Whether it saw more is left out: what others hold it may see or not."""
    claimed = lifecycle.Claimed("worker-2", later(60))
    return list((await session.queue.claim(claimed, now=NOW, max_messages=10)).jobs)


async def _ack(session: Session) -> Answer:
    return await session.queue.ack([DELIVERY])


async def _give_back(session: Session) -> Answer:
    return await session.queue.release([DELIVERY])


async def _announce(session: Session) -> None:
    await session.workers.announce(replace(WORKER, busy=7))


async def _withdraw(session: Session) -> None:
    await session.workers.withdraw("worker-1")


_CLAIM_TOO_LATE = lifecycle.Claimed("worker-0", later(60))
_NEIGHBOUR_CANCELLED = change(NEIGHBOUR, lifecycle.Cancelled(), now=NOW)
_SOON = Upcoming(TOMORROW.run_at)
_OFF: list[object] = []
_PAUSED = SimpleLimits(CONFIG.use_case_configs, {"acme": a_quota(max_running=0)})
_LEASE_OTHERS = Writing("lease_others", "pending", _dispatching("notifications", _PAUSED))
_LEASE_OTHERS_ONTO = Writing(
    "lease_others_onto", "pending", _dispatching("notifications", _PAUSED, beside=True)
)

WRITINGS: tuple[Writing, ...] = (
    Writing("add", "absent", _adding(VERSIONS["added"])),
    Writing("add_keyed", "absent", _adding(_new(0x50, dedupe_key="daily"))),
    Writing("add_limited", "absent", _adding(_new(0x51), limited=True)),
    Writing("add_counting", "claimed", _adding(_new(0x57), limited=True)),
    Writing(
        "add_batch",
        "absent",
        _adding(
            _new(0x56, tenant_id="zeta", dedupe_key="hourly"),
            _new(0x55, dedupe_key="weekly"),
            _new(0x52, dedupe_key="daily"),
        ),
    ),
    Writing("add_within", "absent", _add_within),
    Writing("promote", "due", _promote, passes_over=True, nothing=_SOON),
    Writing("sideline", "pending", _sideline, passes_over=True, nothing=_SOON),
    Writing(
        "lease",
        "pending",
        _dispatching("notifications"),
        passes_over=True,
        nothing=_OFF,
        around=_LEASE_OTHERS,
        pauses=True,
    ),
    Writing(
        "lease_sibling",
        "pending",
        _dispatching("reports"),
        passes_over=True,
        nothing=_OFF,
        pauses=True,
    ),
    Writing(
        "lease_onto",
        "pending",
        _dispatching("notifications", beside=True),
        passes_over=True,
        nothing=_OFF,
        around=_LEASE_OTHERS_ONTO,
        pauses=True,
    ),
    Writing("bury", "pending", _saving("pending", lifecycle.Expired())),
    Writing("cancel_pending", "pending", _saving("pending", lifecycle.Cancelled())),
    Writing(
        "cancel_two", "pending", _saving("pending", lifecycle.Cancelled(), _NEIGHBOUR_CANCELLED)
    ),
    Writing("claim", "handed", _claiming("handed", lifecycle.Claimed("worker-1", later(60)))),
    Writing("claim_stale", "handed", _claiming("once leased", _CLAIM_TOO_LATE)),
    Writing("cancel_handed", "handed", _saving("handed", lifecycle.Cancelled()), ends_a_lease=True),
    Writing(
        "hand_off_failed",
        "handed",
        _saving("handed", lifecycle.HandOffFailed("full")),
        ends_a_lease=True,
    ),
    Writing(
        "expire_handed",
        "handed",
        _saving("handed", lifecycle.LeaseExpired(), at=61),
        ends_a_lease=True,
    ),
    Writing("renew", "claimed", _saving("claimed", lifecycle.Renewed(later(120)))),
    Writing("succeed", "claimed", _succeeding("claimed", {"n": 1}), ends_a_lease=True),
    Writing("succeed_stale", "claimed", _succeeding("once claimed", None)),
    Writing("fail_stale", "claimed", _saving("once claimed", lifecycle.Failed("no"), at=-550)),
    Writing("fail", "claimed", _saving("claimed", lifecycle.Failed("no")), ends_a_lease=True),
    Writing("release", "claimed", _saving("claimed", lifecycle.Released()), ends_a_lease=True),
    Writing(
        "expire_claimed",
        "claimed",
        _saving("claimed", lifecycle.LeaseExpired(), at=61),
        ends_a_lease=True,
    ),
    Writing("set_aside", "damaged", _set_aside),
    Writing("renew_damaged", "damaged", _saving("claimed", lifecycle.Renewed(later(120)))),
    Writing("succeed_damaged", "damaged", _succeeding("claimed", None), ends_a_lease=True),
    Writing("request_cancel", "claimed", _saving("claimed", lifecycle.CancelRequested())),
    Writing(
        "cancel_claimed",
        "cancelling",
        _saving("cancelling", lifecycle.Cancelled()),
        ends_a_lease=True,
    ),
    Writing("retry", "cancelled", _saving("cancelled", lifecycle.Retried())),
    Writing("purge", "cancelled", _purge, passes_over=True, nothing=0),
    Writing("send", None, _send),
    Writing("receive", None, _receive, passes_over=True, nothing=_OFF),
    Writing("claim_off", "handed", _claim_off, passes_over=True, nothing=_OFF),
    Writing("ack", None, _ack),
    Writing("give_back", None, _give_back),
    Writing("announce", None, _announce),
    Writing("withdraw", None, _withdraw),
)
BY_NAME = {writing.name: writing for writing in WRITINGS}
STALE = frozenset({"claim_stale", "succeed_stale", "fail_stale"})
"""Of a worker that lost its lease long ago: they must change nothing in any scene."""
