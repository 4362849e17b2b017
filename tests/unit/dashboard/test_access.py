"""Who sees what, and who may do what: held at every route, by the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from async_jobs.domain.job import JobStatus
from async_jobs.entrypoints.dashboard.app import (
    ACTIONS,
    ACTIONS_OVER_MANY,
    LOOKS,
    OVER_MANY,
    SCREENS,
    SEARCHING,
)
from async_jobs.entrypoints.dashboard.guarding import COOKIE, HEADERS
from async_jobs.entrypoints.dashboard.sessions import FAILURES_MAX, FAILURES_SECONDS
from async_jobs.testing.clocks import let_others_run
from async_jobs.testing.system import MemorySystem
from tests.kit.dashboard import Scene, dashboard_of
from tests.unit.api.callers import a_token
from tests.unit.dashboard.conftest import SAME_ORIGIN, SignIn

ALL_SCREENS = (*SCREENS, *SEARCHING, *OVER_MANY)
ALL_ACTIONS = (*ACTIONS, *ACTIONS_OVER_MANY)
PAUSE = {"kind": "pause", "type": "send_email", "reason": "it is down", "for": "1h", "version": "0"}
LIMIT = {"kind": "limit", "use_case": "imports", "max_concurrent": "1", "reason": "slow"}


async def test_a_stranger_sees_nothing(sign_in: SignIn) -> None:
    """No screen, no stream, and not which paths there are."""
    stranger = await sign_in(None)
    for path in (*ALL_SCREENS, "find", "live", "nothing/here"):
        answer = await stranger.get(f"/{path}")
        assert "acme" not in answer.text
        if path in ALL_SCREENS:
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in")


async def test_a_stranger_does_nothing(sign_in: SignIn, system: MemorySystem) -> None:
    """Every action asks for a session first."""
    stranger = await sign_in(None)
    for path in (*ALL_ACTIONS, *LOOKS):
        answer = await stranger.post(f"/{path}", data=PAUSE, headers=SAME_ORIGIN)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/sign-in"
    assert len(await system.steering.audit()) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://jobs.example", "Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_pages_of_others_change_nothing(
    sign_in: SignIn, system: MemorySystem, headers: dict[str, str]
) -> None:
    """Whatever cookie they come with."""
    browser = await sign_in("operator")
    for path in (*ALL_ACTIONS, *LOOKS, "sign-in", "sign-out"):
        answer = await browser.post(f"/{path}", data=PAUSE, headers=headers)
        assert answer.status_code == 403
    assert len(await system.steering.audit()) == 2
    assert (await browser.get("/")).status_code == 200


async def test_an_older_browser_tells_by_its_origin(sign_in: SignIn) -> None:
    """Where it does not send `Sec-Fetch-Site`."""
    browser = await sign_in("operator")
    origin = {"Origin": "https://jobs.example"}

    assert (await browser.post("/control/put", data=PAUSE, headers=origin)).status_code == 303


async def test_the_cookie_is_for_this_place_only(sign_in: SignIn) -> None:
    """No script sees it, no other site sends it, and it goes over TLS only."""
    stranger = await sign_in(None)
    data = {"token": " operator ", "next": "/jobs?status=dead"}
    answer = await stranger.post("/sign-in", data=data, headers=SAME_ORIGIN)
    cookie = answer.headers["set-cookie"]

    assert answer.headers["location"] == "/jobs?status=dead"
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "Path=/", "SameSite=strict", "Secure"} <= set(cookie.split("; "))
    assert "operator" not in cookie


@pytest.mark.parametrize("following", ["//evil.example", "/\\evil.example", "https://evil", "/\n"])
async def test_signing_in_leads_nowhere_else(sign_in: SignIn, following: str) -> None:
    """An address in a link is not to be trusted."""
    stranger = await sign_in(None)
    data = {"token": "operator", "next": following}
    answer = await stranger.post("/sign-in", data=data, headers=SAME_ORIGIN)

    assert answer.headers["location"] == "/"


async def test_whoever_guesses_has_to_wait(sign_in: SignIn, system: MemorySystem) -> None:
    """Then not even the right token is looked at, until the time is over."""
    stranger = await sign_in(None)
    for _ in range(FAILURES_MAX):
        answer = await stranger.post("/sign-in", data={"token": "guess"}, headers=SAME_ORIGIN)
        assert (answer.status_code, "guess" in answer.text) == (401, False)
    refused = await stranger.post("/sign-in", data={"token": "operator"}, headers=SAME_ORIGIN)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) == FAILURES_SECONDS

    system.clock.advance(FAILURES_SECONDS)
    answer = await stranger.post("/sign-in", data={"token": "operator"}, headers=SAME_ORIGIN)
    assert answer.status_code == 303


async def test_guesses_that_come_at_once_are_counted_one_by_one(
    sign_in: SignIn, system: MemorySystem
) -> None:
    """Many forms may be on their way before the first of them has failed."""
    stranger, arrived = await sign_in(None), asyncio.Event()

    async def form() -> AsyncIterator[bytes]:
        yield b"token="
        await arrived.wait()
        yield b"guess"

    headers = {**SAME_ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}
    guesses = [
        asyncio.ensure_future(stranger.post("/sign-in", content=form(), headers=headers))
        for _ in range(2 * FAILURES_MAX)
    ]
    await let_others_run()
    arrived.set()
    answers = [answer.status_code for answer in await asyncio.gather(*guesses)]

    assert (answers.count(401), answers.count(429)) == (FAILURES_MAX, FAILURES_MAX)


async def test_signing_out_ends_the_session_itself(sign_in: SignIn) -> None:
    """Whoever kept the cookie is a stranger."""
    browser = await sign_in("operator")
    kept = browser.cookies[COOKIE]
    await browser.post("/sign-out", headers=SAME_ORIGIN)
    browser.cookies.set(COOKIE, kept)

    assert (await browser.get("/")).status_code == 303


async def test_a_session_ends_with_its_token(system: MemorySystem) -> None:
    """At that very instant, not when the session would have ended."""
    entry = a_token("short", expires_at=system.clock.now().replace(hour=13))
    app = dashboard_of(system, tokens=[entry])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://jobs") as browser:
        await browser.post("/sign-in", data={"token": "short"}, headers=SAME_ORIGIN)
        assert (await browser.get("/")).status_code == 200
        system.clock.advance(3_600)
        assert (await browser.get("/")).status_code == 303
        live = await browser.get("/", headers={"HX-Request": "true"})
        assert (live.status_code, live.headers["hx-redirect"]) == (401, "/sign-in?next=%2F")


async def test_a_link_from_elsewhere_finds_its_session(sign_in: SignIn) -> None:
    """A browser keeps a strict cookie to itself then, until a page of ours leads it on."""
    headers = {"Sec-Fetch-Site": "cross-site"}
    answer = await (await sign_in(None)).get("/jobs?status=dead", headers=headers)

    assert answer.status_code == 200
    assert 'http-equiv="refresh" content="0"' in answer.text


async def test_a_token_without_the_right_scope(sign_in: SignIn, world: Scene) -> None:
    """One that may look may not act, and one that may act may not limit, nor see payloads."""
    enqueuer = await sign_in("enqueuer")
    assert (await enqueuer.get("/")).status_code == 403
    assert (await enqueuer.get("/live")).status_code == 204

    reader = await sign_in("reader")
    shown = await reader.get("/job", params={"id": world.dead_job})
    assert "Retry" not in shown.text
    assert "ada@acme.example" not in shown.text
    for path in ALL_ACTIONS:
        data = PAUSE | {"id": world.dead_job}
        assert (await reader.post(f"/{path}", data=data, headers=SAME_ORIGIN)).status_code == 403

    operator = await sign_in("operator")
    for path in ("control/preview", "control/put"):
        answer = await operator.post(f"/{path}", data=LIMIT, headers=SAME_ORIGIN)
        assert answer.status_code == 403
    assert (await operator.get("/control?kind=limit")).status_code == 403
    limit = next(each for each in await world.system.steering.controls() if not each.is_pause)
    data = {"id": str(limit.id), "reason": "no"}
    answer = await operator.post("/control/end", data=data, headers=SAME_ORIGIN)
    assert answer.status_code == 403


async def test_a_token_of_a_tenant_sees_and_touches_its_own(sign_in: SignIn, world: Scene) -> None:
    """Nothing of others shines through: no name, no host, no job, no control."""
    browser = await sign_in("of-acme")
    for path in ALL_SCREENS:
        shown = (await browser.get(f"/{path}", params={"name": "acme"})).text
        for foreign in ("globex", "initech", "ip-10-0-0-1", "the disks are slow"):
            assert foreign not in shown, path
    assert (await browser.get("/tenant?name=globex")).status_code == 403
    assert (await browser.get("/jobs?tenant_id=globex")).status_code == 403
    assert (await browser.get("/job", params={"id": world.pending_job})).status_code == 404
    for path in ("job/cancel", "job/retry"):
        data = {"id": world.pending_job}
        answer = await browser.post(f"/{path}", data=data, headers=SAME_ORIGIN)
        assert answer.status_code == 404
    answer = await browser.post(
        "/control/put", data=PAUSE | {"tenant_id": "globex"}, headers=SAME_ORIGIN
    )
    assert answer.status_code == 403
    answer = await browser.post("/control/put", data=PAUSE, headers=SAME_ORIGIN)
    assert answer.status_code in (403, 422)
    (pause, _) = await world.system.steering.controls()
    data = {"id": str(pause.id), "reason": "no"}
    assert (await browser.post("/control/end", data=data, headers=SAME_ORIGIN)).status_code == 404


async def test_a_token_of_two_tenants_chooses(sign_in: SignIn) -> None:
    """Lists are of one tenant; what is asked of both is told of both."""
    browser = await sign_in("of-two")
    assert "Choose a tenant" in (await browser.get("/jobs")).text
    assert (await browser.get("/jobs?tenant_id=globex")).text.count("globex") > 2
    assert "initech" not in (await browser.get("/tenants")).text
    assert (await browser.get("/use-case?name=notifications")).status_code == 200


async def test_every_answer_has_the_headers(sign_in: SignIn) -> None:
    """Pages, files, refusals, and what is not there."""
    browser = await sign_in("operator")
    for path in ("/", "/sign-in", "/static/dashboard.css", "/nothing", "/robots.txt", "/job?id=x"):
        answer = await browser.get(path)
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS, path


async def test_an_action_is_by_whoever_holds_the_token(sign_in: SignIn, world: Scene) -> None:
    """The audit has the token's name; the job has another life."""
    browser = await sign_in("operator")
    await browser.post("/control/put", data=PAUSE, headers=SAME_ORIGIN)
    await browser.post("/job/retry", data={"id": world.dead_job}, headers=SAME_ORIGIN)

    newest = (await world.system.steering.audit(limit=1))[0]
    assert (newest.actor, newest.reason) == ("ada", "it is down")
    page = await world.system.service.list_jobs(tenant_id="acme", status=JobStatus.PENDING)
    assert world.dead_job in {str(each.id) for each in page.jobs}
