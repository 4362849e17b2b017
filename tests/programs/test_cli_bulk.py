"""`async-jobs bulk …`, against a database."""

from __future__ import annotations

import json

from async_jobs.entrypoints.settings.names import TOKEN_VARIABLE
from tests.kit.command_line import enqueued, refusal
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
