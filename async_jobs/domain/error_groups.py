"""Error groups: the errors of a time that have one cause, by their fingerprint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from async_jobs.domain.bounds import check_instant, check_name
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.filters import Span
from async_jobs.domain.history import AttemptRecord

GROUPS_MAX: Final = 500
RECORDS_LOOKED_AT_MAX: Final = 50_000
"""So many attempt records are looked at, the latest."""
SINCE_DEFAULT: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorGroup:
    """Errors of one cause among jobs of one use case and type.

    Attributes:
        fingerprint: what they have in common; `JobQuery.error_group` finds the jobs.
        message: the last of them, as its job has it.
        count: how many attempts ended so.
        first_seen, last_seen: within the time that was looked at.
        job_id: of the last one.
    """

    fingerprint: str
    use_case: str
    type: str
    message: str
    count: int
    first_seen: datetime
    last_seen: datetime
    job_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorGroups:
    """What went wrong in a time, what happened most often first.

    Counted are attempts of which there is a record. A dead job may have none: it was
    dropped before the job, or a version before wrote none.

    Attributes:
        looked_back_to: how far, if there are more records than are looked at; None for all.
        more: whether there are more groups than are told.
    """

    since: datetime
    until: datetime
    groups: tuple[ErrorGroup, ...] = ()
    looked_back_to: datetime | None = None
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorQuery:
    """Which errors; None means any. `check_errors` makes one."""

    since: datetime
    until: datetime
    tenant_id: str | None = None
    use_case: str | None = None

    def matches(self, record: AttemptRecord) -> bool:
        """Tell whether a record tells of such an error."""
        return (
            record.fingerprint is not None
            and self.tenant_id in (None, record.tenant_id)
            and self.use_case in (None, record.use_case)
        )


def check_errors(
    *,
    now: datetime,
    since: datetime | None,
    until: datetime | None,
    tenant_id: str | None,
    use_case: str | None,
) -> ErrorQuery:
    """Return the errors that are asked for; by default those of the last day.

    Raises:
        InvalidJobError: with what is out of bounds.
    """
    until = now if until is None else _bounded("until", until)
    # Checked first: nothing is before the first day of the calendar.
    since = until - SINCE_DEFAULT if since is None else _bounded("since", since)
    if until <= since:
        raise InvalidJobError("until", "must be later than since")
    for name, value in (("tenant_id", tenant_id), ("use_case", use_case)):
        if value is not None:
            check_name(name, value)
    return ErrorQuery(since=since, until=until, tenant_id=tenant_id, use_case=use_case)


def _bounded(name: str, at: datetime) -> datetime:
    if not 1000 <= check_instant(name, at).year < 9000:
        raise InvalidJobError(name, "must be within the years 1000 to 8999")
    return at


def groups_of(
    query: ErrorQuery, records: Iterable[AttemptRecord], *, look_at: int, limit: int
) -> ErrorGroups:
    """Return the groups that records make, whatever their order."""
    span = Span(since=query.since, until=query.until)
    told = [each for each in records if span.holds(each.ended_at)]
    told.sort(key=lambda each: each.ended_at, reverse=True)
    found: dict[tuple[str, str, str], ErrorGroup] = {}
    for each in told[:look_at]:
        if not query.matches(each):
            continue
        key = each.fingerprint or "", each.use_case, each.type
        group = found.get(key) or ErrorGroup(
            fingerprint=key[0],
            use_case=each.use_case,
            type=each.type,
            message=each.error or "",
            count=0,
            first_seen=each.ended_at,
            last_seen=each.ended_at,
            job_id=each.job_id,
        )
        found[key] = replace(group, count=group.count + 1, first_seen=each.ended_at)
    groups = sorted(found.values(), key=lambda each: (-each.count, each.fingerprint))
    return ErrorGroups(
        since=query.since,
        until=query.until,
        groups=tuple(groups[:limit]),
        looked_back_to=told[look_at - 1].ended_at if len(told) > look_at else None,
        more=len(groups) > limit,
    )
