"""The contracts are worth something: broken on purpose, an adapter turns them red."""

from __future__ import annotations

import pytest

from tests.kit import services
from tests.sabotage.saboteurs.known import (
    IN_MEMORY,
    ON_POSTGRES,
    Outcome,
    outcome_in_memory,
    outcome_on_postgres,
)

MALICIOUS = sorted(name for name, saboteur in IN_MEMORY.items() if saboteur.breaks)
HONEST = sorted(IN_MEMORY.keys() - set(MALICIOUS))


@pytest.fixture(scope="module")
def in_memory() -> Outcome:
    return outcome_in_memory()


@pytest.fixture(scope="module")
def on_postgres(postgres_dsn: str) -> Outcome:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(services.DSN_VARIABLE, postgres_dsn)
        return outcome_on_postgres()


@pytest.mark.parametrize("saboteur", MALICIOUS)
def test_a_saboteur_in_memory_turns_the_suite_red(in_memory: Outcome, saboteur: str) -> None:
    """And it is a test of the very promise that was broken which says so, not its setup."""
    assert in_memory.is_caught(saboteur), in_memory.output


@pytest.mark.parametrize("saboteur", sorted(ON_POSTGRES))
def test_a_spoiled_statement_turns_the_suite_red(on_postgres: Outcome, saboteur: str) -> None:
    """A condition left out of the SQL does not go unnoticed."""
    assert on_postgres.is_caught(saboteur), on_postgres.output


@pytest.mark.parametrize("name", HONEST)
def test_without_sabotage_the_suite_is_green(in_memory: Outcome, name: str) -> None:
    """The layer that the saboteurs are made of breaks nothing by itself."""
    assert name not in in_memory.failed
    assert in_memory.passed[name] > 50


def test_every_promise_of_the_store_and_the_queue_is_broken_once() -> None:
    """No promise is taken on trust."""
    broken = {saboteur.breaks for saboteur in IN_MEMORY.values()} - {""}

    promises = {"JS": 11, "LS": 8, "UP": 5, "JQ": 9, "OB": 5}
    assert broken == {f"{port}-{i}" for port, n in promises.items() for i in range(1, n + 1)}


def test_every_saboteur_says_what_it_does() -> None:
    """The page lists it by that."""
    saboteurs = [*IN_MEMORY.values(), *ON_POSTGRES.values()]

    assert [each.name for each in saboteurs if not each.what.endswith(".")] == []
