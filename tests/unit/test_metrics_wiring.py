"""Which telemetry a process has: logs alone, or metrics and traces beside them, as it is set."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from async_jobs.adapters.telemetry.logs import LogTelemetry
from async_jobs.domain.facts import JobEnqueued
from async_jobs.domain.reporting import job_ids
from async_jobs.domain.tallies import DAY, query_of
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from async_jobs.entrypoints.wiring.container import Container
from async_jobs.entrypoints.wiring.memory import memory_container
from async_jobs.entrypoints.wiring.telemetry import keeping
from async_jobs.ports.tracing import NO_TRACING
from async_jobs.testing.builders import a_job
from async_jobs.testing.clocks import NOW


def container(**settings: Any) -> Container:
    config = AsyncJobsConfig(db_dsn="memory", **settings)
    return memory_container(config, logging.getLogger(__name__))


def enqueued(tenant: str) -> JobEnqueued:
    ids = job_ids(a_job(tenant_id=tenant), at=NOW)
    return JobEnqueued(run_at=NOW, deadline_at=NOW, **ids)


def test_nothing_is_measured_unless_that_is_set() -> None:
    """Logs are told as ever, without anything in between."""
    made = container()

    assert type(made.telemetry()) is LogTelemetry
    assert made.metrics() == (None, None)


@pytest.mark.parametrize(
    ("tenants", "told_apart"),
    [(None, set()), (1, {"acme", "other"}), (("beta",), {"beta", "other"})],
    ids=["none", "top", "named"],
)
def test_tenants_are_told_apart_as_set(tenants: object, told_apart: set[str]) -> None:
    """On the page of the process, which all its parts share."""
    made = container(metrics="prometheus", metrics_tenants=tenants)

    for tenant in ("acme", "beta", "gamma"):
        made.telemetry().record(enqueued(tenant))

    scrapes = made.metrics().scrapes
    assert scrapes is not None
    page = scrapes.answer(None).body.decode()
    assert "async_jobs_jobs_enqueued_total{" in page
    assert {name for name in ("acme", "beta", "other") if f'tenant="{name}"' in page} == told_apart


def test_opentelemetry_is_the_applications(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its provider is asked, and there is nothing to scrape."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr("opentelemetry.metrics._internal.get_meter_provider", lambda: provider)
    made = container(metrics="otel")

    made.telemetry().record(enqueued("acme"))

    data = reader.get_metrics_data()
    assert data is not None
    assert "async_jobs.jobs.enqueued" in data.to_json()
    assert made.metrics().scrapes is None


def test_nothing_is_traced_unless_that_is_set() -> None:
    """Nothing stands in between."""
    assert container().tracing() is NO_TRACING


@pytest.mark.parametrize(
    ("parent", "waited", "below"),
    [
        ("first", 30, True),
        ("first", 31, False),
        ("first:5", 5, True),
        ("first:5", 6, False),
        ("never", 0, False),
        ("always", 10_000, True),
    ],
)
def test_traces_go_to_the_applications_sdk_as_set(
    monkeypatch: pytest.MonkeyPatch, parent: str, waited: int, below: bool
) -> None:
    """Its provider is asked, and the one setting says which attempts are below their enqueue."""
    spans, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)
    made = container(traces="otel", traces_parent=parent, traces_tenants=False)
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    started_at = NOW + timedelta(seconds=waited)

    job = a_job(created_at=NOW, started_at=started_at, attempts=1, headers=headers)
    with made.tracing().attempting(job):
        pass

    (span,) = spans.get_finished_spans()
    assert (span.parent is not None, len(span.links)) == (below, 0 if below else 1)
    assert "acme" not in span.to_json()


@pytest.mark.parametrize(
    ("tenants", "told_apart"),
    [(None, set()), (1, {"acme"}), (("beta",), {"beta"})],
    ids=["none", "top", "named"],
)
async def test_statistics_are_kept_by_the_end(tenants: object, told_apart: set[str]) -> None:
    """In the database of the process, by tenants as set; schedulers roll them up."""
    made = container(statistics=True, statistics_tenants=tenants)

    async with keeping(made.counting(), made.tallies, made.clock, made.logger()):
        for tenant in ("acme", "beta"):
            made.telemetry().record(enqueued(tenant))

    query = query_of(now=NOW + DAY, since=NOW, by=("tenant_id",))
    sums = await made.tallies().sums(query, limit=10)
    assert {group.tenant_id for group in sums} == told_apart | {""}
    assert sum(each[0] for each in sums.values()) == 2
    assert made.scheduler()._rolling_up._tallies is made.tallies()


def test_no_statistics_are_made_unless_that_is_set() -> None:
    """Nothing is summed, and schedulers look for nothing."""
    made = container()

    assert made.counting() is None
    assert made.scheduler()._rolling_up._tallies is None
