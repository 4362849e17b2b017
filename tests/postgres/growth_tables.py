"""How a system grows, in tables: `python -m tests.postgres.growth_tables` prints them.

It churns for longer than the tests do. Only the ratios say anything about another machine.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from statistics import median

from async_jobs.adapters.postgres.migrate import migrate
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.testing.clocks import ManualClock
from tests.kit import services
from tests.postgres.churn import (
    BATCH,
    BYTES,
    DAILY,
    Day,
    Flow,
    allocated,
    census,
    churning,
    cost_of_a_turn,
    old_snapshot,
    vacuum,
    without_autovacuum,
)
from tests.postgres.paused import KINDS, ticks_beside
from tests.postgres.plans import Scene, explained

LOOKS = (0, 10, 50, 100, 200)
"""After how many rounds of a churn the program measures."""
REPEATS = 5
HOURS = (1, 6, 12, 24)
PAUSED = (1_000, 10_000, 100_000, 1_000_000)
_WALKING = ("ready_heads", "running_counts", "expired_leases", "purge_jobs", "claim_handoffs")


async def churn_table(server_dsn: str, *, held: bool) -> None:
    """Print what a turn costs after ever more jobs, with an old snapshot held or without."""
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(services.database(server_dsn))
        await migrate(dsn)
        churn = await stack.enter_async_context(churning(dsn))
        if held:
            await stack.enter_async_context(old_snapshot(dsn))
        _line(f"churn, {'an old snapshot held open' if held else 'no snapshot'}")
        _line("jobs", "pages", "ratio", *_WALKING, "by id", "entries", "ratio", "ms", "ratio")
        first: list[float] = []
        started = churn.rounds
        for look in LOOKS:
            await churn.run(started + look - churn.rounds)
            costs = [await churn.cost() for _ in range(REPEATS)]
            pages = costs[0].pages
            walking = [pages[name] for name in _WALKING]
            totals = [
                float(sum(pages.values())),
                float(sum(costs[0].entries.values())),
                median(sum(cost.milliseconds.values()) for cost in costs),
            ]
            first = first or totals
            ratios = [f"{now / then:.2f}" for now, then in zip(totals, first, strict=True)]
            _line(
                look * BATCH,
                int(totals[0]),
                ratios[0],
                *walking,
                int(totals[0]) - sum(walking),
                int(totals[1]),
                ratios[1],
                f"{totals[2]:.1f}",
                ratios[2],
            )


async def day_table(server_dsn: str) -> None:
    """Print what there is after some hours of a day."""
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(services.database(server_dsn))
        await migrate(dsn)
        pool = await stack.enter_async_context(await create_pool(dsn))
        connection = await stack.enter_async_context(explained(dsn))
        await without_autovacuum(pool)
        flow = Flow.on(pool, DAILY, ManualClock(), seed=24)
        day = Day(flow)
        _line("a day")
        _line("hour", "rows", "KiB", "pages a turn", "ms", "blocks", "in containers")
        for hour in range(1, HOURS[-1] + 1):
            await day.hour()
            await vacuum(pool)
            if hour in HOURS:
                costs = [
                    await cost_of_a_turn(connection, DAILY, flow.clock) for _ in range(REPEATS)
                ]
                held = census(flow.service, flow.scheduler, flow.worker, flow.clock)
                _line(
                    hour,
                    await pool.fetchval("SELECT count(*) FROM jobs"),
                    await pool.fetchval(BYTES) // 1024,
                    sum(costs[0].pages.values()),
                    f"{median(sum(cost.milliseconds.values()) for cost in costs):.1f}",
                    allocated(),
                    sum(held.values()),
                )


async def paused_table(server_dsn: str) -> None:
    """Print what a tick costs beside ever more paused jobs that are due before all others."""
    _line("pages a tick", *(f"{count:,}" for count in PAUSED), "leased")
    for name, kind in KINDS.items():
        async with AsyncExitStack() as stack:
            dsn = await stack.enter_async_context(services.database(server_dsn))
            await migrate(dsn)
            scene = Scene(await stack.enter_async_context(explained(dsn)))
            stack.enter_context(scene.listening())
            ticks = [each async for each in ticks_beside(scene, kind, PAUSED)]
            _line(name, *(each.pages for each in ticks), min(each.tick.leased for each in ticks))


def _line(*cells: object) -> None:
    sys.stdout.write("  ".join(f"{cell:>9}" for cell in cells) + "\n")


async def main() -> None:
    """Print all tables."""
    with services.postgres() as dsn:
        for held in (False, True):
            await churn_table(dsn, held=held)
        await day_table(dsn)
        await paused_table(dsn)


if __name__ == "__main__":
    asyncio.run(main())
