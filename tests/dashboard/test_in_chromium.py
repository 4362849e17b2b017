"""The dashboard in a real browser: what scripts, policies and screens make of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import pytest_asyncio

from async_jobs.domain.job import EnqueueJobRequest
from async_jobs.entrypoints.dashboard.app import SCREENS, Dashboard
from async_jobs.entrypoints.dashboard.showing import visible
from tests.kit.browsing import chromium, signed_in, window
from tests.kit.dashboard import HOSTILE, TOKEN, Scene, dashboard_of, scene, served

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="module")


NARROW, WIDE = 360, 2_560
COLOURED = {"", "use-case", "job", "controls", "control"}
"""The screens that are looked at in the dark, too: they have all colours."""


class Place:
    """A hostile system whose dashboard is served, and a browser."""

    def __init__(self, browser: Browser, world: Scene, app: Dashboard, url: str) -> None:
        self.browser, self.world, self.app, self.url = browser, world, app, url

    def screens(self) -> list[tuple[str, str]]:
        """Return the address of each screen, hostile where it can be."""
        one, job = HOSTILE[0], self.world.dead_job
        queries = {
            "use-case": "?name=notifications",
            "tenant": "?name=acme",
            "job": f"?id={job}",
            "control": f"?kind=pause&use_case={one}",
        }
        return [
            (each, f"{self.url}/{each}{queries.get(each, '')}")
            for each in (*SCREENS, "errors", "bulk")
        ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place() -> AsyncIterator[Place]:
    """One for all tests of this module: a browser takes a second to start."""
    async with chromium() as browser:
        world = await scene(hostile=True, minutes=20)
        app = dashboard_of(world.system)
        async with served(app) as url:
            yield Place(browser, world, app, url)
            app.end()


async def accused(page: Any) -> list[str]:
    """Return what axe finds that people cannot use: all that is serious or critical."""
    from axe_playwright_python.async_playwright import Axe

    results = await Axe().run(page)
    return [
        f"{found['id']}: {found['nodes'][0]['html'][:200]}"
        for found in results.response["violations"]
        if found["impact"] in ("serious", "critical")
    ]


async def pressed(page: Any, *keys: str) -> None:
    for key in keys:
        await page.keyboard.press(key)


async def test_every_screen_for_everybody(place: Place) -> None:
    """No violation of the policy, no error, nothing serious for axe, nothing that sticks out."""
    async with window(place.browser, width=NARROW) as shown:
        page = shown.page
        await page.goto(f"{place.url}/sign-in")
        assert await accused(page) == []
        await signed_in(page, place.url, TOKEN)
        for name, address in place.screens():
            await page.emulate_media(color_scheme="light")
            answer = await page.goto(address)
            assert answer is not None
            assert answer.status == 200, name
            assert await accused(page) == [], name
            assert await shown.is_as_wide_as_its_window(), name
            await page.set_viewport_size({"width": WIDE, "height": 1_440})
            assert await shown.is_as_wide_as_its_window(), name
            await page.set_viewport_size({"width": NARROW, "height": 800})
            if name in COLOURED:
                await page.emulate_media(color_scheme="dark")
                assert await accused(page) == [], name
    assert shown.complaints == []


async def test_names_of_strangers_are_text(place: Place) -> None:
    """From the list to the job to its tenant: markup, what turns text round, and 200 letters."""
    async with window(place.browser, width=NARROW) as shown:
        page = shown.page
        await signed_in(page, place.url, TOKEN)
        for name in (HOSTILE[0], HOSTILE[3], HOSTILE[5]):
            await page.goto(f"{place.url}/jobs")
            await page.locator("input[name=tenant_id]").fill(name)
            await page.get_by_role("button", name="Show").click()
            await page.locator("tbody [data-row]").first.click()
            await page.locator("dd a").first.click()  # its tenant
            await page.wait_for_url("**/tenant?*")
            assert await page.locator("h1 bdi").inner_text() == visible(name)
            assert await shown.is_as_wide_as_its_window(), name
    assert shown.complaints == []


async def test_two_people_see_each_other_s_changes(place: Place) -> None:
    """One pauses, with the keyboard alone; the other one sees it, and ends it."""
    async with window(place.browser) as one, window(place.browser, width=1_600) as other:
        for each in (one, other):
            await signed_in(each.page, place.url, TOKEN)
        await other.page.goto(f"{place.url}/controls")
        await other.page.wait_for_selector("#live-state[data-state=live]")

        await pressed(one.page, "g", "c")
        await one.page.wait_for_url("**/controls")
        await one.page.get_by_role("link", name="Pause…").focus()
        await pressed(one.page, "Enter")
        await one.page.get_by_label("Queue").focus()
        await one.page.keyboard.type("notifications")
        await one.page.get_by_label("Reason").focus()
        await one.page.keyboard.type("seen by two")
        await pressed(one.page, "Enter")
        await one.page.get_by_label("This holds up all tenants").focus()
        await one.page.keyboard.type("notifications")
        await pressed(one.page, "Enter")
        await one.page.wait_for_selector("p.done")

        card = other.page.locator("li.card", has_text="seen by two")
        await card.wait_for()
        await card.get_by_text("Resume…").click()
        await card.get_by_label("Reason").fill("it is back")
        await card.get_by_role("button", name="Resume").click()
        await one.page.locator("li.card", has_text="seen by two").wait_for(state="detached")
    assert one.complaints + other.complaints == []


async def test_a_page_lives_and_holds_still_while_somebody_decides(place: Place) -> None:
    """What changes is shown without a reload, but not under somebody who has opened a form."""
    async with window(place.browser) as shown:
        page = shown.page
        await signed_in(page, place.url, TOKEN)
        await page.goto(f"{place.url}/job?id={place.world.pending_job}")
        await page.wait_for_selector("#live-state[data-state=live]")
        await page.evaluate("window.isTheSame = true")
        await page.get_by_text("Cancel…").click()
        await place.world.system.service.cancel_job(UUID(place.world.pending_job))
        await _told(place, page, "#live-state[data-state=held]")
        assert await page.locator(".state.cancelled").count() == 0
        await page.get_by_text("Cancel…").click()
        await page.wait_for_selector(".state.cancelled")
        await page.get_by_text("Retry…").click()
        await page.get_by_role("button", name="Retry this job").click()
        await page.wait_for_selector(".state.pending")
    assert shown.complaints == []


async def test_picked_jobs_are_retried_together(place: Place) -> None:
    """What is picked stays picked while the page would change."""
    async with window(place.browser) as shown:
        page = shown.page
        await signed_in(page, place.url, TOKEN)
        await page.goto(f"{place.url}/jobs?status=dead")
        await page.wait_for_selector("#live-state[data-state=live]")
        await page.locator("tbody input[type=checkbox]").first.check()
        await place.world.system.service.enqueue(
            EnqueueJobRequest(tenant_id="acme", use_case="reports", type="send_email", payload={})
        )
        await _told(place, page, "#live-state[data-state=held]")
        await page.get_by_role("button", name="Retry…").last.click()
        await page.get_by_label("Reason").fill("it works again")
        await page.get_by_role("button", name="Retry them").click()
        await page.wait_for_url("**/bulk-operation?*")
        assert "Retry" in await page.locator("h1").inner_text()
    assert shown.complaints == []


async def test_keys_and_settings(place: Place) -> None:
    """Find, help, rows, screens; colours and times stay as they were chosen."""
    async with window(place.browser, color_scheme="light") as shown:
        page = shown.page
        await signed_in(page, place.url, TOKEN)
        await pressed(page, "?")
        await page.wait_for_selector("dialog[open]")
        assert await accused(page) == []
        await pressed(page, "Escape")
        await page.wait_for_selector("dialog[open]", state="detached")
        await pressed(page, "g", "u")
        await page.wait_for_url("**/use-cases")
        first = page.locator("tbody [data-row]").first
        where = await first.get_attribute("href")
        await pressed(page, "j", "j", "k", "Enter")
        await page.wait_for_url(f"**{where}")
        await pressed(page, "/")
        await page.keyboard.type(place.world.dead_job)
        await pressed(page, "Enter")
        await page.wait_for_url("**/job?id=*")
        await page.locator("#times").select_option("utc")
        await page.locator("#theme").select_option("dark")
        await page.reload()
        assert "UTC" in (await page.locator("main time").first.inner_text())
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert shown.complaints == []


async def test_pages_poll_where_no_stream_comes_through(place: Place) -> None:
    """As behind a proxy that holds streams back; and without any script they still show all."""
    async with window(place.browser) as shown:
        page = shown.page
        await signed_in(page, place.url, TOKEN)
        await page.route("**/live", lambda route: route.abort())
        await page.goto(f"{place.url}/fleet")
        await page.wait_for_selector("#live-state[data-state=polling]")
    async with window(place.browser, java_script_enabled=False) as shown:
        await signed_in(shown.page, place.url, TOKEN)
        await shown.page.goto(f"{place.url}/use-case?name=notifications")
        assert await shown.page.locator("figure svg rect.bar").count() > 10
        await shown.page.get_by_role("button", name="Sign out").click()
        await shown.page.wait_for_url("**/sign-in")
        await shown.page.goto(f"{place.url}/jobs")
        assert "/sign-in" in shown.page.url


async def _told(place: Place, page: Any, selector: str) -> None:
    """Let time go on until a page shows something."""
    found = asyncio.ensure_future(page.wait_for_selector(selector))
    while not found.done():
        place.world.system.clock.advance(2)
        await asyncio.wait((found,), timeout=0.1)
    found.result()
