"""The contracts are worth something: broken on purpose, an adapter turns them red."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from tests import services
from tests.sabotage.saboteurs import in_memory as memory
from tests.sabotage.saboteurs import on_postgres as postgres

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("saboteurs") / "tally.py"


def saboteurs_in(module: ModuleType) -> dict[str, str]:
    """Return which promise each test class of a module breaks, "" for none."""
    classes = {name: each for name, each in vars(module).items() if name.startswith("Test")}
    return {name.removeprefix("Test"): each.saboteur.breaks for name, each in classes.items()}


IN_MEMORY = saboteurs_in(memory)
ON_POSTGRES = saboteurs_in(postgres)
MALICIOUS = sorted(name for name, promise in IN_MEMORY.items() if promise)
HONEST = sorted(IN_MEMORY.keys() - set(MALICIOUS))


class Outcome(NamedTuple):
    """What became of the saboteurs of a module: the first test each failed, how many passed."""

    failed: dict[str, str]
    passed: dict[str, int]
    output: str


def outcome_of(module: ModuleType, **environment: str) -> Outcome:
    """Run the contracts against all saboteurs of a module."""
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), str(module.__file__)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return Outcome(**json.loads(ran.stdout.splitlines()[-1]), output=ran.stdout)


@pytest.fixture(scope="module")
def in_memory() -> Outcome:
    return outcome_of(memory)


@pytest.fixture(scope="module")
def on_postgres(postgres_dsn: str) -> Outcome:
    return outcome_of(postgres, **{services.DSN_VARIABLE: postgres_dsn})


@pytest.mark.parametrize("saboteur", MALICIOUS)
def test_a_saboteur_in_memory_turns_the_suite_red(in_memory: Outcome, saboteur: str) -> None:
    """And it is a test of the very promise that was broken which says so, not its setup."""
    assert in_memory.failed.get(saboteur, "nothing").endswith("(call)"), in_memory.output


@pytest.mark.parametrize("saboteur", sorted(ON_POSTGRES))
def test_a_spoiled_statement_turns_the_suite_red(on_postgres: Outcome, saboteur: str) -> None:
    """A condition left out of the SQL does not go unnoticed."""
    assert on_postgres.failed.get(saboteur, "nothing").endswith("(call)"), on_postgres.output


@pytest.mark.parametrize("name", HONEST)
def test_without_sabotage_the_suite_is_green(in_memory: Outcome, name: str) -> None:
    """The layer that the saboteurs are made of breaks nothing by itself."""
    assert name not in in_memory.failed
    assert in_memory.passed[name] > 50


def test_every_promise_of_the_store_and_the_queue_is_broken_once() -> None:
    """No promise is taken on trust."""
    broken = set(IN_MEMORY.values()) - {""}

    promises = {"JS": 21, "JQ": 9, "AQ": 5}
    assert broken == {f"{port}-{i}" for port, n in promises.items() for i in range(1, n + 1)}
