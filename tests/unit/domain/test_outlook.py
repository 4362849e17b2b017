"""The outlook of one job: what is needed until its deadline, against what the slots can start."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.outlook import (
    CATCH_UP_SECONDS,
    NEAR_SECONDS,
    Counted,
    Demand,
    Due,
    Outlook,
    Slots,
    demand_bound,
    dues,
    foresee,
    together,
)
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


# --- all that waits -----------------------------------------------------------------------------


def needed(*lefts: float, idle: int = 0, late_policy: LatePolicy = LatePolicy.RUN) -> float:
    """Return the starts per second that jobs need which have so many seconds left."""
    wanted = dues([later(left) for left in lefts], now=NOW, late_policy=late_policy)
    return demand_bound(wanted, idle)


def test_the_deadline_that_presses_most_decides() -> None:
    """Three by the tenth second are less than six by the fifteenth."""
    assert needed(10, 10, 10, 15, 15, 15, 100) == 6 / 15
    assert needed(5, 10, 10, 15) == 3 / 10
    assert needed() == 0


def test_idle_slots_start_the_first_jobs_at_once() -> None:
    """What is left to start needs a rate; where nothing is left none is needed."""
    assert needed(2, 2, 4, idle=2) == 1 / 4
    assert needed(2, 2, idle=2) == 0


def test_what_is_to_start_this_moment_has_a_second() -> None:
    """Else a job without any tolerance would ask for everything there is."""
    assert needed(0) == needed(NEAR_SECONDS / 1_000) == 1 / NEAR_SECONDS


@pytest.mark.parametrize(
    ("late_policy", "late_alone", "beside_others"),
    [
        (LatePolicy.RUN, 3 / CATCH_UP_SECONDS, 5 / 10),
        (LatePolicy.SIDELINE, 3 / CATCH_UP_SECONDS, 2 / 10),
        (LatePolicy.EXPIRE, 0, 2 / 10),
    ],
)
def test_what_is_late_is_wanted_within_a_minute(
    late_policy: LatePolicy, late_alone: float, beside_others: float
) -> None:
    """Before what presses or behind it, or never, as its use case has it."""
    assert needed(-1, -1, -500, late_policy=late_policy) == late_alone
    assert needed(-1, -1, -500, 10, 10, late_policy=late_policy) == beside_others


def test_a_sideline_that_is_long_needs_more_than_what_presses() -> None:
    """The last of the late ones is wanted within a minute like the first."""
    assert needed(*[-1.0] * 118, 10, 10, late_policy=LatePolicy.SIDELINE) == 2


lefts_of_jobs = st.lists(st.integers(1, 200), max_size=12)


@given(lefts=lefts_of_jobs, idle=st.integers(0, 4))
def test_the_bound_is_what_a_look_at_every_deadline_finds(lefts: list[int], idle: int) -> None:
    """Exactly: at each of them, what has to start until then, by the time until then."""
    at_each = [max(0, sum(each <= left for each in lefts) - idle) / left for left in lefts]

    assert needed(*lefts, idle=idle) == max(at_each, default=0)


@given(lefts=lefts_of_jobs, idle=st.integers(0, 4), weight=st.sampled_from([0.5, 2.0, 8.0]))
def test_slots_are_needed_for_as_long_as_jobs_run(
    lefts: list[int], idle: int, weight: float
) -> None:
    """Twice the run time, twice the slots."""
    wanted: list[Due] = [(left, left, weight) for left in lefts]

    assert demand_bound(wanted, idle) == weight * needed(*lefts, idle=idle)


@given(lefts=lefts_of_jobs, slots=st.integers(1, 4), ticks=st.integers(1, 20))
def test_above_the_capacity_misses_are_certain(lefts: list[int], slots: int, ticks: int) -> None:
    """Busy slots that end a job every so many seconds, on the first deadline: some job is late."""
    starts = sorted(tick * ticks for tick in range(1, len(lefts) + 1) for _ in range(slots))
    in_time = all(at <= left for at, left in zip(starts, sorted(lefts), strict=False))

    assert not in_time or needed(*lefts) <= slots / ticks


@given(ahead=st.integers(0, 50), left=st.integers(1, 100), idle=st.integers(0, 9))
def test_one_job_and_all_jobs_are_reckoned_alike(ahead: int, left: int, idle: int) -> None:
    """A job behind others that have the same deadline needs what they need together."""
    outlook = foreseen(a_demand(ahead, slots=9, busy=9 - idle), left=left)

    assert outlook.required_rate == needed(*[left] * (ahead + 1), idle=idle)
