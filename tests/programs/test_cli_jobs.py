"""`async-jobs jobs …`: the same against a database and against a remote API."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from async_jobs.entrypoints.settings.names import TOKEN_VARIABLE
from async_jobs.host import SystemClock
from tests.kit.command_line import ENQUEUE, EXAMPLES, UNKNOWN_ID, WORKER, enqueued, refusal
from tests.kit.harness import Programs, eventually, free_port

Where: TypeAlias = tuple[str, ...]
"""The options that say where the jobs are."""

TOKEN = "the-token-of-a-test"


@pytest.fixture(params=["database", "api"])
async def where(request: pytest.FixtureRequest, on_database: Programs) -> Where:
    """Options for the database, or for an API in a process of its own."""
    if request.param == "database":
        dsn = on_database.settings["ASYNC_JOBS_DB_DSN"]
        return ("--dsn", dsn)
    on_database.settings[TOKEN_VARIABLE] = TOKEN
    port = str(free_port())
    api = on_database.start("api", "--port", port, "--log-format", "json")
    await api.has_logged("api_started")
    return ("--url", f"http://127.0.0.1:{port}")


async def test_a_job_is_enqueued_shown_cancelled_and_retried(
    on_database: Programs, where: Where
) -> None:
    """Each command prints the job as it then stands."""
    enqueueing = await on_database.run(*ENQUEUE, *where, "--payload", '{"to": "a@b.example"}')
    job_id = enqueueing.stdout.strip()
    printed = [
        json.loads((await on_database.run("jobs", command, job_id, *where)).stdout)
        for command in ("show", "cancel", "cancel", "retry")
    ]

    assert {job["id"] for job in printed} == {job_id}
    assert printed[0]["payload"] == {"to": "a@b.example"}
    assert [job["status"] for job in printed] == ["pending", "cancelled", "cancelled", "pending"]


async def test_a_job_for_later_brings_its_own_id_and_headers(
    on_database: Programs, where: Where
) -> None:
    """A call that is repeated enqueues nothing more."""
    tomorrow = (SystemClock().now() + timedelta(days=1)).replace(microsecond=0)
    local = tomorrow.astimezone(timezone(timedelta(hours=1)))
    own = ("--id", UNKNOWN_ID, "--run-at", local.isoformat())
    enqueueing = (*ENQUEUE, *where, *own, "--header", "trace=a=b", "--header", "who=me")

    printed = [(await on_database.run(*enqueueing)).stdout.strip() for _ in range(2)]
    job = json.loads((await on_database.run("jobs", "show", UNKNOWN_ID, *where)).stdout)

    assert printed == [UNKNOWN_ID] * 2
    assert datetime.fromisoformat(job["run_at"]) == tomorrow
    assert job["headers"] == {"trace": "a=b", "who": "me"}


async def test_several_jobs_are_cancelled_and_retried_at_once(
    on_database: Programs, where: Where
) -> None:
    """What one of them is not fit for is told by its id, and keeps the others from nothing."""
    ids = [await enqueued(on_database, "send_email") for _ in range(2)]
    cancelled = await on_database.run("jobs", "cancel", *ids, ids[0], *where)
    await on_database.run("jobs", "retry", ids[0], *where)

    retried = await on_database.run("jobs", "retry", ids[0], UNKNOWN_ID, ids[1], *where)

    assert cancelled.process.returncode == 0, cancelled.stderr
    assert cancelled.stdout.count('"status": "cancelled"') == 2
    assert retried.process.returncode == 1
    assert [json.loads(retried.stdout)[name] for name in ("id", "status")] == [ids[1], "pending"]
    assert retried.stderr.splitlines() == [
        f"error: job {ids[0]}: a job that is pending cannot be retried",
        f"error: no job has the id {UNKNOWN_ID}",
    ]


async def test_an_outlook_is_printed_and_nothing_enqueued(
    on_database: Programs, where: Where
) -> None:
    """As JSON; while no worker is alive nothing can be met."""
    await enqueued(on_database, "send_email")
    asking = ("jobs", "outlook", *ENQUEUE[2:], "--delay-tolerance-seconds", "3600")

    outlook = json.loads((await on_database.run(*asking, *where)).stdout)
    listed = json.loads((await on_database.run("jobs", "list", "--json", *where)).stdout)

    assert (outlook["ahead"], outlook["can_be_met"]) == (1, False)
    assert outlook["expected_start_in_seconds"] is None
    assert len(listed["jobs"]) == 1


async def test_jobs_are_listed_a_page_at_a_time(on_database: Programs, where: Where) -> None:
    """As JSON for scripts."""
    ids = [await enqueued(on_database, "send_email") for _ in range(2)]
    listing = ("jobs", "list", "--json", "--limit", "1")

    first = json.loads((await on_database.run(*listing, *where)).stdout)
    cursor = ("--cursor", first["next_cursor"])
    second = json.loads((await on_database.run(*listing, *cursor, *where)).stdout)

    assert [[job["id"] for job in page["jobs"]] for page in (first, second)] == [[ids[1]], [ids[0]]]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("headers = '7'", "headers must be a JSON object (TypeError)"),
        (
            "payload = '{\"a\": 1e400}'",
            "payload must be a JSON object of finite numbers (ValueError)",
        ),
    ],
)
async def test_a_row_that_cannot_be_read_hides_no_other(
    on_database: Programs, database_dsn: str, where: Where, damage: str, why: str
) -> None:
    """Nor does it end the command or the API; it is listed with what of it can be told."""
    good, bad = [await enqueued(on_database, "send_email") for _ in range(2)]
    operator = await asyncpg.connect(database_dsn)
    await operator.execute(f"UPDATE jobs SET {damage} WHERE id = $1", UUID(bad))
    await operator.close()

    listed = json.loads((await on_database.run("jobs", "list", "--json", *where)).stdout)
    table = (await on_database.run("jobs", "list", "--tenant", "acme", *where)).stdout
    missing = refusal(await on_database.run("jobs", "show", bad, *where), 1)

    assert [job["id"] for job in listed["jobs"]] == [good]
    assert listed["unreadable"] == [
        {
            "id": bad,
            "tenant_id": "acme",
            "use_case": "notifications",
            "status": "pending",
            "problem": why,
        }
    ]
    assert [line.split()[0] for line in table.splitlines()[1:]] == [bad, good]
    assert table.splitlines()[1].endswith(f"unreadable: {why}")
    assert missing.splitlines()[-1] == f"error: the row of job {bad} cannot be read: {why}"


async def test_that_no_scheduler_ticks_is_told(on_database: Programs) -> None:
    """To whoever looks at jobs that wait; not while a scheduler is there."""
    job_id = await enqueued(on_database, "send_email")
    warning = "warning: no scheduler has ticked"

    before = [await on_database.run("jobs", *each) for each in (("list",), ("show", job_id))]
    scheduler = on_database.start("scheduler", "--log-format", "json")

    async def has_ticked() -> bool:
        return warning not in (await on_database.run("jobs", "list")).stderr

    await eventually(has_ticked, "a scheduler says that it ticks")
    scheduler.terminate()
    changed = await on_database.run("jobs", "cancel", job_id)
    ended = await on_database.run("jobs", "list")

    assert [each.stderr for each in before] == [f"{warning}: pending jobs wait for one\n"] * 2
    assert await scheduler.ended() == 0
    assert changed.stderr + ended.stderr == ""


async def test_that_nobody_will_run_a_job_is_told_to_whoever_enqueues_it(
    on_database: Programs,
) -> None:
    """Once, beside its id; not while there are those who will."""
    no_scheduler = "warning: no scheduler has ticked: pending jobs wait for one\n"
    no_worker = "warning: no live worker receives the queue 'notifications': its jobs wait for one"

    before = await on_database.run(*ENQUEUE)
    on_database.start("scheduler")
    on_database.start(*WORKER, *EXAMPLES)

    async def is_quiet() -> bool:
        return (await on_database.run(*ENQUEUE)).stderr == ""

    await eventually(is_quiet, "a scheduler and a worker are there")

    assert before.stderr == f"{no_scheduler}{no_worker}\n"
    assert str(UUID(before.stdout.strip())) == before.stdout.strip()


async def test_jobs_are_listed_as_a_table_that_is_cut_off_nowhere(
    on_database: Programs, where: Where
) -> None:
    """Whatever their names look like."""
    names = ["a_type_with_a_name_that_is_rather_long", "[/red] [bold]no markup :smile:"]
    ids = [await enqueued(on_database, name) for name in names]

    listing = await on_database.run(
        "jobs", "list", "--tenant", "acme", "--status", "pending", *where
    )

    _, *lines = listing.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ids[::-1]
    assert all(name in line for name, line in zip(names[::-1], lines, strict=True))


async def test_names_and_payloads_command_no_terminal(on_database: Programs, where: Where) -> None:
    """What would move the cursor, reorder or hide is shown as JSON's escapes."""
    name = "\u202e\u200bseen\u2028"
    job_id = await enqueued(
        on_database, name, tenant_id=name, payload={"text": "\x9b31m\x1b]0;x\x07"}
    )

    listed = (await on_database.run("jobs", "list", *where)).stdout
    shown = (await on_database.run("jobs", "show", job_id, *where)).stdout

    assert (listed + shown).replace("\n", "").isprintable()
    assert listed.count("\\u202e\\u200bseen\\u2028") == 2
    assert json.loads(shown)["payload"] == {"text": "\x9b31m\x1b]0;x\x07"}
    assert json.loads(shown)["tenant_id"] == name


async def test_without_any_database_an_api_is_told_of(cli: Programs) -> None:
    """As `dev` serves one, whose database is its own."""
    del cli.settings["ASYNC_JOBS_DB_DSN"]

    assert refusal(await cli.run("jobs", "list"), 2) == (
        "error: ASYNC_JOBS_DB_DSN: is required (a Postgres URL)\n"
        "error: --url: asks an API instead of a database\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["show", UNKNOWN_ID], 1, f"no job has the id {UNKNOWN_ID}"),
        (["enqueue", "--use-case", "mail"], 2, "use_case: is not configured; known: notifications"),
        (["enqueue", "--payload", "[1]"], 2, "payload: must be an object, not list"),
        (["enqueue", "--payload", "{"], 2, "--payload: must be a JSON object"),
        (["enqueue", "--run-at", "tomorrow"], 2, "--run-at: must be an instant with its offset"),
        (["enqueue", "--run-at", "2030-01-01T00:00:00"], 2, "--run-at: must be an instant with"),
        (["enqueue", "--header", "trace"], 2, "--header: must be NAME=VALUE"),
        (["enqueue", "--priority", "40000"], 2, "priority: must be an integer from -32768"),
    ],
)
async def test_what_a_jobs_command_cannot_do_is_told(
    on_database: Programs, where: Where, arguments: list[str], code: int, told: str
) -> None:
    """In one line that names the field or the job."""
    command = ENQUEUE if arguments[0] == "enqueue" else ("jobs", arguments[0])

    refused = refusal(await on_database.run(*command, *arguments[1:], *where), code)

    assert refused.startswith("error: ")
    assert told in refused
    assert len(refused.splitlines()) == 1


async def test_a_foreign_job_looks_like_a_missing_one(on_database: Programs, where: Where) -> None:
    """Whoever asks for a tenant sees that tenant's jobs only."""
    job_id = await enqueued(on_database, "send_email")

    told = refusal(await on_database.run("jobs", "show", job_id, "--tenant", "other", *where), 1)

    assert told == f"error: no job has the id {job_id}\n"


async def test_a_pending_job_cannot_be_retried(on_database: Programs, where: Where) -> None:
    """The state that forbids it is told."""
    job_id = await enqueued(on_database, "send_email")

    told = refusal(await on_database.run("jobs", "retry", job_id, *where), 1)

    assert told == "error: a job that is pending cannot be retried\n"


async def test_a_full_tenant_is_told_its_quota(on_database: Programs, where: Where) -> None:
    """With how much of it is used."""
    await enqueued(on_database, "send_email", tenant_id="limited")

    told = refusal(await on_database.run(*ENQUEUE, *where, "--tenant", "limited"), 1)

    assert "tenant 'limited' may have 1 pending jobs; it has 1 and asked for 1 more" in told


async def test_a_rule_of_the_database_is_told(
    on_database: Programs, where: Where, database_dsn: str
) -> None:
    """By its name, with the exit code of what failed."""
    connection = await asyncpg.connect(database_dsn)
    await connection.execute(
        "ALTER TABLE jobs ADD CONSTRAINT jobs_one_region CHECK (payload::text NOT LIKE '%mars%')"
    )
    await connection.close()

    told = refusal(await on_database.run(*ENQUEUE, *where, "--payload", '{"to": "mars"}'), 1)

    assert "jobs_one_region" in told
    assert "mars" not in told


# --- a remote API -------------------------------------------------------------------------------


@pytest.fixture
async def url(on_database: Programs) -> str:
    """The address of an API whose token the environment of later commands does not hold."""
    token = {TOKEN_VARIABLE: TOKEN}
    api = on_database.start("api", "--port", "0", "--log-format", "json", settings=token)
    await api.has_logged("api_started")
    return f"http://127.0.0.1:{api.logged('api_started')[0]['port']}"


async def test_a_token_is_an_option_as_well(on_database: Programs, url: str) -> None:
    """For those who have several; the environment's is for the others."""
    listing = ("jobs", "list", "--json", "--url", url)

    told = refusal(await on_database.run(*listing), 1)
    told += refusal(await on_database.run(*listing, "--token", "another"), 1)
    listed = await on_database.run(*listing, "--token", TOKEN)

    required = (
        "error: a valid token is required, in the header X-Async-Jobs-Token; --token or"
        f" {TOKEN_VARIABLE} names the one to use\n"
    )
    assert told == required * 2
    assert json.loads(listed.stdout) == {"jobs": [], "next_cursor": None}


async def test_a_remote_api_needs_no_database(cli: Programs, url: str) -> None:
    """Nothing of this host's settings is read."""
    cli.settings.clear()

    enqueueing = await cli.run(*ENQUEUE, "--url", url, "--token", TOKEN)

    assert enqueueing.process.returncode == 0, enqueueing.stderr
    assert enqueueing.stderr == ""


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--url", "http://127.0.0.1:1"], 1, "http://127.0.0.1:1"),
        (["--url", "jobs.internal"], 2, "must"),
        (["--url", "http://127.0.0.1:1", "--dsn", "postgresql:///"], 2, "--dsn, --url"),
    ],
)
async def test_an_address_that_cannot_be_asked_is_told(
    cli: Programs, options: list[str], code: int, told: str
) -> None:
    """With the address, in one line."""
    refused = refusal(await cli.run("jobs", "list", *options), code)

    assert told in refused
    assert len(refused.splitlines()) == 1
