"""Every route and method, tried by every kind of caller: who is refused learns nothing."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple, cast
from uuid import UUID

import httpx
import pytest

from async_jobs.adapters.http.wire import TOKEN_HEADER, Problem
from async_jobs.domain.bulk import Amendment, BulkAction, token_of
from async_jobs.domain.filters import JobQuery
from async_jobs.domain.job import Job, JobStatus
from async_jobs.entrypoints.http.app import create_app
from async_jobs.entrypoints.settings.tokens import Scope
from async_jobs.ports.bulk_steering import BulkSteering
from async_jobs.ports.jobs import Jobs
from async_jobs.ports.operations import Operations
from async_jobs.ports.reports import Reports
from async_jobs.ports.search import Search
from async_jobs.ports.steering import Steering
from async_jobs.testing.builders import a_request, an_id, later
from async_jobs.testing.clocks import NOW
from async_jobs.testing.system import MemorySystem
from tests.unit.api.callers import (
    SHARED,
    Unread,
    a_body,
    a_token,
    calling,
    invalid_field,
    problem_in,
)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
ID = "{id}"


class Route(NamedTuple):
    """One route: its path, a method it has, and the scope that asks for.

    For those of `reads_for` it reads what is asked, to see whether another scope is needed.
    """

    method: str
    path: str
    scope: Scope
    body: Mapping[str, Any] | None = None
    reads_for: frozenset[Scope] = frozenset()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


ORDERERS = frozenset({Scope.OPERATE, Scope.ADMIN})
DEAD = JobQuery(tenant_id="acme", statuses=frozenset({JobStatus.DEAD}))
PAUSE = {"scope": {"type": "send_email"}, "pause": True, "reason": "the provider is down"}
LIMIT = {"scope": {"tenant_id": "acme"}, "limits": {"max_running": 2}, "reason": "too busy"}
ASKED: dict[str, Any] = {"filter": {"tenant_id": "acme", "statuses": ["dead"]}}
RETRIES, DELETES = ASKED | {"action": "retry"}, ASKED | {"action": "delete"}
STARTS, STARTS_DELETING = (
    asked
    | {
        "token": token_of(BulkAction(asked["action"]), DEAD, Amendment(), 0, until=later(60)),
        "reason": "it is back",
    }
    for asked in (RETRIES, DELETES)
)
ROUTES = (
    Route("POST", "/jobs/enqueue", Scope.ENQUEUE, a_body()),
    Route("POST", "/jobs/enqueue-batch", Scope.ENQUEUE, {"jobs": [a_body()]}),
    Route("GET", "/jobs/", Scope.READ),
    Route("GET", "/jobs", Scope.READ),
    Route("GET", f"/jobs/{ID}", Scope.READ),
    Route("POST", f"/jobs/{ID}/cancel", Scope.OPERATE),
    Route("POST", f"/jobs/{ID}/retry", Scope.OPERATE),
    Route("POST", "/jobs/outlook", Scope.ENQUEUE, a_body()),
    Route("GET", f"/jobs/{ID}/explain", Scope.READ),
    Route("GET", f"/jobs/{ID}/history", Scope.READ),
    Route("GET", "/operations/explain?use_case=notifications", Scope.READ),
    Route("GET", "/operations/status", Scope.READ),
    Route("GET", "/operations/attainment", Scope.READ),
    Route("GET", "/operations/audit", Scope.READ),
    Route("GET", "/operations/errors", Scope.READ),
    Route("POST", "/jobs/search", Scope.READ, {"filter": {"statuses": ["dead"]}}),
    Route("GET", "/controls", Scope.READ),
    Route("POST", "/controls", Scope.OPERATE, PAUSE, ORDERERS),
    Route("POST", "/controls", Scope.ADMIN, LIMIT, ORDERERS),
    Route("POST", "/controls/preview", Scope.OPERATE, PAUSE, ORDERERS),
    Route("POST", "/controls/preview", Scope.ADMIN, LIMIT, ORDERERS),
    Route("GET", "/bulk", Scope.READ),
    Route("POST", "/bulk", Scope.OPERATE, STARTS, ORDERERS),
    Route("POST", "/bulk", Scope.ADMIN, STARTS_DELETING, ORDERERS),
    Route("POST", "/bulk/preview", Scope.OPERATE, RETRIES, ORDERERS),
    Route("POST", "/bulk/preview", Scope.ADMIN, DELETES, ORDERERS),
)
PAUSED = Route("DELETE", f"/controls/{ID}?reason=over", Scope.OPERATE)
REVERTED = Route("POST", f"/controls/{ID}/revert", Scope.OPERATE, {"reason": "over"})
OF_ONE_BULK = (
    Route("GET", f"/bulk/{ID}", Scope.READ),
    Route("POST", f"/bulk/{ID}/cancel", Scope.OPERATE, {"reason": "a mistake"}, ORDERERS),
    Route("POST", f"/bulk/{ID}/undo", Scope.OPERATE, {"reason": "a mistake"}, ORDERERS),
)
EVERYTHING = (*ROUTES, PAUSED, REVERTED, *OF_ONE_BULK)
HAS: dict[str, list[str]] = {}
for _each in EVERYTHING:
    if _each.method not in HAS.setdefault(_each.path, []):
        HAS[_each.path].append(_each.method)
WITHOUT = [
    (route, method)
    for route, method in itertools.product(EVERYTHING, METHODS)
    if method not in HAS[route.path] and route.method == HAS[route.path][0]
]
OF_ONE_JOB = [route for route in ROUTES if ID in route.path]
each_route_at_all = pytest.mark.parametrize("route", EVERYTHING, ids=str)
each_route = pytest.mark.parametrize("route", ROUTES, ids=str)
each_route_of_one_job = pytest.mark.parametrize("route", OF_ONE_JOB, ids=str)

TOKENS = (
    a_token("acme", tenants=["acme"]),
    a_token("both", tenants=["acme", "globex"]),
    a_token("initech", tenants=["initech"]),
    a_token("expired", expires_at=NOW),
    *(a_token(f"only {scope}", scopes=[scope]) for scope in Scope),
)
REACH = {"initech": ["initech"], "both": ["acme", "globex"]}
NOBODIES: dict[str, list[bytes]] = {
    "no token": [],
    "an empty one": [b""],
    "a wrong one": [b"X" * len(SHARED)],
    "a shorter one": [SHARED.encode()[:-1]],
    "a longer one": [SHARED.encode() + b"x"],
    "a very long one": [b"x" * 50_000],
    "one beyond ASCII": [b"\xff\xfe\xfd"],
    "one in UTF-8": ["tökén".encode()],
    "an expired one": [b"expired"],
    "two good ones": [SHARED.encode(), SHARED.encode()],
}


class Recorded:
    """The service, with the calls that reached it, and the tenant that each was for."""

    def __init__(self, *ports: object) -> None:
        self._ports = ports
        self.calls: list[tuple[str, str | None]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append((name, named.get("tenant_id")))
            port = next(port for port in self._ports if hasattr(port, name))
            return getattr(port, name)(*arguments, **named)

        return call


@pytest.fixture
def recorded(system: MemorySystem) -> Recorded:
    return Recorded(
        system.service, system.operations, system.reports, system.steering, system.search
    )


@pytest.fixture
async def api(system: MemorySystem, recorded: Recorded) -> AsyncIterator[httpx.AsyncClient]:
    """The API with every kind of token; the caller has none of them yet."""
    jobs, operations = cast("Jobs", recorded), cast("Operations", recorded)
    bulk = Recorded(system.bulk)  # whose calls have the names of others
    bulk.calls = recorded.calls
    app = create_app(
        lambda: jobs,
        operations_factory=lambda: operations,
        reports_factory=lambda: cast("Reports", recorded),
        steering_factory=lambda: cast("Steering", recorded),
        search_factory=lambda: cast("Search", recorded),
        bulk_factory=lambda: cast("BulkSteering", bulk),
        auth_token=SHARED,
        tokens=TOKENS,
        clock=system.clock,
    )
    async with calling(app, None) as client:
        yield client


@pytest.fixture
async def job(system: MemorySystem) -> Job:
    """A pending job of acme."""
    enqueued = await system.service.enqueue(a_request())
    return await system.service.get_job(enqueued.job_id)


async def tried(
    api: httpx.AsyncClient, route: Route, *tokens: bytes | str, id: object = "x", **options: Any
) -> httpx.Response:
    """Call a route with these values of the token's header."""
    values = [each.encode() if isinstance(each, str) else each for each in tokens]
    options.setdefault("json", route.body)
    return await api.request(
        route.method,
        route.path.replace(ID, str(id)),
        headers=[(TOKEN_HEADER.encode(), value) for value in values],
        **options,
    )


def whole(response: httpx.Response, id: object = "") -> tuple[int, list[tuple[str, str]], str]:
    """Return all of a response that a caller can see, with the id it asked for left out."""
    text = response.text.replace(str(id), ID) if id else response.text
    return response.status_code, sorted(response.headers.items()), text


# --- Nobody ----------------------------------------------------------------------------------


@pytest.mark.parametrize("nobody", NOBODIES.values(), ids=NOBODIES.keys())
@each_route_at_all
async def test_nobody_learns_anything(
    api: httpx.AsyncClient, recorded: Recorded, job: Job, route: Route, nobody: list[bytes]
) -> None:
    """The same 401, byte by byte, on every route, for every id, body and query."""
    anything: list[dict[str, Any]] = [{}, {"json": None}, {"content": b"{"}, {"params": {"a": "b"}}]
    reference = whole(await tried(api, ROUTES[0]))

    responses = [
        await tried(api, route, *nobody, id=id, **options)
        for id, options in itertools.product((job.id, an_id(), "nonsense"), anything)
    ]

    assert reference[0] == 401
    assert {str(whole(response)) for response in responses} == {str(reference)}
    problem_in(responses[0], 401, Problem.UNAUTHENTICATED)
    assert responses[0].headers["www-authenticate"]
    assert recorded.calls == []


@pytest.mark.parametrize("nobody", NOBODIES.values(), ids=NOBODIES.keys())
@pytest.mark.parametrize("path", ["/jobs/enqueue", "/jobs/enqueue-batch", "/jobs/outlook"])
async def test_nobody_makes_the_api_read_a_body(
    api: httpx.AsyncClient, path: str, nobody: list[bytes]
) -> None:
    """Nor look at its size or type."""
    headers = [(TOKEN_HEADER.encode(), value) for value in nobody]
    length = [(b"Content-Length", b"1" + b"0" * 12), (b"Content-Type", b"text/plain")]
    response = await api.post(path, content=Unread(), headers=[*headers, *length])

    problem_in(response, 401, Problem.UNAUTHENTICATED)


# --- Methods ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("route", "method"), WITHOUT, ids=[f"{m} {r.path}" for r, m in WITHOUT])
async def test_a_method_that_a_route_has_not_is_a_405_for_everybody(
    api: httpx.AsyncClient, job: Job, route: Route, method: str
) -> None:
    """Whoever asks; and the right one is named."""
    other = route._replace(method=method, body=None)

    responses = [
        await tried(api, other, *tokens, id=job.id)
        for tokens in ((), ("wrong",), ("acme",), (SHARED,), ("only read",))
    ]

    assert len({str(whole(response)) for response in responses}) == 1
    assert responses[0].status_code == 405
    assert responses[0].headers["allow"] == ", ".join(HAS[route.path])
    if method != "HEAD":
        problem_in(responses[0], 405, Problem.METHOD_NOT_ALLOWED)


# --- Scopes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", Scope)
@each_route
async def test_a_token_is_held_to_its_scopes(
    api: httpx.AsyncClient, recorded: Recorded, job: Job, route: Route, scope: Scope
) -> None:
    """The same 403 on every route, for every id and body; with the scope it is let in."""
    response = await tried(api, route, f"only {scope}", id=job.id)

    if scope is route.scope:
        assert response.status_code in {200, 201, 409}
        assert recorded.calls
        return
    hostile = [
        await tried(api, route, f"only {scope}", id=id, content=b"{", json=None)
        for id in (an_id(), "nonsense")
        if scope not in route.reads_for
    ]
    other = await tried(api, ROUTES[0], "only read")
    problem_in(response, 403, Problem.FORBIDDEN)
    assert {str(whole(each)) for each in (response, *hostile)} == {str(whole(other))}
    assert recorded.calls == []


# --- Tenants ---------------------------------------------------------------------------------


@each_route_of_one_job
@pytest.mark.parametrize("token", ["initech", "initech, naming its own", "both"])
async def test_a_foreign_job_looks_like_a_missing_one(
    api: httpx.AsyncClient, system: MemorySystem, recorded: Recorded, route: Route, token: str
) -> None:
    """The same 404 but for the id, after the same calls; and nothing happens to the job."""
    token, _, naming = token.partition(", ")
    params = {"tenant_id": "initech"} if naming else {}
    foreign = (await system.service.enqueue(a_request(tenant_id="hooli"))).job_id
    before, missing = await system.jobs(), an_id()

    found = await tried(api, route, token, id=foreign, params=params)
    calls, recorded.calls = recorded.calls, []
    not_found = await tried(api, route, token, id=missing, params=params)

    problem_in(found, 404, Problem.JOB_NOT_FOUND)
    assert whole(found, foreign) == whole(not_found, missing)
    assert calls == recorded.calls
    assert [tenant for _, tenant in calls] == sorted(REACH[token])
    assert await system.jobs() == before


@each_route_of_one_job
@pytest.mark.parametrize("token", ["acme", "both"])
async def test_naming_a_foreign_tenant_finds_nothing_either(
    api: httpx.AsyncClient, system: MemorySystem, recorded: Recorded, route: Route, token: str
) -> None:
    """Its job, a job within reach, a missing one: all look the same, whoever the tenant is."""
    service = system.service
    theirs = (await service.enqueue(a_request(tenant_id="hooli"))).job_id
    mine = (await service.enqueue(a_request())).job_id
    before = await system.jobs()

    answers = set()
    for id, tenant in itertools.product((theirs, mine, an_id()), ("hooli", "nobody")):
        recorded.calls.clear()
        response = await tried(api, route, token, id=id, params={"tenant_id": tenant})
        answers.add((str(whole(response, id)), tuple(recorded.calls)))

    assert len(answers) == 1
    assert {status[1:4] for status, _ in answers} == {"404"}
    assert await system.jobs() == before


@each_route_of_one_job
@pytest.mark.parametrize(
    ("token", "params"),
    [
        ("acme", {}),
        ("acme", {"tenant_id": "acme"}),
        ("both", {}),
        ("both", {"tenant_id": "acme"}),
        (SHARED, {}),
        (SHARED, {"tenant_id": "acme"}),
    ],
)
async def test_a_job_within_reach_is_found(
    api: httpx.AsyncClient, job: Job, route: Route, token: str, params: dict[str, str]
) -> None:
    """With its tenant or without."""
    response = await tried(api, route, token, id=job.id, params=params)

    assert response.status_code == (409 if route.path.endswith("retry") else 200)


@pytest.mark.parametrize("tenant_id", ["acme", "hooli", "nobody"])
async def test_an_enqueue_for_a_foreign_tenant_is_refused(
    api: httpx.AsyncClient, system: MemorySystem, recorded: Recorded, job: Job, tenant_id: str
) -> None:
    """The same 403 whether there is such a tenant or not; a batch is refused as a whole."""
    await system.service.enqueue(a_request(tenant_id="hooli"))
    before = await system.jobs()
    one, many = ROUTES[:2]
    batch = {"jobs": [a_body(tenant_id="initech"), a_body(tenant_id=tenant_id)]}

    responses = [
        await tried(api, one, "initech", json=a_body(tenant_id=tenant_id)),
        await tried(api, one, "initech", json=a_body(tenant_id=tenant_id, id=str(job.id))),
        await tried(api, many, "initech", json=batch),
        await tried(api, ROUTES[2], "initech", params={"tenant_id": tenant_id}),
        await tried(api, one, "only read"),
    ]

    assert len({str(whole(response)) for response in responses}) == 1
    problem_in(responses[0], 403, Problem.FORBIDDEN)
    assert recorded.calls == []
    assert await system.jobs() == before


async def test_an_enqueue_for_a_tenant_within_reach_is_taken(
    api: httpx.AsyncClient, system: MemorySystem
) -> None:
    """One and many, for each of several."""
    bodies = [a_body(tenant_id="acme"), a_body(tenant_id="globex")]

    one = await tried(api, ROUTES[0], "both", json=bodies[1])
    many = await tried(api, ROUTES[1], "both", json={"jobs": bodies})

    assert (one.status_code, many.status_code) == (201, 201)
    assert len(await system.jobs()) == 3


@pytest.mark.parametrize("path", ["/jobs", "/jobs/"])
async def test_a_list_shows_what_is_within_reach(
    api: httpx.AsyncClient, system: MemorySystem, path: str
) -> None:
    """A token with one tenant need not name it, one with several must, one with all need not."""
    ids = {
        tenant: (await system.service.enqueue(a_request(tenant_id=tenant))).job_id
        for tenant in ("acme", "globex", "hooli")
    }
    route = Route("GET", path, Scope.READ)

    async def shown(token: str, **params: str) -> set[UUID]:
        response = await tried(api, route, token, params=params)
        assert response.status_code == 200
        return {UUID(each["id"]) for each in response.json()["jobs"]}

    assert await shown("acme") == await shown("acme", tenant_id="acme") == {ids["acme"]}
    assert await shown("initech") == set()
    assert await shown("both", tenant_id="globex") == {ids["globex"]}
    assert await shown("only read") == await shown(SHARED) == set(ids.values())
    unnamed = await tried(api, route, "both")
    assert invalid_field(unnamed) == "tenant_id"
    assert "is required" in unnamed.json()["problem"]


async def test_a_foreign_cursor_leads_into_ones_own_jobs(
    api: httpx.AsyncClient, system: MemorySystem, job: Job
) -> None:
    """A cursor is a place in time: a foreign id and a missing one show the same page."""
    system.clock.advance(seconds=1)
    theirs = (await system.service.enqueue(a_request(tenant_id="hooli"))).job_id
    missing = an_id(later(1))

    pages = [
        await tried(api, ROUTES[2], "acme", params={"cursor": str(cursor)})
        for cursor in (theirs, missing)
    ]

    assert pages[0].content == pages[1].content
    assert [each["id"] for each in pages[0].json()["jobs"]] == [str(job.id)]


# --- Operators -------------------------------------------------------------------------------


async def test_within_tenants_an_operator_sees_these_alone(
    api: httpx.AsyncClient, system: MemorySystem, recorded: Recorded
) -> None:
    """Whatever is asked: no other tenant's name, and what is not within reach is a 403."""
    for tenant in ("acme", "globex", "hooli"):
        await system.service.enqueue(a_request(tenant_id=tenant, type=f"type of {tenant}"))
    recorded.calls.clear()
    status, waiting = (Route("GET", f"/operations/{p}", Scope.READ) for p in ("status", "explain"))

    everything = await tried(api, status, SHARED)
    of_both = await tried(api, status, "both")
    of_one = await tried(api, status, "both", params={"tenant_id": ["acme"]})
    own = await tried(api, waiting, "acme")
    foreign = [
        await tried(api, status, "both", params={"tenant_id": ["acme", "hooli"]}),
        await tried(api, waiting, "acme", params={"tenant_id": "hooli"}),
        await tried(api, ROUTES[0], "only read"),
    ]

    def pending(response: httpx.Response) -> int:
        assert response.status_code == 200
        return sum(each["pending"] for each in response.json()["use_cases"])

    assert [pending(each) for each in (everything, of_both, of_one)] == [3, 2, 1]
    assert own.json()["pending"] == 1
    assert not [each for each in (of_both, of_one, own) if "hooli" in each.text]
    assert len({str(whole(each)) for each in foreign}) == 1
    problem_in(foreign[0], 403, Problem.FORBIDDEN)
    assert [name for name, _ in recorded.calls] == ["status", "status", "status", "explain_waiting"]


async def test_a_token_with_several_tenants_names_the_one_it_asks_about(
    api: httpx.AsyncClient,
) -> None:
    """Reasons of several at once would name them to each other."""
    response = await tried(api, Route("GET", "/operations/explain", Scope.READ), "both")

    assert invalid_field(response) == "tenant_id"


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        ("/operations/explain", {}, "use_case"),
        ("/operations/explain", {"use_case": "unheard"}, "use_case"),
        ("/operations/explain", {"use_case": "", "tenant_id": "acme"}, "use_case"),
        ("/operations/explain", {"queue": "slow"}, "queue"),
        ("/operations/status", {"tenant_id": ["acme", ""]}, "tenant_id"),
        ("/operations/status", {"tenant_id": ["acme"] * 101}, "tenant_id"),
        ("/operations/status", {"tenants": "acme"}, "tenants"),
    ],
)
async def test_a_wrong_question_names_its_field(
    api: httpx.AsyncClient, path: str, params: dict[str, Any], field: str
) -> None:
    """And what is allowed."""
    response = await tried(api, Route("GET", path, Scope.READ), SHARED, params=params)

    assert invalid_field(response) == field
