"""Foreseeing a turn: the same looks and the same choice, and nothing is leased."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from async_jobs.application.looking import LEASES_MAX, Lookout
from async_jobs.domain.dispatching import TurnView
from async_jobs.domain.fairness import ServiceMemory
from async_jobs.domain.pools import Fleet
from async_jobs.domain.reasons import Scene, Turned
from async_jobs.ports.leases import HeadsQuery
from async_jobs.ports.overview import Look

ASKED_MIN = 64
"""At so many jobs of a use case that was asked about a look goes, however few places there are."""


async def foreseen(
    look: Look,
    scene: Scene,
    fleet: Fleet,
    memory: ServiceMemory,
    *,
    use_cases: Collection[str] = (),
    tenant_id: str | None = None,
) -> Turned:
    """Return what a turn over all use cases would do now.

    Args:
        look: what there is to choose from.
        scene: who is there.
        fleet: the slots there are.
        memory: what tenants have had, to be used up.
        use_cases: those asked about: a turn does not look at one that is full.
        tenant_id: whose jobs were asked about, to be shown as well.
    """
    counts = await look.running(fleet.workers)
    view = TurnView(
        scene.config,
        counts,
        fleet,
        memory,
        tenants_unheld=frozenset(),
        limit=LEASES_MAX,
        now=scene.now,
        pauses=() if scene.holds is None else scene.holds.pauses,
        explain=True,
    )
    lookout = Lookout(scene.config)
    queries = lookout.queries(scene.config.use_case_configs, view)
    missing = sorted(set(use_cases) - {query.use_case for query in queries})
    queries += [
        HeadsQuery(
            use_case=name,
            limit=ASKED_MIN,
            late_policy=scene.config.use_case_configs[name].late_policy,
        )
        for name in missing
    ]
    if tenant_id is not None:
        asked = set(use_cases)
        queries = [
            replace(query, tenants=(tenant_id, *query.tenants)[: query.limit])
            if query.use_case in asked
            else query
            for query in queries
        ]
    heads = await look.heads(queries, scene.now) if queries else {}
    seen = lookout.seen(queries, heads)
    return Turned(
        counts=counts,
        fleet=fleet,
        memory=memory,
        view=view,
        seen=seen,
        round=view.choose(seen),
    )
