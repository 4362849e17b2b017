"""Metrics for Prometheus to scrape. Needs the extra `prometheus`."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from async_jobs.adapters.telemetry.instruments import INSTRUMENTS
from async_jobs.adapters.telemetry.measuring import Instrument, Kind
from async_jobs.adapters.telemetry.metrics import Add, label_names

INFINITY: Final = "+Inf"


class _Counts:
    """One series of a histogram."""

    def __init__(self, buckets: Sequence[float]) -> None:
        self.of_bucket = [0] * (len(buckets) + 1)
        self.sum = 0.0


class PrometheusExporter(Collector):
    """Implements `Exporter`: keeps what has been measured until it is scraped.

    It is a collector: an application that has a registry of its own registers it there.

    Args:
        tenants: whether instruments by tenant have that label.

    Attributes:
        registry: holds this exporter and nothing else.
    """

    def __init__(self, *, tenants: bool = False) -> None:
        self._tenants = tenants
        self._lock = threading.Lock()
        """A scrape comes from another thread."""
        self._values: dict[Instrument, dict[tuple[str, ...], float]] = {}
        self._counts: dict[Instrument, dict[tuple[str, ...], _Counts]] = {}
        for instrument in INSTRUMENTS:
            if instrument.kind is Kind.HISTOGRAM:
                self._counts[instrument] = {}
            else:
                self._values[instrument] = {}
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def adder(self, instrument: Instrument, labels: tuple[str, ...]) -> Add:
        """See `Exporter`."""
        if instrument.kind is Kind.HISTOGRAM:
            return self._counting(instrument, labels)
        lock, values = self._lock, self._values[instrument]

        def increase(value: float) -> None:
            with lock:
                values[labels] = values.get(labels, 0.0) + value

        def put(value: float) -> None:
            with lock:
                values[labels] = float(value)

        return increase if instrument.kind is Kind.COUNTER else put

    def _counting(self, instrument: Instrument, labels: tuple[str, ...]) -> Add:
        lock, bounds, counts = self._lock, instrument.buckets, _Counts(instrument.buckets)
        with lock:
            counts = self._counts[instrument].setdefault(labels, counts)
        of_bucket = counts.of_bucket

        def count(value: float) -> None:
            with lock:
                of_bucket[bisect_left(bounds, value)] += 1
                counts.sum += value

        return count

    def replace(self, instrument: Instrument, values: Mapping[tuple[str, ...], float]) -> None:
        """See `Exporter`."""
        with self._lock:
            self._values[instrument] = dict(values)

    def forget(self, tenant: str) -> bool:
        """See `Exporter`."""
        with self._lock:
            for held in (self._values, self._counts):
                for instrument, series in held.items():
                    if instrument.by_tenant:
                        for labels in [each for each in series if each[-1] == tenant]:
                            del series[labels]
        return True

    def collect(self) -> Iterator[Metric]:
        """Yield what has been measured, as prometheus-client has it."""
        for instrument in INSTRUMENTS:
            name, text, labels = self._described(instrument)
            if instrument.kind is Kind.HISTOGRAM:
                histogram = HistogramMetricFamily(name, text, labels=labels)
                for values, buckets, total in self._histograms(instrument):
                    histogram.add_metric(values, buckets, total)
                yield histogram
                continue
            kind = CounterMetricFamily if instrument.kind is Kind.COUNTER else GaugeMetricFamily
            family = kind(name, text, labels=labels)
            with self._lock:
                told = list(self._values[instrument].items())
            for each, value in told:
                family.add_metric(each, value)
            yield family

    def page(self) -> bytes:
        """Return what a scrape is answered, in Prometheus's text format."""
        return generate_latest(self.registry)

    def _described(self, instrument: Instrument) -> tuple[str, str, tuple[str, ...]]:
        names = label_names(instrument, tenants=self._tenants)
        return instrument.prometheus_name, instrument.help, names

    def _histograms(
        self, instrument: Instrument
    ) -> Iterator[tuple[tuple[str, ...], list[tuple[str, float]], float]]:
        bounds = [*(str(float(bound)) for bound in instrument.buckets), INFINITY]
        with self._lock:
            told = [
                (labels, list(counts.of_bucket), counts.sum)
                for labels, counts in self._counts[instrument].items()
            ]
        for labels, of_bucket, total in told:
            yield labels, list(zip(bounds, accumulate(of_bucket), strict=True)), total
