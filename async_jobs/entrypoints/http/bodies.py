"""From what a caller wrote to what the application takes: bodies, paths and query strings.

The domain's own checks are the rule; here each is asked about one field at a time, so that
everything wrong with a body is told at once, by the path the caller wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from async_jobs.domain import bounds
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.bounds import JOBS_PER_CALL_MAX, JOBS_PER_PAGE_MAX
from async_jobs.domain.controls import Scope, check_reason, check_scope
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.job import EnqueueJobRequest, JobStatus
from async_jobs.domain.limits import DELAY_TOLERANCE_MAX
from async_jobs.domain.tallies import Dimension, check_dimensions
from async_jobs.entrypoints.http.reading import joined, shown
from async_jobs.ports.steering import ControlRequest

PROBLEMS_MAX: Final = 100
"""How many problems one answer tells; whoever has more learns of the rest when these are gone."""
PAGE_DEFAULT: Final = 100
TENANTS_MAX: Final = 100
_BACKOFF_FIELDS: Final = tuple(each.name for each in fields(BackoffPolicy))
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_LIMIT = re.compile(r"[1-9][0-9]{0,3}")
_STEP_SECONDS_MAX: Final = 365 * 86_400
_STEP = re.compile(r"[1-9][0-9]{0,8}")
_VERSION = re.compile(r"0|[1-9][0-9]{0,18}")


class InvalidFields(InvalidJobError):
    """Several fields are wrong; it speaks as the first of them.

    Attributes:
        errors: all of them, in the order of the body.
    """

    def __init__(self, errors: Sequence[InvalidJobError]) -> None:
        super().__init__(errors[0].field, errors[0].problem)
        self.errors = tuple(errors)


def _bare(error: InvalidJobError) -> InvalidJobError:
    """Return an error without its traceback, to be kept in a list.

    The traceback holds the frame that holds the list, and that frame holds the whole body: each
    refusal would stay in memory until the collector comes.
    """
    return InvalidJobError(error.field, error.problem)


def _raise_all(errors: Sequence[InvalidJobError]) -> None:
    """Raise what is wrong, as an error that no frame on its way holds; see `_bare`."""
    if len(errors) == 1:
        raise _bare(errors[0])
    if errors:
        raise InvalidFields(errors[:PROBLEMS_MAX])


# --- single values ------------------------------------------------------------------------------


def as_uuid(field: str, value: object) -> UUID:
    """Return the UUID that is written in its usual form: 36 characters, hyphens included."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise InvalidJobError(field, "must be a UUID")
    return UUID(value)


def as_instant(field: str, value: object) -> datetime:
    """Return the instant that is written in ISO 8601 with an offset from UTC."""
    with suppress(ValueError):  # the thirtieth of February
        if isinstance(value, str) and _INSTANT.fullmatch(value):
            return datetime.fromisoformat(value.upper())
    raise InvalidJobError(field, "must be an instant in ISO 8601 with an offset from UTC")


def as_tolerance(field: str, value: object) -> timedelta:
    """Return the duration that is given in seconds, 0 to 30 days."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidJobError(field, "must be a number of seconds")
    if not 0 <= value <= DELAY_TOLERANCE_MAX.total_seconds():
        seconds_max = int(DELAY_TOLERANCE_MAX.total_seconds())
        raise InvalidJobError(field, f"must be from 0 to {seconds_max} seconds")
    return timedelta(seconds=value)


def as_backoff(field: str, value: object) -> BackoffPolicy:
    """Return the policy that an object with any of its four fields describes."""
    if not isinstance(value, dict):
        raise InvalidJobError(field, "must be an object")
    errors = list(_unknown(value, _BACKOFF_FIELDS, field))
    for name in _BACKOFF_FIELDS:
        if name in value:
            try:
                if name == "type" and not isinstance(value[name], str):
                    raise InvalidJobError(f"{field}.type", "must be a string")
                BackoffPolicy(**{name: value[name]})
            except InvalidJobError as error:
                errors.append(_bare(error))
    _raise_all(errors)
    return BackoffPolicy(**value)


def _integral(value: object) -> object:
    """Return 5 for 5.0: JSON has one kind of number, and JSON Schema calls both an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def as_status(field: str, value: object) -> JobStatus:
    """Return the status of that name."""
    try:
        return JobStatus(str(value))
    except ValueError:
        raise InvalidJobError(field, f"must be one of {', '.join(JobStatus)}") from None


def _as_limit(field: str, value: object) -> int:
    if not _LIMIT.fullmatch(str(value)) or int(str(value)) > JOBS_PER_PAGE_MAX:
        raise InvalidJobError(field, f"must be an integer from 1 to {JOBS_PER_PAGE_MAX}")
    return int(str(value))


# --- the body of an enqueue ---------------------------------------------------------------------

_REQUIRED: Final[Mapping[str, Callable[[str, Any], object]]] = {
    "tenant_id": bounds.check_name,
    "use_case": bounds.check_name,
    "type": bounds.check_name,
    "payload": lambda _, value: bounds.check_payload(value),
}
_OPTIONAL: Final[Mapping[str, Callable[[str, Any], object]]] = {
    "queue": bounds.check_name,
    "id": as_uuid,
    "run_at": as_instant,
    "delay_tolerance_seconds": as_tolerance,
    "max_attempts": lambda _, value: bounds.check_max_attempts(_integral(value)),
    "backoff_policy": as_backoff,
    "dedupe_key": bounds.check_name,
    "priority": lambda _, value: bounds.check_priority(_integral(value)),
    "headers": lambda _, value: bounds.check_headers(value),
    "labels": lambda _, value: bounds.check_labels(value),
}
FIELDS: Final = (*_REQUIRED, *_OPTIONAL)
_RENAMED: Final = {"delay_tolerance_seconds": "delay_tolerance"}


def request_of(body: Mapping[str, Any]) -> EnqueueJobRequest:
    """Return the request that a body describes; an optional field may also be null.

    Raises:
        InvalidJobError: fields are unknown, missing or wrong; `InvalidFields` if several are.
    """
    values, errors = _fields(body)
    _raise_all(errors)
    return EnqueueJobRequest(**values)


def requests_of(body: Mapping[str, Any]) -> list[EnqueueJobRequest]:
    """Return the requests of a batch, in order.

    Raises:
        InvalidJobError: as `request_of`, with the job's place in front: `jobs[2].priority`.
    """
    errors = list(_unknown(body, ("jobs",)))
    jobs = body.get("jobs")
    if "jobs" not in body:
        errors.append(InvalidJobError("jobs", "is required"))
    elif not isinstance(jobs, list):
        errors.append(InvalidJobError("jobs", "must be an array"))
    elif len(jobs) > JOBS_PER_CALL_MAX:
        errors.append(
            InvalidJobError("jobs", f"must be at most {JOBS_PER_CALL_MAX}; got {len(jobs)}")
        )
    _raise_all(errors)
    requests: list[EnqueueJobRequest] = []
    for index, each in enumerate(jobs or ()):
        place = f"jobs[{index}]"
        if not isinstance(each, dict):
            errors.append(InvalidJobError(place, "must be an object"))
            continue
        values, wrong = _fields(each)
        errors += [InvalidJobError(f"{place}.{error.field}", error.problem) for error in wrong]
        if len(errors) >= PROBLEMS_MAX:
            break
        if not errors:
            requests.append(EnqueueJobRequest(**values))
    _raise_all(errors)
    return requests


def _fields(body: Mapping[str, Any]) -> tuple[dict[str, Any], list[InvalidJobError]]:
    """Return the values that can be taken, by the names of the application, and what is wrong."""
    values, errors = _taken(body, {**_REQUIRED, **_OPTIONAL}, _REQUIRED)
    return {_RENAMED.get(name, name): value for name, value in values.items()}, errors


def _taken(
    body: Mapping[str, Any],
    checks: Mapping[str, Callable[[str, Any], object]],
    required: Collection[str],
) -> tuple[dict[str, Any], list[InvalidJobError]]:
    """Return the values that pass the checks of their fields, and what is wrong."""
    errors: list[InvalidJobError] = []
    values: dict[str, Any] = {}
    for name, check in checks.items():
        if name not in body:
            if name in required:
                errors.append(InvalidJobError(name, "is required"))
        elif body[name] is not None or name in required:
            try:
                values[name] = check(name, body[name])
            except InvalidFields as several:
                errors += several.errors
            except InvalidJobError as error:
                errors.append(_bare(error))
    return values, [*errors, *_unknown(body, tuple(checks))]


def _unknown(
    body: Mapping[str, Any], known: Sequence[str], path: str = ""
) -> Iterator[InvalidJobError]:
    left = PROBLEMS_MAX
    for name in body:
        if name not in known and left:
            left -= 1
            yield InvalidJobError(joined(path, name), f"is unknown; known: {', '.join(known)}")


# --- what operators order -----------------------------------------------------------------------

VERSION_MAX: Final = 2**53 - 1
"""Of larger integers JSON readers lose digits."""
_SCOPE: Final = tuple(each.name for each in fields(Scope))


def as_version(field: str, value: object) -> int:
    """Return the version of a control."""
    version = _integral(value)
    if type(version) is not int or not 0 <= version <= VERSION_MAX:
        raise InvalidJobError(field, "must be the version of a control, or 0 for none")
    return version


def _as_scope(field: str, value: object) -> Scope:
    if not isinstance(value, dict):
        raise InvalidJobError(field, "must be an object")
    _raise_all(list(_unknown(value, _SCOPE, field)))
    return check_scope(Scope(**value))


def _as_pause(field: str, value: object) -> bool:
    if value is not True:
        raise InvalidJobError(field, "must be true; what stands is ended by DELETE")
    return True


def _as_limits(field: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidJobError(field, "must be an object")
    return {name: _integral(each) for name, each in value.items()}


_ORDERED: Final[Mapping[str, Callable[[str, Any], object]]] = {
    "scope": _as_scope,
    "reason": lambda _, value: check_reason(value),
    "pause": _as_pause,
    "limits": _as_limits,
    "until": as_instant,
    "expected_version": as_version,
}


def order_of(body: Mapping[str, Any]) -> tuple[ControlRequest, int]:
    """Return what a body orders, and the version that it expects; optional fields may be null.

    Raises:
        InvalidJobError: as `request_of`.
    """
    values, errors = _taken(body, _ORDERED, ("scope", "reason"))
    given = [name for name in ("pause", "limits") if body.get(name) is not None]
    if not given:
        errors.append(InvalidJobError("pause", "is required: true, or limits in its place"))
    elif len(given) > 1:
        errors.append(InvalidJobError("limits", "must be left out of a pause"))
    _raise_all(errors)
    values.pop("pause", None)
    version = values.pop("expected_version", 0)
    return ControlRequest(**values), version


def reason_of(body: Mapping[str, Any]) -> str:
    """Return the reason that is all of a body."""
    values, errors = _taken(body, {"reason": _ORDERED["reason"]}, ("reason",))
    _raise_all(errors)
    reason: str = values["reason"]
    return reason


# --- paths and query strings --------------------------------------------------------------------


def id_in(path_params: Mapping[str, str], name: str) -> UUID:
    """Return the control or the operation that a path names."""
    return as_uuid(name, path_params[name])


def job_id_of(path_params: Mapping[str, str]) -> UUID:
    """Return the job that a path names."""
    return as_uuid("job_id", path_params["job_id"])


_FILTERS: Final[dict[str, Callable[[str, Any], object]]] = {
    "tenant_id": bounds.check_name,
    "use_case": bounds.check_name,
    "status": as_status,
    "limit": _as_limit,
    "cursor": as_uuid,
}


def _as_step(field: str, value: str) -> timedelta:
    if not _STEP.fullmatch(value) or int(value) > _STEP_SECONDS_MAX:
        seconds_max = f"{_STEP_SECONDS_MAX} at most"
        raise InvalidJobError(
            field, f"must be a number of seconds, {seconds_max}, of whole minutes"
        )
    return timedelta(seconds=int(value))


def _as_dimensions(field: str, value: str) -> frozenset[Dimension]:
    return check_dimensions([each for each in value.split(",") if each])


_REPORTED: Final[dict[str, Callable[[str, Any], object]]] = {
    "since": as_instant,
    "until": as_instant,
    "step_seconds": _as_step,
    "use_case": bounds.check_name,
    "type": bounds.check_name,
    "by": _as_dimensions,
}


def _as_written_version(field: str, value: str) -> int:
    return as_version(field, int(value) if _VERSION.fullmatch(value) else None)


_STEERED: Final[dict[str, Callable[[str, Any], object]]] = {
    "reason": lambda _, value: check_reason(value),
    "expected_version": _as_written_version,
    "before": as_uuid,
    "control_id": as_uuid,
}


def tenant_of(query: Sequence[tuple[str, str]]) -> str | None:
    """Return the tenant that the query string of a single job's route names."""
    values = _query(query, ("tenant_id",))
    tenant_id: str | None = values.get("tenant_id")
    return tenant_id


def waiting_of(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the arguments of `explain_waiting` that a query string gives."""
    return _query(query, ("use_case", "tenant_id"))


def tenants_of(query: Sequence[tuple[str, str]]) -> list[str]:
    """Return the tenants that the query string of a status names: any number of them, once each."""
    if len(query) > TENANTS_MAX:
        raise InvalidJobError("tenant_id", f"must be given at most {TENANTS_MAX} times")
    for name, text in query:
        _query([(name, text)], ("tenant_id",))
    return list(dict.fromkeys(text for _, text in query))


def attainment_of(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the arguments of `attainment` that a query string gives; tenants in any number."""
    tenants = tenants_of([each for each in query if each[0] == "tenant_id"])
    values = _query([each for each in query if each[0] != "tenant_id"], tuple(_REPORTED))
    if "step_seconds" in values:
        values["step"] = values.pop("step_seconds")
    return values | {"tenants": tenants}


def ending_of(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the arguments of `Steering.end` that a query string gives."""
    values = _query(query, ("reason", "expected_version"))
    if "reason" not in values:
        raise InvalidJobError("reason", "is required")
    return values


def audit_of(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the arguments of `Steering.audit` that a query string gives."""
    return {"limit": PAGE_DEFAULT} | _query(query, ("limit", "before", "control_id"))


def operations_of(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the arguments of `BulkSteering.operations` that a query string gives."""
    return {"limit": PAGE_DEFAULT} | _query(query, ("limit", "before"))


def errors_of(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the arguments of `errors` that a query string gives."""
    return _query(query, ("since", "until", "tenant_id", "use_case", "limit"))


def filters_of(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the arguments of `list_jobs` that a query string gives."""
    return {"limit": PAGE_DEFAULT} | _query(query, tuple(_FILTERS))


def _query(query: Sequence[tuple[str, str]], known: Sequence[str]) -> dict[str, Any]:
    """Return the values of a query string, in which a mistyped name must not list everything."""
    errors: list[InvalidJobError] = []
    values: dict[str, Any] = {}
    for name, text in query[:PROBLEMS_MAX]:
        if name not in known:
            errors.append(InvalidJobError(shown(name), f"is unknown; known: {', '.join(known)}"))
        elif name in values:
            errors.append(InvalidJobError(name, "must be given once only"))
        else:
            values[name] = None
            try:
                values[name] = (_FILTERS | _REPORTED | _STEERED)[name](name, text)
            except InvalidJobError as error:
                errors.append(_bare(error))
    _raise_all(errors)
    return values
