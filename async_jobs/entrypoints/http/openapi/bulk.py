"""What the OpenAPI document tells of the routes of actions over many jobs."""

from __future__ import annotations

from typing import Any, Final

from async_jobs.adapters.http.wire import Problem
from async_jobs.domain.audit import OPERATIONS_PER_PAGE_MAX
from async_jobs.domain.bulk import BULK_MAX, COUNTED_MAX, BulkAction, BulkState
from async_jobs.entrypoints.http.openapi.described import (
    BULK_ID,
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
    PRIORITY,
    TOLERANCE,
    UUID,
    Schema,
    described,
    object_schema,
    optional,
)
from async_jobs.entrypoints.http.openapi.searching import FILTER
from async_jobs.entrypoints.http.openapi.steering import REASON

_TEXT: Final[Schema] = {"type": "string"}
_ACTIONS: Final = [each for each in BulkAction if each is not BulkAction.UNDO]
_CHANGES_TO: Final[dict[str, Schema]] = {
    "run_at": described(optional(INSTANT), "When jobs are due, of `reschedule`."),
    "priority": described(optional(PRIORITY), "Of `prioritise`."),
    "delay_tolerance_seconds": described(optional(TOLERANCE), "Of `tolerate`."),
}
_WHICH: Final[dict[str, Schema]] = {
    "filter": optional(FILTER),
    **_CHANGES_TO,
    "all": described(
        optional({"type": "boolean"}), "Every job is meant, where the filter has no condition."
    ),
}
_ACTION: Final[Schema] = {"type": "string", "enum": _ACTIONS}
_ASKED: Final = object_schema("BulkRequest", {"action": _ACTION}, _WHICH)
_STARTED: Final = object_schema(
    "BulkStart",
    {
        "action": _ACTION,
        "token": described(_TEXT, "Of a preview of the same action and filter, of 15 minutes."),
        "reason": described(REASON, "Why, for whoever finds it."),
    },
    {
        **_WHICH,
        "max": described(
            optional({"type": "integer", "minimum": 1, "maximum": BULK_MAX}),
            "So many jobs at most; else as many as were counted.",
        ),
        "id": described(optional(UUID), "Its id: repeated with it, a start is there once."),
    },
)
_PREVIEWED: Final = object_schema(
    "BulkPreview",
    {
        "count": described(COUNT, f"How many jobs match now; {COUNTED_MAX:,} at most."),
        "at_least": described({"type": "boolean"}, "Whether there may be more."),
        "token": described(_TEXT, "What a start wants."),
        "until": described(INSTANT, "How long the token counts."),
    },
    {},
)
_OPERATION: Final = object_schema(
    "BulkOperation",
    {
        "id": UUID,
        "action": {"type": "string", "enum": list(BulkAction)},
        "filter": FILTER,
        "undoes": described(optional(UUID), "The operation whose cancellations an undo reverts."),
        "state": {"type": "string", "enum": list(BulkState)},
        "max": described(COUNT, "After how many jobs it ends."),
        "matched": described(COUNT, "How many jobs its preview counted."),
        "done": described(COUNT, "Jobs that were changed."),
        "skipped": described(COUNT, "Jobs that it cannot happen to as they are by now."),
        "failed": described(COUNT, "Jobs that the database keeps, and rows that are none."),
        "problem": described(optional(_TEXT), "Why the last one of these failed."),
        "actor": described(_TEXT, "Who began it: the name of a token, or a user of a system."),
        "address": described(_TEXT, "From where; empty where that is not known."),
        "reason": _TEXT,
        "created_at": INSTANT,
        "due_at": described(INSTANT, "When its next batch may be taken."),
        "ended_at": optional(INSTANT),
        "cursor": described(optional(UUID), "The last job that was looked at."),
    },
    _CHANGES_TO,
)
_LISTED: Final = object_schema(
    "BulkOperations", {"operations": {"type": "array", "items": _OPERATION}}, {}
)
_WHY: Final = object_schema("BulkReason", {"reason": REASON}, {})

# --- examples -----------------------------------------------------------------------------------

_RETRY: Final[dict[str, Any]] = {
    "action": "retry",
    "filter": {"types": ["send_email"], "error_group": "5b2f6a0d91c4e873"},
}
_TOKEN: Final = "69a4005c.412.9c51d7c3a0b84e6f2d1908b7a6c5e4f3"
_START: Final = _RETRY | {"token": _TOKEN, "reason": "the provider is back", "max": 1_000}
_DELAY: Final[dict[str, Any]] = {
    "action": "reschedule",
    "filter": {"tenant_id": "acme"},
    "run_at": "2026-03-01T10:00:00Z",
}
_RUNS: Final = _RETRY | {
    "id": BULK_ID,
    "undoes": None,
    "state": "running",
    "max": 1_000,
    "matched": 412,
    "done": 250,
    "skipped": 3,
    "failed": 0,
    "problem": None,
    "actor": "ada",
    "address": "10.0.0.7",
    "reason": "the provider is back",
    "created_at": "2026-03-01T08:00:00Z",
    "due_at": "2026-03-01T08:00:01Z",
    "ended_at": None,
    "cursor": "01983f5a-7c00-7000-8000-000000000001",
}
_UNDOES: Final = _RUNS | {"action": "undo", "filter": {"tenant_id": "acme"}, "undoes": BULK_ID}

# --- routes -------------------------------------------------------------------------------------

_ID: Final = {
    "name": "operation_id",
    "in": "path",
    "required": True,
    "schema": UUID,
    "description": "The operation's id.",
    "example": BULK_ID,
}
_REACH: Final = " A token that is limited to tenants has to name one of these in the filter."
_ONE: Final = (*READ, Problem.BULK_NOT_FOUND)
PREVIEW: Final = route(
    "preview_bulk",
    "Ask what an action over many jobs would be about",
    "Counts the jobs that match (without `statuses`, of those that the action is for), changes"
    " nothing, and gives the token that a start wants. A deletion is for the scope `admin`, all"
    " else for `operate`." + _REACH,
    {
        200: answer(
            "How many.",
            _PREVIEWED,
            {"count": 412, "at_least": False, "token": _TOKEN, "until": "2026-03-01T08:15:00Z"},
        )
    },
    problems(*READ),
    requestBody=body(_ASKED, retry=_RETRY, reschedule=_DELAY),
)
START: Final = route(
    "start_bulk",
    "Act on many jobs",
    "Begins what was previewed; schedulers carry it out in batches. No more jobs are changed than"
    " were counted, unless `max` says so. A deletion is for the scope `admin`, all else for"
    " `operate`." + _REACH,
    {200: answer("It has begun, or had.", _OPERATION, _RUNS)},
    problems(*_ONE),
    requestBody=body(_STARTED, retry=_START),
)
OPERATIONS: Final = route(
    "bulk_operations",
    "List actions over many jobs",
    "Tells how far each is, the newest first. A token that is limited to tenants is told of those"
    " whose filter names one of these.",
    {200: answer("What there is.", _LISTED, {"operations": [_RUNS]})},
    problems(),
    parameters=[
        query(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": OPERATIONS_PER_PAGE_MAX, "default": 100},
            "How many at most.",
        ),
        query("before", UUID, "Only older ones than this operation: the last one of a page."),
    ],
)
GET: Final = route(
    "get_bulk",
    "Ask how far an action over many jobs is",
    "Tells what was done, skipped and failed. One out of reach looks like a missing one.",
    {200: answer("How far it is.", _OPERATION, _RUNS)},
    problems(Problem.BULK_NOT_FOUND),
    parameters=[_ID],
)
STOP: Final = route(
    "stop_bulk",
    "Leave the rest of an action undone",
    "Takes no more batches; what is done stays done, and one that has ended stays as it is. Of a"
    " deletion with the scope `admin`, else with `operate`.",
    {
        200: answer(
            "As it then stands.",
            _OPERATION,
            _RUNS | {"state": "cancelled", "ended_at": "2026-03-01T08:00:01Z"},
        )
    },
    problems(*_ONE),
    parameters=[_ID],
    requestBody=body(_WHY, mistake={"reason": "a mistake"}),
)
UNDO: Final = route(
    "undo_bulk",
    "Undo a cancel of many jobs",
    "Begins an operation that lets what was cancelled wait again, with all that it had. Only of a"
    " cancel that has ended.",
    {200: answer("The operation that undoes it.", _OPERATION, _UNDOES)},
    problems(*_ONE),
    parameters=[_ID],
    requestBody=body(_WHY, mistake={"reason": "a mistake"}),
)
ROUTES: Final = (PREVIEW, START, OPERATIONS, GET, STOP, UNDO)
