"""The driving port `Steering` over the wire: what is sent, and how an answer is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from async_jobs.adapters.http.answers import answer_of, answer_record_of
from async_jobs.adapters.http.calls import Call
from async_jobs.domain.audit import OPERATIONS_PER_PAGE_MAX, Operation
from async_jobs.domain.bounds import check_instant, check_uuid
from async_jobs.domain.controls import Control, check_reason
from async_jobs.domain.errors import InvalidJobError
from async_jobs.ports.steering import ControlPreview, ControlRequest

# --- answers ------------------------------------------------------------------------------------


def control_record_of(control: Control) -> dict[str, Any]:
    """Return a control as JSON values; its scope has the names that are given."""
    return answer_record_of(control) | {"scope": control.scope.names}


def operation_record_of(operation: Operation) -> dict[str, Any]:
    """Return an operation as JSON values."""
    return answer_record_of(operation) | {"scope": operation.scope.names}


def preview_record_of(preview: ControlPreview) -> dict[str, Any]:
    """Return a preview as JSON values; each change as the value now, and the one to be."""
    current = preview.current
    told = None if current is None else control_record_of(current)
    return answer_record_of(preview) | {"current": told}


# --- the calls ----------------------------------------------------------------------------------


def controls() -> Call[Sequence[Control]]:
    """Return the call that lists what stands."""
    return Call(
        method="GET",
        path="controls",
        decode=lambda record: [answer_of(Control, each) for each in record["controls"]],
        writes=False,
    )


def preview(request: ControlRequest) -> Call[ControlPreview]:
    """Return the call that tells what a control would change."""
    return Call(
        method="POST",
        path="controls/preview",
        body=_encoded(_body_of(request)),
        decode=lambda record: answer_of(ControlPreview, record),
        writes=False,
    )


def put(request: ControlRequest, expected_version: int) -> Call[Control]:
    """Return the call that orders something.

    Like all that change controls it is not repeatable: of a first try that took effect unheard,
    the second one would say that somebody else had come before.
    """
    return Call(
        method="POST",
        path="controls",
        body=_encoded(_body_of(request) | {"expected_version": expected_version}),
        decode=lambda record: answer_of(Control, record),
        repeatable=False,
    )


def end(control_id: UUID, reason: str, expected_version: int | None) -> Call[None]:
    """Return the call that ends a control.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """
    params = {"reason": check_reason(reason)}
    if expected_version is not None:
        params["expected_version"] = str(expected_version)
    path = f"controls/{check_uuid('control_id', control_id)}"

    def decode(record: Any) -> None:
        if UUID(record["control_id"]) != control_id:
            raise ValueError("the control is another one than was asked for")

    return Call(method="DELETE", path=path, params=params, decode=decode, repeatable=False)


def revert(operation_id: UUID, reason: str) -> Call[Control | None]:
    """Return the call that reverts an operation.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """

    def decode(record: Any) -> Control | None:
        control = record["control"]
        return None if control is None else answer_of(Control, control)

    return Call(
        method="POST",
        path=f"controls/{check_uuid('operation_id', operation_id)}/revert",
        body=_encoded({"reason": check_reason(reason)}),
        decode=decode,
        repeatable=False,
    )


def audit(limit: int, before: UUID | None, control_id: UUID | None) -> Call[Sequence[Operation]]:
    """Return the call that tells what operators did.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """
    if type(limit) is not int or not 1 <= limit <= OPERATIONS_PER_PAGE_MAX:
        raise InvalidJobError("limit", f"must be an integer from 1 to {OPERATIONS_PER_PAGE_MAX}")
    params = {"limit": str(limit)}
    for name, value in (("before", before), ("control_id", control_id)):
        if value is not None:
            params[name] = str(check_uuid(name, value))
    return Call(
        method="GET",
        path="operations/audit",
        params=params,
        decode=lambda record: [answer_of(Operation, each) for each in record["operations"]],
        writes=False,
    )


def _body_of(request: ControlRequest) -> dict[str, Any]:
    body: dict[str, Any] = {"scope": request.scope.names, "reason": request.reason}
    limits, until = request.limits, request.until
    body |= {"pause": True} if limits is None else {"limits": dict(limits)}
    return body if until is None else body | {"until": _written(until)}


def _written(until: datetime) -> str:
    return check_instant("until", until).isoformat()


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError):
        raise InvalidJobError("limits", "must be numbers and texts that JSON can hold") from None
