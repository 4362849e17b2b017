"""What every selection guarantees, over drawn backlogs, and against a naive implementation.

*Eligible*, *capacity*, *contended* and *share* mean what `plain_policy` says.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import TypeVar

from hypothesis import assume, given
from hypothesis import strategies as st

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.limits import UNLIMITED, TenantQuota, UseCaseConfig
from async_jobs.domain.scheduling import Blocked, Candidate, Reason, SelectionRequest, select
from tests.unit.domain.builders import NOW
from tests.unit.domain.candidates import (
    TENANTS,
    backlogs,
    candidate,
    contended_requests,
    requests,
    weight,
)
from tests.unit.domain.plain_policy import capacity, due, eligible, late, naive_select, shares_of

V = TypeVar("V")


@given(requests)
def test_every_candidate_gets_exactly_one_answer(request: SelectionRequest) -> None:
    """Chosen, expired and blocked are disjoint, and together they are the candidates."""
    selection = select(request)

    answered = [job.id for job in selection.chosen + selection.expired] + list(selection.blocked)
    assert sorted(answered) == sorted(job.id for job in request.candidates)


@given(requests)
def test_no_cap_is_ever_passed(request: SelectionRequest) -> None:
    """Three caps. The use case: chosen plus running is at most `max_concurrent`, or nothing is
    chosen. The window: at most that many are chosen. A limited tenant: what it runs in all use
    cases plus what is chosen for it is at most `max_running`, or nothing is chosen for it.
    """
    chosen = select(request).chosen
    by_tenant = Counter(job.tenant_id for job in chosen)

    assert not chosen or len(chosen) <= request.config.max_concurrent - sum(
        request.running.values()
    )
    assert len(chosen) <= max(0, request.window)
    for tenant, count in by_tenant.items():
        limit = request.quotas.get(tenant, UNLIMITED).max_running
        assert limit is None or count + request.tenant_running.get(tenant, 0) <= limit


@given(requests)
def test_no_slot_stays_free_while_a_job_is_eligible(request: SelectionRequest) -> None:
    """Work-conserving: exactly `min(capacity, eligible)` jobs are chosen, all of them eligible."""
    chosen = select(request).chosen
    may_run = eligible(request)

    assert len(chosen) == min(capacity(request), len(may_run))
    assert set(chosen) <= set(may_run)


@given(requests)
def test_within_a_tenant_nothing_overtakes(request: SelectionRequest) -> None:
    """What is chosen for a tenant is the beginning of its own order: by priority, then
    deadline, then id; under `sideline` with its late jobs moved behind the others.
    """
    chosen = select(request).chosen

    for tenant in TENANTS:
        mine = [job for job in chosen if job.tenant_id == tenant]
        order = [job for job in due(request) if job.tenant_id == tenant]
        assert mine == order[: len(mine)]


@given(contended_requests)
def test_no_slot_goes_beyond_a_share_while_another_tenant_is_below_its_own(
    request: SelectionRequest,
) -> None:
    """A backlogged tenant gets its share first, in the words of rule 5: if after a contended
    selection a tenant has an eligible job waiting and runs less than its share, then no slot
    was given to a tenant that ran its share or more already.

    (Not claimed under `sideline`, where on-time jobs come before fairness.)
    """
    chosen = select(request).chosen
    shares = shares_of(request)
    runs = Counter(request.running) + Counter(job.tenant_id for job in chosen)
    waiting = {job.tenant_id for job in eligible(request)} - _satisfied(request, chosen)

    if any(runs[tenant] < shares[tenant] for tenant in waiting):
        for job in chosen:
            assert runs[job.tenant_id] - 1 < shares[job.tenant_id]


@given(contended_requests)
def test_a_backlogged_tenant_gets_at_least_the_whole_slots_of_its_share(
    request: SelectionRequest,
) -> None:
    """The same in whole slots, because half a slot helps nobody: if after a contended selection
    a tenant has an eligible job waiting and runs less than its share rounded down, then nobody
    was given a slot beyond its own share rounded down. (Not claimed under `sideline`.)
    """
    chosen = select(request).chosen
    whole = {tenant: floor(share) for tenant, share in shares_of(request).items()}
    runs = Counter(request.running) + Counter(job.tenant_id for job in chosen)
    waiting = {job.tenant_id for job in eligible(request)} - _satisfied(request, chosen)

    if any(runs[tenant] < whole[tenant] for tenant in waiting):
        for job in chosen:
            assert runs[job.tenant_id] <= whole[job.tenant_id]


def _satisfied(request: SelectionRequest, chosen: tuple[Candidate, ...]) -> set[str]:
    """Return the tenants that have no eligible job left."""
    left = Counter(job.tenant_id for job in eligible(request))
    left.subtract(job.tenant_id for job in chosen)
    return {tenant for tenant, count in left.items() if count == 0}


@given(
    backlogs(jobs_min=4, jobs_max=10),
    st.binary(min_size=4, max_size=30),
    st.lists(weight, min_size=5, max_size=5),
    st.integers(2, 7),
)
def test_no_backlog_takes_away_what_another_tenant_is_entitled_to(
    backlog: list[Candidate], flood: bytes, weights: list[float], slots: int
) -> None:
    """A tenant is entitled to its weight's fraction of `max_concurrent` among the tenants that
    want something, rounded down, or to all it wants if that is less. When nothing runs yet and
    the window is open, every tenant gets that at least, however many jobs a newcomer adds and
    however urgent they are.
    """
    newcomer = [
        candidate(100 + n, 4 * each)._replace(tenant_id="flood") for n, each in enumerate(flood)
    ]
    weight_of = dict(zip([*TENANTS, "flood"], weights, strict=True))
    request = SelectionRequest(
        config=UseCaseConfig(max_concurrent=slots),
        now=NOW,
        running={},
        tenant_running={},
        quotas={tenant: TenantQuota(weight=weight) for tenant, weight in weight_of.items()},
        window=100,
        candidates=[*backlog, *newcomer],
    )

    got = Counter(job.tenant_id for job in select(request).chosen)

    wanted = Counter(job.tenant_id for job in eligible(request))
    weight_sum = sum(Fraction(weight_of[tenant]) for tenant in wanted)
    for tenant, count in wanted.items():
        entitled = floor(slots * Fraction(weight_of[tenant]) / weight_sum)
        assert got[tenant] >= min(entitled, count)


@given(requests | contended_requests, st.integers(1, 16))
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


@given(requests, backlogs(tenants=1))
def test_one_tenant_gets_exactly_earliest_deadline_first(
    request: SelectionRequest, backlog: list[Candidate]
) -> None:
    """With one tenant, no limit of its own, and equal priorities, the chosen jobs are the
    `capacity` due ones with the earliest deadlines, in that order; ties go to the lower id.
    """
    request = replace(
        request,
        config=replace(request.config, late_policy=LatePolicy.RUN),
        running={"acme": sum(request.running.values())},
        quotas={},
        candidates=[job._replace(priority=0) for job in backlog],
    )
    by_deadline = sorted(
        (job for job in backlog if job.is_due), key=lambda job: (job.deadline_at, job.id)
    )

    chosen = select(request).chosen

    assert [job.id for job in chosen] == [job.id for job in by_deadline[: capacity(request)]]


@given(requests)
def test_sidelined_jobs_never_displace_one_that_can_be_on_time(request: SelectionRequest) -> None:
    """Under `sideline`, a late job is chosen only if no eligible on-time job is left waiting."""
    request = replace(request, config=replace(request.config, late_policy=LatePolicy.SIDELINE))

    chosen = select(request).chosen

    if any(late(request, job) for job in chosen):
        on_time = {job for job in eligible(request) if not late(request, job)}
        assert on_time <= set(chosen)


@given(requests)
def test_exactly_the_late_jobs_of_an_expiring_use_case_expire(request: SelectionRequest) -> None:
    """Under `expire`, every due job past its deadline expires; elsewhere none does."""
    expires = request.config.late_policy is LatePolicy.EXPIRE

    expired = {job for job in request.candidates if job.is_due and late(request, job)}
    assert set(select(request).expired) == (expired if expires else set())


@given(requests | contended_requests)
def test_a_selection_is_what_the_rules_say(request: SelectionRequest) -> None:
    """Where shares are whole slots, or nothing contends, the rules leave no choice: the naive
    implementation above chooses the same jobs in the same order.
    """
    whole = all(share.denominator == 1 for share in shares_of(request).values())
    assume(whole or len(eligible(request)) <= capacity(request))

    assert list(select(request).chosen) == naive_select(request)


@given(requests | contended_requests)
def test_each_pick_is_the_most_urgent_of_its_kind(request: SelectionRequest) -> None:
    """In a contended selection the jobs chosen, taken one after the other, are each the
    earliest deadline (then id) among the tenants' first jobs of the same kind. Of one kind are:
    tenants that a slot takes up to their share at most, those it takes across, those beyond;
    and under `sideline`, on-time and late jobs.
    """
    waiting = eligible(request)
    assume(len(waiting) > capacity(request))
    shares = shares_of(request)
    runs = Counter(request.running)

    def kind(job: Candidate) -> tuple[bool, bool, bool]:
        count, share = runs[job.tenant_id], shares[job.tenant_id]
        sidelined = request.config.late_policy is LatePolicy.SIDELINE and late(request, job)
        return sidelined, count + 1 > share, count >= share

    for job in select(request).chosen:
        heads = {each.tenant_id: each for each in reversed(waiting)}.values()
        rivals = [each for each in heads if kind(each) == kind(job)]
        assert job == min(rivals, key=lambda each: (each.deadline_at, each.id))
        waiting.remove(job)
        runs[job.tenant_id] += 1


@given(requests)
def test_every_reason_is_true(request: SelectionRequest) -> None:
    """Each blocked job is told what really holds it back:
    `not_due` and `paused` by their definitions; `tenant_full` when its tenant's earlier jobs
    use up the tenant's room; `behind(n)` when n eligible jobs of its tenant wait before it; the
    first that waits is told `fair_share`, or which of the two capacities is the smaller one.
    `fair_share` needs another tenant that got a job with a later deadline.
    """
    selection = select(request)
    free = request.config.max_concurrent - sum(request.running.values())
    full = Reason.USE_CASE_FULL if free <= request.window else Reason.WINDOW_FULL
    may_run = eligible(request)

    for job in request.candidates:
        if job.id not in selection.blocked:
            continue
        told = selection.blocked[job.id]
        ahead = [
            each
            for each in may_run[: may_run.index(job) if job in may_run else 0]
            if each.tenant_id == job.tenant_id and each.id in selection.blocked
        ]
        unfair = any(
            each.tenant_id != job.tenant_id and each.deadline_at > job.deadline_at
            for each in selection.chosen
        )
        if not job.is_due:
            assert told == Blocked(Reason.NOT_DUE)
        elif request.config.max_concurrent == 0 or _paused(request, job.tenant_id):
            assert told == Blocked(Reason.PAUSED)
        elif job not in may_run:
            assert told == Blocked(Reason.TENANT_FULL)
        elif ahead:
            assert told == Blocked(Reason.BEHIND, len(ahead))
        else:
            assert told in (
                {Blocked(full), Blocked(Reason.FAIR_SHARE)} if unfair else {Blocked(full)}
            )


def _paused(request: SelectionRequest, tenant: str) -> bool:
    return request.quotas.get(tenant, UNLIMITED).max_running == 0
