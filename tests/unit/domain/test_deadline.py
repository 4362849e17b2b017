"""Deadlines are start-by times."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis.strategies import timedeltas

from async_jobs.domain.deadline import (
    TOLERANCES_MAX,
    LatePolicy,
    deadline_of,
    is_late,
    lateness,
    tolerance_used,
)
from tests.unit.domain.builders import NOW, after


def test_the_deadline_is_run_at_plus_the_tolerance() -> None:
    """A job may start as late as its tolerance says."""
    assert deadline_of(NOW, timedelta(seconds=30)) == after(30)


def test_without_tolerance_the_deadline_is_run_at() -> None:
    """A tolerance of zero asks for a start at once."""
    assert deadline_of(NOW, timedelta(0)) == NOW


@pytest.mark.parametrize(
    ("start_seconds", "late"), [(29.999999, False), (30, False), (30.000001, True)]
)
def test_a_start_is_late_only_after_the_deadline(start_seconds: float, late: bool) -> None:
    """The deadline itself is on time, to the microsecond."""
    assert is_late(after(30), after(start_seconds)) is late


@pytest.mark.parametrize(("start_seconds", "expected"), [(42, 12), (30, 0), (20, -10)])
def test_lateness_is_negative_for_a_start_before_the_deadline(
    start_seconds: float, expected: float
) -> None:
    """Lateness counts from the deadline, in both directions."""
    assert lateness(after(30), after(start_seconds)) == timedelta(seconds=expected)


def test_the_late_policies() -> None:
    """A use case runs, sidelines or expires its late jobs."""
    assert [policy.value for policy in LatePolicy] == ["run", "sideline", "expire"]


@pytest.mark.parametrize(
    ("tolerance", "waited", "used"),
    [
        (30, 15, 0.5),
        (30, 30, 1.0),
        (30, -3, 0.0),
        (0, 0, 0.0),
        (0, 0.000001, TOLERANCES_MAX),
        (0.001, 86_400, TOLERANCES_MAX),
    ],
)
def test_a_start_uses_a_share_of_its_tolerance(
    tolerance: float, waited: float, used: float
) -> None:
    """One is the deadline itself; without a tolerance nothing is between none and all of it."""
    assert tolerance_used(NOW, after(tolerance), after(waited)) == used


@given(
    tolerance=timedeltas(min_value=timedelta(0), max_value=timedelta(days=30)),
    waited=timedeltas(min_value=timedelta(0), max_value=timedelta(days=400)),
)
def test_only_a_late_start_uses_more_than_its_tolerance(
    tolerance: timedelta, waited: timedelta
) -> None:
    """To the microsecond, however long both are."""
    deadline, start = NOW + tolerance, NOW + waited

    assert (tolerance_used(NOW, deadline, start) > 1) is is_late(deadline, start)


def test_a_microsecond_too_late_is_seen_in_thirty_days() -> None:
    """The longest tolerance there is."""
    month, instant = timedelta(days=30), timedelta(microseconds=1)

    assert tolerance_used(NOW, NOW + month, NOW + month + instant) > 1
