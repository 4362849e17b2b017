"""Renew the pictures of `docs/dashboard.md`: `python -m tests.dashboard.screenshots`.

They show the scene that the tests in Chromium look at, without its hostile names.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final, Literal, NamedTuple

from tests.kit.browsing import chromium, signed_in, window
from tests.kit.dashboard import TOKEN, dashboard_of, scene, served

DOCS: Final = Path(__file__).parents[2] / "docs"


class Picture(NamedTuple):
    """One picture: its file, what it shows, how, and how wide."""

    name: str
    address: str
    scheme: Literal["light", "dark"] = "light"
    width: int = 1_280


async def main() -> None:
    """Write all pictures."""
    world = await scene()
    pictures = (
        Picture("now", ""),
        Picture("use-case", "use-case?name=notifications", "dark"),
        Picture("job", f"job?id={world.dead_job}"),
        Picture("narrow", "", "dark", 390),
    )
    app = dashboard_of(world.system)
    async with chromium() as browser, served(app) as url:
        for each in pictures:
            async with window(browser, width=each.width, color_scheme=each.scheme) as shown:
                await signed_in(shown.page, url, TOKEN)
                await shown.page.goto(f"{url}/{each.address}")
                await shown.page.wait_for_selector("#live-state[data-state=live]")
                path = DOCS / f"dashboard-{each.name}.png"
                await shown.page.screenshot(path=path, full_page=True)
        app.end()


if __name__ == "__main__":
    asyncio.run(main())
