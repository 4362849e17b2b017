"""What the OpenAPI document tells of each route: arguments of `APIRouter.add_api_route`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from async_jobs.adapters.http.wire import PROBLEM_MEDIA_TYPE, Problem
from async_jobs.domain.bounds import JOBS_PER_CALL_MAX, JOBS_PER_PAGE_MAX
from async_jobs.entrypoints.http.access import TOKEN_REQUIRED
from async_jobs.entrypoints.http.bodies import PAGE_DEFAULT
from async_jobs.entrypoints.http.openapi import schemas
from async_jobs.entrypoints.http.openapi.schemas import Schema
from async_jobs.entrypoints.http.problems import (
    INTERNAL,
    MIGRATION_DUE,
    REFUSED,
    RETRY_AFTER_SECONDS,
    TITLES,
    UNAVAILABLE,
)

Description: TypeAlias = dict[str, Any]
Responses: TypeAlias = dict[int | str, dict[str, Any]]

TOKEN: Final = (
    "The shared token, or one that is limited to tenants and to the scopes `enqueue`, `read`,"
    " `operate`, `admin` and `payload`."
)

# --- examples -----------------------------------------------------------------------------------

JOB_ID: Final = "01983f5a-7c00-7000-8000-000000000001"
CONTROL_ID: Final = "01983f5a-7c00-7000-8000-00000000000c"
BULK_ID: Final = "01983f5a-7c00-7000-8000-00000000000b"
_NEXT: Final = "01983f5a-7c00-7000-8000-000000000000"
_REQUEST: Final = {
    "tenant_id": "acme",
    "use_case": "notifications",
    "type": "send_email",
    "payload": {"to": "a@b.example", "subject": "Hello"},
}
_REQUEST_IN_FULL: Final = _REQUEST | {
    "queue": "notifications",
    "id": JOB_ID,
    "run_at": "2026-03-01T09:00:00+01:00",
    "delay_tolerance_seconds": 30,
    "max_attempts": 5,
    "backoff_policy": {
        "type": "exponential",
        "base_delay_seconds": 10,
        "max_delay_seconds": 600,
        "jitter": 0.2,
    },
    "dedupe_key": "welcome-4711",
    "priority": 10,
    "headers": {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    "labels": {"order": "1017"},
}
_JOB: Final = {
    "id": JOB_ID,
    "tenant_id": "acme",
    "use_case": "notifications",
    "type": "send_email",
    "queue": "notifications",
    "status": "pending",
    "payload": _REQUEST["payload"],
    "run_at": "2026-03-01T08:00:00Z",
    "deadline_at": "2026-03-01T08:00:30Z",
    "priority": 10,
    "attempts": 0,
    "max_attempts": 5,
    "backoff_policy": _REQUEST_IN_FULL["backoff_policy"],
    "lease_expires_at": None,
    "last_error": None,
    "dedupe_key": "welcome-4711",
    "enqueue_failed": False,
    "created_at": "2026-02-28T12:00:00Z",
    "updated_at": "2026-02-28T12:00:00Z",
    "lease_seq": 0,
    "started_at": None,
    "worker_id": None,
    "cancel_requested": False,
    "dispatches": 0,
    "crashes": 0,
    "finished_at": None,
    "errors": [],
    "headers": _REQUEST_IN_FULL["headers"],
    "labels": _REQUEST_IN_FULL["labels"],
    "result": None,
    "first_deadline_at": None,
    "first_started_at": None,
    "delay_tolerance_seconds": 30.0,
    "phase": "pending",
}
_OUTLOOK: Final = {
    "ahead": 240,
    "at_least": False,
    "required_rate": 8.0,
    "capacity_rate": 20.0,
    "expected_start_in_seconds": 12.05,
    "can_be_met": True,
}
_CANCELLED: Final = _JOB | {
    "status": "cancelled",
    "phase": "cancelled",
    "updated_at": "2026-02-28T12:01:00Z",
    "finished_at": "2026-02-28T12:01:00Z",
}

# --- problems -----------------------------------------------------------------------------------

_EXAMPLES: Final[dict[Problem, tuple[int, str, dict[str, Any]]]] = {
    Problem.UNAUTHENTICATED: (401, TOKEN_REQUIRED, {}),
    Problem.FORBIDDEN: (403, "the token may not be used for this", {}),
    Problem.JOB_NOT_FOUND: (404, f"no job has the id {JOB_ID}", {"job_id": JOB_ID}),
    Problem.CONTROL_NOT_FOUND: (
        404,
        f"no control or operation has the id {CONTROL_ID}",
        {"id": CONTROL_ID},
    ),
    Problem.BULK_NOT_FOUND: (
        404,
        f"no bulk operation has the id {BULK_ID}",
        {"id": BULK_ID},
    ),
    Problem.CONTROL_CHANGED: (
        409,
        "a control of version 7 stands there, by 'ada': the provider is down; look at what stands,"
        " and say its version to change it",
        {"version": 7, "actor": "ada", "reason": "the provider is down"},
    ),
    Problem.ILLEGAL_TRANSITION: (
        409,
        "a job that is succeeded cannot be retried",
        {"state": "succeeded", "event": "Retried", "why": ""},
    ),
    Problem.STORE_REFUSED: (
        409,
        f"CheckViolationError by jobs_one_region: {REFUSED}",
        {"refusal": "CheckViolationError by jobs_one_region"},
    ),
    Problem.BODY_TOO_SLOW: (408, "the body has to arrive within 30 seconds", {}),
    Problem.BODY_TOO_LARGE: (413, "the body may have at most 2097152 bytes", {}),
    Problem.UNSUPPORTED_MEDIA_TYPE: (415, "the content type must be application/json", {}),
    Problem.INVALID_JOB: (
        422,
        "priority: must be an integer from -32768 to 32767",
        {"field": "priority", "problem": "must be an integer from -32768 to 32767"},
    ),
    Problem.QUOTA_EXCEEDED: (
        429,
        "tenant 'acme' may have 100 pending jobs; it has 100 and asked for 1 more",
        {"tenant_id": "acme", "limit": 100, "used": 100, "asked": 1},
    ),
    Problem.UNAVAILABLE: (503, UNAVAILABLE, {}),
    Problem.INTERNAL_ERROR: (500, INTERNAL, {}),
}


def problems(*types: Problem) -> Responses:
    """Return the responses of these problems, and of those that any route can answer with."""
    everywhere = (
        Problem.UNAUTHENTICATED,
        Problem.FORBIDDEN,
        Problem.INVALID_JOB,
        Problem.UNAVAILABLE,
        Problem.INTERNAL_ERROR,
    )
    by_status: dict[int | str, list[Problem]] = {}
    for type in (*everywhere, *types):
        by_status.setdefault(_EXAMPLES[type][0], []).append(type)
    return {status: _problem(by_status[status]) for status in sorted(by_status, key=int)}


def _problem(types: Sequence[Problem]) -> dict[str, Any]:
    """Return the response of a status, which may stand for several problems."""
    titles = [TITLES[type] for type in types]
    schemata = [schemas.problem_schema(type, _EXAMPLES[type][0], TITLES[type]) for type in types]
    content: dict[str, Any]
    if len(types) == 1:
        content = {"schema": schemata[0], "example": _example(types[0])}
    else:
        examples = {type.name.lower(): {"value": _example(type)} for type in types}
        content = {"schema": {"oneOf": schemata}, "examples": examples}
    response: dict[str, Any] = {
        "description": f"{', or: '.join(titles)}.",
        "content": {PROBLEM_MEDIA_TYPE: content},
    }
    if Problem.UNAVAILABLE in types:
        response["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait before the call is repeated.",
                "schema": {"type": "integer", "const": RETRY_AFTER_SECONDS},
            }
        }
    return response


def _example(type: Problem) -> dict[str, Any]:
    status, detail, members = _EXAMPLES[type]
    told = {"type": type.value, "title": TITLES[type], "status": status, "detail": detail}
    return told | members


_MIGRATION_DUE: Final = {
    "type": "string",
    "const": MIGRATION_DUE,
    "description": "There when that is why.",
}

# --- parts of a route ---------------------------------------------------------------------------


def body(schema: Schema, **examples: object) -> dict[str, Any]:
    told = {name: {"value": value} for name, value in examples.items()}
    return {
        "required": True,
        "content": {"application/json": {"schema": schema, "examples": told}},
    }


def answer(description: str, schema: Schema, example: object) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": schema, "example": example}},
    }


def query(name: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


JOB_PATH: Final = {
    "name": "job_id",
    "in": "path",
    "required": True,
    "schema": schemas.UUID,
    "description": "The job's id.",
    "example": JOB_ID,
}
TENANT: Final = query(
    "tenant_id", schemas.NAME, "Whose job it has to be; another's looks like a missing one."
)


def route(
    operation_id: str,
    summary: str,
    description: str,
    answers: Responses,
    problems: Responses,
    *,
    status_code: int = 200,
    **described: Any,
) -> Description:
    return {
        "operation_id": operation_id,
        "summary": summary,
        "description": description,
        "responses": answers | problems,
        "status_code": status_code,
        "response_description": answers[status_code]["description"],
        "response_model": None,
        "openapi_extra": described,
    }


# --- routes -------------------------------------------------------------------------------------

READ: Final = (
    Problem.BODY_TOO_SLOW,
    Problem.BODY_TOO_LARGE,
    Problem.UNSUPPORTED_MEDIA_TYPE,
)
_TAKEN: Final = (*READ, Problem.QUOTA_EXCEEDED, Problem.STORE_REFUSED)
_CHANGED: Final = (Problem.JOB_NOT_FOUND, Problem.ILLEGAL_TRANSITION, Problem.STORE_REFUSED)

ENQUEUE_JOB: Final = route(
    "enqueue_job",
    "Enqueue one job",
    "Returns after the commit: from then on the job exists until it has ended and its retention"
    " is over. Repeating a call that carries an `id`, or the `dedupe_key` of a job that lives,"
    " creates nothing and answers with the job there is. Unknown fields are refused.",
    {
        201: answer("The job was enqueued.", schemas.ENQUEUED, {"job_id": JOB_ID}),
        200: answer(
            "The job was there already.", schemas.ENQUEUED, {"job_id": JOB_ID, "duplicate": True}
        ),
    },
    problems(*_TAKEN),
    status_code=201,
    requestBody=body(schemas.ENQUEUE_REQUEST, least=_REQUEST, full=_REQUEST_IN_FULL),
)
ENQUEUE_JOBS: Final = route(
    "enqueue_jobs",
    "Enqueue many jobs",
    f"Enqueues up to {JOBS_PER_CALL_MAX} jobs in one transaction, all or nothing: when one is"
    " invalid, over quota or of a tenant out of reach, none is enqueued. The answers are in order.",
    {
        201: answer(
            "The jobs were enqueued; some may have been there already.",
            schemas.ENQUEUED_BATCH,
            {"jobs": [{"job_id": JOB_ID}, {"job_id": _NEXT, "duplicate": True}]},
        ),
        200: answer(
            "All of the jobs were there already.",
            schemas.ENQUEUED_BATCH,
            {"jobs": [{"job_id": JOB_ID, "duplicate": True}]},
        ),
    },
    problems(*_TAKEN),
    status_code=201,
    requestBody=body(schemas.BATCH_REQUEST, two={"jobs": [_REQUEST_IN_FULL, _REQUEST]}),
)
FORESEE_JOB: Final = route(
    "foresee_job",
    "Ask whether a job would start in time",
    "Takes the body of an enqueue and enqueues nothing. Answers how many jobs stand before it, and"
    " whether live workers can start them all by its deadline: an estimate, which says nothing"
    " about what is enqueued later, fair shares and quotas.",
    {200: answer("How it looks now.", schemas.OUTLOOK, _OUTLOOK)},
    problems(*READ),
    requestBody=body(schemas.ENQUEUE_REQUEST, least=_REQUEST, full=_REQUEST_IN_FULL),
)
GET_JOB: Final = route(
    "get_job",
    "Look at one job",
    "Returns the full record. A job of a tenant out of reach looks like a missing one.",
    {200: answer("The job as it stands.", schemas.JOB, _JOB)},
    problems(Problem.JOB_NOT_FOUND),
    parameters=[JOB_PATH, TENANT],
)
LIST_JOBS: Final = route(
    "list_jobs",
    "List jobs",
    "Returns jobs, newest first, one page at a time: pass `next_cursor` as `cursor`, with the"
    " same filters, until it is null. A token that reaches several tenants has to name one.",
    {200: answer("One page of jobs.", schemas.JOB_PAGE, {"jobs": [_JOB], "next_cursor": _NEXT})},
    problems(),
    parameters=[
        query("tenant_id", schemas.NAME, "Only jobs of this tenant."),
        query("use_case", schemas.NAME, "Only jobs of this use case."),
        query("status", schemas.STATUS, "Only jobs with this status."),
        query(
            "limit",
            {
                "type": "integer",
                "minimum": 1,
                "maximum": JOBS_PER_PAGE_MAX,
                "default": PAGE_DEFAULT,
            },
            "How many jobs a page has at most; jobs that are large make it shorter.",
        ),
        query("cursor", schemas.UUID, "Where the page begins: `next_cursor` of the last one."),
    ],
)
CANCEL_JOB: Final = route(
    "cancel_job",
    "Cancel a job",
    "Ends a job that nobody executes at once, and asks the worker of one that is being executed"
    " to stop; repeating it says so again. A job that ended otherwise is a 409.",
    {200: answer("The job as it then stands.", schemas.JOB, _CANCELLED)},
    problems(*_CHANGED),
    parameters=[JOB_PATH, TENANT],
)
RETRY_JOB: Final = route(
    "retry_job",
    "Give a job another life",
    "Makes a dead or cancelled job pending and due, its attempts counted anew and its history"
    " kept. Any other job is a 409.",
    {200: answer("The job as it then stands.", schemas.JOB, _JOB)},
    problems(*_CHANGED),
    parameters=[JOB_PATH, TENANT],
)
HEALTH_LIVE: Final = route(
    "health_live",
    "Tell whether the process lives",
    "Asks for no token.",
    {200: answer("It does.", schemas.health_schema("live"), {"status": "live"})},
    {},
    tags=["health"],
)
HEALTH_READY: Final = route(
    "health_ready",
    "Tell whether the process can serve",
    "Asks for no token.",
    {
        200: answer("It can.", schemas.health_schema("ready"), {"status": "ready"}),
        503: answer(
            "It cannot now.",
            schemas.health_schema("not ready", problem=_MIGRATION_DUE),
            {"status": "not ready"},
        ),
    },
    {},
    tags=["health"],
)

_BY_NAME: Final = {
    each["operation_id"]: each
    for each in (
        ENQUEUE_JOB,
        ENQUEUE_JOBS,
        FORESEE_JOB,
        GET_JOB,
        LIST_JOBS,
        CANCEL_JOB,
        RETRY_JOB,
    )
}


def with_nulls(document: dict[str, Any], further: Sequence[Description] = ()) -> dict[str, Any]:
    """Put the nulls of the examples back into an OpenAPI document: FastAPI leaves them out."""
    by_name = _BY_NAME | {each["operation_id"]: each for each in further}
    for path in document["paths"].values():
        for operation in path.values():
            if (described := by_name.get(operation.get("operationId"))) is not None:
                answers = described["responses"].items()
                operation["responses"] = {str(status): answer for status, answer in answers}
    return document
