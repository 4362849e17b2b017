"""The application around the routes: health, documents, and what is not there."""

from __future__ import annotations

import logging

import httpx
import pytest

from async_jobs import __version__
from async_jobs.adapters.http.wire import TOKEN_HEADER, Problem
from async_jobs.adapters.telemetry.scraping import ScrapePage
from async_jobs.entrypoints.http.app import Ready, create_app
from async_jobs.testing.system import MemorySystem
from tests.unit.api.callers import SHARED, calling, problem_in

ID = "01983f5a-7c00-7000-8000-000000000001"


async def soon(answer: bool) -> bool:
    return answer


def broken() -> bool:
    raise OSError("password is s3cret")


async def test_a_process_that_answers_lives(client: httpx.AsyncClient) -> None:
    """Also for a probe without a token."""
    response = await client.get("/health/live", headers={TOKEN_HEADER: ""})

    assert (response.status_code, response.json()) == (200, {"status": "live"})


@pytest.mark.parametrize(
    ("ready", "status", "told"),
    [
        (lambda: True, 200, "ready"),
        (lambda: False, 503, "not ready"),
        (lambda: soon(True), 200, "ready"),
        (lambda: soon(False), 503, "not ready"),
        (broken, 503, "not ready"),
    ],
)
async def test_a_process_says_whether_it_can_serve(
    system: MemorySystem, ready: Ready, status: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As the callable answers, at once or later; one that fails says no."""
    caplog.set_level(logging.DEBUG, logger="async_jobs")
    app = create_app(lambda: system.service, auth_token=SHARED, ready=ready)
    async with calling(app, None) as client:
        response = await client.get("/health/ready")

    assert (response.status_code, response.json()) == (status, {"status": told})
    assert "s3cret" not in caplog.text + str([vars(each) for each in caplog.records])


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/%00",
        "/job",
        "/jobs//",
        "/jobs/enqueue/",
        f"/jobs/{ID}/",
        f"/jobs/{ID}/delete",
        f"/jobs/{ID}/cancel/",
        "/health",
        "/health/live/",
        "/redoc",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_an_unknown_route_is_a_404(client: httpx.AsyncClient, method: str, path: str) -> None:
    """With a type of its own, so that it is not taken for a missing job; never a redirect."""
    response = await client.request(method, path)

    problem_in(response, 404, Problem.NO_SUCH_ROUTE)


@pytest.mark.parametrize(("path", "allow"), [("/health/live", "GET"), ("/jobs/", "GET")])
async def test_a_wrong_method_is_a_405(client: httpx.AsyncClient, path: str, allow: str) -> None:
    """With the methods there are."""
    response = await client.delete(path)

    problem_in(response, 405, Problem.METHOD_NOT_ALLOWED)
    assert response.headers["allow"] == allow


async def test_the_documents_are_served_to_everybody(client: httpx.AsyncClient) -> None:
    """They hold no secret."""
    described = await client.get("/openapi.json", headers={TOKEN_HEADER: ""})
    shown = await client.get("/docs", headers={TOKEN_HEADER: ""})

    assert described.json()["info"]["version"] == __version__
    assert shown.status_code == 200
    assert SHARED not in described.text + shown.text


@pytest.mark.parametrize(
    ("token", "given", "status"),
    [
        (None, None, 200),
        ("scrape", "Bearer scrape", 200),
        ("scrape", "bearer scrape", 200),
        ("scrape", None, 401),
        ("scrape", "Bearer other", 401),
        ("scrape", "Bearer ", 401),
        ("scrape", "Basic scrape", 401),
        ("scrape", "scrape", 401),
    ],
)
async def test_a_scrape_brings_the_token_that_is_set(
    system: MemorySystem, token: str | None, given: str | None, status: int
) -> None:
    """As a bearer token; that of the API neither helps nor is asked for."""
    page = ScrapePage(lambda: b"# a page\n", token)
    app = create_app(lambda: system.service, auth_token=SHARED, scrapes=page)
    async with calling(app, None) as client:
        headers = {} if given is None else {"Authorization": given}
        response = await client.get("/metrics", headers=headers)

    assert response.status_code == status
    assert (response.content == b"# a page\n") is (status == 200)
    assert response.headers["content-type"].startswith("text/plain")


async def test_without_metrics_there_is_no_page(client: httpx.AsyncClient) -> None:
    """Nor is there one in the document."""
    response = await client.get("/metrics")
    document = (await client.get("/openapi.json")).json()

    assert response.status_code == 404
    assert "/metrics" not in document["paths"]
