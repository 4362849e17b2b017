"""POST /jobs/outlook: the body of an enqueue in, how it looks out, and no job made."""

from __future__ import annotations

import logging
from typing import Any, cast

import httpx
import pytest

from async_jobs.adapters.http.wire import Problem
from async_jobs.entrypoints.http.app import create_app
from async_jobs.entrypoints.http.reading import JOB_BYTES_MAX
from async_jobs.ports.jobs import Jobs
from async_jobs.testing.builders import a_request, a_worker, later
from async_jobs.testing.system import MemorySystem
from tests.unit.api.callers import SHARED, a_body, a_token, calling, invalid_field, problem_in

OUTLOOK = "/jobs/outlook"


async def test_an_outlook_is_answered_and_nothing_enqueued(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    """With all that it was judged by."""
    await system.workers.announce(a_worker(slots=2, busy=2))
    await system.service.enqueue_many([a_request() for _ in range(5)])

    response = await client.post(OUTLOOK, json=a_body(delay_tolerance_seconds=60))

    assert (response.status_code, response.json()) == (
        200,
        {
            "ahead": 5,
            "at_least": False,
            "required_rate": 0.1,
            "capacity_rate": 2.0,
            "expected_start_in_seconds": 3.0,
            "can_be_met": True,
        },
    )
    assert len(await system.jobs()) == 5


async def test_what_has_no_number_is_null(client: httpx.AsyncClient) -> None:
    """JSON has no infinity: no time is left, and nobody is there to start anything."""
    response = await client.post(OUTLOOK, json=a_body(delay_tolerance_seconds=0))

    assert response.json() == {
        "ahead": 0,
        "at_least": False,
        "required_rate": None,
        "capacity_rate": 0.0,
        "expected_start_in_seconds": None,
        "can_be_met": False,
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"priority": "5"}, "priority"),
        ({"use_case": "mail"}, "use_case"),
        ({"queue": "nowhere"}, "queue"),
        ({"run_at": later(400 * 86_400).isoformat()}, "run_at"),
        ({"day": 1}, "day"),
    ],
)
async def test_what_an_enqueue_refuses_has_no_outlook(
    client: httpx.AsyncClient, change: dict[str, Any], field: str
) -> None:
    """By the same field."""
    assert invalid_field(await client.post(OUTLOOK, json=a_body(**change))) == field


async def test_its_body_has_the_bounds_of_an_enqueue(client: httpx.AsyncClient) -> None:
    """In size and in kind."""
    long = await client.post(OUTLOOK, json=a_body(payload={"a": "x" * JOB_BYTES_MAX}))
    text = await client.post(OUTLOOK, content=b"{}", headers={"content-type": "text/plain"})

    problem_in(long, 413, Problem.BODY_TOO_LARGE)
    problem_in(text, 415, Problem.UNSUPPORTED_MEDIA_TYPE)


async def test_a_foreign_tenant_has_no_outlook(system: MemorySystem) -> None:
    """A token is held to its tenants, as for an enqueue."""
    token = a_token("acme", tenants=["acme"])
    app = create_app(lambda: system.service, tokens=[token], clock=system.clock)
    async with calling(app, "acme") as client:
        mine = await client.post(OUTLOOK, json=a_body())
        theirs = await client.post(OUTLOOK, json=a_body(tenant_id="hooli"))

    assert mine.status_code == 200
    problem_in(theirs, 403, Problem.FORBIDDEN)


async def test_a_service_without_an_outlook_is_a_fault_of_this_side(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The caller cannot mend it, and the log says what kind it is of."""
    app = create_app(lambda: cast("Jobs", object()), auth_token=SHARED)
    async with calling(app) as client:
        with caplog.at_level(logging.ERROR):
            response = await client.post(OUTLOOK, json=a_body())

    problem_in(response, 500, Problem.INTERNAL_ERROR)
    (record,) = [each for each in caplog.records if each.msg == "api_failed"]
    assert record.__dict__["problem"] == "ConfigurationError"
