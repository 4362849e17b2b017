"""The command line: what it does, and what it tells and returns when it cannot do it."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import typer.main
from typer.testing import CliRunner

from async_jobs import (
    AsyncJobsConfig,
    EnqueueJobRequest,
    Job,
    JobService,
    JobStatus,
    PostgresJobStore,
    get_ddl,
)
from async_jobs.adapters.postgres import embedded_host
from async_jobs.adapters.postgres.pool import create_pool
from async_jobs.domain.job import Payload
from async_jobs.entrypoints.cli import app
from tests.integration import handlers_for_tests as handlers
from tests.integration.harness import Program, Programs, eventually, free_port, programs

SECRET = "unguessable-secret"
NOWHERE = f"postgresql://user:{SECRET}@127.0.0.1:1/jobs"
SETTINGS = {
    "ASYNC_JOBS_DB_DSN": NOWHERE,
    "ASYNC_JOBS_USE_CASES": json.dumps({"notifications": {"max_concurrent": 8}}),
    "ASYNC_JOBS_PER_TENANT_QUOTAS": json.dumps({"limited": {"max_pending_jobs": 1}}),
    "ASYNC_JOBS_SCHEDULER_INTERVAL_SECONDS": "0.2",
    "ASYNC_JOBS_WORKER_POLL_INTERVAL_SECONDS": "0.5",
}
WORKER = ("worker", "--queue", "notifications")
EXAMPLES = ("--handlers", "async_jobs.handlers.notifications")
ENQUEUE = (
    *("jobs", "enqueue", "--tenant", "acme"),
    *("--use-case", "notifications", "--type", "send_email"),
)
UNKNOWN_ID = "01a20000-0000-7000-8000-000000000000"


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Programs]:
    """Starts `async-jobs` with a database that nobody runs."""
    with programs(tmp_path, SETTINGS) as starting:
        yield starting


@pytest.fixture
def on_database(cli: Programs, database_dsn: str) -> Programs:
    """Starts `async-jobs` with a migrated database."""
    cli.settings["ASYNC_JOBS_DB_DSN"] = database_dsn
    return cli


def refusal(program: Program, code: int) -> str:
    """Return what a program that failed told: errors only, without a stack trace or a secret."""
    assert program.process.returncode == code, program.stderr
    assert program.stdout == ""
    assert "Traceback" not in program.stderr
    assert SECRET not in program.stderr
    return program.stderr


# --- use ----------------------------------------------------------------------------------------


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command there is, with the words that call it."""
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "async-jobs")
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    """With an example, unless it is only a group of commands."""
    result = CliRunner().invoke(app, [*path, "--help"])

    assert result.exit_code == 0
    assert "Usage" in result.output
    assert "Example" in result.output or hasattr(COMMANDS[path], "commands")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "No such command"),
        (["worker"], "Missing option '--queue'"),
        (["worker", "--queue", "q", "--concurrency", "0"], "--concurrency"),
        (["jobs", "show", "7"], "valid UUID"),
        (["jobs", "list", "--limit", "1001"], "--limit"),
        (["jobs", "list", "--status", "lost"], "--status"),
    ],
)
def test_wrong_use_is_told(arguments: list[str], told: str) -> None:
    """With exit code 2, as everywhere."""
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 2
    assert told in re.sub(r"[│\s]+", " ", result.output)


@pytest.mark.parametrize("name", ["async-jobs-scheduler", "async-jobs-worker"])
async def test_the_programs_by_themselves_run_until_sigterm(
    on_database: Programs, name: str
) -> None:
    """They are the subcommands under a name of their own, for process managers."""
    subcommand = name.removeprefix("async-jobs-")
    arguments = () if subcommand == "scheduler" else (*WORKER[1:], *EXAMPLES)
    command = (str(Path(sys.executable).with_name(name)),)
    program = on_database.start(*arguments, "--log-format", "json", command=command)
    await program.has_logged(f"{subcommand}_started")
    program.terminate()

    assert await program.ended() == 0
    assert program.logged(f"{subcommand}_stopped")


# --- configuration ------------------------------------------------------------------------------


async def test_every_wrong_setting_is_told_at_once_by_name(cli: Programs) -> None:
    """Whoever mends them needs one try."""
    cli.settings |= {
        "ASYNC_JOBS_LEASE_DURATION_SECONDS": "soon",
        "ASYNC_JOBS_WORKER_CONCURRENCY": "0",
        "ASYNC_JOBS_USE_CASES": '{"mail": {"max_concurrent": -1, "tolerance": 3}}',
        "ASYNC_JOBS_PER_TENANT_QUOTAS": f"{{{SECRET}",
        "ASYNC_JOBS_LABELS_MAX_CONCURRENT": "3",
    }

    told = refusal(await cli.run("scheduler"), 2)

    assert all(line.startswith("error: ASYNC_JOBS_") for line in told.splitlines())
    for expected in (
        "ASYNC_JOBS_LEASE_DURATION_SECONDS: ",
        "ASYNC_JOBS_WORKER_CONCURRENCY: ",
        "ASYNC_JOBS_USE_CASES: mail.max_concurrent: must be from 0",
        "ASYNC_JOBS_USE_CASES: mail.tolerance is unknown; known: ",
        "ASYNC_JOBS_PER_TENANT_QUOTAS: must be JSON",
        "ASYNC_JOBS_LABELS_MAX_CONCURRENT: names no declared use case; declared: mail",
    ):
        assert expected in told


async def test_a_missing_dsn_is_told(cli: Programs) -> None:
    """It is the one setting without a default."""
    del cli.settings["ASYNC_JOBS_DB_DSN"]

    assert refusal(await cli.run("migrate"), 2) == (
        "error: ASYNC_JOBS_DB_DSN: is required (a Postgres URL)\n"
    )


async def test_an_unknown_setting_is_warned_about(on_database: Programs) -> None:
    """It may be a typing error, or meant for another version."""
    on_database.settings["ASYNC_JOBS_LEASE_DURATION"] = "60"
    program = on_database.start("scheduler", "--log-format", "json")
    await program.has_logged("unknown_variables")

    assert program.logged("unknown_variables")[0]["names"] == ["ASYNC_JOBS_LEASE_DURATION"]


async def test_a_scheduler_without_use_cases_is_told_how_to_declare_one(
    on_database: Programs,
) -> None:
    """There would be nothing to do for it."""
    del on_database.settings["ASYNC_JOBS_USE_CASES"]

    told = refusal(await on_database.run("scheduler"), 2)

    assert "error: no use case is declared: set ASYNC_JOBS_USE_CASES" in told


async def test_a_worker_of_a_queue_that_nobody_feeds_is_told_the_known_ones(cli: Programs) -> None:
    """A typing error would leave it idle for ever."""
    told = refusal(await cli.run("worker", "--queue", "notification", *EXAMPLES), 2)

    assert told == "error: --queue: 'notification' is fed by no use case; known: notifications\n"


async def test_a_health_port_that_is_taken_is_told(on_database: Programs) -> None:
    """An orchestrator would wait for the other program's answers."""
    port = str(free_port())
    first = on_database.start("scheduler", "--health-port", port, "--log-format", "json")
    await first.has_logged("scheduler_started")

    told = refusal(await on_database.run("scheduler", "--health-port", port), 2)

    assert re.search(rf"^error: --health-port: nothing can listen on .*{port}$", told, re.MULTILINE)


# --- the database -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["scheduler"], [*WORKER, *EXAMPLES], ["jobs", "list"]],
    ids=["scheduler", "worker", "list"],
)
async def test_an_unreachable_database_is_told_with_its_address(
    cli: Programs, arguments: list[str]
) -> None:
    """It may come back, so this is a failure and not wrong use."""
    told = refusal(await cli.run(*arguments), 1)

    assert told.startswith("error: the database did not answer: ")
    assert told.endswith(" (at 127.0.0.1:1)\n")


async def test_an_address_that_is_none_is_told_without_being_repeated(cli: Programs) -> None:
    """A password may be in it."""
    cli.settings["ASYNC_JOBS_DB_DSN"] = f"mysql://user:{SECRET}@localhost/jobs"

    told = refusal(await cli.run("migrate"), 2)

    assert told.startswith("error: the database's address is malformed: ")


@pytest.mark.parametrize(
    "arguments", [["scheduler"], [*WORKER, *EXAMPLES]], ids=["scheduler", "worker"]
)
async def test_a_program_on_an_unmigrated_database_is_told_what_to_do(
    cli: Programs, empty_database_dsn: str, arguments: list[str]
) -> None:
    """It ends; whoever watches it starts it again."""
    cli.settings["ASYNC_JOBS_DB_DSN"] = empty_database_dsn

    told = refusal(await cli.run(*arguments), 2)

    assert told.splitlines()[-1].startswith("error: the database lacks the async_jobs schema")
    assert told.splitlines()[-1].endswith("run: async-jobs migrate")


async def test_a_program_may_migrate_before_it_starts(
    cli: Programs, empty_database_dsn: str
) -> None:
    """One command is enough on a new database."""
    cli.settings["ASYNC_JOBS_DB_DSN"] = empty_database_dsn
    cli.start(*WORKER, *EXAMPLES, "--init-db")

    async with asyncpg.create_pool(empty_database_dsn, min_size=1) as pool:
        await has_a_worker(pool)


async def has_a_worker(pool: asyncpg.Pool) -> None:
    async def look() -> bool:
        try:
            return bool(await pool.fetchval("SELECT count(*) FROM workers"))
        except asyncpg.UndefinedTableError:
            return False

    await eventually(look, "a worker announces itself")


async def test_migrate_prints_the_schema_without_a_database(cli: Programs) -> None:
    """For teams that migrate with a tool of their own."""
    cli.settings.clear()
    program = await cli.run("migrate", "--print")

    assert program.process.returncode == 0
    assert program.stdout == get_ddl()


# --- handlers -----------------------------------------------------------------------------------

MODULES = {
    "raises_on_import": "raise RuntimeError('no licence')",
    "is_no_python": "def (",
    "registers_nothing": "",
}


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("no_such_module", "'no_such_module' cannot be imported: ModuleNotFoundError: "),
        ("raises_on_import", "cannot be imported: RuntimeError: no licence"),
        ("is_no_python", "cannot be imported: SyntaxError: "),
        ("registers_nothing", "importing registers_nothing registered none"),
    ],
)
async def test_handlers_that_do_not_import_are_told(
    cli: Programs, tmp_path: Path, module: str, told: str
) -> None:
    """By the module's name and the reason; before anything is received."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)

    program = await cli.run(*WORKER, "--handlers", module, cwd=tmp_path)

    assert told in refusal(program, 2)


async def test_the_level_debug_adds_the_stack_trace(cli: Programs, tmp_path: Path) -> None:
    """Whoever asks for the whole story gets it, after the message."""
    (tmp_path / "broken.py").write_text("raise RuntimeError('no licence')")

    program = await cli.run(*WORKER, "--handlers", "broken", "--log-level", "debug", cwd=tmp_path)

    assert program.process.returncode == 2
    assert program.stderr.startswith("error: ASYNC_JOBS_HANDLERS_MODULE: 'broken' cannot be")
    assert "Traceback (most recent call last)" in program.stderr


async def test_a_job_of_an_unknown_type_waits_for_a_worker_that_knows_it(
    on_database: Programs, tmp_path: Path
) -> None:
    """It is never ended by a bystander, and is charged nothing; somebody is told."""
    on_database.start("scheduler")
    worker = on_database.start(*WORKER, *EXAMPLES, "--log-format", "json")
    job_id = await enqueued(on_database, "succeed")

    await worker.has_logged("handler_missing")
    told = worker.logged("handler_missing")[0]
    waiting = await become(on_database, job_id, JobStatus.PENDING)

    assert (told["job_id"], told["type"], told["level"]) == (job_id, "succeed", "warning")
    assert (waiting.attempts, waiting.last_error) == (0, None)
    assert waiting.run_at > datetime.fromisoformat(told["at"])


async def test_a_payload_that_does_not_fit_ends_its_job_with_the_reason(
    on_database: Programs,
) -> None:
    """The reason names fields and never values."""
    on_database.start("scheduler")
    worker = on_database.start(*WORKER, *EXAMPLES, "--log-format", "json")
    job_id = await enqueued(on_database, "send_email", payload={"too": SECRET})

    await worker.has_logged("job_died")
    job = await become(on_database, job_id, JobStatus.DEAD)

    assert job.last_error is not None
    assert job.last_error.startswith("invalid payload: payload.to: Field required")
    assert job.attempts == 1
    assert SECRET not in job.last_error + worker.stderr


# --- jobs ---------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(cli: Programs) -> AsyncIterator[JobService]:
    """Yield a service on the programs' database."""
    config = AsyncJobsConfig.from_env(cli.settings)
    async with await create_pool(config.db_dsn) as pool:
        yield JobService(config, PostgresJobStore(pool))


async def enqueued(
    cli: Programs, type: str, *, tenant_id: str = "acme", payload: Payload | None = None
) -> str:
    """Enqueue a job; returns its id."""
    request = EnqueueJobRequest(
        tenant_id=tenant_id, use_case="notifications", type=type, payload=payload or {}
    )
    async with serving(cli) as service:
        return str((await service.enqueue(request)).job_id)


async def become(cli: Programs, job_id: str, status: JobStatus) -> Job:
    """Return a job once it has the status."""
    async with serving(cli) as service:

        async def look() -> Job | None:
            job = await service.get_job(UUID(job_id))
            return job if job.status is status else None

        job = await eventually(look, f"job {job_id} is {status}")
        assert job is not None
        return job


async def test_a_job_is_enqueued_shown_cancelled_and_retried(on_database: Programs) -> None:
    """Each command prints the job as it then stands."""
    enqueueing = await on_database.run(*ENQUEUE, "--payload", '{"to": "a@b.example"}')
    job_id = enqueueing.stdout.strip()
    printed = [
        json.loads((await on_database.run("jobs", command, job_id)).stdout)
        for command in ("show", "cancel", "cancel", "retry")
    ]

    assert {job["id"] for job in printed} == {job_id}
    assert printed[0]["payload"] == {"to": "a@b.example"}
    assert [job["status"] for job in printed] == ["pending", "cancelled", "cancelled", "pending"]


async def test_jobs_are_listed_a_page_at_a_time(on_database: Programs) -> None:
    """As JSON for scripts."""
    ids = [await enqueued(on_database, "send_email") for _ in range(2)]
    listing = ("jobs", "list", "--json", "--limit", "1")

    first = json.loads((await on_database.run(*listing)).stdout)
    cursor = ("--cursor", first["next_cursor"])
    second = json.loads((await on_database.run(*listing, *cursor)).stdout)

    assert [[job["id"] for job in page["jobs"]] for page in (first, second)] == [[ids[1]], [ids[0]]]
    assert second["next_cursor"] is None


async def test_jobs_are_listed_as_a_table_that_is_cut_off_nowhere(on_database: Programs) -> None:
    """Whatever their names look like."""
    names = ["a_type_with_a_name_that_is_rather_long", "[/red] [bold]no markup :smile:"]
    ids = [await enqueued(on_database, name) for name in names]

    listing = await on_database.run("jobs", "list", "--tenant", "acme", "--status", "pending")

    _, *lines = listing.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ids[::-1]
    assert all(name in line for name, line in zip(names[::-1], lines, strict=True))


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["show", UNKNOWN_ID], 1, f"no job has the id {UNKNOWN_ID}"),
        (["enqueue", "--use-case", "mail"], 2, "'mail' is not configured; known: notifications"),
        (["enqueue", "--payload", "[1]"], 2, "payload: must be an object, not list"),
        (["enqueue", "--payload", "{"], 2, "--payload: must be a JSON object"),
        (["enqueue", "--priority", "40000"], 2, "priority: must be an integer from -32768"),
    ],
)
async def test_what_a_jobs_command_cannot_do_is_told(
    on_database: Programs, arguments: list[str], code: int, told: str
) -> None:
    """In one line that names the field or the job."""
    command = ENQUEUE if arguments[0] == "enqueue" else ("jobs", arguments[0])

    refused = refusal(await on_database.run(*command, *arguments[1:]), code)

    assert refused.startswith("error: ")
    assert told in refused
    assert len(refused.splitlines()) == 1


async def test_a_foreign_job_looks_like_a_missing_one(on_database: Programs) -> None:
    """Whoever asks for a tenant sees that tenant's jobs only."""
    job_id = await enqueued(on_database, "send_email")

    told = refusal(await on_database.run("jobs", "show", job_id, "--tenant", "other"), 1)

    assert told == f"error: no job has the id {job_id}\n"


async def test_a_pending_job_cannot_be_retried(on_database: Programs) -> None:
    """The state that forbids it is told."""
    job_id = await enqueued(on_database, "send_email")

    told = refusal(await on_database.run("jobs", "retry", job_id), 1)

    assert told == "error: Retried cannot happen to a job that is pending\n"


async def test_a_full_tenant_is_told_its_quota(on_database: Programs) -> None:
    """With how much of it is used."""
    await enqueued(on_database, "send_email", tenant_id="limited")

    told = refusal(await on_database.run(*ENQUEUE, "--tenant", "limited"), 1)

    assert "tenant 'limited' may have 1 pending jobs; it has 1 and asked for 1 more" in told


# --- logs ---------------------------------------------------------------------------------------


async def test_json_logs_are_one_object_a_line(on_database: Programs, tmp_path: Path) -> None:
    """Those of other packages and those of failing handlers included."""
    on_database.settings |= {
        handlers.EXECUTIONS_VARIABLE: str(tmp_path / "executions"),
        "ASYNC_JOBS_HANDLERS_MODULE": handlers.__name__,
    }
    logged = ("--log-format", "json", "--log-level", "debug")
    scheduler = on_database.start("scheduler", *logged, "--health-port", str(free_port()))
    worker = on_database.start(*WORKER, *logged)
    job_id = await enqueued(on_database, "reject")
    await worker.has_logged("job_died")
    for program in (scheduler, worker):
        program.terminate()
        assert await program.ended() == 0

    records = scheduler.logs + worker.logs

    assert {"event", "level", "logger", "timestamp"} <= set.intersection(*map(set, records))
    died = worker.logged("job_died")[0]
    assert (died["job_id"], died["level"]) == (job_id, "warning")
    assert {record["logger"] for record in records} > {"async_jobs"}


# --- all in one ---------------------------------------------------------------------------------


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that the user who runs Postgres can reach, as pytest's own are not."""
    parent = next(embedded_host._scratch_parents(durable=False))
    with tempfile.TemporaryDirectory(prefix="async_jobs-test-", dir=parent) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def exported(text: str) -> Mapping[str, str]:
    """Return the variables that a text tells to export."""
    return dict(re.findall(r"export (\w+)='(.*)'", text))


async def test_dev_runs_what_its_own_words_enqueue(cli: Programs, home: Path) -> None:
    """Postgres, scheduler and worker in one process, until SIGTERM; the data stays."""
    cli.settings.clear()
    dev = cli.start("dev", "--data-dir", str(home))

    async def tells_how() -> Mapping[str, str]:
        assert dev.process.poll() is None, dev.stderr
        return exported(dev.stdout) if "press Ctrl-C to stop" in dev.stdout else {}

    cli.settings |= await eventually(tells_how, "dev tells how to use it")
    job_id = await enqueued(cli, "send_email", payload={"to": "a@b.example"})
    await become(cli, job_id, JobStatus.SUCCEEDED)
    dev.terminate()
    code = await dev.ended()

    assert code == 0
    assert "Traceback" not in dev.stderr
    refusal(await cli.run("jobs", "list"), 1)  # nobody answers any more


async def test_dev_in_memory_runs_until_sigterm(cli: Programs) -> None:
    """It needs nothing, and keeps nothing."""
    cli.settings.clear()
    dev = cli.start("dev", "--memory")

    async def runs() -> bool:
        assert dev.process.poll() is None, dev.stderr
        return "running in memory" in dev.stdout

    await eventually(runs, "dev runs")
    dev.terminate()

    assert await dev.ended() == 0
    assert "Traceback" not in dev.stderr


async def test_the_demo_ends_as_planned(cli: Programs) -> None:
    """A whole system, in a minute, without a word of configuration."""
    cli.settings.clear()

    demo = await cli.run("demo", "--jobs", "200")

    assert demo.process.returncode == 0, demo.stdout + demo.stderr
    assert "all 200 jobs ended as planned; none was lost" in demo.stdout
