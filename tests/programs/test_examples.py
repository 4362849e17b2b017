"""The example shop as its readers run it: each part a process, on a real Postgres."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.kit.harness import Program, Programs, eventually, free_port, programs

USE_CASES = {"receipts": {"max_concurrent": 20}, "reports": {"max_concurrent": 4}}
TOKEN = "the-shops-token"
ORDERS = "/shops/acme/orders"


@dataclass
class Shop:
    """The shop's interface, its database, and what starts further programs."""

    http: httpx.AsyncClient
    database: asyncpg.Connection
    programs: Programs

    async def order(self, **fields: Any) -> httpx.Response:
        return await self.http.post(
            ORDERS, json={"sku": "mug", "email": "ada@acme.example"} | fields
        )

    async def ended(self, job_id: str) -> dict[str, Any]:
        """Wait for a job's end; returns its record, by the shop's own /jobs."""

        async def look() -> dict[str, Any] | None:
            answer = await self.http.get(f"/jobs/{job_id}")
            job: dict[str, Any] = answer.raise_for_status().json()
            return None if job["status"] in ("pending", "running") else job

        job = await eventually(look, f"the end of {job_id}")
        assert job is not None
        return job

    async def client(self, *arguments: str, token: str = TOKEN) -> Program:
        """Run the client script to its end."""
        return await self.programs.run(
            *arguments,
            command=(sys.executable, "-m", "examples.shop.client"),
            settings={"JOBS_URL": str(self.http.base_url), "JOBS_TOKEN": token},
        )


@pytest.fixture
async def shop(database_dsn: str, tmp_path: Path) -> AsyncIterator[Shop]:
    """The application, a scheduler and a worker, as examples/README.md starts them."""
    settings = {
        "ASYNC_JOBS_DB_DSN": database_dsn,
        "ASYNC_JOBS_USE_CASES": json.dumps(USE_CASES),
        "ASYNC_JOBS_ENQUEUE_AUTH_TOKEN": TOKEN,
        "ASYNC_JOBS_SCHEDULER_INTERVAL_SECONDS": "0.2",
    }
    port = free_port()
    with programs(tmp_path, settings) as starting:
        app = starting.start(
            *("--factory", "examples.shop.app:create_app", "--port", str(port)),
            command=(sys.executable, "-m", "uvicorn"),
        )
        starting.start("scheduler")
        starting.start(
            *("worker", "--queue", "receipts", "--queue", "reports"),
            *("--handlers", "examples.shop.handlers"),
        )
        headers = {"X-Async-Jobs-Token": TOKEN}
        database = await asyncpg.connect(database_dsn)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False
        ) as http:
            await answers(http, app)
            yield Shop(http, database, starting)
        await database.close()


async def answers(http: httpx.AsyncClient, app: Program) -> None:
    """Wait until the application answers; fail at once when it ends instead."""

    async def look() -> bool:
        assert app.process.poll() is None, app.stderr
        try:
            return (await http.get("/health/live")).is_success
        except httpx.TransportError:
            return False

    await eventually(look, "an answer of the application")


async def test_an_order_and_its_receipt_are_one_commit(shop: Shop) -> None:
    """Who buys gets a mail; what was rolled back leaves neither an order nor a job."""
    sold = await shop.order(quantity=2)
    lamp = await shop.order(sku="lamp")
    refused = await shop.order(sku="lamp")
    unknown = await shop.order(sku="sofa")
    jobs = [await shop.ended(answer.json()["receipt_job_id"]) for answer in (sold, lamp)]

    assert [each.status_code for each in (sold, lamp, refused, unknown)] == [201, 201, 409, 404]
    assert [job["status"] for job in jobs] == ["succeeded", "succeeded"]
    assert jobs[0]["result"] == {"receipt": sold.json()["order_id"]}
    assert await shop.database.fetchval("SELECT count(*) FROM shop_orders") == 2
    assert await shop.database.fetchval("SELECT count(*) FROM jobs") == 2
    mails = await shop.database.fetch("SELECT body FROM shop_mails ORDER BY body")
    assert [mail["body"] for mail in mails] == ["1 x lamp: 49.00", "2 x mug: 24.00"]


async def test_a_handler_says_what_becomes_of_its_job(shop: Shop) -> None:
    """A busy provider is asked again, a mailbox that nobody has is given up."""
    busy = (await shop.order(email="busy@acme.example")).json()
    nobody = (await shop.order(email="nobody@acme.example")).json()

    late = await shop.ended(busy["receipt_job_id"])
    dead = await shop.ended(nobody["receipt_job_id"])

    assert (late["status"], late["attempts"]) == ("succeeded", 2)
    assert (dead["status"], dead["attempts"]) == ("dead", 1)
    assert "nobody@" not in json.dumps(dead)


async def test_a_client_gets_its_report(shop: Shop) -> None:
    """Another process asks over HTTP, waits and prints; without the token it is told so."""
    for quantity in (1, 3):
        assert (await shop.order(quantity=quantity)).status_code == 201

    done = await shop.client("acme")
    foreign = await shop.client("other")
    refused = await shop.client("acme", token="another-token")

    assert (done.process.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"orders": 2, "total_cents": 4 * 1200}
    assert json.loads(foreign.stdout) == {"orders": 0, "total_cents": 0}
    assert refused.process.returncode == 1
    assert refused.stderr.startswith("no report: ")
