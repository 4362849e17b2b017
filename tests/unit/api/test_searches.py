"""Searches over HTTP: lines, tokens within tenants, and what is not read."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from async_jobs.entrypoints.http import paging
from async_jobs.entrypoints.http.app import create_app
from async_jobs.testing.builders import a_request
from async_jobs.testing.system import MemorySystem
from tests.unit.api.callers import SHARED, a_token, calling, invalid_field

PATH = "/jobs/search"


async def test_an_export_has_a_line_for_each_job_and_one_for_the_page(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    """So that it is read a job at a time, and the last line says where to go on."""
    enqueued = [await system.service.enqueue(a_request()) for _ in range(3)]

    response = await client.post(PATH, json={"format": "ndjson", "limit": 2})
    *jobs, end = map(json.loads, response.text.splitlines())

    assert response.headers["content-type"] == "application/x-ndjson"
    assert [job["id"] for job in jobs] == [str(each.job_id) for each in enqueued[:0:-1]]
    assert end["next_cursor"] == jobs[-1]["id"]
    assert not end["complete"]


async def test_a_page_of_large_jobs_is_cut_and_goes_on(
    client: httpx.AsyncClient, system: MemorySystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the bytes that a page may have, whatever its limit."""
    for _ in range(12):
        await system.service.enqueue(a_request(payload={"text": "x" * 2_000}))
    monkeypatch.setattr(paging, "PAGE_BYTES_MAX", 10_000)

    first = (await client.post(PATH, json={})).json()
    second = (await client.post(PATH, json={"cursor": first["next_cursor"]})).json()

    assert 0 < len(first["jobs"]) < 12
    ids = [job["id"] for page in (first, second) for job in page["jobs"]]
    assert len(set(ids)) == len(ids) > len(first["jobs"])


@pytest.mark.parametrize(
    ("token", "body", "status"),
    [
        ("acme", {}, 200),
        ("acme", {"filter": {"tenant_id": "acme"}}, 200),
        ("acme", {"filter": {"tenant_id": "globex"}}, 403),
        ("both", {}, 422),
        ("both", {"filter": {"tenant_id": "acme"}}, 200),
        ("initech", {}, 200),
    ],
)
async def test_a_token_finds_jobs_of_its_tenants_only(
    system: MemorySystem, token: str, body: dict[str, Any], status: int
) -> None:
    """In pages and in counts; where there are several it says which."""
    await system.service.enqueue_many(
        [a_request(tenant_id=each) for each in ("acme", "globex", "globex")]
    )
    app = create_app(
        lambda: system.service,
        operations_factory=lambda: system.operations,
        search_factory=lambda: system.search,
        auth_token=SHARED,
        tokens=(
            a_token("acme", tenants=["acme"]),
            a_token("both", tenants=["acme", "globex"]),
            a_token("initech", tenants=["initech"]),
        ),
        clock=system.clock,
    )
    async with calling(app, token) as client:
        page = await client.post(PATH, json=body)
        counted = await client.post(PATH, json=body | {"count": True})

    assert (page.status_code, counted.status_code) == (status, status)
    if status == 200:
        found = {job["tenant_id"] for job in page.json()["jobs"]}
        assert found == ({"acme"} if token != "initech" else set())
        assert counted.json() == {"count": len(found), "at_least": False}


@pytest.mark.parametrize(
    ("side", "at"),
    [
        ("until", "0001-01-01T00:00:00Z"),
        ("until", "0001-01-01T00:00:00+14:00"),
        ("until", "9999-12-31T23:59:59-14:00"),
        ("since", "0001-01-01T00:00:00+14:00"),
        ("since", "9999-12-31T23:59:59-14:00"),
    ],
)
async def test_no_errors_are_at_the_ends_of_the_calendar(
    client: httpx.AsyncClient, side: str, at: str
) -> None:
    """Where no day comes before, or after, and none is in UTC."""
    assert invalid_field(await client.get("/operations/errors", params={side: at})) == side
