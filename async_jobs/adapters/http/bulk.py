"""The driving port `BulkSteering` over the wire: what is sent, and how an answer is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from async_jobs.adapters.http.calls import Call
from async_jobs.domain.audit import OPERATIONS_PER_PAGE_MAX
from async_jobs.domain.bounds import check_uuid
from async_jobs.domain.bulk import (
    Amendment,
    BulkAction,
    BulkOperation,
    BulkState,
    check_bulk,
    check_maximum,
)
from async_jobs.domain.controls import check_reason
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.filters import JobQuery, query_of, query_record_of
from async_jobs.ports.bulk_steering import BulkPreview, BulkRequest

PATH: Final = "bulk"
_OF_FILTER: Final = "filter."
_COUNTS: Final = ("matched", "done", "skipped", "failed")
_TEXTS: Final = ("actor", "address", "reason", "problem")

# --- answers ------------------------------------------------------------------------------------


def bulk_record_of(operation: BulkOperation) -> dict[str, Any]:
    """Return an operation as JSON values; what it changes to stands beside its action."""
    at, ended, cursor = operation.created_at, operation.ended_at, operation.cursor
    return {
        "id": str(operation.id),
        "action": operation.action.value,
        "filter": query_record_of(operation.criteria),
        **operation.amendment.as_json(),
        "undoes": None if operation.undoes is None else str(operation.undoes),
        "state": operation.state.value,
        "max": operation.maximum,
        **{name: getattr(operation, name) for name in (*_COUNTS, *_TEXTS)},
        "created_at": at.isoformat(),
        "due_at": operation.due_at.isoformat(),
        "ended_at": None if ended is None else ended.isoformat(),
        "cursor": None if cursor is None else str(cursor),
    }


def bulk_of(record: Mapping[str, Any]) -> BulkOperation:
    """Return the operation that `bulk_record_of` wrote.

    Raises:
        KeyError, TypeError, ValueError: it is no such record.
    """
    undoes, ended, cursor = record["undoes"], record["ended_at"], record["cursor"]
    return BulkOperation(
        id=UUID(record["id"]),
        action=BulkAction(record["action"]),
        criteria=_criteria_of(record["filter"]),
        amendment=Amendment.of_json(record),
        undoes=None if undoes is None else UUID(undoes),
        state=BulkState(record["state"]),
        maximum=record["max"],
        **{name: record[name] for name in (*_COUNTS, *_TEXTS)},
        created_at=datetime.fromisoformat(record["created_at"]),
        due_at=datetime.fromisoformat(record["due_at"]),
        ended_at=None if ended is None else datetime.fromisoformat(ended),
        cursor=None if cursor is None else UUID(cursor),
    )


def _criteria_of(record: object) -> JobQuery:
    try:
        return query_of(record)
    except InvalidJobError as error:
        # Of the answer, not of what the caller has asked.
        raise ValueError(str(error)) from None


def preview_record_of(preview: BulkPreview) -> dict[str, Any]:
    """Return a preview as JSON values."""
    return {
        "count": preview.count,
        "at_least": preview.at_least,
        "token": preview.token,
        "until": preview.until.isoformat(),
    }


# --- the calls ----------------------------------------------------------------------------------


@contextmanager
def named_as_in_the_port() -> Iterator[None]:
    """Name what the API refuses as in the port, not as in the body: without `filter.`."""
    try:
        yield
    except InvalidJobError as error:
        name = "operation_id" if error.field == "id" else error.field.removeprefix(_OF_FILTER)
        raise InvalidJobError(name, error.problem) from None


def preview(request: BulkRequest) -> Call[BulkPreview]:
    """Return the call that counts what would be changed.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """

    def decode(record: Any) -> BulkPreview:
        return BulkPreview(
            count=int(record["count"]),
            at_least=bool(record["at_least"]),
            token=str(record["token"]),
            until=datetime.fromisoformat(record["until"]),
        )

    body = _encoded(_body_of(request))
    return Call(method="POST", path=f"{PATH}/preview", body=body, decode=decode, writes=False)


def start(
    request: BulkRequest,
    *,
    token: str,
    reason: str,
    maximum: int | None,
    operation_id: UUID | None,
    new_id: Callable[[], UUID],
) -> Call[BulkOperation]:
    """Return the call that begins an operation; it has an id, so that repeating it is harmless.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """
    wanted = new_id() if operation_id is None else check_uuid("operation_id", operation_id)
    body = _body_of(request) | {"id": str(wanted), "reason": check_reason(reason), "token": token}
    if maximum is not None:
        body["max"] = check_maximum(maximum)
    return Call(method="POST", path=PATH, body=_encoded(body), decode=_this(wanted))


def get(operation_id: UUID) -> Call[BulkOperation]:
    """Return the call that tells how far an operation is."""
    return Call(method="GET", path=_path_of(operation_id), decode=_this(operation_id), writes=False)


def operations(limit: int, before: UUID | None) -> Call[Sequence[BulkOperation]]:
    """Return the call that lists operations.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """
    if type(limit) is not int or not 1 <= limit <= OPERATIONS_PER_PAGE_MAX:
        raise InvalidJobError("limit", f"must be from 1 to {OPERATIONS_PER_PAGE_MAX}")
    params = {"limit": str(limit)}
    if before is not None:
        params["before"] = str(check_uuid("before", before))
    return Call(
        method="GET",
        path=PATH,
        params=params,
        decode=lambda record: [bulk_of(each) for each in record["operations"]],
        writes=False,
    )


def stop(operation_id: UUID, reason: str) -> Call[BulkOperation]:
    """Return the call that leaves the rest of an operation undone; repeated, it does nothing."""
    return Call(
        method="POST",
        path=f"{_path_of(operation_id)}/cancel",
        body=_encoded({"reason": check_reason(reason)}),
        decode=_this(operation_id),
    )


def undo(operation_id: UUID, reason: str) -> Call[BulkOperation]:
    """Return the call that brings back what was cancelled; repeated, it would begin another."""

    def decode(record: Any) -> BulkOperation:
        begun = bulk_of(record)
        if begun.undoes != operation_id:
            raise ValueError("another operation is undone than was asked for")
        return begun

    return Call(
        method="POST",
        path=f"{_path_of(operation_id)}/undo",
        body=_encoded({"reason": check_reason(reason)}),
        decode=decode,
        repeatable=False,
    )


def _path_of(operation_id: UUID) -> str:
    return f"{PATH}/{check_uuid('operation_id', operation_id)}"


def _this(operation_id: UUID) -> Callable[[Any], BulkOperation]:
    def decode(record: Any) -> BulkOperation:
        operation = bulk_of(record)
        if operation.id != operation_id:
            raise ValueError("the operation is another one than was asked for")
        return operation

    return decode


def _body_of(request: BulkRequest) -> dict[str, Any]:
    check_bulk(request.action, request.criteria, request.amendment, all_jobs=request.all_jobs)
    body = {"action": request.action.value, "filter": query_record_of(request.criteria)}
    return body | request.amendment.as_json() | ({"all": True} if request.all_jobs else {})


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()
