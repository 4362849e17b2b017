"""What a turn leases, over all use cases and turn after turn, by example."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from async_jobs.domain.dispatching import Round, RunningCount, Seen, TurnView
from async_jobs.domain.fairness import ServiceMemory
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.domain.pools import Fleet, Pool, pools_of
from async_jobs.domain.scheduling import Blocked, Candidate, Reason
from async_jobs.domain.slots import DIVISIONS_MAX, Share, Slots
from tests.unit.domain.builders import NOW, after

DAY = 24 * 3600


def _job(number: int, tenant: str, *, deadline: float = DAY, queue: str = "lane") -> Candidate:
    """Return a job of a minute's tolerance."""
    return Candidate(
        id=UUID(int=number),
        tenant_id=tenant,
        queue=queue,
        priority=0,
        deadline_at=after(deadline),
        lease_seq=0,
        tolerance_seconds=60,
        type="mail",
    )


def _numbers(turn: Round) -> list[int]:
    return [candidate.id.int for _, candidate in turn.chosen]


class _Settings(NamedTuple):
    use_case_configs: Mapping[str, UseCaseConfig]
    per_tenant_quotas: Mapping[str, TenantQuota]


class _World:
    """A fleet, and what its scheduler remembers from turn to turn.

    Args:
        workers: the queues and slots of each.
        caps: what each use case may run.
        quotas: limited and weighted tenants.
    """

    def __init__(
        self,
        workers: Sequence[tuple[Sequence[str], int]],
        caps: Mapping[str, int],
        quotas: Mapping[str, TenantQuota] | None = None,
    ) -> None:
        configs = {name: UseCaseConfig(max_concurrent=cap) for name, cap in caps.items()}
        self.config = _Settings(use_case_configs=configs, per_tenant_quotas=quotas or {})
        self.fleet = Fleet(pools=pools_of(workers))
        self.memory = ServiceMemory()

    def view(
        self, *counts: RunningCount, seconds: float = 0, unheld: frozenset[str] = frozenset()
    ) -> TurnView:
        """Return what a turn so many seconds from now knows, when that runs."""
        return TurnView(
            self.config,
            counts,
            self.fleet,
            self.memory,
            tenants_unheld=unheld,
            limit=1000,
            now=NOW + timedelta(seconds=seconds),
            explain=True,
        )


def _seen(*ready: Candidate) -> Seen:
    return Seen(ready=ready)


def test_who_has_had_the_slots_makes_way() -> None:
    """What ran is remembered when it has ended."""
    world = _World([(["lane"], 1)], {"mail": 1})
    busy, free = _job(1, "acme", deadline=DAY), _job(2, "bolt", deadline=2 * DAY)

    first = world.view().choose({"mail": _seen(busy, free)})
    running = RunningCount("mail", "acme", "lane", 1, 0)
    world.view(running, seconds=5)
    again = _job(3, "acme", deadline=DAY)
    second = world.view(seconds=9).choose({"mail": _seen(again, free)})

    assert _numbers(first) == [1]
    assert _numbers(second) == [2]


def test_a_newcomer_has_nothing_saved_up() -> None:
    """It takes turns with those who were served all day."""
    world = _World([(["lane"], 2)], {"mail": 2})
    world.memory.use_case("mail").waiting = {"acme", "core"}
    for second in range(200):
        running = [RunningCount("mail", tenant, "lane", 1, 0) for tenant in ("acme", "core")]
        world.view(*running, seconds=second)
    jobs = [_job(1, "acme"), _job(2, "acme"), *[_job(n, "bolt") for n in (11, 12, 13)]]

    turn = world.view(seconds=200).choose({"mail": _seen(*jobs)})

    assert sorted(_numbers(turn)) == [1, 11]


def test_who_waits_is_named_the_one_who_had_the_least_first() -> None:
    """For the capacity of a use case, and for the slots that serve its queues."""
    world = _World([(["lane", "other"], 1)], {"mail": 1, "film": 5})
    mail, slots = world.memory.use_case("mail"), world.memory.pool(["lane", "other"])
    mail.waiting, mail.times = {"acme", "bolt"}, {"acme": 5, "bolt": 3}
    slots.waiting, slots.times = {"acme", "core"}, {"acme": 9, "core": 1}

    view = world.view()

    assert view.owed("mail", ["lane"], 4) == ("bolt", "acme", "core")
    assert view.owed("mail", ["lane"], 2) == ("bolt", "core")
    assert view.owed("film", ["other"], 1) == ("core",)
    assert view.owed("film", ["elsewhere"], 4) == ()


def test_the_queues_of_a_worker_share_its_slots() -> None:
    """Two use cases on queues of their own get no more than there are slots."""
    world = _World([(["a", "b"], 2)], {"mail": 9, "film": 9})
    mails = [_job(n, "acme", queue="a") for n in (1, 2, 3)]
    films = [_job(n, "bolt", queue="b") for n in (11, 12, 13)]

    turn = world.view().choose({"mail": _seen(*mails), "film": _seen(*films)})

    assert sorted(_numbers(turn)) == [1, 11]
    assert turn.blocked[UUID(int=2)] == Blocked(Reason.WINDOW_FULL)
    assert turn.blocked[UUID(int=3)] == Blocked(Reason.BEHIND, 1)


def test_hand_offs_that_nobody_has_begun_hold_slots() -> None:
    """Of three slots one runs a job and one waits for what was sent."""
    world = _World([(["lane"], 3)], {"mail": 9})
    under_way = RunningCount("mail", "acme", "lane", 1, 1)

    turn = world.view(under_way).choose({"mail": _seen(*[_job(n, "bolt") for n in (1, 2, 3)])})

    assert _numbers(turn) == [1]


def test_a_tenant_gets_no_more_slots_by_splitting_its_work() -> None:
    """What it runs in one use case counts in the others that share the slots."""
    world = _World([(["lane"], 6)], {"mail": 9, "film": 9, "data": 9})
    running = [
        RunningCount("mail", "acme", "lane", 1, 0),
        RunningCount("film", "acme", "lane", 1, 0),
        RunningCount("data", "bolt", "lane", 1, 0),
    ]
    mails = [_job(n, "acme", deadline=DAY) for n in (1, 2)]
    films = [_job(n, "acme", deadline=DAY) for n in (3, 4)]
    data = [_job(n, "bolt", deadline=2 * DAY) for n in (11, 12, 13)]

    turn = world.view(*running).choose(
        {"mail": _seen(*mails), "film": _seen(*films), "data": _seen(*data)}
    )

    assert _numbers(turn) == [11, 1, 12]


def test_a_tenants_limit_holds_over_use_cases_whose_slots_differ() -> None:
    """What one took is seen by the next, within a turn."""
    world = _World(
        [(["a"], 9), (["b"], 9)], {"mail": 9, "film": 9}, {"acme": TenantQuota(max_running=3)}
    )
    running = RunningCount("mail", "acme", "a", 1, 0)
    mails = [_job(n, "acme", queue="a") for n in (1, 2, 3)]
    films = [_job(n, "acme", queue="b") for n in (11, 12, 13)]

    turn = world.view(running).choose({"mail": _seen(*mails), "film": _seen(*films)})

    assert _numbers(turn) == [1, 2]


def test_hand_offs_under_way_count_towards_a_capacity() -> None:
    """Nobody has claimed them, but somebody may at any moment."""
    world = _World([(["lane"], 9)], {"mail": 2})

    turn = world.view(RunningCount("mail", "acme", "lane", 0, 1)).choose(
        {"mail": _seen(_job(1, "bolt"), _job(2, "bolt"))}
    )

    assert _numbers(turn) == [1]


def test_a_late_job_is_passed_over_for_so_many_starts_and_no_more() -> None:
    """The starts are counted from turn to turn."""
    world = _World([(["lane"], 32)], {"mail": 32})
    late = _job(99, "bolt", deadline=-5)
    pressing = [_job(n, "acme", deadline=20) for n in range(1, 33)]
    for second in (0, 1):
        turn = world.view(seconds=second).choose({"mail": _seen(*pressing, late)})
        assert 99 not in _numbers(turn)
        assert turn.late == {"mail"}

    turn = world.view(seconds=2).choose({"mail": _seen(*pressing, late)})

    assert 99 in _numbers(turn)


def test_s8_what_a_limited_tenant_gets_for_others_counts_in_the_next_pool() -> None:
    """In two pools it was left behind by its use case, and is owed the slots all the same."""
    world = _World(
        [(["a"], 1), (["b"], 1)],
        {"mail": 1, "chat": 1, "film": 9},
        {"acme": TenantQuota(max_running=1)},
    )
    for queue, name in (("a", "mail"), ("b", "chat")):
        world.memory.pool([queue]).waiting = {"acme", "bolt", "core"}
        world.memory.pool([queue]).times = {"acme": 0, "bolt": 10**9, "core": 10**9}
        world.memory.use_case(name).waiting = {"acme", "bolt"}
        world.memory.use_case(name).times = {"acme": 10**9, "bolt": 0}
    seen = {
        "mail": _seen(_job(1, "acme", queue="a"), _job(2, "bolt", queue="a")),
        "chat": _seen(_job(11, "acme", queue="b"), _job(12, "bolt", queue="b")),
        "film": _seen(_job(21, "core", queue="a"), _job(22, "core", queue="b")),
    }

    turn = world.view().choose(seen)

    assert len(turn.chosen) == 2
    assert len({1, 11} & {*_numbers(turn)}) == 1


def test_f12_contrary_orders_of_slots_and_capacity_cost_few_divisions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who has had the most of the capacity has had the least of the slots, and the other way."""
    world = _World([(["lane"], 10)], {"mail": 9, "film": 99})
    tenants = [f"tenant-{n:03}" for n in range(300)]
    slots, capacity = world.memory.pool(["lane"]), world.memory.use_case("mail")
    slots.waiting, capacity.waiting = {*tenants}, {*tenants}
    slots.times = {tenant: n * 10**9 for n, tenant in enumerate(tenants)}
    capacity.times = {tenant: (300 - n) * 10**9 for n, tenant in enumerate(tenants)}
    divided: list[Pool] = []
    divide = Slots._divide

    def counting(self: Slots, pool: Pool, *arguments: Any) -> Share:
        divided.append(pool)
        return divide(self, pool, *arguments)

    monkeypatch.setattr(Slots, "_divide", counting)
    mails = [_job(n, tenant) for n, tenant in enumerate(tenants, 1)]
    films = [_job(1_000 + n, "tenant-299") for n in range(20)]

    turn = world.view().choose({"mail": _seen(*mails), "film": _seen(*films)})

    assert Counter(name for name, _ in turn.chosen) == {"mail": 9, "film": 1}
    assert len(divided) <= DIVISIONS_MAX + 1
