"""A bare FastAPI route that does one INSERT: the least that an enqueue over HTTP costs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.systems import protocol
from benchmarks.systems.floor import INSERT_MANY, Floor

SETTINGS = {"connections": 10}  # as many as async_jobs has by default


class Job(BaseModel):
    """What one enqueue takes."""

    tenant_id: str
    use_case: str
    type: str
    payload: dict[str, Any]


class Batch(BaseModel):
    """What a batch takes."""

    jobs: list[Job]


def app() -> FastAPI:
    """Return the application."""
    pools: list[asyncpg.Pool] = []

    @asynccontextmanager
    async def connected(_: FastAPI) -> AsyncIterator[None]:
        size = SETTINGS["connections"]
        async with asyncpg.create_pool(protocol.dsn(), min_size=size, max_size=size) as pool:
            pools.append(pool)
            yield

    made = FastAPI(lifespan=connected)

    @made.post("/jobs/enqueue")
    async def enqueue(job: Job) -> dict[str, int]:
        statement = "INSERT INTO jobs (payload) VALUES ($1) RETURNING id"
        return {"job_id": await pools[0].fetchval(statement, json.dumps(job.payload))}

    @made.post("/jobs/enqueue-batch")
    async def enqueue_batch(batch: Batch) -> dict[str, list[int]]:
        payloads = [json.dumps(job.payload) for job in batch.jobs]
        rows = await pools[0].fetch(f"{INSERT_MANY} RETURNING id", payloads)
        return {"job_ids": [row["id"] for row in rows]}

    return made


def serve() -> None:
    """Serve at the port that follows the command."""
    port = int(protocol.arguments()[0])
    uvicorn.run(app(), host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    protocol.main(Floor, also={"serve": serve})
