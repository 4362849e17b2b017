"""The demo's own workload, with its example handlers, while its processes are killed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from async_jobs.entrypoints.demo.workload import (
    FAILURE_SHARE,
    HANDLERS,
    NOISY,
    QUOTAS,
    USE_CASES,
    workload,
)
from tests.kit.harness import Program, eventually
from tests.programs.systems import LOGGED, System, a_system

JOBS = 900


def _settings(directory: Path) -> dict[str, str]:
    return {
        "ASYNC_JOBS_USE_CASES": json.dumps({name: asdict(c) for name, c in USE_CASES.items()}),
        "ASYNC_JOBS_PER_TENANT_QUOTAS": json.dumps({t: asdict(q) for t, q in QUOTAS.items()}),
        "ASYNC_JOBS_HANDLERS_MODULE": ",".join(HANDLERS),
        "ASYNC_JOBS_DELIVERY_FILE": str(directory / "deliveries.jsonl"),
        "ASYNC_JOBS_DEMO_FAILURE_SHARE": str(FAILURE_SHARE),
        "ASYNC_JOBS_LEASE_DURATION_SECONDS": "2",
        "ASYNC_JOBS_DISPATCH_TIMEOUT_SECONDS": "2",
        "ASYNC_JOBS_WORKER_VISIBILITY_TIMEOUT_SECONDS": "2",
    }


def _worker(system: System) -> Program:
    queues = [part for name in USE_CASES for part in ("--queue", name)]
    return system.programs.start("worker", *queues, *LOGGED)


async def _have_ended(system: System, count: int) -> None:
    async def look() -> bool:
        statuses = await system.statuses()
        return statuses["succeeded"] + statuses["dead"] >= count

    await eventually(look, f"{count} jobs end")


async def test_the_demos_workload_survives_kills(database_dsn: str, tmp_path: Path) -> None:
    """A worker, then the scheduler and the other worker, die in the middle of it."""
    planned = list(workload(JOBS))
    async with a_system(database_dsn, tmp_path, _settings(tmp_path)) as system:
        enqueued = await system.service.enqueue_many([each.request for each in planned])
        fates = {e.job_id: p.fate for e, p in zip(enqueued, planned, strict=True)}
        scheduler, workers = system.scheduler(), [_worker(system), _worker(system)]

        async with system.watched():
            await _have_ended(system, JOBS // 6)
            await workers[0].killed()
            _worker(system)
            await _have_ended(system, JOBS // 3)
            await scheduler.killed()
            await workers[1].killed()
            system.scheduler()
            _worker(system)
            await system.have_ended()
        jobs, audit = await system.jobs(), await system.audit()

    assert {job.id: job.status for job in jobs} == fates
    assert audit == Counter({(str(id), fate.value): 1 for id, fate in fates.items()})
    assert {job.tenant_id for job in jobs} >= {NOISY, "tenant-19"}
    assert all(
        system.most_running[name] <= config.max_concurrent for name, config in USE_CASES.items()
    )
