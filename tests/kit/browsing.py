"""Chromium, driven through the dashboard: what it complains of is kept."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.kit import services

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
# No sandbox: tests may run as root in a container. The rest keeps a fresh profile quiet.
OPTIONS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars")
WATCH = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


class Window(NamedTuple):
    """A page of a browser of its own, and what its console was told of errors."""

    page: Page
    complaints: list[str]

    async def is_as_wide_as_its_window(self) -> bool:
        """Tell whether nothing sticks out at the side."""
        wide: bool = await self.page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
        return wide


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Yield the system's Chromium, without a window."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        services.missing("Chromium", f"none of {', '.join(NAMES)} is installed")
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=OPTIONS)
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def window(browser: Browser, *, width: int = 1_280, **options: Any) -> AsyncIterator[Window]:
    """Yield a window with cookies of its own; `options` are of playwright's `new_context`."""
    size: Any = {"width": width, "height": 900}
    # Without motion: a colour that is on its way to another one is neither.
    still: Any = {"viewport": size, "locale": "en-GB", "reduced_motion": "reduce"}
    context = await browser.new_context(**(still | options))
    try:
        await context.add_init_script(WATCH)
        page = await context.new_page()
        complaints: list[str] = []
        page.on(
            "console",
            lambda told: complaints.append(told.text) if told.type == "error" else None,
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        yield Window(page, complaints)
    finally:
        await context.close()


async def signed_in(page: Page, url: str, token: str) -> None:
    """Sign in as a person does."""
    await page.goto(f"{url}/sign-in")
    await page.fill("#token", token)
    await page.keyboard.press("Enter")
    await page.wait_for_selector("nav.menu")
