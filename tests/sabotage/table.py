"""The tables of the planted bugs, as `docs/sabotage.md` holds them: what `make test` asserts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.sabotage.bugs import BUGS
from tests.sabotage.claims import DIFFERENTIAL, SIMULATION, TESTS, TWO_SESSIONS
from tests.sabotage.saboteurs.known import IN_MEMORY, ON_POSTGRES, Saboteur

_PIPE = "\\|"
PAGE = Path(__file__).parents[2] / "docs" / "sabotage.md"
HEAD = """# Planted bugs

Written by `python -m tests.sabotage.table`. Bugs are planted in two forms: as edits of the code,
and as saboteurs, which are adapters that break one promise each.

## Edits

Each bug is a small edit of the production code, planted by a test, which then asserts that each of
the catchers named here turns red: a test of the contracts or of a unit, the machine that drives a
store beside a dict (within so many of its lives), a pair of two sessions on Postgres, or the
simulation, where the number is that of the first seed tried and the rule is the one that the judge
names.

| bug | breaks | test | machine | two sessions | simulation |
|---|---|---|---|---|---|
"""


HEAD_OF_SABOTEURS = """
## Saboteurs {where}

{how} The contract's own tests of just that promise turn red.

| saboteur | breaks | what it does |
|---|---|---|
"""


def page() -> str:
    """Return the whole page."""
    edits = "".join(f"| {' | '.join(_cells(name))} |\n" for name in BUGS)
    in_memory = _saboteurs("in memory", "Each is a layer over the memory adapter.", IN_MEMORY)
    on_postgres = _saboteurs("on Postgres", "In each, one statement is spoiled.", ON_POSTGRES)
    return HEAD + edits + in_memory + on_postgres


def _saboteurs(where: str, how: str, saboteurs: Mapping[str, Saboteur]) -> str:
    lines = [
        f"| {each.name} | {each.breaks} | {each.what.replace('|', _PIPE)} |\n"
        for each in saboteurs.values()
        if each.breaks
    ]
    return HEAD_OF_SABOTEURS.format(where=where, how=how) + "".join(lines)


def _cells(name: str) -> Iterator[str]:
    bug = BUGS[name]
    yield bug.what.replace("|", _PIPE)
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
