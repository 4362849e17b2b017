"""What an unreadable row holds once it is set aside."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from async_jobs.domain.crashes import CRASHES_MAX
from async_jobs.domain.unreadable import Aside, aside
from async_jobs.testing.builders import later

MINUTE = timedelta(minutes=1)


def set_aside(**changes: Any) -> Aside:
    """Set aside a row whose second attempt of five was under way."""
    row = {
        "claimed": True,
        "attempts": 2,
        "max_attempts": 5,
        "crashes": 0,
        "dispatches": 0,
        "delay_tolerance": MINUTE,
    }
    return aside(**{**row, **changes}, until=later(300))


def test_a_crash_is_charged_and_no_attempt() -> None:
    """As when a job that can be read is reaped; and it is on time again, as long as it may be."""
    assert set_aside() == Aside(attempts=1, crashes=1, dispatches=0, deadline_at=later(360))


def test_a_lease_that_nobody_claimed_is_counted() -> None:
    """As when a job that can be read is reaped."""
    aside = set_aside(claimed=False, attempts=1, crashes=1, dispatches=3)

    assert aside == Aside(attempts=1, crashes=1, dispatches=4, deadline_at=later(360))


@pytest.mark.parametrize(
    ("attempts", "max_attempts", "left"), [(4, 5, 3), (5, 5, 4), (1, 1, 0), (9, 5, 4), (1, 0, 0)]
)
def test_there_is_always_an_attempt_left(attempts: int, max_attempts: int, left: int) -> None:
    """The row lives on, and may be mended; whatever the damage, no attempt is too many."""
    assert set_aside(attempts=attempts, max_attempts=max_attempts).attempts == left


@pytest.mark.parametrize(
    ("crashes", "counted"),
    [(0, 1), (CRASHES_MAX - 2, CRASHES_MAX - 1), (CRASHES_MAX - 1, CRASHES_MAX - 1), (99, 4)],
)
def test_no_crash_is_the_last_one(crashes: int, counted: int) -> None:
    """It would have ended a job that can be read."""
    assert set_aside(crashes=crashes).crashes == counted


@pytest.mark.parametrize("tolerance", [timedelta.max, timedelta.min])
def test_a_damaged_tolerance_stops_nobody(tolerance: timedelta) -> None:
    """The calendar ends before such a deadline."""
    assert set_aside(delay_tolerance=tolerance).deadline_at == later(300)
