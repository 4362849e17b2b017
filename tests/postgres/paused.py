"""What a tick costs beside ever more paused jobs, which are due before all others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from async_jobs.application.scheduling.scheduler import Tick
from async_jobs.domain.controls import Scope
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.testing.builders import a_control, an_operation
from tests.postgres.backlog import Rows
from tests.postgres.plans import LIMIT, Plan, Scene

OTHERS = 2_000
"""So many jobs of twenty tenants may start."""
TICKS_MAX = 2_000
INSERTED = 100_000
"""So many at a time, within the time that a statement has."""
_UNDO = """
WITH undone AS (
    UPDATE jobs SET status = 'pending', lane = 0, lease_expires_at = NULL
    WHERE status = 'running' RETURNING id
)
DELETE FROM handoffs WHERE job_id IN (SELECT id FROM undone)
"""


@dataclass(frozen=True)
class Kind:
    """A pause, and jobs in its scope, as SQL expressions."""

    scope: Scope
    use_case: str = "'even'"
    tenant: str = "'tenant-' || i % 20"
    type: str = "'send_email'"


KINDS = {
    "a type": Kind(Scope(type="noisy"), type="'noisy'"),
    "a tenant": Kind(Scope(tenant_id="paused"), tenant="'paused'"),
    "a tenant's type": Kind(
        Scope(tenant_id="paused", type="noisy"), tenant="'paused'", type="'noisy'"
    ),
    "a use case": Kind(Scope(use_case="paused"), use_case="'paused'"),
}


def _ahead(kind: Kind, count: int) -> Rows:
    """Return jobs that are due before the others; none is late, so that they stay before them."""
    return Rows(
        count=count,
        use_case=kind.use_case,
        tenant=kind.tenant,
        type=kind.type,
        run_at="$1 - interval '30 s' - i * interval '1 us'",
    )


@dataclass(frozen=True)
class Beside:
    """A tick, and its plans, beside so many paused jobs, of which so many were hidden."""

    paused: int
    hidden: int
    tick: Tick
    plans: Sequence[Plan]

    @property
    def pages(self) -> int:
        return sum(plan.pages for plan in self.plans)


async def ticks_beside(scene: Scene, kind: Kind, counts: Sequence[int]) -> AsyncIterator[Beside]:
    """Yield what a tick costs that leases a hundred others, for so many paused jobs each.

    The jobs are paused from the beginning, and each tick is taken back. What a pause has to put out
    of the way is out of it then, and vacuum has been there.
    """
    connection = scene.connection
    await Rows(count=OTHERS, use_case="'even'", tenant="'tenant-' || i % 20").insert(connection, 1)
    control = a_control(scope=kind.scope)
    await scene.controls.change(an_operation(control), control, expected=0)
    config = UseCaseConfig(max_concurrent=LIMIT)
    scheduler = scene.scheduler(even=config, paused=config)
    there, group = 0, 1
    for count in counts:
        while there < count:
            added = min(count - there, INSERTED)
            there, group = there + added, group + 1
            await _ahead(kind, added).insert(connection, group)
        await connection.execute("VACUUM ANALYZE jobs")
        for _ in range(TICKS_MAX):
            await scene.plans()
            await scheduler.tick()
            await connection.execute(_UNDO)
            if not any(plan.statement == "hold_paused" for plan in await scene.plans()):
                break
        await connection.execute("VACUUM ANALYZE jobs")
        transaction = connection.transaction()
        await transaction.start()
        await scene.plans()
        tick = await scheduler.tick()
        plans = await scene.plans()
        await transaction.rollback()
        hidden = await connection.fetchval("SELECT count(*) FROM jobs WHERE lane = 2")
        yield Beside(count, hidden, tick, plans)
