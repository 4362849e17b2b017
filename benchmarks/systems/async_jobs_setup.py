"""How async_jobs is set up for the benchmark: the same in every process of a run."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import asyncpg

from async_jobs import AsyncJobsConfig, EnqueueJobRequest, TenantQuota, UseCaseConfig
from async_jobs.adapters.postgres.pool import create_pool
from benchmarks.systems import protocol

SETTINGS: dict[str, Any] = {
    "slots": 1_000,  # of one worker process; handlers that do nothing hold one for no time
    "cap": 200,  # of each of the ten capped use cases: 2,000 together
    "tenant_running": 200,
    "tenant_pending": 1_000_000,
    "bulk": 1_000,  # jobs in one call of enqueue_many
    "sqs": False,
    "plain_cap": 100_000,
    "use_cases": 10,  # capped ones
    "tenants": 100,  # with limits
    "watched": "",  # by "metrics", or by "traces"
}
WATCHING: Mapping[str, Mapping[str, str]] = {
    "": {},
    "metrics": {"ASYNC_JOBS_METRICS": "prometheus", "ASYNC_JOBS_STATISTICS": "true"},
    "traces": {
        "ASYNC_JOBS_TRACES": "otel",
        "ASYNC_JOBS_HANDLERS_MODULE": "benchmarks.systems.async_jobs_traced",
        "OTEL_PYTHON_TRACER_PROVIDER": "sdk_tracer_provider",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    },
}
TYPE = "noop"
PLAIN, FULL, QUEUE, LIMITED, ANYBODY = "plain", "full", "bench", "limited", "anybody"
USE_CASES: int = SETTINGS["use_cases"]
TENANTS: int = SETTINGS["tenants"]
TOLERANCE_SECONDS = 24 * 3600.0


def config() -> AsyncJobsConfig:
    """Return the configuration that all processes of one run have."""
    return AsyncJobsConfig.from_env(variables())


def variables() -> Mapping[str, str]:
    """Return the environment of all processes of one run."""
    chosen = protocol.settings(SETTINGS)
    caps = {PLAIN: chosen["plain_cap"], FULL: 1} | dict.fromkeys(
        _capped_names(chosen["use_cases"]), chosen["cap"]
    )
    use_cases = {
        name: UseCaseConfig(
            max_concurrent=cap, queue=QUEUE, default_delay_tolerance_seconds=TOLERANCE_SECONDS
        )
        for name, cap in caps.items()
    }
    quota = TenantQuota(
        max_pending_jobs=chosen["tenant_pending"], max_running=chosen["tenant_running"]
    )
    tenants = [LIMITED, *(f"tenant-{number}" for number in range(chosen["tenants"]))]
    names = ("max_concurrent", "queue", "default_delay_tolerance_seconds")
    set_up = {
        "ASYNC_JOBS_DB_DSN": protocol.dsn(),
        "ASYNC_JOBS_USE_CASES": json.dumps(
            {name: {key: asdict(each)[key] for key in names} for name, each in use_cases.items()}
        ),
        "ASYNC_JOBS_PER_TENANT_QUOTAS": json.dumps({name: asdict(quota) for name in tenants}),
        "ASYNC_JOBS_WORKER_CONCURRENCY": str(chosen["slots"]),
        "ASYNC_JOBS_HANDLERS_MODULE": "benchmarks.systems.async_jobs_handlers",
    }
    if chosen["sqs"]:
        set_up["ASYNC_JOBS_SQS_QUEUE_BENCH"] = chosen["sqs"]
    return {**set_up, **WATCHING[chosen["watched"]]}


def _capped_names(use_cases: int) -> list[str]:
    return [f"capped-{number}" for number in range(use_cases)]


def request_of(number: int, cap: bool) -> EnqueueJobRequest:
    """Return a plain job, or one of a hundred tenants in one of ten use cases."""
    tenant = f"tenant-{number % TENANTS}" if cap else ANYBODY
    use_case = _capped_names(USE_CASES)[number // TENANTS % USE_CASES] if cap else PLAIN
    return EnqueueJobRequest(
        tenant_id=tenant, use_case=use_case, type=TYPE, payload=protocol.payload(number)
    )


def traced() -> Any:
    """Return what traces the enqueues of this process; None for nothing."""
    environment = variables()
    if environment.get("ASYNC_JOBS_TRACES") != "otel":
        return None
    os.environ.update({k: v for k, v in environment.items() if k.startswith("OTEL_")})
    from async_jobs.adapters.telemetry.traces import OpenTelemetryTracing

    return OpenTelemetryTracing()


@asynccontextmanager
async def connected(size: int) -> AsyncIterator[asyncpg.Pool]:
    """Yield the pool that a process of async_jobs would have."""
    pool = await create_pool(protocol.dsn(), max_size=size, application_name="async_jobs bench")
    try:
        yield pool
    finally:
        pool.terminate()
