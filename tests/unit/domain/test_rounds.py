"""In what order tenants take turns, by example."""

import pytest

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.fairness import MICROSECONDS, STARTS_BETWEEN_LATE, Contest
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.domain.rounds import PARTS_OF_A_ROUND, ROUNDS_AHEAD_MAX
from tests.unit.domain.candidates import (
    ROUND_SECONDS,
    had_seconds,
    numbers,
    run_select,
    waiting,
    why_not,
)

# --- Order across tenants --------------------------------------------------------------------


def test_whatever_fits_is_taken_in_order_across_tenants() -> None:
    """Without contention there is nothing to divide: fairness does not reorder."""
    selection = run_select(
        waiting(1, "acme", deadline=30),
        waiting(2, "bolt", deadline=10),
        waiting(3, "core", deadline=20),
        slots=3,
        quotas={"acme": TenantQuota(weight=100)},
        contest=had_seconds(bolt=1000),
    )

    assert numbers(selection.chosen) == [2, 3, 1]
    assert why_not(selection) == {}
    assert selection.waiting == set()


def test_who_could_have_used_more_is_told() -> None:
    """Who got all that it wanted does not wait."""
    selection = run_select(
        waiting(1, "acme"), waiting(2, "bolt"), waiting(3, "bolt"), waiting(4, "core"), slots=3
    )

    assert numbers(selection.chosen) == [1, 2, 4]
    assert selection.waiting == {"bolt"}


def test_what_presses_goes_before_what_can_wait() -> None:
    """Whatever its tenant has had: the other loses nothing by waiting."""
    selection = run_select(
        waiting(1, "acme", deadline=29),
        waiting(2, "bolt", deadline=31),
        contest=had_seconds(acme=1000),
    )

    assert numbers(selection.chosen) == [1]


@pytest.mark.parametrize(("ahead", "expected"), [(ROUNDS_AHEAD_MAX, 1), (ROUNDS_AHEAD_MAX + 1, 2)])
def test_what_is_critical_runs_a_number_of_rounds_ahead(ahead: int, expected: int) -> None:
    """Beside jobs that press, and no further."""
    selection = run_select(
        waiting(1, "acme", deadline=9),
        waiting(2, "bolt", deadline=20),
        contest=had_seconds(acme=ahead * ROUND_SECONDS),
    )

    assert numbers(selection.chosen) == [expected]


# --- Rounds ----------------------------------------------------------------------------------


def test_a_backlog_does_not_displace_another_tenants_share() -> None:
    """Four slots and two tenants: each gets two, although all of one's deadlines are earlier."""
    backlog = [waiting(n, "acme", deadline=100 + n) for n in range(1, 100)]
    few = [waiting(n, "bolt", deadline=1000 + n) for n in range(101, 104)]

    selection = run_select(*backlog, *few, slots=4)

    assert numbers(selection.chosen) == [1, 101, 2, 102]


def test_what_a_tenant_leaves_of_its_share_goes_to_the_others() -> None:
    """A tenant that wants less than its part gets what it wants."""
    backlog = [waiting(n, "acme", deadline=100 + n) for n in range(1, 100)]

    selection = run_select(*backlog, waiting(101, "bolt", deadline=1000), slots=4)

    assert numbers(selection.chosen) == [1, 101, 2, 3]


def test_running_jobs_count_towards_a_share() -> None:
    """Each stands for a round that is being had."""
    selection = run_select(
        waiting(1, "acme", deadline=101),
        waiting(2, "acme", deadline=102),
        waiting(3, "bolt", deadline=150),
        waiting(4, "bolt", deadline=160),
        slots=4,
        running={"acme": 2},
    )

    assert numbers(selection.chosen) == [3, 4]


def test_who_has_had_less_goes_first() -> None:
    """Shares are kept over time, not only in what runs at one instant."""
    selection = run_select(
        waiting(1, "acme", deadline=100),
        waiting(2, "bolt", deadline=200),
        contest=had_seconds(acme=50),
    )

    assert numbers(selection.chosen) == [2]


def test_less_than_a_part_of_a_round_makes_no_difference() -> None:
    """Within it the earliest deadline goes first."""
    selection = run_select(
        waiting(1, "acme", deadline=100),
        waiting(2, "bolt", deadline=200),
        contest=had_seconds(acme=ROUND_SECONDS * 0.9 / PARTS_OF_A_ROUND),
    )

    assert numbers(selection.chosen) == [1]


def test_a_round_takes_as_long_as_a_job() -> None:
    """What is much beside jobs of a second is nothing beside jobs of a minute."""
    selection = run_select(
        waiting(1, "acme", deadline=100),
        waiting(2, "bolt", deadline=200),
        contest=had_seconds(acme=14),
        seconds={"report": 60},
    )

    assert numbers(selection.chosen) == [1]


@pytest.mark.parametrize("times", [{}, {"bolt": 7}])
def test_who_did_not_ask_has_nothing_saved_up(times: dict[str, int]) -> None:
    """A newcomer stands on the floor, beside the one that has had the least."""
    floor = 500 * MICROSECONDS
    contest = Contest(floor=floor, times={"acme": floor, **times})

    selection = run_select(
        waiting(1, "acme", deadline=100),
        waiting(2, "acme", deadline=101),
        waiting(3, "bolt", deadline=200),
        waiting(4, "bolt", deadline=201),
        slots=2,
        contest=contest,
    )

    assert numbers(selection.chosen) == [1, 3]


def test_weights_divide_the_capacity() -> None:
    """Weight three gets three slots where weight one gets one."""
    heavy = [waiting(n, "acme", deadline=1000 + n) for n in range(1, 10)]
    light = [waiting(n, "bolt", deadline=100 + n) for n in range(11, 20)]

    selection = run_select(*heavy, *light, slots=4, quotas={"acme": TenantQuota(weight=3)})

    assert sorted(numbers(selection.chosen)) == [1, 2, 3, 11]


def test_within_a_round_the_earliest_deadline_goes_first() -> None:
    """With fewer free slots than tenants whose turn it is, urgency decides among them."""
    selection = run_select(
        waiting(1, "acme", deadline=130),
        waiting(2, "bolt", deadline=110),
        waiting(3, "core", deadline=120),
        slots=10,
        running={"dune": 8},
    )

    assert numbers(selection.chosen) == [2, 3]


def test_what_is_left_after_a_round_goes_by_deadline() -> None:
    """Of three slots two tenants get one each; the third goes to the more urgent next job."""
    selection = run_select(
        waiting(1, "acme", deadline=130),
        waiting(2, "acme", deadline=140),
        waiting(3, "bolt", deadline=110),
        waiting(4, "bolt", deadline=120),
        slots=3,
    )

    assert numbers(selection.chosen) == [3, 1, 4]


def test_nobody_gets_a_second_slot_before_each_has_one() -> None:
    """Three tenants share four slots."""
    selection = run_select(
        *[waiting(n, "acme", deadline=100 + n) for n in (1, 2, 3)],
        *[waiting(n, "bolt", deadline=100 + n) for n in (11, 12, 13)],
        *[waiting(n, "core", deadline=100 + n) for n in (21, 22, 23)],
        slots=4,
    )

    assert numbers(selection.chosen) == [1, 11, 21, 2]


def test_half_of_the_weight_gets_half_of_the_slots() -> None:
    """Two light tenants are due half a slot each, so they cannot take both of two slots."""
    weights = {"acme": 0.5, "bolt": 0.5, "core": 1.0}

    selection = run_select(
        waiting(1, "acme", deadline=101),
        waiting(2, "bolt", deadline=102),
        waiting(3, "core", deadline=150),
        slots=2,
        quotas={tenant: TenantQuota(weight=weight) for tenant, weight in weights.items()},
    )

    assert numbers(selection.chosen) == [3, 1]


def test_weights_in_tenths_give_whole_slots() -> None:
    """A weight of 0.1 is no binary fraction, but out of 0.6 it is still one slot of six."""
    quotas = {t: TenantQuota(weight=w) for t, w in [("acme", 0.1), ("bolt", 0.2), ("core", 0.3)]}
    backlog = [
        waiting(100 * place + n, tenant, deadline=1000 * place + n)
        for place, tenant in enumerate(["core", "bolt", "acme"], start=1)
        for n in range(9)
    ]

    selection = run_select(*backlog, slots=6, quotas=quotas)

    assert sorted(numbers(selection.chosen)) == [100, 101, 102, 200, 201, 300]


def test_between_tenants_the_head_decides_not_the_most_urgent_job() -> None:
    """A tenant that prefers a patient job by priority is as patient as that job."""
    selection = run_select(
        waiting(1, "acme", deadline=190, priority=1),
        waiting(2, "acme", deadline=101),
        waiting(3, "bolt", deadline=150),
        slots=2,
        running={"core": 1},
    )

    assert numbers(selection.chosen) == [3]


# --- Late jobs -------------------------------------------------------------------------------


def test_late_jobs_that_run_are_the_most_urgent() -> None:
    """Where they go first: the later the more urgent."""
    selection = run_select(
        waiting(1, deadline=5),
        waiting(2, deadline=-1),
        waiting(3, deadline=-9),
        slots=2,
        late=LatePolicy.RUN,
    )

    assert numbers(selection.chosen) == [3, 2]
    assert not selection.has_late


def test_late_jobs_come_after_all_that_presses() -> None:
    """By default; priority and fairness do not lift a late job above one that is on time."""
    selection = run_select(
        waiting(1, "acme", deadline=-1, priority=9),
        waiting(2, "acme", deadline=25),
        waiting(3, "bolt", deadline=26),
        waiting(4, "bolt", deadline=27),
        waiting(5, "core", deadline=-2),
        slots=3,
        late=UseCaseConfig().late_policy,
    )

    assert numbers(selection.chosen) == [2, 3, 4]
    assert selection.has_late


def test_late_jobs_come_before_what_can_wait() -> None:
    """Which loses nothing by it: within a tenant, and within a round."""
    selection = run_select(
        waiting(1, "acme", deadline=50, priority=9),
        waiting(2, "acme", deadline=-1),
        waiting(3, "bolt", deadline=40),
        waiting(4, "core", deadline=-2),
        slots=2,
    )

    assert numbers(selection.chosen) == [4, 2]


def test_a_late_job_takes_its_tenants_turn() -> None:
    """Who has had more does not get more for being late."""
    selection = run_select(
        waiting(1, "acme", deadline=-1),
        waiting(2, "bolt", deadline=50),
        contest=had_seconds(acme=50),
    )

    assert numbers(selection.chosen) == [2]


@pytest.mark.parametrize(
    ("passed_over", "expected"),
    [
        (STARTS_BETWEEN_LATE - 1, [1, 2, 3]),
        (STARTS_BETWEEN_LATE, [5, 1, 2]),
        (2 * STARTS_BETWEEN_LATE, [5, 4, 1]),
    ],
)
def test_a_late_job_that_was_passed_over_for_long_is_rescued(
    passed_over: int, expected: list[int]
) -> None:
    """One start after so many is of the job that is overdue for longest."""
    selection = run_select(
        *[waiting(n, "acme", deadline=n) for n in (1, 2, 3)],
        waiting(4, "bolt", deadline=-10),
        waiting(5, "bolt", deadline=-20),
        slots=3,
        contest=had_seconds(passed_over),
    )

    assert numbers(selection.chosen) == expected


def test_a_late_job_for_which_there_is_no_place_waits_on() -> None:
    """Else a turn that finds everything full would forget how long it was passed over."""
    late = [waiting(1, "acme", deadline=-1), waiting(2, "bolt", deadline=-2)]

    full = run_select(*late, running={"core": 1}, contest=had_seconds(2 * STARTS_BETWEEN_LATE))

    assert full.chosen == ()
    assert full.waiting == {"acme", "bolt"}


def test_late_jobs_still_run() -> None:
    """When everything fits, late jobs run last."""
    selection = run_select(waiting(1, deadline=-1), waiting(2, deadline=50), slots=5)

    assert numbers(selection.chosen) == [2, 1]


def test_expired_jobs_are_handed_back_to_be_buried() -> None:
    """They are neither chosen nor blocked, and take no room, not even a paused use case's."""
    late = [waiting(1, deadline=-1), waiting(2, deadline=-9)]

    open_one = run_select(*late, waiting(3, deadline=50), late=LatePolicy.EXPIRE)
    paused = run_select(*late, waiting(3, deadline=50), slots=0, late=LatePolicy.EXPIRE)

    assert numbers(open_one.expired) == [2, 1]
    assert numbers(open_one.chosen) == [3]
    assert open_one.blocked == {}
    assert numbers(paused.expired) == [2, 1]


@pytest.mark.parametrize("late", LatePolicy)
def test_a_job_on_its_deadline_is_not_late(late: LatePolicy) -> None:
    """The deadline itself is on time under every policy."""
    selection = run_select(waiting(1, deadline=0), waiting(2, deadline=5), late=late)

    assert numbers(selection.chosen) == [1]
    assert not selection.has_late
