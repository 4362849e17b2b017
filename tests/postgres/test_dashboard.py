"""What looking at the dashboard costs the database: the same for one viewer and for a hundred."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx

from async_jobs.adapters.memory.signal import MemorySignal
from async_jobs.adapters.postgres.controls import PostgresControls
from async_jobs.adapters.postgres.overview import PostgresOverview
from async_jobs.adapters.postgres.store import PostgresJobStore
from async_jobs.adapters.postgres.tallies import PostgresTallies
from async_jobs.application.operating.reporting import ReportsService
from async_jobs.application.operating.steering import SteeringService
from async_jobs.entrypoints.dashboard.app import create_dashboard
from async_jobs.entrypoints.wiring.library import JobService
from async_jobs.testing.builders import a_job
from async_jobs.testing.clocks import ManualChance, ManualClock
from async_jobs.testing.contracts.scenes import stored
from tests.postgres.plans import Scene, explained
from tests.postgres.test_operating import LIMITS, service


async def test_a_hundred_viewers_cost_the_statements_of_one(database_dsn: str) -> None:
    """At the same time, on three screens: none asks for itself what another one asks."""
    clock = ManualClock()
    async with explained(database_dsn) as connection:
        scene = Scene(connection)
        store, pool = PostgresJobStore(scene.pool), scene.pool
        await stored(store, *(a_job() for _ in range(20)))
        steering = SteeringService(
            LIMITS,
            PostgresControls(pool),
            PostgresOverview(pool),
            clock=clock,
            chance=ManualChance(0),
            signal=MemorySignal(clock=clock),
        )
        app = create_dashboard(
            lambda: JobService(LIMITS, store, clock=clock),
            operations_factory=lambda: service(pool, clock),
            reports_factory=lambda: ReportsService(PostgresTallies(pool), clock=clock),
            steering_factory=lambda: steering,
            allow_unauthenticated=True,
            clock=clock,
        )
        counts = []
        for viewers in (1, 100):
            clock.advance(60)
            with scene.listening():
                for path in ("/", "/use-case?name=notifications", "/jobs"):
                    await _looked(app, path, viewers)
                counts.append(Counter(plan.statement for plan in await scene.plans()))

    assert counts[0] == counts[1]
    assert counts[0]["find_jobs"] == 1


async def _looked(app: object, path: str, viewers: int) -> None:
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://jobs") as browser:
        answers = await asyncio.gather(*(browser.get(path) for _ in range(viewers)))
    assert {each.status_code for each in answers} == {200}
