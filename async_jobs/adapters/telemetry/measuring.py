"""What an instrument is, and how facts feed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias, TypeVar

from async_jobs.domain.facts import Fact


class Kind(StrEnum):
    """What an instrument does with its values."""

    COUNTER = "counter"
    """Adds them up."""
    GAUGE = "gauge"
    """Keeps the last one."""
    HISTOGRAM = "histogram"
    """Counts them by size."""


class Measurement(NamedTuple):
    """A value, with the label values of its instrument, in their order.

    `tenant` is for surveys, which tell of many; of other facts it is their own.
    """

    value: float
    labels: tuple[str, ...] = ()
    tenant: str = ""


Read: TypeAlias = Callable[[Any], Measurement | None]
"""Reads a measurement off a fact; None where there is nothing to measure."""


class Feed(NamedTuple):
    """How an instrument is fed by facts of a kind."""

    kind: type[Fact]
    read: Read


class Survey(NamedTuple):
    """How an instrument is fed by facts that tell all there is; what one leaves out is gone."""

    kind: type[Fact]
    read: Callable[[Any], Iterable[Measurement]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instrument:
    """One row of the table.

    Attributes:
        name: as OpenTelemetry has it, with dots.
        kind: what it does with its values.
        unit: as UCUM has it: `s`, `1`, or what is counted in braces.
        help: one sentence without a full stop.
        labels: the names of its labels; all values come from small sets, or are bounded.
        buckets: upper bounds of a histogram, each within its bucket.
        by_tenant: whether it is told apart by tenant where that is asked for.
        feeds: which facts it is fed by, one measurement each.
        survey: the facts that tell all its series at once; then nothing else feeds it.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    by_tenant: bool = False
    feeds: tuple[Feed, ...] = ()
    survey: Survey | None = None

    @property
    def prometheus_name(self) -> str:
        """Its name as Prometheus has it: underscores, the unit of what is measured, `_total`."""
        name = self.name.replace(".", "_")
        seconds = "_seconds" if self.unit == "s" else ""
        return name + seconds + ("_total" if self.kind is Kind.COUNTER else "")


F = TypeVar("F", bound=Fact)


def fed_by(kind: type[F], read: Callable[[F], Measurement | None]) -> Feed:
    """Return a feed that reads something off facts."""
    return Feed(kind, read)


def one(kind: type[F], labels: Callable[[F], tuple[str, ...]] = lambda fact: ()) -> Feed:
    """Return a feed that counts facts."""
    return Feed(kind, lambda fact: Measurement(1, labels(fact)))


def counter(
    name: str, unit: str, text: str, labels: tuple[str, ...], *feeds: Feed, by_tenant: bool = False
) -> Instrument:
    """Return a row for what adds up."""
    return Instrument(
        name=f"async_jobs.{name}",
        kind=Kind.COUNTER,
        unit=unit,
        help=text,
        labels=labels,
        by_tenant=by_tenant,
        feeds=feeds,
    )


def gauge(
    name: str, unit: str, text: str, labels: tuple[str, ...], feeds: tuple[Feed, ...]
) -> Instrument:
    """Return a row for what has a last value."""
    return Instrument(
        name=f"async_jobs.{name}", kind=Kind.GAUGE, unit=unit, help=text, labels=labels, feeds=feeds
    )


def surveyed(
    name: str,
    unit: str,
    text: str,
    labels: tuple[str, ...],
    kind: type[F],
    read: Callable[[F], Iterable[Measurement]],
    *,
    by_tenant: bool = False,
) -> Instrument:
    """Return a row for a gauge of which a fact tells all series at once."""
    return Instrument(
        name=f"async_jobs.{name}",
        kind=Kind.GAUGE,
        unit=unit,
        help=text,
        labels=labels,
        by_tenant=by_tenant,
        survey=Survey(kind, read),
    )


def histogram(
    name: str,
    unit: str,
    text: str,
    labels: tuple[str, ...],
    buckets: tuple[float, ...],
    *feeds: Feed,
    by_tenant: bool = False,
) -> Instrument:
    """Return a row for what is counted by size."""
    return Instrument(
        name=f"async_jobs.{name}",
        kind=Kind.HISTOGRAM,
        unit=unit,
        help=text,
        labels=labels,
        buckets=buckets,
        by_tenant=by_tenant,
        feeds=feeds,
    )
