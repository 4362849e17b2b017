"""What the site prints from the code: the Python interface, the HTTP calls, the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from inspect import isfunction
from pathlib import Path
from typing import Any, Final

PYTHON: Final = {
    "Enqueue and look": (
        "JobService",
        "EnqueueJobRequest",
        "Enqueued",
        "Job",
        "JobStatus",
        "JobPage",
        "AttemptError",
    ),
    "Handlers": (
        "job_registry",
        "JobRegistry",
        "JobContext",
        "Reject",
        "RetryAfter",
        "Snooze",
        "JobLogFilter",
    ),
    "Settings": (
        "AsyncJobsConfig",
        "UseCaseConfig",
        "TenantQuota",
        "BackoffPolicy",
        "BackoffType",
        "LatePolicy",
    ),
    "From another service": ("AsyncJobsHttpClient", "JobsHttpClient"),
    "In an application of your own": (
        "create_dashboard",
        "create_jobs_router",
        "create_operations_router",
        "run_scheduler_loop",
        "run_worker_loop",
    ),
    "See": (
        "OperationsService",
        "Explanation",
        "Why",
        "NextTurn",
        "Estimate",
        "Finding",
        "Waiting",
        "WaitingReason",
        "Status",
        "UseCaseStatus",
        "QueueStatus",
        "WorkerInfo",
        "SchedulerInfo",
        "Warned",
        "JobHistory",
        "TimelineEntry",
        "Moment",
        "Outcome",
    ),
    "Measure": ("ReportsService", "Attainment", "Attained", "Dimension"),
    "Steer": (
        "SteeringService",
        "ControlRequest",
        "ControlPreview",
        "Control",
        "Scope",
        "Operation",
        "Operator",
        "Action",
    ),
    "Stores": ("Store", "JobStore", "PostgresJobStore", "MemoryJobStore", "get_ddl"),
    "Errors": (
        "AsyncJobsError",
        "ConfigurationError",
        "InvalidJobError",
        "QuotaExceededError",
        "JobNotFoundError",
        "IllegalTransition",
        "ControlNotFoundError",
        "ControlChanged",
        "StoreRefused",
        "Unavailable",
        "TenantBusy",
        "AuthTokenError",
        "RemoteHttpError",
    ),
}
"""The public names of `async_jobs` by what they are for; all others come after them."""

_DRIVING_PORTS: Final = (
    "async_jobs.ports.jobs.Jobs",
    "async_jobs.ports.operations.Operations",
    "async_jobs.ports.steering.Steering",
    "async_jobs.ports.reports.Reports",
)
"""Where the calls of `JobService` and its like are explained: their docstrings say "See `Jobs`"."""
_WITH_INHERITED: Final = {
    "JobService",
    "OperationsService",
    "ReportsService",
    "SteeringService",
    "MemorySystem",
}


def python_page() -> str:
    """Return the reference of the Python interface, in reStructuredText, for autodoc."""
    import async_jobs
    import async_jobs.testing

    page = [
        _heading("The Python interface", "="),
        "All names are imported from ``async_jobs``, those for tests from ``async_jobs.testing``.",
        "Which module a name lives in is not part of the interface.\n",
    ]
    for title, names in groups(async_jobs.__all__).items():
        page += [_heading(title, "-"), *(_entry(async_jobs, name) for name in names)]
    page += [_heading("What the services and clients answer", "-")]
    page += [f".. autoclass:: {name}\n" for name in _DRIVING_PORTS]
    page.append(_heading("For tests", "-"))
    page += [_entry(async_jobs.testing, name) for name in async_jobs.testing.__all__]
    return "\n".join(page)


def groups(public: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the public names by group, those of no group as the last one."""
    grouped = {name for names in PYTHON.values() for name in names}
    others = tuple(name for name in public if name not in grouped)
    return PYTHON | ({"Further names": others} if others else {})


def _heading(title: str, line: str) -> str:
    return f"{title}\n{line * len(title)}\n"


def _entry(module: Any, name: str) -> str:
    value = getattr(module, name)
    kind = "autofunction" if isfunction(value) else "autodata"
    if isinstance(value, type):
        kind = "autoclass"
    options = "   :inherited-members: object\n" if name in _WITH_INHERITED else ""
    return f".. {kind}:: {module.__name__}.{name}\n{options}"


# --- HTTP ------------------------------------------------------------------------------------


def http_page(root: Path) -> str:
    """Return the reference of the HTTP calls, out of `docs/openapi.json`."""
    document = json.loads((root / "docs" / "openapi.json").read_text("utf-8"))
    page = [
        "# HTTP calls\n",
        "Every call, with its parameters, its body and its answers, as in",
        "[openapi.json](openapi.json). How to use them: [The HTTP API](http-api.md).\n",
    ]
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            page.append(f"## `{method.upper()} {path}`\n")
            page.append(f"{call.get('description') or call.get('summary', '')}\n")
            page += _parameters(call.get("parameters", ()))
            page += _body(call.get("requestBody"))
            page += _answers(call["responses"])
    page.append("## Bodies\n")
    for name, schema in document["components"]["schemas"].items():
        page += _schema(name, schema)
    return "\n".join(page)


def _parameters(parameters: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [
        f"| `{each['name']}` | {each['in']}{', required' if each.get('required') else ''} "
        f"| {_type(each['schema'])} | {_cell(each.get('description', ''))} |"
        for each in parameters
    ]
    return ["| parameter | where | type | |\n|---|---|---|---|", *rows, ""] if rows else []


def _body(body: Mapping[str, Any] | None) -> list[str]:
    if body is None:
        return []
    return [f"Body: {_type(content['schema'])}.\n" for content in body["content"].values()]


def _answers(answers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = []
    for status, answer in answers.items():
        types = {_type(each.get("schema", {})) for each in answer.get("content", {}).values()}
        rows.append(f"| {status} | {' or '.join(types)} | {_cell(answer['description'])} |")
    return ["| status | body | |\n|---|---|---|", *rows, ""]


def _schema(name: str, schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required", ())
    rows = [
        f"| `{field}` | {_type(each)}{', required' if field in required else ''} "
        f"| {_cell(each.get('description', ''))} |"
        for field, each in schema.get("properties", {}).items()
    ]
    table = ["| field | type | |\n|---|---|---|", *rows, ""] if rows else [f"{_type(schema)}\n"]
    return [f"### {name}\n", f"{schema.get('description', '')}\n", *table]


def _type(schema: Mapping[str, Any]) -> str:
    """Return what a schema allows, in a few words; a named one as a link to its table."""
    if name := schema.get("$ref", "").rpartition("/")[2]:
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(_type(each) for each in schema[key])
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(each)}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any JSON")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "&#124;")


# --- Tables ----------------------------------------------------------------------------------


def schema_page() -> str:
    """Return the page of the database's schema: its whole DDL."""
    from async_jobs import get_ddl

    return (
        "# The tables\n\n"
        "What `async-jobs migrate` makes, as `async-jobs migrate --print` prints it. Statements\n"
        "of your own enqueue by the function `async_jobs_enqueue`, and write to no table.\n\n"
        f"```sql\n{get_ddl()}\n```\n"
    )
