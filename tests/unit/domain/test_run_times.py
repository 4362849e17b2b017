"""Mean run times: what ran lately counts, and what is kept has a bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.run_times import TYPES_MAX, RunTimes

SECONDS = st.floats(0, 1e6)


def test_nothing_is_known_at_first() -> None:
    """Of no type."""
    assert RunTimes().means == {}


def test_the_first_attempt_is_the_mean() -> None:
    """Each type has its own."""
    times = RunTimes()

    times.observe("send_email", 2)
    times.observe("report", 60)

    assert times.means == {"send_email": 2, "report": 60}


def test_the_newest_attempt_counts_a_sixteenth() -> None:
    """The others keep the rest."""
    times = RunTimes()

    times.observe("send_email", 16)
    times.observe("send_email", 32)

    assert times.means == {"send_email": 17}


def test_the_mean_follows_what_changes() -> None:
    """After some seventy attempts hardly anything is left of those before."""
    times = RunTimes()
    times.observe("send_email", 100)

    for _ in range(72):
        times.observe("send_email", 1)

    assert times.means["send_email"] == pytest.approx(1, abs=1)


@given(st.lists(SECONDS, min_size=1, max_size=100))
def test_the_mean_lies_between_the_shortest_and_the_longest(runs: list[float]) -> None:
    """Whatever their order."""
    times = RunTimes()

    for seconds in runs:
        times.observe("send_email", seconds)

    mean = times.means["send_email"]
    assert min(runs) * (1 - 1e-9) <= mean <= max(runs) * (1 + 1e-9)


def test_types_that_were_not_seen_for_long_are_forgotten() -> None:
    """256 are kept: those that were seen last, not those that came last."""
    times = RunTimes()
    for number in range(TYPES_MAX):
        times.observe(f"type {number}", number)

    times.observe("type 0", 0)
    times.observe("one more", 1)

    assert len(times.means) == TYPES_MAX
    assert "type 1" not in times.means
    assert times.means["type 0"] == 0


def test_what_is_returned_stays_as_it_is() -> None:
    """It is told to others while attempts go on."""
    times = RunTimes()
    times.observe("send_email", 1)
    told = times.means

    times.observe("send_email", 100)

    assert told == {"send_email": 1}


def test_what_several_workers_tell_is_averaged() -> None:
    """Over those that know the type."""
    told = [{"send_email": 1.0, "report": 60.0}, {"send_email": 3.0}, {}]

    assert RunTimes.merged(told) == {"send_email": 2, "report": 60}
    assert RunTimes.merged([]) == {}


@given(st.dictionaries(st.text(max_size=3), SECONDS))
def test_a_single_worker_is_believed(means: dict[str, float]) -> None:
    """Word for word."""
    assert RunTimes.merged([means]) == means
