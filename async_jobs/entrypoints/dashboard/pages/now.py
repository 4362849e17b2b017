"""Now, and all use cases: what is wrong, why, and what to press."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from async_jobs.domain.tallies import ROWS_MAX
from async_jobs.entrypoints.dashboard.verdict import STEP_COUNT, Level, loads, summed, troubles
from async_jobs.entrypoints.dashboard.visits import Page, Visit

HOUR: Final = timedelta(hours=1)
SHOWN_FIRST: Final = 25
"""So many use cases are shown at first."""


async def show(visit: Visit) -> Page:
    """Show what is wrong, the sums, the use cases, what stands, and who is there."""
    status = await visit.status()
    controls = await visit.controls()
    hour = await visit.attainment(HOUR)
    steps = None
    if len(status.use_cases) * (STEP_COUNT + 1) <= ROWS_MAX:  # more are told by the hour only
        steps = await visit.attainment(HOUR, step=HOUR / STEP_COUNT)
    use_cases = loads(status, hour, steps, controls)
    found = troubles(status, use_cases, has_groups=visit.doors.search is not None)
    rates = [each.now.starts_per_second for each in use_cases if each.now.starts_per_second]
    told = {
        "status": status,
        "troubles": found,
        "is_bad": any(each.level is not Level.NOTE for each in found),
        "sums": summed(hour.rows),
        "use_cases": use_cases,
        "shown": len(use_cases) if "all" in visit.query else SHOWN_FIRST,
        "pending": sum(each.now.pending for each in use_cases),
        "at_least": any(each.now.at_least for each in use_cases),
        "running": sum(each.now.running for each in use_cases),
        "limit": sum(each.now.limit or 0 for each in use_cases),
        "starts": sum(rates) if rates else None,
        "slots": sum(each.slots for each in status.queues),
        "controls": controls,
    }
    return Page("now.html", told)


async def show_use_cases(visit: Visit) -> Page:
    """Show every use case."""
    page = await show(visit)
    return Page("use_cases.html", {**page.told, "shown": len(page.told["use_cases"])})
