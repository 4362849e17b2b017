"""JSON schemas of what goes over the wire, with the bounds that the domain enforces.

Each is whole in itself, because a router cannot add components to the document of the
application that includes it; `openapi.py` takes out those that have a title.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from async_jobs.adapters.http.wire import Problem
from async_jobs.domain.backoff import DELAY_SECONDS_MAX, BackoffPolicy, BackoffType
from async_jobs.domain.bounds import (
    ERROR_CHARACTERS_MAX,
    ERRORS_KEPT_MAX,
    HEADER_CHARACTERS_MAX,
    HEADERS_MAX,
    JOBS_PER_CALL_MAX,
    JOBS_PER_PAGE_MAX,
    LABEL_CHARACTERS_MAX,
    LABEL_NAME_CHARACTERS_MAX,
    LABELS_MAX,
    NAME_CHARACTERS_MAX,
    NESTING_MAX,
    PAYLOAD_BYTES_MAX,
    PRIORITY_MAX,
    PRIORITY_MIN,
)
from async_jobs.domain.job import JobStatus, Phase
from async_jobs.domain.limits import DELAY_TOLERANCE_MAX, MAX_ATTEMPTS_MAX

Schema: TypeAlias = dict[str, Any]


def object_schema(title: str, required: dict[str, Schema], optional: dict[str, Schema]) -> Schema:
    """Return the schema of an object that has these fields and no others."""
    return {
        "title": title,
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


def described(schema: Schema, description: str) -> Schema:
    return schema | {"description": description}


def optional(schema: Schema) -> Schema:
    """Return the schema of a value that may also be null."""
    return {"anyOf": [schema, {"type": "null"}]}


# --- values -------------------------------------------------------------------------------------

NAME: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": NAME_CHARACTERS_MAX,
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
}
UUID: Final[Schema] = {"type": "string", "format": "uuid"}
INSTANT: Final[Schema] = {"type": "string", "format": "date-time"}
TOLERANCE: Final[Schema] = {
    "type": "number",
    "minimum": 0,
    "maximum": int(DELAY_TOLERANCE_MAX.total_seconds()),
}
ATTEMPTS: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": MAX_ATTEMPTS_MAX}
PRIORITY: Final[Schema] = {"type": "integer", "minimum": PRIORITY_MIN, "maximum": PRIORITY_MAX}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
PAYLOAD: Final[Schema] = {"type": "object"}
_PAYLOAD_BOUNDS: Final = (
    f"at most {PAYLOAD_BYTES_MAX // 1024} KiB encoded and {NESTING_MAX} levels, integers of 64"
    " bits, finite numbers, no NUL and no lone surrogates"
)
STATUS: Final[Schema] = {
    "title": "JobStatus",
    "type": "string",
    "enum": [each.value for each in JobStatus],
}
_DELAY: Final[Schema] = {"type": "number", "minimum": 0, "maximum": int(DELAY_SECONDS_MAX)}
_BACKOFF_FIELDS: Final[dict[str, Schema]] = {
    "type": {"type": "string", "enum": [each.value for each in BackoffType]},
    "base_delay_seconds": _DELAY,
    "max_delay_seconds": _DELAY,
    "jitter": {"type": "number", "minimum": 0, "maximum": 1},
}
_DEFAULT_BACKOFF: Final = BackoffPolicy()
HEADERS: Final[Schema] = {
    "type": "object",
    "maxProperties": HEADERS_MAX,
    "propertyNames": NAME,
    "additionalProperties": {
        "type": "string",
        "maxLength": HEADER_CHARACTERS_MAX,
        "pattern": r"^[^\u0000]*$",
    },
}

LABELS: Final[Schema] = {
    "type": "object",
    "maxProperties": LABELS_MAX,
    "propertyNames": NAME | {"maxLength": LABEL_NAME_CHARACTERS_MAX},
    "additionalProperties": NAME | {"maxLength": LABEL_CHARACTERS_MAX},
}

# --- requests -----------------------------------------------------------------------------------

ENQUEUE_REQUEST: Final = object_schema(
    "EnqueueJobRequest",
    {
        "tenant_id": described(NAME, "Whose job it is."),
        "use_case": described(NAME, "A configured use case: its capacity and defaults apply."),
        "type": described(NAME, "Which handler executes it."),
        "payload": described(PAYLOAD, f"What the handler gets: {_PAYLOAD_BOUNDS}."),
    },
    {
        "queue": described(
            optional(NAME), "A configured queue; that of the use case when left out."
        ),
        "id": described(
            optional(UUID),
            "Chosen by the caller, it makes repeating the call harmless; else made here.",
        ),
        "run_at": described(
            optional(INSTANT),
            "Earliest start, with an offset from UTC, at most 366 days ahead; now when left out.",
        ),
        "delay_tolerance_seconds": described(
            optional(TOLERANCE), "How late after `run_at` a start is still on time."
        ),
        "max_attempts": described(optional(ATTEMPTS), "How often it is tried at most."),
        "backoff_policy": optional(
            object_schema(
                "BackoffPolicyRequest",
                {},
                {
                    name: schema | {"default": getattr(_DEFAULT_BACKOFF, name)}
                    for name, schema in _BACKOFF_FIELDS.items()
                },
            )
        ),
        "dedupe_key": described(
            optional(NAME), "While a job with this key lives, no second one is made."
        ),
        "priority": described(
            optional(PRIORITY), "Higher goes first among the tenant's own jobs; 0 when left out."
        ),
        "headers": described(optional(HEADERS), "Trace context and the like, carried along."),
        "labels": described(optional(LABELS), "What searches find it by."),
    },
)
BATCH_REQUEST: Final = object_schema(
    "EnqueueJobsRequest",
    {"jobs": {"type": "array", "items": ENQUEUE_REQUEST, "maxItems": JOBS_PER_CALL_MAX}},
    {},
)

# --- answers ------------------------------------------------------------------------------------

ENQUEUED: Final = object_schema(
    "Enqueued",
    {"job_id": UUID},
    {
        "duplicate": {
            "type": "boolean",
            "const": True,
            "description": "There when the job was there already.",
        }
    },
)
ENQUEUED_BATCH: Final = object_schema(
    "EnqueuedJobs",
    {"jobs": {"type": "array", "items": ENQUEUED, "maxItems": JOBS_PER_CALL_MAX}},
    {},
)
JOB: Final = object_schema(
    "Job",
    {
        "id": UUID,
        "tenant_id": NAME,
        "use_case": NAME,
        "type": NAME,
        "queue": NAME,
        "status": STATUS,
        "payload": PAYLOAD,
        "run_at": INSTANT,
        "delay_tolerance_seconds": TOLERANCE,
        "deadline_at": described(INSTANT, "`run_at` and the tolerance."),
        "priority": PRIORITY,
        "attempts": described(COUNT, "How many were started and not refunded."),
        "max_attempts": ATTEMPTS,
        "backoff_policy": object_schema("BackoffPolicy", _BACKOFF_FIELDS, {}),
        "lease_expires_at": optional(INSTANT),
        "last_error": optional({"type": "string", "maxLength": ERROR_CHARACTERS_MAX}),
        "dedupe_key": optional(NAME),
        "enqueue_failed": {
            "type": "boolean",
            "description": "Whether its last hand-off to the queue failed.",
        },
        "created_at": INSTANT,
        "updated_at": INSTANT,
        "lease_seq": described(COUNT, "Grows at every lease: the fencing number."),
        "started_at": described(optional(INSTANT), "When its attempt began; null while it waits."),
        "worker_id": optional({"type": "string"}),
        "cancel_requested": {"type": "boolean"},
        "dispatches": described(COUNT, "Hand-offs that nobody took, since the last one taken."),
        "crashes": described(COUNT, "How often its worker died; with the fifth it is dead."),
        "finished_at": optional(INSTANT),
        "errors": {
            "type": "array",
            "maxItems": ERRORS_KEPT_MAX,
            "items": object_schema(
                "AttemptError",
                {
                    "attempt": COUNT,
                    "at": INSTANT,
                    "error": {"type": "string", "maxLength": ERROR_CHARACTERS_MAX},
                },
                {},
            ),
        },
        "headers": HEADERS,
        "labels": LABELS,
        "phase": {
            "type": "string",
            "enum": list(Phase),
            "description": "The status, but for what runs: `handed_off` waits for a worker,"
            " `claimed` is executed, `cancelling` is executed and asked to stop.",
        },
        "result": {"description": "What the handler returned: any JSON value."},
        "first_deadline_at": described(
            optional(INSTANT),
            "The deadline that was promised first, once retries or waits have moved `deadline_at`.",
        ),
        "first_started_at": described(
            optional(INSTANT),
            "When it started first, once that attempt has ended; null of a job that succeeded"
            " at that, whose `started_at` it is.",
        ),
    },
    {},
)
_RATE: Final[Schema] = {"type": "number", "minimum": 0}
OUTLOOK: Final = object_schema(
    "Outlook",
    {
        "ahead": described(COUNT, "How many jobs that wait have a deadline no later than its own."),
        "at_least": {
            "type": "boolean",
            "description": "Whether more may be ahead than were counted.",
        },
        "required_rate": described(
            optional(_RATE), "Starts per second needed until its deadline; null: no time is left."
        ),
        "capacity_rate": described(_RATE, "Starts per second that the slots can make."),
        "expected_start_in_seconds": described(
            optional(_RATE), "When it starts if all ahead start before it; null without slots."
        ),
        "can_be_met": {
            "type": "boolean",
            "description": "Whether the required rate is at most the capacity's.",
        },
    },
    {},
)
UNREADABLE_JOB: Final = object_schema(
    "UnreadableJob",
    {
        "id": UUID,
        "tenant_id": {"type": "string"},
        "use_case": {"type": "string"},
        "status": described({"type": "string"}, "As it is stored; it may be none of a job's."),
        "problem": described({"type": "string"}, "Why it cannot be read; quotes no payload."),
    },
    {},
)
JOB_PAGE: Final = object_schema(
    "JobPage",
    {
        "jobs": {"type": "array", "items": JOB, "maxItems": JOBS_PER_PAGE_MAX},
        "next_cursor": described(
            optional(UUID), "What to ask for the next page with; null on the last one."
        ),
    },
    {
        "unreadable": {
            "type": "array",
            "minItems": 1,
            "maxItems": JOBS_PER_PAGE_MAX,
            "items": UNREADABLE_JOB,
            "description": "There when rows of the page are no jobs any more: newest first. They"
            " count towards its limit.",
        }
    },
)

# --- problems -----------------------------------------------------------------------------------

_FIELD_PROBLEM: Final[dict[str, Schema]] = {
    "field": {"type": "string", "description": "The path of the value, as the caller wrote it."},
    "problem": {"type": "string", "description": "What is allowed."},
}
_MEMBERS: Final[dict[Problem, dict[str, Schema]]] = {
    Problem.INVALID_JOB: _FIELD_PROBLEM,
    Problem.QUOTA_EXCEEDED: {
        "tenant_id": NAME,
        "limit": described(COUNT, "How many pending jobs the tenant may have."),
        "used": described(COUNT, "How many it had."),
        "asked": described(COUNT, "How many new ones were asked for."),
    },
    Problem.JOB_NOT_FOUND: {"job_id": UUID},
    Problem.CONTROL_NOT_FOUND: {"id": UUID},
    Problem.BULK_NOT_FOUND: {"id": UUID},
    Problem.CONTROL_CHANGED: {
        "version": described(COUNT, "Of the control that stands; 0 where there is none."),
        "actor": described({"type": "string"}, "Who put it."),
        "reason": described({"type": "string"}, "Why."),
    },
    Problem.ILLEGAL_TRANSITION: {
        "state": {"type": "string"},
        "event": {"type": "string"},
        "why": {"type": "string"},
    },
    Problem.STORE_REFUSED: {
        "refusal": {
            "type": "string",
            "description": "Its kind, and the constraint by name, if it is one.",
        }
    },
}
_FURTHER: Final[dict[Problem, dict[str, Schema]]] = {
    Problem.INVALID_JOB: {
        "errors": {
            "type": "array",
            "minItems": 2,
            "items": object_schema("FieldProblem", _FIELD_PROBLEM, {}),
            "description": "There when several fields are wrong: all of them, in order.",
        }
    },
    Problem.JOB_NOT_FOUND: {
        "unreadable": {
            "type": "string",
            "description": "There when the row is there and cannot be read: its columns.",
        }
    },
}


def problem_schema(type: Problem, status: int, title: str) -> Schema:
    """Return the schema of one type of problem document, with its own members."""
    common: dict[str, Schema] = {
        "type": {"type": "string", "const": type.value},
        "title": {"type": "string", "const": title},
        "status": {"type": "integer", "const": status},
        "detail": {"type": "string"},
    }
    name = "".join(word.capitalize() for word in type.name.split("_"))
    return object_schema(f"{name}Problem", common | _MEMBERS.get(type, {}), _FURTHER.get(type, {}))


def health_schema(status: str, **further: Schema) -> Schema:
    """Return the schema of what a health route answers with; `further` may be missing."""
    return {
        "type": "object",
        "properties": {"status": {"type": "string", "const": status}} | further,
        "required": ["status"],
        "additionalProperties": False,
    }


# --- components ---------------------------------------------------------------------------------


def with_components(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document in which every schema with a title is a component, told once."""
    components: dict[str, Schema] = {}
    taken_out = {
        name: part if name == "components" else _without_titled(part, components)
        for name, part in document.items()
    }
    known = taken_out.get("components", {})
    schemas = known.get("schemas", {}) | components
    return taken_out | {"components": known | {"schemas": dict(sorted(schemas.items()))}}


def _without_titled(part: Any, components: dict[str, Schema]) -> Any:
    if isinstance(part, list):
        return [_without_titled(each, components) for each in part]
    if not isinstance(part, dict):
        return part
    found = {
        name: each if name in {"example", "examples"} else _without_titled(each, components)
        for name, each in part.items()
    }
    title = found.get("title")
    if not isinstance(title, str) or not isinstance(found.get("type"), str):
        return found
    components[title] = found
    return {"$ref": f"#/components/schemas/{title}"}
