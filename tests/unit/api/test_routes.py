"""What each route answers when all is well, and when the job or the tenant forbids it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest

from async_jobs.adapters.http.wire import Problem, body_of, job_of, page_of, record_of
from async_jobs.domain.backoff import BackoffPolicy, BackoffType
from async_jobs.domain.job import JobStatus
from async_jobs.testing.builders import a_request, an_id, later
from async_jobs.testing.contracts.specimens import PAYLOADS
from async_jobs.testing.system import MemorySystem
from tests.unit.api.callers import a_body, invalid_field, problem_in

ENQUEUE, BATCH = "/jobs/enqueue", "/jobs/enqueue-batch"


async def enqueued(client: httpx.AsyncClient, **overrides: Any) -> str:
    """Enqueue one job; returns its id."""
    response = await client.post(ENQUEUE, json=a_body(**overrides))
    assert response.status_code == 201, response.text
    return str(response.json()["job_id"])


# --- POST /jobs/enqueue ----------------------------------------------------------------------


async def test_an_enqueue_answers_with_the_jobs_id(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    """201, and nothing else."""
    response = await client.post(ENQUEUE, json=a_body())

    (job,) = await system.jobs()
    assert (response.status_code, response.json()) == (201, {"job_id": str(job.id)})
    assert response.headers["content-type"] == "application/json"


async def test_every_field_arrives(client: httpx.AsyncClient, system: MemorySystem) -> None:
    """What the client side writes, this side reads."""
    request = a_request(
        use_case="reports",
        queue="slow",
        id=an_id(),
        run_at=later(3_600.000_001),
        delay_tolerance=later(1.5) - later(0),
        max_attempts=7,
        backoff_policy=BackoffPolicy(type=BackoffType.LINEAR, jitter=0.25),
        dedupe_key="daily",
        priority=-7,
        headers={"traceparent": "00-1"},
    )

    response = await client.post(ENQUEUE, json=body_of(request))

    (job,) = await system.jobs()
    assert response.json() == {"job_id": str(request.id)}
    assert {name: getattr(job, name) for name in request.__slots__} == {
        name: getattr(request, name) for name in request.__slots__
    }


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
async def test_payloads_at_their_bounds_arrive(
    client: httpx.AsyncClient, system: MemorySystem, payload: dict[str, Any]
) -> None:
    """Unchanged."""
    response = await client.post(ENQUEUE, json=a_body(payload=payload))

    (job,) = await system.jobs()
    assert response.status_code == 201
    assert repr(job.payload) == repr(payload)


async def test_null_is_as_good_as_leaving_out(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    """Many callers write all fields of a record."""
    names = ("queue", "id", "run_at", "delay_tolerance_seconds", "max_attempts")
    more = ("backoff_policy", "dedupe_key", "priority", "headers")

    await enqueued(client, **dict.fromkeys((*names, *more)))
    await enqueued(client)

    one, two = (record_of(job) for job in await system.jobs())
    assert {**one, "id": None} == {**two, "id": None}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2030-01-01T13:00:00Z", 3_600),
        ("2030-01-01T13:00:00.5z", 3_600.5),
        ("2030-01-01t14:00:00+01:00", 3_600),
        ("2030-01-01 07:30:00-05:30", 3_600),
        ("2030-01-01T13:00Z", 3_600),
        ("1970-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00+23:59", 0),
    ],
)
async def test_an_instant_has_an_offset(
    client: httpx.AsyncClient, system: MemorySystem, written: str, seconds: float
) -> None:
    """Any; and one in the past is now."""
    await enqueued(client, run_at=written)

    assert [job.run_at for job in await system.jobs()] == [later(seconds)]


@pytest.mark.parametrize("again", [{"id": str(an_id())}, {"dedupe_key": "daily"}])
async def test_a_duplicate_says_so(
    client: httpx.AsyncClient, system: MemorySystem, again: dict[str, str]
) -> None:
    """200, the id of the job there is, and one job."""
    first = await enqueued(client, **again)

    response = await client.post(ENQUEUE, json=a_body(**again))

    assert (response.status_code, response.json()) == (200, {"job_id": first, "duplicate": True})
    assert len(await system.jobs()) == 1


async def test_a_tenant_above_its_quota_is_told_the_numbers(client: httpx.AsyncClient) -> None:
    """429."""
    await enqueued(client, tenant_id="limited")
    await enqueued(client, tenant_id="limited")

    response = await client.post(ENQUEUE, json=a_body(tenant_id="limited"))

    told = problem_in(response, 429, Problem.QUOTA_EXCEEDED)
    assert [told[name] for name in ("tenant_id", "limit", "used", "asked")] == ["limited", 2, 2, 1]


@pytest.mark.parametrize(
    ("field", "known"), [("use_case", "notifications, reports"), ("queue", "notifications, slow")]
)
async def test_an_unknown_use_case_or_queue_is_answered_with_the_known_ones(
    client: httpx.AsyncClient, field: str, known: str
) -> None:
    """So that the mistake is found."""
    response = await client.post(ENQUEUE, json=a_body(**{field: "reprots"}))

    assert invalid_field(response) == field
    assert known in response.json()["problem"]


# --- POST /jobs/enqueue-batch ----------------------------------------------------------------


async def test_a_batch_is_answered_in_order(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    """Those that were there already say so; a new one makes it a 201."""
    first = await enqueued(client, dedupe_key="daily")
    id = str(an_id())

    response = await client.post(
        BATCH, json={"jobs": [a_body(id=id), a_body(dedupe_key="daily"), a_body(id=id)]}
    )

    assert response.status_code == 201
    assert response.json() == {
        "jobs": [
            {"job_id": id},
            {"job_id": first, "duplicate": True},
            {"job_id": id, "duplicate": True},
        ]
    }
    assert len(await system.jobs()) == 2


async def test_a_batch_of_duplicates_created_nothing(client: httpx.AsyncClient) -> None:
    """200; and so does an empty one."""
    first = await enqueued(client, dedupe_key="daily")

    response = await client.post(BATCH, json={"jobs": [a_body(dedupe_key="daily")]})
    empty = await client.post(BATCH, json={"jobs": []})

    assert response.status_code == 200
    assert response.json() == {"jobs": [{"job_id": first, "duplicate": True}]}
    assert (empty.status_code, empty.json()) == (200, {"jobs": []})


async def test_a_batch_is_all_or_nothing(client: httpx.AsyncClient, system: MemorySystem) -> None:
    """Over quota as a whole, none of it is enqueued."""
    jobs = [a_body(), *(a_body(tenant_id="limited") for _ in range(3))]

    response = await client.post(BATCH, json={"jobs": jobs})

    assert problem_in(response, 429, Problem.QUOTA_EXCEEDED)["asked"] == 3
    assert await system.jobs() == []


async def test_the_largest_batch_is_taken(client: httpx.AsyncClient, system: MemorySystem) -> None:
    """A thousand, and not one more."""
    at_most = await client.post(BATCH, json={"jobs": [a_body()] * 1_000})
    too_many = await client.post(BATCH, json={"jobs": [a_body()] * 1_001})

    assert at_most.status_code == 201
    assert invalid_field(too_many) == "jobs"
    assert len(await system.jobs()) == 1_000


# --- GET -------------------------------------------------------------------------------------


async def test_a_job_is_shown_in_full(client: httpx.AsyncClient, system: MemorySystem) -> None:
    """The record that the client side reads back."""
    id = await enqueued(client, headers={"a": "b"})

    response = await client.get(f"/jobs/{id}")
    of_its_tenant = await client.get(f"/jobs/{id}", params={"tenant_id": "acme"})

    assert [job_of(response.json())] == await system.jobs()
    assert response.json() == of_its_tenant.json()


async def test_a_missing_job_is_a_404(client: httpx.AsyncClient) -> None:
    """On every route that names one."""
    id = an_id()

    responses = [
        await client.get(f"/jobs/{id}"),
        await client.get(f"/jobs/{str(id).upper()}"),
        await client.post(f"/jobs/{id}/cancel"),
        await client.post(f"/jobs/{id}/retry"),
    ]

    for response in responses:
        assert problem_in(response, 404, Problem.JOB_NOT_FOUND)["job_id"] == str(id)


async def test_a_row_that_cannot_be_read_is_told_from_a_missing_one(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    """On every route that names one, to whoever may see the job; to others it is missing."""
    id, unknown = await enqueued(client), an_id()
    system.store.corrupt(UUID(id))

    for tenant in ({}, {"tenant_id": "acme"}):
        for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry")):
            response = await client.request(method, f"/jobs/{id}{path}", params=tenant)

            problem = problem_in(response, 404, Problem.JOB_NOT_FOUND)
            assert (problem["job_id"], problem["unreadable"]) == (id, "corrupt")
            assert problem["detail"] == f"the row of job {id} cannot be read: corrupt"
    for missing in (f"{id}?tenant_id=globex", unknown, UUID(int=0), UUID(int=2**128 - 1)):
        problem = problem_in(await client.get(f"/jobs/{missing}"), 404, Problem.JOB_NOT_FOUND)
        assert "unreadable" not in problem


async def test_an_operator_that_names_another_tenant_finds_nothing(
    client: httpx.AsyncClient,
) -> None:
    """The tenant is part of what is asked for."""
    id = await enqueued(client)

    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry")):
        response = await client.request(method, f"/jobs/{id}{path}?tenant_id=globex")

        problem_in(response, 404, Problem.JOB_NOT_FOUND)


async def test_jobs_are_listed_page_by_page(client: httpx.AsyncClient) -> None:
    """Newest first, none twice, none left out."""
    ids = [await enqueued(client) for _ in range(5)]

    found, cursor = [], None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        response = await client.get("/jobs/", params=params)
        page = page_of(response.json())
        assert len(page.jobs) <= 2
        found += [str(job.id) for job in page.jobs]
        cursor = response.json()["next_cursor"]
        if cursor is None:
            break

    assert found == ids[::-1]


async def test_jobs_are_filtered(client: httpx.AsyncClient) -> None:
    """By tenant, use case and status, each alone and together."""
    mine = await enqueued(client)
    other = await enqueued(client, tenant_id="globex", use_case="reports")
    cancelled = await enqueued(client, use_case="reports")
    await client.post(f"/jobs/{cancelled}/cancel")

    async def ids(**params: str) -> list[str]:
        response = await client.get("/jobs/", params=params)
        return [each["id"] for each in response.json()["jobs"]]

    assert await ids(tenant_id="acme") == [cancelled, mine]
    assert await ids(use_case="reports") == [cancelled, other]
    assert await ids(status="cancelled") == [cancelled]
    assert await ids(tenant_id="acme", use_case="reports", status="pending") == []
    assert await ids(tenant_id="nobody") == []
    assert await ids() == [cancelled, other, mine]


async def test_the_slash_of_the_list_may_be_left_out(client: httpx.AsyncClient) -> None:
    """The same answer, without a redirect."""
    await enqueued(client)

    with_slash, without = await client.get("/jobs/?limit=1"), await client.get("/jobs?limit=1")

    assert with_slash.status_code == 200
    assert with_slash.content == without.content


# --- POST /jobs/{job_id}/cancel and /retry ---------------------------------------------------


async def test_a_pending_job_is_cancelled_at_once(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    """And says so again when repeated."""
    id = await enqueued(client)

    first = await client.post(f"/jobs/{id}/cancel", params={"tenant_id": "acme"})
    again = await client.post(f"/jobs/{id}/cancel")

    (job,) = await system.jobs()
    assert job.status is JobStatus.CANCELLED
    assert job_of(first.json()) == job_of(again.json()) == job


async def test_a_cancelled_job_gets_another_life(
    client: httpx.AsyncClient, system: MemorySystem
) -> None:
    """It is pending again, and that is what is answered."""
    id = await enqueued(client)
    await client.post(f"/jobs/{id}/cancel")

    response = await client.post(f"/jobs/{id}/retry")

    (job,) = await system.jobs()
    assert job.status is JobStatus.PENDING
    assert job_of(response.json()) == job


async def test_what_the_state_forbids_is_a_409(client: httpx.AsyncClient) -> None:
    """It tells the state and what was asked of it."""
    id = await enqueued(client)

    response = await client.post(f"/jobs/{id}/retry")

    told = problem_in(response, 409, Problem.ILLEGAL_TRANSITION)
    assert (told["state"], told["event"]) == ("pending", "Retried")


async def test_a_body_that_no_route_asks_for_is_not_read(client: httpx.AsyncClient) -> None:
    """Some clients send an empty object."""
    id = await enqueued(client)

    response = await client.post(f"/jobs/{id}/cancel", content=b"{nonsense")

    assert response.status_code == 200
