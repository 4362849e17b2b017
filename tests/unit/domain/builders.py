"""Jobs in every state, written out by hand, so that no test takes its input from `advance`."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from async_jobs.domain.backoff import BackoffPolicy, BackoffType
from async_jobs.domain.job import AttemptError, Job, JobStatus

NOW = datetime(2030, 5, 17, 12, 0, tzinfo=UTC)
JOB_ID = UUID("018f0000-0000-7000-8000-000000000001")
EARLIER_FAILURE = AttemptError(attempt=1, at=NOW - timedelta(hours=1), error="an old error")


def after(seconds: float) -> datetime:
    """Return the instant so many seconds after NOW."""
    return NOW + timedelta(seconds=seconds)


def pending(**changes: Any) -> Job:
    """Return a job that is due since 10 s, on time for another 20 s, and has failed once.

    Every field holds something other than its default, so that a lost one shows.
    """
    job = Job(
        id=JOB_ID,
        tenant_id="acme",
        use_case="notifications",
        type="send_email",
        queue="lane",
        status=JobStatus.PENDING,
        payload={"to": "a@b.example"},
        run_at=after(-10),
        delay_tolerance=timedelta(seconds=30),
        deadline_at=after(20),
        priority=3,
        attempts=1,
        max_attempts=3,
        backoff_policy=BackoffPolicy(
            type=BackoffType.EXPONENTIAL,
            base_delay_seconds=60,
            max_delay_seconds=3600,
            jitter=0.5,
        ),
        lease_expires_at=None,
        last_error="an old error",
        dedupe_key="welcome-1",
        enqueue_failed=True,
        created_at=after(-7200),
        updated_at=after(-3600),
        lease_seq=4,
        dispatches=2,
        crashes=1,
        errors=(EARLIER_FAILURE,),
        headers={"traceparent": "00-1-2-3"},
    )
    return replace(job, **changes)


def handed_off(**changes: Any) -> Job:
    """Return a job leased for another 5 s that no worker has claimed."""
    lease = {"status": JobStatus.RUNNING, "lease_seq": 5, "lease_expires_at": after(5)}
    return pending(**{**lease, "enqueue_failed": False, **changes})


def claimed(**changes: Any) -> Job:
    """Return a job that a worker executes, its second attempt of three."""
    claim = {"started_at": after(-3), "worker_id": "worker-1", "attempts": 2, "dispatches": 0}
    return handed_off(**{**claim, **changes})


def flagged(**changes: Any) -> Job:
    """Return a job that a worker executes and that somebody asked to cancel."""
    return claimed(**{"cancel_requested": True, **changes})


def succeeded(**changes: Any) -> Job:
    """Return a job that ended well."""
    return _finished(JobStatus.SUCCEEDED, **{"result": {"sent": 1}, **changes})


def dead(**changes: Any) -> Job:
    """Return a job that used up its attempts."""
    return _finished(JobStatus.DEAD, **{"attempts": 3, **changes})


def cancelled(**changes: Any) -> Job:
    """Return a job that was cancelled while a worker executed it."""
    return _finished(JobStatus.CANCELLED, **{"cancel_requested": True, **changes})


def _finished(status: JobStatus, **changes: Any) -> Job:
    end = {"status": status, "attempts": 2, "finished_at": after(-1), "enqueue_failed": False}
    return pending(**{**end, "lease_seq": 5, **changes})


def changed(before: Job, after: Job) -> dict[str, Any]:
    """Return the fields that differ, with their new values."""
    names = [field.name for field in fields(Job)]
    return {
        name: getattr(after, name)
        for name in names
        if getattr(before, name) != getattr(after, name)
    }
