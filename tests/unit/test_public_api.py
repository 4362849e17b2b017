"""The public names: importable, complete, and cheap until they are used."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import async_jobs
from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.domain import errors
from async_jobs.ports.bulk_steering import BulkSteering
from async_jobs.ports.jobs import Jobs
from async_jobs.ports.operations import Operations
from async_jobs.ports.reports import Reports
from async_jobs.ports.steering import Steering
from async_jobs.testing import SimpleLimits

LIMITS = SimpleLimits(use_case_configs={}, per_tenant_quotas={})
PROMISED = {
    "AsyncJobsConfig",
    "AsyncJobsError",
    "AsyncJobsHttpClient",
    "AuthTokenError",
    "BackoffPolicy",
    "EnqueueJobRequest",
    "IllegalTransition",
    "InvalidJobError",
    "Job",
    "JobContext",
    "JobNotFoundError",
    "JobRegistry",
    "JobService",
    "JobStatus",
    "JobStore",
    "Store",
    "JobsHttpClient",
    "OperationsService",
    "QuotaExceededError",
    "Reject",
    "RemoteHttpError",
    "ReportsService",
    "RetryAfter",
    "Snooze",
    "SteeringService",
    "TenantQuota",
    "Unavailable",
    "UseCaseConfig",
    "create_dashboard",
    "create_jobs_router",
    "create_operations_router",
    "get_ddl",
    "job_registry",
    "run_scheduler_loop",
    "run_worker_loop",
}


@pytest.mark.parametrize("name", async_jobs.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    """And is found where it was announced."""
    value = getattr(async_jobs, name)

    assert getattr(value, "__name__", name) == name


def test_every_promised_name_is_public() -> None:
    """Taking one away breaks applications."""
    assert set(async_jobs.__all__) >= PROMISED


def of_this_package(hint: Any) -> Iterator[type]:
    """Yield the classes of the package that a type hint names."""
    for part in typing.get_args(hint):
        yield from of_this_package(part)
    if inspect.isclass(hint) and hint.__module__.partition(".")[0] == "async_jobs":
        yield hint


def met_by_callers_of(port: type) -> set[type]:
    """Return what a caller hands to a port or is answered, and what is inside of that."""
    hints = [
        hint
        for name, call in vars(port).items()
        if not name.startswith("_") and inspect.isfunction(call)
        for hint in typing.get_type_hints(call).values()
    ]
    met: set[type] = set()
    while hints:
        found = set(of_this_package(hints.pop())) - met
        met |= found
        for each in found:
            if dataclasses.is_dataclass(each):
                hints += typing.get_type_hints(each).values()
    return met


@pytest.mark.parametrize("port", [Jobs, Operations, Steering, BulkSteering, Reports])
def test_whatever_a_caller_meets_has_a_public_name(port: type) -> None:
    """Requests and answers of all driving ports, to annotate and to compare with."""
    missing = {each.__name__ for each in met_by_callers_of(port)} - set(async_jobs.__all__)

    assert not missing


def test_every_error_can_be_caught_by_a_public_name() -> None:
    """Its own, or that of a kind which says what to do about it."""
    public = [getattr(async_jobs, name) for name in async_jobs.__all__ if name != "AsyncJobsError"]
    kinds = tuple(each for each in public if inspect.isclass(each) and issubclass(each, Exception))
    found = [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.AsyncJobsError)
    ]

    assert [each for each in found if not issubclass(each, kinds)] == [errors.AsyncJobsError]


def test_the_names_are_listed_once_and_in_order() -> None:
    """`dir()` shows them."""
    assert sorted(set(async_jobs.__all__)) == async_jobs.__all__
    assert set(dir(async_jobs)) >= set(async_jobs.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="JobSerivce"):
        _ = async_jobs.JobSerivce


def test_the_errors_have_one_root() -> None:
    """An application catches `AsyncJobsError` and has them all."""
    errors = [
        value
        for name in async_jobs.__all__
        if isinstance(value := getattr(async_jobs, name), type) and issubclass(value, Exception)
    ]
    outcomes = {async_jobs.Snooze, async_jobs.Reject, async_jobs.RetryAfter}

    assert len(errors) > len(outcomes)
    assert all(issubclass(error, async_jobs.AsyncJobsError) for error in set(errors) - outcomes)
    assert not any(issubclass(outcome, async_jobs.AsyncJobsError) for outcome in outcomes)


def modules_loaded_by(statements: str) -> set[str]:
    """Return what a new interpreter has imported after some statements."""
    code = f"{statements}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split())


def loaded_by(statements: str) -> set[str]:
    """Return the packages that a new interpreter has imported after some statements."""
    return {name.partition(".")[0] for name in modules_loaded_by(statements)}


def test_importing_the_package_imports_nothing_heavy() -> None:
    """An application pays for what it uses, and needs no extra that it does not use."""
    loaded = loaded_by("import async_jobs")

    assert "async_jobs" in loaded
    assert not loaded & {"asyncpg", "dependency_injector", "fastapi", "httpx", "pydantic", "typer"}


def test_enqueueing_imports_no_libraries_of_the_processes() -> None:
    """Nor is there more for the application's garbage collector to look through."""
    names = "AsyncJobsConfig, EnqueueJobRequest, JobService, PostgresJobStore"
    loaded = loaded_by(f"from async_jobs import {names}")

    assert "asyncpg" in loaded
    assert not loaded & {"aioboto3", "dependency_injector", "fastapi", "httpx", "rich", "typer"}


HELP = """
import sys
from async_jobs.entrypoints.cli.main import main
sys.argv = ["async-jobs", "--help"]
try:
    main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize(
    ("statements", "before", "unneeded"),
    [
        pytest.param(
            "from async_jobs import create_jobs_router",
            367,
            {"asyncpg", "dependency_injector", "pydantic_settings", "typer"},
            id="create_jobs_router",
        ),
        pytest.param(
            HELP,
            578,
            {"asyncpg", "dependency_injector", "fastapi", "pydantic", "structlog"},
            id="async-jobs --help",
        ),
    ],
)
def test_a_door_loads_what_lies_behind_it_and_no_more(
    statements: str, before: int, unneeded: set[str]
) -> None:
    """At most two thirds of the modules, ours and other packages', that commit 0362666 loaded."""
    loaded = modules_loaded_by(statements)
    counted = [name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names]

    assert "async_jobs" in loaded
    assert not {name.partition(".")[0] for name in loaded} & unneeded
    assert len(counted) <= before * 2 // 3


@pytest.mark.parametrize(
    ("config", "store", "told"),
    [
        (LIMITS, None, "store must be a Store, .* it is a NoneType"),
        (None, MemoryJobStore(), "config must be an AsyncJobsConfig, .* it is a NoneType"),
        ({}, MemoryJobStore(), "config must be .* its use_case_configs .* it is a dict"),
    ],
)
def test_a_service_says_at_once_what_it_cannot_be_made_of(
    config: Any, store: Any, told: str
) -> None:
    """By the parameter's name, before the first call."""
    with pytest.raises(TypeError, match=told):
        async_jobs.JobService(config, store)


def test_a_worker_imports_nothing_that_others_run() -> None:
    """Workers start often, several at once, and each pays with CPU that running ones need."""
    loaded = modules_loaded_by("import async_jobs.entrypoints.programs.processes")
    rooms = {".".join(name.split(".")[:3]) for name in loaded}

    assert "async_jobs.application.working" in rooms
    assert not {name.partition(".")[0] for name in loaded} & {"fastapi", "httpx", "uvicorn"}
    assert not rooms & {
        "async_jobs.adapters.memory",
        "async_jobs.application.enqueueing",
        "async_jobs.application.operating",
        "async_jobs.application.scheduling",
    }
