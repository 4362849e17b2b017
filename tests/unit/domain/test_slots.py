"""How the slots of a pool are divided, by example."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.fairness import Contest
from async_jobs.domain.places import Places
from async_jobs.domain.pools import Fleet, pools_of
from async_jobs.domain.rounds import Choice
from async_jobs.domain.scheduling import (
    Candidate,
    Contender,
    Ranking,
)
from async_jobs.domain.slots import share_slots
from tests.unit.domain.builders import NOW, after
from tests.unit.domain.candidates import (
    ROUND_SECONDS,
    had_seconds,
    numbers,
    waiting,
)


def _share(
    *candidates: Candidate,
    workers: Mapping[str, int],
    busy: int = 0,
    unclaimed: Mapping[str, int] | None = None,
    limit: int = 100,
    closed: frozenset[str] = frozenset(),
    room: Mapping[str, int] | None = None,
    contest: Contest | None = None,
    running: Mapping[str, int] | None = None,
    seconds: Mapping[str, float] | None = None,
    hand_off_seconds: float = 0.05,
) -> Choice:
    """Share the slots of a pool; the slots of its workers by the queues that these receive."""
    (pool,) = pools_of((queues.split(), slots) for queues, slots in workers.items())
    fleet = Fleet(pools=(pool,), closed=closed, hand_off_seconds=hand_off_seconds)
    lanes: defaultdict[str, list[Contender]] = defaultdict(list)
    for contender in sorted(Ranking(LatePolicy.SIDELINE, NOW).ranked(candidates)):
        lanes[contender[5].tenant_id].append(contender)
    known = seconds or {}
    return share_slots(
        lanes,
        Places(fleet, pool, busy={pool.queues: busy}, unclaimed=unclaimed or {}, limit=limit),
        room or {},
        contest=contest or Contest(),
        running=running or {},
        quotas={},
        run_seconds=lambda type_: known.get(type_, ROUND_SECONDS),
        slot_seconds=lambda type_: known.get(type_, ROUND_SECONDS),
    )


def _backlog(first: int, tenant: str, queue: str = "a", count: int = 9) -> Sequence[Candidate]:
    """Return jobs of a tenant that can wait; the lower their number, the earlier due."""
    return [waiting(n, tenant, deadline=100 + n, queue=queue) for n in range(first, first + count)]


def test_no_more_is_handed_off_than_slots_are_idle() -> None:
    """What runs and what is under way holds a slot each."""
    choice = _share(*_backlog(1, "acme"), workers={"a": 5}, busy=2, unclaimed={"a": 1})

    assert numbers(choice.chosen) == [1, 2]
    assert choice.waiting == {"acme"}


def test_nor_than_a_turn_may_lease() -> None:
    """However many slots are idle."""
    choice = _share(*_backlog(1, "acme"), workers={"a": 5}, limit=1)

    assert numbers(choice.chosen) == [1]


def test_a_full_pool_takes_nothing() -> None:
    """More was handed off than there are slots, after a worker has gone."""
    choice = _share(*_backlog(1, "acme"), workers={"a": 2}, busy=2, unclaimed={"a": 3})

    assert choice == Choice([], {"acme"})


def test_queues_of_a_pool_share_its_slots() -> None:
    """A tenant has no more of them for having two queues, or two use cases."""
    choice = _share(
        *_backlog(1, "acme", "a"),
        *_backlog(21, "acme", "b"),
        *_backlog(41, "bolt", "b"),
        workers={"a b": 4},
    )

    assert numbers(choice.chosen) == [1, 41, 2, 42]
    assert choice.waiting == {"acme", "bolt"}


def test_slots_are_shared_by_what_tenants_have_had_of_them() -> None:
    """And by what they run: each job counts for a round."""
    jobs = [*_backlog(1, "acme"), *_backlog(41, "bolt")]

    had = _share(*jobs, workers={"a": 2}, contest=had_seconds(acme=50))
    runs = _share(*jobs, workers={"a": 5}, busy=3, running={"acme": 3})

    assert numbers(had.chosen) == [41, 42]
    assert numbers(runs.chosen) == [41, 42]


def test_a_tenants_limit_holds_over_all_use_cases_of_a_pool() -> None:
    """What a limited tenant cannot use goes to others."""
    choice = _share(
        *_backlog(1, "acme", "a"),
        *_backlog(21, "acme", "b"),
        *_backlog(41, "bolt", "b"),
        workers={"a b": 4},
        room={"acme": 1},
    )

    assert numbers(choice.chosen) == [1, 41, 42, 43]


def test_a_queue_that_few_workers_receive_is_not_filled_for_all() -> None:
    """What is on other queues passes by, and who waits for these workers waits."""
    choice = _share(
        *_backlog(1, "acme", "few", count=3),
        *_backlog(41, "bolt", "all", count=2),
        workers={"few all": 1, "all": 3},
    )

    assert numbers(choice.chosen) == [1, 41, 42]
    assert choice.waiting == {"acme"}


def test_a_closed_queue_holds_up_no_other() -> None:
    """Its jobs wait, the slots serve the rest."""
    choice = _share(
        *_backlog(1, "acme", "a", count=1),
        *_backlog(41, "bolt", "b", count=1),
        workers={"a b": 4},
        closed=frozenset({"a"}),
    )

    assert (numbers(choice.chosen), choice.waiting) == ([41], {"acme"})


def test_short_work_is_handed_off_ahead_of_idle_slots() -> None:
    """As much as all slots begin within the time of a hand-off."""
    jobs = [waiting(n, deadline=100 + n, queue="a", type="quick") for n in range(1, 20)]

    choice = _share(
        *jobs,
        workers={"a": 2},
        busy=2,
        seconds={"quick": 0.03125},
        hand_off_seconds=0.0625,
    )

    assert numbers(choice.chosen) == [1, 2, 3, 4]


def test_what_is_too_long_to_go_ahead_is_not_overtaken_by_shorter_work() -> None:
    """Whose turn it is has the next free slot."""
    long, short = waiting(1, "acme", deadline=100, queue="a"), waiting(2, "bolt", queue="a")

    choice = _share(
        long._replace(type="film"),
        short._replace(type="quick", deadline_at=after(101)),
        workers={"a": 2},
        busy=2,
        seconds={"quick": 0.001, "film": 60},
    )

    assert choice == Choice([], {"acme", "bolt"})
