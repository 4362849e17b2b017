"""A program: try every deliberate bug against every catcher, and print the table.

    python -m tests.sabotage [--processes 2] [--json] [--write] [name of a bug …]

The table is Markdown on the standard output; what is going on is told on the other one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from tests.kit import services
from tests.sabotage import claims
from tests.sabotage.bugs import BUGS
from tests.sabotage.claims import TWO_SESSIONS
from tests.sabotage.trials import (
    CATCHERS,
    Result,
    Trial,
    catchers_of,
    is_of_a_statement,
    results,
)

NOTHING = "-"


def cell(result: Result) -> str:
    """Return what a catcher found, for a table."""
    if result.stuck:
        return f"hangs: {short(result.stuck)}"
    if result.found is None:
        return NOTHING
    found = result.found
    match result.trial.catcher:
        case "differential":
            return f"example {found['examples']}"
        case "simulation":
            plural = "s" if found["tried"] > 1 else ""
            return (
                f"{found['rule']}: {found['tried']} seed{plural}, "
                f"{found['seconds']:,.0f} s, {found['steps']:,} steps, {found['lines']:,} lines"
            )
        case _:
            return short(found["test"])


def short(test: str) -> str:
    """Return a test's name without its path and its parameters."""
    return "`" + test.rsplit("::", 1)[-1].split("[", maxsplit=1)[0] + "`"


def line(name: str, row: Mapping[str, Result]) -> str:
    """Return a bug's line of the table."""
    bug = BUGS[name]
    cells = [cell(row[each]) if each in row else NOTHING for each in CATCHERS]
    sessions = f"`{TWO_SESSIONS[name]}`" if name in TWO_SESSIONS else NOTHING
    caught = [bug.what, bug.breaks, *cells, sessions]
    return f"| {' | '.join(caught)} |"


def main(arguments: Sequence[str]) -> int:
    """Print the table; returns how many bugs nobody caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.sabotage", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="bug")
    parser.add_argument("--processes", type=int, default=2, help="how many at a time (2)")
    parser.add_argument("--json", action="store_true", help="print each finding as JSON instead")
    parser.add_argument("--write", action="store_true", help="write the findings to claims.json")
    asked = parser.parse_args(arguments)
    names = asked.names or list(BUGS)
    if unknown := [name for name in names if name not in BUGS]:
        parser.error(f"no such bug: {', '.join(unknown)}")
    trials = [Trial(BUGS[name], each) for name in names for each in catchers_of(BUGS[name])]
    with ExitStack() as stack:
        if any(is_of_a_statement(BUGS[name]) for name in names):
            os.environ[services.DSN_VARIABLE] = stack.enter_context(services.postgres())
        rows = tried(trials, processes=asked.processes, as_json=asked.json)
    if asked.write:
        found = {
            name: {catcher: each.found for catcher, each in row.items() if each.found}
            for name, row in rows.items()
        }
        claims.write(found)
    if not asked.json:
        sys.stdout.write("| bug | promise | contract | unit test | differential |")
        sys.stdout.write(" simulation | two sessions |\n|---|---|---|---|---|---|---|\n")
        for name in names:
            sys.stdout.write(line(name, rows[name]) + "\n")
    missed = [
        name
        for name in names
        if name not in TWO_SESSIONS and not any(each.found for each in rows[name].values())
    ]
    if missed:
        sys.stderr.write(f"not caught: {', '.join(missed)}\n")
    return len(missed)


def tried(
    trials: Sequence[Trial], *, processes: int, as_json: bool
) -> Mapping[str, Mapping[str, Result]]:
    """Run the trials and tell of each as it ends; returns what came of them, by bug."""
    rows: dict[str, dict[str, Result]] = {trial.bug.name: {} for trial in trials}
    for done, result in enumerate(results(trials, processes=processes), 1):
        rows[result.trial.bug.name][result.trial.catcher] = result
        told = f"{result.trial.bug.name}: {result.trial.catcher}: {cell(result)}"
        sys.stderr.write(f"[{done}/{len(trials)}] {told}\n")
        if as_json:
            finding = {
                "bug": result.trial.bug.name,
                "catcher": result.trial.catcher,
                "found": result.found,
                "stuck": result.stuck,
            }
            sys.stdout.write(json.dumps(finding) + "\n")
            sys.stdout.flush()
    return rows


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
