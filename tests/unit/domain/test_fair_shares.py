"""Weighted max-min fair shares: examples, then properties."""

from collections.abc import Mapping
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from async_jobs.domain.scheduling import fair_shares
from tests.unit.domain.plain_policy import exact_shares


@pytest.mark.parametrize(
    ("capacity", "demand", "weights", "expected"),
    [
        (10, {}, {}, {}),
        (10, {"a": 3}, {}, {"a": 3}),
        (10, {"a": 30}, {}, {"a": 10}),
        (10, {"a": 30, "b": 30}, {}, {"a": 5, "b": 5}),
        (10, {"a": 2, "b": 30, "c": 30}, {}, {"a": 2, "b": 4, "c": 4}),
        (10, {"a": 1, "b": 3, "c": 30}, {}, {"a": 1, "b": 3, "c": 6}),
        (12, {"a": 30, "b": 30}, {"a": 3.0}, {"a": 9, "b": 3}),
        (12, {"a": 6, "b": 30}, {"a": 3.0}, {"a": 6, "b": 6}),
        (0, {"a": 3, "b": 3}, {}, {"a": 0, "b": 0}),
        (10, {"a": 0, "b": 30}, {}, {"a": 0, "b": 10}),
    ],
)
def test_fair_shares(
    capacity: int,
    demand: Mapping[str, int],
    weights: Mapping[str, float],
    expected: Mapping[str, float],
) -> None:
    """Small demands are met, and the rest is divided by weight among the larger ones."""
    assert fair_shares(capacity, demand, weights) == expected


def test_shares_of_whole_slots_come_out_whole() -> None:
    """Rounding must not put a tenant a hair above or below what it is due: 10 · 3/6 is five."""
    demand = dict.fromkeys("abcd", 30)

    shares = fair_shares(10, demand, {"d": 3.0})

    assert shares["d"] == 5


def test_weights_many_orders_apart_still_divide_fairly() -> None:
    """Two equal weights get equal shares, however much heavier a satisfied tenant is."""
    demand = {"giant": 1, "b": 30, "c": 30}

    shares = fair_shares(11, demand, {"giant": 1e6, "b": 1e-11, "c": 1e-11})

    assert shares == {"giant": 1, "b": 5, "c": 5}


# --- Properties ---------------------------------------------------------------------------------

demands = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 30))
weightings = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([0.25, 0.5, 1.0, 3.0, 7.0]))
capacities = st.integers(0, 60)


@given(capacities, demands, weightings)
def test_shares_use_up_the_capacity_or_meet_the_demand(
    slots: int, demand: Mapping[str, int], weights: Mapping[str, float]
) -> None:
    """The shares sum to `min(capacity, total demand)`, and each is from 0 to its demand."""
    shares = fair_shares(slots, demand, weights)

    assert sum(shares.values()) == min(slots, sum(demand.values()))
    assert shares.keys() == demand.keys()
    assert all(0 <= shares[tenant] <= demand[tenant] for tenant in demand)


@given(capacities, demands, weightings)
def test_no_share_could_grow_but_at_the_cost_of_a_poorer_one(
    slots: int, demand: Mapping[str, int], weights: Mapping[str, float]
) -> None:
    """Max-min: a tenant that gets less than it wants has the highest share for its weight, so
    any gain would have to come from a tenant that has no more than it, weight for weight.
    """
    shares = fair_shares(slots, demand, weights)
    level = {tenant: shares[tenant] / Fraction(weights.get(tenant, 1.0)) for tenant in demand}

    for tenant in demand:
        if shares[tenant] < demand[tenant]:
            assert level[tenant] >= max(level.values())


@example(7, {"a": 1, "b": 1, "c": 3, "d": 5}, {"a": 0.25, "b": 0.25, "c": 3.0, "d": 7.0})
@given(capacities, demands, weightings)
def test_shares_are_those_of_exact_arithmetic(
    slots: int, demand: Mapping[str, int], weights: Mapping[str, float]
) -> None:
    """Progressive filling with fractions agrees to the last bit, because whether a tenant runs
    its share already is a comparison with it.
    """
    exact = exact_shares(slots, demand, {t: Fraction(weights.get(t, 1.0)) for t in demand})

    for tenant, share in fair_shares(slots, demand, weights).items():
        assert share == exact[tenant]


@given(capacities, demands, weightings)
def test_a_share_is_at_least_the_weights_fraction_of_the_capacity(
    slots: int, demand: Mapping[str, int], weights: Mapping[str, float]
) -> None:
    """Entitlement: `capacity · weight / all weights`, or the demand if that is less."""
    shares = fair_shares(slots, demand, weights)
    weight_sum = sum(Fraction(weights.get(tenant, 1.0)) for tenant in demand)

    for tenant, wanted in demand.items():
        entitled = slots * Fraction(weights.get(tenant, 1.0)) / weight_sum
        assert shares[tenant] >= min(Fraction(wanted), entitled)


@given(capacities, demands, weightings)
def test_more_capacity_takes_nothing_away(
    slots: int, demand: Mapping[str, int], weights: Mapping[str, float]
) -> None:
    """Monotone in the capacity: every share stays or grows."""
    shares = fair_shares(slots, demand, weights)
    more = fair_shares(slots + 1, demand, weights)

    assert all(more[tenant] >= shares[tenant] for tenant in demand)


@given(capacities, demands, weightings, st.sampled_from("abcdef"), st.integers(1, 10))
def test_wanting_more_gets_no_less_and_gives_others_no_more(
    slots: int, demand: Mapping[str, int], weights: Mapping[str, float], who: str, extra: int
) -> None:
    """Monotone in a demand: the tenant's share stays or grows, the others' stay or shrink."""
    before = fair_shares(slots, {who: 0, **demand}, weights)
    after_ = fair_shares(slots, {**demand, who: demand.get(who, 0) + extra}, weights)

    assert after_[who] >= before[who]
    assert all(after_[t] <= before[t] for t in demand if t != who)
