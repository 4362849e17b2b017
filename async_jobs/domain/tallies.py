"""Tallies: sums of what happened to jobs, minute by minute, and what they say of attainment.

A tally holds numbers at fixed places: counts first, then the buckets of each histogram. Places
never change their meaning, for rows of former versions hold them too; later ones add at the end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from async_jobs.domain.bounds import check_instant, check_name, check_names
from async_jobs.domain.errors import InvalidJobError

TOLERANCES: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.5, 2.0, 5.0, 10.0, 100.0)
"""The seventh is the promise: what is within it was on time."""
WAITS: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
RUNS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0)

COUNTS: Final = (
    "enqueued",
    "unstarted",
    "succeeded",
    "dead",
    "cancelled",
    "expired",
    "attempts_failed",
    "attempts_rejected",
    "attempts_snoozed",
    "attempts_released",
    "attempts_cancelled",
    "attempts_lease_expired",
)
"""`unstarted` are the jobs that expired and had never started; of `expired`, some were retries."""
HISTOGRAMS: Final[Mapping[str, Sequence[float]]] = {
    "tolerance_used": TOLERANCES,
    "start_latency": WAITS,
    "run_time": RUNS,
}
"""Upper bounds, each within its bucket; what is above the last one has a bucket of its own."""

MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
END: Final = datetime(9000, 1, 1, tzinfo=UTC)
MINUTES_KEPT: Final = timedelta(hours=48)
HOURS_KEPT: Final = timedelta(days=90)
STEPS_MAX: Final = 1_000
ROWS_MAX: Final = 10_000
OTHERS: Final = ""
"""Stands for all tenants that are not told apart, and for all types."""


def _places() -> tuple[dict[str, int], int]:
    places = {name: place for place, name in enumerate(COUNTS)}
    size = len(places)
    for name, bounds in HISTOGRAMS.items():
        places[name] = size
        size += len(bounds) + 1
    return places, size


PLACES, SIZE = _places()
"""Where each count, and the first bucket of each histogram, is; and how many numbers there are."""


def bucket_of(histogram: str, value: float) -> int:
    """Return the place of the bucket that a value belongs in."""
    return PLACES[histogram] + bisect_left(HISTOGRAMS[histogram], value)


class Group(NamedTuple):
    """What is summed together: a minute, a use case, a tenant (or all others), a type."""

    starting: datetime
    use_case: str
    tenant_id: str
    type: str


class Batch(NamedTuple):
    """What one process adds at once.

    Attributes:
        source: the process, by an id that no other one has.
        number: grows with each batch of the source, so that none counts twice.
        sums: what to add, by group; every group's `starting` is a whole minute.
    """

    source: str
    number: int
    sums: Mapping[Group, Sequence[int]]


def added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """Return the sums of two tallies; one of a former version may be shorter."""
    return [a + b for a, b in zip_longest(one, other, fillvalue=0)]


def floor_of(at: datetime, step: timedelta) -> datetime:
    """Return the beginning of the minute, hour or step that an instant is in, in UTC."""
    return at - (at - BEGINNING) % step


# --- attainment ---------------------------------------------------------------------------------


class Dimension(StrEnum):
    """What a report can tell apart."""

    USE_CASE = "use_case"
    TENANT = "tenant_id"
    TYPE = "type"


def check_dimensions(by: Collection[str]) -> frozenset[Dimension]:
    """Return what is to be told apart, or raise `InvalidJobError`."""
    if isinstance(by, str) or not set(by) <= set(Dimension):
        raise InvalidJobError("by", f"must be names of {', '.join(Dimension)}")
    return frozenset(map(Dimension, by))


@dataclass(frozen=True, slots=True, kw_only=True)
class TallyQuery:
    """Which tallies to sum, and what to tell apart. See `Reports.attainment`."""

    since: datetime
    until: datetime
    step: timedelta | None = None
    use_case: str | None = None
    tenants: tuple[str, ...] | None = None
    type: str | None = None
    by: frozenset[Dimension] = frozenset({Dimension.USE_CASE})

    def groups(self, group: Group) -> Group | None:
        """Return the group of the answer that a stored one belongs to; None if to none."""
        if (
            not self.since <= group.starting < self.until
            or self.use_case not in (None, group.use_case)
            or self.type not in (None, group.type)
            or (self.tenants is not None and group.tenant_id not in self.tenants)
        ):
            return None
        return Group(
            self.since if self.step is None else floor_of(group.starting, self.step),
            group.use_case if Dimension.USE_CASE in self.by else OTHERS,
            group.tenant_id if Dimension.TENANT in self.by else OTHERS,
            group.type if Dimension.TYPE in self.by else OTHERS,
        )


def query_of(
    *,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    step: timedelta | None = None,
    use_case: str | None = None,
    tenants: Collection[str] | None = None,
    type: str | None = None,
    by: Collection[str] = (Dimension.USE_CASE,),
) -> TallyQuery:
    """Return what to ask for, checked; by default the last 24 hours, by use case.

    Minutes are told as long as they are kept, and hours before: what begins earlier than that is
    asked for by whole hours.

    Raises:
        InvalidJobError: an argument breaks its bound.
    """
    for name, instant in (("since", since), ("until", until)):
        if instant is not None:
            check_instant(name, instant)
    for name, text in (("use_case", use_case), ("type", type)):
        if text is not None:
            check_name(name, text)
    until = now if until is None else until
    since = max(until, BEGINNING + DAY) - DAY if since is None else since
    if since >= until:
        raise InvalidJobError("since", "must be before until")
    if since < BEGINNING or until > END:
        raise InvalidJobError("since, until", "must be in the years 1970 to 9000")
    kept_by_minute = since >= now - MINUTES_KEPT
    since = floor_of(since.astimezone(UTC), MINUTE if kept_by_minute else HOUR)
    if step is not None and (step < MINUTE or step % MINUTE):
        raise InvalidJobError("step", "must be whole minutes, one at least")
    if step is not None and (until - since) / step > STEPS_MAX:
        raise InvalidJobError("step", f"must make at most {STEPS_MAX} steps")
    return TallyQuery(
        since=since,
        until=until.astimezone(UTC),
        step=step,
        use_case=use_case,
        tenants=None if tenants is None else tuple(check_names("tenants", tenants)),
        type=type,
        by=check_dimensions(by),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attained:
    """What became of some jobs in some time.

    Attributes:
        starting: the beginning of the step, or of the whole time.
        use_case, tenant_id, type: None where they are not told apart; a tenant also where it is
            one of those of whom too little is told.
        attainment: the share of first starts that were on time, of these and of the jobs that
            expired unstarted; None if there was none.
        on_time, late: first starts, by the first deadline.
        unstarted: jobs that expired and had never started.
        enqueued: but for those in transactions of callers.
        succeeded, dead, cancelled, expired: jobs by how they ended.
        attempts: those that ended otherwise than in success, by how.
        tolerance_used_p50, tolerance_used_p95: of first starts, out of buckets; 1 is the deadline.
        start_latency_p50, start_latency_p95, run_time_p50, run_time_p95: in seconds.
    """

    starting: datetime
    use_case: str | None = None
    tenant_id: str | None = None
    type: str | None = None
    attainment: float | None = None
    on_time: int = 0
    late: int = 0
    unstarted: int = 0
    enqueued: int = 0
    succeeded: int = 0
    dead: int = 0
    cancelled: int = 0
    expired: int = 0
    attempts: Mapping[str, int]
    tolerance_used_p50: float | None = None
    tolerance_used_p95: float | None = None
    start_latency_p50: float | None = None
    start_latency_p95: float | None = None
    run_time_p50: float | None = None
    run_time_p95: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attainment:
    """The report: rows in the order of time, use case, tenant and type.

    Attributes:
        at: when it was asked.
        since, until: the time it is about; `since` may be rounded to what is kept.
        step_seconds: None if it is one step.
        by: what is told apart.
        rows: one for each group of which anything is known.
    """

    at: datetime
    since: datetime
    until: datetime
    step_seconds: float | None
    by: tuple[Dimension, ...]
    rows: tuple[Attained, ...]


def report_of(
    query: TallyQuery, sums: Mapping[Group, Sequence[int]], *, at: datetime
) -> Attainment:
    """Return what tallies say."""
    return Attainment(
        at=at,
        since=query.since,
        until=query.until,
        step_seconds=None if query.step is None else query.step.total_seconds(),
        by=tuple(each for each in Dimension if each in query.by),
        rows=tuple(_attained(group, sums[group]) for group in sorted(sums)),
    )


def _attained(group: Group, sums: Sequence[int]) -> Attained:
    sums = added(sums, [0] * SIZE)
    of = dict(zip(COUNTS, sums, strict=False))
    starts = _buckets("tolerance_used", sums)
    on_time = sum(starts[: TOLERANCES.index(1.0) + 1])
    promised = sum(starts) + of["unstarted"]
    numbers: dict[str, Any] = {
        f"{name}_p{part}": quantile(part / 100, _buckets(name, sums), bounds)
        for name, bounds in HISTOGRAMS.items()
        for part in (50, 95)
    }
    numbers |= {name: count for name, count in of.items() if not name.startswith("attempts_")}
    return Attained(
        starting=group.starting,
        use_case=group.use_case or None,
        tenant_id=group.tenant_id or None,
        type=group.type or None,
        attainment=on_time / promised if promised else None,
        on_time=on_time,
        late=sum(starts) - on_time,
        attempts={
            name.removeprefix("attempts_"): count
            for name, count in of.items()
            if name.startswith("attempts_")
        },
        **numbers,
    )


def _buckets(histogram: str, sums: Sequence[int]) -> Sequence[int]:
    first = PLACES[histogram]
    return sums[first : first + len(HISTOGRAMS[histogram]) + 1]


def quantile(part: float, buckets: Sequence[int], bounds: Sequence[float]) -> float | None:
    """Return what a part of the values is within, as Prometheus does; None if there are none.

    Between the bounds of its bucket it is a straight line. What is above the last bound is told as
    that bound.
    """
    rank = part * sum(buckets)
    if not rank:
        return None
    below = 0
    for place, (count, bound) in enumerate(zip(buckets, bounds, strict=False)):
        if count and below + count >= rank:
            lower = bounds[place - 1] if place else 0.0
            return lower + (bound - lower) * (rank - below) / count
        below += count
    return bounds[-1]


def merged(rows: Iterable[tuple[Group, Sequence[int]]]) -> dict[Group, list[int]]:
    """Return the sums of rows by group."""
    found: dict[Group, list[int]] = {}
    for group, sums in rows:
        found[group] = added(found.get(group, ()), sums)
    return found


def asked(
    query: TallyQuery, rows: Mapping[Group, Sequence[int]]
) -> Iterator[tuple[Group, Sequence[int]]]:
    """Yield what a query is about, by the groups of its answer."""
    for group, sums in rows.items():
        wanted = query.groups(group)
        if wanted is not None:
            yield wanted, sums
