"""Actions over many jobs over HTTP: who may begin what, and what is told of wrong bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from async_jobs.adapters.http.wire import TOKEN_HEADER, Problem
from async_jobs.entrypoints.http.app import create_app
from async_jobs.entrypoints.settings.tokens import ApiToken, Scope
from async_jobs.testing.builders import a_request, an_id
from async_jobs.testing.system import MemorySystem
from tests.unit.api.callers import SHARED, a_token, calling, invalid_field, problem_in

CANCEL: dict[str, Any] = {"action": "cancel", "filter": {"tenant_id": "acme"}}
DELETE = CANCEL | {"action": "delete"}
WHY = {"reason": "a mistake"}
TOKENS: tuple[ApiToken, ...] = (
    a_token("named").model_copy(update={"name": "ada"}),
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
        bulk_factory=lambda: system.bulk,
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


async def begun(
    api: httpx.AsyncClient, what: dict[str, Any], token: str = SHARED, **given: Any
) -> dict[str, Any]:
    """Preview an action and begin it."""
    previewed = await asked(api, "POST", "/bulk/preview", token, json=what)
    body = what | WHY | {"token": previewed.json()["token"]} | given
    response = await asked(api, "POST", "/bulk", token, json=body)
    assert response.status_code == 200, response.text
    operation: dict[str, Any] = response.json()
    return operation


async def test_who_begins_is_told_by_the_token(
    api: httpx.AsyncClient, system: MemorySystem
) -> None:
    """And from where by the connection; a start that is repeated by its id is there once."""
    await system.service.enqueue(a_request())
    first = await begun(api, CANCEL, "named", id=str(an_id()))
    again = await begun(api, CANCEL, "named", id=first["id"])
    listed = (await asked(api, "GET", "/bulk")).json()["operations"]

    assert (first["actor"], first["address"], first["matched"]) == ("ada", "127.0.0.1", 1)
    assert listed == [first] == [again]


@pytest.mark.parametrize(
    ("what", "may", "may_not"), [(CANCEL, "operate", "admin"), (DELETE, "admin", "operate")]
)
async def test_a_deletion_has_a_scope_of_its_own(
    api: httpx.AsyncClient, what: dict[str, Any], may: str, may_not: str
) -> None:
    """To preview, begin and stop it; who may not is told nothing of what else is wrong."""
    operation = await begun(api, what, may)
    one = f"/bulk/{operation['id']}"

    refused = [
        await asked(api, "POST", "/bulk/preview", may_not, json=what | {"filter": 1}),
        await asked(api, "POST", "/bulk", may_not, json=what),
        await asked(api, "POST", f"{one}/cancel", may_not, json=WHY),
        await asked(api, "POST", f"{one}/undo", may_not, json=WHY),
    ]
    goes_on = (await asked(api, "GET", one)).json()
    stopped = await asked(api, "POST", f"{one}/cancel", may, json=WHY)

    for each in refused:
        problem_in(each, 403, Problem.FORBIDDEN)
    assert goes_on == operation
    assert stopped.json()["state"] == "cancelled"


async def test_within_tenants_a_foreign_operation_looks_like_a_missing_one(
    api: httpx.AsyncClient,
) -> None:
    """Whatever is tried; and it goes on."""
    own = await begun(api, CANCEL, "acme")
    of_all = await begun(api, {"action": "cancel", "all": True})

    for found in (own, of_all):
        for id in (found["id"], str(an_id())):
            answers = [
                await asked(api, "GET", f"/bulk/{id}", "globex"),
                await asked(api, "POST", f"/bulk/{id}/cancel", "globex", json=WHY),
                await asked(api, "POST", f"/bulk/{id}/undo", "globex", json=WHY),
            ]
            assert len({each.text for each in answers}) == 1
            assert problem_in(answers[0], 404, Problem.BULK_NOT_FOUND)["id"] == id
    assert (await asked(api, "GET", "/bulk", "globex")).json() == {"operations": []}
    assert (await asked(api, "GET", "/bulk", "acme")).json() == {"operations": [own]}
    assert (await asked(api, "GET", "/bulk")).json() == {"operations": [of_all, own]}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"action": None}, "action"),
        ({"action": "undo"}, "action"),
        ({"action": ["cancel"]}, "action"),
        ({"filter": {}}, "filter"),
        ({"filter": []}, "filter"),
        ({"filter": {"tenant": "acme"}}, "filter.tenant"),
        ({"filter": {"tenant_id": "globex"}}, "filter.tenant_id"),
        ({"filter": {"types": ["send_email"]}}, "filter.tenant_id"),
        ({"filter": {"tenant_id": "acme", "statuses": ["dead"]}}, "filter.statuses"),
        ({"filter": {}, "all": 1}, "all"),
        ({"priority": 1}, "priority"),
        ({"action": "prioritise"}, "priority"),
        ({"action": "prioritise", "priority": True}, "priority"),
        ({"action": "tolerate"}, "delay_tolerance_seconds"),
        ({"action": "tolerate", "delay_tolerance_seconds": "1"}, "delay_tolerance_seconds"),
        ({"action": "reschedule", "run_at": "soon"}, "run_at"),
        ({"action": "reschedule", "run_at": "9000-01-01T00:00:00Z"}, "run_at"),
        ({"reason": ""}, "reason"),
        ({"reason": None}, "reason"),
        ({"token": None}, "token"),
        ({"token": 1}, "token"),
        ({"token": "1.1.1"}, "token"),
        ({"max": 0}, "max"),
        ({"max": True}, "max"),
        ({"id": "1"}, "id"),
        ({"actor": "bob"}, "actor"),
    ],
)
async def test_a_wrong_body_names_its_field(
    api: httpx.AsyncClient, given: dict[str, Any], field: str
) -> None:
    """As the caller wrote it; nothing begins."""
    previewed = await asked(api, "POST", "/bulk/preview", "acme", json=CANCEL)
    body = CANCEL | WHY | {"token": previewed.json()["token"]} | given

    response = await asked(api, "POST", "/bulk", "acme", json=body)

    assert invalid_field(response) == field
    assert (await asked(api, "GET", "/bulk")).json() == {"operations": []}
