"""The order in which tests are run: the longest first, dealt evenly among the processes.

pytest-xdist cuts the list of tests into as many parts as there are processes. A process that has
nothing left steals from the end of another's part, but neither the test under way nor the next
one. Where two long tests stand last, the other processes therefore wait for both of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from typing import TypeVar

T = TypeVar("T")

LONG_SECONDS = {
    "tests/api/test_api_fuzz.py::test_every_answer_is_described_on_postgres_too": 19,
    "tests/kills/test_kills.py::test_faults_of_the_database_break_no_promise": 56,
    "tests/kills/test_kills.py::test_kills_break_no_promise": 29,
    "tests/kills/test_kills.py::test_kills_break_no_promise_on_sqs": 36,
    "tests/postgres/test_growth.py::test_a_day_on_postgres_leaves_nothing_behind": 17,
    "tests/postgres/test_plans.py": 25,
    "tests/programs/test_quick_start.py::test_the_quick_start_works": 18,
    "tests/sabotage/test_saboteurs_are_caught.py": 75,
    "tests/simulation/test_simulation.py::"
    "test_a_broken_rule_is_told_with_the_command_that_replays_it": 19,
    "tests/simulation/test_simulation.py::test_every_rule_holds_on_lanes_beside_the_jobs": 50,
    "tests/simulation/test_simulation.py::test_every_rule_holds_whatever_goes_wrong": 50,
    "tests/simulation/test_simulation.py::test_every_rule_holds_where_the_rare_is_common": 28,
}
"""How long a test takes, roughly; for a file that shares a costly fixture, the whole file."""


def dealt(names: Sequence[str], items: Sequence[T], processes: int) -> list[T]:
    """Return tests in an order whose equal parts each begin with their share of the long ones.

    Args:
        names: the ids of the tests, in the order of pytest.
        items: the tests themselves.
        processes: into how many parts the list will be cut.
    """
    named = list(zip(names, items, strict=True))
    long = [each for each in named if _seconds(each[0])]
    groups = [list(group) for _, group in groupby(long, key=lambda each: _kept_together(each[0]))]
    groups.sort(key=lambda group: -_seconds(group[0][0]))
    hands: list[list[T]] = [[] for _ in range(processes)]
    load = [0] * processes
    for group in groups:
        least = load.index(min(load))
        load[least] += _seconds(group[0][0])
        hands[least] += [item for _, item in group]
    short = iter([item for name, item in named if not _seconds(name)])
    order: list[T] = []
    for part, hand in enumerate(hands):
        size = (len(named) - len(order)) // (processes - part)
        order += hand
        order += [item for _, item in zip(range(size - len(hand)), short, strict=False)]
    return [*order, *short]


def processes() -> int:
    """Return how many processes share the tests."""
    return int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def _kept_together(name: str) -> str:
    file = name.split("::", maxsplit=1)[0]
    return file if file in LONG_SECONDS else name


def _seconds(name: str) -> int:
    return LONG_SECONDS.get(name.split("::", maxsplit=1)[0], 0) or LONG_SECONDS.get(
        name.split("[", maxsplit=1)[0], 0
    )
