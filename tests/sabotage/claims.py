"""Which catcher is claimed to catch which bug; `claims.json` says it.

`python -m tests.sabotage --write` writes it: for each bug the first test that turns red, the first
simulation that shows it, and the lives that the machine took.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

FILE = Path(__file__).with_name("claims.json")
Claims: TypeAlias = Mapping[str, Mapping[str, Any]]
_CLAIMS: Claims = json.loads(FILE.read_text(encoding="utf-8"))


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


def with_findings(claims: Claims, bug: str, found: Mapping[str, Mapping[str, Any]]) -> Claims:
    """Return the claims, with what catchers found of a bug; what none found again is kept.

    Nothing is lost by a search that is shorter than the one before: a claim that does not hold any
    more makes its own test fail.

    Args:
        claims: as they are in the file.
        bug: its name.
        found: what each catcher that caught it found, by the name of the catcher.
    """
    claim = dict(claims.get(bug, {}))
    if test := found.get("unit") or found.get("contract"):
        claim["test"] = test["test"]
    if seen := found.get("simulation"):
        rules = {*claim.get("simulation", {}).get("rules", ()), seen["rule"]}
        claim["simulation"] = {
            "seed": seen["seed"],
            "small": seen["small"],
            "rules": sorted(rules, key=lambda rule: (rule[0], int(rule[1:]))),
        }
    if lives := found.get("differential"):
        claim["examples"] = lives["examples"]
    return {**claims, bug: claim}


def write(findings: Mapping[str, Mapping[str, Mapping[str, Any]]], file: Path = FILE) -> None:
    """Write what catchers found of bugs; claims of other bugs stay."""
    claims: Claims = json.loads(file.read_text(encoding="utf-8"))
    for bug, found in findings.items():
        claims = with_findings(claims, bug, found)
    file.write_text(json.dumps(claims, indent=1) + "\n", encoding="utf-8")
