"""In what order a tenant's own jobs go, by example."""

import pytest

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.scheduling import (
    in_tenant_order,
)
from tests.unit.domain.builders import NOW
from tests.unit.domain.candidates import (
    numbers,
    run_select,
    waiting,
)

# --- Order within a tenant -------------------------------------------------------------------


def test_inside_a_tenant_priority_goes_before_deadline_before_id() -> None:
    """Of jobs that are equally urgent: a higher priority, an earlier deadline, the older job."""
    selection = run_select(
        waiting(5, deadline=110),
        waiting(4, deadline=110),
        waiting(3, deadline=105),
        waiting(2, deadline=199, priority=1),
        waiting(1, deadline=101, priority=-1),
        waiting(6, deadline=101, priority=-2),
        slots=5,
    )

    assert numbers(selection.chosen) == [2, 3, 4, 5, 1]


def test_what_presses_goes_before_a_higher_priority() -> None:
    """No priority makes a tenant miss its own deadlines."""
    selection = run_select(
        waiting(1, deadline=50, priority=9),
        waiting(2, deadline=20, priority=5),
        waiting(3, deadline=5),
        waiting(4, deadline=90, priority=9),
        slots=3,
    )

    assert numbers(selection.chosen) == [3, 2, 1]


def test_a_job_presses_when_half_of_its_tolerance_is_used_up() -> None:
    """Not a second before."""
    selection = run_select(
        waiting(1, deadline=51, tolerance=100, priority=9),
        waiting(2, deadline=50, tolerance=100),
    )

    assert numbers(selection.chosen) == [2]


def test_a_job_is_critical_when_its_deadline_is_ten_seconds_away() -> None:
    """Whatever its tolerance; a tenth of a second earlier it only presses."""
    selection = run_select(
        waiting(1, deadline=10.1, tolerance=60, priority=9),
        waiting(2, deadline=10, tolerance=0),
    )

    assert numbers(selection.chosen) == [2]


def test_of_what_is_critical_shorter_kinds_go_first() -> None:
    """More of it starts in time; within a tenant as between tenants."""
    jobs = [
        waiting(1, "acme", deadline=5, type="film"),
        waiting(2, "acme", deadline=8, type="mail"),
        waiting(3, "bolt", deadline=4, type="film"),
    ]

    selection = run_select(*jobs, slots=2, seconds={"film": 30, "mail": 1})

    assert numbers(selection.chosen) == [2, 3]


def test_kinds_of_about_the_same_length_go_by_deadline() -> None:
    """What differs by less than a power of two is equally long."""
    selection = run_select(
        waiting(1, deadline=8, type="short"),
        waiting(2, deadline=5, type="long"),
        seconds={"short": 1.1, "long": 1.9},
    )

    assert numbers(selection.chosen) == [2]


def test_how_long_a_job_runs_does_not_matter_before_it_is_critical() -> None:
    """The earlier deadline goes first."""
    selection = run_select(
        waiting(1, "acme", deadline=20, type="film"),
        waiting(2, "bolt", deadline=21, type="mail"),
        seconds={"film": 30, "mail": 1},
    )

    assert numbers(selection.chosen) == [1]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (LatePolicy.RUN, [5, 4, 1, 3, 2]),
        (LatePolicy.EXPIRE, [5, 4, 1, 3, 2]),
        (LatePolicy.SIDELINE, [5, 1, 3, 2, 4]),
    ],
)
def test_a_store_shows_a_tenants_jobs_in_order(policy: LatePolicy, expected: list[int]) -> None:
    """Priority, deadline, id; under `sideline` what is late comes last."""
    jobs = [
        waiting(3, deadline=30),
        waiting(2, deadline=40),
        waiting(1, deadline=30),
        waiting(4, deadline=-1),
        waiting(5, deadline=99, priority=1),
    ]

    assert numbers(in_tenant_order(jobs, policy, NOW)) == expected
