"""`async-jobs bulk …`, against a database."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from async_jobs.domain.errors import JobNotFoundError
from async_jobs.entrypoints.settings.names import TOKEN_VARIABLE
from async_jobs.host import SystemClock
from async_jobs.testing.builders import a_request
from tests.kit.command_line import enqueued, refusal, serving
from tests.kit.harness import Programs, free_port

WHY = ("--reason", "a mistake", "--actor", "ada")
OF_TYPE = ("--type", "send_email")


async def test_jobs_are_cancelled_and_brought_back(on_database: Programs) -> None:
    """Nobody is asked who cannot be; a scheduler does it."""
    await enqueued(on_database, "send_email")
    run = on_database.run

    unasked = await run("bulk", "cancel", *OF_TYPE, *WHY)
    begun = json.loads(
        (await run("bulk", "cancel", *OF_TYPE, *WHY, "--yes", "--detach", "--json")).stdout
    )
    scheduler = on_database.start("scheduler", "--log-format", "json")
    await scheduler.has_logged("scheduler_started")
    undo = (await run("bulk", "undo", begun["id"], *WHY)).stdout
    listed = (await run("bulk", "list")).stdout

    assert "--yes: 1 jobs match" in refusal(unasked, 2)
    assert (begun["state"], begun["matched"], begun["max"]) == ("running", 1, 1)
    assert (begun["filter"], begun["actor"]) == ({"types": ["send_email"]}, "ada")
    assert "finished, 1 done, 0 skipped, 0 failed" in undo
    assert len(listed.splitlines()) == 3


async def test_jobs_are_cancelled_over_http(on_database: Programs) -> None:
    """In the name of the token; the API needs no more than the database to take it."""
    await enqueued(on_database, "send_email")
    on_database.settings[TOKEN_VARIABLE] = "the-token-of-a-test"
    port = str(free_port())
    api = on_database.start("api", "--port", port, "--log-format", "json")
    await api.has_logged("api_started")
    run, there = on_database.run, ("--url", f"http://127.0.0.1:{port}")
    why = ("--reason", "a mistake")

    begun = json.loads(
        (await run("bulk", "cancel", *OF_TYPE, *why, "--yes", "--detach", "--json", *there)).stdout
    )
    stopped = (await run("bulk", "stop", begun["id"], *why, *there)).stdout

    assert (begun["actor"], begun["address"], begun["matched"]) == ("shared", "127.0.0.1", 1)
    assert f"{begun['id']}  cancel  cancelled" in stopped


async def test_one_job_is_made_due_and_deleted(on_database: Programs) -> None:
    """By operations of one job each, so that the audit tells of them."""
    tomorrow = SystemClock().now() + timedelta(days=1)
    async with serving(on_database) as service:
        request = a_request(use_case="notifications", run_at=tomorrow)
        job_id = (await service.enqueue(request)).job_id
    run, one = on_database.run, str(job_id)
    scheduler = on_database.start("scheduler", "--log-format", "json")
    await scheduler.has_logged("scheduler_started")

    due = (await run("jobs", "run-now", one, *WHY)).stdout
    async with serving(on_database) as service:
        waits = await service.get_job(job_id)
        await service.cancel_job(job_id)
    again = await run("jobs", "run-now", one, *WHY)
    deleted = (await run("jobs", "delete", one, *WHY)).stdout
    async with serving(on_database) as service:
        with pytest.raises(JobNotFoundError):
            await service.get_job(job_id)

    assert (due, deleted) == (f"due now: {one}\n", f"deleted: {one}\n")
    assert waits.run_at < tomorrow - timedelta(hours=1)
    assert f"no job of the id {one} waits for its time" in refusal(again, 1)
