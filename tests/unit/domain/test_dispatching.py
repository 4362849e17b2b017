"""One turn over all use cases, by example: what it sees, leases, and remembers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.dispatching import Round, RunningCount, Seen, TurnView
from async_jobs.domain.fairness import ServiceMemory
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.domain.pools import Fleet, pools_of
from async_jobs.domain.scheduling import Blocked, Candidate, Reason
from async_jobs.testing.builders import SimpleLimits
from tests.unit.domain.builders import NOW, after
from tests.unit.domain.candidates import contest_of, numbers, pressing, waiting

MANY = UseCaseConfig(max_concurrent=1_000)


def runs(
    tenant: str = "acme", use_case: str = "mail", queue: str = "lane", **n: int
) -> RunningCount:
    """Return how many jobs of a tenant run, `claimed` and `unclaimed`."""
    return RunningCount(use_case, tenant, queue, n.get("claimed", 0), n.get("unclaimed", 0))


class Scene:
    """Turns over a few use cases, with one memory.

    Args:
        workers: each one's queues and slots.
        quotas: the limited and weighted tenants.
        use_cases: the limits; `mail` without one that matters by default.
    """

    def __init__(
        self,
        *workers: tuple[tuple[str, ...], int],
        quotas: Mapping[str, TenantQuota] | None = None,
        hand_off_seconds: float = 0.0,
        closed: frozenset[str] = frozenset(),
        **use_cases: UseCaseConfig,
    ) -> None:
        self.limits = SimpleLimits(
            use_case_configs=use_cases or {"mail": MANY}, per_tenant_quotas=quotas or {}
        )
        self.fleet = Fleet(
            pools=pools_of(workers), hand_off_seconds=hand_off_seconds, window_min=5, closed=closed
        )
        self.memory = ServiceMemory()

    def view(
        self, *counts: RunningCount, limit: int = 1_000, at: float = 0.0, explain: bool = False
    ) -> TurnView:
        """Return what a turn knows at so many seconds from now."""
        return TurnView(
            self.limits,
            counts,
            self.fleet,
            self.memory,
            tenants_unheld=frozenset(),
            limit=limit,
            now=after(at),
            explain=explain,
        )


def given(chosen: Round) -> list[int]:
    """Return the numbers of what was chosen, in order."""
    return numbers([candidate for _, candidate in chosen.chosen])


def mail(*ready: Candidate) -> Mapping[str, Seen]:
    """Return what was seen, all of it of one use case."""
    return {"mail": Seen(ready=ready)}


def lot(first: int, tenant: str, count: int = 9, queue: str = "lane") -> Iterable[Candidate]:
    """Return many jobs of a tenant."""
    return [waiting(first + n, tenant, deadline=60 + n, queue=queue) for n in range(count)]


# --- What there is room for ----------------------------------------------------------------------


def test_a_use_case_has_room_for_what_it_does_not_run() -> None:
    """Claimed and unclaimed alike; after its capacity was lowered, for less than nothing."""
    scene = Scene((("lane",), 9), mail=UseCaseConfig(max_concurrent=4))

    assert scene.view(runs(claimed=1), runs("bolt", unclaimed=2)).free("mail") == 1
    assert scene.view(runs(claimed=6)).free("mail") == -2


def test_a_queue_has_room_for_the_idle_slots_of_its_pool() -> None:
    """What waits for another queue of the same workers takes from it."""
    scene = Scene((("lane", "other"), 9))

    assert scene.view(runs(claimed=3), runs(queue="other", unclaimed=2)).window("lane", "mail") == 4


def test_f10_a_queue_has_room_ahead_for_work_that_is_known_to_be_short() -> None:
    """By the turnover of its use case; none while its jobs are known to be long."""
    scene = Scene((("lane",), 10), hand_off_seconds=0.05)
    quick, slow = scene.memory.turnover("mail"), ServiceMemory().turnover("mail")
    for turnover, seconds in ((quick, 0.0101), (slow, 60.0)):
        turnover.observe(8, after(-seconds))
        turnover.observe(0, NOW)

    full = scene.view(runs(claimed=10)).window("lane", "mail")
    scene.memory._turnovers["mail"] = slow
    slow_one = scene.view(runs(claimed=10)).window("lane", "mail")

    assert (full, slow_one) == (49, 0)


def test_f10_quick_jobs_do_not_queue_behind_long_ones_of_another_use_case() -> None:
    """Long ones hold all slots: what is handed off ahead would wait until its lease is over."""
    scene = Scene((("lane",), 10), hand_off_seconds=0.05, mail=MANY, export=MANY)
    for name, seconds in (("mail", 0.01), ("export", 600.0)):
        scene.memory.turnover(name).observe(8, after(-seconds))
        scene.memory.turnover(name).observe(0, NOW)

    behind = scene.view(runs(use_case="export", claimed=10))
    beside = scene.view(runs(use_case="export", claimed=9), runs(claimed=1))

    assert behind.window("lane", "mail") == 0
    assert beside.window("lane", "mail") == 5


# --- The choice ----------------------------------------------------------------------------------


def test_what_fits_is_leased_by_deadline() -> None:
    """Whatever use case it is of."""
    scene = Scene((("lane",), 9), mail=MANY, report=MANY)

    chosen = scene.view().choose(
        {
            "mail": Seen(ready=[waiting(1, deadline=90), waiting(2, deadline=70)]),
            "report": Seen(ready=[waiting(3, deadline=80)]),
        }
    )

    assert given(chosen) == [2, 3, 1]
    assert [name for name, _ in chosen.chosen] == ["mail", "report", "mail"]
    assert not scene.memory.is_contested


def test_f1_shares_are_of_slots_not_of_capacity() -> None:
    """Four slots and a capacity of a thousand: two tenants get two each."""
    scene = Scene((("lane",), 4))

    chosen = scene.view().choose(mail(*lot(1, "acme"), *lot(101, "bolt")))

    assert sorted(given(chosen)) == [1, 2, 101, 102]


def test_f2_what_tenants_have_had_of_a_pool_decides_at_the_next_turn() -> None:
    """The one that ran goes behind, though its jobs are more urgent."""
    scene = Scene((("lane",), 1))
    first = scene.view().choose(mail(*lot(1, "acme"), *lot(101, "bolt")))

    second = scene.view(at=3).choose(mail(*lot(2, "acme"), *lot(101, "bolt")))

    assert (given(first), given(second)) == ([1], [101])


def test_f2_what_tenants_have_had_of_a_capacity_decides_at_the_next_turn() -> None:
    """Though there are slots for all."""
    scene = Scene((("lane",), 50), mail=UseCaseConfig(max_concurrent=1))
    scene.view().choose(mail(*lot(1, "acme"), *lot(101, "bolt")))

    assert given(scene.view(at=3).choose(mail(*lot(2, "acme"), *lot(101, "bolt")))) == [101]


def test_f2_a_pool_where_nothing_runs_any_more_charges_nothing() -> None:
    """What ended was charged up to the turn that saw it end, and no further."""
    scene = Scene((("lane",), 1))
    contest = scene.memory.pool(["lane"])
    contest.waiting.add("bolt")
    scene.view(runs(claimed=1))

    scene.view(at=1)
    scene.view(at=5)

    assert contest.times == {"acme": 1_000_000}


def test_f2_who_waits_for_a_queue_that_some_workers_receive_is_remembered() -> None:
    """The other slots are idle, and nobody else waits."""
    scene = Scene((("a", "b"), 1), (("b",), 3))
    jobs = [*lot(1, "acme", queue="a"), *lot(101, "bolt", queue="a")]

    first = scene.view().choose(mail(*jobs))
    second = scene.view(at=3).choose(mail(*jobs[1:]))

    assert (given(first), given(second)) == ([1], [101])


def test_f11_use_cases_of_one_pool_are_chosen_from_together() -> None:
    """Each has a queue of its own, the slots are the same: the more pressing goes first."""
    scene = Scene((("lane", "other"), 2), mail=MANY, report=MANY)

    chosen = scene.view().choose(
        {
            "mail": Seen(ready=[*lot(1, "acme")]),
            "report": Seen(
                ready=[pressing(n, "acme")._replace(queue="other") for n in (101, 102, 103)]
            ),
        }
    )

    assert given(chosen) == [101, 102]


def test_f11_a_full_queue_does_not_stand_before_another_one() -> None:
    """A use case whose most urgent jobs are for a pool without slots leases the others."""
    scene = Scene((("lane",), 1), (("other",), 1), mail=UseCaseConfig(max_concurrent=2))

    chosen = scene.view(runs("bolt", "report", claimed=1)).choose(
        mail(*lot(1, "acme"), *lot(101, "acme", queue="other"))
    )

    assert given(chosen) == [101]


def test_f5_another_turn_follows_where_a_use_case_chose_for_a_pool_that_filled_up() -> None:
    """Its two places went to the pool with one slot; the other pool's slot is idle."""
    scene = Scene((("lane",), 1), (("other",), 1), mail=UseCaseConfig(max_concurrent=2))
    jobs = [pressing(1), pressing(2), waiting(3, queue="other")]

    first = scene.view().choose(mail(*jobs))
    second = scene.view(runs(unclaimed=1)).choose(mail(*jobs[1:]))

    assert (given(first), first.more) == ([1], True)
    assert (given(second), second.more) == ([3], False)


def test_a_turn_that_filled_its_pool_needs_no_other() -> None:
    """There is nothing more to have, however much waits."""
    scene = Scene((("lane",), 1), mail=UseCaseConfig(max_concurrent=4))

    assert not scene.view().choose(mail(*lot(1, "acme"))).more


def test_f1_a_tenants_limit_only_takes_away() -> None:
    """Over all use cases of a turn, and others get what it leaves."""
    scene = Scene(
        (("lane",), 4), quotas={"acme": TenantQuota(max_running=2)}, mail=MANY, report=MANY
    )

    chosen = scene.view(runs(claimed=1)).choose(
        {
            "mail": Seen(ready=[pressing(1), pressing(2)]),
            "report": Seen(ready=[pressing(3), *lot(101, "bolt")]),
        }
    )

    tenants = [candidate.tenant_id for _, candidate in chosen.chosen]
    assert tenants.count("acme") == 1
    assert tenants.count("bolt") == 2


def test_a_turn_leases_no_more_than_its_limit() -> None:
    """Over all pools."""
    scene = Scene((("lane",), 4), (("other",), 4))

    chosen = scene.view(limit=5).choose(mail(*lot(1, "acme"), *lot(101, "acme", queue="other")))

    assert len(chosen.chosen) == 5


def test_without_a_worker_a_few_jobs_are_handed_off() -> None:
    """So that the first one finds work."""
    assert len(Scene().view().choose(mail(*lot(1, "acme"))).chosen) == 5


def test_a_closed_queue_takes_nothing() -> None:
    """Its transport accepted nothing lately; the tenants wait for its slots."""
    scene = Scene((("lane",), 4), closed=frozenset({"lane"}))

    assert given(scene.view().choose(mail(*lot(1, "acme")))) == []
    assert scene.memory.pool(["lane"]).waiting == {"acme"}


# --- Late jobs -----------------------------------------------------------------------------------


def test_which_use_cases_showed_late_jobs_is_told() -> None:
    """So that they can be moved out of the way."""
    sideline, run = UseCaseConfig(), UseCaseConfig(late_policy=LatePolicy.RUN)
    scene = Scene((("lane",), 4), mail=sideline, report=run, export=sideline)

    chosen = scene.view().choose(
        {
            "mail": Seen(ready=[waiting(1, deadline=-1)]),
            "report": Seen(ready=[waiting(2, deadline=-1)]),
            "export": Seen(ready=[waiting(3, deadline=1)]),
        }
    )

    assert chosen.late == {"mail"}


@pytest.mark.parametrize("slots", [0, 4])
def test_expired_jobs_are_named_whatever_there_is_room_for(slots: int) -> None:
    """To bury a job takes no slot."""
    expire = UseCaseConfig(late_policy=LatePolicy.EXPIRE)
    scene = Scene((("lane",), 1), mail=expire)
    late = waiting(1, deadline=-1)

    chosen = scene.view(runs("bolt", claimed=9 - slots)).choose(
        {"mail": Seen(ready=[late], late=[late, waiting(2, deadline=-2)])}
    )

    assert numbers(chosen.expired) == [2, 1]
    assert given(chosen) == []


def test_f6_only_what_was_leased_has_passed_a_late_job_over() -> None:
    """A use case that chooses more than there are slots for passes nobody over with the rest."""
    scene = Scene((("lane",), 2), mail=UseCaseConfig(max_concurrent=50))
    urgent = [pressing(n, "acme") for n in range(1, 90)]

    scene.view(runs("bolt", claimed=1)).choose(mail(*urgent, waiting(100, "core", deadline=-1)))

    contests = (scene.memory.pool(["lane"]), scene.memory.use_case("mail"))
    assert [contest.passed_over for contest in contests] == [1, 1]


def test_f6_a_late_job_whose_turn_it_is_goes_first() -> None:
    """Through both contests."""
    scene = Scene((("lane",), 1), mail=UseCaseConfig(max_concurrent=50))
    for contest in (scene.memory.pool(["lane"]), scene.memory.use_case("mail")):
        contest.passed_over = 64
        contest.waiting.add("core")
    urgent = [pressing(n, "acme") for n in range(1, 90)]

    chosen = scene.view().choose(mail(*urgent, waiting(100, "core", deadline=-1)))

    assert given(chosen) == [100]
    assert scene.memory.pool(["lane"]).passed_over == 0


# --- Who waits -----------------------------------------------------------------------------------


def test_who_could_have_used_more_slots_waits() -> None:
    """And no longer, once it is shown to have all it wants."""
    scene = Scene((("lane",), 2))

    scene.view().choose(mail(*lot(1, "acme"), *lot(101, "bolt", 1)))
    first = set(scene.memory.pool(["lane"]).waiting)
    scene.view(runs(claimed=1)).choose(mail(*lot(2, "acme", 1)))

    assert first == {"acme"}
    assert not scene.memory.is_contested


def test_who_was_not_shown_is_remembered_to_wait() -> None:
    """Unless it was named, or all was shown there is."""
    scene = Scene((("lane",), 1))
    contest = scene.memory.pool(["lane"])
    jobs = lot(1, "acme", 3)

    def waits_on(seen: Seen) -> bool:
        contest.waiting.add("bolt")
        scene.view().choose({"mail": seen})
        return "bolt" in contest.waiting

    assert waits_on(Seen(ready=[*jobs], whole=False))
    assert not waits_on(Seen(ready=[*jobs], whole=False, named=("bolt",)))
    assert not waits_on(Seen(ready=[*jobs], whole=True))


def test_what_nobody_looked_at_may_hide_tenants_that_wait() -> None:
    """A use case that another scheduler holds; one that is full has nobody who waits for slots."""
    busy = UseCaseConfig(max_concurrent=1)
    scene = Scene((("lane",), 2), mail=MANY, report=MANY, export=busy)
    contest = scene.memory.pool(["lane"])
    contest.waiting.add("bolt")

    scene.view(runs(use_case="export", claimed=1)).choose(mail(*lot(1, "acme", 3)))
    hidden = "bolt" in contest.waiting
    scene.view(runs(use_case="export", claimed=1)).choose(
        {**mail(*lot(1, "acme", 3)), "report": Seen()}
    )

    assert hidden
    assert "bolt" not in contest.waiting


def test_f12_those_who_are_owed_the_most_are_named() -> None:
    """Of the use case's capacity and of its pool, each once, no more than asked for of each."""
    scene = Scene((("lane",), 1))
    scene.memory._of_use_cases["mail"] = contest_of(acme=3, bolt=0, core=5)
    scene.memory._of_pools["lane"] = contest_of(dune=1, bolt=0, acme=9)

    owed = scene.view().owed("mail", ["lane"], 4)

    assert owed == ("bolt", "acme", "dune")


def test_f12_where_only_one_thing_is_waited_for_all_names_are_for_it() -> None:
    """None are kept for a contest without anybody."""
    scene = Scene((("lane",), 1))
    scene.memory._of_pools["lane"] = contest_of(dune=1, bolt=0, acme=9)

    assert scene.view().owed("mail", ["lane"], 2) == ("bolt", "dune")


# --- Reasons -------------------------------------------------------------------------------------


def test_why_others_wait_is_told_if_asked() -> None:
    """For slots, behind their own, or for a queue that takes nothing."""
    scene = Scene((("lane",), 1), closed=frozenset({"other"}))
    jobs = [waiting(1), waiting(2), waiting(3, queue="other"), waiting(4, deadline=90)]

    told = scene.view(explain=True).choose(mail(*jobs)).blocked
    untold = scene.view().choose(mail(*jobs)).blocked

    assert {job_id.int: why for job_id, why in told.items()} == {
        2: Blocked(Reason.WINDOW_FULL),
        3: Blocked(Reason.WINDOW_FULL),
        4: Blocked(Reason.BEHIND, 1),
    }
    assert untold == {}
