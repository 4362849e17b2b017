"""Thousands of requests made from the OpenAPI document, valid and not: every answer is in it.

Each case is generated from the schema of its route (by schemathesis, with a fixed seed), sent,
and its answer held against the document: no 5xx, no status, header or body that is not described,
nothing invalid accepted, nothing valid refused. Most go to the application in this process, on
the memory adapters; hundreds go through a socket to Postgres, whose rules on text and numbers
are not Python's.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias
from uuid import UUID

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import negative_data_rejection, positive_data_acceptance
from schemathesis.config import GenerationConfig
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation, BaseSchema

from async_jobs.adapters.http.wire import TOKEN_HEADER, Problem
from async_jobs.domain.bulk import BulkAction
from async_jobs.entrypoints.http.app import create_app
from async_jobs.entrypoints.serving.asgi import serving
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.wiring.container import opened
from async_jobs.ports.jobs import Jobs
from async_jobs.testing.builders import a_request
from async_jobs.testing.system import MemorySystem, memory_system

AnyOperation: TypeAlias = APIOperation[Any, Any, Any, Any]
AnyCase: TypeAlias = Case[Any]

TOKEN = "fuzz-token"
USE_CASE = "notifications"
OPERATIONS = (
    "enqueue_job",
    "enqueue_jobs",
    "foresee_job",
    "get_job",
    "list_jobs",
    "cancel_job",
    "retry_job",
    "explain_job",
    "job_history",
    "explain_waiting",
    "status",
    "attainment",
    "search_jobs",
    "error_groups",
    # Last, so that what they pause keeps nothing from being enqueued.
    "put_control",
    "preview_control",
    "end_control",
    "revert_control",
    "audit",
    "preview_bulk",
    "start_bulk",
    "bulk_operations",
    "get_bulk",
    "stop_bulk",
    "undo_bulk",
)
FILTERED = ("preview_bulk", "start_bulk")
STEERING = OPERATIONS[OPERATIONS.index("put_control") :]
IN_MEMORY_CASES = dict.fromkeys(OPERATIONS, 200) | {
    "enqueue_jobs": 80,  # long ones
    # All that varies of these is the id in the path.
    "get_job": 80,
    "cancel_job": 80,
    "retry_job": 80,
    "explain_job": 80,
    "job_history": 80,
    "status": 80,
    "attainment": 40,
    "search_jobs": 6,
    "error_groups": 6,
    **dict.fromkeys(STEERING, 20),
    **dict.fromkeys(FILTERED, 6),
}
OVER_THE_WIRE_CASES = (
    dict.fromkeys(OPERATIONS, 40)
    | dict.fromkeys(STEERING, 8)
    | {"search_jobs": 3, "error_groups": 3}
    | dict.fromkeys(FILTERED, 3)
)
"""For each operation, once valid and once not; boundary cases come on top."""
BOUNDARIES_MAX = {"search": 60, "preview": 40, "bulk": 40}
"""By the end of a path. Its conditions vary alike, and a test of the domain has their bounds."""
ACKNOWLEDGED_MIN = 20
"""Of the valid cases of the two operations that enqueue, which come to some forty jobs."""
CASE_SECONDS_MAX = 20.0

# What the document cannot say in a schema, and may therefore be a 422 for valid data.
_PAYLOAD = re.compile(r"(jobs\[\d+\]\.)?payload\b")
UNSAID = (
    "366 days",
    "is taken",
    "is not configured",
    "unless tenant_id is given",
    "must be before until",
    "1970 to 9000",
    "beside it",
    "later than since",
    "less than attempts_min",
    "years 1000 to 8999",
    "at most 1000 steps",
    "preview again",
    "must have a condition",
    *(f" to {each}" for each in BulkAction),
    "500 characters",  # of which one at least is no space
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Some strategies ask for what is hard to find; that is hypothesis's own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def specification(app: FastAPI, **options: Any) -> BaseSchema:
    """Return the application's document; the token, which is always sent, is left out of it."""
    document = copy.deepcopy(app.openapi())
    for path in document["paths"].values():
        for operation in path.values():
            operation.pop("security", None)
    del document["components"]["securitySchemes"]
    return schemathesis.openapi.from_dict(document, **options)


def operation_of(schema: BaseSchema, name: str) -> AnyOperation:
    """Return the operation of that id."""
    for each in schema.get_all_operations():
        assert isinstance(each, Ok)
        operation: AnyOperation = each.ok()
        if operation.definition.raw["operationId"] == name:
            return operation
    raise AssertionError(f"there is no operation {name}")


class Fuzz:
    """Sends the cases of one operation; counts them, and keeps the ids it was promised."""

    def __init__(self, operation: AnyOperation, ids: Sequence[str]) -> None:
        self.operation = operation
        self.ids = ids
        self.cases: Counter[str] = Counter()
        self.acknowledged: set[str] = set()

    def generated(self, mode: GenerationMode, count: int) -> None:
        """Send so many cases that hypothesis draws."""

        @seed(20_300_101)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(
            case=self.operation.as_strategy(generation_mode=mode),
            id=st.sampled_from([None, *self.ids]),
        )
        def send(case: AnyCase, id: str | None) -> None:
            if mode is GenerationMode.POSITIVE:
                configured(case)
                if id is not None and "job_id" in case.path_parameters:
                    case.path_parameters["job_id"] = id
            self.send(case, mode.value)

        send()

    def boundaries(self) -> None:
        """Send the cases on both sides of every bound of the document."""
        cases = self.operation.schema.iter_coverage_cases(
            self.operation,
            generation_modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE],
            generation_config=GenerationConfig(),
        )
        for case in itertools.islice(cases, BOUNDARIES_MAX.get(self.operation.path.split("/")[-1])):
            self.send(case, "boundary")

    def send(self, case: AnyCase, kind: str) -> None:
        """Send one case, and hold the answer against the document."""
        response = case.call(headers={TOKEN_HEADER: TOKEN}, timeout=CASE_SECONDS_MAX)
        self.cases[kind] += 1
        excluded = []
        if response.status_code == 422 and is_unsaid(response.json()):
            excluded.append(positive_data_acceptance)
        if any(value in ([], {}) for value in (case.query or {}).values()):
            excluded.append(negative_data_rejection)  # nothing of it is in the URL
        if response.status_code in {200, 201} and case.operation.path.startswith("/jobs/enqueue"):
            answer = response.json()
            self.acknowledged |= {each["job_id"] for each in answer.get("jobs", [answer])}
        case.validate_response(response, excluded_checks=excluded)


def configured(case: AnyCase) -> None:
    """Let a valid body name what is configured: which names are is not in the document."""
    whole: Any = case.body
    if isinstance(whole, dict) and "reason" in whole:
        if "use_case" in whole.get("scope", {}):
            whole["scope"]["use_case"] = USE_CASE
        return
    if isinstance(whole, dict) and case.operation.path.startswith(
        ("/jobs/enqueue", "/jobs/outlook")
    ):
        for body in whole.get("jobs", [whole]):
            body["use_case"] = USE_CASE
            body.pop("queue", None)
    if case.operation.path == "/operations/explain" and case.query.get("use_case"):
        case.query["use_case"] = USE_CASE


def is_unsaid(document: dict[str, Any]) -> bool:
    """Tell whether all that a 422 complains of are rules that no schema can hold."""
    assert document["type"] == Problem.INVALID_JOB
    told = document.get("errors", [document])
    return all(
        _PAYLOAD.match(each["field"]) or any(part in each["problem"] for part in UNSAID)
        for each in told
    )


# --- In memory -------------------------------------------------------------------------------


@pytest.fixture
def system() -> MemorySystem:
    return memory_system(use_cases=[USE_CASE])


async def in_every_state(jobs: Jobs) -> list[str]:
    """Enqueue some jobs and cancel half of them; returns their ids."""
    many = await jobs.enqueue_many([a_request(use_case=USE_CASE) for _ in range(4)])
    for each in many[::2]:
        await jobs.cancel_job(each.job_id)
    return [str(each.job_id) for each in many]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_answer_is_described(
    system: MemorySystem, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In memory: hundreds of generated cases per operation, and all of its boundaries."""
    app = create_app(
        lambda: system.service,
        operations_factory=lambda: system.operations,
        reports_factory=lambda: system.reports,
        steering_factory=lambda: system.steering,
        search_factory=lambda: system.search,
        bulk_factory=lambda: system.bulk,
        auth_token=TOKEN,
        clock=system.clock,
    )
    schema = specification(app)
    schema.app = app
    ids = asyncio.run(in_every_state(system.service))
    fuzz = Fuzz(operation_of(schema, name), ids)

    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        fuzz.generated(mode, IN_MEMORY_CASES[name])
    fuzz.boundaries()

    boundaries_min = 200 if name.startswith("enqueue") else 20
    if name == "get_bulk":
        boundaries_min = 10  # there is nothing but its id
    assert min(fuzz.cases["positive"], fuzz.cases["negative"]) >= IN_MEMORY_CASES[name]
    assert fuzz.cases["boundary"] >= boundaries_min
    assert not [record for record in caplog.records if record.msg == "api_failed"]


# --- Over the wire, on Postgres --------------------------------------------------------------


async def test_every_answer_is_described_on_postgres_too(
    database_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Through a socket, uvicorn and asyncpg; afterwards every job that was acknowledged exists."""
    use_cases = json.dumps({USE_CASE: {}})
    environ = {"ASYNC_JOBS_DB_DSN": database_dsn, "ASYNC_JOBS_USE_CASES": use_cases}
    config = AsyncJobsConfig.from_env(environ)
    logger = logging.getLogger("async_jobs")
    async with opened(config, logger, application_name="fuzz") as container:
        service = container.service()
        app = create_app(
            container.service,
            operations_factory=container.operations,
            reports_factory=container.reports,
            steering_factory=container.steering,
            search_factory=container.search,
            bulk_factory=container.bulk_steering,
            auth_token=TOKEN,
        )
        ids = await in_every_state(service)
        async with serving(app, host="127.0.0.1", port=0, option="--port") as served:
            schema = specification(app)
            schema.config.update(base_url=f"http://127.0.0.1:{served.port}")
            fuzzes = {name: Fuzz(operation_of(schema, name), ids) for name in OPERATIONS}
            for name, fuzz in fuzzes.items():
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    await asyncio.to_thread(fuzz.generated, mode, OVER_THE_WIRE_CASES[name])
        acknowledged = {job_id for fuzz in fuzzes.values() for job_id in fuzz.acknowledged}
        kept = [await service.get_job(UUID(job_id)) for job_id in acknowledged]

    sent = sum(fuzz.cases.total() for fuzz in fuzzes.values())
    assert sent >= 2 * sum(OVER_THE_WIRE_CASES.values())
    # How many requests are accepted is drawn as well; a few would say nothing about the rest.
    assert len(kept) >= ACKNOWLEDGED_MIN
    assert not [record for record in caplog.records if record.msg == "api_failed"]
