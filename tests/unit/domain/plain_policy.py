"""The scheduling policy written down a second time, plainly: what tests hold `select` against.

A job is *eligible* when it is due, not expired, and neither its use case nor its tenant is paused
or full (a tenant with room for n jobs has n eligible ones, the first in its own order). *Capacity*
is `max_concurrent - running`, at least 0. A selection is *contended* when more jobs are eligible
than capacity allows. A tenant's *end* is where its virtual time would be after one more job: what
it has had beyond the floor, and a round ÷ weight for each job that runs, was chosen before, or
would begin. It is told in quarters of a round: tenants that differ by less are alike.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from fractions import Fraction
from math import floor, log2
from uuid import UUID

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.limits import UNLIMITED
from async_jobs.domain.scheduling import Candidate, SelectionRequest, Urgency


def late(request: SelectionRequest, job: Candidate) -> bool:
    """Tell whether the job's deadline has passed."""
    return job.deadline_at < request.now


def urgency(request: SelectionRequest, job: Candidate) -> Urgency:
    """Tell how urgent a job is."""
    left = job.deadline_at - request.now
    if late(request, job) and request.config.late_policy is LatePolicy.SIDELINE:
        return Urgency.LATE
    if left <= timedelta(seconds=10):
        return Urgency.CRITICAL
    if left <= timedelta(seconds=job.tolerance_seconds) / 2:
        return Urgency.PRESSING
    return Urgency.RELAXED


def size(request: SelectionRequest, job: Candidate) -> int:
    """Return the order of magnitude of the job's expected run time, if that matters."""
    if urgency(request, job) is not Urgency.CRITICAL:
        return 0
    return floor(log2(request.run_seconds(job.type)))


def in_own_order(request: SelectionRequest, jobs: Iterable[Candidate]) -> list[Candidate]:
    """Return one tenant's jobs as they run: what presses first, each kind by priority."""

    def rank(job: Candidate) -> tuple[Urgency, int, int, datetime, UUID]:
        urgent = urgency(request, job)
        return urgent, -job.priority, size(request, job), job.deadline_at, job.id

    return sorted(jobs, key=rank)


def room(request: SelectionRequest, tenant: str) -> int:
    """Return how many more jobs the tenant may run."""
    limit = request.quotas.get(tenant, UNLIMITED).max_running
    if request.config.max_concurrent == 0:
        return 0
    if limit is None:
        return len(request.candidates)
    if tenant in request.tenants_unheld:
        return 0
    return max(0, limit - request.tenant_running.get(tenant, 0))


def eligible(request: SelectionRequest) -> dict[str, list[Candidate]]:
    """Return each tenant's eligible jobs in its own order."""
    expire = request.config.late_policy is LatePolicy.EXPIRE
    jobs = [j for j in request.candidates if j.is_due and not (expire and late(request, j))]
    lanes = {}
    for tenant in {job.tenant_id for job in jobs}:
        own = in_own_order(request, (job for job in jobs if job.tenant_id == tenant))
        lanes[tenant] = own[: room(request, tenant)]
    return {tenant: lane for tenant, lane in lanes.items() if lane}


def capacity(request: SelectionRequest) -> int:
    """Return how many jobs may be leased."""
    return max(0, request.config.max_concurrent - sum(request.running.values()))


def round_us(request: SelectionRequest, heads: Iterable[Candidate]) -> int:
    """Return how long a round is: the mean of what the tenants' first jobs are expected to run."""
    seconds = [request.run_seconds(job.type) for job in heads]
    return round(min(max(sum(seconds) / max(1, len(seconds)), 0.001), 60.0) * 1_000_000)


def naive_select(request: SelectionRequest) -> list[Candidate]:
    """Pick one job after the other, looking at everything anew each time."""
    waiting = eligible(request)
    places = capacity(request)
    everything = [job for lane in waiting.values() for job in lane]
    if len(everything) <= places:
        kinds = {job.id: urgency(request, job) is Urgency.LATE for job in everything}
        return sorted(everything, key=lambda job: (kinds[job.id], job.deadline_at, job.id))
    one_round = round_us(request, [lane[0] for lane in waiting.values()])
    picked: list[Candidate] = []

    def end(tenant: str) -> int:
        """Return the quarter of a round in which the tenant's next job ends."""
        weight = Fraction(repr(request.quotas.get(tenant, UNLIMITED).weight))
        contest = request.contest
        had = max(0, contest.times.get(tenant, contest.floor) - contest.floor)
        chosen = Counter(job.tenant_id for job in picked)[tenant]
        jobs = request.running.get(tenant, 0) + chosen + 1
        return (had + jobs * max(1, floor(one_round / weight))) // (one_round // 4)

    def rank(job: Candidate) -> tuple[int, int, int, datetime, UUID]:
        urgent, at = urgency(request, job), end(job.tenant_id)
        if urgent in (Urgency.LATE, Urgency.RELAXED):
            return 1, at, 0, job.deadline_at, job.id
        if urgent is Urgency.CRITICAL:
            return 0, max(0, at - 4 * 40), size(request, job), job.deadline_at, job.id
        return 0, at, 1_000, job.deadline_at, job.id

    overdue = [job for job in everything if urgency(request, job) is Urgency.LATE]
    overdue.sort(key=lambda job: (job.deadline_at, job.id))
    rescued = overdue[: request.contest.passed_over // 64]
    while len(picked) < places and any(waiting.values()):
        if rescued:
            best = rescued.pop(0)
        else:
            best = min((lane[0] for lane in waiting.values() if lane), key=rank)
        waiting[best.tenant_id].remove(best)
        picked.append(best)
    return picked
