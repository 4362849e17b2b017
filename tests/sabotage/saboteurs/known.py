"""The saboteurs that there are, and what became of them when the contracts met them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from tests.sabotage.saboteurs import in_memory, on_postgres
from tests.sabotage.saboteurs.on_postgres import Spoiled

ROOT = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("tally.py")


class Saboteur(NamedTuple):
    """An adapter that breaks a promise.

    Attributes:
        name: what it is called in tests.
        what: what it does, in a sentence.
        breaks: the promise; "" for none, as of the layer that the others are made of.
    """

    name: str
    what: str
    breaks: str


def _saboteurs_in(module: ModuleType) -> dict[str, Saboteur]:
    classes = {name: each for name, each in vars(module).items() if name.startswith("Test")}
    found = {}
    for test_class, bound in classes.items():
        name, each = test_class.removeprefix("Test"), bound.saboteur
        found[name] = Saboteur(name, _sentence_of(each), each.breaks)
    return found


def _sentence_of(saboteur: Spoiled | type) -> str:
    if isinstance(saboteur, Spoiled):
        before, after = (" ".join(text.split()) for text in (saboteur.what, saboteur.instead))
        becomes = f"`{after}` stands for" if after else "Without"
        return f"`{saboteur.statement}.sql`: {becomes} `{before}`."
    return (saboteur.__doc__ or "").partition("\n")[0]


IN_MEMORY = _saboteurs_in(in_memory)
ON_POSTGRES = _saboteurs_in(on_postgres)


class Outcome(NamedTuple):
    """What became of the saboteurs of a module: the first test each failed, how many passed."""

    failed: dict[str, str]
    passed: dict[str, int]
    output: str

    def is_caught(self, name: str) -> bool:
        """Tell whether a test of the promise that it breaks turned red, and not its setup."""
        return self.failed.get(name, "nothing").endswith("(call)")


def outcome_in_memory() -> Outcome:
    """Run the contracts against all saboteurs in memory."""
    return _outcome_of(in_memory)


def outcome_on_postgres() -> Outcome:
    """Run the contracts against all spoiled statements, on the server of the environment."""
    return _outcome_of(on_postgres)


def _outcome_of(module: ModuleType) -> Outcome:
    ran = subprocess.run(
        [sys.executable, str(PROGRAM), str(module.__file__)],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return Outcome(**json.loads(ran.stdout.splitlines()[-1]), output=ran.stdout)
