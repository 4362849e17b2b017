"""Every screen, in each state it can be in, wherever the dashboard is mounted."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from async_jobs.domain.audit import Operator
from async_jobs.domain.bulk import BulkAction
from async_jobs.domain.errors import MigrationDue, Unavailable
from async_jobs.domain.explain import Status, UseCaseStatus
from async_jobs.domain.filters import JobQuery
from async_jobs.domain.tallies import Attained, Attainment, Dimension
from async_jobs.entrypoints.dashboard.app import SCREENS, SEARCHING, create_dashboard
from async_jobs.entrypoints.dashboard.verdict import loads, troubles
from async_jobs.ports.bulk_steering import BulkRequest
from async_jobs.testing.builders import a_worker
from async_jobs.testing.clocks import NOW
from async_jobs.testing.system import MemorySystem, memory_system
from tests.kit.dashboard import HOSTILE, TOKEN, Scene, dashboard_of, scene
from tests.unit.dashboard.conftest import SAME_ORIGIN, SignIn

ADDRESS = re.compile(r'(?:href|action|src)="([^"]*)"')


@asynccontextmanager
async def looking(
    app: Any, base: str = "", *, root_path: str = ""
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a browser that is signed in."""
    transport = httpx.ASGITransport(app, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://jobs{base}") as client:
        await client.post("/sign-in", data={"token": TOKEN}, headers=SAME_ORIGIN)
        yield client


def query_of(world: Scene, path: str) -> dict[str, str]:
    """Return what a screen has to be asked for."""
    known = {
        "use-case": {"name": "notifications"},
        "tenant": {"name": "acme"},
        "job": {"id": world.dead_job},
    }
    return known.get(path, {})


async def test_no_screen_lets_names_of_strangers_be_anything_but_text() -> None:
    """Markup, quotes, scripts, templates, paths, and what turns text round."""
    world = await scene(hostile=True, minutes=1)
    async with looking(dashboard_of(world.system)) as browser:
        for path in (*SCREENS, *SEARCHING, "bulk"):
            for name in ("", *HOSTILE):
                query = {"name": name or "acme", "use_case": name, "tenant_id": name}
                answer = await browser.get(
                    f"/{path}", params=query_of(world, path) | ({"kind": "pause"} | query)
                )
                assert answer.status_code in (200, 422), (path, name)
                text = answer.text
                assert "<img" not in text
                assert "<script>" not in text
                assert "49" not in re.findall(r"alert\(1\)//(\S+)", text)
                assert "\u202e" not in re.sub(r'(value|href|action)="[^"]*"', "", text)
                assert "style=" not in text
                assert not re.search(r"\son\w+=[\"']", text)


@pytest.mark.parametrize("root_path", ["", "/behind/a-proxy"])
async def test_every_address_is_below_where_it_is_mounted(world: Scene, root_path: str) -> None:
    """In another application, and behind a proxy that leads to that one by a path of its own."""
    host = FastAPI()
    host.mount("/ops/jobs", dashboard_of(world.system))
    base = f"{root_path}/ops/jobs"
    async with looking(host, base, root_path=root_path) as browser:
        for path in (*SCREENS, *SEARCHING, "bulk"):
            answer = await browser.get(f"/{path}", params=query_of(world, path))
            assert answer.status_code == 200, path
            for address in set(ADDRESS.findall(answer.text)) - {"#main"}:
                assert address.startswith(f"{base}/"), address
        refused = await browser.post("/sign-out", headers=SAME_ORIGIN)
        assert refused.headers["location"] == f"{base}/sign-in"
        assert f"Path={base}" in refused.headers["set-cookie"]


async def test_an_empty_system_is_explained() -> None:
    """Each screen says what there would be, and how it comes to be there."""
    system = memory_system(now=NOW)
    async with looking(dashboard_of(system)) as browser:
        for path, told in (
            ("", "All is well"),
            ("tenants", "ASYNC_JOBS_STATISTICS"),
            ("jobs", "async-jobs jobs enqueue"),
            ("fleet", "async-jobs worker"),
            ("controls", "Nothing stands"),
            ("audit", "Nobody has ordered anything"),
            ("use-case?name=default", "Nothing was counted"),
        ):
            shown = (await browser.get(f"/{path}")).text
            assert told in shown, path


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (Unavailable("host=10.0.0.1 password=secret"), 503, "tries again by itself"),
        (MigrationDue("secret"), 503, "async-jobs migrate"),
        (RuntimeError("secret"), 500, "was logged"),
    ],
)
async def test_what_went_wrong_is_told_without_secrets(
    system: MemorySystem, error: Exception, status: int, told: str
) -> None:
    """A page that says what to do; what an error says of hosts and statements is not for it."""

    async def failing() -> Any:
        raise error

    app = create_dashboard(
        lambda: system.service,
        operations_factory=failing,
        reports_factory=failing,
        steering_factory=failing,
        auth_token=TOKEN,
        clock=system.clock,
    )
    async with looking(app) as browser:
        answer = await browser.get("/")
        assert (answer.status_code, "secret" in answer.text) == (status, False)
        assert told in answer.text


async def test_a_hundred_viewers_ask_what_one_does(system: MemorySystem) -> None:
    """At every screen: what one viewer's page asks is all that is asked for a hundred."""
    asked: list[str] = []

    def counting(port: Any) -> Callable[[], Any]:
        class Counting:
            def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
                asked.append(name)
                return getattr(port, name)  # type: ignore[no-any-return]

        return Counting

    app = create_dashboard(
        counting(system.service),
        operations_factory=counting(system.operations),
        reports_factory=counting(system.reports),
        steering_factory=counting(system.steering),
        allow_unauthenticated=True,
        clock=system.clock,
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://jobs") as browser:
        for path in ("", "use-case?name=notifications", "tenant?name=acme", "jobs", "audit"):
            system.clock.advance(60)
            asked.clear()
            await browser.get(f"/{path}")
            by_one = sorted(asked)
            system.clock.advance(60)
            asked.clear()
            for _ in range(100):
                await browser.get(f"/{path}")
            assert sorted(asked) == by_one


async def test_ordering_is_previewed_and_confirmed_as_the_harm_asks(
    sign_in: SignIn, system: MemorySystem
) -> None:
    """To hold up all tenants takes typing the name; to hold up one type takes a look."""
    browser = await sign_in("operator")
    whole = {"kind": "pause", "use_case": "reports", "reason": "slow", "for": "1h"}
    shown = await browser.post("/control/preview", data=whole, headers=SAME_ORIGIN)
    assert "Type <bdi" in shown.text
    assert len(await system.steering.audit()) == 2
    put = {**whole, "version": "0"}
    answer = await browser.post("/control/put", data=put, headers=SAME_ORIGIN)
    assert answer.status_code == 422
    answer = await browser.post(
        "/control/put", data=put | {"typed": "reports"}, headers=SAME_ORIGIN
    )
    assert answer.status_code == 303
    again = await browser.post("/control/put", data=put | {"typed": "reports"}, headers=SAME_ORIGIN)
    assert (again.status_code, "Somebody was faster" in again.text) == (409, True)
    wrong = {"kind": "pause", "reason": "", "use_case": "<b>"}
    shown = await browser.post("/control/preview", data=wrong, headers=SAME_ORIGIN)
    assert (shown.status_code, "&lt;b&gt;" in shown.text) == (422, True)

    newest = (await system.steering.audit(limit=1))[0]
    data = {"id": str(newest.id), "reason": "it is over"}
    reverted = await browser.post("/control/revert", data=data, headers=SAME_ORIGIN)
    assert reverted.headers["location"] == "/audit?done=reverted"


async def test_jobs_are_found_by_what_they_are_and_by_their_error(
    sign_in: SignIn, world: Scene
) -> None:
    """From the group of errors to its jobs, by an address that can be sent to somebody."""
    browser = await sign_in("operator")
    world.system.clock.advance(1)
    errors = (await browser.get("/errors")).text
    assert "the provider said nothing for 2 s" in errors
    (address,) = {each for each in ADDRESS.findall(errors) if "error_group=" in each}
    found = (await browser.get(html.unescape(address))).text
    assert re.findall(r'<tr id="job-([^"]*)"', found) == [world.dead_job]
    for query, rows in (
        ("type=render_report&use_case=imports", 7),
        ("status=dead&since=1h", 1),
        ("queue=nowhere", 0),
    ):
        shown = (await browser.get(f"/jobs?{query}")).text
        assert shown.count('<tr id="job-') == rows, query
    for wrong in ("error_group=x", "since=1y", "status=odd", "cursor=1", "type=%00"):
        assert (await browser.get(f"/jobs?{wrong}")).status_code == 422, wrong


async def test_without_a_search_jobs_are_listed(system: MemorySystem) -> None:
    """By tenant, use case and status; what is not there is neither in the menu nor an address."""
    app = create_dashboard(
        lambda: system.service,
        operations_factory=lambda: system.operations,
        reports_factory=lambda: system.reports,
        steering_factory=lambda: system.steering,
        auth_token=TOKEN,
        clock=system.clock,
    )
    async with looking(app) as browser:
        shown = (await browser.get("/jobs?status=dead&type=nothing")).text
        assert shown.count('<tr id="job-') == 1
        assert "Errors" not in shown
        assert "All that are like this" not in shown
        for path in ("errors", "bulk"):
            assert (await browser.get(f"/{path}")).status_code == 404


async def test_many_jobs_are_cancelled_and_brought_back(
    sign_in: SignIn, system: MemorySystem
) -> None:
    """Counted first, with a reason, followed while schedulers do it, and undone."""
    browser = await sign_in("operator")
    meant = {"action": "cancel", "use_case": "imports", "since": "1h"}
    shown = await browser.post("/bulk/preview", data=meant, headers=SAME_ORIGIN)
    assert "Cancel 7 jobs" in shown.text
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', shown.text))
    fields = {name: html.unescape(value) for name, value in fields.items()}
    without = await browser.post("/bulk/start", data=fields, headers=SAME_ORIGIN)
    assert (without.status_code, "reason" in without.text) == (422, True)
    started = await browser.post(
        "/bulk/start", data={**fields, "reason": "a wrong file"}, headers=SAME_ORIGIN
    )
    assert started.status_code == 303, started.text
    address = started.headers["location"]
    await system.run_until_idle()
    system.clock.advance(60)
    assert "finished" in (await browser.get(address)).text
    assert "a wrong file" in (await browser.get("/audit")).text
    assert len(await system.jobs(use_case="imports", status="cancelled")) == 7
    undo = {"id": address.partition("id=")[2].partition("&")[0], "reason": "it was right"}
    undone = await browser.post("/bulk/undo", data=undo, headers=SAME_ORIGIN)
    assert undone.status_code == 303, undone.text
    await system.run_until_idle()
    assert len(await system.jobs(use_case="imports", status="pending")) == 7
    foreign = await (await sign_in("of-acme")).get("/bulk-operation", params={"id": undo["id"]})
    assert foreign.status_code == 404
    await browser.get("/bulk", params={"before": undo["id"]})
    one = await browser.get("/bulk-operation", params={"id": undo["id"]})
    assert one.status_code == 200  # what was asked of the list is no answer to this
    listed = (await browser.get("/bulk")).text
    assert listed.count('<tr id="bulk-') == 2


async def test_jobs_are_picked_one_by_one(sign_in: SignIn, world: Scene) -> None:
    """These and no others; whoever picks none is told."""
    browser = await sign_in("operator")
    shown = (await browser.get("/jobs?status=dead")).text
    (name,) = re.findall(r'name="(pick-[^"]*)"', shown)
    none = {"action": "retry", "picked": "1"}
    refused = await browser.post("/bulk/preview", data=none, headers=SAME_ORIGIN)
    assert (refused.status_code, "picked first" in refused.text) == (422, True)
    shown = (
        await browser.post("/bulk/preview", data={**none, name: "1"}, headers=SAME_ORIGIN)
    ).text
    assert "Retry 1 job" in shown
    fields = dict(re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', shown))
    started = await browser.post(
        "/bulk/start", data={**fields, "reason": "it works again"}, headers=SAME_ORIGIN
    )
    assert started.status_code == 303, started.text
    await world.system.run_until_idle()
    (job,) = [each for each in await world.system.jobs() if str(each.id) == world.dead_job]
    assert job.status == "dead"  # it failed again
    assert job.lease_seq > 1


async def test_a_text_is_looked_for_by_a_form(sign_in: SignIn, world: Scene) -> None:
    """No address holds it; and to look into payloads takes the right to see them."""
    asked = {"tenant_id": "acme", "since": "1h", "payload_text": "ada@acme.example"}
    admin = await sign_in("of-acme")
    found = (await admin.post("/jobs/look", data=asked, headers=SAME_ORIGIN)).text
    assert re.findall(r'<tr id="job-([^"]*)"', found) == [world.dead_job]
    assert "ada@acme" not in "".join(ADDRESS.findall(found))
    assert "hx-get" not in found
    reader = await sign_in("reader")
    refused = await reader.post("/jobs/look", data=asked, headers=SAME_ORIGIN)
    assert refused.status_code == 403
    of_error = {"use_case": "notifications", "since": "24h", "error_text": "said nothing"}
    found = (await reader.post("/jobs/look", data=of_error, headers=SAME_ORIGIN)).text
    assert re.findall(r'<tr id="job-([^"]*)"', found) == [world.dead_job]


async def test_acting_on_many_takes_their_number_or_the_right_to(sign_in: SignIn) -> None:
    """More than a hundred jobs, and any that are deleted, are confirmed by typing how many."""
    operator = await sign_in("operator")
    meant = {"action": "delete", "use_case": "reports"}
    refused = await operator.post("/bulk/preview", data=meant, headers=SAME_ORIGIN)
    assert refused.status_code == 403
    admin = await sign_in("of-acme")
    shown = await admin.post("/bulk/preview", data=meant, headers=SAME_ORIGIN)
    assert "Type <b>6</b>" in shown.text
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', shown.text))
    started = await admin.post(
        "/bulk/start", data={**fields, "reason": "old", "typed": "5"}, headers=SAME_ORIGIN
    )
    assert started.status_code == 422
    other = {**fields, "use_case": "imports", "reason": "old", "typed": "6"}
    refused = await admin.post("/bulk/start", data=other, headers=SAME_ORIGIN)
    assert refused.status_code == 422  # the preview was of others
    foreign = {**meant, "tenant_id": "globex"}
    refused = await admin.post("/bulk/preview", data=foreign, headers=SAME_ORIGIN)
    assert refused.status_code == 403


async def test_a_job_shows_the_labels_it_is_found_by(sign_in: SignIn, world: Scene) -> None:
    """Whoever may read a job may read them."""
    shown = (await (await sign_in("operator")).get(f"/job?id={world.dead_job}")).text
    assert re.search(r"Labels</dt><dd>.*order</bdi> = <bdi [^>]*>1017</bdi>", shown)


async def test_the_audit_tells_what_was_done_to_many_jobs(sign_in: SignIn, world: Scene) -> None:
    """A retry, a deletion and a cancellation are not the same."""
    bulk = world.system.bulk
    request = BulkRequest(action=BulkAction.RETRY, criteria=JobQuery(tenant_id="acme"))
    token = (await bulk.preview(request)).token
    await bulk.start(request, token=token, reason="it is back", operator=Operator(actor="ada"))

    shown = (await (await sign_in("operator")).get("/audit")).text

    assert "<b>retry</b>, 1 matched" in shown
    assert "all of this operation" in shown


async def test_what_is_looked_for_is_found(sign_in: SignIn, world: Scene) -> None:
    """A job by its id, a use case by its name, and else a tenant."""
    browser = await sign_in("operator")
    for asked, found in (
        (world.dead_job, f"/job?id={world.dead_job}"),
        ("reports", "/use-case?name=reports"),
        ("a/b&c", "/tenant?name=a%2Fb%26c"),
        ("", "/jobs"),
    ):
        answer = await browser.get("/find", params={"q": asked})
        assert answer.headers["location"] == found


class Huge:
    """A system of 900 use cases, 250 workers and 5,000 tenants, as its ports tell of it."""

    async def status(self, **within: Any) -> Status:
        use_cases = tuple(
            UseCaseStatus(
                use_case=f"use-case-{number:03}",
                queue="mail",
                limit=4,
                running=4,
                unclaimed=1,
                pending=10_000,
                at_least=True,
                starts_per_second=3.5,
            )
            for number in range(900)
        )
        workers = tuple(
            a_worker(worker_id=f"worker-{number}", queues=("mail",) * 30) for number in range(250)
        )
        return Status(at=NOW, use_cases=use_cases, queues=(), workers=workers)

    async def controls(self, **within: Any) -> list[Any]:
        return []

    async def attainment(self, *, step: object = None, by: Any = (), **within: Any) -> Attainment:
        assert step is None, "that would be more rows than there may be"
        rows = tuple(
            Attained(starting=NOW, tenant_id=f"tenant-{number}", on_time=1, attempts={})
            for number in range(5_000 if "tenant_id" in by else 0)
        )
        return Attainment(
            at=NOW, since=NOW.replace(hour=11), until=NOW, step_seconds=None, by=(), rows=rows
        )


async def test_a_huge_system_is_shown_by_its_beginning(system: MemorySystem) -> None:
    """With what needs a look first, and how many more there are."""
    huge: Any = Huge()
    app = create_dashboard(
        lambda: system.service,
        operations_factory=lambda: huge,
        reports_factory=lambda: huge,
        steering_factory=lambda: huge,
        auth_token=TOKEN,
        clock=system.clock,
    )
    async with looking(app) as browser:
        for path, rows, told in (
            ("", 25, "All 900 use cases"),
            ("use-cases", 900, "10,000+"),
            ("fleet", 100, "All 250 workers"),
            ("fleet?all=1", 250, "and 18 more"),
            ("tenants", 200, "4,800 more"),
        ):
            shown = (await browser.get(f"/{path}")).text
            assert (shown.count("<tr id="), told in shown) == (rows, True), path


def test_many_use_cases_are_sorted_by_what_needs_a_look() -> None:
    """Those with missed deadlines first; more than a few late starts are worth a line."""
    names = [f"use-case-{number:03}" for number in range(500)]
    status = Status(
        at=NOW,
        use_cases=tuple(
            UseCaseStatus(
                use_case=name, queue=name, limit=4, running=1, unclaimed=0, pending=number
            )
            for number, name in enumerate(names)
        ),
        queues=(),
    )
    late = Attained(
        starting=NOW, use_case=names[3], on_time=90, late=10, attempts={}, attainment=0.9
    )
    failing = Attained(
        starting=NOW,
        use_case=names[7],
        on_time=9,
        succeeded=3,
        dead=2,
        attempts={"failed": 5, "rejected": 1, "snoozed": 40},
    )
    hour = Attainment(
        at=NOW,
        since=NOW.replace(hour=11),
        until=NOW,
        step_seconds=None,
        by=(Dimension.USE_CASE,),
        rows=(late, failing),
    )
    found = loads(status, hour, hour, ())

    assert [each.now.use_case for each in found[:2]] == [names[3], names[499]]
    missed, failed = troubles(status, found)
    assert missed.sentence.startswith("10 of 100 first starts of 'use-case-003' missed")
    assert failed.sentence == (
        "6 of 9 attempts of 'use-case-007' failed in the last hour, and 2 jobs are dead: see what"
        " went wrong."
    )
    assert (failed.path, failed.query) == ("errors", {"use_case": names[7]})
    assert troubles(status, found, has_groups=False)[1].path == "jobs"
