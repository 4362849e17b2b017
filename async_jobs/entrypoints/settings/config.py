"""The environment, read once. Every bad value is reported at once, by name, without secrets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from async_jobs.adapters.postgres.pool import Password
from async_jobs.domain.errors import ConfigurationError
from async_jobs.domain.limits import TenantQuota, UseCaseConfig, queue_of
from async_jobs.entrypoints.settings.imports import imported
from async_jobs.entrypoints.settings.measured import (
    MetricsBackend,
    MetricsTenants,
    TracesBackend,
    TracesParent,
    metrics_not_used,
    traces_not_used,
)
from async_jobs.entrypoints.settings.names import QUEUE_PREFIX, sqs_variable, upper_of
from async_jobs.entrypoints.settings.tokens import ApiToken, Secret, check_tokens

QueueBackend = Literal["sqs", "postgres", "memory"]

PREFIX: Final = "ASYNC_JOBS_"
ROUNDS_MAX = 10
_SCHEMA: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
_QUEUE_URL: Final = re.compile(r"https?://[^/\s]+/\S+")
_SCALARS: Final[Mapping[str, str]] = {
    "ASYNC_JOBS_DB_DSN": "db_dsn",
    "ASYNC_JOBS_DB_PASSWORD_FROM": "db_password",
    "ASYNC_JOBS_DB_SCHEMA": "db_schema",
    "ASYNC_JOBS_DB_POOL_MAX_SIZE": "db_pool_max_size",
    "ASYNC_JOBS_DB_STATEMENT_CACHE_SIZE": "db_statement_cache_size",
    "ASYNC_JOBS_ENQUEUE_AUTH_TOKEN": "enqueue_auth_token",
    "ASYNC_JOBS_SCHEDULER_INTERVAL_SECONDS": "scheduler_interval_seconds",
    "ASYNC_JOBS_DISPATCH_TIMEOUT_SECONDS": "dispatch_timeout_seconds",
    "ASYNC_JOBS_RETENTION_SECONDS": "retention_seconds",
    "ASYNC_JOBS_HISTORY_DAYS": "history_days",
    "ASYNC_JOBS_HISTORY_MAX_BYTES": "history_max_bytes",
    "ASYNC_JOBS_WORKER_POLL_INTERVAL_SECONDS": "worker_poll_interval_seconds",
    "ASYNC_JOBS_WORKER_VISIBILITY_TIMEOUT_SECONDS": "worker_visibility_timeout_seconds",
    "ASYNC_JOBS_WORKER_CONCURRENCY": "worker_concurrency",
    "ASYNC_JOBS_LEASE_DURATION_SECONDS": "lease_duration_seconds",
    "ASYNC_JOBS_DRAIN_TIMEOUT_SECONDS": "drain_timeout_seconds",
    "ASYNC_JOBS_JOB_TIMEOUT_SECONDS": "job_timeout_seconds",
    "ASYNC_JOBS_SUSPECT_WAIT_SECONDS": "suspect_wait_seconds",
    "ASYNC_JOBS_UNKNOWN_TYPE_MAX_SECONDS": "unknown_type_max_seconds",
    "ASYNC_JOBS_SNOOZE_MAX_SECONDS": "snooze_max_seconds",
    "ASYNC_JOBS_HANDLERS_MODULE": "handlers_module",
    "ASYNC_JOBS_QUEUE_BACKEND": "queue_backend",
    "ASYNC_JOBS_ACCESS_LOG": "access_log",
    "ASYNC_JOBS_SLOW_STATEMENT_SECONDS": "slow_statement_seconds",
    "ASYNC_JOBS_METRICS": "metrics",
    "ASYNC_JOBS_METRICS_TENANTS": "metrics_tenants",
    "ASYNC_JOBS_METRICS_TOKEN": "metrics_token",
    "ASYNC_JOBS_METRICS_PORT": "metrics_port",
    "ASYNC_JOBS_STATISTICS": "statistics",
    "ASYNC_JOBS_STATISTICS_TENANTS": "statistics_tenants",
    "ASYNC_JOBS_TRACES": "traces",
    "ASYNC_JOBS_TRACES_PARENT": "traces_parent",
    "ASYNC_JOBS_TRACES_TENANTS": "traces_tenants",
}
# An empty variable is an unset one, but for these. With a queue forgotten some processes would use
# SQS and the others would not; with an empty token everybody could scrape.
_NEVER_EMPTY: Final = (QUEUE_PREFIX, "ASYNC_JOBS_METRICS_TOKEN")
_JSON_OBJECTS: Final[Mapping[str, str]] = {
    "ASYNC_JOBS_USE_CASES": "use_case_configs",
    "ASYNC_JOBS_PER_TENANT_QUOTAS": "per_tenant_quotas",
}
_API_TOKENS: Final = "ASYNC_JOBS_API_TOKENS"
_USE_CASE_SUFFIXES: Final[Mapping[str, str]] = {
    "_MAX_CONCURRENT": "max_concurrent",
    "_DEFAULT_DELAY_TOLERANCE_SECONDS": "default_delay_tolerance_seconds",
    "_LATE_POLICY": "late_policy",
}
# Read elsewhere: by the example handlers, the embedded Postgres and the tests.
_OTHERS: Final = frozenset(
    {
        "ASYNC_JOBS_DELIVERY_FILE",
        "ASYNC_JOBS_DEMO_FAILURE_SHARE",
        "ASYNC_JOBS_POSTGRES_BIN",
        "ASYNC_JOBS_TEST_DSN",
        "ASYNC_JOBS_TEST_SQS_ENDPOINT",
        "ASYNC_JOBS_REQUIRE_SERVICES",
    }
)


class AsyncJobsConfig(BaseModel):
    """Everything that can be set. Durations are in seconds.

    Attributes:
        db_dsn: Postgres, as a libpq URL.
        use_case_configs: the known use cases; `max_concurrent` is the capacity of each.
        per_tenant_quotas: limits and weights of tenants; all others are unlimited.
        sqs_queue_urls: the URL of each queue that SQS carries, by its name.
        queue_backend: what carries hand-offs.
        enqueue_auth_token: the shared token of the HTTP API.
        api_tokens: further tokens of the HTTP API, each with its tenants and scopes.
        scheduler_interval_seconds: the longest pause between ticks; signals shorten it.
        dispatch_timeout_seconds: the life of a lease that no worker has claimed.
        retention_seconds: how long finished jobs are kept; 0 keeps them for ever.
        history_days: how many days of attempt records are kept besides today.
        history_max_bytes: how much of them is kept; the oldest days go first.
        worker_poll_interval_seconds: how long one receive waits for work.
        worker_visibility_timeout_seconds: from receive to claim; need not cover a handler.
        worker_concurrency: how many jobs one worker process executes at once.
        lease_duration_seconds: the life of a claimed lease, renewed every third of it; the
            time a dead worker's job takes to come back.
        drain_timeout_seconds: what handlers get to finish after SIGTERM.
        job_timeout_seconds: one attempt's longest run, unless its handler says otherwise.
        suspect_wait_seconds: how long a job that was in two workers that died waits to be alone.
        unknown_type_max_seconds: how long a job waits for a worker that knows its type; then it
            is dead.
        snooze_max_seconds: the age of a job from which on a snooze is a failed attempt.
        handlers_module: module or modules, separated by commas, that a worker imports.
        db_password: a function that returns the password, or a coroutine of it, asked at each new
            connection instead of the DSN's; or where to import it from (`app.secrets:password`).
        db_schema: the schema that holds the tables; None for the first of the search path.
        db_pool_max_size: the most connections of one process.
        db_statement_cache_size: None for asyncpg's own; 0 behind PgBouncer.
        access_log: whether the HTTP API logs each request.
        slow_statement_seconds: statements that take so long are logged by name; None for none.
        metrics: where what is measured goes: nowhere, to Prometheus, which scrapes it, or to the
            application's SDK of OpenTelemetry.
        metrics_tenants: which tenants are told apart: none, the first of a ranking, or names.
        metrics_token: what a scrape has to bring; None lets everybody scrape.
        metrics_port: where a scheduler or worker is scraped besides its health port.
        statistics: whether processes sum what happens, and keep it in the database.
        statistics_tenants: which tenants are told apart there, as for metrics.
        traces: where spans go: nowhere, or to the application's SDK of OpenTelemetry.
        traces_parent: which attempts are in the trace that enqueued their job; others link to it.
        traces_tenants: whether spans name tenants.
        unknown_variables: names that begin with ASYNC_JOBS_ and mean nothing here.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )

    db_dsn: str = Field(min_length=1, repr=False)
    use_case_configs: Mapping[str, UseCaseConfig] = Field(default_factory=dict)
    per_tenant_quotas: Mapping[str, TenantQuota] = Field(default_factory=dict)
    sqs_queue_urls: Mapping[str, str] = Field(default_factory=dict)
    queue_backend: QueueBackend = "postgres"
    enqueue_auth_token: Secret | None = Field(default=None, repr=False)
    api_tokens: tuple[ApiToken, ...] = ()
    scheduler_interval_seconds: float = Field(default=1.0, gt=0, le=3600)
    dispatch_timeout_seconds: float = Field(default=60.0, ge=1, le=86_400)
    retention_seconds: float = Field(default=604_800.0, ge=0)
    history_days: int = Field(default=14, ge=1, le=3_660)
    history_max_bytes: int = Field(default=2**30, ge=2**20)
    worker_poll_interval_seconds: float = Field(default=1.0, gt=0, le=20)
    worker_visibility_timeout_seconds: float = Field(default=60.0, ge=1, le=43_200)
    worker_concurrency: int = Field(default=10, ge=1, le=10_000)
    lease_duration_seconds: float = Field(default=60.0, ge=1, le=86_400)
    drain_timeout_seconds: float = Field(default=25.0, ge=0, le=86_400)
    job_timeout_seconds: float = Field(default=900.0, gt=0, le=30 * 86_400)
    suspect_wait_seconds: float = Field(default=60.0, gt=0, le=86_400)
    unknown_type_max_seconds: float = Field(default=604_800.0, gt=0, le=366 * 86_400)
    snooze_max_seconds: float = Field(default=366 * 86_400.0, gt=0, le=3_660 * 86_400)
    handlers_module: str | None = None
    db_password: Password | None = Field(default=None, repr=False)
    db_schema: str | None = None
    db_pool_max_size: int = Field(default=10, ge=2, le=1_000)
    db_statement_cache_size: int | None = Field(default=None, ge=0)
    access_log: bool = False
    slow_statement_seconds: float | None = Field(default=None, gt=0)
    metrics: MetricsBackend = "none"
    metrics_tenants: MetricsTenants = None
    metrics_token: Secret | None = Field(default=None, repr=False)
    metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    statistics: bool = False
    statistics_tenants: MetricsTenants = 20
    traces: TracesBackend = "none"
    traces_parent: TracesParent = "first"
    traces_tenants: bool = True
    unknown_variables: tuple[str, ...] = ()

    @field_validator("db_password", mode="before")
    @classmethod
    def _password_is_imported(cls, password: object) -> object:
        return imported(password) if isinstance(password, str) else password

    @field_validator("db_schema")
    @classmethod
    def _schema_has_a_name(cls, schema: str | None) -> str | None:
        if schema is not None and not _SCHEMA.fullmatch(schema):
            raise ValueError(
                "must be the name of a schema: 1-63 lower-case letters, digits and underscores, not"
                " beginning with a digit or pg_"
            )
        return schema

    @field_validator("api_tokens")
    @classmethod
    def _each_token_once(cls, tokens: tuple[ApiToken, ...]) -> tuple[ApiToken, ...]:
        return check_tokens(tokens)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> AsyncJobsConfig:
        """Read the environment (or `environ`).

        Raises:
            ConfigurationError: a `ValueError` with one line for every variable that is missing
                or wrong, each naming the variable and what is allowed.
        """
        environ = os.environ if environ is None else environ
        reader = _Reader(
            {
                name: value
                for name, value in environ.items()
                if value.strip() or name.startswith(_NEVER_EMPTY)
            }
        )
        values, problems = reader.values(), reader.problems
        config: AsyncJobsConfig | None = None
        # What is wrong is told and taken out, so that the next round sees what it had hidden.
        for _ in range(ROUNDS_MAX):
            try:
                config = cls(**values)
                break
            except ValidationError as error:
                problems += reader.told(error)
                for problem in error.errors():
                    _take_out(values, problem["loc"])
        if problems or config is None:
            raise ConfigurationError("\n".join(dict.fromkeys(problems)))
        return config

    @property
    def queue_names(self) -> tuple[str, ...]:
        """Every queue that a use case feeds, sorted."""
        return tuple(sorted({queue_of(n, each) for n, each in self.use_case_configs.items()}))

    @property
    def not_used(self) -> Mapping[str, str]:
        """What is set and changes nothing, because of what else is set: variables, and why."""
        found = metrics_not_used(
            self.metrics,
            tenants=self.metrics_tenants is not None,
            token=self.metrics_token is not None,
            port=self.metrics_port is not None,
        )
        parent, tenants = self.traces_parent != "first", not self.traces_tenants
        found |= traces_not_used(self.traces, parent=parent, tenants=tenants)
        if self.queue_backend != "sqs":
            why = f"ASYNC_JOBS_QUEUE_BACKEND is {self.queue_backend}, and SQS carries nothing"
            found |= dict.fromkeys(map(sqs_variable, sorted(self.sqs_queue_urls)), why)
        return found

    @property
    def handler_modules(self) -> tuple[str, ...]:
        """The modules to import for their handlers."""
        names = (self.handlers_module or "").split(",")
        return tuple(name.strip() for name in names if name.strip())


class _Reader:
    """Turns variables into fields, remembering which variable each value came from."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {k: v for k, v in environ.items() if k.startswith(PREFIX)}
        self._used: set[str] = set()
        self._origin: dict[tuple[str, ...], str] = {}
        self.problems: list[str] = []

    def values(self) -> dict[str, Any]:
        """Return the fields that the environment sets, as text where pydantic converts it."""
        values: dict[str, Any] = {}
        for variable, field in _SCALARS.items():
            if (text := self._take(variable)) is not None:
                values[field] = text
            self._origin[field,] = variable
        objects = {field: self._object(name) for name, field in _JSON_OBJECTS.items()}
        use_cases = objects["use_case_configs"]
        values["sqs_queue_urls"] = self._queues(use_cases)
        for name in use_cases:
            self._settings_of(name, use_cases[name])
        self._check_keys("ASYNC_JOBS_USE_CASES", use_cases, UseCaseConfig)
        tenants = objects["per_tenant_quotas"]
        self._check_keys("ASYNC_JOBS_PER_TENANT_QUOTAS", tenants, TenantQuota)
        values |= {"use_case_configs": use_cases, "per_tenant_quotas": tenants}
        values["api_tokens"] = self._tokens()
        if values["sqs_queue_urls"]:
            values.setdefault("queue_backend", "sqs")
        values["unknown_variables"] = tuple(self._unknown(use_cases))
        return values

    def _take(self, variable: str) -> str | None:
        self._used.add(variable)
        text = self._environ.get(variable)
        return None if text is None else text.strip()

    def _object(self, variable: str) -> dict[str, dict[str, Any]]:
        text = self._take(variable)
        if text is None:
            return {}
        try:
            value = json.loads(text)
        except ValueError:
            self.problems.append(f"{variable}: must be JSON")
            return {}
        if isinstance(value, dict) and all(isinstance(each, dict) for each in value.values()):
            return value
        self.problems.append(f"{variable}: must be a JSON object of objects, by name")
        return {}

    def _tokens(self) -> list[dict[str, Any]]:
        text = self._take(_API_TOKENS)
        if text is None:
            return []
        try:
            value = json.loads(text)
        except ValueError:
            self.problems.append(f"{_API_TOKENS}: must be JSON")
            return []
        if isinstance(value, list) and all(isinstance(each, dict) for each in value):
            return value
        self.problems.append(f"{_API_TOKENS}: must be a JSON list of objects")
        return []

    def _queues(self, use_cases: dict[str, dict[str, Any]]) -> dict[str, str]:
        """Declare the use cases that have an SQS queue; returns the URLs by queue name."""
        urls: dict[str, str] = {}
        self._check_names(use_cases)
        by_use_case = {upper_of(name): name for name in use_cases}
        shared = {str(each["queue"]) for each in use_cases.values() if each.get("queue")}
        by_queue = {upper_of(queue): queue for queue in shared}
        for variable in sorted(self._environ):
            if variable.startswith(QUEUE_PREFIX):
                suffix = variable.removeprefix(QUEUE_PREFIX)
                if suffix in by_queue and suffix not in by_use_case:
                    queue = by_queue[suffix]
                else:
                    name = by_use_case.get(suffix, suffix.lower())
                    queue = str(use_cases.setdefault(name, {}).get("queue") or name)
                url = (self._take(variable) or "").rstrip("/")
                if not _QUEUE_URL.fullmatch(url):
                    self.problems.append(f"{variable}: must be the http(s) URL of a queue")
                elif urls.setdefault(queue, url) != url:
                    self.problems.append(
                        f"{variable}: the queue {queue!r} has another URL already, from another"
                        " use case that it carries"
                    )
        return urls

    def _check_names(self, use_cases: Iterable[str]) -> None:
        """Refuse use cases that share their variables."""
        first: dict[str, str] = {}
        for name in use_cases:
            other = first.setdefault(upper_of(name), name)
            if other != name:
                self.problems.append(
                    f"ASYNC_JOBS_USE_CASES: {other!r} and {name!r} would share their variables"
                    f" {PREFIX}{upper_of(name)}_…"
                )

    def _settings_of(self, use_case: str, settings: dict[str, Any]) -> None:
        for suffix, field in _USE_CASE_SUFFIXES.items():
            variable = f"{PREFIX}{upper_of(use_case)}{suffix}"
            if (text := self._take(variable)) is not None:
                settings[field] = text
                self._origin["use_case_configs", use_case, field] = variable

    def _check_keys(
        self, variable: str, objects: Mapping[str, Mapping[str, Any]], of: type
    ) -> None:
        allowed = {each.name for each in fields(of)}
        for name, settings in objects.items():
            for key in sorted(settings.keys() - allowed):
                known = ", ".join(sorted(allowed))
                self.problems.append(f"{variable}: {name}.{key} is unknown; known: {known}")

    def _unknown(self, use_cases: Mapping[str, object]) -> Iterator[str]:
        declared = ", ".join(sorted(use_cases)) or "none"
        for variable in sorted(self._environ.keys() - self._used - _OTHERS):
            if variable.endswith(tuple(_USE_CASE_SUFFIXES)):
                self.problems.append(
                    f"{variable}: names no declared use case; declared: {declared}"
                )
            else:
                yield variable

    def told(self, error: ValidationError) -> Iterator[str]:
        """Yield one line for each problem, naming the variable it came from."""
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            if problem["type"] == "unexpected_keyword_argument":
                continue  # told already, together with the known ones
            path = tuple(str(part) for part in problem["loc"])
            if path == ("db_dsn",) and problem["type"] == "missing":
                yield "ASYNC_JOBS_DB_DSN: is required (a Postgres URL)"
                continue
            message = problem["msg"].removeprefix("Value error, ")
            if len(path) == 2 and problem["type"] == "value_error":
                # A rule of the domain speaks: each part names its field first.
                for part in message.split("; "):
                    field, _, told = part.partition(" ")
                    yield f"{self._name_of((*path, field))}: {told}"
            else:
                yield f"{self._name_of(path)}: {message}"

    def _name_of(self, path: tuple[str, ...]) -> str:
        """Return the variable a value came from, with the path inside it where it is JSON."""
        if (variable := self._origin.get(path) or self._origin.get(path[:1])) is not None:
            return variable
        if path[0] == "api_tokens":
            index = f"[{path[1]}]" if len(path) > 1 else ""
            return ".".join([f"{_API_TOKENS}{index}", *path[2:]])
        holder = next(name for name, field in _JSON_OBJECTS.items() if field == path[0])
        return f"{holder}: {'.'.join(path[1:])}"


def _take_out(values: dict[str, Any], path: tuple[int | str, ...]) -> None:
    """Remove what `path` names, or the innermost part of it that exists."""
    if path == ("db_dsn",):
        values["db_dsn"] = "missing"
        return
    holder: Any = values
    for part in path[:-1]:
        if not isinstance(holder.get(part), dict):
            holder.pop(part, None)
            return
        holder = holder[part]
    holder.pop(path[-1], None)


def schema_of(environ: Mapping[str, str]) -> str | None:
    """Return the schema that the environment names, whatever else is missing.

    Raises:
        ConfigurationError: what it names is none.
    """
    named = {name: value for name, value in environ.items() if name == "ASYNC_JOBS_DB_SCHEMA"}
    return AsyncJobsConfig.from_env({"ASYNC_JOBS_DB_DSN": "none"} | named).db_schema
