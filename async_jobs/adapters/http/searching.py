"""The driving port `Search` over the wire: what is sent, and how an answer is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from async_jobs.adapters.http.answers import answer_of
from async_jobs.adapters.http.calls import Call, named
from async_jobs.adapters.http.wire import page_of
from async_jobs.domain.bounds import JOBS_PER_PAGE_MAX, check_instant, check_uuid
from async_jobs.domain.error_groups import GROUPS_MAX, ErrorGroups
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.filters import (
    FoundPage,
    JobQuery,
    check_query,
    check_window,
    query_record_of,
)
from async_jobs.domain.outlook import Counted

PATH = "jobs/search"


def found_of(record: Mapping[str, Any]) -> FoundPage:
    """Return the page that JSON values stand for.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    page, back = page_of(record), record["looked_back_to"]
    return FoundPage(
        jobs=page.jobs,
        next_cursor=page.next_cursor,
        looked_back_to=None if back is None else datetime.fromisoformat(back),
        unreadable=page.unreadable,
    )


def search(query: JobQuery, limit: int, cursor: UUID | None) -> Call[FoundPage]:
    """Return the call that searches for jobs.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """
    body: dict[str, Any] = {"filter": _record_of(query)}
    body["limit"] = _limit(limit, JOBS_PER_PAGE_MAX)
    if cursor is not None:
        body["cursor"] = str(check_uuid("cursor", cursor))
    return Call(method="POST", path=PATH, body=_encoded(body), decode=found_of, writes=False)


def count(query: JobQuery) -> Call[Counted]:
    """Return the call that counts jobs.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """

    def decode(record: Any) -> Counted:
        return Counted(int(record["count"]), at_least=bool(record["at_least"]))

    body = _encoded({"filter": _record_of(query), "count": True})
    return Call(method="POST", path=PATH, body=body, decode=decode, writes=False)


def errors(
    *,
    since: datetime | None,
    until: datetime | None,
    tenant_id: str | None,
    use_case: str | None,
    limit: int,
) -> Call[ErrorGroups]:
    """Return the call that tells what went wrong.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """
    params: dict[str, Any] = dict(named(use_case=use_case, tenant_id=tenant_id))
    for name, instant in (("since", since), ("until", until)):
        if instant is not None:
            params[name] = check_instant(name, instant).isoformat()
    params["limit"] = str(_limit(limit, GROUPS_MAX))
    return Call(
        method="GET",
        path="operations/errors",
        params=params,
        decode=lambda record: answer_of(ErrorGroups, record),
        writes=False,
    )


def _record_of(query: JobQuery) -> dict[str, Any]:
    return query_record_of(check_window(check_query(query)))


def _limit(limit: object, most: int) -> int:
    if type(limit) is not int or not 1 <= limit <= most:
        raise InvalidJobError("limit", f"must be an integer from 1 to {most}")
    return limit


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()
