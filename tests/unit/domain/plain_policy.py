"""The scheduling policy written down a second time, plainly: what tests hold `select` against.

A job is *eligible* when it is due, not expired, and neither its use case nor
its tenant is paused or full (a tenant with room for n jobs has n eligible ones). *Capacity* is
`min(max_concurrent - running, window)`, at least 0. A selection is *contended* when more jobs
are eligible than capacity allows. A tenant's *share* is its weighted max-min fair share of
`max_concurrent`, over what it runs plus its eligible jobs, in exact arithmetic.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.limits import UNLIMITED
from async_jobs.domain.scheduling import Candidate, SelectionRequest


def late(request: SelectionRequest, job: Candidate) -> bool:
    """Tell whether the job's deadline has passed."""
    return job.deadline_at < request.now


def due(request: SelectionRequest) -> list[Candidate]:
    """Return what is due and does not expire, each tenant's in its own order (rules 3 and 6)."""
    policy = request.config.late_policy
    jobs = [
        job
        for job in request.candidates
        if job.is_due and not (policy is LatePolicy.EXPIRE and late(request, job))
    ]
    jobs.sort(key=lambda job: (-job.priority, job.deadline_at, job.id))
    if policy is LatePolicy.SIDELINE:
        jobs.sort(key=lambda job: late(request, job))
    return jobs


def room(request: SelectionRequest, tenant: str) -> int:
    """Return how many more jobs the tenant may run (rule 1)."""
    limit = request.quotas.get(tenant, UNLIMITED).max_running
    if request.config.max_concurrent == 0:
        return 0
    if limit is None:
        return len(request.candidates)
    if tenant in request.tenants_unheld:
        return 0
    return max(0, limit - request.tenant_running.get(tenant, 0))


def eligible(request: SelectionRequest) -> list[Candidate]:
    """Return the eligible jobs, each tenant's in its own order."""
    seen = Counter[str]()
    jobs = []
    for job in due(request):
        seen[job.tenant_id] += 1
        if seen[job.tenant_id] <= room(request, job.tenant_id):
            jobs.append(job)
    return jobs


def capacity(request: SelectionRequest) -> int:
    """Return how many jobs may be leased (rule 2)."""
    free = request.config.max_concurrent - sum(request.running.values())
    return max(0, min(free, request.window))


def exact_shares(
    slots: int, demand: Mapping[str, int], weights: Mapping[str, Fraction]
) -> dict[str, Fraction]:
    """Raise the water level until somebody is satisfied or the water runs out; repeat."""
    shares = dict.fromkeys(demand, Fraction(0))
    left = Fraction(slots)
    thirsty = {tenant for tenant in demand if demand[tenant] > 0}
    while thirsty and left > 0:
        rise = min((demand[t] - shares[t]) / weights[t] for t in thirsty)
        rise = min(rise, left / sum(weights[t] for t in thirsty))
        for tenant in thirsty:
            shares[tenant] += rise * weights[tenant]
            left -= rise * weights[tenant]
        thirsty = {tenant for tenant in thirsty if shares[tenant] < demand[tenant]}
    return shares


def shares_of(request: SelectionRequest) -> dict[str, Fraction]:
    """Return each tenant's share (rule 5)."""
    demand = Counter(request.running)
    demand.update(job.tenant_id for job in eligible(request))
    weights = {t: Fraction(request.quotas.get(t, UNLIMITED).weight) for t in demand}
    return exact_shares(request.config.max_concurrent, demand, weights)


def naive_select(request: SelectionRequest) -> list[Candidate]:
    """Pick one job after the other, looking at everything anew each time (rules 4 to 6)."""
    waiting = eligible(request)
    places = capacity(request)
    policy = request.config.late_policy
    if len(waiting) <= places:
        return due(replace(request, candidates=waiting))
    shares = shares_of(request)
    runs = Counter(request.running)
    picked: list[Candidate] = []
    while waiting and len(picked) < places:
        heads = {job.tenant_id: job for job in reversed(waiting)}.values()
        best = min(
            heads,
            key=lambda job: (
                policy is LatePolicy.SIDELINE and late(request, job),
                runs[job.tenant_id] >= shares[job.tenant_id],
                job.deadline_at,
                job.id,
            ),
        )
        waiting.remove(best)
        runs[best.tenant_id] += 1
        picked.append(best)
    return picked
