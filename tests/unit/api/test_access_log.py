"""The log of requests: who asked for what and how it ended, and nothing of what was asked."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from async_jobs.adapters.http.wire import TOKEN_HEADER
from async_jobs.entrypoints.http.access_log import REFUSED_TOLD_AGAIN_SECONDS
from async_jobs.entrypoints.http.app import create_app
from async_jobs.entrypoints.settings.tokens import ApiToken, digest_of
from async_jobs.testing.system import MemorySystem
from tests.unit.api.callers import SHARED, a_body, a_token, calling

SECRET = "hunter2"
ID = "01983f5a-7c00-7000-8000-000000000001"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="async_jobs")
    return caplog


@pytest.fixture
def app(system: MemorySystem) -> FastAPI:
    """The application with its log of requests, and tokens with and without a name."""
    named = ApiToken(
        sha256=digest_of(b"named").hex(), tenants="*", scopes=["enqueue", "read"], name="mailer"
    )
    return create_app(
        lambda: system.service,
        operations_factory=lambda: system.operations,
        auth_token=SHARED,
        tokens=[named, a_token("nameless")],
        clock=system.clock,
        access_log=True,
    )


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(app) as client:
        yield client


def requests(logged: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return what was told of each request."""
    return [vars(each) for each in logged.records if each.getMessage() == "request"]


FIELDS = ("method", "route", "status", "token")


@pytest.mark.parametrize(
    ("method", "path", "token", "told"),
    [
        ("POST", "/jobs/enqueue", SHARED, ("POST", "/jobs/enqueue", 201, "shared")),
        ("GET", f"/jobs/{ID}", "named", ("GET", "/jobs/{job_id}", 404, "mailer")),
        ("POST", f"/jobs/{ID}/retry", "named", ("POST", "/jobs/{job_id}/retry", 403, "mailer")),
        ("GET", f"/jobs?tenant_id={SECRET}", "nameless", ("GET", "/jobs", 200, "#1")),
        ("GET", "/operations/status", SHARED, ("GET", "/operations/status", 200, "shared")),
        ("GET", "/jobs", SECRET, ("GET", "/jobs", 401, None)),
        ("GET", f"/{SECRET}", SHARED, ("GET", None, 404, None)),
        (SECRET.upper(), "/jobs", SHARED, ("other", "/jobs", 405, None)),
    ],
)
async def test_a_request_is_told_by_its_route(
    client: httpx.AsyncClient,
    logged: pytest.LogCaptureFixture,
    method: str,
    path: str,
    token: str,
    told: tuple[object, ...],
) -> None:
    """With what its token is called; no value of a path, a query or a body, and no token."""
    body = a_body(payload={"password": SECRET}) if method == "POST" else None
    answer = await client.request(method, path, json=body, headers={TOKEN_HEADER: token})

    (record,) = requests(logged)
    assert tuple(record[field] for field in FIELDS) == told
    assert record["status"] == answer.status_code
    assert record["seconds"] >= 0
    assert SECRET not in str([vars(each) for each in logged.records]).lower()


@pytest.mark.parametrize(
    ("given", "kept"),
    [("trace-7.a:b/c=d", True), ("a b", False), ("\x1b[31m", False), ("x" * 129, False)],
)
async def test_a_request_has_an_id(
    client: httpx.AsyncClient, logged: pytest.LogCaptureFixture, given: str, kept: bool
) -> None:
    """The caller's own if it is a word, else a new one; both sides know it."""
    answers = [await client.get("/jobs", headers={"X-Request-ID": given}) for _ in range(2)]

    told = [record["request_id"] for record in requests(logged)]
    assert told == [answer.headers["x-request-id"] for answer in answers]
    assert (told == [given, given]) is kept
    assert (len(set(told)) == 1) is kept


async def test_a_request_that_fails_is_told(
    system: MemorySystem, logged: pytest.LogCaptureFixture
) -> None:
    """As what a server makes of an application that raises."""
    app = create_app(lambda: system.service, auth_token=SHARED, access_log=True)

    async def fails() -> None:
        raise OSError(SECRET)

    app.add_api_route("/fails", fails)
    async with calling(app) as client:
        with pytest.raises(OSError, match=SECRET):
            await client.get("/fails")

    (record,) = requests(logged)
    assert (record["route"], record["status"]) == ("/fails", 500)


async def test_probes_are_not_told(
    client: httpx.AsyncClient, logged: pytest.LogCaptureFixture
) -> None:
    """They ask every few seconds."""
    assert (await client.get("/health/live")).status_code == 200
    assert (await client.get("/health/ready")).status_code == 200

    assert requests(logged) == []


async def test_nothing_is_told_of_requests_unless_that_is_set(
    system: MemorySystem, logged: pytest.LogCaptureFixture
) -> None:
    """Nor is anything there that would."""
    app = create_app(lambda: system.service, auth_token=SHARED)
    async with calling(app) as client:
        answer = await client.get("/jobs")

    assert (requests(logged), answer.headers.get("x-request-id")) == ([], None)


async def test_refused_tokens_are_told_once_a_minute(
    client: httpx.AsyncClient, system: MemorySystem, logged: pytest.LogCaptureFixture
) -> None:
    """With how many there were: who guesses must not fill the disk."""
    for _ in range(5):
        await client.get("/jobs", headers={TOKEN_HEADER: SECRET})
    system.clock.advance(REFUSED_TOLD_AGAIN_SECONDS)
    await client.post("/jobs/enqueue", headers={TOKEN_HEADER: SECRET})

    told = [vars(each) for each in logged.records if each.getMessage() == "token_refused"]
    assert [(each["times"], each["route"]) for each in told] == [(1, "/jobs"), (5, "/jobs/enqueue")]
    assert SECRET not in str(told)
