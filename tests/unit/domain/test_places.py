"""How many hand-offs the slots of a pool take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain, combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.places import Places, _Idle
from async_jobs.domain.pools import Fleet, Group, Pool, pools_of


def places(
    groups: Mapping[str, int],
    *,
    busy: Mapping[str, int] | None = None,
    unclaimed: Mapping[str, int] | None = None,
    limit: int = 1_000,
    held: int = 0,
    **fleet: Any,
) -> Places:
    """Return the places of a pool.

    Args:
        groups: slots of its workers, by the queues they receive, a letter each.
        busy: how many of these jobs hold.
        unclaimed, limit, held: see `Places`.
        fleet: tells of hand-offs.
    """
    pool = Pool(tuple(Group(frozenset(queues), slots) for queues, slots in groups.items()))
    return Places(
        Fleet(pools=(pool,), **fleet),
        pool,
        busy={frozenset(queues): count for queues, count in (busy or {}).items()},
        unclaimed=unclaimed or {},
        limit=limit,
        held=held,
    )


def taken(of: Places, queue: str = "a", seconds: float = 1.0) -> int:
    """Take as many places as there are."""
    count = 0
    while of.take(queue, seconds):
        count += 1
    return count


def test_f10_a_pool_holds_as_many_hand_offs_as_it_has_idle_slots() -> None:
    """Less what runs and what waits to be claimed, on any of its queues."""
    room = places({"ab": 8}, busy={"ab": 2}, unclaimed={"b": 3})

    assert (taken(room, "a"), room.take("b", 1.0)) == (3, None)


def test_f10_more_running_than_slots_makes_no_room() -> None:
    """Workers have gone."""
    assert taken(places({"a": 2}, busy={"a": 5})) == 0


def test_f10_what_all_slots_begin_within_a_hand_off_goes_ahead() -> None:
    """Four busy slots work off 0.2 s of work in 0.05 s: twenty jobs of 10 ms, none of a second."""
    busy = {"a": 4}

    assert taken(places({"a": 4}, busy=busy, hand_off_seconds=0.05), seconds=0.0099) == 20
    assert taken(places({"a": 4}, busy=busy, hand_off_seconds=0.05), seconds=1.0) == 0


def test_f10_what_waits_already_is_taken_off_what_goes_ahead() -> None:
    """As long as it is expected to run."""
    room = places({"a": 4}, busy={"a": 4}, unclaimed={"a": 5}, hand_off_seconds=0.05)
    room.charge_waiting(0.05)

    assert taken(room, seconds=0.0099) == 15


def test_f10_what_goes_ahead_is_refilled_when_half_of_it_is_gone() -> None:
    """A turn for few jobs costs nearly what one for many does; an idle slot waits for nothing."""
    full = places({"a": 4}, busy={"a": 4}, unclaimed={"a": 5}, hand_off_seconds=0.05)
    full.charge_waiting(0.11)
    idle = places({"a": 4}, busy={"a": 1}, unclaimed={"a": 1}, hand_off_seconds=0.05)
    idle.charge_waiting(0.11)

    assert taken(full, seconds=0.0099) == 0
    assert taken(idle, seconds=0.0099) == 2 + 20


def test_f10_what_waits_for_idle_slots_takes_nothing_off() -> None:
    """Those begin at once."""
    room = places({"a": 4}, busy={"a": 1}, unclaimed={"a": 2}, hand_off_seconds=0.05)
    room.charge_waiting(2.0)

    assert taken(room, seconds=0.0099) == 1 + 20


def test_f10_slots_that_long_jobs_hold_work_nothing_off() -> None:
    """Quick jobs behind jobs of ten minutes would wait in leases that run out."""
    busy = {"a": 4}

    assert taken(places({"a": 4}, busy=busy, held=4, hand_off_seconds=0.05), seconds=0.01) == 0
    assert taken(places({"a": 4}, busy=busy, held=3, hand_off_seconds=0.05), seconds=0.0099) == 5


def test_whoever_goes_first_and_is_too_long_is_not_overtaken() -> None:
    """Else long jobs would never run beside short ones."""
    room = places({"a": 4}, busy={"a": 4}, hand_off_seconds=0.05)

    assert room.take("a", 60.0) is None


def test_f10_a_queue_is_not_filled_for_workers_that_do_not_receive_it() -> None:
    """Two of six slots receive `a`: more than two would wait though the others are idle; the rest
    is for `b`.
    """
    room = places({"ab": 2, "b": 4})

    assert (taken(room, "a"), room.take("a", 1.0), taken(room, "b")) == (2, False, 4)


def test_f10_what_runs_of_a_queue_holds_the_slots_that_receive_it() -> None:
    """Both slots that receive `a` are busy: no idle slot can begin another."""
    assert places({"ab": 2, "b": 4}, busy={"ab": 2}).take("a", 1.0) is False
    assert places({"ab": 2, "b": 4}, busy={"ab": 1}, unclaimed={"a": 1}).take("a", 1.0) is False


def test_f10_a_queue_that_some_workers_receive_has_work_ahead_as_well() -> None:
    """As much as its own slots work off."""
    room = places({"ab": 2, "b": 4}, busy={"ab": 2}, hand_off_seconds=0.05)

    assert taken(room, "a", seconds=0.0099) == 10


def test_f2_who_goes_first_and_is_too_long_is_not_overtaken_at_the_slots_it_waits_for() -> None:
    """Nothing goes ahead of a slot that receives its queue any more, whatever slots are idle."""
    room = places({"ab": 1, "bc": 1, "c": 3}, busy={"ab": 1, "bc": 1, "c": 1}, hand_off_seconds=0.1)
    assert room.ahead("b", 0.1) == 2

    assert room.take("a", 60.0) is False

    assert room.take("b", 0.01) is False
    assert room.stopped == {"b"}
    assert [room.take("c", 0.01) for _ in range(5)] == [True] * 5


def test_without_a_worker_a_few_hand_offs_wait_for_the_first_one() -> None:
    """So that it finds work."""
    room = places({"a": 0}, unclaimed={"a": 1}, window_min=4, hand_off_seconds=0.05)

    assert taken(room, seconds=0.001) == 3


def test_a_closed_queue_takes_nothing() -> None:
    """Its transport accepted nothing lately; the others of the pool go on."""
    room = places({"ab": 4}, closed=frozenset({"a"}))

    assert room.take("a", 1.0) is False
    assert room.of_queue("a", 1.0) == 0
    assert not room.hold({"a": 1}, 0.0)
    assert taken(room, "b") == 4


def test_a_turn_gives_no_more_places_than_its_limit() -> None:
    """However many slots are idle."""
    room = places({"a": 9}, limit=2)

    assert (room.at_most(1.0), room.of_queue("a", 1.0)) == (2, 2)
    assert not room.hold({"a": 3}, 0.0)
    assert taken(room) == 2


def test_f5_slots_that_receive_a_queue_are_told_from_those_that_do_not() -> None:
    """Both slots for `a` run jobs of `b`: what were handed off for it would wait, and take the
    places of what the idle workers can begin.
    """
    room = places({"ab": 2, "b": 4}, busy={"ab": 2})

    assert (room.of_queue("a", 1.0), room.take("a", 1.0), taken(room, "b")) == (0, False, 4)


def test_f5_what_waits_for_busy_slots_takes_no_place_of_idle_ones() -> None:
    """It was handed off before others took the slots that receive it."""
    room = places({"ab": 2, "b": 4}, busy={"ab": 2}, unclaimed={"a": 2})

    assert (taken(room, "a"), taken(room, "b")) == (0, 4)


def test_f10_what_can_wait_elsewhere_makes_room() -> None:
    """Three of `b` find slots that receive nothing else; then two of `a` have theirs."""
    room = places({"ab": 2, "b": 3})

    assert (taken(room, "b", 1.0), room.take("a", 1.0)) == (5, None)
    room = places({"ab": 2, "b": 3}, unclaimed={"b": 3})
    assert (taken(room, "a"), room.take("b", 1.0)) == (2, None)


def test_f5_an_idle_slot_is_found_besides_those_that_are_given() -> None:
    """A queue with fewer slots than were given in all may have one left."""
    room = places({"a": 2, "ab": 1, "b": 3})

    assert room.has_idle(["a"], {"b": 3})
    assert room.has_idle(["a"], {"b": 4, "a": 1})
    assert not room.has_idle(["a"], {"b": 4, "a": 2})
    assert not room.has_idle(["a"], {"a": 3})
    assert room.has_idle(["a", "b"], {"a": 3})


def subsets(names: str) -> chain[tuple[str, ...]]:
    """Return all sets of some letters that are not empty."""
    return chain(*[combinations(names, count) for count in range(1, len(names) + 1)])


groups = st.dictionaries(
    st.sets(st.sampled_from("abcd"), min_size=1).map(frozenset), st.integers(0, 4), max_size=5
)


@given(groups, st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5))))
def test_f5_f10_a_hand_off_finds_a_slot_exactly_if_all_can_begin_at_once(
    left: dict[frozenset[str], int], wanted: list[tuple[str, int]]
) -> None:
    """Hall's theorem: of any queues, no more than the idle slots that receive one of them."""
    idle, given_of = _Idle(left), Counter[str]()

    def can_begin(more: Counter[str]) -> bool:
        return all(
            sum(more[queue] for queue in names)
            <= sum(slots for queues, slots in left.items() if queues.intersection(names))
            for names in subsets("abcd")
        )

    for queue, count in wanted:
        found = idle.give(queue, count)
        given_of[queue] += found
        assert 0 <= found <= count
        assert can_begin(given_of)
        assert found == count or not can_begin(given_of + Counter(queue))
        assert idle.slots == sum(left.values()) - sum(given_of.values())


pool_shapes = st.lists(
    st.tuples(st.sets(st.sampled_from("abc"), min_size=1), st.integers(1, 5)), min_size=1
).map(lambda workers: pools_of(workers)[0])
counts = st.dictionaries(st.sampled_from("abc"), st.integers(0, 6))
asked = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.001, 0.01, 0.2, 3.0])))


@given(pool_shapes, st.data(), counts, st.sampled_from([0.0, 0.05, 1.0]), asked)
def test_f10_unclaimed_hand_offs_stay_at_what_can_begin(
    of: Pool,
    data: st.DataObject,
    unclaimed: dict[str, int],
    hand_off: float,
    wanted: list[tuple[str, float]],
) -> None:
    """Whatever is asked for: what finds no idle slot is, in seconds, at most what all slots work
    off within a hand-off, of each queue and of all; and as long as slots are idle that receive it,
    a hand-off has a place.
    """
    busy = {group.queues: data.draw(st.integers(0, group.slots + 1)) for group in of.groups}
    unclaimed = {queue: n for queue, n in unclaimed.items() if queue in of.queues}
    fleet = Fleet(pools=(of,), hand_off_seconds=hand_off)
    room = Places(fleet, of, busy=busy, unclaimed=unclaimed, limit=1_000)
    idle = _Idle({group.queues: group.slots - busy[group.queues] for group in of.groups})
    for queue, count in unclaimed.items():
        idle.give(queue, count)
    ahead, ahead_of = 0.0, dict.fromkeys(of.queues, 0.0)

    for queue, seconds in wanted:
        if queue not in of.queues:
            continue
        begins_at_once = idle.give(queue, 1)
        given = room.take(queue, seconds)
        assert given or not begins_at_once
        if given and not begins_at_once:
            ahead += seconds
            ahead_of[queue] += seconds

    assert ahead <= of.slots * hand_off + 1e-9
    for queue in of.queues:
        assert ahead_of[queue] <= of.reach(queue) * hand_off + 1e-9


@given(
    pool_shapes,
    st.data(),
    counts,
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.001, 0.01, 1.0]))),
    st.sampled_from([0.0, 0.05, 0.5]),
)
def test_what_there_is_room_for_at_once_finds_a_place(
    of: Pool,
    data: st.DataObject,
    unclaimed: dict[str, int],
    wanted: list[tuple[str, float]],
    hand_off: float,
) -> None:
    """If a pool holds all that is wanted, each one of it is given a place."""
    wanted = [(queue, seconds) for queue, seconds in wanted if queue in of.queues]
    busy = {group.queues: data.draw(st.integers(0, group.slots + 1)) for group in of.groups}
    fleet = Fleet(pools=(of,), hand_off_seconds=hand_off)
    room = Places(fleet, of, busy=busy, unclaimed=unclaimed, limit=1_000)
    room.charge_waiting(0.0)

    slowest = max((seconds for _, seconds in wanted), default=0.0)
    if room.hold(Counter(queue for queue, _ in wanted), slowest):
        assert all(room.take(queue, seconds) for queue, seconds in wanted)
