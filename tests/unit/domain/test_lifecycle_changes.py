"""What each event changes, field by field; `changed` lists all that differs, the rest stays."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from async_jobs.domain.bounds import ERRORS_KEPT_MAX, RUN_AT_AHEAD_MAX
from async_jobs.domain.job import AttemptError, Job, JobStatus
from async_jobs.domain.lifecycle import (
    Cancelled,
    CancelRequested,
    Claimed,
    Expired,
    Failed,
    HandOffFailed,
    JobEvent,
    Leased,
    LeaseExpired,
    Rejected,
    Released,
    Renewed,
    Retried,
    Snoozed,
    Succeeded,
    advance,
)
from tests.unit.domain.builders import (
    EARLIER_FAILURE,
    NOW,
    after,
    cancelled,
    changed,
    claimed,
    flagged,
    handed_off,
    pending,
)

LEASE_ENDED = {
    "lease_expires_at": None,
    "started_at": None,
    "worker_id": None,
    "first_started_at": after(-3),
}
PUT_OFF = {"first_deadline_at": after(20)}
JOB_ENDED = {"lease_expires_at": None, "first_started_at": after(-3)}
"""Who ran it, and since when, is told for as long as the job is kept."""


def test_leased() -> None:
    """A lease gets the next number and an end; an old hand-off failure is forgotten."""
    before = pending()

    job = advance(before, Leased(after(60)), now=NOW)

    assert changed(before, job) == {
        "status": JobStatus.RUNNING,
        "lease_seq": 5,
        "lease_expires_at": after(60),
        "enqueue_failed": False,
        "updated_at": NOW,
    }


def test_hand_off_failed() -> None:
    """A refused hand-off charges no attempt and leaves the job as due as it was."""
    before = handed_off()

    job = advance(before, HandOffFailed("the queue is gone"), now=NOW)

    assert changed(before, job) == {
        "status": JobStatus.PENDING,
        "lease_expires_at": None,
        "enqueue_failed": True,
        "dispatches": 3,
        "last_error": "the queue is gone",
        "updated_at": NOW,
    }


def test_claimed() -> None:
    """A claim charges the attempt, names the worker and extends the lease."""
    before = handed_off()

    job = advance(before, Claimed("worker-2", after(60)), now=NOW)

    assert changed(before, job) == {
        "started_at": NOW,
        "worker_id": "worker-2",
        "attempts": 2,
        "dispatches": 0,
        "lease_expires_at": after(60),
        "updated_at": NOW,
    }


@pytest.mark.parametrize("before", [handed_off(), claimed(), flagged()], ids=lambda job: job.phase)
def test_renewed(before: Job) -> None:
    """A renewal moves the end of the lease and nothing else."""
    job = advance(before, Renewed(after(60)), now=NOW)

    assert changed(before, job) == {"lease_expires_at": after(60), "updated_at": NOW}


def test_succeeded() -> None:
    """A success keeps the result and the history; when it started first needs no second column."""
    before = claimed()

    job = advance(before, Succeeded({"sent": 2}), now=NOW)

    assert (before.first_start, job.first_start) == (None, before.started_at)
    assert changed(before, job) == {
        "lease_expires_at": None,
        "status": JobStatus.SUCCEEDED,
        "result": {"sent": 2},
        "finished_at": NOW,
        "updated_at": NOW,
    }


def test_failed_with_attempts_left() -> None:
    """A failed attempt is recorded, and the next one is due after the policy's backoff."""
    before = claimed()

    job = advance(before, Failed("boom", draw=0.5), now=NOW)

    backoff_seconds = 60 * 2 * (1 - 0.5 * 0.5)
    assert changed(before, job) == {
        **LEASE_ENDED,
        "status": JobStatus.PENDING,
        "run_at": after(backoff_seconds),
        "deadline_at": after(backoff_seconds + 30),
        **PUT_OFF,
        "last_error": "boom",
        "errors": (EARLIER_FAILURE, AttemptError(attempt=2, at=NOW, error="boom")),
        "updated_at": NOW,
    }


def test_failed_on_the_last_attempt() -> None:
    """The last failure makes the job dead; when it was due stays on record."""
    before = claimed(attempts=3)

    job = advance(before, Failed("boom"), now=NOW)

    assert changed(before, job) == {
        **JOB_ENDED,
        "status": JobStatus.DEAD,
        "finished_at": NOW,
        "last_error": "boom",
        "errors": (EARLIER_FAILURE, AttemptError(attempt=3, at=NOW, error="boom")),
        "updated_at": NOW,
    }


def test_failed_with_a_wish_for_the_next_try() -> None:
    """`retry_after` replaces the backoff."""
    job = advance(claimed(), Failed("busy", retry_after=timedelta(seconds=7)), now=NOW)

    assert job.run_at == after(7)
    assert job.deadline_at == after(37)


def test_a_wish_for_the_next_try_grants_no_attempt() -> None:
    """`retry_after` does not keep a job alive that has used all its attempts."""
    event = Failed("busy", retry_after=timedelta(seconds=7))

    assert advance(claimed(attempts=3), event, now=NOW).status is JobStatus.DEAD


@pytest.mark.parametrize(
    "retry_after", [timedelta(days=367), timedelta.max], ids=["367 days", "the longest"]
)
def test_no_retry_is_put_off_beyond_the_bound(retry_after: timedelta) -> None:
    """The next attempt is due in 366 days at the latest, whatever the handler asked for."""
    job = advance(claimed(), Failed("busy", retry_after=retry_after), now=NOW)

    assert job.run_at == NOW + RUN_AT_AHEAD_MAX


def test_a_retry_is_never_due_in_the_past() -> None:
    """A negative wait means now, because a past `run_at` would make the job late at once."""
    job = advance(claimed(), Failed("busy", retry_after=timedelta(seconds=-5)), now=NOW)

    assert job.run_at == NOW


def test_rejected() -> None:
    """A rejection makes the job dead although it has attempts left."""
    before = claimed()

    job = advance(before, Rejected("never"), now=NOW)

    assert changed(before, job) == {
        **JOB_ENDED,
        "status": JobStatus.DEAD,
        "finished_at": NOW,
        "last_error": "never",
        "errors": (EARLIER_FAILURE, AttemptError(attempt=2, at=NOW, error="never")),
        "updated_at": NOW,
    }


def test_snoozed() -> None:
    """A snoozed job is due when it asked to be, and the attempt is refunded."""
    before = claimed()

    job = advance(before, Snoozed(after(90)), now=NOW)

    assert changed(before, job) == {
        **LEASE_ENDED,
        "status": JobStatus.PENDING,
        "attempts": 1,
        "run_at": after(90),
        "deadline_at": after(120),
        **PUT_OFF,
        "updated_at": NOW,
    }


def test_a_snooze_is_bounded_on_both_sides() -> None:
    """A snooze into the past means now, and one beyond 366 days means in 366 days."""
    past = advance(claimed(), Snoozed(after(-60)), now=NOW)
    far = advance(claimed(), Snoozed(NOW + timedelta(days=900)), now=NOW)

    assert past.run_at == NOW
    assert far.run_at == NOW + RUN_AT_AHEAD_MAX


def test_released() -> None:
    """A released job is refunded and as due as it was: a shutdown forgives no lateness."""
    before = claimed()

    job = advance(before, Released(), now=NOW)

    assert changed(before, job) == {
        **LEASE_ENDED,
        "status": JobStatus.PENDING,
        "attempts": 1,
        "updated_at": NOW,
    }


def test_cancel_requested() -> None:
    """A request to cancel only raises the flag; the worker keeps its lease."""
    before = claimed()

    job = advance(before, CancelRequested(), now=NOW)

    assert changed(before, job) == {"cancel_requested": True, "updated_at": NOW}


def test_a_repeated_cancel_request_is_harmless() -> None:
    """Asking again changes nothing but the time of the last change."""
    before = flagged()

    assert changed(before, advance(before, CancelRequested(), now=NOW)) == {"updated_at": NOW}


@pytest.mark.parametrize(
    ("before", "lease"),
    [
        (pending(), {}),
        (handed_off(), {"lease_expires_at": None}),
        (flagged(), JOB_ENDED),
    ],
    ids=["pending", "handed off", "flagged"],
)
def test_cancelled(before: Job, lease: Mapping[str, None]) -> None:
    """A cancellation ends the job and the lease it may have; nothing counts as a failure."""
    job = advance(before, Cancelled(), now=NOW)

    assert changed(before, job) == {
        **lease,
        "status": JobStatus.CANCELLED,
        "finished_at": NOW,
        "updated_at": NOW,
    }


def test_lease_expired_unclaimed() -> None:
    """A lost hand-off charges no attempt, and is no refusal by the transport."""
    before = handed_off(lease_expires_at=after(-1))

    job = advance(before, LeaseExpired(), now=NOW)

    assert changed(before, job) == {
        "status": JobStatus.PENDING,
        "lease_expires_at": None,
        "dispatches": 3,
        "updated_at": NOW,
    }


@pytest.mark.parametrize("attempts", [2, 3], ids=["attempts left", "last attempt"])
def test_lease_expired_claimed(attempts: int) -> None:
    """A crash is charged and the attempt refunded; the backoff goes by the crashes."""
    before = claimed(attempts=attempts, lease_expires_at=after(-1))

    job = advance(before, LeaseExpired(draw=0.5), now=NOW)

    backoff_seconds = 60 * 2 * (1 - 0.5 * 0.5)
    crash = AttemptError(attempt=attempts, at=NOW, error="lease expired")
    assert changed(before, job) == {
        **LEASE_ENDED,
        "status": JobStatus.PENDING,
        "attempts": attempts - 1,
        "crashes": 2,
        "run_at": after(backoff_seconds),
        "deadline_at": after(backoff_seconds + 30),
        **PUT_OFF,
        "last_error": "lease expired",
        "errors": (EARLIER_FAILURE, crash),
        "updated_at": NOW,
    }


def test_lease_expired_for_the_last_time() -> None:
    """The fifth crash makes the job dead, though it has attempts left, and says why."""
    before = claimed(crashes=4, lease_expires_at=after(-1))

    job = advance(before, LeaseExpired(), now=NOW)

    error = "lease expired: its worker died 5 times"
    assert changed(before, job) == {
        **JOB_ENDED,
        "status": JobStatus.DEAD,
        "attempts": 1,
        "crashes": 5,
        "finished_at": NOW,
        "last_error": error,
        "errors": (EARLIER_FAILURE, AttemptError(attempt=2, at=NOW, error=error)),
        "updated_at": NOW,
    }


def test_expired() -> None:
    """A job that missed its deadline is dead without an attempt, and says so."""
    before = pending()

    job = advance(before, Expired(), now=after(21))

    assert changed(before, job) == {
        "status": JobStatus.DEAD,
        "finished_at": after(21),
        "last_error": "deadline_missed",
        "errors": (EARLIER_FAILURE, AttemptError(attempt=1, at=after(21), error="deadline_missed")),
        "updated_at": after(21),
    }


def test_retried() -> None:
    """Another life: due now, all counted anew, the history kept, old readers fenced off."""
    before = cancelled()

    job = advance(before, Retried(), now=NOW)

    assert changed(before, job) == {
        "status": JobStatus.PENDING,
        "attempts": 0,
        "crashes": 0,
        "dispatches": 0,
        "cancel_requested": False,
        "finished_at": None,
        "run_at": NOW,
        "deadline_at": after(30),
        **PUT_OFF,
        "lease_seq": 6,
        "updated_at": NOW,
    }


# --- Errors are bounded ----------------------------------------------------------------------

FAILURES: list[Callable[[str], JobEvent]] = [Failed, Rejected]


@pytest.mark.parametrize("event", FAILURES)
def test_only_the_newest_errors_are_kept(event: Callable[[str], JobEvent]) -> None:
    """A full history drops its oldest entry for the new one."""
    full = tuple(replace(EARLIER_FAILURE, attempt=n) for n in range(1, ERRORS_KEPT_MAX + 1))

    errors = advance(claimed(attempts=21, errors=full), event("boom"), now=NOW).errors

    assert [error.attempt for error in errors] == list(range(2, 22))


@pytest.mark.parametrize("event", [*FAILURES, HandOffFailed])
def test_an_error_text_is_made_storable(event: Callable[[str], JobEvent]) -> None:
    """NUL and lone surrogates are replaced and long texts cut, so that no outcome is lost."""
    job = handed_off() if event is HandOffFailed else claimed()

    text = advance(job, event("\0\ud800" + "x" * 5000), now=NOW).last_error

    assert text is not None
    assert len(text) == 2000
    assert "\0" not in text
    assert text.encode()
