"""What one side of the HTTP interface writes, the other side reads back."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from async_jobs.adapters.http.wire import (
    Problem,
    answer_of,
    body_of,
    enqueued_of,
    error_of,
    job_of,
    page_of,
    page_record_of,
    problem_of,
    record_of,
)
from async_jobs.domain.backoff import BackoffPolicy, BackoffType
from async_jobs.domain.errors import (
    AsyncJobsError,
    ConfigurationError,
    IllegalTransition,
    InvalidJobError,
    JobNotFoundError,
    QuotaExceededError,
    StoreRefused,
    Unavailable,
)
from async_jobs.domain.job import AttemptError, Enqueued, JobPage, JobStatus, UnreadableJob
from async_jobs.testing.builders import a_job, a_request, an_id, later
from async_jobs.testing.contracts.specimens import JOBS, PAYLOADS


def sent(value: Any) -> Any:
    """Return what arrives at the other side."""
    return json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())


@pytest.mark.parametrize("fields", JOBS.values(), ids=JOBS.keys())
def test_a_job_arrives_as_it_was(fields: dict[str, Any]) -> None:
    """Every field at its bounds."""
    job = a_job(**fields)

    assert job_of(sent(record_of(job))) == job


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_payloads_arrive_as_they_were(payload: dict[str, Any]) -> None:
    """Also the sign of zero, and keys in their order."""
    arrived = job_of(sent(record_of(a_job(payload=payload)))).payload

    assert repr(arrived) == repr(payload)


def test_a_job_with_a_history_arrives_as_it_was() -> None:
    """Leases, errors and results included."""
    job = replace(
        a_job(),
        status=JobStatus.RUNNING,
        lease_expires_at=later(60),
        lease_seq=7,
        started_at=later(1.000_001),
        worker_id="worker-1",
        cancel_requested=True,
        dispatches=2,
        finished_at=later(3),
        last_error="it failed",
        enqueue_failed=True,
        errors=(AttemptError(attempt=1, at=later(2), error="ü"),),
        result=[None, {"a": 1.5}],
    )

    assert job_of(sent(record_of(job))) == job


def test_fields_of_a_newer_version_are_ignored() -> None:
    """A client that is older than its server goes on working."""
    job = a_job()

    assert job_of(record_of(job) | {"colour": "blue"}) == job


def test_a_request_holds_what_was_asked_for_and_nothing_else() -> None:
    """What it leaves open stays open, for the server's use case to fill."""
    job_id = an_id()
    whole = a_request(
        id=job_id,
        queue="slow",
        run_at=later(5),
        delay_tolerance=timedelta(seconds=1.5),
        max_attempts=3,
        backoff_policy=BackoffPolicy(type=BackoffType.LINEAR),
        dedupe_key="daily",
        priority=-1,
        headers={"trace": "1"},
    )
    given = {"tenant_id", "use_case", "type", "payload"}

    assert body_of(a_request()).keys() == given
    assert sent(body_of(whole)).keys() - given == {
        "id",
        "queue",
        "run_at",
        "delay_tolerance_seconds",
        "max_attempts",
        "backoff_policy",
        "dedupe_key",
        "priority",
        "headers",
    }
    assert sent(body_of(whole))["delay_tolerance_seconds"] == 1.5
    assert sent(body_of(whole))["backoff_policy"]["type"] == "linear"


@pytest.mark.parametrize("duplicate", [True, False])
def test_an_answer_arrives_as_it_was(duplicate: bool) -> None:
    """Only a duplicate says so."""
    enqueued = Enqueued(an_id(), duplicate)

    assert enqueued_of(sent(answer_of(enqueued))) == enqueued
    assert ("duplicate" in answer_of(enqueued)) is duplicate


@pytest.mark.parametrize("cursor", [None, UUID(int=7)])
def test_a_page_arrives_as_it_was(cursor: UUID | None) -> None:
    """With and without a next one."""
    page = JobPage((a_job(), a_job()), cursor)

    assert page_of(sent(page_record_of(page))) == page
    assert "unreadable" not in page_record_of(page)


def test_what_a_page_tells_of_unreadable_rows_arrives() -> None:
    """With each of its fields."""
    row = UnreadableJob(an_id(), "acme", "notifications", "paused", "status must be another")
    page = JobPage((a_job(),), None, (row,))

    assert page_of(sent(page_record_of(page))) == page


@pytest.mark.parametrize(
    "error",
    [
        InvalidJobError("payload.a[1]", "must be finite"),
        QuotaExceededError(tenant_id="acme", limit=5, used=4, asked=2),
        JobNotFoundError(UUID(int=7)),
        JobNotFoundError(UUID(int=7), unreadable="payload must be a JSON object"),
        IllegalTransition(state="dead", event="Cancelled", why="it is over"),
        StoreRefused("the database forbids it", "CheckViolationError by jobs_one_region"),
        Unavailable("the database did not answer"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_it_was(error: AsyncJobsError) -> None:
    """The same type, the same words, the same attributes."""
    told = problem_of(error)
    assert told is not None
    status, type, members = told

    arrived = error_of(sent({"type": type, "status": status, "detail": str(error), **members}))

    assert repr(arrived) == repr(error)
    assert arrived is not None
    assert vars(arrived) == vars(error)


def test_what_is_nobodys_business_has_no_problem() -> None:
    """A mistake of configuration is the server's own."""
    assert problem_of(ConfigurationError("no schema")) is None
    assert error_of({"type": Problem.INTERNAL_ERROR, "detail": "it broke"}) is None
    assert error_of({"type": "about:blank"}) is None
