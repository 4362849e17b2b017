"""What one use case chooses, by example: one test for each rule and reason."""

from typing import Any

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.lifecycle import Leased, advance
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.domain.scheduling import (
    Blocked,
    Candidate,
    LeaseGrant,
    Ranking,
    Reason,
    Selection,
    SelectionRequest,
    grant,
    select,
)
from tests.unit.domain.builders import NOW, after, pending
from tests.unit.domain.candidates import (
    numbers,
    run_select,
    waiting,
    why_not,
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
        candidates=[waiting(1), waiting(2), waiting(3), waiting(4, is_due=False)],
        explain=False,
    )

    assert select(request) == Selection(
        contenders=tuple(Ranking(LatePolicy.SIDELINE, NOW).ranked([waiting(1)])), waiting={"acme"}
    )


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


# --- Reasons ---------------------------------------------------------------------------------


def test_who_waits_behind_its_own_tenants_jobs_is_told_behind_how_many() -> None:
    """The first that waits is told what it waits for, the others how many go first."""
    selection = run_select(*[waiting(n, deadline=n) for n in range(1, 5)])

    assert why_not(selection) == {
        2: Blocked(Reason.USE_CASE_FULL),
        3: Blocked(Reason.BEHIND, 1),
        4: Blocked(Reason.BEHIND, 2),
    }


def test_a_job_that_is_more_urgent_but_out_of_turn_waits_for_fairness() -> None:
    """Its deadline is earlier than one that was chosen for another tenant."""
    backlog = [waiting(n, "acme", deadline=100 + n) for n in (1, 2, 3)]

    selection = run_select(*backlog, waiting(11, "bolt", deadline=150), slots=2)

    assert why_not(selection) == {
        2: Blocked(Reason.FAIR_SHARE),
        3: Blocked(Reason.BEHIND, 1),
    }


def test_a_tenant_on_its_own_never_waits_for_fairness() -> None:
    """An urgent job behind a job of higher priority waits for room, nobody took its share."""
    selection = run_select(waiting(1, deadline=190, priority=1), waiting(2, deadline=101))

    assert why_not(selection) == {2: Blocked(Reason.USE_CASE_FULL)}


def test_a_late_job_does_not_wait_for_fairness() -> None:
    """It waits because it is late, and for room; its share does not matter."""
    selection = run_select(waiting(1, "acme", deadline=-1), waiting(2, "bolt", deadline=25))

    assert why_not(selection) == {1: Blocked(Reason.USE_CASE_FULL)}


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
