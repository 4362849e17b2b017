"""Every error is a problem document made by the routes themselves, and tells no secrets."""

from __future__ import annotations

import logging
from typing import Any, cast

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Query
from starlette.requests import Request
from starlette.responses import JSONResponse

from async_jobs import create_jobs_router
from async_jobs.adapters.http.wire import PROBLEM_MEDIA_TYPE, TOKEN_HEADER, Problem, error_of
from async_jobs.domain.errors import (
    AsyncJobsError,
    ConfigurationError,
    InvalidJobError,
    MigrationDue,
    RemoteHttpError,
    TenantBusy,
    Unavailable,
)
from async_jobs.entrypoints.http.app import create_app
from async_jobs.entrypoints.http.problems import TITLES
from async_jobs.ports.jobs import Jobs
from async_jobs.testing.builders import an_id
from async_jobs.testing.system import MemorySystem
from tests.unit.api.callers import SHARED, a_body, calling, invalid_field, problem_in

SECRET = "INSERT INTO jobs VALUES ('s3cret')"
CALLS = (
    ("POST", "/jobs/enqueue", a_body()),
    ("POST", "/jobs/enqueue-batch", {"jobs": [a_body()]}),
    ("POST", "/jobs/outlook", a_body()),
    ("GET", "/jobs/", None),
    ("GET", f"/jobs/{an_id()}", None),
    ("POST", f"/jobs/{an_id()}/cancel", None),
    ("POST", f"/jobs/{an_id()}/retry", None),
)
each_call = pytest.mark.parametrize(
    ("method", "path", "body"), CALLS, ids=[c[1][:20] for c in CALLS]
)


class Failing:
    """A service of which every call fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        async def fail(*_: object, **__: object) -> None:
            raise self._error

        return fail


def failing(error: Exception) -> httpx.AsyncClient:
    """Return a caller of an API whose service fails."""
    jobs = cast("Jobs", Failing(error))
    return calling(create_app(lambda: jobs, auth_token=SHARED))


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged during a test, all of it."""
    caplog.set_level(logging.DEBUG, logger="async_jobs")
    return caplog


# --- Errors of the service -------------------------------------------------------------------


@each_call
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(SECRET),
        ConfigurationError(SECRET),
        RemoteHttpError(502, SECRET),
        AsyncJobsError(SECRET),
        KeyError("payload", SECRET),
        RecursionError(SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_nobody_foresaw_is_a_500_without_details(
    logged: pytest.LogCaptureFixture, method: str, path: str, body: Any, error: Exception
) -> None:
    """Its kind and its place are logged, once; what it says is told to nobody."""
    async with failing(error) as client:
        response = await client.request(method, path, json=body)

    document = problem_in(response, 500, Problem.INTERNAL_ERROR)
    assert set(document) == {"type", "title", "status", "detail"}
    (record,) = logged.records
    assert (record.name, record.levelname, record.msg) == ("async_jobs", "ERROR", "api_failed")
    assert vars(record)["problem"] == type(error).__name__
    assert "test_problems.py" in vars(record)["at"][-1]
    for shown in (response.text, str(response.headers), str(vars(record)), logged.text):
        assert SECRET not in shown
        assert "s3cret" not in shown


@each_call
async def test_a_component_that_does_not_answer_is_a_503(
    logged: pytest.LogCaptureFixture, method: str, path: str, body: Any
) -> None:
    """With the time to wait; what the component said may name hosts, and is not told."""
    async with failing(Unavailable(f"db.internal:5432 {SECRET}")) as client:
        response = await client.request(method, path, json=body)

    document = problem_in(response, 503, Problem.UNAVAILABLE)
    assert int(response.headers["retry-after"]) >= 1
    assert isinstance(error_of(document), Unavailable)
    assert "db.internal" not in response.text
    assert logged.records == []


async def test_a_busy_tenant_is_a_503_that_says_so() -> None:
    """It names nothing but what the caller named, and that nothing was written is known."""
    error = TenantBusy(["acme"], 10.0)
    async with failing(error) as client:
        response = await client.post("/jobs/enqueue", json=a_body())

    document = problem_in(response, 503, Problem.UNAVAILABLE)
    assert document["detail"] == str(error)
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("error", [RuntimeError(SECRET), Unavailable(SECRET)])
async def test_a_factory_that_fails_is_no_different(error: Exception) -> None:
    """It is called for each request that was let in."""

    def factory() -> Jobs:
        raise error

    async with calling(create_app(factory, auth_token=SHARED)) as client:
        response = await client.get("/jobs/")

    assert response.status_code in {500, 503}
    assert response.headers["content-type"] == PROBLEM_MEDIA_TYPE


async def test_a_factory_may_be_a_coroutine_function(system: MemorySystem) -> None:
    """For applications that open something first."""

    async def factory() -> Jobs:
        return system.service

    async with calling(create_app(factory, auth_token=SHARED)) as client:
        response = await client.post("/jobs/enqueue", json=a_body())

    assert response.status_code == 201


async def test_the_log_is_told_once_an_hour_that_a_migration_is_due(
    system: MemorySystem, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the route; clients that repeat what was refused would fill it."""
    service = cast("Jobs", Failing(MigrationDue("it lacks jobs; run: async-jobs migrate")))
    told = []
    async with calling(create_app(lambda: service, auth_token=SHARED, clock=system.clock)) as each:
        for minutes in (0, 59, 1, 59):
            system.clock.advance(60 * minutes)
            for path in ("/jobs/", f"/jobs/{an_id()}"):
                assert (await each.get(path)).status_code == 503
            told.append([record.message for record in caplog.records].count("migration_due"))

    assert told == [1, 1, 2, 2]


async def test_a_refusal_of_the_store_is_told_by_its_field() -> None:
    """The domain does not know everything."""
    async with failing(InvalidJobError("id", "belongs to another job")) as client:
        response = await client.post("/jobs/enqueue", json=a_body())

    assert invalid_field(response) == "id"


def test_every_type_of_problem_has_a_title() -> None:
    """Short, and the same for each occurrence."""
    assert TITLES.keys() == set(Problem)
    assert len(set(TITLES.values())) == len(Problem)


# --- In somebody else's application ----------------------------------------------------------


def hosted(system: MemorySystem, **options: Any) -> FastAPI:
    """Return an application that includes the routes and handles no errors."""
    router = create_jobs_router(
        job_service_factory=lambda: system.service, auth_token=SHARED, **options
    )
    host = FastAPI()
    host.include_router(router, prefix="/internal")
    return host


async def test_the_routes_work_in_any_application(system: MemorySystem) -> None:
    """Below a prefix, and with every error a problem document."""
    async with calling(hosted(system)) as client:
        enqueued = await client.post("/internal/jobs/enqueue", json=a_body())
        listed = await client.get("/internal/jobs")
        invalid = await client.post("/internal/jobs/enqueue", json={})
        missing = await client.get(f"/internal/jobs/{an_id()}")
        nobody = await client.get("/internal/jobs/", headers={TOKEN_HEADER: "x"})

    assert (enqueued.status_code, listed.status_code) == (201, 200)
    problem_in(invalid, 422, Problem.INVALID_JOB)
    problem_in(missing, 404, Problem.JOB_NOT_FOUND)
    problem_in(nobody, 401, Problem.UNAUTHENTICATED)


async def test_the_host_describes_the_routes(system: MemorySystem) -> None:
    """Whole in themselves: no reference leads out of them."""
    async with calling(hosted(system)) as client:
        response = await client.get("/openapi.json")

    document = response.json()
    assert document["paths"]["/internal/jobs/enqueue"]["post"]["operationId"] == "enqueue_job"
    assert "$ref" not in response.text
    assert "HTTPValidationError" not in response.text


async def test_the_limits_of_bodies_can_be_set(system: MemorySystem) -> None:
    """For one job, and for a batch."""
    async with calling(hosted(system, job_bytes_max=50, batch_bytes_max=60)) as client:
        for path, bytes_max in (("enqueue", 50), ("enqueue-batch", 60)):
            headers = {"content-type": "application/json"}
            url = f"/internal/jobs/{path}"
            at_most = await client.post(url, content=b" " * bytes_max, headers=headers)
            beyond = await client.post(url, content=b" " * (bytes_max + 1), headers=headers)

            problem_in(at_most, 422, Problem.INVALID_JOB)
            problem_in(beyond, 413, Problem.BODY_TOO_LARGE)


class NotLoggedIn(Exception):
    """An error of a host application's own."""


async def test_what_a_host_puts_in_front_is_its_own_affair(system: MemorySystem) -> None:
    """Its dependencies raise its errors, which meet its handlers."""

    def weekday(day: int = Query()) -> None:
        if day == 6:
            raise NotLoggedIn
        if day == 7:
            raise HTTPException(418, "closed on Sundays")

    async def sent_to_login(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"login": "/login"}, 401)

    host = FastAPI()
    host.add_exception_handler(NotLoggedIn, sent_to_login)
    router = create_jobs_router(lambda: system.service, SHARED)
    host.include_router(router, dependencies=[Depends(weekday)])
    async with calling(host) as client:
        invalid = await client.post("/jobs/enqueue?day=Sunday", json=a_body())
        unknown = await client.post("/jobs/enqueue?day=6", json=a_body())
        refused = await client.post("/jobs/enqueue?day=7", json=a_body())
        taken = await client.post("/jobs/enqueue?day=1", json=a_body())

    assert invalid.json()["detail"][0]["loc"] == ["query", "day"]
    assert (unknown.status_code, unknown.json()) == (401, {"login": "/login"})
    assert (refused.status_code, refused.json()) == (418, {"detail": "closed on Sundays"})
    assert taken.status_code == 201


def test_without_a_token_there_are_no_routes(system: MemorySystem) -> None:
    """Open by mistake is not possible; the error says what to set."""
    with pytest.raises(ConfigurationError, match="ASYNC_JOBS_ENQUEUE_AUTH_TOKEN"):
        create_jobs_router(lambda: system.service)


async def test_without_a_token_it_may_be_open(system: MemorySystem) -> None:
    """When that was said; it is then not described as asking for one."""
    app = create_app(lambda: system.service, allow_unauthenticated=True)
    async with calling(app, None) as client:
        response = await client.post("/jobs/enqueue", json=a_body())

    assert response.status_code == 201
    assert "security" not in str(app.openapi())
