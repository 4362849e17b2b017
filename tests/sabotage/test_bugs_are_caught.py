"""Every deliberate bug is caught, by the catcher that is claimed to catch it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from async_jobs.domain import lifecycle
from tests.kit import services
from tests.postgres import test_two_sessions
from tests.sabotage import claims, table
from tests.sabotage.bugs import BUGS, LAYERS, STATEMENTS
from tests.sabotage.catchers import ROOT, failing_example, sighting
from tests.sabotage.claims import DIFFERENTIAL, SIMULATION, TESTS, TWO_SESSIONS, Seen
from tests.sabotage.edits.patches import Bug, Change, Edit, Entry, Swap, bug, plain

SEEDS_TRIED = 25
"""A change of the simulation changes what a seed stands for; another one soon shows the bug."""

PROMISES = {f"S{number}" for number in range(1, 22)} | {f"L{number}" for number in range(1, 7)}
RUNS = sorted({(seen.seed, seen.small) for seen in SIMULATION.values()})


def first_sighting(bug: Bug, seen: Seen) -> str | None:
    """Return the rule that the first simulation to show the bug saw broken."""
    for seed in range(seen.seed, seen.seed + SEEDS_TRIED):
        found = sighting(bug, seed, small=seen.small)
        if found is not None:
            return found.rule
    return None


@pytest.mark.parametrize("name", SIMULATION)
def test_the_simulation_sees_it(name: str) -> None:
    """The judge names the rule that is broken, or one that breaks with it."""
    rule = first_sighting(BUGS[name], SIMULATION[name])

    assert rule in SIMULATION[name].rules


@pytest.mark.parametrize(("seed", "small"), RUNS)
def test_without_a_bug_the_same_simulation_is_green(seed: int, small: bool) -> None:
    """It is the bug that is seen, not the storm."""
    assert sighting(None, seed, small=small) is None


@pytest.mark.parametrize("layer", LAYERS)
def test_a_test_of_the_suite_turns_red(layer: str, request: pytest.FixtureRequest) -> None:
    """The very test that is claimed to; without the bug it is green."""
    environment = dict(os.environ)
    if layer == STATEMENTS:
        environment[services.DSN_VARIABLE] = request.getfixturevalue("postgres_dsn")
    claimed = {bug.name: TESTS[bug.name] for bug in LAYERS[layer] if bug.name in TESTS}

    ran = subprocess.run(
        [sys.executable, "-m", "tests.sabotage.tally"],
        input=json.dumps(claimed),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["without"] == "green"
    assert [name for name, red in told["red"].items() if not red] == []
    assert told["red"].keys() == claimed.keys()


@pytest.mark.parametrize("name", DIFFERENTIAL)
def test_the_machine_tells_it_from_a_dict(name: str) -> None:
    """Within some more lives than it took when this was written."""
    assert failing_example(BUGS[name], examples=DIFFERENTIAL[name]) is not None


# --- nothing is left out ----------------------------------------------------------------------


def test_every_bug_has_a_catcher() -> None:
    """One that runs here: sessions on Postgres come on top."""
    assert BUGS.keys() == SIMULATION.keys() | TESTS.keys() | DIFFERENTIAL.keys()


def test_the_page_says_what_is_asserted() -> None:
    """Written anew by `python -m tests.sabotage.table`."""
    assert table.PAGE.read_text(encoding="utf-8") == table.page()


def test_every_promise_is_broken_by_a_bug() -> None:
    """No promise is taken on trust."""
    assert {bug.breaks for bug in BUGS.values()} >= PROMISES


def test_the_sessions_know_their_faults() -> None:
    """What is said to be caught by two sessions is one of the faults they are tried with."""
    assert set(TWO_SESSIONS) <= BUGS.keys()
    assert set(TWO_SESSIONS.values()) <= {fault.name for fault in test_two_sessions.FAULTS}


def test_findings_replace_what_was_claimed_and_lose_nothing(tmp_path: Path) -> None:
    """A search that finds less than the one before takes nothing away."""
    file = tmp_path / "claims.json"
    seen = {"seed": 3, "small": True, "rules": ["S6"]}
    file.write_text(json.dumps({"old": {"test": "a", "examples": 7}, "bug": {"simulation": seen}}))
    found = {"seed": 1, "small": False, "rule": "S17", "steps": 12}

    claims.write({"bug": {"contract": {"test": "b"}, "simulation": found}, "old": {}}, file)

    simulation = {"seed": 1, "small": False, "rules": ["S6", "S17"]}
    assert json.loads(file.read_text()) == {
        "old": {"test": "a", "examples": 7},
        "bug": {"test": "b", "simulation": simulation},
    }


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_taken_back(name: str) -> None:
    """No test after this one meets it; while it is planted, what it changes is changed."""
    before = [found(change) for change in BUGS[name].changes]

    with BUGS[name].planted():
        during = [found(change) for change in BUGS[name].changes]
    after = [found(change) for change in BUGS[name].changes]

    assert before == after
    assert all(spoilt != original for spoilt, original in zip(during, before, strict=True))


def found(change: Change) -> object:
    """Return what stands where a change is made."""
    match change:
        case Edit(function):
            return id(plain(function).__code__)
        case Swap(module, name):
            return getattr(module, name)
        case Entry(table, key):
            return table.get(key)


def test_a_bug_without_a_place_is_no_bug() -> None:
    """When the code moves on, its bugs have to follow."""
    lost = bug("lost", "", Edit(lifecycle.advance, "nowhere to be found", ""), breaks="")

    with pytest.raises(AssertionError, match="advance has 0 times"), lost.planted():
        pass
