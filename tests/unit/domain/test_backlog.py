"""A survey: what waits, what can run it, and whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from async_jobs.domain.backlog import SHARES_MAX, Backlog, QueueLoad, Surveyor, UseCaseLoad
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.fairness import ServiceMemory
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.domain.presence import fleet_of
from async_jobs.domain.turns import RunningCount
from async_jobs.testing.builders import SimpleLimits, a_worker, later
from async_jobs.testing.clocks import NOW

MAIL = UseCaseConfig(max_concurrent=4, late_policy=LatePolicy.RUN)


def a_survey(
    *counts: RunningCount,
    workers: Mapping[tuple[str, ...], int] | None = None,
    backlogs: Mapping[str, Backlog] | None = None,
    run_seconds: float = 2.0,
    quotas: Mapping[str, TenantQuota] | None = None,
    **use_cases: UseCaseConfig,
) -> Surveyor:
    """Return a survey of workers with so many slots for some queues."""
    live = [
        a_worker(worker_id=f"worker-{n}", queues=queues, slots=slots)
        for n, (queues, slots) in enumerate(
            ({("mail",): 10} if workers is None else workers).items()
        )
    ]
    return Surveyor(
        config=SimpleLimits(
            use_case_configs=use_cases or {"mail": MAIL}, per_tenant_quotas=quotas or {}
        ),
        fleet=fleet_of(live, window_min=10),
        receiving=[each.queues for each in live],
        counts=counts,
        backlogs=backlogs or {},
        run_seconds=lambda name: run_seconds,
        now=NOW,
    )


def running(claimed: int = 0, unclaimed: int = 0, **changes: Any) -> RunningCount:
    told = {"use_case": "mail", "tenant_id": "acme", "queue": "mail"} | changes
    return RunningCount(claimed=claimed, unclaimed=unclaimed, **told)


def test_what_waits_is_told_by_its_state() -> None:
    """Each job in one of them; on the deadline is on time."""
    backlog = Backlog([later(-90), later(-1), later(0), later(5)], [later(500)])

    (load,) = a_survey(running(3, 1), backlogs={"mail": backlog}).use_cases()

    assert load == UseCaseLoad(
        use_case="mail",
        ready=2,
        overdue=2,
        scheduled=1,
        oldest_overdue_seconds=90.0,
        limit=4,
        running=4,
        unclaimed=1,
        required_rate=3.0,  # the late ones go first, and the third is to start now
        capacity_rate=2.0,
    )


@pytest.mark.parametrize(
    ("limit", "slots", "ran", "needed"),
    [(4, 10, 0, 0.0), (2, 10, 0, 0.2), (4, 3, 0, 0.1), (4, 10, 3, 0.3), (10, 10, 8, 0.2)],
    ids=["idle", "limited", "few slots", "half full", "nearly full"],
)
def test_idle_slots_are_those_that_the_limit_leaves(
    limit: int, slots: int, ran: int, needed: float
) -> None:
    """Four jobs that have ten seconds; none is needed where all can start at once."""
    survey = a_survey(
        running(ran),
        workers={("mail",): slots},
        backlogs={"mail": Backlog([later(10)] * 4)},
        mail=UseCaseConfig(max_concurrent=limit),
    )

    (load,) = survey.use_cases()

    assert load.required_rate == pytest.approx(needed)


def test_slots_that_others_hold_are_not_idle() -> None:
    """Also by what is under way to them; what the dead had claimed holds none that there is."""
    survey = a_survey(
        running(2, 1, use_case="label"),
        RunningCount("label", "acme", "mail", claimed=5, unclaimed=0, strays=5),
        workers={("mail",): 4},
        backlogs={"mail": Backlog([later(10)] * 2)},
        mail=MAIL,
        label=UseCaseConfig(max_concurrent=9, queue="mail"),
    )

    mail, label = survey.use_cases()
    (queue,) = survey.queues()

    assert (mail.required_rate, mail.running, label.running) == (0.1, 0, 8)
    assert queue == QueueLoad("mail", workers=1, slots=4, busy=2, unclaimed=1, required=0.2)


def test_the_slots_that_are_needed_are_no_more_than_limits_allow() -> None:
    """More workers would not help; nor would they help who is paused."""
    backlogs = dict.fromkeys(("mail", "label"), Backlog([later(10)] * 100))
    survey = a_survey(
        workers={("mail", "label"): 0},
        backlogs=backlogs,
        mail=MAIL,
        label=UseCaseConfig(max_concurrent=0),
    )

    assert {each.queue: each.required for each in survey.queues()} == {"mail": 4, "label": 4}


def test_queues_that_share_slots_need_them_together() -> None:
    """Ten starts each in ten seconds, of jobs that run for two: four slots for both."""
    backlogs = dict.fromkeys(("mail", "label"), Backlog([later(10)] * 10))
    each_its_own: dict[tuple[str, ...], int] = {("mail",): 0, ("label",): 0}

    shared = a_survey(workers={("mail", "label"): 0}, backlogs=backlogs, mail=MAIL, label=MAIL)
    apart = a_survey(workers=each_its_own, backlogs=backlogs, mail=MAIL, label=MAIL)

    assert [each.required for each in shared.queues()] == [4, 4]
    assert [each.required for each in apart.queues()] == [2, 2]


def test_without_workers_nothing_can_start() -> None:
    """And what is needed is told all the same, for whoever starts them."""
    survey = a_survey(workers={}, backlogs={"mail": Backlog([later(10)])})

    (load,) = survey.use_cases()
    (queue,) = survey.queues()

    assert (load.capacity_rate, load.required_rate) == (0, 0.1)
    assert (queue.workers, queue.slots, queue.required) == (0, 0, 0.2)


def contested(*waiting: str) -> ServiceMemory:
    memory = ServiceMemory()
    memory.use_case("mail").waiting.update(waiting)
    memory.pool(["mail"]).waiting.update(waiting)
    return memory


def test_shares_are_told_of_what_somebody_waits_for() -> None:
    """By weight among those who wait or have some; what nobody waits for is divided by nobody."""
    survey = a_survey(running(3), quotas={"bolt": TenantQuota(weight=3)})

    for shares in (survey.capacity_shares, survey.slot_shares):
        assert [tuple(each) for each in shares(contested("bolt"))] == [
            ("mail", "acme", 0.25, 1.0),
            ("mail", "bolt", 0.75, 0.0),
        ]
        assert list(shares(contested())) == []


def test_shares_are_told_of_a_thousand_tenants() -> None:
    """However many wait: those that have most."""
    survey = a_survey(running(3, tenant_id="zoe"))

    told = list(survey.capacity_shares(contested(*(f"t{n}" for n in range(2 * SHARES_MAX)))))

    assert len(told) == SHARES_MAX
    assert told[0].tenant_id == "zoe"
