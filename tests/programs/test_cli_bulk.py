"""`async-jobs bulk …`, against a database."""

from __future__ import annotations

import json

from tests.kit.command_line import enqueued, refusal
from tests.kit.harness import Programs

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
