"""Every ordered pair of writings, the first held open: together they are as one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg
import pytest
import pytest_asyncio
from asyncpg.pool import PoolConnectionProxy
from asyncpg.transaction import Transaction

from async_jobs.adapters.postgres import adding, store, table, turn
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.turn import PostgresTurn, lock_key, turn_key
from async_jobs.domain.turns import RunningCount
from async_jobs.ports.leases import NOBODY
from async_jobs.ports.store import Added, Duplicate
from async_jobs.testing.builders import a_job
from tests.kit import services
from tests.kit.harness import eventually
from tests.postgres.sessions import ENDINGS, Spoiling, Stage, scene_of, stage
from tests.postgres.writings import BY_NAME, STALE, WRITINGS, Writing
from tests.sabotage.saboteurs.on_postgres import SPOILED

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(postgres_dsn: str, template_database: str) -> AsyncIterator[Stage]:
    """One database for all pairs: each begins with the rows of its scene, and no others."""
    async with (
        services.database(postgres_dsn, template_dsn=template_database) as dsn,
        stage(dsn) as found,
    ):
        yield found


@pytest.mark.parametrize("second", WRITINGS, ids=lambda writing: writing.name)
@pytest.mark.parametrize("first", WRITINGS, ids=lambda writing: writing.name)
async def test_two_sessions_do_what_one_would(
    shared: Stage, first: Writing, second: Writing
) -> None:
    """However the first one ends.

    Where the second did not wait, it was over before the first lost its connection, and a
    rollback tells all there is to tell.
    """
    complaints = []
    for paused in (False, True) if second.pauses else (False,):
        for ending in ENDINGS:
            seen = await shared.seen(first, second, ending, paused=paused)
            complaints.append(await shared.complaint(first, second, seen, ending))
            if ending == "rolled back" and not seen.waited:
                break

    assert not any(complaints), "\n".join(complaints)


# --- the pairs are worth something ----------------------------------------------------------------


@pytest.mark.parametrize("writing", WRITINGS, ids=lambda writing: writing.name)
async def test_each_changes_something_in_its_scene(shared: Stage, writing: Writing) -> None:
    """All but those of a worker that lost its lease, which change nothing."""
    scene = scene_of(writing, writing)

    (_, before), (_, after) = await shared.serially(scene), await shared.serially(scene, writing)

    assert (after == before) is (writing.name in STALE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("add", "add_keyed"),
        ("add_keyed", "add_batch"),
        ("add_limited", "add_within"),
        ("add_within", "add_limited"),
        ("cancel_pending", "lease"),
        ("sideline", "lease"),
        ("lease", "cancel_two"),
        ("claim", "cancel_handed"),
        ("renew", "expire_claimed"),
        ("renew_damaged", "set_aside"),
        ("set_aside", "succeed_damaged"),
        ("set_aside", "set_aside"),
        ("succeed", "add_keyed"),
        ("fail", "request_cancel"),
        ("retry", "add_keyed"),
        ("purge", "retry"),
        ("receive", "ack"),
        ("ack", "give_back"),
        ("announce", "withdraw"),
    ],
)
async def test_the_second_waits_for_the_first(shared: Stage, first: str, second: str) -> None:
    """They do run into each other: without that, a pair would show nothing."""
    seen = await shared.seen(BY_NAME[first], BY_NAME[second], "committed")

    assert seen.waited


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("lease", "lease"),
        ("lease", "sideline"),
        ("lease", "lease_sibling"),
        ("cancel_pending", "promote"),
        ("retry", "purge"),
        ("purge", "purge"),
        ("receive", "receive"),
        ("ack", "receive"),
    ],
)
async def test_the_second_passes_over_what_the_first_holds(
    shared: Stage, first: str, second: str
) -> None:
    """It waits for nothing, whatever becomes of the first."""
    seen = await shared.seen(BY_NAME[first], BY_NAME[second], "rolled back")

    assert not seen.waited
    assert seen.outcome.second == BY_NAME[second].nothing


# --- and spoiled adapters are found out -----------------------------------------------------------


@contextmanager
def statement(name: str) -> Iterator[None]:
    """Spoil one statement, as the contract's saboteurs do."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (adding, store, table, turn):
            patch.setattr(module, "sql", SPOILED[name].sql)
        yield


COUNTED_WITH_THE_LOCK = """
WITH held AS MATERIALIZED (
    SELECT count(pg_advisory_xact_lock(key)) FROM unnest($1::bigint[]) AS locks (key)
)
SELECT use_case, tenant_id, queue, count(started_at) AS claimed, count(*) - count(started_at)
FROM jobs WHERE status = 'running' AND (SELECT count FROM held) > 0
GROUP BY use_case, tenant_id, queue
"""


@contextmanager
def counting_in_the_locks_statement() -> Iterator[None]:
    """Wait for the turn, and count by the snapshot that was taken before the wait."""
    counted: dict[int, Sequence[RunningCount]] = {}

    async def take(
        cls: type[PostgresTurn],
        connection: Any,
        use_cases: Collection[str],
        tenants: Collection[str],
    ) -> PostgresTurn:
        keys = [lock_key("use_case", name) for name in use_cases]
        keys += [turn_key(name) for name in tenants]
        rows = await connection.fetch(COUNTED_WITH_THE_LOCK, sorted(keys))
        counted[id(connection)] = [RunningCount(*row.values()) for row in rows]
        return cls(connection, frozenset(use_cases), frozenset(tenants))

    async def running(
        self: PostgresTurn, workers: Mapping[str, int] = NOBODY
    ) -> Sequence[RunningCount]:
        return counted[id(self._connection)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PostgresTurn, "take", classmethod(take))
        patch.setattr(PostgresTurn, "running", running)
        yield


@dataclass(frozen=True)
class Spoiled:
    """An adapter with a fault, and a pair of writings that must show it."""

    name: str
    spoiling: Spoiling
    first: str
    second: str
    rule: str


FAULTS = (
    Spoiled("no_turn", lambda: statement("TakesEveryTurn"), "lease", "lease", "S8 use case"),
    Spoiled(
        "no_turn_of_tenants",
        lambda: statement("TakesEveryTurn"),
        "lease",
        "lease_sibling",
        "S8 tenant",
    ),
    Spoiled("old_count", counting_in_the_locks_statement, "lease", "lease", "S8 use case"),
    Spoiled(
        "old_count_of_tenants",
        counting_in_the_locks_statement,
        "lease_sibling",
        "lease",
        "S8 tenant",
    ),
    Spoiled(
        "no_lock_of_tenants",
        lambda: statement("AdmitsWithoutALock"),
        "add_counting",
        "add_limited",
        "S12",
    ),
    Spoiled(
        "no_look_at_the_room",
        lambda: statement("AdmitsOneWithoutRoom"),
        "add_limited",
        "add_within",
        "S12",
    ),
    Spoiled("no_fence", lambda: statement("SavesByPhaseAlone"), "renew", "fail_stale", ""),
    Spoiled(
        "no_fence_at_successes",
        lambda: statement("SucceedsInAnyLease"),
        "renew",
        "succeed_stale",
        "",
    ),
    Spoiled(
        "no_fence_at_claims", lambda: statement("ClaimsWhateverLease"), "claim_stale", "ack", ""
    ),
    Spoiled(
        "no_lease_end",
        lambda: statement("SetsAsideWhatWasRenewed"),
        "renew_damaged",
        "set_aside",
        "",
    ),
    Spoiled("no_phase", lambda: statement("SavesByNumberAlone"), "claim", "cancel_handed", ""),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_spoiled_adapter_turns_a_pair_red(shared: Stage, fault: Spoiled) -> None:
    """The same pair is green without the fault."""
    first, second = BY_NAME[fault.first], BY_NAME[fault.second]

    paused = second.pauses
    spoiled = await shared.seen(first, second, "committed", paused=paused, spoiling=fault.spoiling)
    sound = await shared.seen(first, second, "committed", paused=paused)
    complaint = await shared.complaint(first, second, spoiled, "committed")

    assert "no serial order" in complaint
    assert fault.rule in complaint
    assert await shared.complaint(first, second, sound, "committed") == ""


# --- and a first one that goes on -----------------------------------------------------------------


Caller: TypeAlias = tuple[PoolConnectionProxy, Transaction]


async def lock_waits(dsn: str, count: int) -> None:
    """Wait until so many sessions wait for a lock."""
    connection = await asyncpg.connect(dsn)

    async def look() -> bool:
        waiting = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(waiting == count)

    await eventually(look, f"{count} wait for a lock")
    await connection.close()


@asynccontextmanager
async def callers(pool: asyncpg.Pool, *deadlock_timeouts: str) -> AsyncIterator[list[Caller]]:
    """Yield connections with open transactions, which look for deadlocks so soon."""
    async with AsyncExitStack() as stack:
        found = []
        for timeout in deadlock_timeouts:
            connection = await stack.enter_async_context(pool.acquire())
            await connection.execute(f"SET deadlock_timeout = '{timeout}'")
            transaction = connection.transaction()
            await transaction.start()
            found.append((connection, transaction))
        yield found


async def test_a_call_that_was_rolled_back_to_break_a_ring_is_repeated(database_dsn: str) -> None:
    """A caller's transaction takes keys in an order of its own, against an add with all of them."""
    early, late = a_job(dedupe_key="a"), a_job(dedupe_key="c")
    rivals = [a_job(dedupe_key=key) for key in "abc"]
    async with await create_pool(database_dsn, max_size=3) as pool:
        adapter = PostgresJobStore(pool)
        # Who asks last closes the ring, and looks for it at once: that is the add.
        async with callers(pool, "1h", "1h") as ((caller, first), (holder, held)):
            async with pool.acquire() as of_the_add:
                await of_the_add.execute("SET deadlock_timeout = '10ms'")
            await adapter.add([late], {}, within=caller)
            await adapter.add([a_job(dedupe_key="b")], {}, within=holder)
            second = asyncio.ensure_future(adapter.add(rivals, {}))
            await lock_waits(database_dsn, 1)
            asking = asyncio.ensure_future(adapter.add([early], {}, within=caller))
            await lock_waits(database_dsn, 2)
            await held.rollback()
            told = await asking
            await first.commit()
            answers = await second

    assert told == [Added(early.id)]
    assert answers == [Duplicate(early.id), Added(rivals[1].id), Duplicate(late.id)]


async def test_a_caller_is_told_that_its_transaction_broke_a_ring(database_dsn: str) -> None:
    """It is not ours to repeat; whoever it ran into goes on."""
    rivals = [a_job(dedupe_key=key) for key in "ac"]
    async with await create_pool(database_dsn, max_size=2) as pool:
        adapter = PostgresJobStore(pool)
        async with callers(pool, "10ms") as ((caller, transaction),):
            await adapter.add([a_job(dedupe_key="c")], {}, within=caller)
            second = asyncio.ensure_future(adapter.add(rivals, {}))
            await lock_waits(database_dsn, 1)
            with pytest.raises(asyncpg.DeadlockDetectedError):
                await adapter.add([a_job(dedupe_key="a")], {}, within=caller)
            await transaction.rollback()
            answers = await second

    assert answers == [Added(job.id) for job in rivals]
