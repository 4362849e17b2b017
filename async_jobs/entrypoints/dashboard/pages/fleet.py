"""Workers and schedulers: who is there, what each receives, and what each leads."""

from __future__ import annotations

from typing import Final

from async_jobs.entrypoints.dashboard.visits import Page, Visit

SHOWN_FIRST: Final = 100


async def show(visit: Visit) -> Page:
    """Show them, and the queues."""
    status = await visit.status()
    shown = None if "all" in visit.query else SHOWN_FIRST
    return Page("fleet.html", {"status": status, "shown": shown})
