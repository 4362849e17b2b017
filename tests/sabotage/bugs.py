"""The deliberate bugs, by layer."""

from __future__ import annotations

from tests.sabotage.edits import (
    bulk,
    fairness,
    jobs,
    pages,
    schedulers,
    search,
    statements,
    stores,
    tallies,
    traces,
    workers,
)

STATEMENTS = "statements"
LAYERS = {
    "domain": jobs.BUGS,
    "fairness": fairness.BUGS,
    "schedulers and service": schedulers.BUGS,
    "workers": workers.BUGS,
    "adapters": stores.BUGS,
    "statistics": tallies.BUGS,
    "search": search.BUGS,
    "bulk operations": bulk.BUGS,
    "traces": traces.BUGS,
    "dashboard": pages.BUGS,
    STATEMENTS: statements.BUGS,
}
BUGS = {bug.name: bug for bugs in LAYERS.values() for bug in bugs}
