"""Which slots serve which queues, how many hand-offs they take, and how long jobs hold them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.pools import ENDED_MIN, RUN_SECONDS, Fleet, Places, Pool, Turnover, pools_of
from tests.unit.domain.builders import NOW, after


def pool(slots: int = 4, **reach: int) -> Pool:
    """Return a pool of the queue `lane`, or of those queues with what receives each."""
    reach = reach or {"lane": slots}
    return Pool(queues=frozenset(reach), slots=slots, reach=reach)


def places(
    of: Pool,
    *,
    claimed: Mapping[str, int] | None = None,
    unclaimed: Mapping[str, int] | None = None,
    limit: int = 1_000,
    held: int = 0,
    **fleet: Any,
) -> Places:
    """Return the places of a pool; `fleet` tells of hand-offs."""
    return Places(
        Fleet(pools=(of,), **fleet),
        of,
        claimed=claimed or {},
        unclaimed=unclaimed or {},
        limit=limit,
        held=held,
    )


def taken(of: Places, queue: str = "lane", seconds: float = 1.0) -> int:
    """Take as many places as there are."""
    count = 0
    while of.take(queue, seconds):
        count += 1
    return count


# --- pools_of ------------------------------------------------------------------------------------


def test_workers_of_the_same_queues_are_one_pool() -> None:
    """Their slots add up."""
    assert pools_of([(("a", "b"), 3), (("b", "a"), 4)]) == (pool(7, a=7, b=7),)


def test_workers_without_a_queue_in_common_are_pools_of_their_own() -> None:
    """Neither takes from the other."""
    assert set(pools_of([(("a",), 3), (("b",), 4)])) == {pool(3, a=3), pool(4, b=4)}


def test_queues_that_overlap_are_one_pool_with_the_reach_of_each() -> None:
    """Though no worker receives all of them."""
    assert pools_of([(("a", "b"), 1), (("b", "c"), 2), (("c",), 4)]) == (pool(7, a=1, b=3, c=6),)


def test_a_worker_may_join_pools_that_were_apart() -> None:
    """Whichever comes first."""
    assert pools_of([(("a",), 1), (("b",), 2), (("a", "b"), 4)]) == (pool(7, a=5, b=6),)


def test_a_worker_without_queues_is_in_no_pool() -> None:
    """It can run nothing."""
    assert pools_of([((), 9)]) == ()


def test_a_queue_that_a_worker_names_twice_counts_once() -> None:
    """Its slots are there once."""
    assert pools_of([(("a", "a"), 3)]) == (pool(3, a=3),)


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
        for queue, reach in each.reach.items():
            assert reach == sum(slots for names, slots in workers if queue in names)
    assert set(pools_of(workers[::-1])) == set(pools)


def test_a_fleet_knows_the_queues_of_its_workers() -> None:
    """For any other it has a pool without slots."""
    fleet = Fleet(pools=pools_of([(("a", "b"), 3)]))

    assert fleet.knows(["a", "b"])
    assert not fleet.knows(["a", "x"])
    assert fleet.pool_of("b").slots == 3
    assert fleet.pool_of("x") == pool(0, x=0)


# --- Places (F10) --------------------------------------------------------------------------------


def test_f10_a_pool_holds_as_many_hand_offs_as_it_has_idle_slots() -> None:
    """Less what runs and what waits to be claimed, on any of its queues."""
    room = places(pool(8, a=8, b=8), claimed={"a": 2}, unclaimed={"b": 3})

    assert (taken(room, "a"), room.take("b", 1.0)) == (3, None)


def test_f10_more_running_than_slots_makes_no_room() -> None:
    """Workers have gone."""
    assert taken(places(pool(2), claimed={"lane": 5})) == 0


def test_f10_what_all_slots_begin_within_a_hand_off_goes_ahead() -> None:
    """Four busy slots work off 0.2 s of work in 0.05 s: twenty jobs of 10 ms, none of a second."""
    busy = {"lane": 4}

    assert taken(places(pool(4), claimed=busy, hand_off_seconds=0.05), seconds=0.0099) == 20
    assert taken(places(pool(4), claimed=busy, hand_off_seconds=0.05), seconds=1.0) == 0


def test_f10_what_waits_already_is_taken_off_what_goes_ahead() -> None:
    """As long as it is expected to run."""
    room = places(pool(4), claimed={"lane": 4}, unclaimed={"lane": 5}, hand_off_seconds=0.05)
    room.charge_waiting(0.05)

    assert taken(room, seconds=0.0099) == 15


def test_f10_what_goes_ahead_is_refilled_when_half_of_it_is_gone() -> None:
    """A turn for few jobs costs nearly what one for many does; an idle slot waits for nothing."""
    full = places(pool(4), claimed={"lane": 4}, unclaimed={"lane": 5}, hand_off_seconds=0.05)
    full.charge_waiting(0.11)
    idle = places(pool(4), claimed={"lane": 1}, unclaimed={"lane": 1}, hand_off_seconds=0.05)
    idle.charge_waiting(0.11)

    assert taken(full, seconds=0.0099) == 0
    assert taken(idle, seconds=0.0099) == 2 + 20


def test_f10_what_waits_for_idle_slots_takes_nothing_off() -> None:
    """Those begin at once."""
    room = places(pool(4), claimed={"lane": 1}, unclaimed={"lane": 2}, hand_off_seconds=0.05)
    room.charge_waiting(2.0)

    assert taken(room, seconds=0.0099) == 1 + 20


def test_f10_slots_that_long_jobs_hold_work_nothing_off() -> None:
    """Quick jobs behind jobs of ten minutes would wait in leases that run out."""
    busy = {"lane": 4}

    assert taken(places(pool(4), claimed=busy, held=4, hand_off_seconds=0.05), seconds=0.01) == 0
    assert taken(places(pool(4), claimed=busy, held=3, hand_off_seconds=0.05), seconds=0.0099) == 5


def test_whoever_goes_first_and_is_too_long_is_not_overtaken() -> None:
    """Else long jobs would never run beside short ones."""
    room = places(pool(4), claimed={"lane": 4}, hand_off_seconds=0.05)

    assert room.take("lane", 60.0) is None


def test_f10_a_queue_is_not_filled_for_workers_that_do_not_receive_it() -> None:
    """Two of six slots receive `a`: more than two would wait though the others are idle; the rest
    is for `b`.
    """
    room = places(pool(6, a=2, b=6))

    assert (taken(room, "a"), room.take("a", 1.0), taken(room, "b")) == (2, False, 4)


def test_f10_what_runs_of_a_queue_holds_the_slots_that_receive_it() -> None:
    """Both slots that receive `a` are busy: no idle slot can begin another."""
    assert places(pool(6, a=2, b=6), claimed={"a": 2}).take("a", 1.0) is False
    assert places(pool(6, a=2, b=6), claimed={"a": 1}, unclaimed={"a": 1}).take("a", 1.0) is False


def test_f10_a_queue_that_some_workers_receive_has_work_ahead_as_well() -> None:
    """As much as its own slots work off."""
    room = places(pool(6, a=2, b=6), claimed={"a": 2}, hand_off_seconds=0.05)

    assert taken(room, "a", seconds=0.0099) == 10


def test_without_a_worker_a_few_hand_offs_wait_for_the_first_one() -> None:
    """So that it finds work."""
    room = places(pool(0), unclaimed={"lane": 1}, window_min=4, hand_off_seconds=0.05)

    assert taken(room, seconds=0.001) == 3


def test_a_closed_queue_takes_nothing() -> None:
    """Its transport accepted nothing lately; the others of the pool go on."""
    room = places(pool(4, a=4, b=4), closed=frozenset({"a"}))

    assert room.take("a", 1.0) is False
    assert room.of_queue("a", 1.0) == 0
    assert not room.hold({"a": 1}, 0.0)
    assert taken(room, "b") == 4


def test_a_turn_gives_no_more_places_than_its_limit() -> None:
    """However many slots are idle."""
    room = places(pool(9), limit=2)

    assert (room.at_most(1.0), room.of_queue("lane", 1.0)) == (2, 2)
    assert not room.hold({"lane": 3}, 0.0)
    assert taken(room) == 2


pool_shapes = st.lists(
    st.tuples(st.sets(st.sampled_from("abc"), min_size=1), st.integers(1, 5)), min_size=1
).map(lambda workers: pools_of(workers)[0])
counts = st.dictionaries(st.sampled_from("abc"), st.integers(0, 6))
asked = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.001, 0.01, 0.2, 3.0])))


@given(pool_shapes, counts, counts, st.sampled_from([0.0, 0.05, 1.0]), asked)
def test_f10_unclaimed_hand_offs_stay_at_what_can_begin(
    of: Pool,
    claimed: dict[str, int],
    unclaimed: dict[str, int],
    hand_off: float,
    wanted: list[tuple[str, float]],
) -> None:
    """Whatever is asked for: what finds no idle slot is, in seconds, at most what all slots work
    off within a hand-off, of each queue and of all; and as long as slots are idle that receive it,
    a hand-off has a place.
    """
    claimed = {queue: n for queue, n in claimed.items() if queue in of.queues}
    unclaimed = {queue: n for queue, n in unclaimed.items() if queue in of.queues}
    room = places(of, claimed=claimed, unclaimed=unclaimed, hand_off_seconds=hand_off)
    idle = of.slots - sum(claimed.values()) - sum(unclaimed.values())
    idle_of = {
        queue: reach - claimed.get(queue, 0) - unclaimed.get(queue, 0)
        for queue, reach in of.reach.items()
    }
    ahead, ahead_of = 0.0, dict.fromkeys(of.queues, 0.0)

    for queue, seconds in wanted:
        if queue not in of.queues:
            continue
        begins_at_once = idle > 0 and idle_of[queue] > 0
        given = room.take(queue, seconds)
        assert given or not begins_at_once
        if given:
            ahead += seconds if idle <= 0 else 0.0
            ahead_of[queue] += seconds if idle_of[queue] <= 0 else 0.0
            idle, idle_of[queue] = idle - 1, idle_of[queue] - 1

    assert ahead <= of.slots * hand_off + 1e-9
    for queue, reach in of.reach.items():
        assert ahead_of[queue] <= reach * hand_off + 1e-9 or reach == of.slots


@given(
    pool_shapes,
    counts,
    counts,
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.001, 0.01, 1.0]))),
    st.sampled_from([0.0, 0.05, 0.5]),
)
def test_what_there_is_room_for_at_once_finds_a_place(
    of: Pool,
    claimed: dict[str, int],
    unclaimed: dict[str, int],
    wanted: list[tuple[str, float]],
    hand_off: float,
) -> None:
    """If a pool holds all that is wanted, each one of it is given a place."""
    wanted = [(queue, seconds) for queue, seconds in wanted if queue in of.queues]
    room = places(of, claimed=claimed, unclaimed=unclaimed, hand_off_seconds=hand_off)
    room.charge_waiting(0.0)

    slowest = max((seconds for _, seconds in wanted), default=0.0)
    if room.hold(Counter(queue for queue, _ in wanted), slowest):
        assert all(room.take(queue, seconds) for queue, seconds in wanted)


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
