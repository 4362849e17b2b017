"""Cancellations at any await: the pool stays whole, and no transaction is left open."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TypeAlias

import pytest

from async_jobs.testing.builders import a_job
from tests.kit.harness import eventually
from tests.postgres.storm import (
    LIMITS,
    OPERATIONS,
    PLACES,
    POOL_SIZE,
    Operation,
    Strike,
    World,
    assert_whole,
    lease,
    wait,
    world,
)

CANCELLATIONS = 10_000
SEEDS = (1, 2, 3, 4)
"""Each has its part of them."""
AT_ONCE = 20
LOOK_EVERY = 25
TURNS_MAX = 6
# Who waits for a signal leaves the database to tasks that live on.
ACQUIRING = tuple(operation for operation in OPERATIONS if operation is not wait)


Struck: TypeAlias = "Counter[tuple[str, str]]"
"""How often each operation was cancelled in each kind of place."""


async def waits_of(found: World, operation: Operation) -> int:
    """Return how often an operation waits when nobody disturbs it."""
    strike = Strike(at=10_000)
    await strike.run(operation(found))
    return strike.waits


async def storm(found: World, operations: tuple[Operation, ...], strikes: int) -> Struck:
    """Run operations by chance, many at once, until so many were cancelled inside."""
    struck: Struck = Counter()
    chance = found.chance
    waits = {operation: await waits_of(found, operation) for operation in operations}

    async def one(operation: Operation) -> None:
        strike = Strike(
            # Some are to end before it.
            at=1 + int(chance.uniform() * 1.2 * waits[operation]),
            turns=int(chance.uniform() * TURNS_MAX),
            by_timeout=chance.uniform() < 0.25,
        )
        await strike.run(operation(found))
        # The longer it gets with work to do, the deeper the next ones strike.
        waits[operation] = max(waits[operation], strike.waits)
        assert not strike.swallowed, operation.__name__
        if strike.struck_in is not None:
            struck[operation.__name__, strike.struck_in] += 1

    rounds = 0
    while struck.total() < strikes:
        drawn = [int(chance.uniform() * len(operations)) for _ in range(AT_ONCE)]
        await asyncio.gather(*(one(operations[number]) for number in drawn))
        found.clock.advance(5)
        rounds += 1
        if rounds % LOOK_EVERY == 0:
            await assert_whole(found)
    return struck


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_storm_of_cancellations_leaves_everything_whole(
    database_dsn: str, seed: int
) -> None:
    """Many at once, on fewer connections, each at an await drawn by chance."""
    async with world(database_dsn, seed) as found:
        struck = await storm(found, OPERATIONS, CANCELLATIONS // len(SEEDS))
        await assert_whole(found)

    operations, places = Counter[str](), Counter[str]()
    for (operation, place), count in struck.items():
        operations[operation] += count
        places[place] += count
    assert min(operations[operation.__name__] for operation in OPERATIONS) >= 15
    assert min(places[place] for place in PLACES) >= 5


async def both(found: World) -> None:
    """Add two jobs of a limited tenant, both or neither."""
    await found.store.add([a_job(use_case="reports"), a_job(use_case="reports")], LIMITS)


@pytest.mark.parametrize("turns", range(TURNS_MAX))
@pytest.mark.parametrize(
    ("operation", "rows", "expected"),
    [(both, "use_case = 'reports'", 2), (lease, "status = 'running'", 3)],
    ids=["add", "lease"],
)
async def test_a_cancellation_during_commit_means_all_or_nothing(
    database_dsn: str, operation: Operation, rows: str, expected: int, turns: int
) -> None:
    """Whoever is cancelled there cannot know which, and the connection is as good as new."""
    async with world(database_dsn, seed=0) as found:
        strike = Strike(at=1, turns=turns, place="commit")
        await strike.run(operation(found))
        await assert_whole(found)
        count = await found.operator.fetchval(f"SELECT count(*) FROM jobs WHERE {rows}")

    assert strike.struck_in == "commit" if turns == 0 else strike.struck_in in ("commit", None)
    assert count in (0, expected) if strike.struck_in else count == expected


@pytest.mark.parametrize("operation", ACQUIRING, ids=lambda operation: operation.__name__)
async def test_whoever_gives_up_waiting_for_a_connection_takes_none(
    database_dsn: str, operation: Operation
) -> None:
    """Neither when it still waits, nor when one was just given to it."""
    async with world(database_dsn, seed=0) as found:
        for turns in range(TURNS_MAX):
            lent = [await found.pool.acquire() for _ in range(POOL_SIZE - found.listening)]
            strike = Strike(at=1, turns=turns, place="acquire")
            running = asyncio.ensure_future(strike.run(operation(found)))
            await eventually(strike.is_struck, "it waits for a connection")
            for connection in lent:
                await found.pool.release(connection)
            await running
            assert strike.struck_in == "acquire"
        await assert_whole(found)


# --- and what leaks is found out ------------------------------------------------------------------


async def keeps_the_connection(found: World) -> None:
    """Gives it back only if all goes well."""
    connection = await found.pool.acquire()
    await connection.fetchval("SELECT count(*) FROM jobs")
    await found.pool.release(connection)


async def keeps_the_transaction(found: World) -> None:
    """Waits in it for something that is no statement, while nobody cleans up."""
    connection = await found.pool.acquire()
    await connection.execute("BEGIN")
    await connection.fetchval("SELECT count(*) FROM jobs")
    await connection.execute("ROLLBACK")
    await found.pool.release(connection)


async def keeps_the_lock(found: World) -> None:
    """Takes a lock of the session, which outlives the transaction and the loan."""
    await found.pool.execute("SELECT pg_advisory_lock_shared(1)")
    await found.operator.fetchval("SELECT count(*) FROM jobs")
    await found.pool.execute("SELECT pg_advisory_unlock_shared(1)")


@pytest.mark.parametrize(
    ("leak", "told"),
    [
        (keeps_the_connection, "connections are left"),
        (keeps_the_transaction, "idle in transaction"),
        (keeps_the_lock, "advisory"),
    ],
    ids=lambda leak: getattr(leak, "__name__", ""),
)
async def test_a_leak_is_found(database_dsn: str, leak: Operation, told: str) -> None:
    """One cancellation at the wrong moment is enough."""
    async with world(database_dsn, seed=0) as found:
        await assert_whole(found)
        moments = await waits_of(found, leak)
    said: list[str] = []
    for at in range(1, 1 + moments):
        async with world(database_dsn, seed=0) as found:
            await assert_whole(found)
            await Strike(at=at).run(leak(found))
            try:
                await assert_whole(found, seconds=0.5)
            except AssertionError as error:
                # Not every moment is the wrong one for it, and a slow machine may say more.
                said.append(str(error))

    assert any(told in one for one in said)
