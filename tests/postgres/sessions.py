"""Two sessions on one database: the first held open while the second runs into it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any, NamedTuple, TypeAlias, cast

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from asyncpg.transaction import Transaction

from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.domain.job import LIVE, TERMINAL
from async_jobs.ports.store import Added, Applied
from tests.kit.harness import eventually
from tests.postgres.writings import (
    CONFIG,
    CONTESTED,
    LIMITS,
    RESET,
    Answer,
    Session,
    Writing,
    set_up,
)

Spoiling: TypeAlias = Callable[[], AbstractContextManager[None]]
ENDINGS = ("committed", "rolled back", "terminated")
HANGS_AFTER_SECONDS = 60.0
LOOKS, LOOK_SECONDS = 100, 0.003

_STATE = """
SELECT json_build_array(
    (SELECT json_agg(j ORDER BY id) FROM jobs AS j),
    (SELECT json_agg(json_build_array(queue, job_id, lease_seq, tenant_id, visible_at, receipts)
        ORDER BY queue, job_id, lease_seq, receipts, visible_at) FROM handoffs),
    (SELECT json_agg(w ORDER BY worker_id) FROM workers AS w)
)::text
"""


class HeldPool:
    """Stands in for a pool: all that it lends is one connection in a transaction that goes on.

    The adapters' statements, and their own transactions as savepoints, run as they are; what
    they wrote stays uncommitted until the test ends the transaction.
    """

    def __init__(self, connection: PoolConnectionProxy) -> None:
        self.connection = connection

    def get_max_size(self) -> int:
        return 1

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[PoolConnectionProxy]:
        yield _Held(self.connection)


class _Held(PoolConnectionProxy):
    """The connection; as in autocommit, a fetch that fails takes nothing else with it."""

    def __init__(self, connection: Any) -> None:
        self._con, self._holder = connection._con, connection._holder

    async def fetch(self, query: str, *arguments: Any, **options: Any) -> list[Any]:
        async with self._con.transaction():
            rows: list[Any] = await self._con.fetch(query, *arguments, **options)
        return rows


class Outcome(NamedTuple):
    """What both sessions were told (None: nobody was left to be told), and what the rows are."""

    first: Answer
    second: Answer
    state: str


class Seen(NamedTuple):
    """An outcome, and whether the second session waited for the first."""

    outcome: Outcome
    waited: bool


class Stage:
    """A database with its scenes, and the two sessions."""

    def __init__(
        self, observer: asyncpg.Connection, holding: asyncpg.Pool, pool: asyncpg.Pool
    ) -> None:
        self.observer = observer
        self._holding = holding
        self._pool = pool
        self._known: dict[tuple[str, ...], tuple[list[Answer], str]] = {}

    # --- one after the other ---

    async def serially(self, scene: str, *writings: Writing) -> tuple[list[Answer], str]:
        """Run writings one after the other; what they answered, and the state in the end."""
        key = (scene, *(writing.name for writing in writings))
        if key not in self._known:
            await self._reset(scene)
            session = Session(self._pool)
            answers = [await writing.run(session) for writing in writings]
            self._known[key] = answers, await self._state()
        return self._known[key]

    async def _reset(self, scene: str) -> None:
        await self.observer.execute(RESET.format(scene=scene))

    async def _state(self) -> str:
        return str(await self.observer.fetchval(_STATE))

    # --- one into the other ---

    async def seen(
        self,
        first: Writing,
        second: Writing,
        ending: str,
        *,
        paused: bool = False,
        spoiling: Spoiling = nullcontext,
    ) -> Seen:
        """Hold `first` open, let `second` run into it, end the first, and wait for the second.

        Args:
            first, second: what the sessions do.
            ending: one of `ENDINGS`, for the first.
            paused: the second stands still once it has counted, until the first has ended.
            spoiling: makes both sessions' adapters faulty.
        """
        await self._reset(scene_of(first, second))
        with spoiling():
            async with self._held() as (held, transaction):
                first_answer = await first.run(Session(cast("asyncpg.Pool", HeldPool(held))))
                session = Session(self._pool, paced=paused)
                running = asyncio.ensure_future(second.run(session))
                try:
                    waited = await self._stuck(running, session, held)
                    await self._end(held, transaction, ending)
                    session.gate.opened.set()
                    async with asyncio.timeout(HANGS_AFTER_SECONDS):
                        second_answer = await running
                finally:
                    running.cancel()
                    await asyncio.wait([running])
        told = first_answer if ending == "committed" else None
        return Seen(Outcome(told, second_answer, await self._state()), waited)

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[tuple[PoolConnectionProxy, Transaction]]:
        async with self._holding.acquire() as held:
            transaction = held.transaction()
            await transaction.start()
            try:
                yield held, transaction
            finally:
                # One that was terminated can be asked nothing, and has nothing to undo.
                with suppress(asyncpg.InterfaceError, asyncpg.PostgresError):
                    if held.is_in_transaction():
                        await transaction.rollback()

    async def _stuck(
        self, running: asyncio.Future[Answer], session: Session, held: PoolConnectionProxy
    ) -> bool:
        """Wait until the second has ended or cannot go on; returns whether the first is why."""
        pid = held.get_server_pid()
        at_the_gate = asyncio.ensure_future(session.gate.reached.wait())
        stops: list[asyncio.Future[Any]] = [running, at_the_gate]
        waits = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND $1 = ANY(pg_blocking_pids(pid))"
        )
        outcomes: list[bool] = []

        async def look() -> list[bool]:
            for _ in range(LOOKS):
                done, _ = await asyncio.wait(
                    stops, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                if done:
                    outcomes.append(False)
                elif await self.observer.fetchval(waits, pid):
                    outcomes.append(True)
                if outcomes:
                    break
            return outcomes

        try:
            await eventually(look, "the second session has ended, or waits for the first")
        finally:
            at_the_gate.cancel()
            await asyncio.wait([at_the_gate])
        return outcomes[0]

    async def _end(self, held: PoolConnectionProxy, transaction: Transaction, ending: str) -> None:
        if ending == "committed":
            await transaction.commit()
        elif ending == "rolled back":
            await transaction.rollback()
        else:
            pid = held.get_server_pid()
            await self.observer.execute(f"SELECT pg_terminate_backend({pid})")
            # Whether this end has heard of it yet or not, the pool shall not lend it again.
            with suppress(asyncpg.InterfaceError):
                held.terminate()

    # --- the verdict ---

    async def complaint(self, first: Writing, second: Writing, seen: Seen, ending: str) -> str:
        """Return what is wrong with an outcome, "" for nothing."""
        allowed: list[Outcome] = []
        async for legal in self._legal(first, second, ending):
            allowed.append(legal)
            if legal == seen.outcome:
                break
        _, before = await self.serially(scene_of(first, second))
        wrong = [] if seen.outcome in allowed else ["no serial order"]
        wrong += violations(before, seen.outcome, first, second)
        if not wrong:
            return ""
        told = [f"  allowed: {legal}" for legal in allowed]
        title = f"{first.name} {ending}, {second.name}: {', '.join(wrong)}"
        return "\n".join([title, f"  seen:    {seen.outcome}", *told])

    async def _legal(self, first: Writing, second: Writing, ending: str) -> AsyncIterator[Outcome]:
        """Yield the outcomes of both orders; then that of a second one that left out all."""
        scene = scene_of(first, second)
        if ending == "committed":
            (one, two), state = await self.serially(scene, first, second)
            yield Outcome(one, two, state)
            (two, one), state = await self.serially(scene, second, first)
            yield Outcome(one, two, state)
            (one,), state = await self.serially(scene, first)
        else:
            (two,), state = await self.serially(scene, second)
            yield Outcome(None, two, state)
            one, (_, state) = None, await self.serially(scene)
        if second.passes_over:
            yield Outcome(one, second.nothing, state)
        if second.around is not None:
            before = [first] if ending == "committed" else []
            (*_, two), state = await self.serially(scene, *before, second.around)
            yield Outcome(one, two, state)


def scene_of(first: Writing, second: Writing) -> str:
    """Return the scene in which the first changes something; in the other order the second does."""
    return first.scene or second.scene or "pending"


def violations(before: str, outcome: Outcome, first: Writing, second: Writing) -> list[str]:
    """Return what the rows show that no rows may show, whatever the adapters do in series."""
    # An id that was given again after a purge is another job.
    new = {str(id) for id in _added(outcome)}
    was: dict[str, dict[str, Any]] = {
        row["id"]: row for row in json.loads(before)[0] if row["id"] not in new
    }
    now: dict[str, dict[str, Any]] = {row["id"]: row for row in json.loads(outcome.state)[0]}
    running = [row for row in now.values() if row["status"] == "running"]
    keys = Counter(
        (row["tenant_id"], row["dedupe_key"])
        for row in now.values()
        if row["status"] in LIVE and row["dedupe_key"] is not None
    )
    by_use_case = Counter(row["use_case"] for row in running)
    by_tenant = Counter(row["tenant_id"] for row in running)
    rules = {
        "S1 lost": all(id in now or row["status"] in TERMINAL for id, row in was.items()),
        "S1 added and not there": new <= now.keys(),
        "S2 a lease number shrank": all(
            now[id]["lease_seq"] >= row["lease_seq"] for id, row in was.items() if id in now
        ),
        "S4 two outcomes of one lease": not _both_ended_it(outcome, first, second),
        "S6 attempts": all(row["attempts"] <= row["max_attempts"] for row in now.values()),
        "S7 terminal is final": all(
            now[id] == row or now[id]["lease_seq"] > row["lease_seq"]
            for id, row in was.items()
            if row["status"] in TERMINAL and id in now
        ),
        "S8 use case": all(
            n <= CONFIG.use_case_configs[name].max_concurrent for name, n in by_use_case.items()
        ),
        "S8 tenant": all(
            n <= (CONFIG.per_tenant_quotas[name].max_running or 0)
            for name, n in by_tenant.items()
            if name in CONFIG.per_tenant_quotas
        ),
        "S12 quota": not _over_quota(now, outcome, first, second),
        "S13 keys": all(n == 1 for n in keys.values()),
        "S17 a lease without a job that runs": all(
            (row["status"] == "running") == (row["lease_expires_at"] is not None)
            and (row["status"] in TERMINAL) == (row["finished_at"] is not None)
            for row in now.values()
        ),
    }
    return [rule for rule, holds in rules.items() if not holds]


def _added(outcome: Outcome) -> list[object]:
    answers = [each for each in (outcome.first, outcome.second) if isinstance(each, list)]
    return [each.job_id for answer in answers for each in answer if isinstance(each, Added)]


def _both_ended_it(outcome: Outcome, first: Writing, second: Writing) -> bool:
    both = (outcome.first, first), (outcome.second, second)
    # The same change made twice is one change: whoever repeats it is told that it stands.
    return first != second and all(
        isinstance(answer, Applied) and CONTESTED in answer.ids and writing.ends_a_lease
        for answer, writing in both
    )


def _over_quota(
    now: dict[str, dict[str, Any]], outcome: Outcome, first: Writing, second: Writing
) -> bool:
    """Tell whether limited calls alone took a tenant above its limit."""
    limited = {"add_limited", "add_counting", "add_within"}
    if not {first.name, second.name} <= limited:
        return False
    pending = Counter(row["tenant_id"] for row in now.values() if row["status"] == "pending")
    return any(pending[tenant] > limit for tenant, limit in LIMITS.items())


@asynccontextmanager
async def stage(dsn: str) -> AsyncIterator[Stage]:
    """Yield a stage on an empty migrated database; in the end no deadlock may have happened."""
    observer = await asyncpg.connect(dsn)
    async with await create_pool(dsn) as holding, await create_pool(dsn) as pool:
        await set_up(observer, PostgresJobStore(pool))
        yield Stage(observer, holding, pool)
    others = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )

    async def all_have_told() -> bool:
        return not await observer.fetchval(others)

    await eventually(all_have_told, "all other connections are closed")
    broken_up = await observer.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    await observer.close()
    assert broken_up == 0, f"{broken_up} deadlocks"
