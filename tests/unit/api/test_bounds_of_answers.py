"""What keeps one caller from taking the API's memory, time or privacy from the others."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request

from async_jobs.adapters.http.wire import TOKEN_HEADER, Problem
from async_jobs.domain.errors import ConfigurationError
from async_jobs.entrypoints.http.app import create_app
from async_jobs.entrypoints.http.paging import PAGE_BYTES_MAX, STEP_BYTES
from async_jobs.entrypoints.http.reading import BodyTooSlow, read_body
from async_jobs.entrypoints.http.routes import LARGE_BYTES
from async_jobs.testing.builders import a_request, an_id
from async_jobs.testing.system import MemorySystem
from tests.unit.api.callers import SHARED, a_body, a_token, calling, problem_in


async def listed(client: httpx.AsyncClient, limit: int) -> list[list[str]]:
    """Return the ids of all jobs, page by page."""
    pages: list[list[str]] = []
    cursor = None
    while not pages or cursor:
        params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/jobs/", params=params)).json()
        pages.append([job["id"] for job in page["jobs"]])
        cursor = page["next_cursor"]
    return pages


async def test_large_jobs_make_a_page_shorter(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    """Nothing is repeated or left out; a page takes little more than its bound."""
    payload = {"text": "x" * 250_000}
    requests = [a_request(payload=payload) for _ in range(80)]
    many = await system.service.enqueue_many(requests)

    pages = await listed(client, 1_000)

    in_order = [str(each.job_id) for each in reversed(many)]
    assert [job_id for page in pages for job_id in page] == in_order
    assert len(pages) == 2
    assert len(pages[0]) * 250_000 < PAGE_BYTES_MAX + 6 * 250_000


@pytest.mark.parametrize("limit", [1, 4, 5, 6, 60, 100, 130, 131, 1_000])
async def test_small_jobs_fill_a_page(
    client: httpx.AsyncClient, system: MemorySystem, limit: int
) -> None:
    """Exactly, whatever steps they are read in."""
    await system.service.enqueue_many([a_request() for _ in range(130)])

    pages = await listed(client, limit)

    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    assert sum(map(len, pages)) == 130
    assert len({job_id for page in pages for job_id in page}) == 130
    assert STEP_BYTES > 130 * 1_000


async def test_rows_that_are_no_jobs_hide_no_others(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    """Not even when there are more of them than are read at first."""
    many = await system.service.enqueue_many([a_request() for _ in range(30)])
    for each in many[10:]:
        system.store.corrupt(each.job_id)

    pages = await listed(client, 1_000)

    in_order = [str(each.job_id) for each in reversed(many[:10])]
    assert [job_id for page in pages for job_id in page] == in_order


async def test_no_answer_is_kept_by_a_cache(client: httpx.AsyncClient) -> None:
    """One address gives each tenant something else."""
    answers = [
        await client.post("/jobs/enqueue", json=a_body()),
        await client.post("/jobs/enqueue", json={}),
        await client.get("/jobs/"),
        await client.get(f"/jobs/{an_id()}"),
        await client.get("/jobs/", headers={TOKEN_HEADER: "wrong"}),
        await client.get("/jobs/enqueue"),
    ]

    assert [answer.status_code for answer in answers] == [201, 422, 200, 404, 401, 405]
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}


async def test_a_large_body_is_taken_like_a_small_one(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    """Its errors are told as well."""
    text = "\\u00e9" * 100_000
    body = (
        '{"tenant_id": "acme", "use_case": "notifications", "type": "t", "payload": {"t": "%s"}%s}'
    )
    json = {"Content-Type": "application/json"}

    taken = await client.post("/jobs/enqueue", content=body % (text, ""), headers=json)
    refused = await client.post("/jobs/enqueue", content=body % (text, ', "x": 1'), headers=json)

    (job,) = await system.jobs()
    assert len(text) > LARGE_BYTES
    assert (taken.status_code, job.payload) == (201, {"t": "é" * 100_000})
    assert problem_in(refused, 422, Problem.INVALID_JOB)["field"] == "x"


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    """The caller is told how long it may take."""
    headers = [(b"content-type", b"application/json")]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "headers": headers}

    async def receive() -> Any:
        await asyncio.Event().wait()

    with pytest.raises(BodyTooSlow, match=r"0\.01 seconds"):
        await read_body(Request(scope, receive), bytes_max=100, seconds_max=0.01)


@pytest.mark.parametrize("batch", [False, True])
async def test_a_foreign_id_cannot_be_used(system: MemorySystem, batch: bool) -> None:
    """That ids are taken is told, as it must be; whose job it is, is not."""
    theirs = (await system.service.enqueue(a_request(tenant_id="hooli"))).job_id
    token = a_token("acme", tenants=["acme"])
    app: FastAPI = create_app(lambda: system.service, tokens=[token], clock=system.clock)
    body = a_body(id=str(theirs))
    async with calling(app, "acme") as client:
        response = (
            await client.post("/jobs/enqueue-batch", json={"jobs": [a_body(), body]})
            if batch
            else await client.post("/jobs/enqueue", json=body)
        )

    document = problem_in(response, 422, Problem.INVALID_JOB)
    assert document["field"] == ("jobs[1].id" if batch else "id")
    assert "hooli" not in response.text
    assert len(await system.jobs()) == 1


def test_the_shared_token_is_no_entry(system: MemorySystem) -> None:
    """What it reaches would depend on which of the two is looked at last."""
    entry = a_token(SHARED, tenants=["acme"])
    assert entry.sha256 == hashlib.sha256(SHARED.encode()).hexdigest()

    with pytest.raises(ConfigurationError, match="shared token"):
        create_app(lambda: system.service, auth_token=SHARED, tokens=[entry])
