"""Which telemetry a process has: logs always, metrics where they are set."""

from __future__ import annotations

from typing import NamedTuple

from async_jobs.adapters.telemetry.labels import NamedTenants, TopTenants
from async_jobs.adapters.telemetry.metrics import Exporter, MetricsTelemetry
from async_jobs.adapters.telemetry.scraping import ScrapePage
from async_jobs.adapters.telemetry.several import SeveralTelemetries
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.settings.measured import MetricsTenants
from async_jobs.extras import require
from async_jobs.ports.telemetry import Telemetry

_PACKAGES = {"otel": "opentelemetry", "prometheus": "prometheus_client"}


class Metrics(NamedTuple):
    """What measures, and what a scrape is answered; each None where there is none."""

    telemetry: Telemetry | None = None
    scrapes: ScrapePage | None = None


def check_metrics(config: AsyncJobsConfig) -> None:
    """Look at once whether what metrics need is there.

    Raises:
        MissingExtra: it is not installed.
    """
    if config.metrics != "none":
        require(f"ASYNC_JOBS_METRICS={config.metrics}", _PACKAGES[config.metrics])


def metrics_of(config: AsyncJobsConfig) -> Metrics:
    """Return the metrics of a process. Where they are not set, nothing of them is imported.

    Raises:
        MissingExtra: what they need is not installed.
    """
    check_metrics(config)
    if config.metrics == "none":
        return Metrics()
    tenants = config.metrics_tenants
    if config.metrics == "otel":
        from async_jobs.adapters.telemetry.otel import OpenTelemetryExporter

        return Metrics(_measuring(OpenTelemetryExporter(tenants=tenants is not None), tenants))
    from async_jobs.adapters.telemetry.prometheus import PrometheusExporter

    exporter = PrometheusExporter(tenants=tenants is not None)
    scrapes = ScrapePage(exporter.page, config.metrics_token)
    return Metrics(_measuring(exporter, tenants), scrapes)


def telemetry_of(logs: Telemetry, metrics: Metrics) -> Telemetry:
    """Return what is told of facts."""
    if metrics.telemetry is None:
        return logs
    return SeveralTelemetries([logs, metrics.telemetry])


def _measuring(exporter: Exporter, tenants: MetricsTenants) -> Telemetry:
    match tenants:
        case None:
            return MetricsTelemetry(exporter)
        case int():
            return MetricsTelemetry(exporter, lambda forget: TopTenants(tenants, forget))
        case _:
            return MetricsTelemetry(exporter, lambda forget: NamedTenants(tenants))
