"""Which slots serve which queues, and how long jobs hold them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.pools import ENDED_MIN, RUN_SECONDS, Fleet, Group, Pool, Turnover, pools_of
from tests.unit.domain.builders import NOW, after


def pool(**groups: int) -> Pool:
    """Return a pool of workers: their slots, by the queues they receive, a letter each."""
    return Pool(tuple(Group(frozenset(queues), slots) for queues, slots in groups.items()))


# --- pools_of ------------------------------------------------------------------------------------


def test_workers_of_the_same_queues_are_one_pool() -> None:
    """Their slots add up."""
    assert pools_of([(("a", "b"), 3), (("b", "a"), 4)]) == (pool(ab=7),)


def test_workers_without_a_queue_in_common_are_pools_of_their_own() -> None:
    """Neither takes from the other."""
    assert set(pools_of([(("a",), 3), (("b",), 4)])) == {pool(a=3), pool(b=4)}


def test_queues_that_overlap_are_one_pool() -> None:
    """Though no worker receives all of them."""
    assert pools_of([(("a", "b"), 1), (("b", "c"), 2), (("c",), 4)]) == (pool(ab=1, bc=2, c=4),)


def test_a_worker_may_join_pools_that_were_apart() -> None:
    """Whichever comes first."""
    assert pools_of([(("a",), 1), (("b",), 2), (("a", "b"), 4)]) == (pool(a=1, ab=4, b=2),)


def test_a_worker_without_queues_is_in_no_pool() -> None:
    """It can run nothing."""
    assert pools_of([((), 9)]) == ()


def test_a_queue_that_a_worker_names_twice_counts_once() -> None:
    """Its slots are there once."""
    assert pools_of([(("a", "a"), 3)]) == (pool(a=3),)


@given(st.lists(st.tuples(st.sets(st.sampled_from("abcdef"), min_size=1), st.integers(0, 9))))
def test_pools_divide_all_slots_and_queues(workers: list[tuple[set[str], int]]) -> None:
    """Every queue is in one pool, every worker's queues in the same one, every slot counted once,
    and the order of the workers is irrelevant.
    """
    pools = pools_of(workers)

    queues = [queue for each in pools for queue in each.queues]
    assert sorted(queues) == sorted(set[str]().union(*(names for names, _ in workers)))
    assert sum(each.slots for each in pools) == sum(slots for _, slots in workers)
    for names, _ in workers:
        assert any(names <= each.queues for each in pools)
    for each in pools:
        for queue in each.queues:
            assert each.reach(queue) == sum(slots for names, slots in workers if queue in names)
    assert set(pools_of(workers[::-1])) == set(pools)


def test_a_fleet_knows_the_queues_of_its_workers() -> None:
    """For any other it has a pool without slots."""
    fleet = Fleet(pools=pools_of([(("a", "b"), 3)]))

    assert fleet.knows(["a", "b"])
    assert not fleet.knows(["a", "x"])
    assert fleet.pool_of("b").slots == 3
    assert fleet.pool_of("x") == pool(x=0)


def test_a_fleet_tells_workers_apart_where_it_matters() -> None:
    """Those of a pool that receive different queues; those that receive the same are one group."""
    queues = {"one": ("a", "b"), "two": ("b", "a"), "three": ("b",), "four": ("x",), "five": ("x",)}
    fleet = Fleet.of({name: (each, 1) for name, each in queues.items()})

    assert {fleet.groups[number] for number in (1, 2)} == {frozenset("ab"), frozenset("b")}
    assert fleet.workers["one"] == fleet.workers["two"] > 0
    assert fleet.groups[fleet.workers["three"]] == frozenset("b")
    assert fleet.workers["four"] == fleet.workers["five"] == 0


# --- Turnover ------------------------------------------------------------------------------------


def test_what_waits_ahead_of_the_slots_holds_none() -> None:
    """Or a longer queue would look like longer jobs, for which nothing is handed off ahead."""
    turnover = Turnover()
    turnover.observe(0, NOW)
    turnover.started(10, part=0.4)

    turnover.observe(0, after(3))

    assert turnover.seconds == pytest.approx(1.2)


def test_a_run_time_that_nobody_has_seen_is_guessed() -> None:
    """Until a few jobs have ended."""
    turnover = Turnover()
    turnover.observe(ENDED_MIN, NOW)

    turnover.observe(1, after(0.1))

    assert turnover.seconds == RUN_SECONDS


def test_what_runs_on_and_on_is_known_to_be_long() -> None:
    """Though none of it has ended: it has run for so long at least."""
    turnover = Turnover()
    turnover.started(10)
    turnover.observe(0, NOW)
    turnover.started(10)

    turnover.observe(10, after(30))

    assert turnover.seconds == 30


def test_the_run_time_is_what_was_held_divided_by_what_ended() -> None:
    """Four slots for two seconds, and eight jobs ended: a second each."""
    turnover = Turnover()
    turnover.observe(4, NOW)
    for second in (1, 2):
        turnover.observe(0, after(second))
        turnover.started(4)

    assert turnover.seconds == pytest.approx(1.0)


def test_what_was_long_ago_weighs_less() -> None:
    """Jobs become quick: their run time is learned anew."""
    turnover = Turnover()
    at = 0.0
    for seconds in [10.0] * 100 + [0.1] * 900:
        turnover.started(1)
        at += seconds
        turnover.observe(0, after(at))

    assert turnover.seconds < 0.5


def test_a_clock_that_goes_back_is_no_time_at_all() -> None:
    """No negative run times."""
    turnover = Turnover()
    turnover.observe(9, NOW)

    turnover.observe(0, after(-9))

    assert turnover.seconds == 0
