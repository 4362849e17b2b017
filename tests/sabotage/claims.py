"""Which catcher is claimed to catch which bug; `claims.json` says it.

What `python -m tests.sabotage --json` prints is where it comes from: for each bug the first test
that turns red, the first simulation that shows it, and the lives that the machine took.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

_CLAIMS = json.loads(Path(__file__).with_name("claims.json").read_text(encoding="utf-8"))


class Seen(NamedTuple):
    """The simulation that shows a bug: the seed of its plan, and which rule may be seen broken.

    `small` is the short storm of the seed, else it is the whole one.
    """

    seed: int
    small: bool
    rules: tuple[str, ...]


TESTS: dict[str, str] = {name: each["test"] for name, each in _CLAIMS.items() if "test" in each}
"""A test of the contracts or a unit test that turns red."""

SIMULATION: dict[str, Seen] = {
    name: Seen(**{**each["simulation"], "rules": tuple(each["simulation"]["rules"])})
    for name, each in _CLAIMS.items()
    if "simulation" in each
}

DIFFERENTIAL: dict[str, int] = {
    name: each["examples"] for name, each in _CLAIMS.items() if "examples" in each
}
"""Within how many lives of the machine the spoiled store differs from a dict."""

TWO_SESSIONS: dict[str, str] = {
    "turn_without_its_lock": "no_turn",
    "count_in_the_locks_statement": "old_count",
    "quota_without_its_lock": "no_lock_of_tenants",
    "fence_without_the_number": "no_fence",
    "fence_without_the_phase": "no_phase",
}
"""The faults of Postgres in `test_two_sessions.py` that are these bugs, by name."""
