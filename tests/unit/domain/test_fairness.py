"""What each tenant has had: contests, how one stands in them, and what a scheduler remembers."""

from __future__ import annotations

import json
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.fairness import (
    GAP_MAX,
    STARTS_BETWEEN_LATE,
    Contest,
    ServiceMemory,
    standing,
    virtual,
)
from async_jobs.domain.limits import TenantQuota
from tests.unit.domain.builders import NOW, after
from tests.unit.domain.candidates import contest_of

HEAVY = {"acme": TenantQuota(weight=2), "bolt": TenantQuota(weight=0.1)}


# --- Contest -------------------------------------------------------------------------------------


def test_a_newcomer_stands_on_the_floor() -> None:
    """Where the one with the least stands."""
    contest = Contest(floor=7, times={"acme": 9}, waiting={"acme"})

    assert (contest.time_of("acme"), contest.time_of("newcomer")) == (9, 7)


def test_what_ran_since_the_last_turn_is_charged() -> None:
    """Slots × time, in microseconds, while anybody waits."""
    contest = contest_of(acme=0, bolt=1)
    contest.observe({"acme": 3, "core": 1}, NOW, {})

    contest.observe({}, after(2), {})

    assert contest.times == {"acme": 6_000_000, "bolt": 1_000_000, "core": 2_000_000}


def test_service_counts_by_weight() -> None:
    """A tenant of twice the weight is charged half; a tenth of the weight ten times as much."""
    contest = contest_of(acme=0, bolt=0)
    contest.observe({"acme": 1, "bolt": 1}, NOW, HEAVY)

    contest.observe({}, after(1), HEAVY)

    assert contest.times == {"acme": 500_000, "bolt": 10_000_000}


def test_nothing_is_charged_while_nobody_waits() -> None:
    """Whoever is alone takes nothing from anybody."""
    contest = Contest()
    contest.observe({"acme": 3}, NOW, {})

    contest.observe({"acme": 3}, after(5), {})

    assert contest.times == {}


def test_what_a_turn_has_chosen_is_charged_from_then_on() -> None:
    """Though it was not counted as running yet."""
    contest = contest_of(acme=0, bolt=0)
    contest.observe({"acme": 1}, NOW, {})
    contest.conclude({"acme": 2}, {"acme", "bolt"}, {"acme", "bolt"})

    contest.observe({}, after(1), {})

    assert contest.times["acme"] == 3_000_000


def test_who_looked_away_for_long_charges_no_more_than_a_moment() -> None:
    """It does not know what ran meanwhile."""
    contest = contest_of(acme=0)
    contest.observe({"acme": 1}, NOW, {})

    contest.observe({}, after(3_600), {})

    assert contest.times == {"acme": GAP_MAX // timedelta(microseconds=1)}


def test_f4_who_looks_at_longer_intervals_charges_for_them() -> None:
    """A turn each minute is no looking away."""
    memory = ServiceMemory(timedelta(minutes=1))
    contest = memory.use_case("mail")
    contest.waiting = {"acme"}
    contest.observe({"acme": 1}, NOW, {})

    contest.observe({}, NOW + timedelta(minutes=1), {})

    assert contest.times == {"acme": 60_000_000}
    assert not memory.looked_away(NOW + timedelta(minutes=4))


def test_a_clock_that_goes_back_charges_nothing() -> None:
    """Nobody gives service back."""
    contest = contest_of(acme=0)
    contest.observe({"acme": 1}, NOW, {})

    contest.observe({}, after(-5), {})

    assert contest.times == {"acme": 0}


def test_the_floor_rises_with_the_one_that_had_the_least() -> None:
    """And never falls."""
    contest = contest_of(acme=3, bolt=5)

    contest.conclude({}, {"acme", "bolt"}, {"acme", "bolt"})
    first = contest.floor
    contest.conclude({}, {"bolt"}, {"acme", "bolt"})
    second = contest.floor
    contest.conclude({}, {"core"}, {"bolt", "core"})

    assert (first, second, contest.floor) == (3_000_000, 5_000_000, 5_000_000)


def test_who_stops_waiting_is_remembered_until_the_others_have_caught_up() -> None:
    """Coming and going brings nothing."""
    contest = contest_of(acme=9, bolt=0)

    contest.conclude({}, {"bolt"}, {"acme", "bolt"})
    remembered = dict(contest.times)
    contest.times["bolt"] = 9_000_000
    contest.conclude({}, {"bolt"}, {"acme", "bolt"})

    assert remembered == {"acme": 9_000_000, "bolt": 0}
    assert contest.times == {"bolt": 9_000_000}


def test_when_nobody_waits_all_are_equal() -> None:
    """Everybody had what it wanted."""
    contest = contest_of(acme=9, bolt=0)
    contest.passed_over = 30

    contest.conclude({}, (), {"acme", "bolt"})

    assert (contest.times, contest.waiting, contest.passed_over) == ({}, set(), 0)


def test_who_was_not_shown_waits_on() -> None:
    """A turn that looked at others says nothing about it."""
    contest = contest_of(acme=9, bolt=0)

    contest.conclude({}, (), {"acme"})

    assert contest.waiting == {"bolt"}


def test_those_who_had_the_least_are_owed_the_most() -> None:
    """In order, and no more than asked for."""
    contest = contest_of(acme=9, bolt=0, core=4, dune=2)

    assert contest.most_owed(2) == ("bolt", "dune")
    assert contest.most_owed(9) == ("bolt", "dune", "core", "acme")


def test_starts_that_pass_over_late_jobs_are_counted() -> None:
    """Each start of a late job makes up for those before it and for itself, and nothing is saved
    up beyond a turn's worth.
    """
    contest = Contest()

    contest.pass_over(40, late=0)
    contest.pass_over(25, late=1)
    after_one = contest.passed_over
    contest.pass_over(1_000_000, late=0)

    assert (after_one, contest.passed_over) == (0, STARTS_BETWEEN_LATE**2)


@given(st.floats(1e-6, 1e6), st.integers(0, 10**12))
def test_virtual_time_is_exact(weight: float, service_us: int) -> None:
    """Service ÷ weight, the weight as it is written, rounded down to a microsecond."""
    quotas = {"acme": TenantQuota(weight=weight)}

    exact = Fraction(service_us) / Fraction(repr(weight))
    assert virtual(service_us, "acme", quotas) == exact.numerator // exact.denominator


# --- F8: it is told ------------------------------------------------------------------------------


def test_f8_a_tenants_share_is_its_weight_among_those_who_wait() -> None:
    """And itself, whether it waits or not."""
    quotas = {"acme": TenantQuota(weight=3)}
    contest = contest_of(acme=2, bolt=0)

    waits, idle = standing(contest, "acme", quotas), standing(contest, "core", quotas)

    assert (waits.share, waits.waits) == (Fraction(3, 4), True)
    assert (idle.share, idle.waits) == (Fraction(1, 5), False)


def test_f8_what_a_tenant_has_had_is_told_in_seconds_beyond_the_least() -> None:
    """Slots × seconds ÷ weight; a newcomer has had nothing."""
    contest = Contest(floor=5_000_000, times={"acme": 7_500_000}, waiting={"acme", "bolt"})

    assert standing(contest, "acme", {}).service_seconds == 2.5
    assert standing(contest, "newcomer", {}).service_seconds == 0


# --- What a scheduler remembers ------------------------------------------------------------------


def test_use_cases_and_pools_have_contests_of_their_own() -> None:
    """Though they may have the same name."""
    memory = ServiceMemory()

    assert memory.use_case("mail") is memory.use_case("mail")
    assert memory.use_case("mail") is not memory.pool(["mail"])


def test_a_pool_that_grows_goes_on_with_what_it_knows() -> None:
    """A worker joins that receives one more queue."""
    memory = ServiceMemory()
    memory.pool(["a"]).times["acme"] = 5

    assert memory.pool(["a", "b"]).times == {"acme": 5}
    assert memory.pool(["b", "a"]) is memory.pool(["a", "b"])


def test_a_pool_that_falls_apart_is_remembered_in_each_part() -> None:
    """The worker that received both queues leaves: each goes on, and is charged, for itself."""
    memory = ServiceMemory()
    memory.pool(["a", "b"]).times["acme"] = 5
    one, other = memory.pool(["a"]), memory.pool(["b"])

    one.times["acme"] = 9
    one.waiting.add("acme")

    assert other == Contest(times={"acme": 5})
    assert memory.pool(["a"]) is one
    assert memory.pool(["b"]) is other


def test_whether_there_is_anything_to_remember() -> None:
    """Somebody waits, for slots or for a use case's capacity."""
    memory, pool, use_case = ServiceMemory(), ServiceMemory(), ServiceMemory()
    memory.pool(["a"])
    pool.pool(["a"]).waiting.add("acme")
    use_case.use_case("mail").waiting.add("acme")

    assert not memory.is_contested
    assert pool.is_contested
    assert use_case.is_contested


def test_whether_it_has_looked_away() -> None:
    """It never counted anything, or too long ago to know what ran."""
    memory = ServiceMemory()
    never = memory.looked_away(NOW)
    memory.use_case("mail").observe({}, NOW, {})

    assert never
    assert not memory.looked_away(NOW + GAP_MAX)
    assert memory.looked_away(NOW + GAP_MAX + timedelta(microseconds=1))


def test_f7_what_is_saved_is_restored() -> None:
    """Who waits, and how far each one is ahead; through JSON."""
    memory, other = ServiceMemory(), ServiceMemory()
    for contest in (memory.use_case("mail"), memory.pool(["a", "b"])):
        contest.floor = 1_000
        contest.times = {"acme": 5_000, "bolt": 1_000, "gone": 3_000}
        contest.waiting = {"acme", "bolt"}

    other.restore(json.loads(json.dumps(memory.saved())))

    for contest in (other.use_case("mail"), other.pool(["a", "b"])):
        ahead = {tenant: contest.time_of(tenant) - contest.floor for tenant in contest.times}
        assert ahead == {"acme": 4_000, "bolt": 0, "gone": 2_000}
        assert contest.waiting == {"acme", "bolt"}


def test_only_what_is_contested_is_saved() -> None:
    """The state is bounded by who waits."""
    memory = ServiceMemory()
    memory.use_case("mail").times["acme"] = 9
    memory.pool(["a"])

    assert memory.saved() == {"use_cases": {}, "pools": {}}


def test_f7_what_is_needed_to_go_on_at_once_is_restored() -> None:
    """What each one holds and since when, who is held back, what was passed over, and how long
    jobs hold a slot: the next look charges and chooses as the same scheduler would.
    """
    memory, other = ServiceMemory(), ServiceMemory()
    contest = memory.use_case("mail")
    contest.observe({"acme": 3, "bolt": 1}, NOW, {})
    contest.conclude({"acme": 2}, {"acme", "bolt"}, {"acme", "bolt"}, {"bolt"})
    contest.passed_over = 130
    for _ in range(9):
        memory.turnover("mail").started(5)
        memory.turnover("mail").observe(2, NOW)

    other.restore(json.loads(json.dumps(memory.saved())))
    other.restore_turnovers(json.loads(json.dumps(memory.saved_turnovers())))

    for each in (memory, other):
        each.use_case("mail").observe({"acme": 1}, after(2), {})
    restored = other.use_case("mail")
    ahead = {t: contest.time_of(t) - contest.floor for t in ("acme", "bolt")}
    assert {t: restored.time_of(t) - restored.floor for t in ("acme", "bolt")} == ahead
    assert (restored.held_back, restored.passed_over) == ({"bolt"}, 130)
    assert other.turnover("mail").seconds == memory.turnover("mail").seconds


def test_f7_who_took_over_and_has_counted_nothing_yet_has_looked_away() -> None:
    """A standby goes on taking over what is saved, and saves nothing that is older."""
    memory, other = ServiceMemory(), ServiceMemory()
    memory.use_case("mail").observe({"acme": 1}, NOW, {})
    memory.use_case("mail").conclude({}, {"acme"}, {"acme"})

    other.restore(memory.saved())
    before = other.looked_away(NOW)
    other.use_case("mail").observe({"acme": 1}, NOW, {})

    assert before
    assert not other.looked_away(NOW)


def test_f7_what_was_contested_long_ago_can_be_left_out() -> None:
    """Nobody has counted it since, though others are counted."""
    memory, other = ServiceMemory(), ServiceMemory()
    for name, at in (("mail", NOW), ("report", after(60))):
        memory.use_case(name).observe({"acme": 1}, at, {})
        memory.use_case(name).conclude({}, {"acme"}, {"acme"})

    other.restore(memory.saved(), counted_since=after(30))

    assert not other.use_case("mail").waiting
    assert other.use_case("report").waiting == {"acme"}


@pytest.mark.parametrize("saved", [None, 1, [], [1, 2, 3], [1, 2, 3, 4, 5, 6], [-1, 0, 0, 1, None]])
def test_a_damaged_turnover_is_left_out(saved: Any) -> None:
    """It is expected as if nothing was known."""
    memory = ServiceMemory()

    memory.restore_turnovers({"mail": saved})

    assert memory.turnover("mail").seconds == ServiceMemory().turnover("mail").seconds


GOOD: dict[str, Any] = {"ahead": {"acme": 5}, "waiting": ["acme"]}


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        "acme",
        {},
        {"ahead": {"acme": 5}},
        {"waiting": ["acme"]},
        {"ahead": [], "waiting": []},
        {"ahead": {}, "waiting": {}},
    ],
)
def test_a_damaged_entry_is_left_out(entry: Any) -> None:
    """The others are restored."""
    memory = ServiceMemory()

    memory.restore({"use_cases": {"mail": entry, "report": GOOD}, "pools": None})

    assert memory.use_case("mail") == Contest()
    assert memory.use_case("report").time_of("acme") == 5


def test_damaged_tenants_are_left_out() -> None:
    """What is no name or no whole number is not taken for one; nobody is owed more than those who
    had the least.
    """
    memory = ServiceMemory()
    ahead: dict[str, Any] = {"acme": 5, "bolt": "x", "core": 1.5, "dune": -7}

    memory.restore({"pools": {"a": {"ahead": ahead, "waiting": ["acme", 3, None, ["bolt"]]}}})

    contest = memory.pool(["a"])
    assert contest.waiting == {"acme"}
    assert {t for t in ahead if contest.time_of(t) > contest.floor} == {"acme"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["use_cases", "pools", "x"]),
        json_values | st.dictionaries(st.text(max_size=3), json_values | st.just(GOOD)),
    )
)
def test_no_state_whatever_keeps_a_scheduler_from_going_on(state: dict[str, Any]) -> None:
    """It counts, concludes and saves as ever."""
    memory = ServiceMemory()

    memory.restore(state)
    for contest in (memory.use_case("mail"), memory.pool(["a"])):
        contest.observe({"acme": 1}, NOW, {})
        contest.observe({"acme": 1}, after(1), {})
        contest.conclude({"acme": 1}, {"acme"}, {"acme"})
        contest.most_owed(3)

    json.dumps(memory.saved())
