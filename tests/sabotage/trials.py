"""Trying a bug against every catcher, each try in a process of its own that can be given up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

from async_jobs.host import SystemClock
from tests.sabotage.bugs import LAYERS, STATEMENTS
from tests.sabotage.catchers import (
    CONTRACTS,
    ON_POSTGRES,
    UNITS,
    failing_example,
    failing_test,
    import_tests,
    sighting,
)
from tests.sabotage.edits.patches import Bug, Edit, plain

SMALL_SEEDS, WHOLE_SEEDS = range(12), range(6)
BUDGET_SECONDS = 120.0
CATCHERS = ("contract", "unit", "differential", "simulation")

Found: TypeAlias = Mapping[str, Any] | None
"""What a catcher found, as JSON, or None."""


@dataclass(frozen=True)
class Trial:
    """A bug before a catcher."""

    bug: Bug
    catcher: str


@dataclass(frozen=True)
class Result:
    """What came of a trial; `stuck` is where it was when its time was over."""

    trial: Trial
    found: Found
    stuck: str = ""


def by_a_test(bug: Bug, catcher: str, tell: Callable[[str], None]) -> Found:
    """Return the first test that fails."""
    contracts = ON_POSTGRES if is_of_a_statement(bug) else CONTRACTS
    paths = {"contract": contracts, "unit": UNITS}[catcher]
    test = failing_test(bug, paths, on_begin=tell)
    return None if test is None else {"test": test}


def is_of_the_application(bug: Bug) -> bool:
    """Tell whether all that a bug spoils lies above the ports."""
    edits = [change for change in bug.changes if isinstance(change, Edit)]
    homes = [plain(edit.function).__module__ for edit in edits]
    return bool(homes) and all(home.startswith("async_jobs.application") for home in homes)


def is_of_a_statement(bug: Bug) -> bool:
    """Tell whether a bug spoils the SQL, which runs on Postgres only."""
    return bug in LAYERS[STATEMENTS]


def catchers_of(bug: Bug) -> tuple[str, ...]:
    """Return the catchers that run at all what a bug spoils."""
    if is_of_a_statement(bug):
        return ("contract",)
    if is_of_the_application(bug):  # the machine drives a store alone
        return tuple(catcher for catcher in CATCHERS if catcher != "differential")
    return CATCHERS


def by_the_machine(bug: Bug) -> Found:
    """Return how many examples it took."""
    examples = failing_example(bug)
    return None if examples is None else {"examples": examples}


def by_the_simulation(bug: Bug, tell: Callable[[str], None]) -> Found:
    """Return the first simulation that breaks a rule: short ones first, then whole ones."""
    tried = 0
    for small, seeds in ((True, SMALL_SEEDS), (False, WHOLE_SEEDS)):
        for seed in seeds:
            tell(f"seed {seed}")
            tried += 1
            seen = sighting(bug, seed, small=small)
            if seen is not None:
                return {**asdict(seen), "tried": tried}
    return None


def _try(trial: Trial, out: Connection) -> None:
    """The life of a process: try, and tell."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)

    def tell(where: str) -> None:
        out.send_bytes(json.dumps({"at": where}).encode())

    match trial.catcher:
        case "differential":
            found = by_the_machine(trial.bug)
        case "simulation":
            found = by_the_simulation(trial.bug, tell)
        case _:
            found = by_a_test(trial.bug, trial.catcher, tell)
    out.send_bytes(json.dumps({"found": found}).encode())


def results(trials: Sequence[Trial], *, processes: int) -> Iterator[Result]:
    """Run trials, so many at a time; yields each result as it comes."""
    import_tests([*CONTRACTS, *UNITS])
    fork = get_context("fork")  # what was imported need not be imported again
    clock = SystemClock()
    waiting = list(trials)
    running: dict[Connection, tuple[Trial, Any, float]] = {}
    at: dict[Connection, str] = {}
    while waiting or running:
        while waiting and len(running) < processes:
            trial = waiting.pop(0)
            here, there = fork.Pipe(duplex=False)
            process = fork.Process(target=_try, args=(trial, there), daemon=True)
            process.start()
            there.close()
            running[here] = (trial, process, clock.monotonic() + BUDGET_SECONDS)
            at[here] = "its beginning"
        for connection in wait(list(running), timeout=1.0):
            assert isinstance(connection, Connection)
            trial, process, _ = running[connection]
            try:
                told = json.loads(connection.recv_bytes())
            except EOFError:
                told = {"died": True}
            if "at" in told:
                at[connection] = told["at"]
                continue
            del running[connection]
            process.join()
            stuck = f"died at {at[connection]}" if "died" in told else ""
            yield Result(trial, told.get("found"), stuck)
        for connection, (trial, process, until) in list(running.items()):
            if clock.monotonic() > until:
                del running[connection]
                process.kill()
                process.join()
                yield Result(trial, None, at[connection])
