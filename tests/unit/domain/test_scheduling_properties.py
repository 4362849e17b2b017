"""What every selection guarantees, over drawn backlogs, and against a naive implementation.

*Eligible*, *capacity* and *contended* mean what `plain_policy` says.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.limits import UNLIMITED
from async_jobs.domain.scheduling import (
    Blocked,
    Candidate,
    Reason,
    SelectionRequest,
    Urgency,
    select,
)
from tests.unit.domain.candidates import TENANTS, backlogs, contended_requests, requests
from tests.unit.domain.plain_policy import (
    capacity,
    eligible,
    in_own_order,
    late,
    naive_select,
    urgency,
)

V = TypeVar("V")


def eligible_jobs(request: SelectionRequest) -> list[Candidate]:
    """Return all eligible jobs, each tenant's in its own order."""
    return [job for lane in eligible(request).values() for job in lane]


@given(requests)
def test_every_candidate_gets_exactly_one_answer(request: SelectionRequest) -> None:
    """Chosen, expired and blocked are disjoint, and together they are the candidates."""
    selection = select(request)

    answered = [job.id for job in selection.chosen + selection.expired] + list(selection.blocked)
    assert sorted(answered) == sorted(job.id for job in request.candidates)


@given(requests)
def test_no_cap_is_ever_passed(request: SelectionRequest) -> None:
    """Two caps. The use case: chosen plus running is at most `max_concurrent`, or nothing is
    chosen. A limited tenant: what it runs in all use cases plus what is chosen for it is at most
    `max_running`, or nothing is chosen for it.
    """
    chosen = select(request).chosen
    by_tenant = Counter(job.tenant_id for job in chosen)

    assert len(chosen) <= capacity(request)
    for tenant, count in by_tenant.items():
        limit = request.quotas.get(tenant, UNLIMITED).max_running
        assert limit is None or count + request.tenant_running.get(tenant, 0) <= limit


@given(requests)
def test_no_slot_stays_free_while_a_job_is_eligible(request: SelectionRequest) -> None:
    """Work-conserving: exactly `min(capacity, eligible)` jobs are chosen, all of them eligible."""
    chosen = select(request).chosen
    may_run = eligible_jobs(request)

    assert len(chosen) == min(capacity(request), len(may_run))
    assert set(chosen) <= set(may_run)


@given(requests | contended_requests)
def test_within_a_tenant_nothing_overtakes(request: SelectionRequest) -> None:
    """What is chosen for a tenant is the beginning of its own order (what presses first, each kind
    by priority, then deadline, then id), but for late jobs whose turn it was.
    """
    chosen = select(request).chosen

    for tenant in TENANTS:
        rest = request.contest.passed_over < 64
        mine = [job for job in chosen if job.tenant_id == tenant]
        order = in_own_order(request, [j for j in request.candidates if j.is_due])
        own = [job for job in order if job.tenant_id == tenant and job not in _expired(request)]
        if rest:
            assert set(mine) == set(own[: len(mine)])
        else:
            on_time = [job for job in mine if urgency(request, job) is not Urgency.LATE]
            others = [job for job in own if urgency(request, job) is not Urgency.LATE]
            assert set(on_time) == set(others[: len(on_time)])


def _expired(request: SelectionRequest) -> list[Candidate]:
    if request.config.late_policy is not LatePolicy.EXPIRE:
        return []
    return [job for job in request.candidates if late(request, job)]


@given(requests | contended_requests)
def test_a_selection_is_what_the_rules_say(request: SelectionRequest) -> None:
    """The naive implementation chooses the same jobs in the same order."""
    assert list(select(request).chosen) == naive_select(request)


@given(requests | contended_requests)
def test_who_waits_is_who_could_have_used_more(request: SelectionRequest) -> None:
    """Of a contended selection exactly the tenants with eligible jobs left; else nobody."""
    selection = select(request)
    left = set(eligible_jobs(request)) - set(selection.chosen)

    assert selection.waiting == {job.tenant_id for job in left}


@given(requests, st.integers(1, 16))
def test_the_order_of_the_input_is_irrelevant(request: SelectionRequest, factor: int) -> None:
    """Candidates and mappings in any other order give the same selection, reasons included."""
    turned = replace(
        request,
        candidates=sorted(request.candidates, key=lambda job: job.id.int * factor % 17),
        running=_turned(request.running),
        tenant_running=_turned(request.tenant_running),
        quotas=_turned(request.quotas),
    )

    assert select(turned) == select(request)


def _turned(mapping: Mapping[str, V]) -> dict[str, V]:
    return {key: mapping[key] for key in reversed(list(mapping))}


@given(requests | contended_requests)
def test_a_choice_changes_no_memory(request: SelectionRequest) -> None:
    """What was chosen may find no slot: only what is leased is noted, by who knows."""
    before = replace(request.contest, times=dict(request.contest.times))

    select(request)

    assert request.contest == before


@given(requests, backlogs(tenants=1))
def test_one_tenant_gets_exactly_earliest_deadline_first(
    request: SelectionRequest, backlog: list[Candidate]
) -> None:
    """With one tenant, no limit of its own, equal priorities and run times, and late jobs that run
    first, what presses is served by deadline, and what can wait after it by deadline too.
    """
    request = replace(
        request,
        config=replace(request.config, late_policy=LatePolicy.RUN),
        running={"acme": sum(request.running.values())},
        quotas={},
        candidates=[job._replace(priority=0, type="mail") for job in backlog],
    )
    due = [job for job in request.candidates if job.is_due]

    chosen = select(request).chosen

    relaxed = {job.id: urgency(request, job) is Urgency.RELAXED for job in due}
    critical = {job.id: urgency(request, job) is Urgency.CRITICAL for job in due}
    due.sort(key=lambda job: (relaxed[job.id], not critical[job.id], job.deadline_at, job.id))
    assert {job.id for job in chosen} == {job.id for job in due[: capacity(request)]}


@given(requests)
def test_sidelined_jobs_never_displace_one_that_presses(request: SelectionRequest) -> None:
    """Under `sideline`, unless it is a late job's turn, a late job is chosen only if no eligible
    job that presses is left waiting.
    """
    request = replace(
        request,
        config=replace(request.config, late_policy=LatePolicy.SIDELINE),
        contest=replace(request.contest, passed_over=0),
    )

    chosen = select(request).chosen

    if any(late(request, job) for job in chosen):
        pressing = {
            job
            for job in eligible_jobs(request)
            if urgency(request, job) in (Urgency.CRITICAL, Urgency.PRESSING)
        }
        assert pressing <= set(chosen)


@given(requests)
def test_exactly_the_late_jobs_of_an_expiring_use_case_expire(request: SelectionRequest) -> None:
    """Under `expire`, every due job past its deadline expires; elsewhere none does."""
    expires = request.config.late_policy is LatePolicy.EXPIRE

    expired = {job for job in request.candidates if job.is_due and late(request, job)}
    assert set(select(request).expired) == (expired if expires else set())


@given(requests)
def test_reasons_cost_no_job_its_place(request: SelectionRequest) -> None:
    """Whoever asks for none gets the same jobs."""
    silent = select(replace(request, explain=False))

    assert silent.blocked == {}
    assert (silent.chosen, silent.expired) == (select(request).chosen, select(request).expired)


@given(requests)
def test_every_reason_is_true(request: SelectionRequest) -> None:
    """Each blocked job is told what really holds it back: `not_due` and `paused` by their
    definitions; `tenant_full` when its tenant's earlier jobs use up the tenant's room; `behind(n)`
    when n eligible jobs of its tenant wait before it; the first that waits is told `fair_share`,
    or that the use case is full. `fair_share` needs another tenant that got a job with a later
    deadline.
    """
    selection = select(request)
    lanes = eligible(request)

    for job in request.candidates:
        if job.id not in selection.blocked:
            continue
        told = selection.blocked[job.id]
        lane = lanes.get(job.tenant_id, [])
        waits = [each for each in lane if each.id in selection.blocked]
        unfair = any(
            each.tenant_id != job.tenant_id and each.deadline_at > job.deadline_at
            for each in selection.chosen
        )
        full = {Blocked(Reason.USE_CASE_FULL)}
        if not job.is_due:
            assert told == Blocked(Reason.NOT_DUE)
        elif request.config.max_concurrent == 0 or _paused(request, job.tenant_id):
            assert told == Blocked(Reason.PAUSED)
        elif job not in lane:
            assert told == Blocked(Reason.TENANT_FULL)
        elif waits.index(job):
            assert told == Blocked(Reason.BEHIND, waits.index(job))
        else:
            assert told in (full | {Blocked(Reason.FAIR_SHARE)} if unfair else full)


def _paused(request: SelectionRequest, tenant: str) -> bool:
    return request.quotas.get(tenant, UNLIMITED).max_running == 0
