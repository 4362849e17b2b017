"""What the OpenAPI document tells of the routes of reports."""

from __future__ import annotations

from typing import Final

from async_jobs.domain.tallies import COUNTS, HISTOGRAMS, Dimension
from async_jobs.entrypoints.http.openapi.described import answer, problems, query, route
from async_jobs.entrypoints.http.openapi.schemas import (
    COUNT,
    INSTANT,
    NAME,
    Schema,
    described,
    object_schema,
    optional,
)

_SHARE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}
_NUMBER: Final[Schema] = {"type": "number", "minimum": 0}
_DIMENSION: Final[Schema] = {"type": "string", "enum": list(Dimension)}
_ATTEMPTS: Final = [
    name.removeprefix("attempts_") for name in COUNTS if name.startswith("attempts_")
]
_ROW: Final = object_schema(
    "Attained",
    {
        "starting": described(INSTANT, "The beginning of the step, or of the whole time."),
        "use_case": described(optional(NAME), "null: they are not told apart."),
        "tenant_id": described(
            optional(NAME), "null: they are not told apart, or it is all of whom little is told."
        ),
        "type": described(optional(NAME), "null: they are not told apart."),
        "attainment": described(
            optional(_SHARE),
            "The share of first starts that were on time, of these and of what expired unstarted.",
        ),
        "on_time": described(COUNT, "First starts by the first deadline."),
        "late": described(COUNT, "First starts after it."),
        "unstarted": described(COUNT, "Jobs that expired and had never started."),
        "enqueued": described(COUNT, "But for those in transactions of callers."),
        "succeeded": COUNT,
        "dead": COUNT,
        "cancelled": COUNT,
        "expired": COUNT,
        "attempts": described(
            object_schema("Attempts", dict.fromkeys(_ATTEMPTS, COUNT), {}),
            "Attempts that ended otherwise than in success, by how.",
        ),
        "tolerance_used_p50": described(optional(_NUMBER), "Of first starts; 1 is the deadline."),
        "tolerance_used_p95": optional(_NUMBER),
        "start_latency_p50": described(optional(_NUMBER), "Of first starts, in seconds."),
        "start_latency_p95": optional(_NUMBER),
        "run_time_p50": described(optional(_NUMBER), "Of attempts, in seconds."),
        "run_time_p95": optional(_NUMBER),
    },
    {},
)
_ATTAINMENT: Final = object_schema(
    "Attainment",
    {
        "at": described(INSTANT, "When it was asked."),
        "since": described(INSTANT, "Rounded down to what is kept: minutes, or hours."),
        "until": INSTANT,
        "step_seconds": described(optional(_NUMBER), "null: the whole time is one step."),
        "by": described({"type": "array", "items": _DIMENSION}, "What is told apart."),
        "rows": described(
            {"type": "array", "items": _ROW}, "In the order of time, use case, tenant and type."
        ),
    },
    {},
)
_EXAMPLE: Final = {
    "at": "2026-03-01T08:00:05Z",
    "since": "2026-02-28T08:00:00Z",
    "until": "2026-03-01T08:00:05Z",
    "step_seconds": None,
    "by": ["use_case"],
    "rows": [
        {
            "starting": "2026-02-28T08:00:00Z",
            "use_case": "reports",
            "tenant_id": None,
            "type": None,
            "attainment": 0.99,
            "on_time": 198,
            "late": 1,
            "unstarted": 1,
            "enqueued": 201,
            "succeeded": 196,
            "dead": 2,
            "cancelled": 1,
            "expired": 1,
            "attempts": dict.fromkeys(_ATTEMPTS, 0) | {"failed": 4},
        }
        | {f"{name}_p{part}": 0.5 for name in HISTOGRAMS for part in (50, 95)}
    ],
}
ATTAINMENT: Final = route(
    "attainment",
    "Ask which share of jobs started in time",
    "Sums what the processes have counted, ten seconds ago at the latest: first starts by the"
    " deadline that was promised first, how jobs and attempts ended, and how long starts and runs"
    " took, out of buckets. A token that is limited to tenants is told of these.",
    {200: answer("What became of them.", _ATTAINMENT, _EXAMPLE)},
    problems(),
    parameters=[
        query("since", INSTANT, "From when on; by default a day before `until`."),
        query("until", INSTANT, "Up to when; by default now."),
        query(
            "step_seconds",
            {"type": "integer", "minimum": 60, "maximum": 31_536_000, "multipleOf": 60},
            "The length of a step; without it the whole time is one. At most 1,000 steps.",
        ),
        query("use_case", NAME, "Only jobs of this use case."),
        query("tenant_id", NAME, "Only jobs of this tenant; may be given several times.")
        | {"schema": {"type": "array", "items": NAME, "maxItems": 100}, "explode": True},
        query("type", NAME, "Only jobs of this type."),
        query("by", {"type": "array", "items": _DIMENSION}, "What to tell apart, with commas.")
        | {"style": "form", "explode": False},
    ],
)
