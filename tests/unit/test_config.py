"""The environment becomes a configuration, or an error that names everything wrong at once."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.settings.tokens import Scope

DSN = "postgresql://app:hunter2@db.internal/app"
TOKEN = "s3cret-t0ken"
URL = "https://sqs.eu-central-1.amazonaws.com/123/notifications"


def configured(**variables: str) -> AsyncJobsConfig:
    """Return the configuration of an environment: a DSN, and variables without their prefix."""
    prefixed = {f"ASYNC_JOBS_{name}": value for name, value in variables.items()}
    return AsyncJobsConfig.from_env({"ASYNC_JOBS_DB_DSN": DSN, **prefixed})


def problems(**variables: str) -> list[str]:
    """Return the lines of the error that an environment is refused with."""
    with pytest.raises(ConfigurationError) as caught:
        configured(**variables)
    return str(caught.value).splitlines()


# --- Defaults and values ---------------------------------------------------------------------

DEFAULTS: dict[str, Any] = {
    "db_dsn": DSN,
    "use_case_configs": {},
    "per_tenant_quotas": {},
    "sqs_queue_urls": {},
    "queue_backend": "postgres",
    "enqueue_auth_token": None,
    "api_tokens": (),
    "scheduler_interval_seconds": 1,
    "dispatch_timeout_seconds": 60,
    "retention_seconds": 604_800,
    "history_days": 14,
    "history_max_bytes": 2**30,
    "worker_poll_interval_seconds": 1,
    "worker_visibility_timeout_seconds": 60,
    "worker_concurrency": 10,
    "lease_duration_seconds": 60,
    "drain_timeout_seconds": 25,
    "job_timeout_seconds": 900,
    "suspect_wait_seconds": 60,
    "unknown_type_max_seconds": 604_800,
    "snooze_max_seconds": 31_622_400,
    "access_log": False,
    "slow_statement_seconds": None,
    "metrics": "none",
    "metrics_tenants": None,
    "metrics_token": None,
    "metrics_port": None,
    "statistics": False,
    "statistics_tenants": 20,
    "traces": "none",
    "traces_parent": "first",
    "traces_tenants": True,
    "handlers_module": None,
    "db_pool_max_size": 10,
    "db_password": None,
    "db_schema": None,
    "db_statement_cache_size": None,
    "unknown_variables": (),
}

VALUES: list[tuple[str, str, str, Any]] = [
    ("DB_DSN", "postgresql:///other", "db_dsn", "postgresql:///other"),
    ("ENQUEUE_AUTH_TOKEN", TOKEN, "enqueue_auth_token", TOKEN),
    ("SCHEDULER_INTERVAL_SECONDS", "0.25", "scheduler_interval_seconds", 0.25),
    ("WORKER_POLL_INTERVAL_SECONDS", "20", "worker_poll_interval_seconds", 20),
    ("WORKER_VISIBILITY_TIMEOUT_SECONDS", "30", "worker_visibility_timeout_seconds", 30),
    ("LEASE_DURATION_SECONDS", "15", "lease_duration_seconds", 15),
    ("HANDLERS_MODULE", "app.handlers", "handlers_module", "app.handlers"),
    ("QUEUE_BACKEND", "memory", "queue_backend", "memory"),
    ("STATISTICS", "true", "statistics", True),
    ("STATISTICS_TENANTS", "none", "statistics_tenants", None),
    ("TRACES", "otel", "traces", "otel"),
    ("TRACES_PARENT", "first:5", "traces_parent", "first:5"),
    ("TRACES_TENANTS", "false", "traces_tenants", False),
    ("DISPATCH_TIMEOUT_SECONDS", "20", "dispatch_timeout_seconds", 20),
    ("WORKER_CONCURRENCY", "40", "worker_concurrency", 40),
    ("DRAIN_TIMEOUT_SECONDS", "0", "drain_timeout_seconds", 0),
    ("JOB_TIMEOUT_SECONDS", "30", "job_timeout_seconds", 30),
    ("SUSPECT_WAIT_SECONDS", "5", "suspect_wait_seconds", 5),
    ("UNKNOWN_TYPE_MAX_SECONDS", "60", "unknown_type_max_seconds", 60),
    ("SNOOZE_MAX_SECONDS", "60", "snooze_max_seconds", 60),
    ("RETENTION_SECONDS", "0", "retention_seconds", 0),
    ("HISTORY_DAYS", "30", "history_days", 30),
    ("HISTORY_MAX_BYTES", "1048576", "history_max_bytes", 2**20),
    ("DB_PASSWORD_FROM", "secrets:token_urlsafe", "db_password", secrets.token_urlsafe),
    ("DB_SCHEMA", "async_jobs", "db_schema", "async_jobs"),
    ("DB_POOL_MAX_SIZE", "4", "db_pool_max_size", 4),
    ("DB_STATEMENT_CACHE_SIZE", "0", "db_statement_cache_size", 0),
]


def test_everything_but_the_database_has_a_default() -> None:
    """As the documentation says."""
    assert configured().model_dump() == DEFAULTS


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"), VALUES, ids=[variable for variable, *_ in VALUES]
)
def test_each_variable_sets_its_field(variable: str, text: str, field: str, value: Any) -> None:
    """And no other."""
    config = configured(**{variable: f" {text} "})

    assert config.model_dump() == DEFAULTS | {field: value}


def test_an_empty_variable_is_as_good_as_none() -> None:
    """Deployment templates leave such behind."""
    config = configured(ENQUEUE_AUTH_TOKEN="", WORKER_CONCURRENCY=" ", USE_CASES="")

    assert config.model_dump() == DEFAULTS


@pytest.mark.parametrize("url", ["", " ", "mails", "https://", "https://sqs.example", "ftp://a/b"])
def test_a_queue_url_must_be_one(url: str) -> None:
    """One that is empty is no choice of Postgres: other processes would go on using SQS."""
    assert problems(SQS_QUEUE_MAILS=url) == [
        "ASYNC_JOBS_SQS_QUEUE_MAILS: must be the http(s) URL of a queue"
    ]


def test_the_environment_of_the_process_is_read_when_none_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once, at that moment."""
    monkeypatch.setenv("ASYNC_JOBS_DB_DSN", DSN)
    monkeypatch.setenv("ASYNC_JOBS_WORKER_CONCURRENCY", "7")

    config = AsyncJobsConfig.from_env()
    monkeypatch.setenv("ASYNC_JOBS_WORKER_CONCURRENCY", "8")

    assert (config.db_dsn, config.worker_concurrency) == (DSN, 7)


def test_an_empty_environment_is_not_the_process_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is given counts, even if it is nothing."""
    monkeypatch.setenv("ASYNC_JOBS_DB_DSN", DSN)

    with pytest.raises(ConfigurationError):
        AsyncJobsConfig.from_env({})


def test_several_handler_modules_may_be_named() -> None:
    """Separated by commas."""
    assert configured(HANDLERS_MODULE="app.mails, app.labels,").handler_modules == (
        "app.mails",
        "app.labels",
    )
    assert configured().handler_modules == ()


def test_a_configuration_cannot_be_changed() -> None:
    """It is read once."""
    with pytest.raises(ValidationError):
        configured().worker_concurrency = 1  # type: ignore[misc]


# --- Use cases and tenants -------------------------------------------------------------------


def test_use_cases_are_declared_as_json() -> None:
    """With all the settings that a use case has."""
    config = configured(
        USE_CASES='{"mails": {"max_concurrent": 8, "queue": "slow", "retention_seconds": 60,'
        ' "late_policy": "expire", "default_backoff_policy": {"type": "constant"}}, "labels": {}}'
    )

    mails = config.use_case_configs["mails"]
    assert (mails.max_concurrent, mails.queue, mails.retention_seconds) == (8, "slow", 60)
    assert mails.late_policy is LatePolicy.EXPIRE
    assert mails.default_backoff_policy.type == "constant"
    assert config.use_case_configs["labels"] == UseCaseConfig()
    assert config.queue_names == ("labels", "slow")


def test_a_queue_url_declares_its_use_case() -> None:
    """In lower case, with the documented defaults; and it selects SQS."""
    config = configured(SQS_QUEUE_MESSAGE_LABELING=URL)

    labeling = config.use_case_configs["message_labeling"]
    assert (labeling.max_concurrent, labeling.default_delay_tolerance_seconds) == (10, 60)
    assert labeling.late_policy is LatePolicy.SIDELINE
    assert config.sqs_queue_urls == {"message_labeling": URL}
    assert config.queue_backend == "sqs"


def test_a_backend_that_was_chosen_stays() -> None:
    """A queue URL selects SQS only when nothing else is said."""
    assert configured(SQS_QUEUE_MAILS=URL, QUEUE_BACKEND="memory").queue_backend == "memory"


def test_a_queue_url_belongs_to_the_queue_of_its_use_case() -> None:
    """A use case that was declared with another queue, or with a name of several words."""
    config = configured(
        USE_CASES='{"mails": {"queue": "slow"}, "message-labeling": {}}',
        SQS_QUEUE_MAILS=URL,
        SQS_QUEUE_MESSAGE_LABELING=f"{URL}-2",
    )

    assert config.sqs_queue_urls == {"slow": URL, "message-labeling": f"{URL}-2"}
    assert set(config.use_case_configs) == {"mails", "message-labeling"}


def test_a_queue_that_is_named_after_no_use_case_has_a_url() -> None:
    """Its variable declares nothing then; a slash at the end makes no other queue of it."""
    shared = '{"mails": {"queue": "slow-lane"}, "labels": {"queue": "slow-lane"}}'

    config = configured(
        USE_CASES=shared, SQS_QUEUE_SLOW_LANE=f"{URL}/", SQS_QUEUE_MAILS=URL, SQS_QUEUE_LABELS=URL
    )

    assert config.sqs_queue_urls == {"slow-lane": URL}
    assert set(config.use_case_configs) == {"mails", "labels"}


def test_one_queue_has_one_url() -> None:
    """Two use cases that share a queue cannot each send theirs somewhere else."""
    (problem,) = problems(
        USE_CASES='{"mails": {}, "reports": {"queue": "mails"}}',
        SQS_QUEUE_MAILS=URL,
        SQS_QUEUE_REPORTS=f"{URL}-2",
    )

    assert problem.startswith("ASYNC_JOBS_SQS_QUEUE_REPORTS: the queue 'mails' has another URL")
    assert URL not in problem


def test_use_cases_cannot_share_their_variables() -> None:
    """A setting for one would be one for the other."""
    (problem,) = problems(USE_CASES='{"mail-eu": {}, "mail_eu": {}}')

    assert problem.startswith("ASYNC_JOBS_USE_CASES: 'mail-eu' and 'mail_eu'")
    assert "ASYNC_JOBS_MAIL_EU_" in problem


@pytest.mark.parametrize(
    "declared",
    [{"USE_CASES": '{"notifications": {}}'}, {"SQS_QUEUE_NOTIFICATIONS": URL}],
    ids=["as JSON", "by a queue URL"],
)
def test_a_use_case_has_variables_of_its_own(declared: Mapping[str, str]) -> None:
    """However it was declared."""
    config = configured(
        **declared,
        NOTIFICATIONS_MAX_CONCURRENT="20",
        NOTIFICATIONS_DEFAULT_DELAY_TOLERANCE_SECONDS="5.5",
        NOTIFICATIONS_LATE_POLICY="sideline",
    )

    assert config.use_case_configs["notifications"] == UseCaseConfig(
        max_concurrent=20,
        default_delay_tolerance_seconds=5.5,
        late_policy=LatePolicy.SIDELINE,
    )


def test_a_use_cases_own_variable_wins_over_the_json() -> None:
    """It is the more special one."""
    config = configured(USE_CASES='{"mails": {"max_concurrent": 8}}', MAILS_MAX_CONCURRENT="9")

    assert config.use_case_configs["mails"].max_concurrent == 9


def test_tenants_have_quotas() -> None:
    """All of them or some; everybody else is unlimited."""
    config = configured(
        PER_TENANT_QUOTAS='{"tenant1": {"max_pending_jobs": 100, "max_running": 20, "weight": 2},'
        ' "tenant2": {"max_running": 0}}'
    )

    assert config.per_tenant_quotas == {
        "tenant1": TenantQuota(max_pending_jobs=100, max_running=20, weight=2),
        "tenant2": TenantQuota(max_running=0),
    }


# --- Tokens ----------------------------------------------------------------------------------

HASH = hashlib.sha256(TOKEN.encode()).hexdigest()
ENTRY: dict[str, Any] = {"sha256": HASH, "tenants": ["acme"], "scopes": ["read"]}


def test_tokens_have_tenants_and_scopes() -> None:
    """Some or all of them, and for some time or for ever."""
    entries = [
        ENTRY | {"scopes": ["enqueue", "read"], "expires_at": "2030-01-01T00:00:00Z"},
        {"sha256": HASH[::-1], "tenants": "*", "scopes": ["operate"]},
    ]

    one, other = configured(API_TOKENS=json.dumps(entries)).api_tokens

    assert one.tenants == frozenset({"acme"})
    assert one.scopes == {Scope.ENQUEUE, Scope.READ}
    assert one.expires_at == datetime(2030, 1, 1, tzinfo=UTC)
    assert (other.tenants, other.expires_at) == (None, None)
    assert other.scopes == {Scope.OPERATE}


BAD_TOKENS: list[tuple[str, str]] = [
    ("[", ": must be JSON"),
    ("{}", ": must be a JSON list of objects"),
    ('["ajt_x"]', ": must be a JSON list of objects"),
    (json.dumps([ENTRY, ENTRY]), ": entries 0 and 1 are the same token"),
    (json.dumps([ENTRY | {"sha256": TOKEN}]), "[0].sha256: "),
    (json.dumps([ENTRY | {"tenants": []}]), "[0].tenants: "),
    (json.dumps([ENTRY | {"tenants": None}]), "[0].tenants: "),
    (json.dumps([ENTRY | {"scopes": ["write"]}]), "[0].scopes: "),
    (json.dumps([ENTRY | {"expires_at": "2030-01-01T00:00:00"}]), "[0].expires_at: "),
    (json.dumps([ENTRY | {"expires_at": "20301231"}]), "[0].expires_at: "),
    (json.dumps([ENTRY | {"expires_at": 1_900_000_000}]), "[0].expires_at: "),
    (json.dumps([ENTRY | {"tenant": "acme"}]), "[0].tenant: "),
]


@pytest.mark.parametrize(("text", "told"), BAD_TOKENS, ids=[told for _, told in BAD_TOKENS])
def test_a_bad_token_is_refused_by_its_place(text: str, told: str) -> None:
    """In one line, which shows neither a hash nor a token."""
    (problem,) = problems(API_TOKENS=text)

    assert problem.startswith(f"ASYNC_JOBS_API_TOKENS{told}")
    assert HASH not in problem
    assert TOKEN not in problem


def test_every_bad_token_is_told_at_once() -> None:
    """Beside whatever else is wrong."""
    entries = [ENTRY, ENTRY | {"scopes": [], "tenants": ""}, {"sha256": "x"}]

    told = problems(API_TOKENS=json.dumps(entries), WORKER_CONCURRENCY="0")

    assert [problem.partition(": ")[0] for problem in told] == [
        "ASYNC_JOBS_API_TOKENS[1].tenants",
        "ASYNC_JOBS_API_TOKENS[1].scopes",
        "ASYNC_JOBS_API_TOKENS[2].sha256",
        "ASYNC_JOBS_API_TOKENS[2].tenants",
        "ASYNC_JOBS_API_TOKENS[2].scopes",
        "ASYNC_JOBS_WORKER_CONCURRENCY",
    ]


def test_a_configuration_shows_no_hash() -> None:
    """It is no secret, but whoever has it can try tokens against it."""
    config = configured(API_TOKENS=json.dumps([ENTRY]))

    assert HASH not in f"{config} {config!r}"


# --- What is wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("environ", [{}, {"ASYNC_JOBS_DB_DSN": "  "}], ids=["missing", "blank"])
def test_a_missing_database_is_an_error_that_names_it(environ: dict[str, str]) -> None:
    """A `ValueError`, as promised, and an error of this package."""
    with pytest.raises(ValueError, match="ASYNC_JOBS_DB_DSN") as caught:
        AsyncJobsConfig.from_env(environ)

    assert isinstance(caught.value, AsyncJobsError)


BAD: list[tuple[str, str]] = [
    ("SCHEDULER_INTERVAL_SECONDS", "0"),
    ("SCHEDULER_INTERVAL_SECONDS", "often"),
    ("SCHEDULER_INTERVAL_SECONDS", "nan"),
    ("WORKER_POLL_INTERVAL_SECONDS", "21"),
    ("WORKER_VISIBILITY_TIMEOUT_SECONDS", "-1"),
    ("LEASE_DURATION_SECONDS", "0.5"),
    ("LEASE_DURATION_SECONDS", "inf"),
    ("QUEUE_BACKEND", "kafka"),
    ("DISPATCH_TIMEOUT_SECONDS", "0"),
    ("WORKER_CONCURRENCY", "0"),
    ("WORKER_CONCURRENCY", "3.5"),
    ("DRAIN_TIMEOUT_SECONDS", "-0.1"),
    ("JOB_TIMEOUT_SECONDS", "0"),
    ("SUSPECT_WAIT_SECONDS", "0"),
    ("UNKNOWN_TYPE_MAX_SECONDS", "0"),
    ("SNOOZE_MAX_SECONDS", "0"),
    ("RETENTION_SECONDS", "-1"),
    ("HISTORY_DAYS", "0"),
    ("HISTORY_MAX_BYTES", "1000"),
    ("DB_PASSWORD_FROM", "secrets"),
    ("DB_PASSWORD_FROM", "secrets:nothing"),
    ("DB_PASSWORD_FROM", "no_such_module:password"),
    ("DB_PASSWORD_FROM", "secrets:__doc__"),
    ("DB_SCHEMA", "pg_mine"),
    ("DB_SCHEMA", "Mine"),
    ("DB_SCHEMA", 'mine"; DROP SCHEMA public'),
    ("DB_SCHEMA", "m" * 64),
    ("DB_POOL_MAX_SIZE", "1"),
    ("DB_STATEMENT_CACHE_SIZE", "-1"),
    ("USE_CASES", "mails"),
    ("USE_CASES", "[]"),
    ("USE_CASES", '{"mails": 8}'),
    ("USE_CASES", '{"mails": {"max_concurrent": -1}}'),
    ("USE_CASES", '{"mails": {"max_concurrently": 8}}'),
    ("USE_CASES", '{"mails": {"late_policy": "never"}}'),
    ("USE_CASES", '{"mails": {"default_backoff_policy": {"jitter": 2}}}'),
    ("PER_TENANT_QUOTAS", "{"),
    ("PER_TENANT_QUOTAS", '{"acme": {"weight": 0}}'),
    ("PER_TENANT_QUOTAS", '{"acme": {"max_runing": 1}}'),
    ("MAILS_MAX_CONCURRENT", "8"),
    ("MAILS_LATE_POLICY", "run"),
]


@pytest.mark.parametrize(("variable", "text"), BAD, ids=[f"{v}={t}" for v, t in BAD])
def test_a_bad_value_is_refused_by_name(variable: str, text: str) -> None:
    """One line, about that variable and no other."""
    (problem,) = problems(**{variable: text})

    assert problem.startswith(f"ASYNC_JOBS_{variable}: ")
    assert len(problem) > len(f"ASYNC_JOBS_{variable}: ")


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("MAX_CONCURRENT", "-1"),
        ("MAX_CONCURRENT", "many"),
        ("DEFAULT_DELAY_TOLERANCE_SECONDS", "2592001"),
        ("DEFAULT_DELAY_TOLERANCE_SECONDS", "nan"),
        ("LATE_POLICY", "never"),
    ],
)
def test_a_bad_value_of_a_use_case_is_refused_by_its_variable(suffix: str, text: str) -> None:
    """Not by one that was never set."""
    (problem,) = problems(SQS_QUEUE_MAILS=URL, **{f"MAILS_{suffix}": text})

    assert problem.startswith(f"ASYNC_JOBS_MAILS_{suffix}: ")


def test_a_bad_value_inside_json_is_named_by_its_path() -> None:
    """The variable holds many values."""
    (problem,) = problems(USE_CASES='{"mails": {"max_concurrent": "many"}}')

    assert problem.startswith("ASYNC_JOBS_USE_CASES: mails.max_concurrent: ")


def test_every_bad_value_is_told_at_once() -> None:
    """One deployment shows all that is wrong."""
    told = "\n".join(
        problems(
            DB_DSN=" ",
            LEASE_DURATION_SECONDS="0",
            WORKER_CONCURRENCY="none",
            QUEUE_BACKEND="kafka",
            USE_CASES='{"mails": {"max_concurrent": -1}, "labels": {"colour": "red"}}',
            MAILS_LATE_POLICY="never",
            LETTERS_MAX_CONCURRENT="8",
            PER_TENANT_QUOTAS="{",
        )
    )

    for variable in (
        "ASYNC_JOBS_DB_DSN",
        "ASYNC_JOBS_LEASE_DURATION_SECONDS",
        "ASYNC_JOBS_WORKER_CONCURRENCY",
        "ASYNC_JOBS_QUEUE_BACKEND",
        "mails.max_concurrent: ",
        "labels.colour",
        "ASYNC_JOBS_MAILS_LATE_POLICY",
        "ASYNC_JOBS_LETTERS_MAX_CONCURRENT",
        "ASYNC_JOBS_PER_TENANT_QUOTAS",
    ):
        assert variable in told


def test_a_misspelled_use_case_is_answered_with_the_declared_ones() -> None:
    """So that the mistake is found."""
    (problem,) = problems(USE_CASES='{"mails": {}, "labels": {}}', MAIL_MAX_CONCURRENT="8")

    assert problem.startswith("ASYNC_JOBS_MAIL_MAX_CONCURRENT")
    assert "labels, mails" in problem


def test_a_variable_that_means_nothing_is_kept_to_be_warned_of() -> None:
    """It may be from another version, so it is no error."""
    config = configured(LEASE_DURATION="5", WORKERS="3")

    assert config.unknown_variables == ("ASYNC_JOBS_LEASE_DURATION", "ASYNC_JOBS_WORKERS")


def test_other_peoples_variables_are_nobodys_business() -> None:
    """Only those with the prefix are looked at."""
    config = AsyncJobsConfig.from_env({"ASYNC_JOBS_DB_DSN": DSN, "PATH": "/bin", "JOBS_X": "1"})

    assert config.unknown_variables == ()


# --- Secrets ---------------------------------------------------------------------------------


def test_a_configuration_shows_no_secret() -> None:
    """Not when it is printed, formatted or logged."""
    config = configured(ENQUEUE_AUTH_TOKEN=TOKEN)

    for shown in (repr(config), str(config), f"{config}"):
        assert "hunter2" not in shown
        assert TOKEN not in shown


@pytest.mark.parametrize(("variable", "text"), BAD, ids=[f"{v}={t}" for v, t in BAD])
def test_an_error_shows_no_secret(variable: str, text: str) -> None:
    """Whatever is wrong beside them; nor do the errors behind it."""
    with pytest.raises(ConfigurationError) as caught:
        configured(ENQUEUE_AUTH_TOKEN=TOKEN, **{variable: text})

    shown = f"{caught.value!s} {caught.value!r} {caught.value.__cause__} {caught.value.__context__}"
    assert "hunter2" not in shown
    assert TOKEN not in shown


@pytest.mark.parametrize("variable", ["WORKER_CONCURRENCY", "QUEUE_BACKEND", "USE_CASES"])
def test_a_secret_in_the_wrong_variable_is_not_repeated(variable: str) -> None:
    """The lines were swapped."""
    (problem,) = problems(**{variable: TOKEN})

    assert TOKEN not in problem


def test_a_configuration_made_by_hand_shows_no_secret_either() -> None:
    """Pydantic's own error is what the caller sees."""
    with pytest.raises(ValidationError) as caught:
        AsyncJobsConfig(db_dsn=DSN, enqueue_auth_token=TOKEN, worker_concurrency=0)

    assert "hunter2" not in str(caught.value)
    assert TOKEN not in str(caught.value)


# --- Metrics ---------------------------------------------------------------------------------

ALLOWED = (
    'must be none, top:K with K from 1 to 100, or a JSON list of 1 to 200 names, e.g. ["acme"]'
)


@pytest.mark.parametrize(
    ("text", "tenants"),
    [
        ("none", None),
        ("top:1", 1),
        ("top:100", 100),
        ('["acme"]', ("acme",)),
        ('["none", "top:5"]', ("none", "top:5")),
    ],
)
def test_tenants_of_metrics(text: str, tenants: object) -> None:
    """None, those of whom most is told, or a list of names."""
    assert configured(METRICS_TENANTS=text).metrics_tenants == tenants


@pytest.mark.parametrize(
    "text",
    [
        *("acme", "top:0", "top:101", "top:-1", "top", "[]", '[""]', "[1]", "{}", "7", "true"),
        json.dumps([f"t{n}" for n in range(201)]),
    ],
)
def test_what_names_no_tenants_is_refused(text: str) -> None:
    """By the variable, and with what is allowed."""
    assert problems(METRICS_TENANTS=text) == [f"ASYNC_JOBS_METRICS_TENANTS: {ALLOWED}"]


def test_metrics_are_refused_by_name() -> None:
    """A word that names no backend, and a port that is none."""
    assert problems(METRICS="statsd", METRICS_PORT="0") == [
        "ASYNC_JOBS_METRICS: Input should be 'none', 'prometheus' or 'otel'",
        "ASYNC_JOBS_METRICS_PORT: Input should be greater than or equal to 1",
    ]


@pytest.mark.parametrize("text", ["last", "first:", "first:x", "first:-1", "always:5", "FIRST"])
def test_traces_are_refused_by_name(text: str) -> None:
    """A word that names no backend, and attempts that cannot be told."""
    assert problems(TRACES="jaeger", TRACES_PARENT=text) == [
        "ASYNC_JOBS_TRACES: Input should be 'none' or 'otel'",
        "ASYNC_JOBS_TRACES_PARENT: must be first, first:SECONDS, never or always",
    ]


def test_settings_of_traces_that_change_nothing_are_kept_to_be_warned_of() -> None:
    """Traces may be switched off for a while."""
    why = "nothing is traced: set ASYNC_JOBS_TRACES to otel"
    set_ = {"TRACES_PARENT": "never", "TRACES_TENANTS": "false"}

    assert configured(**set_).not_used == {f"ASYNC_JOBS_{name}": why for name in set_}
    assert configured(**set_, TRACES="otel").not_used == {}


def test_a_scrape_token_is_not_shown() -> None:
    """Nor where a configuration is printed."""
    config = configured(METRICS_TOKEN=TOKEN)

    assert config.metrics_token == TOKEN
    assert TOKEN not in repr(config)


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_an_empty_scrape_token_is_refused(text: str) -> None:
    """A secret that was not filled in would let everybody scrape."""
    assert problems(METRICS_TOKEN=text) == [
        "ASYNC_JOBS_METRICS_TOKEN: must not be empty: leave it out, or set it to a secret text"
    ]


@pytest.mark.parametrize("field", ["metrics_token", "enqueue_auth_token"])
@pytest.mark.parametrize("token", ["", "  "])
def test_an_application_gives_no_empty_token(field: str, token: str) -> None:
    """Where there is no environment in between either."""
    with pytest.raises(ValueError, match=f"{field}\n.*must not be empty"):
        AsyncJobsConfig.model_validate({"db_dsn": DSN, field: token})


NOTHING = "nothing is measured: set ASYNC_JOBS_METRICS to prometheus"
NOT_SCRAPED = "ASYNC_JOBS_METRICS is otel, and nobody scrapes this process"


@pytest.mark.parametrize(
    ("metrics", "not_used"),
    [
        ({}, dict.fromkeys(("TENANTS", "TOKEN", "PORT"), NOTHING)),
        ({"METRICS": "otel"}, dict.fromkeys(("TOKEN", "PORT"), NOT_SCRAPED)),
        ({"METRICS": "prometheus"}, {}),
    ],
    ids=["none", "otel", "prometheus"],
)
def test_settings_of_metrics_that_change_nothing_are_kept_to_be_warned_of(
    metrics: dict[str, str], not_used: dict[str, str]
) -> None:
    """They are no error: metrics may be switched off for a while."""
    set_ = {"METRICS_TENANTS": "top:5", "METRICS_TOKEN": TOKEN, "METRICS_PORT": "9464"}

    assert configured(**set_, **metrics).not_used == {
        f"ASYNC_JOBS_METRICS_{name}": why for name, why in not_used.items()
    }
    assert configured(**metrics).not_used == {}


def test_a_queue_that_sqs_does_not_carry_is_kept_to_be_warned_of() -> None:
    """Its address says otherwise than the transport."""
    config = configured(SQS_QUEUE_MAIL="https://sqs.test/1/mail", QUEUE_BACKEND="postgres")

    assert config.not_used == {
        "ASYNC_JOBS_SQS_QUEUE_MAIL": (
            "ASYNC_JOBS_QUEUE_BACKEND is postgres, and SQS carries nothing"
        )
    }
    assert configured(SQS_QUEUE_MAIL="https://sqs.test/1/mail").not_used == {}
