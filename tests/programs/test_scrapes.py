"""Metrics and statistics of running programs: both equal the rows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from async_jobs import AsyncJobsHttpClient, EnqueueJobRequest, QuotaExceededError
from async_jobs.adapters.telemetry.labels import TopTenants
from async_jobs.adapters.telemetry.metrics import MetricsTelemetry
from async_jobs.adapters.telemetry.prometheus import PrometheusExporter
from async_jobs.testing.contracts.telemetry import every_fact
from tests.kit import services
from tests.kit.harness import Programs, clock, eventually, free_port
from tests.kit.monitoring import labels_in, queries
from tests.programs.systems import LOGGED, QUICKLY, System, a_system

TOKEN = "the-shared-token-of-a-test"
DAY, NONE_AT_ALL = timedelta(days=1), timedelta(0)
SETTINGS = {
    "ASYNC_JOBS_USE_CASES": json.dumps(
        {
            "mail": {"max_concurrent": 8},
            "brief": {"max_concurrent": 2, "late_policy": "expire", "queue": "mail"},
        }
    ),
    "ASYNC_JOBS_PER_TENANT_QUOTAS": json.dumps({"limited": {"max_pending_jobs": 1}}),
    "ASYNC_JOBS_ENQUEUE_AUTH_TOKEN": TOKEN,
    "ASYNC_JOBS_METRICS": "prometheus",
    "ASYNC_JOBS_STATISTICS": "true",
    "ASYNC_JOBS_UNKNOWN_TYPE_MAX_SECONDS": "1",
    "ASYNC_JOBS_METRICS_TENANTS": "top:5",
}
ENDED = {"succeeded": 6 + 3 + 2 + 1 + 1, "dead": 2 + 2 + 1, "cancelled": 1 + 1, "expired": 2}
ATTEMPTS = {
    ("succeed", "succeeded"): 6 + 3 + 1,
    ("fail_once", "failed"): 2,
    ("fail_once", "succeeded"): 2,
    ("snooze_once", "snoozed"): 1,
    ("snooze_once", "succeeded"): 1,
    ("fail", "failed"): 4,
    ("reject", "rejected"): 2,
    ("hold", "cancelled"): 1,
    # Claimed by a worker that has no handler for it, and so not started.
    ("nobody_knows_it", "snoozed"): 1,
    ("nobody_knows_it", "rejected"): 1,
}
CLAIMS, IN_VAIN = sum(ATTEMPTS.values()), 2
STARTS = CLAIMS - IN_VAIN
AGAIN, LATE, EXPIRED = 2 + 2 + 1, 3, 2


def scraped(port: int, token: str | None = None) -> tuple[int, str]:
    """Return the status of a scrape, and what it brings."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Scrape:
    """What several pages say together."""

    def __init__(self, *ports: int) -> None:
        pages = [scraped(port)[1] for port in ports]
        self.described = {
            name for page in pages for name in re.findall(r"^# TYPE (\w+)", page, re.MULTILINE)
        }
        self.samples = [
            sample
            for page in pages
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        ]

    def by(self, name: str, *labels: str) -> dict[object, float]:
        """Sum the samples of a name by some labels; of one label, by its value."""
        found: defaultdict[object, float] = defaultdict(float)
        for sample in self.samples:
            if sample.name == f"async_jobs_{name}":
                values = tuple(sample.labels[label] for label in labels)
                found[values[0] if len(values) == 1 else values] += sample.value
        return {key: value for key, value in found.items() if value}

    def total(self, name: str, **labels: str) -> float:
        """Sum the samples of a name that have these labels."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == f"async_jobs_{name}" and labels.items() <= sample.labels.items()
        )


@asynccontextmanager
async def measured_api(
    dsn: str, directory: Path
) -> AsyncIterator[tuple[System, AsyncJobsHttpClient, int]]:
    """Yield a system whose API is up, and the API's port."""
    port = free_port()
    async with a_system(dsn, directory, SETTINGS) as system:
        api = system.programs.start("api", "--port", str(port), *LOGGED)
        await api.has_logged("api_started")
        async with AsyncJobsHttpClient(f"http://127.0.0.1:{port}", auth_token=TOKEN) as client:
            yield system, client, port


async def enqueue_what_is_known(client: AsyncJobsHttpClient) -> None:
    """Enqueue the jobs whose ends are known, but for those that are cancelled."""

    async def enqueue(type: str, count: int, **fields: object) -> None:
        given = {"use_case": "mail", "backoff_policy": QUICKLY, "delay_tolerance": DAY, **fields}
        request = EnqueueJobRequest(tenant_id="acme", type=type, payload={}, **given)  # type: ignore[arg-type]
        await client.enqueue_many([request] * count)

    await enqueue("succeed", 6)
    await enqueue("succeed", 3, delay_tolerance=NONE_AT_ALL)
    await enqueue("succeed", 2, use_case="brief", delay_tolerance=NONE_AT_ALL)
    await enqueue("fail_once", 2)
    await enqueue("snooze_once", 1)
    await enqueue("fail", 2, max_attempts=2)
    await enqueue("reject", 2)
    await enqueue("nobody_knows_it", 1)
    limited = EnqueueJobRequest(
        tenant_id="limited",
        use_case="mail",
        type="succeed",
        payload={},
        delay_tolerance=DAY,
        dedupe_key="once",
    )
    await client.enqueue(limited)
    await client.enqueue(limited)
    with pytest.raises(QuotaExceededError):
        await client.enqueue(
            EnqueueJobRequest(tenant_id="limited", use_case="mail", type="succeed", payload={})
        )


async def cancel_two(system: System, client: AsyncJobsHttpClient) -> None:
    """Cancel a job that waits, and one that a worker executes."""
    later = clock.now() + DAY
    waits = EnqueueJobRequest(
        tenant_id="acme", use_case="mail", type="hold", payload={}, run_at=later
    )
    runs = EnqueueJobRequest(
        tenant_id="acme", use_case="mail", type="hold", payload={}, delay_tolerance=DAY
    )
    await client.cancel_job((await client.enqueue(waits)).job_id)
    running = (await client.enqueue(runs)).job_id

    async def has_begun() -> bool:
        return any(line["job_id"] == str(running) for line in system.began())

    await eventually(has_begun, "the job that is to be cancelled runs")
    await client.cancel_job(running)


async def outcomes(system: System) -> Counter[str]:
    """Count the rows by what became of them."""
    rows = await system.pool.fetch(
        "SELECT CASE WHEN last_error = 'deadline_missed' THEN 'expired' ELSE status END AS outcome,"
        " count(*) AS n FROM jobs GROUP BY 1"
    )
    return Counter({row["outcome"]: row["n"] for row in rows})


async def starts(system: System) -> tuple[int, int]:
    """Count the rows that have started, and those that did so by their first deadline."""
    row = await system.pool.fetchrow(
        "SELECT count(first_start) AS started, count(*) FILTER ("
        " WHERE first_start <= coalesce(first_deadline_at, deadline_at)) AS on_time"
        " FROM jobs, LATERAL coalesce("
        "     first_started_at, CASE WHEN status = 'succeeded' THEN started_at END) AS first_start"
    )
    assert row is not None
    return row["started"], row["on_time"]


async def reported(system: System) -> list[dict[str, Any]]:
    """Return the report's rows by type, once all programs have ended and told the last of it."""
    for program in system.programs.started:
        program.terminate()
    for program in system.programs.started:
        await program.ended()
    report = await system.programs.run("attainment", "--by", "type", "--json")
    rows: list[dict[str, Any]] = json.loads(report.stdout)["rows"]
    return rows


# What is told only when something goes wrong, or while tenants compete, has no sample here.
SELDOM = re.compile(
    "async_jobs_(lease_expired|poison_dropped|handler_stuck|handler_missing|loop_blocked"
    "|use_case_skipped|chore_skipped|handoff_failed|outcome_stale|result_left_out|notices)_total"
    "|async_jobs_share_(capacity|slots)_(used|entitled)"
)


def lacking(scrape: Scrape) -> list[str]:
    """Return what boards and rules name and a scrape does not have, with the label that lacks."""
    labels = {sample.name: sample.labels.keys() for sample in scrape.samples}
    lacks = []
    for query in queries():
        for name, wanted in labels_in(query).items():
            if name not in labels and not (SELDOM.fullmatch(name) and name in scrape.described):
                lacks.append(name)
            lacks += [f"{name}: {label}" for label in wanted - labels.get(name, wanted)]
    return lacks


async def test_what_is_told_equals_the_rows(database_dsn: str, tmp_path: Path) -> None:
    """Of jobs on time, late, expired, retried, snoozed, dead, cancelled and without a handler, by
    all programs: metrics and the report.
    """
    scheduling, working = free_port(), free_port()
    async with measured_api(database_dsn, tmp_path) as (system, client, serving):
        began = clock.now()
        await enqueue_what_is_known(client)
        system.scheduler("--health-port", str(scheduling))
        worker = system.worker("--health-port", str(working))
        await worker.has_logged("worker_started")
        await cancel_two(system, client)
        await system.have_ended()

        async def all_is_told() -> Scrape | None:
            scrape = Scrape(serving, scheduling, working)
            ended = scrape.total("jobs_finished_total") == sum(ENDED.values())
            leased = scrape.total("scheduler_leased_total") >= CLAIMS
            return scrape if ended and leased else None

        scrape = await eventually(all_is_told, "every end is told")
        assert scrape is not None
        rows = await outcomes(system)
        started, on_time = await starts(system)
        report = await reported(system)
        executed = Counter(line["what"] for line in system.executions)

    assert scrape.by("jobs_finished_total", "outcome") == rows == ENDED
    assert scrape.by("attempts_ended_total", "type", "outcome") == ATTEMPTS
    assert executed["began"] == STARTS
    used, first = "start_tolerance_used", {"first": "true"}
    assert scrape.total(f"{used}_count") == STARTS
    assert scrape.total(f"{used}_count", **first) == started == STARTS - AGAIN
    assert scrape.total(f"{used}_bucket", le="1.0", **first) == on_time == started - LATE
    assert scrape.total("start_late_seconds_count") == LATE
    assert scrape.by("deadline_missed_total", "started", "first") == {
        ("true", "true"): LATE,
        ("false", "true"): EXPIRED,
    }
    assert scrape.total("attempt_duration_seconds_count") == CLAIMS
    assert scrape.total("jobs_enqueued_total") == rows.total()
    assert scrape.total("jobs_duplicate_total") == scrape.total("quota_rejected_total") == 1
    assert scrape.by("worker_slots_limit", "queue") == {"mail": 8}
    ticked = scrape.total("scheduler_last_tick_timestamp_seconds")
    assert began.timestamp() < ticked < began.timestamp() + 3600
    assert scrape.total("scheduler_leased_total") == CLAIMS
    summed = {name: sum(row[name] for row in report) for name in ("on_time", "late", "unstarted")}
    assert summed == {"on_time": on_time, "late": LATE, "unstarted": EXPIRED}
    assert {name: sum(row[name] for row in report) for name in ENDED} == ENDED
    assert sum(row["enqueued"] for row in report) == rows.total()
    assert {
        (row["type"], how): count
        for row in report
        for how, count in row["attempts"].items()
        if count
    } == {each: count for each, count in ATTEMPTS.items() if each[1] != "succeeded"}
    (never,) = (row for row in report if row["type"] == "nobody_knows_it")
    assert (never["attainment"], never["dead"]) == (None, 1)
    assert not lacking(scrape)


def test_promtool_finds_nothing_amiss() -> None:
    """In a page that has every metric there is."""
    promtool = shutil.which("promtool")
    if promtool is None:
        services.missing("promtool", "it is not installed")
    exporter = PrometheusExporter(tenants=True)
    telemetry = MetricsTelemetry(exporter, lambda forget: TopTenants(10, forget))
    for fact in every_fact("mail"):
        telemetry.record(fact)

    done = subprocess.run(
        [promtool, "check", "metrics"], input=exporter.page(), capture_output=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, b"")


async def test_a_scrape_brings_the_token(on_database: Programs) -> None:
    """On the health port too, whose other paths need none."""
    port = free_port()
    on_database.settings |= {
        "ASYNC_JOBS_METRICS": "prometheus",
        "ASYNC_JOBS_METRICS_TOKEN": "scrape",
    }
    scheduler = on_database.start("scheduler", "--health-port", str(port), *LOGGED)
    await scheduler.has_logged("scheduler_started")

    assert scraped(port)[0] == 401
    assert scraped(port, "other")[0] == 401
    assert scraped(port, "scrape")[0] == 200
    assert "scrape" not in scheduler.stderr


async def test_a_metrics_port_that_is_taken_keeps_nobody_from_work(on_database: Programs) -> None:
    """All processes of a host have the same variable; one listens, the others say so."""
    port = free_port()
    on_database.settings |= {
        "ASYNC_JOBS_METRICS": "prometheus",
        "ASYNC_JOBS_METRICS_PORT": str(port),
    }
    first = on_database.start("scheduler", *LOGGED)
    await first.has_logged("scheduler_started")
    second = on_database.start("scheduler", *LOGGED)
    await second.has_logged("scheduler_started")

    (told,) = second.logged("metrics_not_served")
    assert told["problem"].startswith("ASYNC_JOBS_METRICS_PORT: nothing can listen on 127.0.0.1")
    assert not first.logged("metrics_not_served")
    assert scraped(port)[0] == 200


async def test_without_metrics_the_health_port_has_none(on_database: Programs) -> None:
    """Off is how it begins."""
    port = free_port()
    scheduler = on_database.start("scheduler", "--health-port", str(port), *LOGGED)
    await scheduler.has_logged("scheduler_started")

    assert scraped(port)[0] == 404
