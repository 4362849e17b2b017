"""The outlook of one job: what is needed until its deadline, against what the slots can start."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.outlook import Counted, Demand, Outlook, Slots, foresee, together
from async_jobs.testing.builders import later
from async_jobs.testing.clocks import NOW


def a_demand(ahead: int = 0, slots: int = 10, busy: int = 10, *, at_least: bool = False) -> Demand:
    """Return what stands before a job, and its slots: all busy."""
    return Demand(Counted(ahead, at_least), Slots(slots, busy))


def foreseen(
    *demands: Demand, left: float = 60.0, due_in: float = 0.0, run_seconds: float = 1.0
) -> Outlook:
    """Return the outlook of a job that has so many seconds until its deadline."""
    return foresee(
        demands or (a_demand(),),
        now=NOW,
        run_at=later(due_in),
        deadline_at=later(left),
        run_seconds=run_seconds,
    )


def test_what_is_needed_is_held_against_what_can_be_started() -> None:
    """With 599 ahead and a minute left, ten starts a second are needed, and can be made."""
    assert foreseen(a_demand(599)) == Outlook(
        ahead=599,
        required_rate=10.0,
        capacity_rate=10.0,
        expected_start_in_seconds=60.0,
        can_be_met=True,
    )


def test_one_job_more_is_too_many() -> None:
    """And it is told by how much it would be late."""
    outlook = foreseen(a_demand(600))

    assert not outlook.can_be_met
    assert outlook.expected_start_in_seconds == pytest.approx(60.1)


def test_longer_jobs_leave_room_for_fewer() -> None:
    """Slots that are held for ten seconds start a tenth."""
    outlook = foreseen(a_demand(599), run_seconds=10)

    assert (outlook.capacity_rate, outlook.can_be_met) == (1.0, False)


def test_an_idle_slot_takes_a_job_at_once() -> None:
    """However long jobs run, and however short the tolerance is."""
    idle = foreseen(a_demand(0, busy=9), left=1, run_seconds=3_600)
    taken = foreseen(a_demand(1, busy=9), left=1, run_seconds=3_600)

    assert (idle.can_be_met, idle.required_rate, idle.expected_start_in_seconds) == (True, 0, 0)
    assert not taken.can_be_met


@pytest.mark.parametrize("left", [0, -5])
def test_no_time_left_can_never_be_met(left: float) -> None:
    """Not by idle slots either: a start takes time."""
    outlook = foreseen(a_demand(busy=0), left=left)

    assert (outlook.required_rate, outlook.can_be_met) == (math.inf, False)


def test_without_slots_nothing_starts() -> None:
    """While no worker is alive, or the use case is paused."""
    outlook = foreseen(a_demand(slots=0, busy=0))

    assert outlook.expected_start_in_seconds is None
    assert (outlook.capacity_rate, outlook.can_be_met) == (0.0, False)


def test_a_job_for_later_starts_no_earlier() -> None:
    """Until then, what is ahead of it starts."""
    outlook = foreseen(a_demand(99), due_in=3_600, left=3_660)

    assert (outlook.expected_start_in_seconds, outlook.can_be_met) == (3_600, True)


def test_the_scarcer_of_several_demands_decides() -> None:
    """A use case of one slot is not helped by a hundred of the pool, nor the other way round."""
    pool, own = a_demand(99, slots=100, busy=100), a_demand(99, slots=1, busy=1)

    assert foreseen(pool, own) == foreseen(own, pool) == foreseen(own)
    assert foreseen(pool).can_be_met
    assert not foreseen(own).can_be_met


def test_what_was_not_counted_to_the_end_says_so() -> None:
    """Together with others too."""
    assert foreseen(a_demand(5, at_least=True)).at_least
    assert not foreseen(a_demand(5)).at_least
    assert together([Counted(5, at_least=True), Counted(2)]) == Counted(7, at_least=True)
    assert together([]) == Counted(0)


@given(
    ahead=st.integers(0, 10_000),
    slots=st.integers(0, 100),
    busy=st.integers(0, 120),
    left=st.floats(-10, 1e6),
    run_seconds=st.floats(0, 1e5),
)
def test_whoever_waits_behind_more_starts_no_earlier(
    ahead: int, slots: int, busy: int, left: float, run_seconds: float
) -> None:
    """And what can be met with more ahead, with fewer slots or less time, can be met anyway."""
    outlook = foreseen(a_demand(ahead, slots, busy), left=left, run_seconds=run_seconds)
    easier = (
        foreseen(a_demand(max(0, ahead - 1), slots, busy), left=left, run_seconds=run_seconds),
        foreseen(a_demand(ahead, slots + 1, busy), left=left, run_seconds=run_seconds),
        foreseen(a_demand(ahead, slots, busy), left=left + 1, run_seconds=run_seconds),
    )

    assert outlook.can_be_met == (slots > 0 and outlook.required_rate <= outlook.capacity_rate)
    for each in easier:
        assert each.can_be_met >= outlook.can_be_met
        assert each.required_rate <= outlook.required_rate
