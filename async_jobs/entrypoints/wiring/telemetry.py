"""Which telemetry a process has: logs always, metrics and traces where they are set."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import NamedTuple, cast

from async_jobs.adapters.telemetry.labels import NamedTenants, TopTenants
from async_jobs.adapters.telemetry.metrics import Exporter, MetricsTelemetry
from async_jobs.adapters.telemetry.scraping import ScrapePage
from async_jobs.adapters.telemetry.several import SeveralTelemetries
from async_jobs.adapters.telemetry.tallying import TallyTelemetry
from async_jobs.application.tallying import Tallying
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.settings.measured import MetricsTenants
from async_jobs.entrypoints.wiring.renewing import error_logger
from async_jobs.extras import require
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.tallies import Tallies
from async_jobs.ports.telemetry import Telemetry
from async_jobs.ports.tracing import NO_TRACING, Tracing

_PACKAGES = {"otel": "opentelemetry", "prometheus": "prometheus_client"}


class Metrics(NamedTuple):
    """What measures, and what a scrape is answered; each None where there is none."""

    telemetry: Telemetry | None = None
    scrapes: ScrapePage | None = None


def check_metrics(config: AsyncJobsConfig) -> None:
    """Look at once whether what metrics and traces need is there.

    Raises:
        MissingExtra: it is not installed.
    """
    if config.metrics != "none":
        require(f"ASYNC_JOBS_METRICS={config.metrics}", _PACKAGES[config.metrics])
    if config.traces != "none":
        require(f"ASYNC_JOBS_TRACES={config.traces}", _PACKAGES[config.traces])


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


def tracing_of(config: AsyncJobsConfig) -> Tracing:
    """Return what traces a process. Where that is not set, nothing of it is imported.

    Raises:
        MissingExtra: what it needs is not installed.
    """
    check_metrics(config)
    if config.traces == "none":
        return NO_TRACING
    from async_jobs.adapters.telemetry.traces import (
        PARENT_WITHIN,
        OpenTelemetryTracing,
        TraceParent,
    )

    parent, _, seconds = config.traces_parent.partition(":")
    return OpenTelemetryTracing(
        parent=cast("TraceParent", parent),
        parent_within=timedelta(seconds=int(seconds)) if seconds else PARENT_WITHIN,
        tenants=config.traces_tenants,
    )


def counting_of(
    config: AsyncJobsConfig, chance: Chance, host_clock: Clock
) -> TallyTelemetry | None:
    """Return what sums facts for the database, where that is set."""
    if not config.statistics:
        return None
    source = chance.uuid(host_clock.now()).hex
    match config.statistics_tenants:
        case None:
            return TallyTelemetry(source)
        case int(count):
            # What was told of a tenant stays in the database, and takes no place here.
            return TallyTelemetry(source, TopTenants(count, lambda tenant: True))
        case names:
            return TallyTelemetry(source, NamedTenants(names))


def telemetry_of(logs: Telemetry, metrics: Metrics, counting: Telemetry | None) -> Telemetry:
    """Return what is told of facts."""
    others = [each for each in (metrics.telemetry, counting) if each is not None]
    return SeveralTelemetries([logs, *others]) if others else logs


@asynccontextmanager
async def keeping(
    counting: TallyTelemetry | None,
    tallies: Callable[[], Tallies],
    clock: Callable[[], Clock],
    logger: logging.Logger,
) -> AsyncIterator[None]:
    """Add what is counted to the database meanwhile, and the rest of it at the end."""
    if counting is None:
        yield
        return
    on_error = error_logger(logger, "statistics_degraded")
    keeper = Tallying(counting, tallies(), clock=clock(), on_error=on_error)
    running = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await keeper.end()


def _measuring(exporter: Exporter, tenants: MetricsTenants) -> Telemetry:
    match tenants:
        case None:
            return MetricsTelemetry(exporter)
        case int():
            return MetricsTelemetry(exporter, lambda forget: TopTenants(tenants, forget))
        case _:
            return MetricsTelemetry(exporter, lambda forget: NamedTenants(tenants))
