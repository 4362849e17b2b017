"""Slow statements: told by name, seldom, and without what they were sent with."""

from __future__ import annotations

from typing import Any

import pytest
from asyncpg.connection import LoggedQuery

from async_jobs.adapters.postgres.slow import TOLD_AGAIN_SECONDS, SlowStatements, name_of
from async_jobs.adapters.postgres.statements import sql, statements
from async_jobs.testing.clocks import ManualClock


def a_query(seconds: float, query: str = " /*get_jobs*/\nSELECT $1") -> LoggedQuery:
    told: dict[str, Any] = dict.fromkeys(LoggedQuery._fields)
    return LoggedQuery(**told | {"query": query, "args": ("hunter2",), "elapsed": seconds})


@pytest.mark.parametrize("name", sorted(statements()))
def test_a_statement_is_called_like_its_file(name: str) -> None:
    """Each of them."""
    assert name_of(sql(name)) == name


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("BEGIN;", "BEGIN"),
        ("COMMIT;", "COMMIT"),
        ("SELECT 'hunter2' /*get_jobs*/", "unnamed"),
        ("", "unnamed"),
    ],
)
def test_what_has_no_file_is_not_quoted(statement: str, name: str) -> None:
    """It may be an application's."""
    assert name_of(statement) == name


def test_each_slow_statement_is_told_of_now_and_then() -> None:
    """With the longest time, and how often; each by itself, and a quick one never."""
    clock = ManualClock()
    told: list[tuple[str, float, int]] = []
    slow = SlowStatements(1.0, lambda *each: told.append(each), clock=clock)

    for seconds in (0.9, 1.0, 5.0, 2.0):
        slow(a_query(seconds))
    slow(a_query(3.0, "COMMIT;"))
    clock.advance(TOLD_AGAIN_SECONDS)
    slow(a_query(0.1))
    slow(a_query(1.5))

    assert told == [("get_jobs", 1.0, 1), ("COMMIT", 3.0, 1), ("get_jobs", 5.0, 3)]
