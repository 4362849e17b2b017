"""What operators are answered, over the wire: written and read in one place."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from pydantic_core import to_jsonable_python

from async_jobs.adapters.http.calls import Call, named, path_of
from async_jobs.domain.audit import Operation
from async_jobs.domain.bounds import check_instant, check_names
from async_jobs.domain.controls import Control
from async_jobs.domain.error_groups import ErrorGroups
from async_jobs.domain.explain import Explanation, Status, Waiting
from async_jobs.domain.tallies import Attainment, check_dimensions
from async_jobs.domain.timeline import JobHistory
from async_jobs.ports.steering import ControlPreview

Answer: TypeAlias = (
    Explanation
    | JobHistory
    | Status
    | Waiting
    | Attainment
    | Control
    | ControlPreview
    | Operation
    | ErrorGroups
)
A = TypeVar(
    "A",
    Explanation,
    JobHistory,
    Status,
    Waiting,
    Attainment,
    Control,
    ControlPreview,
    Operation,
    ErrorGroups,
)
One = TypeVar("One", Explanation, JobHistory)


def answer_record_of(answer: Answer) -> dict[str, Any]:
    """Return an answer as JSON values: instants in ISO 8601 UTC, durations in seconds."""
    return {each.name: to_jsonable_python(getattr(answer, each.name)) for each in fields(answer)}


_adapters: dict[str, Any] = {}


def _adapter(kind: type[A]) -> Any:
    adapter = _adapters.get(kind.__name__)
    if adapter is None:
        # Here, because only those who ask need it, and it takes a while.
        from pydantic import TypeAdapter

        adapter = _adapters[kind.__name__] = TypeAdapter(kind)
    return adapter


def answer_of(kind: type[A], record: Any) -> A:
    """Return what `answer_record_of` wrote; what this version does not know is left out.

    Raises:
        ValueError: it is no such record.
    """
    answer: A = _adapter(kind).validate_python(record)
    return answer


# --- the calls ----------------------------------------------------------------------------------


def explain(job_id: UUID, tenant_id: str | None) -> Call[Explanation]:
    """Return the call that explains one job.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """

    return _about_one(Explanation, "explain", job_id, tenant_id)


def history(job_id: UUID, tenant_id: str | None) -> Call[JobHistory]:
    """Return the call that tells the life of one job.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """
    return _about_one(JobHistory, "history", job_id, tenant_id)


def _about_one(kind: type[One], name: str, job_id: UUID, tenant_id: str | None) -> Call[One]:
    def decode(record: Any) -> One:
        told = answer_of(kind, record)
        if told.job_id != job_id:
            raise ValueError("the job is another one than was asked for")
        return told

    path, params = f"{path_of(job_id)}/{name}", named(tenant_id=tenant_id)
    return Call(method="GET", path=path, params=params, decode=decode, writes=False)


def explain_waiting(use_case: str | None, tenant_id: str | None) -> Call[Waiting]:
    """Return the call that explains what waits.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """
    return Call(
        method="GET",
        path="operations/explain",
        params=named(use_case=use_case, tenant_id=tenant_id),
        decode=lambda record: answer_of(Waiting, record),
        writes=False,
    )


def status(tenants: Collection[str] | None) -> Call[Status]:
    """Return the call that tells who is there.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """
    wanted = None if tenants is None else check_names("tenants", tenants)
    return Call(
        method="GET",
        path="operations/status",
        params={"tenant_id": wanted} if wanted else {},
        decode=lambda record: answer_of(Status, record),
        writes=False,
    )


def attainment(
    *,
    since: datetime | None,
    until: datetime | None,
    step: timedelta | None,
    use_case: str | None,
    tenants: Collection[str] | None,
    type: str | None,
    by: Collection[str],
) -> Call[Attainment]:
    """Return the call that reports what was kept of what was promised.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """
    params: dict[str, Any] = dict(named(use_case=use_case, type=type))
    for name, instant in (("since", since), ("until", until)):
        if instant is not None:
            params[name] = check_instant(name, instant).isoformat()
    if step is not None:
        params["step_seconds"] = f"{step.total_seconds():.15g}"
    if tenants is not None:
        params["tenant_id"] = check_names("tenants", tenants)
    params["by"] = ",".join(check_dimensions(by))
    return Call(
        method="GET",
        path="operations/attainment",
        params=params,
        decode=lambda record: answer_of(Attainment, record),
        writes=False,
    )
