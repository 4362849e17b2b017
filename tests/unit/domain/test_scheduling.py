"""The scheduling policy by example: one test for each rule, reason and edge."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any
from uuid import UUID

import pytest

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.fairness import MICROSECONDS, STARTS_BETWEEN_LATE, Contest
from async_jobs.domain.lifecycle import Leased, advance
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.domain.pools import Fleet, Places, Pool
from async_jobs.domain.rounds import PARTS_OF_A_ROUND, ROUNDS_AHEAD_MAX, Choice
from async_jobs.domain.scheduling import (
    Blocked,
    Candidate,
    Contender,
    LeaseGrant,
    Ranking,
    Reason,
    Selection,
    SelectionRequest,
    grant,
    in_tenant_order,
    select,
)
from async_jobs.domain.slots import share_slots
from tests.unit.domain.builders import NOW, after, pending
from tests.unit.domain.candidates import numbers, why_not

ROUND_SECONDS = 1
"""What a round takes here: nobody knows how long the jobs run, so that each is held for a second"""


def _waiting(
    number: int,
    tenant: str = "acme",
    *,
    deadline: float = 60,
    priority: int = 0,
    tolerance: float = 60,
    type_: str = "mail",
    queue: str = "lane",
    is_due: bool = True,
) -> Candidate:
    """Return a job; `deadline` is in seconds from now: up to 10 critical, up to 30 pressing."""
    return Candidate(
        id=UUID(int=number),
        tenant_id=tenant,
        queue=queue,
        priority=priority,
        deadline_at=after(deadline),
        lease_seq=4,
        tolerance_seconds=tolerance,
        type=type_,
        is_due=is_due,
    )


def _had(passed_over: int = 0, **seconds: float) -> Contest:
    """Return a contest in which tenants have had so many seconds of service."""
    times = {tenant: round(each * MICROSECONDS) for tenant, each in seconds.items()}
    return Contest(times=times, passed_over=passed_over)


def run_select(
    *candidates: Candidate,
    slots: int = 1,
    late: LatePolicy = LatePolicy.SIDELINE,
    running: Mapping[str, int] | None = None,
    tenant_running: Mapping[str, int] | None = None,
    quotas: Mapping[str, TenantQuota] | None = None,
    unheld: AbstractSet[str] = frozenset(),
    contest: Contest | None = None,
    seconds: Mapping[str, float] | None = None,
) -> Selection:
    """Select among the candidates; `slots` is the use case's `max_concurrent`."""
    known = seconds or {}
    return select(
        SelectionRequest(
            config=UseCaseConfig(max_concurrent=slots, late_policy=late),
            now=NOW,
            running=running or {},
            tenant_running=tenant_running or {},
            quotas=quotas or {},
            candidates=candidates,
            tenants_unheld=unheld,
            contest=contest or Contest(),
            run_seconds=lambda type_: known.get(type_, ROUND_SECONDS),
        )
    )


def test_nothing_waiting_selects_nothing() -> None:
    """An empty backlog is no special case."""
    assert run_select() == Selection()


# --- Rule 1: who is eligible -----------------------------------------------------------------


def test_a_job_that_is_not_due_waits() -> None:
    """However many places are free."""
    selection = run_select(_waiting(1, is_due=False), _waiting(2), slots=5)

    assert numbers(selection.chosen) == [2]
    assert why_not(selection) == {1: Blocked(Reason.NOT_DUE)}


def test_a_use_case_with_capacity_zero_is_paused() -> None:
    """Nothing is leased, and the reason says that this was wanted."""
    selection = run_select(_waiting(1), _waiting(2), slots=0)

    assert selection.chosen == ()
    assert why_not(selection) == {1: Blocked(Reason.PAUSED), 2: Blocked(Reason.PAUSED)}


def test_a_tenant_that_may_run_nothing_is_paused() -> None:
    """`max_running` zero stops one tenant and no other."""
    quotas = {"acme": TenantQuota(max_running=0)}

    selection = run_select(_waiting(1), _waiting(2, "bolt"), slots=5, quotas=quotas)

    assert numbers(selection.chosen) == [2]
    assert why_not(selection) == {1: Blocked(Reason.PAUSED)}


def test_a_tenant_is_filled_up_to_its_limit() -> None:
    """What it runs in all use cases counts, and its most urgent jobs take the room left."""
    selection = run_select(
        _waiting(1, deadline=30),
        _waiting(2, deadline=10),
        _waiting(3, deadline=20),
        slots=5,
        tenant_running={"acme": 2},
        quotas={"acme": TenantQuota(max_running=4)},
    )

    assert numbers(selection.chosen) == [2, 3]
    assert why_not(selection) == {1: Blocked(Reason.TENANT_FULL)}


def test_a_tenant_above_a_lowered_limit_gets_nothing() -> None:
    """Lowering a limit below what runs starts nothing new."""
    selection = run_select(
        _waiting(1),
        tenant_running={"acme": 9},
        quotas={"acme": TenantQuota(max_running=4)},
    )

    assert why_not(selection) == {1: Blocked(Reason.TENANT_FULL)}


def test_a_limited_tenant_that_another_scheduler_leases_for_has_to_wait() -> None:
    """Two schedulers never fill one tenant's limit at once; it counts as full meanwhile."""
    selection = run_select(
        _waiting(1),
        _waiting(2, "bolt"),
        slots=5,
        quotas={"acme": TenantQuota(max_running=4)},
        unheld={"acme"},
    )

    assert numbers(selection.chosen) == [2]
    assert why_not(selection) == {1: Blocked(Reason.TENANT_FULL)}


def test_jobs_over_a_tenants_limit_leave_their_room_to_others() -> None:
    """A slot that a full tenant cannot take goes to the next."""
    selection = run_select(
        _waiting(1, deadline=1),
        _waiting(2, deadline=2),
        _waiting(3, "bolt", deadline=50),
        slots=2,
        quotas={"acme": TenantQuota(max_running=1)},
    )

    assert numbers(selection.chosen) == [1, 3]


def test_reasons_are_given_only_if_asked_for() -> None:
    """Whoever needs none gets the same jobs."""
    request = SelectionRequest(
        config=UseCaseConfig(max_concurrent=1),
        now=NOW,
        running={},
        tenant_running={},
        quotas={"acme": TenantQuota(max_running=2)},
        candidates=[_waiting(1), _waiting(2), _waiting(3), _waiting(4, is_due=False)],
        explain=False,
    )

    assert select(request) == Selection(
        contenders=tuple(Ranking(LatePolicy.SIDELINE, NOW).ranked([_waiting(1)])), waiting={"acme"}
    )


# --- Rule 2: capacity ------------------------------------------------------------------------


def test_only_free_slots_are_given_away() -> None:
    """Running jobs of every tenant use up the capacity."""
    selection = run_select(
        _waiting(1, deadline=1), _waiting(2, deadline=2), slots=3, running={"bolt": 1, "core": 1}
    )

    assert numbers(selection.chosen) == [1]
    assert why_not(selection) == {2: Blocked(Reason.USE_CASE_FULL)}


def test_a_use_case_above_a_lowered_capacity_starts_nothing() -> None:
    """Lowering a capacity preempts nothing and starts nothing."""
    selection = run_select(_waiting(1), slots=2, running={"bolt": 5})

    assert why_not(selection) == {1: Blocked(Reason.USE_CASE_FULL)}


# --- Order within a tenant -------------------------------------------------------------------


def test_inside_a_tenant_priority_goes_before_deadline_before_id() -> None:
    """Of jobs that are equally urgent: a higher priority, an earlier deadline, the older job."""
    selection = run_select(
        _waiting(5, deadline=110),
        _waiting(4, deadline=110),
        _waiting(3, deadline=105),
        _waiting(2, deadline=199, priority=1),
        _waiting(1, deadline=101, priority=-1),
        _waiting(6, deadline=101, priority=-2),
        slots=5,
    )

    assert numbers(selection.chosen) == [2, 3, 4, 5, 1]


def test_what_presses_goes_before_a_higher_priority() -> None:
    """No priority makes a tenant miss its own deadlines."""
    selection = run_select(
        _waiting(1, deadline=50, priority=9),
        _waiting(2, deadline=20, priority=5),
        _waiting(3, deadline=5),
        _waiting(4, deadline=90, priority=9),
        slots=3,
    )

    assert numbers(selection.chosen) == [3, 2, 1]


def test_a_job_presses_when_half_of_its_tolerance_is_used_up() -> None:
    """Not a second before."""
    selection = run_select(
        _waiting(1, deadline=51, tolerance=100, priority=9),
        _waiting(2, deadline=50, tolerance=100),
    )

    assert numbers(selection.chosen) == [2]


def test_a_job_is_critical_when_its_deadline_is_ten_seconds_away() -> None:
    """Whatever its tolerance; a tenth of a second earlier it only presses."""
    selection = run_select(
        _waiting(1, deadline=10.1, tolerance=60, priority=9),
        _waiting(2, deadline=10, tolerance=0),
    )

    assert numbers(selection.chosen) == [2]


def test_of_what_is_critical_shorter_kinds_go_first() -> None:
    """More of it starts in time; within a tenant as between tenants."""
    jobs = [
        _waiting(1, "acme", deadline=5, type_="film"),
        _waiting(2, "acme", deadline=8, type_="mail"),
        _waiting(3, "bolt", deadline=4, type_="film"),
    ]

    selection = run_select(*jobs, slots=2, seconds={"film": 30, "mail": 1})

    assert numbers(selection.chosen) == [2, 3]


def test_kinds_of_about_the_same_length_go_by_deadline() -> None:
    """What differs by less than a power of two is equally long."""
    selection = run_select(
        _waiting(1, deadline=8, type_="short"),
        _waiting(2, deadline=5, type_="long"),
        seconds={"short": 1.1, "long": 1.9},
    )

    assert numbers(selection.chosen) == [2]


def test_how_long_a_job_runs_does_not_matter_before_it_is_critical() -> None:
    """The earlier deadline goes first."""
    selection = run_select(
        _waiting(1, "acme", deadline=20, type_="film"),
        _waiting(2, "bolt", deadline=21, type_="mail"),
        seconds={"film": 30, "mail": 1},
    )

    assert numbers(selection.chosen) == [1]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (LatePolicy.RUN, [5, 4, 1, 3, 2]),
        (LatePolicy.EXPIRE, [5, 4, 1, 3, 2]),
        (LatePolicy.SIDELINE, [5, 1, 3, 2, 4]),
    ],
)
def test_a_store_shows_a_tenants_jobs_in_order(policy: LatePolicy, expected: list[int]) -> None:
    """Priority, deadline, id; under `sideline` what is late comes last."""
    jobs = [
        _waiting(3, deadline=30),
        _waiting(2, deadline=40),
        _waiting(1, deadline=30),
        _waiting(4, deadline=-1),
        _waiting(5, deadline=99, priority=1),
    ]

    assert numbers(in_tenant_order(jobs, policy, NOW)) == expected


# --- Order across tenants --------------------------------------------------------------------


def test_whatever_fits_is_taken_in_order_across_tenants() -> None:
    """Without contention there is nothing to divide: fairness does not reorder."""
    selection = run_select(
        _waiting(1, "acme", deadline=30),
        _waiting(2, "bolt", deadline=10),
        _waiting(3, "core", deadline=20),
        slots=3,
        quotas={"acme": TenantQuota(weight=100)},
        contest=_had(bolt=1000),
    )

    assert numbers(selection.chosen) == [2, 3, 1]
    assert why_not(selection) == {}
    assert selection.waiting == set()


def test_who_could_have_used_more_is_told() -> None:
    """Who got all that it wanted does not wait."""
    selection = run_select(
        _waiting(1, "acme"), _waiting(2, "bolt"), _waiting(3, "bolt"), _waiting(4, "core"), slots=3
    )

    assert numbers(selection.chosen) == [1, 2, 4]
    assert selection.waiting == {"bolt"}


def test_what_presses_goes_before_what_can_wait() -> None:
    """Whatever its tenant has had: the other loses nothing by waiting."""
    selection = run_select(
        _waiting(1, "acme", deadline=29), _waiting(2, "bolt", deadline=31), contest=_had(acme=1000)
    )

    assert numbers(selection.chosen) == [1]


@pytest.mark.parametrize(("ahead", "expected"), [(ROUNDS_AHEAD_MAX, 1), (ROUNDS_AHEAD_MAX + 1, 2)])
def test_what_is_critical_runs_a_number_of_rounds_ahead(ahead: int, expected: int) -> None:
    """Beside jobs that press, and no further."""
    selection = run_select(
        _waiting(1, "acme", deadline=9),
        _waiting(2, "bolt", deadline=20),
        contest=_had(acme=ahead * ROUND_SECONDS),
    )

    assert numbers(selection.chosen) == [expected]


# --- Rounds ----------------------------------------------------------------------------------


def test_a_backlog_does_not_displace_another_tenants_share() -> None:
    """Four slots and two tenants: each gets two, although all of one's deadlines are earlier."""
    backlog = [_waiting(n, "acme", deadline=100 + n) for n in range(1, 100)]
    few = [_waiting(n, "bolt", deadline=1000 + n) for n in range(101, 104)]

    selection = run_select(*backlog, *few, slots=4)

    assert numbers(selection.chosen) == [1, 101, 2, 102]


def test_what_a_tenant_leaves_of_its_share_goes_to_the_others() -> None:
    """A tenant that wants less than its part gets what it wants."""
    backlog = [_waiting(n, "acme", deadline=100 + n) for n in range(1, 100)]

    selection = run_select(*backlog, _waiting(101, "bolt", deadline=1000), slots=4)

    assert numbers(selection.chosen) == [1, 101, 2, 3]


def test_running_jobs_count_towards_a_share() -> None:
    """Each stands for a round that is being had."""
    selection = run_select(
        _waiting(1, "acme", deadline=101),
        _waiting(2, "acme", deadline=102),
        _waiting(3, "bolt", deadline=150),
        _waiting(4, "bolt", deadline=160),
        slots=4,
        running={"acme": 2},
    )

    assert numbers(selection.chosen) == [3, 4]


def test_who_has_had_less_goes_first() -> None:
    """Shares are kept over time, not only in what runs at one instant."""
    selection = run_select(
        _waiting(1, "acme", deadline=100), _waiting(2, "bolt", deadline=200), contest=_had(acme=50)
    )

    assert numbers(selection.chosen) == [2]


def test_less_than_a_part_of_a_round_makes_no_difference() -> None:
    """Within it the earliest deadline goes first."""
    selection = run_select(
        _waiting(1, "acme", deadline=100),
        _waiting(2, "bolt", deadline=200),
        contest=_had(acme=ROUND_SECONDS * 0.9 / PARTS_OF_A_ROUND),
    )

    assert numbers(selection.chosen) == [1]


def test_a_round_takes_as_long_as_a_job() -> None:
    """What is much beside jobs of a second is nothing beside jobs of a minute."""
    selection = run_select(
        _waiting(1, "acme", deadline=100),
        _waiting(2, "bolt", deadline=200),
        contest=_had(acme=14),
        seconds={"mail": 60},
    )

    assert numbers(selection.chosen) == [1]


@pytest.mark.parametrize("times", [{}, {"bolt": 7}])
def test_who_did_not_ask_has_nothing_saved_up(times: dict[str, int]) -> None:
    """A newcomer stands on the floor, beside the one that has had the least."""
    floor = 500 * MICROSECONDS
    contest = Contest(floor=floor, times={"acme": floor, **times})

    selection = run_select(
        _waiting(1, "acme", deadline=100),
        _waiting(2, "acme", deadline=101),
        _waiting(3, "bolt", deadline=200),
        _waiting(4, "bolt", deadline=201),
        slots=2,
        contest=contest,
    )

    assert numbers(selection.chosen) == [1, 3]


def test_weights_divide_the_capacity() -> None:
    """Weight three gets three slots where weight one gets one."""
    heavy = [_waiting(n, "acme", deadline=1000 + n) for n in range(1, 10)]
    light = [_waiting(n, "bolt", deadline=100 + n) for n in range(11, 20)]

    selection = run_select(*heavy, *light, slots=4, quotas={"acme": TenantQuota(weight=3)})

    assert sorted(numbers(selection.chosen)) == [1, 2, 3, 11]


def test_within_a_round_the_earliest_deadline_goes_first() -> None:
    """With fewer free slots than tenants whose turn it is, urgency decides among them."""
    selection = run_select(
        _waiting(1, "acme", deadline=130),
        _waiting(2, "bolt", deadline=110),
        _waiting(3, "core", deadline=120),
        slots=10,
        running={"dune": 8},
    )

    assert numbers(selection.chosen) == [2, 3]


def test_what_is_left_after_a_round_goes_by_deadline() -> None:
    """Of three slots two tenants get one each; the third goes to the more urgent next job."""
    selection = run_select(
        _waiting(1, "acme", deadline=130),
        _waiting(2, "acme", deadline=140),
        _waiting(3, "bolt", deadline=110),
        _waiting(4, "bolt", deadline=120),
        slots=3,
    )

    assert numbers(selection.chosen) == [3, 1, 4]


def test_nobody_gets_a_second_slot_before_each_has_one() -> None:
    """Three tenants share four slots."""
    selection = run_select(
        *[_waiting(n, "acme", deadline=100 + n) for n in (1, 2, 3)],
        *[_waiting(n, "bolt", deadline=100 + n) for n in (11, 12, 13)],
        *[_waiting(n, "core", deadline=100 + n) for n in (21, 22, 23)],
        slots=4,
    )

    assert numbers(selection.chosen) == [1, 11, 21, 2]


def test_half_of_the_weight_gets_half_of_the_slots() -> None:
    """Two light tenants are due half a slot each, so they cannot take both of two slots."""
    weights = {"acme": 0.5, "bolt": 0.5, "core": 1.0}

    selection = run_select(
        _waiting(1, "acme", deadline=101),
        _waiting(2, "bolt", deadline=102),
        _waiting(3, "core", deadline=150),
        slots=2,
        quotas={tenant: TenantQuota(weight=weight) for tenant, weight in weights.items()},
    )

    assert numbers(selection.chosen) == [3, 1]


def test_weights_in_tenths_give_whole_slots() -> None:
    """A weight of 0.1 is no binary fraction, but out of 0.6 it is still one slot of six."""
    quotas = {t: TenantQuota(weight=w) for t, w in [("acme", 0.1), ("bolt", 0.2), ("core", 0.3)]}
    backlog = [
        _waiting(100 * place + n, tenant, deadline=1000 * place + n)
        for place, tenant in enumerate(["core", "bolt", "acme"], start=1)
        for n in range(9)
    ]

    selection = run_select(*backlog, slots=6, quotas=quotas)

    assert sorted(numbers(selection.chosen)) == [100, 101, 102, 200, 201, 300]


def test_between_tenants_the_head_decides_not_the_most_urgent_job() -> None:
    """A tenant that prefers a patient job by priority is as patient as that job."""
    selection = run_select(
        _waiting(1, "acme", deadline=190, priority=1),
        _waiting(2, "acme", deadline=101),
        _waiting(3, "bolt", deadline=150),
        slots=2,
        running={"core": 1},
    )

    assert numbers(selection.chosen) == [3]


# --- Late jobs -------------------------------------------------------------------------------


def test_late_jobs_that_run_are_the_most_urgent() -> None:
    """Where they go first: the later the more urgent."""
    selection = run_select(
        _waiting(1, deadline=5),
        _waiting(2, deadline=-1),
        _waiting(3, deadline=-9),
        slots=2,
        late=LatePolicy.RUN,
    )

    assert numbers(selection.chosen) == [3, 2]
    assert not selection.has_late


def test_late_jobs_come_after_all_that_presses() -> None:
    """By default; priority and fairness do not lift a late job above one that is on time."""
    selection = run_select(
        _waiting(1, "acme", deadline=-1, priority=9),
        _waiting(2, "acme", deadline=25),
        _waiting(3, "bolt", deadline=26),
        _waiting(4, "bolt", deadline=27),
        _waiting(5, "core", deadline=-2),
        slots=3,
        late=UseCaseConfig().late_policy,
    )

    assert numbers(selection.chosen) == [2, 3, 4]
    assert selection.has_late


def test_late_jobs_come_before_what_can_wait() -> None:
    """Which loses nothing by it: within a tenant, and within a round."""
    selection = run_select(
        _waiting(1, "acme", deadline=50, priority=9),
        _waiting(2, "acme", deadline=-1),
        _waiting(3, "bolt", deadline=40),
        _waiting(4, "core", deadline=-2),
        slots=2,
    )

    assert numbers(selection.chosen) == [4, 2]


def test_a_late_job_takes_its_tenants_turn() -> None:
    """Who has had more does not get more for being late."""
    selection = run_select(
        _waiting(1, "acme", deadline=-1), _waiting(2, "bolt", deadline=50), contest=_had(acme=50)
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
        *[_waiting(n, "acme", deadline=n) for n in (1, 2, 3)],
        _waiting(4, "bolt", deadline=-10),
        _waiting(5, "bolt", deadline=-20),
        slots=3,
        contest=_had(passed_over),
    )

    assert numbers(selection.chosen) == expected


def test_a_late_job_for_which_there_is_no_place_waits_on() -> None:
    """Else a turn that finds everything full would forget how long it was passed over."""
    late = [_waiting(1, "acme", deadline=-1), _waiting(2, "bolt", deadline=-2)]

    full = run_select(*late, running={"core": 1}, contest=_had(2 * STARTS_BETWEEN_LATE))

    assert full.chosen == ()
    assert full.waiting == {"acme", "bolt"}


def test_late_jobs_still_run() -> None:
    """When everything fits, late jobs run last."""
    selection = run_select(_waiting(1, deadline=-1), _waiting(2, deadline=50), slots=5)

    assert numbers(selection.chosen) == [2, 1]


def test_expired_jobs_are_handed_back_to_be_buried() -> None:
    """They are neither chosen nor blocked, and take no room, not even a paused use case's."""
    late = [_waiting(1, deadline=-1), _waiting(2, deadline=-9)]

    open_one = run_select(*late, _waiting(3, deadline=50), late=LatePolicy.EXPIRE)
    paused = run_select(*late, _waiting(3, deadline=50), slots=0, late=LatePolicy.EXPIRE)

    assert numbers(open_one.expired) == [2, 1]
    assert numbers(open_one.chosen) == [3]
    assert open_one.blocked == {}
    assert numbers(paused.expired) == [2, 1]


@pytest.mark.parametrize("late", LatePolicy)
def test_a_job_on_its_deadline_is_not_late(late: LatePolicy) -> None:
    """The deadline itself is on time under every policy."""
    selection = run_select(_waiting(1, deadline=0), _waiting(2, deadline=5), late=late)

    assert numbers(selection.chosen) == [1]
    assert not selection.has_late


# --- Reasons ---------------------------------------------------------------------------------


def test_who_waits_behind_its_own_tenants_jobs_is_told_behind_how_many() -> None:
    """The first that waits is told what it waits for, the others how many go first."""
    selection = run_select(*[_waiting(n, deadline=n) for n in range(1, 5)])

    assert why_not(selection) == {
        2: Blocked(Reason.USE_CASE_FULL),
        3: Blocked(Reason.BEHIND, 1),
        4: Blocked(Reason.BEHIND, 2),
    }


def test_a_job_that_is_more_urgent_but_out_of_turn_waits_for_fairness() -> None:
    """Its deadline is earlier than one that was chosen for another tenant."""
    backlog = [_waiting(n, "acme", deadline=100 + n) for n in (1, 2, 3)]

    selection = run_select(*backlog, _waiting(11, "bolt", deadline=150), slots=2)

    assert why_not(selection) == {
        2: Blocked(Reason.FAIR_SHARE),
        3: Blocked(Reason.BEHIND, 1),
    }


def test_a_tenant_on_its_own_never_waits_for_fairness() -> None:
    """An urgent job behind a job of higher priority waits for room, nobody took its share."""
    selection = run_select(_waiting(1, deadline=190, priority=1), _waiting(2, deadline=101))

    assert why_not(selection) == {2: Blocked(Reason.USE_CASE_FULL)}


def test_a_late_job_does_not_wait_for_fairness() -> None:
    """It waits because it is late, and for room; its share does not matter."""
    selection = run_select(_waiting(1, "acme", deadline=-1), _waiting(2, "bolt", deadline=25))

    assert why_not(selection) == {1: Blocked(Reason.USE_CASE_FULL)}


# --- share_slots -----------------------------------------------------------------------------


def _share(
    *candidates: Candidate,
    reach: Mapping[str, int],
    claimed: Mapping[str, int] | None = None,
    unclaimed: Mapping[str, int] | None = None,
    limit: int = 100,
    closed: frozenset[str] = frozenset(),
    room: Mapping[str, int] | None = None,
    contest: Contest | None = None,
    running: Mapping[str, int] | None = None,
    seconds: Mapping[str, float] | None = None,
    hand_off_seconds: float = 0.05,
) -> Choice:
    """Share the slots of a pool; `reach` tells how many of its slots receive each queue."""
    pool = Pool(queues=frozenset(reach), slots=max(reach.values()), reach=reach)
    fleet = Fleet(pools=(pool,), closed=closed, hand_off_seconds=hand_off_seconds)
    lanes: defaultdict[str, list[Contender]] = defaultdict(list)
    for contender in sorted(Ranking(LatePolicy.SIDELINE, NOW).ranked(candidates)):
        lanes[contender[5].tenant_id].append(contender)
    known = seconds or {}
    return share_slots(
        lanes,
        Places(fleet, pool, claimed=claimed or {}, unclaimed=unclaimed or {}, limit=limit),
        room or {},
        contest=contest or Contest(),
        running=running or {},
        quotas={},
        run_seconds=lambda type_: known.get(type_, ROUND_SECONDS),
        slot_seconds=lambda type_: known.get(type_, ROUND_SECONDS),
    )


def _backlog(first: int, tenant: str, queue: str = "a", count: int = 9) -> Sequence[Candidate]:
    """Return jobs of a tenant that can wait; the lower their number, the earlier due."""
    return [_waiting(n, tenant, deadline=100 + n, queue=queue) for n in range(first, first + count)]


def test_no_more_is_handed_off_than_slots_are_idle() -> None:
    """What runs and what is under way holds a slot each."""
    choice = _share(*_backlog(1, "acme"), reach={"a": 5}, claimed={"a": 2}, unclaimed={"a": 1})

    assert numbers(choice.chosen) == [1, 2]
    assert choice.waiting == {"acme"}


def test_nor_than_a_turn_may_lease() -> None:
    """However many slots are idle."""
    choice = _share(*_backlog(1, "acme"), reach={"a": 5}, limit=1)

    assert numbers(choice.chosen) == [1]


def test_a_full_pool_takes_nothing() -> None:
    """More was handed off than there are slots, after a worker has gone."""
    choice = _share(*_backlog(1, "acme"), reach={"a": 2}, claimed={"a": 2}, unclaimed={"a": 3})

    assert choice == Choice([], {"acme"})


def test_queues_of_a_pool_share_its_slots() -> None:
    """A tenant has no more of them for having two queues, or two use cases."""
    choice = _share(
        *_backlog(1, "acme", "a"),
        *_backlog(21, "acme", "b"),
        *_backlog(41, "bolt", "b"),
        reach={"a": 4, "b": 4},
    )

    assert numbers(choice.chosen) == [1, 41, 2, 42]
    assert choice.waiting == {"acme", "bolt"}


def test_slots_are_shared_by_what_tenants_have_had_of_them() -> None:
    """And by what they run: each job counts for a round."""
    jobs = [*_backlog(1, "acme"), *_backlog(41, "bolt")]

    had = _share(*jobs, reach={"a": 2}, contest=_had(acme=50))
    runs = _share(*jobs, reach={"a": 5}, claimed={"a": 3}, running={"acme": 3})

    assert numbers(had.chosen) == [41, 42]
    assert numbers(runs.chosen) == [41, 42]


def test_a_tenants_limit_holds_over_all_use_cases_of_a_pool() -> None:
    """What a limited tenant cannot use goes to others."""
    choice = _share(
        *_backlog(1, "acme", "a"),
        *_backlog(21, "acme", "b"),
        *_backlog(41, "bolt", "b"),
        reach={"a": 4, "b": 4},
        room={"acme": 1},
    )

    assert numbers(choice.chosen) == [1, 41, 42, 43]


def test_a_queue_that_few_workers_receive_is_not_filled_for_all() -> None:
    """What is on other queues passes by, and who waits for these workers waits."""
    choice = _share(
        *_backlog(1, "acme", "few", count=3),
        *_backlog(41, "bolt", "all", count=2),
        reach={"few": 1, "all": 4},
    )

    assert numbers(choice.chosen) == [1, 41, 42]
    assert choice.waiting == {"acme"}


def test_a_closed_queue_holds_up_no_other() -> None:
    """Its jobs wait, the slots serve the rest."""
    choice = _share(
        *_backlog(1, "acme", "a", count=1),
        *_backlog(41, "bolt", "b", count=1),
        reach={"a": 4, "b": 4},
        closed=frozenset({"a"}),
    )

    assert (numbers(choice.chosen), choice.waiting) == ([41], {"acme"})


def test_short_work_is_handed_off_ahead_of_idle_slots() -> None:
    """As much as all slots begin within the time of a hand-off."""
    jobs = [_waiting(n, deadline=100 + n, queue="a", type_="quick") for n in range(1, 20)]

    choice = _share(
        *jobs,
        reach={"a": 2},
        claimed={"a": 2},
        seconds={"quick": 0.03125},
        hand_off_seconds=0.0625,
    )

    assert numbers(choice.chosen) == [1, 2, 3, 4]


def test_what_is_too_long_to_go_ahead_is_not_overtaken_by_shorter_work() -> None:
    """Whose turn it is has the next free slot."""
    long, short = _waiting(1, "acme", deadline=100, queue="a"), _waiting(2, "bolt", queue="a")

    choice = _share(
        long._replace(type="film"),
        short._replace(type="quick", deadline_at=after(101)),
        reach={"a": 2},
        claimed={"a": 2},
        seconds={"quick": 0.001, "film": 60},
    )

    assert choice == Choice([], {"acme", "bolt"})


# --- grant -----------------------------------------------------------------------------------


def test_a_grant_is_the_lease_that_advance_would_make() -> None:
    """A store that applies a grant ends up with the job as the state machine has it."""
    job = pending()
    fields: dict[str, Any] = {
        name: getattr(job, name)
        for name in ("id", "tenant_id", "queue", "priority", "deadline_at", "lease_seq", "type")
    }

    candidate = Candidate(**fields, tolerance_seconds=job.delay_tolerance.total_seconds())
    lease = grant(candidate, until=after(60), now=NOW)

    leased = advance(job, Leased(after(60)), now=NOW)
    assert lease == LeaseGrant(
        job_id=job.id,
        expected_lease_seq=job.lease_seq,
        lease_seq=leased.lease_seq,
        until=after(60),
        at=leased.updated_at,
    )
    assert lease.until == leased.lease_expires_at
