"""Pages of jobs that stay within memory, however large the jobs are."""

from __future__ import annotations

import json
from typing import Any, Final

from async_jobs.adapters.http.wire import record_of
from async_jobs.ports.jobs import Jobs

PAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""A page ends with the step that takes it there."""
STEP_BYTES: Final = 1024 * 1024
"""About how much is read and encoded at once; others get their turn in between."""
FIRST_STEP_JOBS: Final = 5


async def page_body(jobs: Jobs, filters: dict[str, Any]) -> bytes:
    """Return one page as it is sent: `{"jobs": […], "next_cursor": …}`.

    It has fewer than the `limit` of the filters, and a cursor, when the jobs are too large for
    one page.
    """
    criteria = dict(filters)
    limit: int = criteria.pop("limit")
    cursor = criteria.pop("cursor", None)
    records: list[bytes] = []
    # Rows that hold no job any more count as looked at: a step may bring fewer jobs, or none.
    looked_at, size_bytes, step = 0, 0, min(FIRST_STEP_JOBS, limit)
    while True:
        page = await jobs.list_jobs(limit=step, cursor=cursor, **criteria)
        cursor = page.next_cursor
        looked_at += step
        encoded = [_encoded(record_of(job)) for job in page.jobs]
        records += encoded
        size_bytes += sum(map(len, encoded))
        if cursor is None or looked_at >= limit or size_bytes >= PAGE_BYTES_MAX:
            break
        step = STEP_BYTES * looked_at // max(1, size_bytes)
        step = min(max(1, step), limit - looked_at)
    told = _encoded(None if cursor is None else str(cursor))
    return b'{"jobs":[' + b",".join(records) + b'],"next_cursor":' + told + b"}"


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
