"""Deadlines are start-by times."""

from datetime import timedelta

import pytest

from async_jobs.domain.deadline import LatePolicy, deadline_of, is_late, lateness
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
