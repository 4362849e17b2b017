"""From a plan that fails to a small one that fails alike, with a trace that can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

from tests.simulation.faults import faults_of
from tests.simulation.plan import Plan
from tests.simulation.world import Report, simulate

STEPS = 3_000_000
"""Half a minute."""
SEEDS_TRIED = 6
"""A smaller system takes another course; so many seeds may show the failure in it."""


def shrunk(
    report: Report,
    *,
    steps: int = STEPS,
    told: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Return the report of the shortest run found that breaks the same rule.

    Every candidate leaves something out: a kind of fault, half of the jobs, a process. One that
    still breaks the rule, within fewer lines, is where the search goes on.

    Args:
        report: of a plan that fails.
        steps: how many steps of simulations the search may take.
        told: called with every better report that is found.
    """
    best = report
    left = steps
    improved = True
    while improved and left > 0:
        improved = False
        for candidate in _smaller(best.plan):
            for seed in _seeds(candidate):
                if left <= 0:
                    return best
                found = simulate(replace(candidate, seed=seed))
                left -= found.steps
                if _is_better(found, best):
                    best, improved = found, True
                    told(best)
                    break
            if improved:
                break
    return best


def _is_better(found: Report, best: Report) -> bool:
    return (
        found.violation is not None
        and best.violation is not None
        and found.violation.rule == best.violation.rule
        and (found.length, len(found.plan.faults.kinds))
        < (best.length, len(best.plan.faults.kinds))
    )


def _seeds(plan: Plan) -> Iterator[int]:
    yield plan.seed
    yield from range(1, SEEDS_TRIED)


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Yield plans with less in them, the greatest steps first."""
    if plan.jobs > 1:
        yield replace(plan, jobs=plan.jobs // 2)
    for name in ("schedulers", "workers", "apis", "use_cases", "tenants", "leases"):
        if getattr(plan, name) > 1:
            for fewer in (1, getattr(plan, name) - 1):
                change: dict[str, Any] = {name: fewer}
                yield replace(plan, **change)
    for name in ("crowd", "controls"):
        if getattr(plan, name):
            change = {name: 0}
            yield replace(plan, **change)
    kinds = plan.faults.kinds
    if len(kinds) > 2:
        half = len(kinds) // 2
        yield replace(plan, faults=plan.faults.without(*kinds[:half]))
        yield replace(plan, faults=plan.faults.without(*kinds[half:]))
    for kind in kinds:
        yield replace(plan, faults=plan.faults.without(kind))
    if plan.jobs > 1:
        yield replace(plan, jobs=plan.jobs - 1)


def options_of(plan: Plan, normal: Plan) -> list[str]:
    """Return the options that turn the plan that the seed stands for into this one."""
    options = [f"--seed {plan.seed}"]
    for each in fields(Plan):
        value = getattr(plan, each.name)
        if each.name not in ("seed", "faults") and value != getattr(normal, each.name):
            options.append(f"--{each.name} {value}")
    if plan.faults != faults_of(plan.level):
        options.append(f"--faults {','.join(plan.faults.kinds) or 'none'}")
    return options
