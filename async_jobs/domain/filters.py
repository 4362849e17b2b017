"""Which jobs are meant: the one filter of searches, counts, exports and actions over many jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from async_jobs.domain.bounds import (
    JOBS_PER_CALL_MAX,
    check_instant,
    check_labels,
    check_name,
    check_status,
    check_uuid,
)
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.job import Job, JobStatus, UnreadableJob

NAMES_MAX: Final = 50
"""So many names a filter may list of a kind."""
TEXT_CHARACTERS: Final = (2, 200)
LOOKED_AT_MAX: Final = 50_000
"""So many jobs are looked at for one page of a search, or for one count, at most."""
READ_THROUGH_MAX: Final = 5_000
"""So many of them if their payloads, headers or errors are read through."""
CLOCKS_DIFFER: Final = timedelta(days=1)
"""How far the time in a job's id may be from its creation."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime(1000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A range of instants: from `since` on, and before `until`; None leaves a side open."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, at: datetime | None) -> bool:
        """Tell whether an instant is in it; what has none is in no range."""
        if at is None:
            return False
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)


SPANS: Final = ("created", "run_at", "deadline", "finished")
"""The conditions that are spans."""
_INSTANTS: Final[Mapping[str, str]] = {
    "created": "created_at",
    "run_at": "run_at",
    "deadline": "deadline_at",
    "finished": "finished_at",
}
SEVERAL: Final[Mapping[str, str]] = {
    "use_cases": "use_case",
    "types": "type",
    "queues": "queue",
    "statuses": "status",
}
"""The conditions that list names, and the field of a job that has to be one of them."""
READ_THROUGH: Final = ("trace_id", "payload_text", "error_text")
"""The conditions for which each job looked at is read through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Jobs that meet all of these conditions; None, and no label, means any.

    Attributes:
        ids: at most 1,000.
        tenant_id: whose; hides all others.
        use_cases, types, queues: one of these, each at most 50.
        statuses: one of these.
        dedupe_key: exactly this.
        labels: all of these, each with just this value.
        trace_id: of the W3C trace that the job's `traceparent` header tells: 32 hex digits.
        created, run_at, deadline, finished: within this span. What has not ended has not finished.
        attempts_min, attempts_max: how many attempts were charged.
        error_group: the fingerprint of an error that an attempt record tells of: 16 hex digits.
        payload_text: a key or a value of the payload holds this text, upper and lower case told
            apart; a number is what it looks like in JSON.
        error_text: the last error holds this text.
    """

    ids: frozenset[UUID] | None = None
    tenant_id: str | None = None
    use_cases: frozenset[str] | None = None
    types: frozenset[str] | None = None
    queues: frozenset[str] | None = None
    statuses: frozenset[JobStatus] | None = None
    dedupe_key: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    trace_id: str | None = None
    created: Span = field(default_factory=Span)
    run_at: Span = field(default_factory=Span)
    deadline: Span = field(default_factory=Span)
    finished: Span = field(default_factory=Span)
    attempts_min: int | None = None
    attempts_max: int | None = None
    error_group: str | None = None
    payload_text: str | None = None
    error_text: str | None = None

    @property
    def looked_at_max(self) -> int:
        """How many jobs are looked at for one page."""
        return READ_THROUGH_MAX if self.reads_through else LOOKED_AT_MAX

    @property
    def reads_through(self) -> tuple[str, ...]:
        """The conditions that no index knows, and for which each job looked at is read through."""
        return tuple(name for name in READ_THROUGH if getattr(self, name) is not None)

    def within(self, tenant_id: str) -> JobQuery:
        """Return the same within one tenant."""
        return replace(self, tenant_id=tenant_id)

    def matches(self, job: Job, errors: Collection[str] = ()) -> bool:
        """Tell whether a job meets all conditions.

        Args:
            job: which.
            errors: the fingerprints that its attempt records tell of.
        """
        return (
            (self.ids is None or job.id in self.ids)
            and self.tenant_id in (None, job.tenant_id)
            and all(
                wanted is None or getattr(job, name) in wanted
                for several, name in SEVERAL.items()
                for wanted in (getattr(self, several),)
            )
            and self.dedupe_key in (None, job.dedupe_key)
            and self.labels.items() <= job.labels.items()
            and all(
                span == Span() or span.holds(getattr(job, name))
                for condition, name in _INSTANTS.items()
                for span in (cast("Span", getattr(self, condition)),)
            )
            and (self.attempts_min is None or self.attempts_min <= job.attempts)
            and (self.attempts_max is None or job.attempts <= self.attempts_max)
            and (self.error_group is None or self.error_group in errors)
            and self._matches_texts(job)
        )

    def _matches_texts(self, job: Job) -> bool:
        return (
            self.trace_id in (None, trace_id_of(job.headers))
            and (
                self.payload_text is None
                or as_in_json(self.payload_text) in _ENCODER.encode(job.payload)
            )
            and (self.error_text is None or self.error_text in (job.last_error or ""))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPage:
    """One page of a search, newest first.

    Attributes:
        jobs: those that match.
        next_cursor: where to go on; None if everything was looked at.
        looked_back_to: when the last job was created that was looked at; None if everything was,
            or if that one is gone.
        unreadable: rows that match and are no jobs any more.
    """

    jobs: tuple[Job, ...] = ()
    next_cursor: UUID | None = None
    looked_back_to: datetime | None = None
    unreadable: tuple[UnreadableJob, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether there are no further matches."""
        return self.next_cursor is None


def trace_id_of(headers: Mapping[str, str]) -> str | None:
    """Return the id of the trace that a job belongs to, by its `traceparent`; None for none."""
    found = _TRACEPARENT.match(headers.get("traceparent", ""))
    return found[1] if found else None


def as_in_json(text: str, *, ascii_only: bool = False) -> str:
    """Return a text as it stands within a string of JSON."""
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


def id_bounds(query: JobQuery, *, before: UUID | None = None) -> tuple[UUID, UUID] | None:
    """Return the first and the last id that jobs of a query have; None if there can be none.

    A UUIDv7 tells when it was made. Jobs whose id is another one, or was made more than a day from
    their creation, are beyond these bounds if the query says when they were created.
    """
    first, last = 0, 2**128 - 1
    if query.created.since is not None:
        first = _milliseconds(query.created.since, -CLOCKS_DIFFER) << 80
    if query.created.until is not None:
        last = ((_milliseconds(query.created.until, CLOCKS_DIFFER) + 1) << 80) - 1
    if before is not None:
        last = min(last, before.int - 1)
    return None if last < first else (UUID(int=first), UUID(int=last))


def _milliseconds(at: datetime, more: timedelta) -> int:
    return min(max((at - _EPOCH + more) // _MILLISECOND, 0), 2**48 - 1)


# --- from outside -------------------------------------------------------------------------------


def check_query(query: object) -> JobQuery:
    """Return a query all of whose conditions are within their bounds.

    Raises:
        InvalidJobError: with the condition that is not, or that is missing.
    """
    if not isinstance(query, JobQuery):
        raise InvalidJobError("filter", f"must be a JobQuery, not {type(query).__name__}")
    for each in fields(JobQuery):
        value = getattr(query, each.name)
        if value is not None:
            _CHECKS[each.name](each.name, value)
    low, high = query.attempts_min, query.attempts_max
    if low is not None and high is not None and high < low:
        raise InvalidJobError("attempts_max", "must not be less than attempts_min")
    return query


def check_window(query: JobQuery) -> JobQuery:
    """Return a query that may be searched for: what reads jobs through says which of them.

    Raises:
        InvalidJobError: with what is missing.
    """
    through = query.reads_through
    if not through or query.ids is not None or query.error_group is not None:
        return query
    if query.tenant_id is None and query.use_cases is None:
        raise InvalidJobError(through[0], "needs tenant_id or use_cases beside it")
    if query.created.since is None:
        raise InvalidJobError(through[0], "needs created.since beside it")
    return query


def _check_name(name: str, value: object) -> None:
    check_name(name, value)


def _check_names(name: str, value: object) -> None:
    for each in _several(name, value, NAMES_MAX):
        check_name(name, each)


def _check_statuses(name: str, value: object) -> None:
    for each in _several(name, value, len(JobStatus)):
        check_status(name, each)


def _check_ids(name: str, value: object) -> None:
    for each in _several(name, value, JOBS_PER_CALL_MAX):
        check_uuid(name, each)


def _several(name: str, value: object, most: int) -> Collection[object]:
    if isinstance(value, str) or not isinstance(value, Collection) or not 1 <= len(value) <= most:
        raise InvalidJobError(name, f"must be a list of 1 to {most}")
    return value


def _check_span(name: str, value: object) -> None:
    if not isinstance(value, Span):
        raise InvalidJobError(name, f"must be a Span, not {type(value).__name__}")
    for side in ("since", "until"):
        at = getattr(value, side)
        if at is not None and not _FIRST <= check_instant(f"{name}.{side}", at) < _LAST:
            raise InvalidJobError(f"{name}.{side}", "must be within the years 1000 to 8999")
    if value.since is not None and value.until is not None and value.until <= value.since:
        raise InvalidJobError(f"{name}.until", "must be later than since")


def _check_attempts(name: str, value: object) -> None:
    if type(value) is not int or not 0 <= value <= 1_000:
        raise InvalidJobError(name, "must be an integer from 0 to 1000")


def _check_trace_id(name: str, value: object) -> None:
    if not isinstance(value, str) or not _TRACE_ID.fullmatch(value):
        raise InvalidJobError(name, "must be 32 hex digits in lower case")


def _check_fingerprint(name: str, value: object) -> None:
    if not isinstance(value, str) or not _FINGERPRINT.fullmatch(value):
        raise InvalidJobError(name, "must be 16 hex digits in lower case")


def _check_text(name: str, value: object) -> None:
    low, high = TEXT_CHARACTERS
    if not isinstance(value, str) or not low <= len(value) <= high:
        raise InvalidJobError(name, f"must be a text of {low} to {high} characters")
    if "\0" in value or any("\ud800" <= each <= "\udfff" for each in value):
        raise InvalidJobError(name, "must hold neither NUL nor lone surrogates")


_CHECKS: Final = {
    "ids": _check_ids,
    "tenant_id": _check_name,
    "use_cases": _check_names,
    "types": _check_names,
    "queues": _check_names,
    "statuses": _check_statuses,
    "dedupe_key": _check_name,
    "labels": lambda _, value: check_labels(value),
    "trace_id": _check_trace_id,
    **dict.fromkeys(SPANS, _check_span),
    "attempts_min": _check_attempts,
    "attempts_max": _check_attempts,
    "error_group": _check_fingerprint,
    "payload_text": _check_text,
    "error_text": _check_text,
}


def query_record_of(query: JobQuery) -> dict[str, Any]:
    """Return a query as JSON values, with what it says and nothing else; always in one order."""
    record: dict[str, Any] = {}
    for each in fields(JobQuery):
        value = getattr(query, each.name)
        if isinstance(value, Span):
            sides = {"since": value.since, "until": value.until}
            value = {name: at.isoformat() for name, at in sides.items() if at is not None} or None
        elif isinstance(value, Mapping):
            value = dict(sorted(value.items())) or None
        elif isinstance(value, frozenset):
            value = sorted(str(item) for item in value)
        if value is not None:
            record[each.name] = value
    return record


def query_of(record: object, field: str = "filter") -> JobQuery:
    """Return the query that JSON values stand for.

    Raises:
        InvalidJobError: with the condition that is unknown, or no condition.
    """
    if not isinstance(record, Mapping):
        raise InvalidJobError(field, "must be an object")
    known = {each.name for each in fields(JobQuery)}
    for name in record:
        if name not in known:
            raise InvalidJobError(
                _shown(field, name), f"is unknown; known: {', '.join(sorted(known))}"
            )
    given = {name: _read(name, value) for name, value in record.items() if value is not None}
    return check_query(JobQuery(**given))


def _shown(field: str, name: object) -> str:
    text = str(name)
    return f"{field}.{text if text.isascii() and text.isprintable() and len(text) < 50 else '…'}"


def _read(name: str, value: object) -> Any:
    if name == "ids":
        return frozenset(_uuid(each) for each in _listed(name, value, JOBS_PER_CALL_MAX))
    if name == "statuses":
        listed = _listed(name, value, len(JobStatus))
        return frozenset(check_status(name, each) for each in listed)
    if name in SEVERAL:
        return frozenset(check_name(name, each) for each in _listed(name, value, NAMES_MAX))
    if name in SPANS:
        if not isinstance(value, Mapping) or not value.keys() <= {"since", "until"}:
            raise InvalidJobError(name, "must be an object of since and until")
        sides = {
            side: _instant(f"{name}.{side}", at) for side, at in value.items() if at is not None
        }
        return Span(**sides)
    return whole(value)


def whole(value: object) -> object:
    """Return a number of JSON as an integer if it is one, however it is written."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _listed(name: str, value: object, most: int) -> Iterable[object]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise InvalidJobError(name, f"must be a list of 1 to {most}")
    return value


def _uuid(value: object) -> UUID:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise InvalidJobError("ids", "must be a list of UUIDs")
    return UUID(value)


def _instant(field: str, value: object) -> datetime:
    with suppress(ValueError):  # the thirtieth of February
        if isinstance(value, str) and _INSTANT.fullmatch(value):
            return datetime.fromisoformat(value.upper())
    raise InvalidJobError(field, "must be an instant like 2030-01-31T18:00:00Z")
