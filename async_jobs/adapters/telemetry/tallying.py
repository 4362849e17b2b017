"""Statistics: sums of what facts tell, by the table of instruments, for the database."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

from async_jobs.adapters.telemetry.instruments import BY_FACT
from async_jobs.adapters.telemetry.labels import Tenants
from async_jobs.adapters.telemetry.measuring import Measurement, Read
from async_jobs.domain.facts import Fact, JobFact
from async_jobs.domain.tallies import (
    BEGINNING,
    HISTOGRAMS,
    MINUTE,
    OTHERS,
    PLACES,
    SIZE,
    Batch,
    Group,
    floor_of,
)

GROUPS_MAX: Final = 1_000
"""So many groups are told apart in one batch; the tenants and types of others are not."""
UNTAKEN_MAX: Final = 10 * GROUPS_MAX
"""While nobody takes them, each minute begins groups of its own: no more than so many."""

Place: TypeAlias = Callable[[Measurement], int | None]
"""Returns at which place of a tally a measurement counts; None where at none."""


def _is(labels: Mapping[tuple[str, ...], str]) -> Place:
    """Return what counts measurements by their labels behind the use case."""
    places = {key: PLACES[name] for key, name in labels.items()}
    return lambda measured: places.get(measured.labels[1:])


def _bucket(histogram: str) -> Place:
    first, bounds = PLACES[histogram], HISTOGRAMS[histogram]
    return lambda measured: first + bisect_left(bounds, measured.value)


def _first(histogram: str) -> Place:
    bucket = _bucket(histogram)
    return lambda measured: bucket(measured) if measured.labels[1] == "true" else None


def _counted(name: str) -> Place:
    place = PLACES[name]
    return lambda measured: place


def _ended(places: Mapping[str, int]) -> Place:
    return lambda measured: places.get(measured.labels[2])


KEPT: Final[Mapping[str, Place]] = {
    "async_jobs.jobs.enqueued": _counted("enqueued"),
    "async_jobs.start.tolerance_used": _first("tolerance_used"),
    "async_jobs.start.latency": _first("start_latency"),
    "async_jobs.deadline.missed": _is({("false", "true"): "unstarted"}),
    "async_jobs.jobs.finished": _ended(PLACES),
    "async_jobs.attempts.ended": _ended(
        {
            name.removeprefix("attempts_"): place
            for name, place in PLACES.items()
            if name.startswith("attempts_")
        }
    ),
    "async_jobs.attempt.duration": _bucket("run_time"),
}
"""Which instruments are kept, and where."""


def _by_fact() -> Mapping[type[Fact], tuple[tuple[Read, Place], ...]]:
    found = {}
    for kind, rows in BY_FACT.items():
        kept = [(read, KEPT[each.name]) for each, read in rows if each.name in KEPT]
        if kept:
            found[kind] = tuple(kept)
    return found


_READ: Final = _by_fact()


class TallyTelemetry:
    """Implements `Telemetry`: sums what facts tell, until somebody takes the sums.

    Args:
        source: this process, by an id that no other one has.
        tenants: names those that are told apart; None for none.
    """

    def __init__(self, source: str, tenants: Tenants | None = None) -> None:
        self._source = source
        self._tenants = tenants
        self._number = 0
        self._sums: dict[Group, list[int]] = {}
        self._lock = threading.Lock()
        """What blocks the event loop is told of by another thread."""
        self._minute: tuple[datetime, datetime] = (BEGINNING, BEGINNING)
        self._known: dict[tuple[str, str, str], list[int]] = {}
        """The sums of that minute that have a group of their own."""

    def wants(self, kind: type[Fact]) -> bool:
        """See `Telemetry`."""
        return kind in _READ

    def record(self, fact: Fact) -> None:
        """See `Telemetry`."""
        reads = _READ.get(type(fact))
        if reads is None:
            return
        try:
            with self._lock:
                self._add(fact, reads)
        except Exception:
            # Telling must never break what is told about.
            return

    def take(self) -> Batch | None:
        """Return what was summed since the last call, as a batch of its own; None if nothing."""
        with self._lock:
            if not self._sums:
                return None
            self._number += 1
            batch = Batch(self._source, self._number, self._sums)
            self._sums, self._known = {}, {}
            return batch

    def _add(self, fact: Any, reads: tuple[tuple[Read, Place], ...]) -> None:
        sums: list[int] | None = None
        for read, place_of in reads:
            measured = read(fact)
            place = None if measured is None else place_of(measured)
            if place is not None:
                if sums is None:
                    sums = self._sums_of(fact)
                sums[place] += 1

    def _sums_of(self, fact: JobFact) -> list[int]:
        starting, ending = self._minute
        if not starting <= fact.at < ending:
            starting = floor_of(fact.at, MINUTE)
            self._minute, self._known = (starting, starting + MINUTE), {}
        key = fact.use_case, self._tenant(fact.tenant_id, fact.at), fact.type
        sums = self._known.get(key)
        return self._sums_in(Group(starting, *key)) if sums is None else sums

    def _sums_in(self, group: Group) -> list[int]:
        sums = self._sums.get(group)
        if sums is None and len(self._sums) >= GROUPS_MAX:
            group = group._replace(tenant_id=OTHERS, type=OTHERS)
            sums = self._sums.get(group)
        if sums is None and len(self._sums) >= UNTAKEN_MAX:
            return [0] * SIZE
        if sums is None:
            sums = self._sums[group] = [0] * SIZE
        self._known[group[1:]] = sums
        return sums

    def _tenant(self, tenant_id: str, at: datetime) -> str:
        # What stands for the others may be the name of a tenant, and then stands for itself.
        told_apart = self._tenants is not None and self._tenants.of(tenant_id, at) == tenant_id
        return tenant_id if told_apart else OTHERS
