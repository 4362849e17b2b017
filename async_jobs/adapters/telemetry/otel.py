"""Metrics by the API of OpenTelemetry. Needs the extra `otel`.

What becomes of them is the application's: its SDK decides where they go and how often. Without
one they go nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter

from async_jobs.adapters.telemetry.instruments import INSTRUMENTS
from async_jobs.adapters.telemetry.measuring import Instrument, Kind
from async_jobs.adapters.telemetry.metrics import Add, label_names
from async_jobs.version import __version__


class OpenTelemetryExporter:
    """Implements `Exporter`: measures by a meter of the name `async_jobs`.

    Args:
        tenants: whether instruments by tenant have that label.
        provider: makes the meter; the application's own by default, also if it is set later.
    """

    def __init__(self, *, tenants: bool = False, provider: MeterProvider | None = None) -> None:
        meter = get_meter("async_jobs", __version__, provider)
        self._names = {each: label_names(each, tenants=tenants) for each in INSTRUMENTS}
        self._counters = {
            each: meter.create_counter(each.name, each.unit, each.help)
            for each in INSTRUMENTS
            if each.kind is Kind.COUNTER
        }
        self._gauges = {
            each: meter.create_gauge(each.name, each.unit, each.help)
            for each in INSTRUMENTS
            if each.kind is Kind.GAUGE and each.survey is None
        }
        self._surveyed: dict[Instrument, list[Observation]] = {}
        for each in INSTRUMENTS:
            if each.survey is not None:
                meter.create_observable_gauge(
                    each.name, [self._observer(each)], each.unit, each.help
                )
        self._histograms = {
            each: meter.create_histogram(
                each.name,
                each.unit,
                each.help,
                explicit_bucket_boundaries_advisory=each.buckets,
            )
            for each in INSTRUMENTS
            if each.kind is Kind.HISTOGRAM
        }

    def adder(self, instrument: Instrument, labels: tuple[str, ...]) -> Add:
        """See `Exporter`."""
        attributes = dict(zip(self._names[instrument], labels, strict=True))
        match instrument.kind:
            case Kind.COUNTER:
                take = self._counters[instrument].add
            case Kind.GAUGE:
                take = self._gauges[instrument].set
            case Kind.HISTOGRAM:
                take = self._histograms[instrument].record
        return lambda value: take(value, attributes)

    def replace(self, instrument: Instrument, values: Mapping[tuple[str, ...], float]) -> None:
        """See `Exporter`. An SDK asks for them whenever it looks."""
        names = self._names[instrument]
        self._surveyed[instrument] = [
            Observation(value, dict(zip(names, labels, strict=True)))
            for labels, value in values.items()
        ]

    def _observer(
        self, instrument: Instrument
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda options: self._surveyed.get(instrument, [])

    def forget(self, tenant: str) -> bool:
        """See `Exporter`; an SDK keeps every series that it has seen."""
        return False
