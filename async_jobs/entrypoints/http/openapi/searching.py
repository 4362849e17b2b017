"""What the OpenAPI document tells of the routes of searches."""

from __future__ import annotations

from typing import Any, Final

from async_jobs.domain.bounds import JOBS_PER_CALL_MAX, JOBS_PER_PAGE_MAX
from async_jobs.domain.error_groups import GROUPS_MAX
from async_jobs.domain.filters import NAMES_MAX, SPANS, TEXT_CHARACTERS
from async_jobs.entrypoints.http.bodies import PAGE_DEFAULT
from async_jobs.entrypoints.http.openapi.described import (
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
    JOB_PAGE,
    LABELS,
    NAME,
    STATUS,
    UUID,
    Schema,
    described,
    object_schema,
    optional,
)
from async_jobs.entrypoints.http.wanted import FORMATS

_TEXT: Final[Schema] = {"type": "string"}
_FINGERPRINT: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
_CHARGED: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 1_000}
_PART: Final[Schema] = {
    "type": "string",
    "minLength": TEXT_CHARACTERS[0],
    "maxLength": TEXT_CHARACTERS[1],
    "pattern": r"^[^\u0000]*$",
}
_WINDOW: Final = (
    " Each job is read through for it: name ids or an error group beside it, or a tenant or use"
    " cases and `created.since`."
)


def _several(items: Schema, most: int) -> Schema:
    return optional({"type": "array", "items": items, "minItems": 1, "maxItems": most})


_SPAN: Final = object_schema(
    "Span",
    {},
    {
        "since": described(optional(INSTANT), "From then on."),
        "until": described(optional(INSTANT), "Before that."),
    },
)
FILTER: Final = object_schema(
    "JobFilter",
    {},
    {
        "ids": _several(UUID, JOBS_PER_CALL_MAX),
        "tenant_id": described(optional(NAME), "Whose; needed by a token of several tenants."),
        "use_cases": _several(NAME, NAMES_MAX),
        "types": _several(NAME, NAMES_MAX),
        "queues": _several(NAME, NAMES_MAX),
        "statuses": _several(STATUS, 5),
        "dedupe_key": optional(NAME),
        "labels": described(optional(LABELS), "All of these, each with just this value."),
        "trace_id": described(
            optional({"type": "string", "pattern": "^[0-9a-f]{32}$"}),
            "Of the job's `traceparent` header." + _WINDOW,
        ),
        **{name: optional(_SPAN) for name in SPANS},
        "attempts_min": optional(_CHARGED),
        "attempts_max": optional(_CHARGED),
        "error_group": described(optional(_FINGERPRINT), "The fingerprint of an error it met."),
        "payload_text": described(
            optional(_PART), "Part of a key or of a value of the payload." + _WINDOW
        ),
        "error_text": described(optional(_PART), "Part of its last error." + _WINDOW),
    },
) | {"description": "Jobs that meet all of the conditions that are given."}
_REQUEST: Final = object_schema(
    "SearchRequest",
    {},
    {
        "filter": optional(FILTER),
        "limit": optional({"type": "integer", "minimum": 1, "maximum": JOBS_PER_PAGE_MAX}),
        "cursor": described(optional(UUID), "The `next_cursor` of the page before."),
        "count": described(optional({"type": "boolean"}), "Count them; no page is returned."),
        "format": described(
            optional({"type": "string", "enum": list(FORMATS)}),
            "`ndjson`: a line for each job, and a last one with what else the page has.",
        ),
    },
)
_FOUND: Final = object_schema(
    "FoundPage",
    {
        "jobs": JOB_PAGE["properties"]["jobs"],
        "next_cursor": described(
            optional(UUID), "Where to go on, also after a short page; null if all were looked at."
        ),
        "complete": described({"type": "boolean"}, "Whether there are no further ones."),
        "looked_back_to": described(
            optional(INSTANT), "When the last job was created that was looked at."
        ),
    },
    {"unreadable": JOB_PAGE["properties"]["unreadable"]},
)
_COUNTED: Final = object_schema(
    "Counted",
    {
        "count": described(COUNT, "10,000 at most."),
        "at_least": described({"type": "boolean"}, "Whether there may be more."),
    },
    {},
)
_GROUP: Final = object_schema(
    "ErrorGroup",
    {
        "fingerprint": described(_FINGERPRINT, "What `error_group` of a filter finds the jobs by."),
        "use_case": NAME,
        "type": NAME,
        "message": described(_TEXT, "The last of them."),
        "count": COUNT,
        "first_seen": INSTANT,
        "last_seen": INSTANT,
        "job_id": described(UUID, "The job of the last one."),
    },
    {},
)
_GROUPS: Final = object_schema(
    "ErrorGroups",
    {
        "since": INSTANT,
        "until": INSTANT,
        "groups": {"type": "array", "items": _GROUP},
        "looked_back_to": described(
            optional(INSTANT), "How far, if there are more records than are looked at."
        ),
        "more": described({"type": "boolean"}, "Whether there are more groups."),
    },
    {},
)

# --- routes -------------------------------------------------------------------------------------

_DEAD: Final[dict[str, Any]] = {
    "filter": {
        "statuses": ["dead"],
        "types": ["send_email"],
        "created": {"since": "2026-03-01T08:00:00Z"},
    },
    "limit": 20,
}
_PAGE: Final[dict[str, Any]] = {
    "jobs": [],
    "next_cursor": None,
    "complete": True,
    "looked_back_to": None,
}
_ERRORS: Final = {
    "since": "2026-03-01T08:00:00Z",
    "until": "2026-03-02T08:00:00Z",
    "groups": [
        {
            "fingerprint": "5b2f6a0d91c4e873",
            "use_case": "notifications",
            "type": "send_email",
            "message": "TimeoutError: nothing was heard for 10 s",
            "count": 412,
            "first_seen": "2026-03-01T09:00:00Z",
            "last_seen": "2026-03-02T07:59:58Z",
            "job_id": "01983f5a-7c00-7000-8000-000000000001",
        }
    ],
    "looked_back_to": None,
    "more": False,
}
SEARCH: Final = route(
    "search_jobs",
    "Search for jobs",
    "Finds jobs by any of their conditions, newest first, and looks at 50,000 at most, at 5,000"
    " where it reads them through: then the page is short, says how far it looked back, and"
    f" `next_cursor` goes on. Without a limit a page has {PAGE_DEFAULT}. With `count` they are"
    " counted. A job whose id is neither a UUIDv7 nor of within a day of its creation may be missed"
    " by `created`.",
    {
        200: answer("One page, or how many there are.", {"anyOf": [_FOUND, _COUNTED]}, _PAGE)
        | {
            "content": {
                "application/json": {"schema": {"anyOf": [_FOUND, _COUNTED]}, "example": _PAGE},
                "application/x-ndjson": {"schema": _TEXT, "example": "{…}\n{…}\n"},
            }
        }
    },
    problems(*READ),
    requestBody=body(_REQUEST, dead=_DEAD, count={"filter": {"tenant_id": "acme"}, "count": True}),
)
ERRORS: Final = route(
    "error_groups",
    "Ask what goes wrong",
    "Tells the errors of a time by their cause, what happened most often first, out of the latest"
    " 50,000 attempt records. A token that reaches several tenants has to name one.",
    {200: answer("The groups.", _GROUPS, _ERRORS)},
    problems(),
    parameters=[
        query("since", INSTANT, "From when on; by default a day before `until`."),
        query("until", INSTANT, "Up to when; by default now."),
        query("tenant_id", NAME, "Only of this tenant's jobs."),
        query("use_case", NAME, "Only of jobs of this use case."),
        query(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": GROUPS_MAX, "default": PAGE_DEFAULT},
            "How many groups at most.",
        ),
    ],
)
ROUTES: Final = (SEARCH, ERRORS)
