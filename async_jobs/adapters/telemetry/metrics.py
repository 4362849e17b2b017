"""Facts as metrics: read off by the table of instruments, their labels bounded, then exported."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final, Protocol, TypeAlias

from async_jobs.adapters.telemetry.instruments import BY_FACT, BY_SURVEY, INSTRUMENTS
from async_jobs.adapters.telemetry.labels import OTHER, Names, Tenants
from async_jobs.adapters.telemetry.measuring import Instrument, Kind, Measurement
from async_jobs.domain.facts import Fact

TENANT: Final = "tenant"
SERIES_MAX: Final = 1_000
"""Series of one instrument; what comes beyond them is summed under `other`."""
CLOSED: Final = frozenset({"claimed", "first", "notice", "outcome", "started", "state"})
"""Labels whose values are all ours; they are kept where others become `other`."""


Add: TypeAlias = Callable[[float], None]
"""Takes a measurement: finite, and for counters and histograms not negative."""


class Exporter(Protocol):
    """Takes measurements to where they are read. It is called by one thread at a time."""

    def adder(self, instrument: Instrument, labels: tuple[str, ...]) -> Add:
        """Return what takes the measurements of one series, until that is forgotten.

        The series is there from its first measurement on.

        Args:
            instrument: a row of the table; none of a survey.
            labels: values for `label_names(instrument)`.
        """
        ...

    def replace(self, instrument: Instrument, values: Mapping[tuple[str, ...], float]) -> None:
        """Take all series of a gauge at once; those it had besides are gone."""
        ...

    def forget(self, tenant: str) -> bool:
        """Drop the series of a tenant; returns whether that can be done."""
        ...


MakeTenants: TypeAlias = Callable[[Callable[[str], bool]], Tenants]
"""Makes what names tenants, given what forgets the series of one."""


def label_names(instrument: Instrument, *, tenants: bool) -> tuple[str, ...]:
    """Return the names of an instrument's labels, where tenants are told apart or are not."""
    return (*instrument.labels, TENANT) if tenants and instrument.by_tenant else instrument.labels


class MetricsTelemetry:
    """Implements `Telemetry`: measures what facts tell.

    Args:
        exporter: where measurements go.
        make_tenants: makes what names tenants; None tells no tenants apart. The exporter has to
            be made for the same.
    """

    def __init__(self, exporter: Exporter, make_tenants: MakeTenants | None = None) -> None:
        self._exporter = exporter
        self._lock = threading.Lock()
        """What blocks the event loop is told of by another thread."""
        self._names: dict[str, Names] = {}
        self._series: dict[Instrument, dict[tuple[str, ...], Add | None]] = {
            each: {} for each in INSTRUMENTS
        }
        """What takes the measurements of each series, which is the same for all of them."""
        self._tenants = None if make_tenants is None else make_tenants(self._forget)
        self._feeds = {
            kind: tuple(
                (each, read, self._series[each], self._tenants if each.by_tenant else None)
                for each, read in feeds
            )
            for kind, feeds in BY_FACT.items()
        }
        for instrument in INSTRUMENTS:
            # So that the first one of them is seen as an increase.
            if instrument.kind is Kind.COUNTER and not label_names(instrument, tenants=True):
                exporter.adder(instrument, ())(0)

    def wants(self, kind: type[Fact]) -> bool:
        """See `Telemetry`. What is told of tenants alone is for nobody where none is named."""
        if kind in BY_FACT:
            return True
        surveys = BY_SURVEY.get(kind, ())
        return any(
            self._tenants is not None or not instrument.by_tenant for instrument, _ in surveys
        )

    def record(self, fact: Fact) -> None:
        """See `Telemetry`."""
        try:
            with self._lock:
                self._measure(fact)
        except Exception:
            # Telling must never break what is told about, whatever an exporter does.
            return

    def _measure(self, fact: Fact) -> None:
        tenant: str | None = None
        for instrument, read, series, tenants in self._feeds.get(type(fact), ()):
            measured = read(fact)
            if measured is None:
                continue
            value, labels, _ = measured
            if not math.isfinite(value):
                continue
            if tenants is not None:
                if tenant is None:
                    # Whatever feeds an instrument by tenant is told of one; a test feeds each.
                    told_of: str = fact.tenant_id  # type: ignore[attr-defined]
                    tenant = tenants.of(told_of, fact.at)
                labels = (*labels, tenant)
            add = series.get(labels)
            if add is None:
                add = self._adder(instrument, labels)
            add(value)
        for instrument, survey in BY_SURVEY.get(type(fact), ()):
            if self._tenants is not None or not instrument.by_tenant:
                self._survey(instrument, survey.read(fact), fact.at)

    def _adder(self, instrument: Instrument, labels: tuple[str, ...]) -> Add:
        bounded = self._bounded(instrument, labels)
        series = self._series[instrument]
        add = series.get(bounded) or self._exporter.adder(instrument, bounded)
        if bounded in series:  # what is summed under `other` beyond them is not one of them
            series[bounded] = add
        return add

    def _survey(
        self, instrument: Instrument, measured: Iterable[Measurement], at: datetime
    ) -> None:
        self._series[instrument].clear()
        values: dict[tuple[str, ...], float] = {}
        for value, named, tenant in measured:
            told_apart = self._tenants if instrument.by_tenant else None
            who = () if told_apart is None else (told_apart.of(tenant, at),)
            labels = self._bounded(instrument, (*named, *who))
            known = values.get(labels, 0.0)
            # Of several that have no name of their own, the longest time says most.
            values[labels] = max(known, value) if instrument.unit == "s" else known + value
        self._exporter.replace(instrument, values)

    def _bounded(self, instrument: Instrument, labels: tuple[str, ...]) -> tuple[str, ...]:
        series = self._series[instrument]
        names = instrument.labels
        named = [self._name(name, value) for name, value in zip(names, labels, strict=False)]
        bounded = (*named, *labels[len(names) :])
        if bounded in series:
            return bounded
        if len(series) < SERIES_MAX:
            series[bounded] = None
            return bounded
        ours = (v if n in CLOSED else OTHER for n, v in zip(names, bounded, strict=False))
        return (*ours, *(OTHER for _ in labels[len(names) :]))

    def _name(self, label: str, value: str) -> str:
        names = self._names.get(label)
        if names is None:
            names = self._names[label] = Names()
        return names.of(value)

    def _forget(self, tenant: str) -> bool:
        if not self._exporter.forget(tenant):
            return False
        for instrument, series in self._series.items():
            if instrument.by_tenant:
                for labels in [each for each in series if each[-1] == tenant]:
                    del series[labels]
        return True
