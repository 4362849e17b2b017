"""The deliberate bugs, by layer."""

from __future__ import annotations

from tests.sabotage import (
    bugs_of_fairness,
    bugs_of_jobs,
    bugs_of_schedulers,
    bugs_of_statements,
    bugs_of_stores,
    bugs_of_workers,
)

STATEMENTS = "statements"
LAYERS = {
    "domain": bugs_of_jobs.BUGS,
    "fairness": bugs_of_fairness.BUGS,
    "schedulers and service": bugs_of_schedulers.BUGS,
    "workers": bugs_of_workers.BUGS,
    "adapters": bugs_of_stores.BUGS,
    STATEMENTS: bugs_of_statements.BUGS,
}
BUGS = {bug.name: bug for bugs in LAYERS.values() for bug in bugs}
