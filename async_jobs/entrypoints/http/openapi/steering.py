"""What the OpenAPI document tells of the routes of controls."""

from __future__ import annotations

from typing import Any, Final

from async_jobs.adapters.http.wire import Problem
from async_jobs.domain.audit import OPERATIONS_PER_PAGE_MAX, Action
from async_jobs.domain.controls import LIMITS_MAX, REASON_CHARACTERS_MAX
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.limits import MAX_CONCURRENT_MAX, WEIGHT_MAX
from async_jobs.entrypoints.http.bodies import VERSION_MAX
from async_jobs.entrypoints.http.openapi.described import (
    CONTROL_ID,
    READ,
    answer,
    body,
    problems,
    query,
    route,
)
from async_jobs.entrypoints.http.openapi.schemas import (
    COUNT,
    INSTANT,
    NAME,
    TOLERANCE,
    UUID,
    Schema,
    described,
    object_schema,
    optional,
)

_NOT_CONTROL: Final = r"[^\u0000-\u001f\u007f-\u009f]"
REASON: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": REASON_CHARACTERS_MAX,
    "pattern": f"^{_NOT_CONTROL}*$",
}
_VERSION: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": VERSION_MAX}
_TEXT: Final[Schema] = {"type": "string"}
_OBJECT: Final[Schema] = {"type": "object"}
_NAMES: Final = ("use_case", "tenant_id", "type", "queue")


def _number(type: str, name: str, **bounds: float) -> Schema:
    return {"type": type, "minimum": 0, "maximum": LIMITS_MAX.get(name, 0)} | bounds


_OF_USE_CASE: Final[dict[str, Schema]] = {
    "max_concurrent": _number("integer", "", maximum=MAX_CONCURRENT_MAX),
    "late_policy": {"type": "string", "enum": list(LatePolicy)},
    "default_delay_tolerance_seconds": TOLERANCE,
    "retention_seconds": _number("number", "retention_seconds"),
}
_WEIGHT: Final[Schema] = {"type": "number", "exclusiveMinimum": 0, "maximum": WEIGHT_MAX}
_OF_TENANT: Final[dict[str, Schema]] = {
    "max_pending_jobs": _number("integer", "max_pending_jobs"),
    "max_running": _number("integer", "max_running"),
    "weight": _WEIGHT,
}


def _order(title: str, scope: Schema, what: dict[str, Schema]) -> Schema:
    return object_schema(
        title,
        {"scope": scope, "reason": described(REASON, "Why, for whoever finds it.")} | what,
        {
            "until": described(
                optional(INSTANT), "When it ends by itself, at most 366 days ahead; else never."
            ),
            "expected_version": described(
                optional(_VERSION), "Of the control that it replaces; 0 when left out: of none."
            ),
        },
    )


_SCOPE: Final = object_schema("ControlScope", {}, dict.fromkeys(_NAMES, NAME)) | {
    "minProperties": 1,
    "description": "The jobs that have all of the names that are given.",
}
_LIMITS: Final[dict[str, Schema]] = {
    "use_case": object_schema("UseCaseLimits", {}, _OF_USE_CASE) | {"minProperties": 1},
    "tenant_id": object_schema("TenantLimits", {}, _OF_TENANT) | {"minProperties": 1},
}
_REQUEST: Final[Schema] = {
    "oneOf": [
        _order("PauseRequest", _SCOPE, {"pause": {"type": "boolean", "const": True}}),
        _order(
            "LimitUseCaseRequest",
            object_schema("UseCaseScope", {"use_case": NAME}, {}),
            {"limits": _LIMITS["use_case"]},
        ),
        _order(
            "LimitTenantRequest",
            object_schema("TenantScope", {"tenant_id": NAME}, {}),
            {"limits": _LIMITS["tenant_id"]},
        ),
    ]
}
_CONTROL: Final = object_schema(
    "Control",
    {
        "id": UUID,
        "scope": _SCOPE,
        "limits": described(optional(_OBJECT), "What it sets, by name; null for a pause."),
        "actor": described(_TEXT, "Who ordered it: the name of a token, or a user of a system."),
        "reason": _TEXT,
        "since": INSTANT,
        "until": described(optional(INSTANT), "When it ends by itself; null for never."),
        "version": described(COUNT, "What a change has to name as `expected_version`."),
    },
    {},
)
_OPERATION: Final = object_schema(
    "Operation",
    {
        "id": UUID,
        "at": INSTANT,
        "actor": _TEXT,
        "address": described(_TEXT, "From where; empty where that is not known."),
        "action": {"type": "string", "enum": list(Action)},
        "control_id": described(UUID, "Of the control, or of the bulk operation."),
        "scope": object_schema("OperationScope", {}, dict.fromkeys(_NAMES, NAME)),
        "reason": _TEXT,
        "before": described(optional(_OBJECT), "The control as it was; null where there was none."),
        "after": described(optional(_OBJECT), "The control as it then was; null for none."),
        "version": COUNT,
    },
    {},
)
_PREVIEW: Final = object_schema(
    "ControlPreview",
    {
        "current": described(optional(_CONTROL), "What it would replace."),
        "changes": {
            "type": "object",
            "additionalProperties": {"type": "array", "minItems": 2, "maxItems": 2},
            "description": "Limits by name: what holds now, and what would.",
        },
        "running": described(
            optional(COUNT), "How many jobs of the scope run, and may end; null: not known."
        ),
    },
    {},
)
_LISTED: Final = object_schema("Controls", {"controls": {"type": "array", "items": _CONTROL}}, {})
_AUDITED: Final = object_schema("Audit", {"operations": {"type": "array", "items": _OPERATION}}, {})
_ENDED: Final = object_schema("ControlEnded", {"control_id": UUID}, {})
_REVERTED: Final = object_schema(
    "Reverted",
    {"control": described(optional(_CONTROL), "What stands again; null for nothing.")},
    {},
)

# --- examples -----------------------------------------------------------------------------------

_WHY: Final = "the provider is down"
_PAUSES: Final[dict[str, Any]] = {
    "scope": {"type": "send_email"},
    "pause": True,
    "reason": _WHY,
    "until": "2026-03-01T10:00:00Z",
}
_LIMITING: Final[dict[str, Any]] = {
    "scope": {"use_case": "reports"},
    "limits": {"max_concurrent": 5},
    "reason": "slow disks",
    "expected_version": 6,
}
_BEFORE: Final[dict[str, Any]] = {
    "limits": None,
    "actor": "ada",
    "reason": _WHY,
    "since": "2026-03-01T08:00:00Z",
    "until": "2026-03-01T10:00:00Z",
}
_STANDS: Final = {"id": CONTROL_ID, "scope": {"type": "send_email"}, **_BEFORE, "version": 7}
_DONE: Final = {
    "id": "01983f5a-7c00-7000-8000-00000000000a",
    "at": "2026-03-01T08:00:00Z",
    "actor": "ada",
    "address": "10.0.0.7",
    "action": "pause",
    "control_id": CONTROL_ID,
    "scope": {"type": "send_email"},
    "reason": _WHY,
    "before": None,
    "after": _BEFORE,
    "version": 7,
}

# --- routes -------------------------------------------------------------------------------------


def _id(name: str, description: str) -> dict[str, Any]:
    where = {"name": name, "in": "path", "required": True, "schema": UUID}
    return where | {"description": description, "example": CONTROL_ID}


CONTROLS: Final = route(
    "controls",
    "List the controls",
    "Returns what stands, what was changed last at the end. A token that is limited to tenants is"
    " told of the controls whose scope names one of these.",
    {200: answer("What stands.", _LISTED, {"controls": [_STANDS]})},
    problems(),
)
PUT: Final = route(
    "put_control",
    "Pause, or set limits",
    "Orders a pause (scope `operate`) or limits (scope `admin`), in the place of what stands there:"
    " its version has to be named. Who orders it is the token's name. Schedulers keep to it from"
    " their next tick on. A token that is limited to tenants has to name one of these.",
    {200: answer("The control as it stands.", _CONTROL, _STANDS)},
    problems(*READ, Problem.CONTROL_CHANGED),
    requestBody=body(_REQUEST, pause=_PAUSES, limit=_LIMITING),
)
PREVIEW: Final = route(
    "preview_control",
    "Ask what a control would change",
    "Takes the body of an order, refuses what that refuses, and changes nothing.",
    {
        200: answer(
            "What would change.",
            _PREVIEW,
            {"current": None, "changes": {"max_concurrent": [2, 5]}, "running": 2},
        )
    },
    problems(*READ),
    requestBody=body(_REQUEST, pause=_PAUSES, limit=_LIMITING),
)
END: Final = route(
    "end_control",
    "End a control",
    "Resumes what is paused (scope `operate`), or lets the limits of the environment hold again"
    " (scope `admin`). One out of reach looks like a missing one.",
    {200: answer("It stands no more.", _ENDED, {"control_id": CONTROL_ID})},
    problems(Problem.CONTROL_NOT_FOUND, Problem.CONTROL_CHANGED),
    parameters=[
        _id("control_id", "The control's id."),
        query("reason", REASON, "Why, for whoever asks.") | {"required": True},
        query("expected_version", _VERSION, "Its version; without it, whatever it has."),
    ],
)
REVERT: Final = route(
    "revert_control",
    "Put back what stood before",
    "Reverts one operation of the audit, unless the control was changed since: a pause with the"
    " scope `operate`, limits with `admin`.",
    {200: answer("What stands again.", _REVERTED, {"control": _STANDS})},
    problems(*READ, Problem.CONTROL_NOT_FOUND, Problem.CONTROL_CHANGED),
    parameters=[_id("operation_id", "The operation's id.")],
    requestBody=body(
        object_schema("RevertRequest", {"reason": REASON}, {}), revert={"reason": "it is back"}
    ),
)
AUDIT: Final = route(
    "audit",
    "Ask what operators did",
    "Tells who ordered and ended what, from where and why, the newest first, for 400 days. A token"
    " that is limited to tenants is told of the controls whose scope names one of these.",
    {200: answer("What they did.", _AUDITED, {"operations": [_DONE]})},
    problems(),
    parameters=[
        query(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": OPERATIONS_PER_PAGE_MAX, "default": 100},
            "How many at most.",
        ),
        query("before", UUID, "Only older ones than this operation: the last one of a page."),
        query("control_id", UUID, "Only what was done to this control."),
    ],
)
ROUTES: Final = (CONTROLS, PUT, PREVIEW, END, REVERT, AUDIT)
