"""From a request to a new job: what is filled in, and what is refused by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from async_jobs.domain.backoff import BackoffPolicy, BackoffType
from async_jobs.domain.enqueue import new_job
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.job import EnqueueJobRequest, Job, JobStatus
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from tests.unit.domain.builders import JOB_ID, NOW, after

CONSTANT = BackoffPolicy(type=BackoffType.CONSTANT, base_delay_seconds=5)


@dataclass(frozen=True)
class Settings:
    """The least that satisfies `Limits`."""

    use_case_configs: Mapping[str, UseCaseConfig]
    per_tenant_quotas: Mapping[str, TenantQuota] = field(default_factory=dict)


LIMITS = Settings(
    {
        "notifications": UseCaseConfig(
            default_delay_tolerance_seconds=45,
            default_max_attempts=7,
            default_backoff_policy=CONSTANT,
        ),
        "labeling": UseCaseConfig(queue="slow"),
    }
)


def request(**changes: Any) -> EnqueueJobRequest:
    """Return the smallest request there is, with changes."""
    smallest = EnqueueJobRequest(
        tenant_id="acme", use_case="notifications", type="send_email", payload={"to": "a@b.example"}
    )
    return replace(smallest, **changes)


def enqueue(**changes: Any) -> Job:
    """Return the job that such a request becomes."""
    return new_job(request(**changes), LIMITS, now=NOW, id=JOB_ID)


def test_the_smallest_request_takes_everything_from_its_use_case() -> None:
    """Whatever the request leaves open comes from the use case; nothing else is set."""
    assert enqueue() == Job(
        id=JOB_ID,
        tenant_id="acme",
        use_case="notifications",
        type="send_email",
        queue="notifications",
        status=JobStatus.PENDING,
        payload={"to": "a@b.example"},
        run_at=NOW,
        delay_tolerance=timedelta(seconds=45),
        deadline_at=after(45),
        priority=0,
        attempts=0,
        max_attempts=7,
        backoff_policy=CONSTANT,
        lease_expires_at=None,
        last_error=None,
        dedupe_key=None,
        enqueue_failed=False,
        created_at=NOW,
        updated_at=NOW,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", UUID(int=99)),
        ("queue", "slow"),
        ("run_at", after(60)),
        ("delay_tolerance", timedelta(seconds=5)),
        ("max_attempts", 1),
        ("backoff_policy", BackoffPolicy()),
        ("dedupe_key", "welcome-1"),
        ("priority", -5),
        ("headers", {"traceparent": "00-1-2-3"}),
    ],
)
def test_what_the_request_says_wins_over_the_use_case(name: str, value: object) -> None:
    """Every optional field is taken as given."""
    assert getattr(enqueue(**{name: value}), name) == value


def test_a_tolerance_of_zero_is_a_tolerance() -> None:
    """Zero is not taken for "not given"."""
    job = enqueue(delay_tolerance=timedelta(0))

    assert job.deadline_at == job.run_at == NOW


def test_the_deadline_follows_the_times_of_the_request() -> None:
    """`deadline_at` is `run_at` plus the tolerance from the first moment on."""
    job = enqueue(run_at=after(60), delay_tolerance=timedelta(seconds=5))

    assert job.deadline_at == after(65)


# --- run_at ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "run_at",
    [
        after(-1),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    ],
    ids=["a second ago", "1970", "before the calendar begins"],
)
def test_a_start_in_the_past_is_due_now(run_at: datetime) -> None:
    """A past instant would make the job late before it was enqueued."""
    job = enqueue(run_at=run_at)

    assert job.run_at == NOW
    assert job.deadline_at == after(45)


def test_another_time_zone_is_kept_as_utc() -> None:
    """The instant stays, the zone becomes UTC."""
    job = enqueue(run_at=after(60).astimezone(timezone(timedelta(hours=2))))

    assert job.run_at == after(60)
    assert job.run_at.tzinfo is UTC


def test_a_start_in_366_days_is_allowed() -> None:
    """The bound itself is inside it."""
    assert enqueue(run_at=NOW + timedelta(days=366)).run_at == NOW + timedelta(days=366)


@pytest.mark.parametrize(
    "run_at",
    [
        NOW + timedelta(days=366, microseconds=1),
        datetime.max.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=12))),
    ],
    ids=["a microsecond too far", "the last instant", "after the calendar ends"],
)
def test_a_start_further_ahead_is_refused(run_at: datetime) -> None:
    """The error names `run_at` and says how far ahead is allowed."""
    with pytest.raises(InvalidJobError, match=r"^run_at: must be no further than 366 days ahead"):
        enqueue(run_at=run_at)


# --- Names -----------------------------------------------------------------------------------


def test_an_unknown_use_case_is_refused_with_the_known_ones() -> None:
    """The error names the field and lists what is configured."""
    with pytest.raises(InvalidJobError, match="known: labeling, notifications") as refusal:
        enqueue(use_case="newsletters")

    assert refusal.value.field == "use_case"


def test_an_unknown_queue_is_refused_with_the_known_ones() -> None:
    """Known are the queues of all use cases, whether named or their own."""
    with pytest.raises(InvalidJobError, match="known: notifications, slow") as refusal:
        enqueue(queue="labeling")

    assert refusal.value.field == "queue"


def test_without_any_use_case_nothing_is_known() -> None:
    """An empty configuration is said to be one."""
    with pytest.raises(
        InvalidJobError,
        match=r"known: none \(set ASYNC_JOBS_USE_CASES, or in code use_case_configs\)$",
    ):
        new_job(request(), Settings({}), now=NOW, id=JOB_ID)


def test_a_use_case_that_names_a_queue_uses_it() -> None:
    """The lane of a job that names none is its use case's."""
    assert enqueue(use_case="labeling").queue == "slow"


NAMES = ["tenant_id", "use_case", "type", "queue", "dedupe_key"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value",
    ["", "x" * 201, "a\0b", "a\nb", "a\x7fb", "a\x85b", "a\ud800b", 7, b"acme", ["acme"]],
    ids=["empty", "long", "nul", "newline", "del", "c1", "surrogate", "int", "bytes", "list"],
)
def test_a_bad_name_is_refused_by_field(name: str, value: object) -> None:
    """Names have 1 to 200 characters, none of them a control character or lone surrogate."""
    with pytest.raises(InvalidJobError) as refusal:
        enqueue(**{name: value})

    assert refusal.value.field == name


@pytest.mark.parametrize("name", ["tenant_id", "type", "dedupe_key"])
@pytest.mark.parametrize("value", ["x", "x" * 200, "Grüße 👋", "a/b:c d"])
def test_a_good_name_is_kept(name: str, value: str) -> None:
    """Anything printable is a name, in any script."""
    assert getattr(enqueue(**{name: value}), name) == value


@pytest.mark.parametrize("name", ["tenant_id", "use_case", "type"])
def test_a_name_that_is_required_cannot_be_none(name: str) -> None:
    """Only `queue` and `dedupe_key` may be left out."""
    with pytest.raises(InvalidJobError, match=f"^{name}: must be a string, not NoneType"):
        enqueue(**{name: None})


# --- Everything else -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", str(JOB_ID)),
        ("run_at", NOW.replace(tzinfo=None)),
        ("run_at", "2030-05-17T12:00:00Z"),
        ("delay_tolerance", timedelta(microseconds=-1)),
        ("delay_tolerance", timedelta(days=30, microseconds=1)),
        ("delay_tolerance", 60),
        ("max_attempts", 0),
        ("max_attempts", 101),
        ("max_attempts", True),
        ("max_attempts", 2.0),
        ("priority", 2**15),
        ("priority", -(2**15) - 1),
        ("priority", None),
        ("backoff_policy", {"type": "linear"}),
        ("payload", None),
        ("payload", ["to"]),
        ("payload", "{}"),
        ("headers", None),
        ("headers", {f"header-{n}": "" for n in range(17)}),
    ],
)
def test_a_bad_value_is_refused_by_field(name: str, value: object) -> None:
    """The error names the field that breaks its bound."""
    with pytest.raises(InvalidJobError) as refusal:
        enqueue(**{name: value})

    assert refusal.value.field == name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("delay_tolerance", timedelta(days=30)),
        ("max_attempts", 1),
        ("max_attempts", 100),
        ("priority", 2**15 - 1),
        ("priority", -(2**15)),
        ("payload", {}),
        ("headers", {f"header-{n}": "x" * 1024 for n in range(16)}),
    ],
    ids=["30 days", "one", "100", "highest", "lowest", "empty payload", "16 headers"],
)
def test_both_ends_of_a_bound_are_inside_it(name: str, value: object) -> None:
    """What just fits is taken as given."""
    assert getattr(enqueue(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ({"trace": "x" * 1025}, "headers.trace"),
        ({"trace": 1}, "headers.trace"),
        ({"trace": "a\0b"}, "headers.trace"),
        ({"trace": "\ud800"}, "headers.trace"),
        ({"": "x"}, "headers (a name)"),
        ({7: "x"}, "headers (a name)"),
    ],
    ids=["long", "int", "nul", "surrogate", "empty name", "int name"],
)
def test_a_bad_header_is_refused_by_path(headers: Mapping[Any, Any], path: str) -> None:
    """Headers are short texts under short names."""
    with pytest.raises(InvalidJobError) as refusal:
        enqueue(headers=headers)

    assert refusal.value.field == path


def test_the_job_keeps_its_own_headers() -> None:
    """What the caller does to its mapping afterwards does not reach the job."""
    headers = {"traceparent": "00-1-2-3"}
    job = enqueue(headers=headers)

    headers["traceparent"] = "changed"

    assert job.headers == {"traceparent": "00-1-2-3"}
