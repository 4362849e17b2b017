"""Controls over HTTP: who may order what, in whose name, and what is told of wrong orders."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from async_jobs.adapters.http.wire import TOKEN_HEADER, Problem
from async_jobs.entrypoints.http.app import create_app
from async_jobs.entrypoints.settings.tokens import ApiToken, Scope
from async_jobs.testing.builders import an_id
from async_jobs.testing.system import MemorySystem
from tests.unit.api.callers import SHARED, a_token, calling, invalid_field, problem_in

PAUSE: dict[str, Any] = {"scope": {"type": "send_email"}, "pause": True, "reason": "it is down"}
LIMIT: dict[str, Any] = {
    "scope": {"use_case": "reports"},
    "limits": {"max_concurrent": 2},
    "reason": "slow disks",
}
NAMED = a_token("named").model_copy(update={"name": "ada"})
TOKENS: tuple[ApiToken, ...] = (
    NAMED,
    a_token("unnamed"),
    a_token("operate", scopes=[Scope.OPERATE]),
    a_token("admin", scopes=[Scope.ADMIN]),
    a_token("acme", tenants=["acme"]),
    a_token("globex", tenants=["globex"]),
)


@pytest.fixture
async def api(system: MemorySystem) -> AsyncIterator[httpx.AsyncClient]:
    """The API with the tokens of operators."""
    app = create_app(
        lambda: system.service,
        operations_factory=lambda: system.operations,
        steering_factory=lambda: system.steering,
        auth_token=SHARED,
        tokens=TOKENS,
        clock=system.clock,
    )
    async with calling(app, None) as client:
        yield client


async def asked(
    api: httpx.AsyncClient, method: str, path: str, token: str = SHARED, **options: Any
) -> httpx.Response:
    return await api.request(method, path, headers={TOKEN_HEADER: token}, **options)


async def put(api: httpx.AsyncClient, token: str = SHARED, **order: Any) -> dict[str, Any]:
    response = await asked(api, "POST", "/controls", token, json=order)
    assert response.status_code == 200, response.text
    control: dict[str, Any] = response.json()
    return control


async def newest(api: httpx.AsyncClient) -> dict[str, Any]:
    """Return the newest operation of the audit."""
    audited = await asked(api, "GET", "/operations/audit", params={"limit": 1})
    (operation,) = audited.json()["operations"]
    return dict(operation)


@pytest.mark.parametrize(
    ("token", "actor"), [(SHARED, "shared"), ("named", "ada"), ("unnamed", "token")]
)
async def test_who_orders_is_told_by_the_token(
    api: httpx.AsyncClient, token: str, actor: str
) -> None:
    """And from where by the connection; nobody can say that it was another."""
    control = await put(api, token, **PAUSE)
    forged = await asked(api, "POST", "/controls", token, json=PAUSE | {"actor": "bob"})

    operation = await newest(api)
    assert (control["actor"], operation["actor"], operation["address"]) == (
        actor,
        actor,
        "127.0.0.1",
    )
    assert invalid_field(forged) == "actor"


@pytest.mark.parametrize(
    ("order", "may", "may_not"), [(PAUSE, "operate", "admin"), (LIMIT, "admin", "operate")]
)
async def test_pauses_and_limits_have_their_scopes(
    api: httpx.AsyncClient, order: dict[str, Any], may: str, may_not: str
) -> None:
    """To order, to end and to revert: with the wrong one nothing changes."""
    control = await put(api, may, **order)
    operation, one = await newest(api), f"/controls/{control['id']}"
    why = {"reason": "over"}

    async def tried(token: str) -> list[int]:
        return [
            (await asked(api, "POST", "/controls/preview", token, json=order)).status_code,
            (
                await asked(api, "POST", f"/controls/{operation['id']}/revert", token, json=why)
            ).status_code,
            (await asked(api, "DELETE", one, token, params=why)).status_code,
        ]

    refused = await tried(may_not)
    assert await newest(api) == operation
    assert (refused, await tried(may)) == ([403, 403, 403], [200, 200, 404])


async def test_within_tenants_a_foreign_control_looks_like_a_missing_one(
    api: httpx.AsyncClient,
) -> None:
    """Whatever is tried; and it goes on."""
    own = await put(api, "acme", **PAUSE | {"scope": {"tenant_id": "acme", "type": "mail"}})
    operation = await newest(api)
    of_all = await put(api, **PAUSE)
    why = {"reason": "over"}

    for token in ("globex", "acme"):
        foreign = own["id"] if token == "globex" else of_all["id"]
        missing = str(an_id())
        answers = [
            (await asked(api, "DELETE", f"/controls/{id}", token, params=why)).text.replace(id, "")
            for id in (foreign, missing)
        ]
        assert answers[0] == answers[1]
        assert Problem.CONTROL_NOT_FOUND in answers[0]
    reverted = await asked(api, "POST", f"/controls/{operation['id']}/revert", "globex", json=why)
    ordered = await asked(api, "POST", "/controls", "globex", json=PAUSE)
    problem_in(reverted, 404, Problem.CONTROL_NOT_FOUND)
    assert invalid_field(ordered) == "scope.tenant_id"
    seen = [
        (await asked(api, "GET", "/controls", token)).json()["controls"]
        for token in ("globex", "acme", SHARED)
    ]
    assert seen == [[], [own], [own, of_all]]
    assert (await asked(api, "GET", "/operations/audit", "globex")).json() == {"operations": []}


async def test_what_was_changed_meanwhile_is_a_409(api: httpx.AsyncClient) -> None:
    """Which tells the version that stands, by whom and why."""
    control = await put(api, "named", **PAUSE)

    again = await asked(api, "POST", "/controls", json=PAUSE)
    ended = await asked(
        api,
        "DELETE",
        f"/controls/{control['id']}",
        params={"reason": "over", "expected_version": "0"},
    )

    told = problem_in(again, 409, Problem.CONTROL_CHANGED)
    assert (told["version"], told["actor"], told["reason"]) == (1, "ada", "it is down")
    problem_in(ended, 409, Problem.CONTROL_CHANGED)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scope": None}, "scope"),
        ({"scope": {}}, "scope"),
        ({"scope": []}, "scope"),
        ({"scope": {"tenant": "acme"}}, "scope.tenant"),
        ({"scope": {"type": 5}}, "scope.type"),
        ({"scope": {"use_case": "unknown"}}, "scope.use_case"),
        ({"reason": " "}, "reason"),
        ({"pause": False}, "pause"),
        ({"pause": None}, "pause"),
        ({"limits": {"weight": 2}}, "limits"),
        ({"pause": None, "limits": []}, "limits"),
        ({"pause": None, "limits": {"weight": 2}}, "scope"),
        ({"until": "tomorrow"}, "until"),
        ({"until": "2001-01-01T00:00:00Z"}, "until"),
        ({"expected_version": -1}, "expected_version"),
        ({"expected_version": "1"}, "expected_version"),
        ({"paused": True}, "paused"),
    ],
    ids=str,
)
async def test_a_wrong_order_names_its_field(
    api: httpx.AsyncClient, change: dict[str, Any], field: str
) -> None:
    """The same in a preview; nothing is ordered."""
    for path in ("/controls", "/controls/preview"):
        assert invalid_field(await asked(api, "POST", path, json=PAUSE | change)) == field
    assert (await asked(api, "GET", "/operations/audit")).json() == {"operations": []}


@pytest.mark.parametrize(
    ("method", "path", "options", "field"),
    [
        ("DELETE", "/controls/1?reason=x", {}, "control_id"),
        ("DELETE", f"/controls/{an_id()}", {}, "reason"),
        ("DELETE", f"/controls/{an_id()}?reason=x&expected_version=x", {}, "expected_version"),
        ("POST", "/controls/1/revert", {"json": {"reason": "x"}}, "operation_id"),
        ("POST", f"/controls/{an_id()}/revert", {"json": {}}, "reason"),
        ("GET", "/operations/audit?limit=0", {}, "limit"),
        ("GET", "/operations/audit?before=x", {}, "before"),
    ],
)
async def test_a_wrong_call_names_its_field(
    api: httpx.AsyncClient, method: str, path: str, options: dict[str, Any], field: str
) -> None:
    """In the path, the query or the body."""
    assert invalid_field(await asked(api, method, path, **options)) == field
