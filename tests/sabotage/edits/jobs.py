"""Bugs in the rules of a job's life and in who goes next."""

from __future__ import annotations

from async_jobs.domain import (
    candidates,
    crashes,
    effects,
    pools,
    quota,
    reporting,
    rounds,
    scheduling,
)
from async_jobs.domain.candidates import Ranking
from async_jobs.domain.dispatching import TurnView
from async_jobs.domain.fairness import Contest
from async_jobs.domain.job import Phase
from async_jobs.domain.lifecycle import (
    WANTED,
    Cancelled,
    Claimed,
    Failed,
    LeaseExpired,
    Released,
    Renewed,
    Retried,
    Snoozed,
)
from async_jobs.domain.places import Places
from async_jobs.domain.rounds import _Rounds
from async_jobs.domain.running import Running
from async_jobs.domain.scheduling import _Triage
from async_jobs.domain.slots import Slots
from tests.sabotage.edits.patches import Edit, bug, transition, transitions

ATTEMPTS = (
    bug(
        "attempt_not_charged_at_claim",
        "A claim begins an attempt and charges none.",
        Edit(effects.claimed, "attempts=job.attempts + 1", "attempts=job.attempts"),
        breaks="S6",
    ),
    bug(
        "attempt_charged_at_lease",
        "A lease charges an attempt that may never start.",
        Edit(
            effects.leased,
            "started_at=None,",
            "started_at=None, attempts=min(job.attempts + 1, job.max_attempts - 1),",
        ),
        breaks="S6",
    ),
    bug(
        "hand_off_failure_charged",
        "A hand-off that failed, or was never claimed, costs an attempt.",
        Edit(
            effects._back_unstarted,
            "dispatches=job.dispatches + 1,",
            "attempts=min(job.attempts + 1, job.max_attempts),",
        ),
        breaks="S6",
    ),
    bug(
        "one_attempt_too_many",
        "A job is tried once more than it may be.",
        Edit(
            effects.failed,
            "job.attempts >= job.max_attempts",
            "job.attempts > job.max_attempts",
        ),
        breaks="S6",
    ),
    bug(
        "killer_job_tried_for_ever",
        "A job whose worker died is given back as if it had never started.",
        Edit(effects.lease_expired, "job.started_at is None", "True"),
        breaks="S6",
    ),
    bug(
        "release_not_refunded",
        "A worker that shuts down gives a job back and keeps the attempt charged.",
        Edit(effects.released, "attempts=job.attempts - 1", "attempts=job.attempts"),
        breaks="S6",
    ),
    bug(
        "snooze_charged",
        "A handler that asks to run later loses an attempt.",
        Edit(effects.snoozed, "attempts=job.attempts - 1", "attempts=job.attempts"),
        breaks="S6",
    ),
    bug(
        "retry_without_attempts",
        "An operator's retry leaves the attempts used up.",
        Edit(effects.retried, "attempts=0", "attempts=job.attempts"),
        breaks="S6",
    ),
)

CRASHES = (
    bug(
        "crash_charges_an_attempt",
        "A job that was in a worker that died loses an attempt.",
        Edit(effects.lease_expired, "attempts=job.attempts - 1", "attempts=job.attempts"),
        breaks="S6",
    ),
    bug(
        "crashes_counted_once",
        "However often its worker dies, a job has crashed once.",
        Edit(effects.lease_expired, "crashes = job.crashes + 1", "crashes = 1"),
        breaks="S6",
    ),
    bug(
        "crashes_without_end",
        "A job that kills its workers is tried for ever.",
        Edit(crashes.is_hopeless, "crashes >= CRASHES_MAX", "crashes > 10_000"),
        breaks="S6",
    ),
    bug(
        "crash_comes_back_at_once",
        "What was in one dead worker is in the next one together.",
        Edit(
            effects.lease_expired,
            "now + job.backoff_policy.delay(crashes, event.draw)",
            "now",
        ),
        breaks="S17",
    ),
    bug(
        "retry_keeps_the_crashes",
        "After an operator's retry the next crash is the last one again.",
        Edit(effects.retried, "crashes=0", "crashes=job.crashes"),
        breaks="S6",
    ),
    bug(
        "who_waited_is_charged",
        "A suspect that waited in a worker that died is charged a crash.",
        Edit(crashes.who_waited, "> 1", "> 10_000"),
        breaks="S20",
    ),
    bug(
        "who_ran_is_not_charged",
        "No job that shared its worker with others is charged a crash.",
        Edit(crashes.who_waited, "if is_suspect(job) and", "if"),
        breaks="S6",
    ),
    bug(
        "nobody_is_a_suspect",
        "A job that was in two workers that died runs beside others.",
        Edit(crashes.is_suspect, "job.crashes >= SUSPECT_CRASHES_MIN", "job.crashes < 0"),
        breaks="S20",
    ),
)

LEASES = (
    bug(
        "lease_without_a_new_number",
        "Every lease of a job has the same number.",
        Edit(effects.next_lease_seq, "lease_seq + 1", "max(lease_seq, 1)"),
        breaks="S2",
    ),
    bug(
        "retry_resets_lease_seq",
        "An operator's retry begins to count the leases anew.",
        Edit(effects.retried, "lease_seq=next_lease_seq(job.lease_seq)", "lease_seq=0"),
        breaks="S2",
    ),
    bug(
        "retry_keeps_lease_seq",
        "An operator's retry leaves the number as it was in the job's former life.",
        Edit(
            effects.retried,
            "lease_seq=next_lease_seq(job.lease_seq)",
            "lease_seq=job.lease_seq",
        ),
        breaks="S2",
    ),
    bug(
        "fence_compared_but_not_consumed",
        "A claim checks that the lease is the job's own, and leaves it to be claimed again.",
        transition(Phase.CLAIMED, Claimed, like=Phase.HANDED_OFF),
        breaks="S3",
    ),
    bug(
        "expired_lease_claimable",
        "A hand-off that arrives after its lease is over is claimed all the same.",
        *transitions(Claimed, only=(WANTED,)),
        breaks="S3",
    ),
    bug(
        "expired_lease_renewable",
        "A lease that is over can be renewed.",
        *transitions(Renewed, only=()),
        breaks="S4",
    ),
    bug(
        "stale_reap",
        "A reap compares no lease end, so that it ends what was renewed since it read.",
        *transitions(LeaseExpired, is_about_lease_end=False),
        breaks="S4",
    ),
)

ENDINGS = (
    bug(
        "cancel_forgotten_at_retry",
        "A job whose cancellation was asked for runs again when its attempt fails.",
        *(
            transition(Phase.CANCELLING, event, like=Phase.CLAIMED)
            for event in (Failed, Snoozed, Released, LeaseExpired)
        ),
        breaks="S17",
    ),
    bug(
        "cancel_ends_what_runs",
        "A cancel ends a job that a worker executes, and gives its slot away.",
        transition(Phase.CLAIMED, Cancelled, like=Phase.CANCELLING),
        breaks="S9",
    ),
    bug(
        "terminal_overwritten",
        "A cancel turns a success into a cancelled job.",
        transition(Phase.SUCCEEDED, Cancelled, like=Phase.PENDING),
        breaks="S7",
    ),
    bug(
        "success_can_be_retried",
        "An operator can run a job again that has succeeded.",
        transition(Phase.SUCCEEDED, Retried, like=Phase.DEAD),
        breaks="S17",
    ),
    bug(
        "running_job_can_be_retried",
        "An operator's retry takes a job out of the hands of its worker.",
        transition(Phase.HANDED_OFF, Retried, like=Phase.DEAD),
        transition(Phase.CLAIMED, Retried, like=Phase.DEAD),
        transition(Phase.CANCELLING, Retried, like=Phase.DEAD),
        breaks="S17",
    ),
    bug(
        "payload_in_the_error",
        "An attempt's error quotes the payload.",
        Edit(
            effects.failed,
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
        Edit(candidates.in_tenant_order, "reverse=True", "reverse=False"),
        Edit(Ranking.ranked, "(urgency, -candidate.priority,", "(urgency, candidate.priority,"),
        breaks="S14",
    ),
    bug(
        "order_by_age",
        "Within a tenant the oldest job goes first, whatever its deadline.",
        Edit(
            candidates.in_tenant_order,
            "key=by_deadline",
            "key=lambda candidate: candidate.id",
        ),
        Edit(Ranking.ranked, "size, deadline_at, candidate.id,", "size, _NEVER, candidate.id,"),
        breaks="S14",
    ),
    bug(
        "priority_before_urgency",
        "Within a tenant an important job that can wait goes before one that cannot.",
        Edit(_Triage.lanes, "lane.sort()", "lane.sort(key=lambda each: (each[1], each))"),
        Edit(Slots._divide, "lane.sort()", "lane.sort(key=lambda each: (each[1], each))"),
        breaks="S14",
    ),
    bug(
        "sideline_ignored",
        "A store shows late jobs of a use case that puts them behind first.",
        Edit(
            candidates.in_tenant_order,
            "policy is LatePolicy.SIDELINE",
            "not policy",
        ),
        breaks="S14",
    ),
    bug(
        "late_jobs_first",
        "Late jobs of a use case that puts them behind are the most urgent.",
        Edit(Ranking.__init__, "policy is LatePolicy.SIDELINE", "not policy"),
        breaks="S14",
    ),
    bug(
        "late_job_never_rescued",
        "While anything on time presses, no late job runs, however long that lasts.",
        Edit(rounds._rescued, "contest.passed_over // STARTS_BETWEEN_LATE", "0"),
        breaks="L5",
    ),
    bug(
        "late_jobs_leased",
        "A job that missed its deadline is run in a use case that expires such jobs.",
        Edit(_Triage._eligible, "request.config.late_policy is LatePolicy.EXPIRE", "not now"),
        breaks="S17",
    ),
)

FAIRNESS = (
    bug(
        "shares_ignored",
        "The earliest deadline alone decides, so that a tenant's backlog displaces all others.",
        Edit(_Rounds.entry, "self._ends[tenant] // self._part_us", "0"),
        breaks="L5",
    ),
    bug(
        "service_not_charged",
        "What a tenant has had is forgotten: only what runs at the moment counts.",
        Edit(Contest.observe, "            if elapsed_us:", "            if not elapsed_us:"),
        breaks="L5",
    ),
    bug(
        "newcomer_begins_at_zero",
        "Who has not asked for anything for a day may have all of it at once.",
        Edit(_Rounds.__init__, "max(0, times.get(tenant, floor) - floor)", "times.get(tenant, 0)"),
        Edit(Contest.observe, "max(floor, times.get(tenant, floor))", "times.get(tenant, 0)"),
        Edit(Contest.conclude, "times[tenant] = self.floor", "times[tenant] = 0"),
        breaks="L5",
    ),
    bug(
        "owed_not_named",
        "Who is owed the most is not seen behind the more urgent jobs of others.",
        Edit(TurnView.owed, "tuple(dict.fromkeys(owed))", "()"),
        breaks="L5",
    ),
    bug(
        "service_not_added_up",
        "A tenant has a share of the same slots in each of its use cases.",
        Edit(
            Running._count,
            "of_pool[tenant] += running",
            "of_pool[tenant] = max(of_pool[tenant], running)",
        ),
        breaks="L5",
    ),
)

SLOTS = (
    bug(
        "window_ignored",
        "A queue is filled with everything that may run.",
        Edit(Places.__init__, "slots - busy.get(", "slots + 1_000 - busy.get("),
        breaks="S14",
    ),
    bug(
        "twice_the_slots",
        "As much again as there are slots waits behind what runs, and cannot be overtaken.",
        Edit(Places.__init__, "slots - busy.get(", "2 * slots - busy.get("),
        breaks="S14",
    ),
    bug(
        "pool_for_each_queue",
        "Each queue is filled as if no other were received by the same slots.",
        Edit(
            pools.pools_of,
            "for queues, count in workers:",
            "for queues, count in [([name], slots) for names, slots in workers for name in names]:",
        ),
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
            _Triage._eligible,
            "if request.config.max_concurrent == 0:",
            "if request.config.max_concurrent < 0:",
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

STARTS = (
    bug(
        "first_deadline_forgotten",
        "What puts a job off is what it was promised.",
        Edit(effects._due_later, '"first_deadline_at": first', '"first_deadline_at": None'),
        breaks="S17",
    ),
    bug(
        "first_start_forgotten",
        "A job that is given back starts first each time.",
        Edit(effects._first_start, "job.started_at if started else None", "None"),
        breaks="S17",
    ),
    bug(
        "put_off_in_vain_is_a_start",
        "A job has started when a worker without a handler for it has claimed it.",
        Edit(effects.snoozed, "_first_start(job, event.started)", "_first_start(job, True)"),
        breaks="S17",
    ),
    bug(
        "start_held_against_the_last_deadline",
        "A first start is on time by the deadline that a wait gave it.",
        Edit(reporting._promised, "if is_first else", "if not job else"),
        breaks="S17",
    ),
    bug(
        "expired_starts_first",
        "What expired unstarted and is set going again counts twice.",
        Edit(reporting.awaits_first_start, "== DEADLINE_MISSED for", "is None for"),
        breaks="S17",
    ),
)

BUGS = (*ATTEMPTS, *CRASHES, *LEASES, *ENDINGS, *ORDER, *FAIRNESS, *SLOTS, *LIMITS, *STARTS)
