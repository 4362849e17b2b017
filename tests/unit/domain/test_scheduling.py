"""The scheduling policy by example: one test for each rule, reason and edge."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import pytest

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.lifecycle import Leased, advance
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.domain.scheduling import (
    Blocked,
    Candidate,
    LeaseGrant,
    Reason,
    Selection,
    SelectionRequest,
    grant,
    hand_off_window,
    select,
)
from tests.unit.domain.builders import NOW, after, pending
from tests.unit.domain.candidates import numbers, waiting, why_not


def run_select(
    *candidates: Candidate,
    slots: int = 1,
    late: LatePolicy = LatePolicy.RUN,
    running: Mapping[str, int] | None = None,
    tenant_running: Mapping[str, int] | None = None,
    quotas: Mapping[str, TenantQuota] | None = None,
    window: int = 1000,
    unheld: AbstractSet[str] = frozenset(),
) -> Selection:
    """Select among the candidates; `slots` is the use case's `max_concurrent`."""
    return select(
        SelectionRequest(
            config=UseCaseConfig(max_concurrent=slots, late_policy=late),
            now=NOW,
            running=running or {},
            tenant_running=tenant_running or {},
            quotas=quotas or {},
            window=window,
            candidates=candidates,
            tenants_unheld=unheld,
        )
    )


def test_nothing_waiting_selects_nothing() -> None:
    """An empty backlog is no special case."""
    assert run_select() == Selection()


# --- Rule 1: who is eligible -----------------------------------------------------------------


def test_a_job_that_is_not_due_waits() -> None:
    """However many places are free."""
    selection = run_select(waiting(1, is_due=False), waiting(2), slots=5)

    assert numbers(selection.chosen) == [2]
    assert why_not(selection) == {1: Blocked(Reason.NOT_DUE)}


def test_a_use_case_with_capacity_zero_is_paused() -> None:
    """Nothing is leased, and the reason says that this was wanted."""
    selection = run_select(waiting(1), waiting(2), slots=0)

    assert selection.chosen == ()
    assert why_not(selection) == {1: Blocked(Reason.PAUSED), 2: Blocked(Reason.PAUSED)}


def test_a_tenant_that_may_run_nothing_is_paused() -> None:
    """`max_running` zero stops one tenant and no other."""
    quotas = {"acme": TenantQuota(max_running=0)}

    selection = run_select(waiting(1), waiting(2, "bolt"), slots=5, quotas=quotas)

    assert numbers(selection.chosen) == [2]
    assert why_not(selection) == {1: Blocked(Reason.PAUSED)}


def test_a_tenant_is_filled_up_to_its_limit() -> None:
    """What it runs in all use cases counts, and its most urgent jobs take the room left."""
    selection = run_select(
        waiting(1, deadline=30),
        waiting(2, deadline=10),
        waiting(3, deadline=20),
        slots=5,
        tenant_running={"acme": 2},
        quotas={"acme": TenantQuota(max_running=4)},
    )

    assert numbers(selection.chosen) == [2, 3]
    assert why_not(selection) == {1: Blocked(Reason.TENANT_FULL)}


def test_a_tenant_above_a_lowered_limit_gets_nothing() -> None:
    """Lowering a limit below what runs starts nothing new."""
    selection = run_select(
        waiting(1),
        tenant_running={"acme": 9},
        quotas={"acme": TenantQuota(max_running=4)},
    )

    assert why_not(selection) == {1: Blocked(Reason.TENANT_FULL)}


def test_a_limited_tenant_that_another_scheduler_leases_for_has_to_wait() -> None:
    """Two schedulers never fill one tenant's limit at once; it counts as full meanwhile."""
    selection = run_select(
        waiting(1),
        waiting(2, "bolt"),
        slots=5,
        quotas={"acme": TenantQuota(max_running=4)},
        unheld={"acme"},
    )

    assert numbers(selection.chosen) == [2]
    assert why_not(selection) == {1: Blocked(Reason.TENANT_FULL)}


def test_jobs_over_a_tenants_limit_leave_their_room_to_others() -> None:
    """A slot that a full tenant cannot take goes to the next."""
    selection = run_select(
        waiting(1, deadline=1),
        waiting(2, deadline=2),
        waiting(3, "bolt", deadline=50),
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
        window=1000,
        candidates=[waiting(1), waiting(2), waiting(3), waiting(4, is_due=False)],
        explain=False,
    )

    assert select(request) == Selection(chosen=(waiting(1),))


# --- Rule 2: capacity ------------------------------------------------------------------------


def test_only_free_slots_are_given_away() -> None:
    """Running jobs of every tenant use up the capacity."""
    selection = run_select(
        waiting(1, deadline=1), waiting(2, deadline=2), slots=3, running={"bolt": 1, "core": 1}
    )

    assert numbers(selection.chosen) == [1]
    assert why_not(selection) == {2: Blocked(Reason.USE_CASE_FULL)}


def test_a_use_case_above_a_lowered_capacity_starts_nothing() -> None:
    """Lowering a capacity preempts nothing and starts nothing."""
    selection = run_select(waiting(1), slots=2, running={"bolt": 5})

    assert why_not(selection) == {1: Blocked(Reason.USE_CASE_FULL)}


def test_the_hand_off_window_limits_as_well() -> None:
    """Free slots do not help when the queue may hold no more hand-offs."""
    selection = run_select(waiting(1, deadline=1), waiting(2, deadline=2), slots=5, window=1)

    assert numbers(selection.chosen) == [1]
    assert why_not(selection) == {2: Blocked(Reason.WINDOW_FULL)}


def test_a_use_case_and_a_window_that_are_full_at_once_name_the_use_case() -> None:
    """A wider window would not help."""
    selection = run_select(waiting(1), slots=1, running={"bolt": 1}, window=0)

    assert why_not(selection) == {1: Blocked(Reason.USE_CASE_FULL)}


@pytest.mark.parametrize("window", [0, -3])
def test_a_closed_window_lets_nothing_through(window: int) -> None:
    """A queue that holds too many hand-offs already gets none."""
    assert why_not(run_select(waiting(1), window=window)) == {1: Blocked(Reason.WINDOW_FULL)}


# --- Rules 3 and 4: order --------------------------------------------------------------------


def test_inside_a_tenant_priority_goes_before_deadline_before_id() -> None:
    """A higher priority wins, then an earlier deadline, then the older job."""
    selection = run_select(
        waiting(5, deadline=10),
        waiting(4, deadline=10),
        waiting(3, deadline=5),
        waiting(2, deadline=99, priority=1),
        waiting(1, deadline=1, priority=-1),
        slots=5,
    )

    assert numbers(selection.chosen) == [2, 3, 4, 5, 1]


def test_whatever_fits_is_taken_in_order_across_tenants() -> None:
    """Without contention there is nothing to divide: fairness does not reorder."""
    selection = run_select(
        waiting(1, "acme", deadline=30),
        waiting(2, "bolt", deadline=10),
        waiting(3, "core", deadline=20),
        slots=3,
        quotas={"acme": TenantQuota(weight=100)},
    )

    assert numbers(selection.chosen) == [2, 3, 1]
    assert why_not(selection) == {}


# --- Rule 5: fair shares ---------------------------------------------------------------------


def test_a_backlog_does_not_displace_another_tenants_share() -> None:
    """Four slots and two tenants: each gets two, although all of one's jobs are more urgent."""
    backlog = [waiting(n, "acme", deadline=n) for n in range(1, 100)]
    few = [waiting(n, "bolt", deadline=1000 + n) for n in range(101, 104)]

    selection = run_select(*backlog, *few, slots=4)

    assert numbers(selection.chosen) == [1, 2, 101, 102]


def test_what_a_tenant_leaves_of_its_share_goes_to_the_others() -> None:
    """A tenant that wants less than its part gets what it wants."""
    backlog = [waiting(n, "acme", deadline=n) for n in range(1, 100)]

    selection = run_select(*backlog, waiting(101, "bolt", deadline=1000), slots=4)

    assert numbers(selection.chosen) == [1, 2, 3, 101]


def test_running_jobs_count_towards_a_share() -> None:
    """Who runs its share already comes after who does not."""
    selection = run_select(
        waiting(1, "acme", deadline=1),
        waiting(2, "acme", deadline=2),
        waiting(3, "bolt", deadline=50),
        waiting(4, "bolt", deadline=60),
        slots=4,
        running={"acme": 2},
    )

    assert numbers(selection.chosen) == [3, 4]


def test_weights_divide_the_capacity() -> None:
    """Weight three gets three slots where weight one gets one."""
    heavy = [waiting(n, "acme", deadline=1000 + n) for n in range(1, 10)]
    light = [waiting(n, "bolt", deadline=n) for n in range(11, 20)]

    selection = run_select(*heavy, *light, slots=4, quotas={"acme": TenantQuota(weight=3)})

    assert sorted(numbers(selection.chosen)) == [1, 2, 3, 11]


def test_below_their_share_the_earliest_deadline_goes_first() -> None:
    """With fewer free slots than entitled tenants, urgency decides among them."""
    selection = run_select(
        waiting(1, "acme", deadline=30),
        waiting(2, "bolt", deadline=10),
        waiting(3, "core", deadline=20),
        slots=10,
        running={"dune": 8},
    )

    assert numbers(selection.chosen) == [2, 3]


def test_what_is_left_after_all_shares_goes_by_deadline() -> None:
    """Of three slots two tenants get one each; the third goes to the more urgent next job."""
    selection = run_select(
        waiting(1, "acme", deadline=30),
        waiting(2, "acme", deadline=40),
        waiting(3, "bolt", deadline=10),
        waiting(4, "bolt", deadline=20),
        slots=3,
    )

    assert sorted(numbers(selection.chosen)) == [1, 3, 4]


def test_whole_slots_of_a_share_go_before_its_fraction() -> None:
    """Three tenants share four slots, 1 ⅓ each: none gets a second before each has its first."""
    selection = run_select(
        *[waiting(n, "acme", deadline=n) for n in (1, 2, 3)],
        *[waiting(n, "bolt", deadline=n) for n in (11, 12, 13)],
        *[waiting(n, "core", deadline=n) for n in (21, 22, 23)],
        slots=4,
    )

    assert sorted(numbers(selection.chosen)) == [1, 2, 11, 21]


def test_half_of_the_weight_gets_half_of_the_slots() -> None:
    """Two light tenants are due half a slot each, so they cannot take both of two slots."""
    weights = {"acme": 0.5, "bolt": 0.5, "core": 1.0}

    selection = run_select(
        waiting(1, "acme", deadline=1),
        waiting(2, "bolt", deadline=2),
        waiting(3, "core", deadline=50),
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
        waiting(1, "acme", deadline=90, priority=1),
        waiting(2, "acme", deadline=1),
        waiting(3, "bolt", deadline=50),
        slots=2,
        running={"core": 1},
    )

    assert numbers(selection.chosen) == [3]


# --- Rule 6: late jobs -----------------------------------------------------------------------


def test_late_jobs_that_run_are_the_most_urgent() -> None:
    """By default, the later the more urgent."""
    selection = run_select(
        waiting(1, deadline=5), waiting(2, deadline=-1), waiting(3, deadline=-9), slots=2
    )

    assert numbers(selection.chosen) == [3, 2]


def test_sidelined_jobs_come_after_all_that_can_be_on_time() -> None:
    """Priority and fairness do not lift a late job above one that is still on time."""
    selection = run_select(
        waiting(1, "acme", deadline=-1, priority=9),
        waiting(2, "acme", deadline=50),
        waiting(3, "bolt", deadline=60),
        waiting(4, "bolt", deadline=70),
        waiting(5, "bolt", deadline=-2),
        slots=3,
        late=LatePolicy.SIDELINE,
    )

    assert numbers(selection.chosen) == [2, 3, 4]


def test_a_share_does_not_lift_a_sidelined_job() -> None:
    """A tenant that has only late jobs waits, although it is entitled to a slot."""
    selection = run_select(
        waiting(1, "acme", deadline=50),
        waiting(2, "acme", deadline=60),
        waiting(3, "bolt", deadline=-1),
        slots=2,
        late=LatePolicy.SIDELINE,
    )

    assert numbers(selection.chosen) == [1, 2]


def test_sidelined_jobs_still_run() -> None:
    """When everything fits, late jobs run last."""
    selection = run_select(
        waiting(1, deadline=-1), waiting(2, deadline=50), slots=5, late=LatePolicy.SIDELINE
    )

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


# --- Reasons ---------------------------------------------------------------------------------


def test_who_waits_behind_its_own_tenants_jobs_is_told_behind_how_many() -> None:
    """The first that waits is told what it waits for, the others how many go first."""
    selection = run_select(*[waiting(n, deadline=n) for n in range(1, 5)])

    assert why_not(selection) == {
        2: Blocked(Reason.USE_CASE_FULL),
        3: Blocked(Reason.BEHIND, 1),
        4: Blocked(Reason.BEHIND, 2),
    }


def test_a_job_that_is_more_urgent_but_over_its_share_waits_for_fairness() -> None:
    """Its deadline is earlier than one that was chosen for another tenant."""
    backlog = [waiting(n, "acme", deadline=n) for n in (1, 2, 3)]

    selection = run_select(*backlog, waiting(11, "bolt", deadline=50), slots=2)

    assert why_not(selection) == {
        2: Blocked(Reason.FAIR_SHARE),
        3: Blocked(Reason.BEHIND, 1),
    }


def test_a_tenant_on_its_own_never_waits_for_fairness() -> None:
    """An urgent job behind a job of higher priority waits for room, nobody took its share."""
    selection = run_select(waiting(1, deadline=90, priority=1), waiting(2, deadline=1))

    assert why_not(selection) == {2: Blocked(Reason.USE_CASE_FULL)}


def test_a_sidelined_job_does_not_wait_for_fairness() -> None:
    """It waits because it is late, and for room; its share does not matter."""
    selection = run_select(
        waiting(1, "acme", deadline=-1), waiting(2, "bolt", deadline=50), late=LatePolicy.SIDELINE
    )

    assert why_not(selection) == {1: Blocked(Reason.USE_CASE_FULL)}


# --- hand_off_window -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unclaimed", "live_slots", "expected"),
    [
        (0, 10, 20),
        (5, 10, 15),
        (20, 10, 0),
        (25, 10, 0),
        (0, 0, 4),
        (3, 0, 1),
        (4, 0, 0),
        (0, 1, 4),
    ],
)
def test_the_window_is_twice_the_live_slots_and_a_few_at_least(
    unclaimed: int, live_slots: int, expected: int
) -> None:
    """Hand-offs that nobody claimed yet are taken off; the window never is negative."""
    window = hand_off_window(unclaimed=unclaimed, live_slots=live_slots, window_min=4)

    assert window == expected


# --- grant -----------------------------------------------------------------------------------


def test_a_grant_is_the_lease_that_advance_would_make() -> None:
    """A store that applies a grant ends up with the job as the state machine has it."""
    job = pending()
    fields: dict[str, Any] = {
        name: getattr(job, name)
        for name in ("id", "tenant_id", "queue", "priority", "deadline_at", "lease_seq")
    }

    lease = grant(Candidate(**fields), until=after(60), now=NOW)

    leased = advance(job, Leased(after(60)), now=NOW)
    assert lease == LeaseGrant(
        job_id=job.id,
        expected_lease_seq=job.lease_seq,
        lease_seq=leased.lease_seq,
        until=after(60),
        at=leased.updated_at,
    )
    assert lease.until == leased.lease_expires_at
