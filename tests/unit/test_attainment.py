"""What a known workload comes to: report, Prometheus, OpenTelemetry and rows say the same."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    Histogram,
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
    Sum,
)
from prometheus_client.parser import text_string_to_metric_families

from async_jobs import EnqueueJobRequest, JobContext, JobRegistry, Reject, Snooze, UseCaseConfig
from async_jobs.adapters.telemetry.instruments import INSTRUMENTS
from async_jobs.adapters.telemetry.metrics import Exporter, MetricsTelemetry
from async_jobs.adapters.telemetry.otel import OpenTelemetryExporter
from async_jobs.adapters.telemetry.prometheus import PrometheusExporter
from async_jobs.application import failpoints
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.job import Job
from async_jobs.domain.tallies import Attained
from async_jobs.testing import MemorySystem, memory_system
from tests.unit.application.faults import Killed, die

TOLERANCE = timedelta(seconds=60)
AT_ONCE = BackoffPolicy(base_delay_seconds=1, jitter=0.0)
registry = JobRegistry()


@registry.handler("succeed")
async def succeed(context: JobContext, payload: object) -> None:
    pass


@registry.handler("fail_once")
async def fail_once(context: JobContext, payload: object) -> None:
    if context.attempt == 1:
        raise RuntimeError("the first attempt fails")


@registry.handler("reject")
async def reject(context: JobContext, payload: object) -> None:
    raise Reject("never")


slept: set[object] = set()


@registry.handler("snooze_once")
async def snooze_once(context: JobContext, payload: object) -> None:
    if context.job_id not in slept:
        slept.add(context.job_id)
        raise Snooze(600)


async def enqueued(system: MemorySystem, type: str, count: int = 1, **fields: object) -> list[Job]:
    given = {"use_case": "mail", "delay_tolerance": TOLERANCE, **fields}
    request = EnqueueJobRequest(
        tenant_id="acme",
        type=type,
        payload={},
        backoff_policy=AT_ONCE,
        **given,  # type: ignore[arg-type]
    )
    answers = await system.service.enqueue_many([request] * count)
    return [await system.service.get_job(each.job_id) for each in answers]


async def started_by_one_that_is_killed(system: MemorySystem, count: int) -> None:
    """Let a worker that dies start jobs; their leases run out."""
    await enqueued(system, "succeed", count)
    await system.scheduler.tick()
    where = failpoints.WORKER_AFTER_CLAIM_BEFORE_HANDLER
    with failpoints.armed(where, die), pytest.raises(Killed):
        await system.worker.step()
    system.clock.advance(61)
    await system.run_until_idle()


async def worked_off() -> MemorySystem:
    """Return a system that has seen jobs come to every end there is, some of them twice."""
    system = memory_system(
        use_cases={"mail": UseCaseConfig(), "brief": UseCaseConfig(late_policy=LatePolicy.EXPIRE)},
        registry=registry,
    )
    await started_by_one_that_is_killed(system, 2)
    await enqueued(system, "succeed", 2)  # late
    expiring = await enqueued(system, "succeed", 3, use_case="brief")
    cancelled = await enqueued(system, "succeed", 2)
    for job in cancelled:
        await system.service.cancel_job(job.id)
    system.clock.advance(61)
    await enqueued(system, "succeed", 5)
    await enqueued(system, "fail_once", 2)
    await enqueued(system, "reject")
    await enqueued(system, "snooze_once", 3)
    unknown = await enqueued(system, "later_known", 2)
    await system.run_until_idle()
    # Operators try again what expired and what was cancelled, both unstarted.
    await system.service.retry_job(expiring[0].id)
    await system.service.retry_job(cancelled[0].id)
    await system.run_until_idle()
    registry.handler("later_known")(succeed)
    for _ in range(3):
        system.clock.advance(601)
        await system.run_until_idle()
    assert {(await system.service.get_job(job.id)).status for job in unknown} == {"succeeded"}
    return system


def record_all(system: MemorySystem, exporter: Exporter) -> None:
    """Measure all that the system has told."""
    metrics = MetricsTelemetry(exporter)
    for fact in system.telemetry.facts:
        metrics.record(fact)


def told_by_opentelemetry(system: MemorySystem) -> dict[tuple[str, ...], float]:
    """Return counters, and the counts of histograms, by their names and labels in Prometheus."""
    reader = InMemoryMetricReader()
    record_all(
        system, OpenTelemetryExporter(provider=MeterProvider([reader], shutdown_on_exit=False))
    )
    data = reader.get_metrics_data()
    assert data is not None
    names = {each.name: each.prometheus_name for each in INSTRUMENTS}
    told: dict[tuple[str, ...], float] = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            labels = sorted(f"{name}={value!s}" for name, value in (point.attributes or {}).items())
            match metric.data, point:
                case Histogram(), HistogramDataPoint(count=count):
                    told[f"{names[metric.name]}_count", *labels] = count
                case Sum(), NumberDataPoint(value=value):
                    told[names[metric.name], *labels] = value
    return told


def measured(system: MemorySystem) -> dict[tuple[str, ...], float]:
    """Return what Prometheus is told of the same facts, by name and labels."""
    exporter = PrometheusExporter()
    record_all(system, exporter)
    families = text_string_to_metric_families(exporter.page().decode())
    return {
        (each.name, *map("=".join, sorted(each.labels.items()))): each.value
        for family in families
        for each in family.samples
    }


async def test_report_metrics_and_rows_say_the_same() -> None:
    """To the last job, and each job once: on time, late, expired, retried, snoozed, rejected,
    cancelled, without a handler, and with a lease that a kill has lost.
    """
    system = await worked_off()

    mail, brief = _by_use_case((await system.reports.attainment()).rows)
    jobs = {name: await system.jobs(use_case=name) for name in ("mail", "brief")}
    metrics = measured(system)

    # Late: two at once, what waited for a handler, and what was cancelled and tried again.
    assert (mail.on_time, mail.late, mail.unstarted) == (2 + 5 + 2 + 1 + 3, 2 + 2 + 1, 0)
    # It was given up once; that it ran after all is no second promise.
    assert (brief.on_time, brief.late, brief.unstarted, brief.succeeded) == (0, 0, 3, 1)
    for row, of in ((mail, jobs["mail"]), (brief, jobs["brief"])):
        expired = [job for job in of if any(e.error == "deadline_missed" for e in job.errors)]
        first = [job for job in of if job.first_start is not None and job not in expired]
        on_time = [job for job in first if job.first_start <= job.first_deadline]  # type: ignore[operator]
        assert (row.on_time, row.on_time + row.late) == (len(on_time), len(first))
        assert (row.unstarted, row.enqueued) == (len(expired), len(of))
        labels = ("first=true", f"use_case={row.use_case}")
        used = "async_jobs_start_tolerance_used"
        assert metrics.get((f"{used}_count", *labels), 0) == len(first)
        assert metrics.get((f"{used}_bucket", labels[0], "le=1.0", labels[1]), 0) == len(on_time)
        missed = ("async_jobs_deadline_missed_total", labels[0], "started=false", labels[1])
        assert metrics.get(missed, 0) == len(expired)
    counted = told_by_opentelemetry(system)
    assert counted == {each: value for each, value in metrics.items() if each in counted}
    assert counted.keys() >= {
        each for each in metrics if each[0].endswith(("_total", "_count")) and metrics[each]
    }
    assert mail.attempts["lease_expired"] == sum(job.crashes for job in jobs["mail"]) == 2
    assert metrics["async_jobs_lease_expired_total", "claimed=true", "use_case=mail"] == 2
    assert _ended(metrics) == Counter(
        {**mail.attempts, "succeeded": mail.succeeded + brief.succeeded}
    ) + Counter(brief.attempts)
    assert mail.attempts["failed"] == 2
    assert (mail.attempts["rejected"], mail.attempts["snoozed"]) == (1, 3 + 2)
    assert (mail.succeeded, mail.dead, mail.cancelled) == (2 + 2 + 5 + 2 + 3 + 2 + 1, 1, 2)
    assert (brief.dead, brief.expired) == (0, 3)
    assert mail.attainment == mail.on_time / (mail.on_time + mail.late)
    assert brief.attainment == 0


def _ended(metrics: dict[tuple[str, ...], float]) -> Counter[str]:
    """Count the attempts by how they ended."""
    ended = Counter[str]()
    for (name, *labels), value in metrics.items():
        if name == "async_jobs_attempts_ended_total":
            ended[dict(label.split("=") for label in labels)["outcome"]] += int(value)
    return ended


def _by_use_case(rows: tuple[Attained, ...]) -> tuple[Attained, Attained]:
    found = {row.use_case: row for row in rows}
    return found["mail"], found["brief"]
