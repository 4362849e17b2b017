"""What a handler knows of its job."""

import threading

import pytest

from async_jobs.application.handling.outcomes import StopRequested
from async_jobs.application.handling.registry import JobContext
from tests.unit.domain.builders import JOB_ID, NOW, after, claimed


def test_the_context_tells_of_the_claimed_job() -> None:
    """A handler sees whose job it is, which attempt, and by when it should have started."""
    cancellation = threading.Event()

    context = JobContext.of(claimed(), cancellation)

    assert context == JobContext(
        job_id=JOB_ID,
        tenant_id="acme",
        use_case="notifications",
        type="send_email",
        attempt=2,
        max_attempts=3,
        lease_seq=5,
        run_at=after(-10),
        deadline_at=after(20),
        headers={"traceparent": "00-1-2-3"},
        cancellation=cancellation,
    )


def test_the_idempotency_key_is_the_jobs() -> None:
    """A far side that drops repetitions of it does the work of a job once, however often it runs;
    executions are told apart by another key."""
    jobs = [claimed(), claimed(), claimed(lease_seq=6), claimed(attempts=3)]

    contexts = [JobContext.of(job, threading.Event()) for job in jobs]

    assert {each.idempotency_key for each in contexts} == {str(JOB_ID)}
    keys = [each.execution_key for each in contexts]
    assert keys[0] == keys[1] == f"{JOB_ID}:2:5"
    assert len(set(keys)) == 3


def test_a_handler_goes_on_while_nobody_wants_it_to_stop() -> None:
    """Asking costs nothing and changes nothing."""
    context = JobContext.of(claimed(), threading.Event())

    context.check_cancelled()

    assert not context.cancelled


def test_a_handler_learns_that_it_should_stop() -> None:
    """`cancelled` turns true, and `check_cancelled` raises the way out."""
    cancellation = threading.Event()
    context = JobContext.of(claimed(), cancellation)

    cancellation.set()

    assert context.cancelled
    with pytest.raises(StopRequested):
        context.check_cancelled()


def test_a_context_can_be_made_by_hand() -> None:
    """A test of a handler needs no job and no cancellation."""
    context = JobContext(
        job_id=JOB_ID,
        tenant_id="acme",
        use_case="notifications",
        type="greet",
        attempt=1,
        max_attempts=5,
        lease_seq=1,
        run_at=NOW,
        deadline_at=NOW,
    )

    assert not context.cancelled
    assert context.headers == {}
