"""Which facts each event yields, and that none of them carries a payload."""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from datetime import timedelta
from typing import Any, get_args, get_type_hints

import pytest

from async_jobs.domain import facts, lifecycle, readings
from async_jobs.domain.backlog import QueueLoad, TenantShare, UseCaseLoad
from async_jobs.domain.crashes import CRASHES_MAX
from async_jobs.domain.deadline import lateness
from async_jobs.domain.facts import Fact, JobFact
from async_jobs.domain.job import Job
from async_jobs.domain.lifecycle import JobEvent, advance
from async_jobs.domain.patience import NO_HANDLER
from async_jobs.domain.reporting import job_ids, tell
from tests.unit.domain.builders import (
    JOB_ID,
    NOW,
    after,
    cancelled,
    claimed,
    dead,
    flagged,
    handed_off,
    pending,
)

IDS = {
    "at": NOW,
    "job_id": JOB_ID,
    "tenant_id": "acme",
    "use_case": "notifications",
    "type": "send_email",
}
OVER = after(-1)


def told_of(before: Job, event: JobEvent) -> list[JobFact]:
    """Return what is told when the event is carried out as a store would."""
    return tell(before, event, advance(before, event, now=NOW), at=NOW)


def names(told: list[JobFact]) -> list[str]:
    """Return the kinds of the facts, in order."""
    return [type(fact).__name__ for fact in told]


TOLD: list[tuple[str, Job, JobEvent, list[str]]] = [
    ("a lease", pending(), lifecycle.Leased(after(60)), []),
    ("a renewal", claimed(), lifecycle.Renewed(after(60)), []),
    ("a refused hand-off", handed_off(), lifecycle.HandOffFailed("no"), ["JobHandOffFailed"]),
    ("a start", handed_off(), lifecycle.Claimed("w", after(60)), ["JobStarted"]),
    (
        "a late start",
        handed_off(run_at=after(-31), deadline_at=OVER),
        lifecycle.Claimed("w", after(60)),
        ["JobStarted", "DeadlineMissed"],
    ),
    ("a success", claimed(), lifecycle.Succeeded(), ["JobSucceeded"]),
    ("a success of a flagged job", flagged(), lifecycle.Succeeded(), ["JobSucceeded"]),
    ("a failure", claimed(), lifecycle.Failed("boom"), ["JobFailed"]),
    ("the last failure", claimed(attempts=3), lifecycle.Failed("boom"), ["JobDied"]),
    ("a failure of a flagged job", flagged(), lifecycle.Failed("boom"), ["JobCancelled"]),
    ("a rejection", claimed(), lifecycle.Rejected("never"), ["JobDied"]),
    ("a snooze", claimed(), lifecycle.Snoozed(after(60)), ["JobSnoozed"]),
    ("a release", claimed(), lifecycle.Released(), ["JobReleased"]),
    ("a cancel request", claimed(), lifecycle.CancelRequested(), ["JobCancelRequested"]),
    ("a cancellation", pending(), lifecycle.Cancelled(), ["JobCancelled"]),
    ("a stopped handler", flagged(), lifecycle.Cancelled(), ["JobCancelled"]),
    (
        "a lost hand-off",
        handed_off(lease_expires_at=OVER),
        lifecycle.LeaseExpired(),
        ["LeaseExpired"],
    ),
    (
        "a lost worker",
        claimed(lease_expires_at=OVER),
        lifecycle.LeaseExpired(),
        ["LeaseExpired", "JobFailed"],
    ),
    (
        "the last worker lost",
        claimed(lease_expires_at=OVER, crashes=CRASHES_MAX - 1),
        lifecycle.LeaseExpired(),
        ["LeaseExpired", "JobDied"],
    ),
    (
        "a worker lost while the job waited in it",
        claimed(lease_expires_at=OVER),
        lifecycle.LeaseExpired(waited=True),
        ["LeaseExpired"],
    ),
    (
        "a worker lost with a flagged job",
        flagged(lease_expires_at=OVER),
        lifecycle.LeaseExpired(),
        ["LeaseExpired", "JobCancelled"],
    ),
    ("a row set aside", claimed(lease_expires_at=OVER), lifecycle.SetAside(after(300)), []),
    (
        "a missed deadline",
        pending(run_at=after(-31), deadline_at=OVER),
        lifecycle.Expired(),
        ["DeadlineMissed", "JobDied"],
    ),
    ("a retry of a dead job", dead(), lifecycle.Retried(), ["JobRetried"]),
    ("a retry of a cancelled job", cancelled(), lifecycle.Retried(), ["JobRetried"]),
    ("what waits amended", pending(), lifecycle.Amended(priority=7), []),
    ("a cancellation taken back", cancelled(), lifecycle.Restored(), ["JobRetried"]),
]


@pytest.mark.parametrize(
    ("before", "event", "expected"), [row[1:] for row in TOLD], ids=[row[0] for row in TOLD]
)
def test_each_event_is_told_as_listed(before: Job, event: JobEvent, expected: list[str]) -> None:
    """An event yields exactly the facts that are listed for it, in that order."""
    assert names(told_of(before, event)) == expected


def test_the_list_holds_every_event() -> None:
    """No event is missing above."""
    assert {type(event) for _, _, event, _ in TOLD} == set(get_args(JobEvent))


@pytest.mark.parametrize(
    ("before", "event"), [row[1:3] for row in TOLD], ids=[row[0] for row in TOLD]
)
def test_every_fact_says_whose_it_is(before: Job, event: JobEvent) -> None:
    """Each fact carries instant, job, tenant, use case, type, and the attempts charged."""
    attempts = advance(before, event, now=NOW).attempts

    for fact in told_of(before, event):
        told = asdict(fact)
        assert {name: told[name] for name in (*IDS, "attempt")} == {**IDS, "attempt": attempts}


# --- What else a fact tells ------------------------------------------------------------------


def test_a_start_tells_how_long_it_took_and_how_late_it_is() -> None:
    """`start_latency` counts from `run_at`; `late_by` from the deadline, negative when on time."""
    (started,) = told_of(handed_off(), lifecycle.Claimed("worker-2", after(60)))

    assert started == facts.JobStarted(
        **job_ids(claimed(), at=NOW),
        worker_id="worker-2",
        start_latency=timedelta(seconds=10),
        late_by=timedelta(seconds=-20),
        tolerance_used=10 / 30,
        first=False,
    )


@pytest.mark.parametrize(
    ("attempts", "crashes", "first"), [(0, 0, True), (1, 0, False), (0, 1, False)]
)
def test_a_first_start_is_told_from_those_after_a_failure(
    attempts: int, crashes: int, first: bool
) -> None:
    """Whether that was the handler's or its worker's."""
    before = handed_off(attempts=attempts, crashes=crashes)

    (started,) = told_of(before, lifecycle.Claimed("w", after(60)))

    assert isinstance(started, facts.JobStarted)
    assert started.first is first


CLAIM = lifecycle.Claimed("w", after(3_000))


def leased_again(job: Job, *events: lifecycle.JobEvent) -> Job:
    """Return a job after events, and leased by the end of them."""
    for event in (*events, lifecycle.Leased(after(3_000))):
        job = advance(job, event, now=NOW)
    return job


def started(job: Job, at: float = 0) -> facts.JobStarted:
    """Return what is told of a start so many seconds later."""
    (fact, *_) = tell(job, CLAIM, advance(job, CLAIM, now=NOW), at=after(at))
    assert isinstance(fact, facts.JobStarted)
    return fact


WITHOUT_HANDLER = lifecycle.Snoozed(after(600), why=NO_HANDLER, started=False)


def test_a_job_that_found_no_handler_starts_first_with_one() -> None:
    """By its first deadline: being put off again and again must not look like being on time."""
    fresh = handed_off(attempts=0, crashes=0)
    job = fresh
    for _ in range(3):
        job = leased_again(job, CLAIM, WITHOUT_HANDLER)

    first = started(job, 600)
    again = started(leased_again(job, CLAIM, lifecycle.Snoozed(after(600))), 600)

    assert first.first
    assert first.late_by == lateness(fresh.deadline_at, after(600))
    assert first.start_latency == after(600) - fresh.run_at
    assert first.tolerance_used > 1
    assert not again.first
    assert again.late_by < timedelta(0)


@pytest.mark.parametrize(
    "ends",
    [
        (lifecycle.Snoozed(after(600)),),
        (lifecycle.Released(),),
        (lifecycle.Failed("it failed"),),
        (lifecycle.LeaseExpired(waited=True),),
        (lifecycle.Rejected("no"), lifecycle.Retried()),
        (lifecycle.CancelRequested(), lifecycle.Cancelled(), lifecycle.Retried()),
    ],
    ids=lambda ends: type(ends[0]).__name__,
)
def test_a_job_has_one_first_start(ends: tuple[lifecycle.JobEvent, ...]) -> None:
    """However its attempt ended, and whoever sent it on its way again."""
    claim = lifecycle.Claimed("w", NOW) if isinstance(ends[0], lifecycle.LeaseExpired) else CLAIM
    job = handed_off(attempts=0, crashes=0)

    again = leased_again(job, claim, *ends)

    assert started(job).first
    assert not started(again).first
    assert again.first_started_at == NOW


def test_a_job_that_was_dead_for_want_of_a_handler_has_not_started() -> None:
    """Nor has one that was cancelled before anybody had it."""
    job = handed_off(attempts=0, crashes=0)

    rejected = leased_again(
        job, CLAIM, lifecycle.Rejected("none came", started=False), lifecycle.Retried()
    )
    cancelled = leased_again(job, lifecycle.Cancelled(), lifecycle.Retried())

    assert started(rejected).first
    assert started(cancelled).first


def test_what_expired_unstarted_has_missed_its_promise_once() -> None:
    """An operator who sets it going again gets no second first start, and no second miss."""
    late = pending(deadline_at=after(-1), attempts=0, crashes=0)

    (missed, _) = told_of(late, lifecycle.Expired())
    again = advance(advance(late, lifecycle.Expired(), now=NOW), lifecycle.Retried(), now=NOW)
    later_on = after(again.delay_tolerance.total_seconds() + 1)
    (missed_again, _) = tell(
        again,
        lifecycle.Expired(),
        advance(again, lifecycle.Expired(), now=later_on),
        at=later_on,
    )

    assert isinstance(missed, facts.DeadlineMissed)
    assert isinstance(missed_again, facts.DeadlineMissed)
    assert (missed.first, missed_again.first) == (True, False)
    assert not started(leased_again(again)).first


def test_a_retry_that_expired_is_no_first_miss() -> None:
    """The job had its first start."""
    job = handed_off(attempts=0, crashes=0)
    failed = advance(
        advance(job, CLAIM, now=NOW), lifecycle.Failed("x", retry_after=timedelta(0)), now=NOW
    )
    late = replace(failed, deadline_at=after(-1))

    (missed, _) = told_of(late, lifecycle.Expired())

    assert isinstance(missed, facts.DeadlineMissed)
    assert not missed.first


def test_a_start_on_the_deadline_is_on_time() -> None:
    """Only a start after the deadline misses it."""
    on_the_deadline = handed_off(run_at=after(-30), deadline_at=NOW)

    assert names(told_of(on_the_deadline, lifecycle.Claimed("w", after(60)))) == ["JobStarted"]


def test_a_missed_deadline_tells_whether_the_job_started() -> None:
    """A late start and an expiry differ in `started`; both say how late."""
    late = {"run_at": after(-31), "deadline_at": OVER}

    at_start = told_of(handed_off(**late), lifecycle.Claimed("w", after(60)))[1]
    unstarted = told_of(pending(**late), lifecycle.Expired())[0]

    second = timedelta(seconds=1)
    assert at_start == facts.DeadlineMissed(
        **job_ids(claimed(), at=NOW), late_by=second, started=True, first=False
    )
    assert unstarted == facts.DeadlineMissed(
        **job_ids(pending(), at=NOW), late_by=second, started=False, first=False
    )


def test_a_success_tells_how_long_it_ran() -> None:
    """`ran_for` counts from the claim."""
    (fact,) = told_of(claimed(), lifecycle.Succeeded())

    assert isinstance(fact, facts.JobSucceeded)
    assert fact.ran_for == timedelta(seconds=3)


def test_a_failure_tells_the_error_and_the_next_try() -> None:
    """`retry_at` is the new `run_at`."""
    (fact,) = told_of(claimed(), lifecycle.Failed("boom"))

    assert isinstance(fact, facts.JobFailed)
    assert (fact.error, fact.retry_at) == ("boom", after(120))


@pytest.mark.parametrize(
    ("before", "event", "error"),
    [
        (claimed(attempts=3), lifecycle.Failed("boom"), "boom"),
        (claimed(), lifecycle.Rejected("never"), "never"),
        (
            pending(run_at=after(-31), deadline_at=OVER),
            lifecycle.Expired(),
            "deadline_missed",
        ),
    ],
    ids=["failed", "rejected", "expired"],
)
def test_a_death_tells_why(before: Job, event: JobEvent, error: str) -> None:
    """`JobDied` carries the error that ended the job."""
    fact = told_of(before, event)[-1]

    assert isinstance(fact, facts.JobDied)
    assert fact.error == error


def test_a_snooze_tells_until_when() -> None:
    """`until` is when the job is really due, after the bounds were applied."""
    (fact,) = told_of(claimed(), lifecycle.Snoozed(after(-60)))

    assert isinstance(fact, facts.JobSnoozed)
    assert fact.until == NOW


@pytest.mark.parametrize(
    ("before", "claimed_by", "crashes"),
    [
        (handed_off(lease_expires_at=OVER), None, 1),
        (claimed(lease_expires_at=OVER), "worker-1", 2),
    ],
    ids=["handed off", "claimed"],
)
def test_an_expired_lease_tells_who_held_it(
    before: Job, claimed_by: str | None, crashes: int
) -> None:
    """A lost hand-off has no worker; a crash names it and is counted."""
    fact = told_of(before, lifecycle.LeaseExpired())[0]

    assert isinstance(fact, facts.LeaseExpired)
    assert (fact.claimed, fact.worker_id) == (claimed_by is not None, claimed_by)
    assert fact.crashes == crashes


# --- What no fact tells ----------------------------------------------------------------------


KINDS_OF_FACTS = {
    kind
    for kind in [*vars(facts).values(), *vars(readings).values()]
    if isinstance(kind, type) and issubclass(kind, Fact)
}


PARTS = (UseCaseLoad, QueueLoad, TenantShare)
"""What facts of many are made of."""


@pytest.mark.parametrize("kind", sorted(KINDS_OF_FACTS, key=str), ids=lambda kind: kind.__name__)
def test_no_fact_has_room_for_a_payload(kind: type[Fact]) -> None:
    """No fact has a field for a payload, a result, headers, or a whole job."""
    types: Mapping[str, str] = {field.name: str(field.type) for field in fields(kind)}

    assert not {"payload", "result", "headers", "job"} & types.keys()
    # A log line has these names for itself.
    assert not {"event", "level", "logger", "timestamp", "message", "name"} & types.keys()
    assert set(types.values()) <= {
        "datetime",
        "datetime | None",
        "timedelta",
        "timedelta | None",
        "float",
        "Ending",
        "tuple[str, ...]",
        "UUID",
        "UUID | None",
        "str",
        "str | None",
        "int",
        "int | None",
        "bool",
        "Places",
        *(f"tuple[{part.__name__}, ...]" for part in PARTS),
    }


@pytest.mark.parametrize("part", PARTS)
def test_no_part_of_a_fact_has_room_for_a_payload(part: type[Any]) -> None:
    """Names and numbers."""
    assert {each.__name__ for each in get_type_hints(part).values()} <= {"str", "int", "float"}


@pytest.mark.parametrize(
    ("before", "event"), [row[1:3] for row in TOLD], ids=[row[0] for row in TOLD]
)
def test_a_payload_stays_out_of_what_is_told(before: Job, event: JobEvent) -> None:
    """Neither payload, result, headers nor dedupe key can be found in what a fact prints."""
    secret = "hunter2"
    carrying = replace(
        before,
        payload={"k": secret},
        headers={"k": secret},
        dedupe_key=secret,
        result={"k": secret},
    )

    assert secret not in repr(told_of(carrying, event))


RAN = timedelta(seconds=5)
ENDINGS: list[tuple[Job, JobEvent, facts.Ending | None, timedelta | None]] = [
    (claimed(started_at=after(-5)), lifecycle.Failed("boom"), facts.Ending.FAILED, RAN),
    (claimed(started_at=after(-5)), lifecycle.Rejected("no"), facts.Ending.REJECTED, RAN),
    (
        claimed(started_at=after(-5), lease_expires_at=OVER),
        lifecycle.LeaseExpired(0.5),
        facts.Ending.LEASE_EXPIRED,
        None,
    ),
    (
        pending(run_at=after(-31), deadline_at=OVER),
        lifecycle.Expired(),
        facts.Ending.DEADLINE_MISSED,
        None,
    ),
    (claimed(started_at=after(-5)), lifecycle.Snoozed(after(9)), None, RAN),
    (claimed(started_at=after(-5)), lifecycle.Released(), None, RAN),
    (flagged(started_at=after(-5)), lifecycle.Cancelled(), None, RAN),
    (flagged(started_at=after(-5)), lifecycle.Failed("boom"), None, RAN),
    (pending(), lifecycle.Cancelled(), None, None),
    # The snooze has told how long it ran.
    (flagged(started_at=after(-5)), lifecycle.Snoozed(after(9)), None, None),
]


@pytest.mark.parametrize(
    ("before", "event", "because", "ran_for"), ENDINGS, ids=[type(e[1]).__name__ for e in ENDINGS]
)
def test_an_end_tells_why_and_how_long_it_ran(
    before: Job, event: JobEvent, because: facts.Ending | None, ran_for: timedelta | None
) -> None:
    """Once for each attempt; what no worker has ended has not run for a known time."""
    told = told_of(before, event)[-1]

    assert getattr(told, "because", None) is because
    assert getattr(told, "ran_for", None) == ran_for
