"""What the OpenAPI document tells of the routes for operators."""

from __future__ import annotations

from typing import Any, Final

from async_jobs.adapters.http.wire import Problem
from async_jobs.domain.explain import NextTurn, Why
from async_jobs.domain.history import Outcome
from async_jobs.domain.job import Phase
from async_jobs.domain.timeline import Moment
from async_jobs.entrypoints.http.openapi.described import (
    JOB_ID,
    JOB_PATH,
    TENANT,
    answer,
    problems,
    query,
    route,
)
from async_jobs.entrypoints.http.openapi.schemas import (
    COUNT,
    INSTANT,
    NAME,
    UUID,
    Schema,
    described,
    object_schema,
    optional,
)

_TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_NUMBER: Final[Schema] = {"type": "number", "minimum": 0}
_OBJECT: Final[dict[str, Any]] = {"type": "object"}
_DATA: Final = described({"type": "object"}, "Its numbers, names and instants, by name.")
_CODE: Final = described(
    {"type": "string", "enum": list(Why)}, "Stable; later versions may have further ones."
)
_RATE: Final = described(
    optional(_NUMBER), "How many jobs of the use case started in a second lately."
)
_AT: Final = described(INSTANT, "When it was so.")
_AT_LEAST: Final = described(_FLAG, "Whether there may be more.")


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _counts(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


_FINDING: Final = object_schema(
    "Finding",
    {
        "code": _CODE,
        "sentence": described(_TEXT, "The same in words, with what to do."),
        "data": _DATA,
    },
    {},
)
_ESTIMATE: Final = object_schema(
    "Estimate",
    {
        "start_at": described(optional(INSTANT), "When it may start; null where it is unknown."),
        "position": described(optional(COUNT), "About how many starts there are until its own."),
        "at_least": _AT_LEAST,
        "starts_per_second": _RATE,
        "basis": described(_TEXT, "What it rests on, or why it is unknown."),
    },
    {},
)
_EXPLANATION: Final = object_schema(
    "Explanation",
    {
        "at": _AT,
        "job_id": UUID,
        "tenant_id": NAME,
        "use_case": NAME,
        "type": NAME,
        "phase": {"type": "string", "enum": list(Phase)},
        "sentence": described(_TEXT, "What matters most."),
        "reasons": described(_list(_FINDING), "All that holds, what matters most first."),
        "next_turn": described(
            optional({"type": "string", "enum": list(NextTurn)}),
            "What the next turn does with it; null for what is not pending and due.",
        ),
        "estimate": optional(_ESTIMATE),
    },
    {},
)
_ENTRY: Final = object_schema(
    "TimelineEntry",
    {
        "at": described(INSTANT, "When."),
        "moment": described(
            {"type": "string", "enum": list(Moment)}, "Later versions may have further ones."
        ),
        "attempt": described(optional(COUNT), "How many attempts had been charged."),
        "lease_seq": described(optional(COUNT), "During which lease."),
        "worker_id": described(optional(_TEXT), "Who had it."),
        "outcome": described(
            optional({"type": "string", "enum": list(Outcome)}),
            "How the attempt, or the job, ended; later versions may have further ones.",
        ),
        "ran_seconds": described(optional(_NUMBER), "From its start until then."),
        "error": described(optional(_TEXT), "What the job says of it."),
        "fingerprint": described(optional(_TEXT), "The same for errors of one cause."),
        "traceback": described(
            optional(_TEXT), "Places in the code, innermost first, a line each; no values."
        ),
    },
    {},
)
_HISTORY: Final = object_schema(
    "JobHistory",
    {
        "at": _AT,
        "job_id": UUID,
        "tenant_id": NAME,
        "use_case": NAME,
        "type": NAME,
        "phase": {"type": "string", "enum": list(Phase)},
        "entries": described(_list(_ENTRY), "In the order of time."),
        "cut": described(_FLAG, "Whether the oldest records are left out."),
    },
    {},
)
_WAITING: Final = object_schema(
    "Waiting",
    {
        "at": _AT,
        "use_case": optional(NAME),
        "tenant_id": optional(NAME),
        "pending": described(COUNT, "How many wait, due or not."),
        "at_least": _AT_LEAST,
        "looked_at": described(COUNT, "At how many that are due a turn looks."),
        "whole": described(_FLAG, "Whether these are all that are due."),
        "sentence": described(_TEXT, "What matters most."),
        "reasons": described(
            _list(
                object_schema(
                    "WaitingReason",
                    {
                        "code": _CODE,
                        "jobs": described(COUNT, "Of how many of those looked at."),
                        "sentence": _TEXT,
                        "change": described(_TEXT, "What would have to change for them to start."),
                        "data": _DATA,
                    },
                    {},
                )
            ),
            "The most frequent first.",
        ),
    },
    {},
)
_WORKER: Final = object_schema(
    "Worker",
    {
        "worker_id": _TEXT,
        "queues": _list(_TEXT),
        "slots": COUNT,
        "busy": COUNT,
        "host": _TEXT,
        "version": _TEXT,
        "seen_at": INSTANT,
        "alive_until": INSTANT,
        "run_times": described(_counts(_NUMBER), "Mean seconds of an attempt, by job type."),
        "transport": _TEXT,
        "types": described(optional(_list(_TEXT)), "The job types it knows; null: it says none."),
    },
    {},
)
_SCHEDULER: Final = object_schema(
    "Scheduler",
    {
        "scheduler_id": _TEXT,
        "host": _TEXT,
        "version": _TEXT,
        "ticked_at": described(INSTANT, "When it told last that it ticks."),
        "tick_seconds": described(_NUMBER, "How long that tick took."),
        "alive_until": INSTANT,
        "transport": _TEXT,
        "leads": described(_list(_TEXT), "The use cases of which it held the turn."),
        "limits": described(_counts(COUNT), "The capacity it keeps, by use case."),
        "settings": described(_TEXT, "A digest of its limits: with the same they decide alike."),
        "start_rates": described(_counts(_NUMBER), "Starts per second lately, by use case."),
        "hand_off_seconds": _NUMBER,
        "turnovers": {"type": "object"},
        "closed": described(_list(_TEXT), "Queues whose transport accepted nothing lately."),
        "measures": described({"type": "boolean"}, "Whether it looks at all that waits."),
    },
    {},
)
_STANDING: Final = object_schema(
    "StandingControl",
    {
        "id": UUID,
        "scope": described(_OBJECT, "The names it applies to."),
        "limits": described(optional(_OBJECT), "What it sets, by name; null for a pause."),
        "since": INSTANT,
        "until": described(optional(INSTANT), "When it ends by itself; null for never."),
        "version": COUNT,
        "actor": described(optional(_TEXT), "null where that is not for the caller to know."),
        "reason": optional(_TEXT),
    },
    {},
)
_STATUS: Final = object_schema(
    "Status",
    {
        "at": _AT,
        "use_cases": _list(
            object_schema(
                "UseCaseStatus",
                {
                    "use_case": NAME,
                    "queue": optional(NAME),
                    "limit": described(optional(COUNT), "null: it is not configured."),
                    "running": COUNT,
                    "unclaimed": described(COUNT, "Those of the running ones not begun yet."),
                    "pending": COUNT,
                    "at_least": _AT_LEAST,
                    "starts_per_second": _RATE,
                    "limit_from": described(
                        optional(UUID), "The control whose limit it is; null: the environment's."
                    ),
                },
                {},
            )
        ),
        "queues": _list(
            object_schema(
                "QueueStatus",
                {
                    "queue": NAME,
                    "workers": COUNT,
                    "slots": COUNT,
                    "busy": COUNT,
                    "unclaimed": COUNT,
                },
                {},
            )
        ),
        "workers": _list(_WORKER),
        "schedulers": _list(_SCHEDULER),
        "warnings": _list(
            object_schema(
                "Warning",
                {
                    "code": _TEXT,
                    "sentence": described(_TEXT, "What it is, and what to do."),
                    "data": _DATA,
                },
                {},
            )
        ),
        "controls": _list(_STANDING),
    },
    {},
)

# --- examples -----------------------------------------------------------------------------------

_NOW: Final = "2026-03-01T08:00:05Z"
_FULL: Final[dict[str, Any]] = {
    "code": "use_case_full",
    "sentence": "The use case 'reports' is full: 2 of 2 jobs run, 2 of 'acme'.",
    "data": {"use_case": "reports", "limit": 2, "running": 2, "top_tenants": {"acme": 2}},
}
_EXPLAINED: Final = {
    "at": _NOW,
    "job_id": JOB_ID,
    "tenant_id": "acme",
    "use_case": "reports",
    "type": "render",
    "phase": "pending",
    "sentence": _FULL["sentence"],
    "reasons": [_FULL],
    "next_turn": "waits",
    "estimate": {
        "start_at": "2026-03-01T08:00:15Z",
        "position": 4,
        "at_least": False,
        "starts_per_second": 0.5,
        "basis": "5 starts at 0.5 a second lately, its tenant's share being 100%",
    },
}
_NOTHING: Final = {
    "attempt": None,
    "lease_seq": None,
    "worker_id": None,
    "outcome": None,
    "ran_seconds": None,
    "error": None,
    "fingerprint": None,
    "traceback": None,
}
_CLAIM: Final = {"attempt": 1, "lease_seq": 1, "worker_id": "9c1f0c2d7a5e4b31"}
_LIVED: Final = {
    "at": _NOW,
    "job_id": JOB_ID,
    "tenant_id": "acme",
    "use_case": "reports",
    "type": "render",
    "phase": "pending",
    "entries": [
        _NOTHING | {"at": "2026-03-01T08:00:00Z", "moment": "enqueued"},
        _NOTHING | {"at": "2026-03-01T08:00:01Z", "moment": "started"} | _CLAIM,
        _NOTHING
        | _CLAIM
        | {
            "at": "2026-03-01T08:00:03Z",
            "moment": "ended",
            "outcome": "failed",
            "ran_seconds": 2.0,
            "error": "TimeoutError: the printer said nothing for 2 s",
            "fingerprint": "5b2f6a0d91c4e873",
            "traceback": "/app/reports/printing.py:41 in Printer.send",
        },
        _NOTHING | {"at": "2026-03-01T08:01:03Z", "moment": "due"},
    ],
    "cut": False,
}
_WAITS: Final = {
    "at": _NOW,
    "use_case": "reports",
    "tenant_id": None,
    "pending": 120,
    "at_least": False,
    "looked_at": 64,
    "whole": False,
    "sentence": f"120 jobs wait. {_FULL['sentence']}",
    "reasons": [
        _FULL
        | {
            "jobs": 64,
            "change": "jobs of the use case have to end, or its max_concurrent has to be raised",
        }
    ],
}
_THERE: Final = {
    "at": _NOW,
    "use_cases": [
        {
            "use_case": "reports",
            "queue": "reports",
            "limit": 2,
            "running": 2,
            "unclaimed": 0,
            "pending": 120,
            "at_least": False,
            "starts_per_second": 0.5,
            "limit_from": None,
        }
    ],
    "queues": [{"queue": "reports", "workers": 0, "slots": 0, "busy": 0, "unclaimed": 0}],
    "workers": [],
    "schedulers": [],
    "warnings": [
        {
            "code": "queue_unattended",
            "sentence": "Jobs wait in the queue 'reports', which no live worker receives: start"
            " `async-jobs worker --queue reports`.",
            "data": {"queue": "reports"},
        }
    ],
    "controls": [
        {
            "id": JOB_ID,
            "scope": {"type": "send_email"},
            "limits": None,
            "since": "2026-03-01T07:30:00Z",
            "until": None,
            "version": 3,
            "actor": "ada",
            "reason": "the provider is down",
        }
    ],
}

# --- routes -------------------------------------------------------------------------------------

EXPLAIN_JOB: Final = route(
    "explain_job",
    "Ask why a job is where it is",
    "Says in a sentence and in data why a job waits, where it runs or how it ended, and estimates"
    " when it starts. What it says of a job that is due is what the next turn of a scheduler does"
    " with it. A token that is limited to tenants is told no other names. Changes nothing.",
    {200: answer("Why it is so.", _EXPLANATION, _EXPLAINED)},
    problems(Problem.JOB_NOT_FOUND),
    parameters=[JOB_PATH, TENANT],
)
HISTORY: Final = route(
    "job_history",
    "Ask what became of a job",
    "Tells in the order of time when it was enqueued, who ran each attempt of which there is a"
    " record, since when, and how that ended, operators' retries, and where the job is now. By"
    " default there are records of what is unusual: failures, lost leases, jobs given back.",
    {200: answer("Its life so far.", _HISTORY, _LIVED)},
    problems(Problem.JOB_NOT_FOUND),
    parameters=[JOB_PATH, TENANT],
)
EXPLAIN_WAITING: Final = route(
    "explain_waiting",
    "Ask why jobs wait",
    "Counts by reason what waits of a use case, of a tenant, or of a tenant in a use case, and says"
    " what would have to change. One of the two has to be given; a token that is limited to one"
    " tenant names it by itself.",
    {200: answer("Why they wait.", _WAITING, _WAITS)},
    problems(),
    parameters=[
        query("use_case", NAME, "Only jobs of this use case, which has to be configured."),
        query("tenant_id", NAME, "Only jobs of this tenant."),
    ],
)
STATUS: Final = route(
    "status",
    "Ask who is there",
    "Tells of use cases, queues, live workers and schedulers, and warns of what keeps jobs waiting."
    " For a token that is limited to tenants, counts are of these, and nobody is named who works"
    " for others too.",
    {200: answer("Who is there.", _STATUS, _THERE)},
    problems(),
    parameters=[
        query("tenant_id", NAME, "Only what concerns this tenant; may be given several times.")
        | {"schema": {"type": "array", "items": NAME, "maxItems": 100}, "explode": True},
    ],
)
ROUTES: Final = (EXPLAIN_JOB, HISTORY, EXPLAIN_WAITING, STATUS)
