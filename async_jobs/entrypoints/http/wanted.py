"""From the body of a search to what it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID

from async_jobs.domain.bounds import JOBS_PER_PAGE_MAX
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.filters import JobQuery, query_of, whole
from async_jobs.entrypoints.http.bodies import PAGE_DEFAULT, as_uuid
from async_jobs.entrypoints.http.reading import shown

FORMATS: Final = ("json", "ndjson")
_KNOWN: Final = ("filter", "limit", "cursor", "count", "format")


class Searched(NamedTuple):
    """What the body of a search asks for."""

    query: JobQuery
    limit: int
    cursor: UUID | None
    counts: bool
    lines: bool


def searched_of(body: Mapping[str, Any]) -> Searched:
    """Return what a body asks for; whatever is left out or null has its default.

    Raises:
        InvalidJobError: with the first field that is wrong.
    """
    for name in body:
        if name not in _KNOWN:
            raise InvalidJobError(shown(name), f"is unknown; known: {', '.join(_KNOWN)}")
    given = {name: value for name, value in body.items() if value is not None}
    try:
        query = query_of(given.get("filter", {}))
    except InvalidJobError as error:
        if error.field.startswith("filter"):
            raise
        raise InvalidJobError(f"filter.{error.field}", error.problem) from None
    limit, counts = whole(given.get("limit", PAGE_DEFAULT)), given.get("count", False)
    if type(limit) is not int or not 1 <= limit <= JOBS_PER_PAGE_MAX:
        raise InvalidJobError("limit", f"must be an integer from 1 to {JOBS_PER_PAGE_MAX}")
    if not isinstance(counts, bool):
        raise InvalidJobError("count", "must be true or false")
    lines = given.get("format", "json")
    if lines not in FORMATS:
        raise InvalidJobError("format", f"must be one of {', '.join(FORMATS)}")
    cursor = as_uuid("cursor", given["cursor"]) if "cursor" in given else None
    return Searched(query, limit, cursor, counts, lines == "ndjson")
