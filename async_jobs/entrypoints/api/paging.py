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
    size_bytes, step = 0, FIRST_STEP_JOBS
    while True:
        page = await jobs.list_jobs(
            limit=min(step, limit - len(records)), cursor=cursor, **criteria
        )
        records += [_encoded(record_of(job)) for job in page.jobs]
        size_bytes = sum(map(len, records))
        cursor = page.next_cursor
        if cursor is None or len(records) >= limit or size_bytes >= PAGE_BYTES_MAX:
            break
        step = max(1, STEP_BYTES * len(records) // size_bytes)
    told = _encoded(None if cursor is None else str(cursor))
    return b'{"jobs":[' + b",".join(records) + b'],"next_cursor":' + told + b"}"


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
