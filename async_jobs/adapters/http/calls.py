"""The calls of `Jobs`, and `outlook`, as HTTP requests: what is sent, how an answer is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar
from uuid import UUID

from async_jobs.adapters.http.wire import body_of, enqueued_of, job_of, outlook_of, page_of
from async_jobs.domain.bounds import (
    JOBS_PER_CALL_MAX,
    JOBS_PER_PAGE_MAX,
    check_name,
    check_status,
    check_uuid,
)
from async_jobs.domain.enqueue import check_request
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.job import Enqueued, EnqueueJobRequest, Job, JobPage, JobStatus
from async_jobs.domain.outlook import Outlook

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One call, the same in every try.

    Attributes:
        method, path, params, body: the request; `path` is relative to the base URL, `body` is
            encoded JSON.
        decode: reads the JSON of a good answer; raises what `wire` raises on any other.
        repeatable: whether carrying it out twice does what carrying it out once does.
        writes: whether it changes anything.
    """

    method: str
    path: str
    decode: Callable[[Any], T]
    params: Mapping[str, str | list[str]] = field(default_factory=dict)
    body: bytes | None = None
    repeatable: bool = True
    writes: bool = True


def enqueue(request: EnqueueJobRequest, new_id: Callable[[], UUID]) -> Call[Enqueued]:
    """Return the call that enqueues one job; `new_id` makes its id when it brings none.

    Raises:
        InvalidJobError: a value breaks its bound.
    """
    check_request(request)
    sent = _identified(request, new_id)
    return Call(
        method="POST",
        path="jobs/enqueue",
        body=_encoded(body_of(sent)),
        decode=lambda answer: _enqueued(request, sent, answer),
    )


def enqueue_many(
    requests: Sequence[EnqueueJobRequest], new_id: Callable[[], UUID]
) -> Call[list[Enqueued]]:
    """Return the call that enqueues all of at most 1,000 jobs or none.

    Raises:
        InvalidJobError: there are more, or a value breaks its bound (`jobs[7].priority`).
    """
    if len(requests) > JOBS_PER_CALL_MAX:
        raise InvalidJobError("jobs", f"must be at most {JOBS_PER_CALL_MAX}; got {len(requests)}")
    # A list of its own: the caller may change theirs while the call waits for another try.
    asked = list(requests)
    for index, request in enumerate(asked):
        try:
            check_request(request)
        except InvalidJobError as error:
            raise InvalidJobError(f"jobs[{index}].{error.field}", error.problem) from None
    sent = [_identified(request, new_id) for request in asked]

    def decode(answer: Any) -> list[Enqueued]:
        return [_enqueued(*each) for each in zip(asked, sent, answer["jobs"], strict=True)]

    body = _encoded({"jobs": [body_of(request) for request in sent]})
    return Call(method="POST", path="jobs/enqueue-batch", body=body, decode=decode)


def outlook(request: EnqueueJobRequest) -> Call[Outlook]:
    """Return the call that asks whether a job would start in time.

    Raises:
        InvalidJobError: a value breaks its bound.
    """
    check_request(request)
    body = _encoded(body_of(request))
    return Call(method="POST", path="jobs/outlook", body=body, decode=outlook_of, writes=False)


def get_job(job_id: UUID, tenant_id: str | None) -> Call[Job]:
    """Return the call that reads one job."""
    params = named(tenant_id=tenant_id)
    decode = _this(job_id)
    return Call(method="GET", path=path_of(job_id), params=params, decode=decode, writes=False)


def list_jobs(
    *,
    tenant_id: str | None,
    use_case: str | None,
    status: JobStatus | str | None,
    limit: int,
    cursor: UUID | None,
) -> Call[JobPage]:
    """Return the call that reads one page of jobs.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """
    if type(limit) is not int or not 1 <= limit <= JOBS_PER_PAGE_MAX:
        raise InvalidJobError("limit", f"must be an integer from 1 to {JOBS_PER_PAGE_MAX}")
    params: dict[str, str | list[str]] = {"limit": str(limit)}
    params |= named(tenant_id=tenant_id, use_case=use_case)
    if status is not None:
        params["status"] = check_status("status", status).value
    if cursor is not None:
        params["cursor"] = str(check_uuid("cursor", cursor))
    return Call(method="GET", path="jobs/", params=params, decode=page_of, writes=False)


def cancel_job(job_id: UUID, tenant_id: str | None) -> Call[Job]:
    """Return the call that cancels a job; by JB-9 a repetition says what the first try said."""
    path, params = f"{path_of(job_id)}/cancel", named(tenant_id=tenant_id)
    return Call(method="POST", path=path, params=params, decode=_this(job_id))


def retry_job(job_id: UUID, tenant_id: str | None) -> Call[Job]:
    """Return the call that gives a job another life.

    It is not repeatable: a first try that took effect unheard makes the second one fail, or,
    when the job has ended again by then, gives it a life too many.
    """
    path, params = f"{path_of(job_id)}/retry", named(tenant_id=tenant_id)
    decode = _this(job_id)
    return Call(method="POST", path=path, params=params, decode=decode, repeatable=False)


def _identified(request: EnqueueJobRequest, new_id: Callable[[], UUID]) -> EnqueueJobRequest:
    return request if request.id is not None else replace(request, id=new_id())


def _enqueued(asked: EnqueueJobRequest, sent: EnqueueJobRequest, answer: Any) -> Enqueued:
    enqueued = enqueued_of(answer)
    if enqueued.job_id != sent.id:
        if not enqueued.duplicate:
            raise ValueError("the job has another id than it was given")
        return enqueued
    # An id made for this call was known to nobody else: what was there before is an earlier
    # try of this very call, ours or that of a gateway in between.
    return Enqueued(enqueued.job_id, enqueued.duplicate and asked.id is not None)


def _this(job_id: UUID) -> Callable[[Any], Job]:
    """Return what reads the record of this job and of no other."""

    def decode(record: Any) -> Job:
        job = job_of(record)
        if job.id != job_id:
            raise ValueError("the job is another one than was asked for")
        return job

    return decode


def _encoded(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def path_of(job_id: UUID) -> str:
    """Return the path of a job."""
    return f"jobs/{check_uuid('job_id', job_id)}"  # any other text could lead to another path


def named(**names: str | None) -> dict[str, str]:
    """Return the names that are given; an empty one could be taken for none, so it is refused."""
    given = {name: value for name, value in names.items() if value is not None}
    return {name: check_name(name, value) for name, value in given.items()}
