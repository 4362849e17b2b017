"""Bugs in the rules of a job's life and in who goes next."""

from __future__ import annotations

from async_jobs.domain import lifecycle, quota, scheduling
from async_jobs.domain.job import JobStatus
from async_jobs.domain.lifecycle import TRANSITIONS, Cancelled, Renewed, Retried
from tests.sabotage.edits import Edit, Entry, Swap, bug

ATTEMPTS = (
    bug(
        "attempt_not_charged_at_claim",
        "A claim begins an attempt and charges none.",
        Edit(lifecycle._claimed, "attempts=job.attempts + 1", "attempts=job.attempts"),
        breaks="S6",
    ),
    bug(
        "attempt_charged_at_lease",
        "A lease charges an attempt that may never start.",
        Edit(
            lifecycle._leased,
            "started_at=None,",
            "started_at=None, attempts=min(job.attempts + 1, job.max_attempts - 1),",
        ),
        breaks="S6",
    ),
    bug(
        "hand_off_failure_charged",
        "A hand-off that failed, or was never claimed, costs an attempt.",
        Edit(
            lifecycle._back_unstarted,
            "dispatches=job.dispatches + 1,",
            "attempts=min(job.attempts + 1, job.max_attempts),",
        ),
        breaks="S6",
    ),
    bug(
        "one_attempt_too_many",
        "A job is tried once more than it may be.",
        Edit(
            lifecycle._failed,
            "job.attempts >= job.max_attempts",
            "job.attempts > job.max_attempts",
        ),
        breaks="S6",
    ),
    bug(
        "killer_job_tried_for_ever",
        "A job whose worker died is given back as if it had never started.",
        Edit(lifecycle._lease_expired, "job.started_at is None", "True"),
        breaks="S6",
    ),
    bug(
        "release_not_refunded",
        "A worker that shuts down gives a job back and keeps the attempt charged.",
        Edit(lifecycle._released, "attempts=job.attempts - 1", "attempts=job.attempts"),
        breaks="S6",
    ),
    bug(
        "snooze_charged",
        "A handler that asks to run later loses an attempt.",
        Edit(lifecycle._snoozed, "attempts=job.attempts - 1", "attempts=job.attempts"),
        breaks="S6",
    ),
    bug(
        "retry_without_attempts",
        "An operator's retry leaves the attempts used up.",
        Edit(lifecycle._retried, "attempts=0", "attempts=job.attempts"),
        breaks="S6",
    ),
)

LEASES = (
    bug(
        "lease_without_a_new_number",
        "Every lease of a job has the same number.",
        Edit(lifecycle.next_lease_seq, "lease_seq + 1", "max(lease_seq, 1)"),
        breaks="S2",
    ),
    bug(
        "retry_resets_lease_seq",
        "An operator's retry begins to count the leases anew.",
        Edit(lifecycle._retried, "lease_seq=next_lease_seq(job.lease_seq)", "lease_seq=0"),
        breaks="S2",
    ),
    bug(
        "retry_keeps_lease_seq",
        "An operator's retry leaves the number as it was in the job's former life.",
        Edit(
            lifecycle._retried,
            "lease_seq=next_lease_seq(job.lease_seq)",
            "lease_seq=job.lease_seq",
        ),
        breaks="S2",
    ),
    bug(
        "fence_compared_but_not_consumed",
        "A claim checks that the lease is the job's own, and leaves it to be claimed again.",
        Edit(
            lifecycle._guard,
            "HandOffFailed() | Claimed() if claimed:",
            "HandOffFailed() if claimed:",
        ),
        breaks="S3",
    ),
    bug(
        "expired_lease_claimable",
        "A hand-off that arrives after its lease is over is claimed all the same.",
        Edit(lifecycle._guard, "Claimed() | Renewed() if _lease", "Renewed() if _lease"),
        breaks="S3",
    ),
    bug(
        "expired_lease_renewable",
        "A lease that is over can be renewed.",
        Edit(lifecycle._guard, "Claimed() | Renewed() if _lease", "Claimed() if _lease"),
        breaks="S4",
    ),
    bug(
        "stale_reap",
        "A reap compares no lease end, so that it ends what was renewed since it read.",
        Swap(lifecycle, "_FENCED_BY_LEASE_END", frozenset({Renewed})),
        breaks="S4",
    ),
)

ENDINGS = (
    bug(
        "cancel_forgotten_at_retry",
        "A job whose cancellation was asked for runs again when its attempt fails.",
        Edit(lifecycle.settle, "after.cancel_requested", "not after"),
        breaks="S17",
    ),
    bug(
        "cancel_ends_what_runs",
        "A cancel ends a job that a worker executes, and gives its slot away.",
        Edit(
            lifecycle.cancelling,
            "case Phase.PENDING | Phase.HANDED_OFF:",
            "case Phase.PENDING | Phase.HANDED_OFF | Phase.CLAIMED:",
        ),
        Edit(lifecycle._guard, "case Cancelled() if claimed", "case Cancelled() if not job"),
        breaks="S9",
    ),
    bug(
        "terminal_overwritten",
        "A cancel turns a success into a cancelled job.",
        Edit(
            lifecycle.cancelling,
            "case Phase.PENDING | Phase.HANDED_OFF:",
            "case Phase.PENDING | Phase.HANDED_OFF | Phase.SUCCEEDED:",
        ),
        Entry(TRANSITIONS, (JobStatus.SUCCEEDED, Cancelled), frozenset({JobStatus.CANCELLED})),
        breaks="S7",
    ),
    bug(
        "success_can_be_retried",
        "An operator can run a job again that has succeeded.",
        Entry(TRANSITIONS, (JobStatus.SUCCEEDED, Retried), frozenset({JobStatus.PENDING})),
        breaks="S17",
    ),
    bug(
        "running_job_can_be_retried",
        "An operator's retry takes a job out of the hands of its worker.",
        Entry(TRANSITIONS, (JobStatus.RUNNING, Retried), frozenset({JobStatus.PENDING})),
        breaks="S17",
    ),
    bug(
        "payload_in_the_error",
        "An attempt's error quotes the payload.",
        Edit(
            lifecycle._failed,
            "bounded_error(event.error)",
            'bounded_error(f"{event.error} with {job.payload}")',
        ),
        breaks="S19",
    ),
)

ORDER = (
    bug(
        "priority_reversed",
        "Within a tenant the least important job goes first.",
        Edit(scheduling.in_tenant_order, "reverse=True", "reverse=False"),
        breaks="S14",
    ),
    bug(
        "order_by_age",
        "Within a tenant the oldest job goes first, whatever its deadline.",
        Edit(
            scheduling.in_tenant_order,
            "key=_by_deadline",
            "key=lambda candidate: candidate.id",
        ),
        breaks="S14",
    ),
    bug(
        "sideline_ignored",
        "Late jobs of a use case that puts them behind go first.",
        Edit(
            scheduling.in_tenant_order,
            "policy is LatePolicy.SIDELINE",
            "not policy",
        ),
        breaks="S14",
    ),
    bug(
        "late_jobs_leased",
        "A job that missed its deadline is run in a use case that buries such jobs.",
        Edit(scheduling._Triage.__init__, "elif expire and", "elif not self and"),
        breaks="S17",
    ),
    bug(
        "shares_ignored",
        "The earliest deadline wins, so that a tenant's backlog displaces all others.",
        Edit(scheduling._claim, "return 1 if running * denominator < numerator else 2", "return 0"),
        breaks="L5",
    ),
    bug(
        "window_ignored",
        "A queue is filled with everything that may run.",
        Edit(scheduling.hand_off_window, "- unclaimed", "+ 1_000 + unclaimed"),
        breaks="S14",
    ),
)

LIMITS = (
    bug(
        "cap_exceeded_by_one",
        "A use case runs one job more than it may.",
        Edit(
            scheduling.select,
            "request.config.max_concurrent -",
            "request.config.max_concurrent + 1 -",
        ),
        breaks="S8",
    ),
    bug(
        "cap_of_zero_means_no_limit",
        "A use case that is paused runs without bound.",
        Edit(
            scheduling.select,
            "request.config.max_concurrent -",
            "(request.config.max_concurrent or 1_000) -",
        ),
        Edit(
            scheduling._Triage.__init__,
            "elif request.config.max_concurrent == 0:",
            "elif request.config.max_concurrent < 0:",
        ),
        breaks="S11",
    ),
    bug(
        "quota_counts_calls",
        "A batch counts as one job towards a tenant's quota.",
        Edit(quota.admit, "used + asked[tenant] >", "used + 1 >"),
        breaks="S12",
    ),
)

BUGS = (*ATTEMPTS, *LEASES, *ENDINGS, *ORDER, *LIMITS)
