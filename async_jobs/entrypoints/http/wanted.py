"""From the body of a search, or of an action over many jobs, to what it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from async_jobs.domain.bounds import JOBS_PER_PAGE_MAX
from async_jobs.domain.bulk import Amendment, BulkAction, check_bulk, check_maximum
from async_jobs.domain.controls import check_reason
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.filters import JobQuery, query_of, whole
from async_jobs.entrypoints.http.bodies import PAGE_DEFAULT, as_instant, as_tolerance, as_uuid
from async_jobs.entrypoints.http.reading import shown
from async_jobs.ports.bulk_steering import BulkRequest

FORMATS: Final = ("json", "ndjson")
_KNOWN: Final = ("filter", "limit", "cursor", "count", "format")
_ACTIONS: Final = tuple(each.value for each in BulkAction if each is not BulkAction.UNDO)
_ACTED: Final = ("action", "filter", "run_at", "priority", "delay_tolerance_seconds", "all")
_STARTED: Final = (*_ACTED, "token", "reason", "max", "id")
_IN_BODY: Final = {
    "statuses": "filter.statuses",
    "delay_tolerance": "delay_tolerance_seconds",
}
"""Where in the body that stands which the domain calls otherwise."""


class Searched(NamedTuple):
    """What the body of a search asks for."""

    query: JobQuery
    limit: int
    cursor: UUID | None
    counts: bool
    lines: bool


def searched_of(body: Mapping[str, Any]) -> Searched:
    """Return what a body asks for; whatever is left out or null has its default.

    Raises:
        InvalidJobError: with the first field that is wrong.
    """
    given = _given(body, _KNOWN)
    query = _query_of(given)
    limit, counts = whole(given.get("limit", PAGE_DEFAULT)), given.get("count", False)
    if type(limit) is not int or not 1 <= limit <= JOBS_PER_PAGE_MAX:
        raise InvalidJobError("limit", f"must be an integer from 1 to {JOBS_PER_PAGE_MAX}")
    if not isinstance(counts, bool):
        raise InvalidJobError("count", "must be true or false")
    lines = given.get("format", "json")
    if lines not in FORMATS:
        raise InvalidJobError("format", f"must be one of {', '.join(FORMATS)}")
    cursor = as_uuid("cursor", given["cursor"]) if "cursor" in given else None
    return Searched(query, limit, cursor, counts, lines == "ndjson")


# --- actions over many jobs ---------------------------------------------------------------------


class Started(NamedTuple):
    """What the body of a start asks for."""

    request: BulkRequest
    token: str
    reason: str
    maximum: int | None
    operation_id: UUID | None


def bulk_of(body: Mapping[str, Any], known: Sequence[str] = _ACTED) -> BulkRequest:
    """Return what is to be done to which jobs; whatever is left out or null has its default.

    Raises:
        InvalidJobError: with the first field that is wrong.
    """
    given = _given(body, known)
    action, all_jobs = given.get("action"), given.get("all", False)
    if action not in _ACTIONS:
        raise InvalidJobError("action", f"must be one of {', '.join(_ACTIONS)}")
    if not isinstance(all_jobs, bool):
        raise InvalidJobError("all", "must be true or false")
    run_at, seconds = given.get("run_at"), given.get("delay_tolerance_seconds")
    amendment = Amendment(
        run_at=None if run_at is None else as_instant("run_at", run_at),
        priority=whole(given.get("priority")),  # type: ignore[arg-type]  # checked below
        delay_tolerance=None
        if seconds is None
        else as_tolerance("delay_tolerance_seconds", seconds),
    )
    request = BulkRequest(
        action=BulkAction(action),
        criteria=_query_of(given),
        amendment=amendment,
        all_jobs=all_jobs,
    )
    try:
        check_bulk(request.action, request.criteria, amendment, all_jobs=all_jobs)
    except InvalidJobError as error:
        raise InvalidJobError(_IN_BODY.get(error.field, error.field), error.problem) from None
    return request


def started_of(body: Mapping[str, Any]) -> Started:
    """Return what is to be begun.

    Raises:
        InvalidJobError: as `bulk_of`.
    """
    request = bulk_of(body, _STARTED)
    for name in ("token", "reason"):
        if body.get(name) is None:
            raise InvalidJobError(name, "is required")
    if not isinstance(body["token"], str):
        raise InvalidJobError("token", "must be a string")
    maximum, operation_id = body.get("max"), body.get("id")
    return Started(
        request,
        token=body["token"],
        reason=check_reason(body["reason"]),
        maximum=None if maximum is None else check_maximum(whole(maximum)),
        operation_id=None if operation_id is None else as_uuid("id", operation_id),
    )


# --- shared -------------------------------------------------------------------------------------


def _given(body: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    for name in body:
        if name not in known:
            raise InvalidJobError(shown(name), f"is unknown; known: {', '.join(known)}")
    return {name: value for name, value in body.items() if value is not None}


def _query_of(given: Mapping[str, Any]) -> JobQuery:
    try:
        return query_of(given.get("filter", {}))
    except InvalidJobError as error:
        if error.field.startswith("filter"):
            raise
        raise InvalidJobError(f"filter.{error.field}", error.problem) from None
