"""The table of the deliberate bugs, as `docs/sabotage.md` holds it: what `make test` asserts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.sabotage.bugs import BUGS
from tests.sabotage.claims import DIFFERENTIAL, SIMULATION, TESTS, TWO_SESSIONS

PAGE = Path(__file__).parents[2] / "docs" / "sabotage.md"
HEAD = """# Planted bugs

Written by `python -m tests.sabotage.table`. Each bug is a small edit of the production code,
planted by a test, which then asserts that each of the catchers named here turns red: a test of the
contracts or of a unit, the machine that drives a store beside a dict (within so many of its
lives), a pair of two sessions on Postgres, or the simulation, where the number is that of the first
seed tried and the rule is the one that the judge names.

| bug | breaks | test | machine | two sessions | simulation |
|---|---|---|---|---|---|
"""


def page() -> str:
    """Return the whole page."""
    return HEAD + "".join(f"| {' | '.join(_cells(name))} |\n" for name in BUGS)


def _cells(name: str) -> Iterator[str]:
    bug = BUGS[name]
    yield bug.what.replace("|", "\\|")
    yield bug.breaks
    test = TESTS.get(name)
    yield f"`{test.rsplit('::', 1)[-1].split('[', maxsplit=1)[0]}`" if test else ""
    yield f"{DIFFERENTIAL[name]} lives" if name in DIFFERENTIAL else ""
    yield f"`{TWO_SESSIONS[name]}`" if name in TWO_SESSIONS else ""
    seen = SIMULATION.get(name)
    if seen is None:
        yield ""
    else:
        storm = "short storm" if seen.small else "storm"
        yield f"{' or '.join(seen.rules)}, {storm} {seen.seed}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} is written\n")
