"""Who may catch a bug: the contracts, the unit tests, the machine beside a dict, the simulation."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.ports.store import Store
from async_jobs.testing.machines import JobStoreMachine
from tests.sabotage.edits.patches import Bug
from tests.sabotage.edits.schedulers import CONTROLS
from tests.simulation.plan import Plan, plan_of
from tests.simulation.world import simulate

ROOT = Path(__file__).parents[2]
CONTRACTS = ("tests/contract/test_memory.py",)
ON_POSTGRES = ("tests/contract/test_postgres.py",)
UNITS = ("tests/unit/domain", "tests/unit/application")
QUIETLY = (
    "-q",
    "-x",
    "--tb=no",
    "--no-header",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
    # What a spoiled test left behind may be collected during the next one.
    "-W",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
EXAMPLES = 100


def planted(bug: Bug | None) -> contextlib.AbstractContextManager[None]:
    """Let a bug be there, or none."""
    return contextlib.nullcontext() if bug is None else bug.planted()


# --- tests ------------------------------------------------------------------------------------


class FirstFailure:
    """A pytest plugin: remembers the first test that failed, and which one is being run.

    Args:
        on_begin: told of every test before it runs.
    """

    def __init__(self, on_begin: Callable[[str], None] = lambda test: None) -> None:
        self.test: str | None = None
        self._on_begin = on_begin

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test that never ends is known all the same."""
        self._on_begin(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the first one."""
        if report.failed and self.test is None:
            self.test = report.nodeid


def import_tests(paths: Iterable[str]) -> None:
    """Import tests while nothing is spoiled, so that what they import is not, either."""
    with contextlib.redirect_stdout(io.StringIO()):
        told = pytest.main([*paths, *QUIETLY, "--collect-only"])
    assert told == pytest.ExitCode.OK, told


def failing_test(
    bug: Bug | None, paths: Sequence[str], *, on_begin: Callable[[str], None] = lambda test: None
) -> str | None:
    """Return the first of those tests that fails with the bug, or without any."""
    plugin = FirstFailure(on_begin)
    with contextlib.redirect_stdout(io.StringIO()), planted(bug):
        told = pytest.main([*paths, *QUIETLY], plugins=[plugin])
    assert told in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), told
    return plugin.test


# --- the machine beside a dict ----------------------------------------------------------------


def failing_example(bug: Bug, *, examples: int = EXAMPLES) -> int | None:
    """Return how many lives of the machine it took to tell a spoiled store from a dict."""
    lives = 0
    failed_at: int | None = None

    class Machine(JobStoreMachine):
        def __init__(self) -> None:
            nonlocal lives
            lives += 1
            super().__init__()

        def teardown(self) -> None:
            nonlocal failed_at
            # Hypothesis has exceptions of its own by which it ends a life that shows nothing.
            error = sys.exc_info()[1]
            if error and not type(error).__module__.startswith("hypothesis"):
                failed_at = failed_at or lives
            super().teardown()

        @asynccontextmanager
        async def open_store(self) -> AsyncIterator[Store]:
            yield MemoryJobStore()

    once = settings(
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        max_examples=examples,
        stateful_step_count=40,
    )
    with contextlib.redirect_stdout(io.StringIO()), bug.planted():
        try:
            run_state_machine_as_test(Machine, settings=once)
        except Exception:
            return failed_at or lives
    return None


# --- the simulation ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Sighting:
    """A bug as the simulation showed it.

    Attributes:
        seed: of the plan.
        small: whether it was the small plan of that seed.
        rule: what the judge saw broken.
        seconds: how long the system had run, in simulated seconds.
        steps, lines: how many steps that took, and how many lines the trace has.
    """

    seed: int
    small: bool
    rule: str
    seconds: float
    steps: int
    lines: int


def plan_for(seed: int, *, small: bool) -> Plan:
    """Return the storm of a seed, or a short one."""
    plan = plan_of(seed, level="storm")
    return replace(plan, jobs=15, leases=4) if small else plan


def sighting(bug: Bug | None, seed: int, *, small: bool) -> Sighting | None:
    """Run one simulation with a bug, or without any; returns what was seen.

    Operators order something only where that is what the bug is about: the others are quicker.
    """
    plan = plan_for(seed, small=small)
    plan = plan if bug in CONTROLS else replace(plan, controls=0)
    with planted(bug):
        report = simulate(plan, keep_lines=0)
    if report.violation is None:
        return None
    return Sighting(seed, small, report.violation.rule, report.seconds, report.steps, report.length)
