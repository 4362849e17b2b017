"""`status`, `explain` and `jobs explain`: the same against a database and a remote API."""

from __future__ import annotations

import json
from typing import TypeAlias

import pytest

from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.adapters.postgres.tallies import PostgresTallies
from async_jobs.domain.tallies import MINUTE, Batch, Group, floor_of
from async_jobs.entrypoints.settings.names import TOKEN_VARIABLE
from tests.kit.command_line import EXAMPLES, UNKNOWN_ID, WORKER, enqueued, refusal
from tests.kit.harness import Programs, clock, eventually, free_port

Where: TypeAlias = tuple[str, ...]
"""The options that say where the jobs are."""


@pytest.fixture(params=["database", "api"])
async def where(request: pytest.FixtureRequest, on_database: Programs) -> Where:
    """Options for the database, or for an API in a process of its own."""
    if request.param == "database":
        return ("--dsn", on_database.settings["ASYNC_JOBS_DB_DSN"])
    on_database.settings[TOKEN_VARIABLE] = "the-token-of-a-test"
    port = str(free_port())
    api = on_database.start("api", "--port", port, "--log-format", "json")
    await api.has_logged("api_started")
    return ("--url", f"http://127.0.0.1:{port}")


async def test_a_waiting_job_is_explained(on_database: Programs, where: Where) -> None:
    """In sentences and as JSON: nobody schedules, nobody works."""
    job_id = await enqueued(on_database, "send_email")

    told = (await on_database.run("jobs", "explain", job_id, *where)).stdout.splitlines()
    record = json.loads((await on_database.run("jobs", "explain", job_id, "--json", *where)).stdout)
    asking = ("explain", "--use-case", "notifications", "--tenant", "acme")
    waiting = (await on_database.run(*asking, *where)).stdout
    counted = json.loads((await on_database.run(*asking, "--json", *where)).stdout)

    assert told[0] == "No scheduler has ever ticked here: start `async-jobs scheduler`."
    assert "next turn: starts" in told
    assert record["job_id"] == job_id
    assert [reason["code"] for reason in record["reasons"]] == [
        "no_scheduler",
        "no_worker",
        "starts",
    ]
    assert waiting.startswith("1 job waits. No scheduler has ever ticked here")
    assert {each["code"]: each["jobs"] for each in counted["reasons"]} == {
        "no_scheduler": 1,
        "no_worker": 1,
        "starts": 1,
    }


async def test_a_jobs_history_is_told(on_database: Programs) -> None:
    """In lines and as JSON."""
    job_id = await enqueued(on_database, "send_email")

    told = (await on_database.run("jobs", "history", job_id)).stdout.splitlines()
    record = json.loads((await on_database.run("jobs", "history", job_id, "--json")).stdout)

    assert [line.partition(" UTC  ")[2] for line in told] == ["enqueued", "due"]
    assert [each["moment"] for each in record["entries"]] == ["enqueued", "due"]


async def test_a_status_tells_who_is_there(on_database: Programs, where: Where) -> None:
    """Processes by what they announced, and what to do about what is amiss."""
    await enqueued(on_database, "nobody_knows_it")

    before = await on_database.run("status", *where)
    on_database.start("scheduler")
    on_database.start(*WORKER, *EXAMPLES)

    async def told() -> bool:
        answer = json.loads((await on_database.run("status", "--json", *where)).stdout)
        return len(answer["workers"]) == len(answer["schedulers"]) == 1

    await eventually(told, "a scheduler and a worker are there")
    status = json.loads((await on_database.run("status", "--json", *where)).stdout)
    shown = (await on_database.run("status", *where)).stdout
    of_a_stranger = json.loads(
        (await on_database.run("status", "--json", "--tenant", "stranger", *where)).stdout
    )

    assert "warning: No scheduler has ever ticked here" in before.stdout
    assert "which no live worker receives" in before.stdout
    (worker,), (scheduler,) = status["workers"], status["schedulers"]
    assert "send_notification" in worker["types"]
    assert worker["transport"] == scheduler["transport"] == "postgres"
    assert scheduler["limits"] == {"notifications": 8}
    assert scheduler["leads"] == ["notifications"]
    assert worker["worker_id"] in shown
    assert scheduler["scheduler_id"] in shown
    assert (of_a_stranger["workers"], of_a_stranger["schedulers"]) == ([], [])
    assert [each["pending"] for each in of_a_stranger["use_cases"]] == [0]


async def test_what_cannot_be_explained_is_told(on_database: Programs, where: Where) -> None:
    """With the exit code of a failure, and of a wrong use."""
    missing = await on_database.run("jobs", "explain", UNKNOWN_ID, *where)
    nothing = await on_database.run("explain", *where)
    unheard = await on_database.run("explain", "--use-case", "unheard", *where)

    assert UNKNOWN_ID in refusal(missing, 1)
    assert "use_case" in refusal(nothing, 2)
    assert "notifications" in refusal(unheard, 2)


async def test_names_command_no_terminal(on_database: Programs, where: Where) -> None:
    """What would move the cursor, reorder or hide is shown as JSON's escapes."""
    name = "\u202e\u200bseen\u2028"
    job_id = await enqueued(on_database, name, tenant_id=name)

    told = [
        (await on_database.run(*asking, *where)).stdout
        for asking in (
            ("jobs", "explain", job_id),
            ("jobs", "explain", job_id, "--json"),
            ("explain", "--tenant", name),
            ("status",),
            ("status", "--json"),
            ("top", "--once"),
        )
    ]

    assert "".join(told).replace("\n", "").isprintable()
    assert json.loads(told[1])["tenant_id"] == name


async def test_jobs_are_searched_for(on_database: Programs) -> None:
    """By flags and by JSON."""
    job_id = await enqueued(on_database, "send_email")
    asking = ("--type", "send_email", "--since", "1h", "--filter", '{"attempts_max": 0}')

    page = json.loads((await on_database.run("jobs", "search", *asking, "--json")).stdout)

    assert [each["id"] for each in page["jobs"]] == [job_id]
    assert page["complete"]


async def test_attainment_is_told(on_database: Programs, where: Where) -> None:
    """As far as processes have told what they counted."""
    starting = floor_of(clock.now(), MINUTE)
    group = Group(starting, "notifications", "acme", "send_email")
    async with await create_pool(on_database.settings["ASYNC_JOBS_DB_DSN"], max_size=1) as pool:
        await PostgresTallies(pool).add(Batch("one", 1, {group: [1_000]}), at=starting)

    told = await on_database.run(
        "attainment", "--since", "90m", "--step", "1d", "--by", "type", "--by", "tenant_id", *where
    )

    headings, row = told.stdout.splitlines()
    assert headings.split()[:6] == ["starting", "tenant", "type", "on", "time", "starts"]
    assert row.split()[2:] == ["UTC", "acme", "send_email", "-", *"000", "-", "-", "1,000", *"0000"]
