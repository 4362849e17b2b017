"""The command line: what it does, and what it tells and returns when it cannot do it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import typer.main
from typer.testing import CliRunner

from async_jobs import (
    JobStatus,
    get_ddl,
)
from async_jobs.adapters.postgres.turn import lock_key
from async_jobs.domain.bounds import RUN_AT_AHEAD_MAX
from async_jobs.entrypoints.cli.main import app
from tests.kit.command_line import (
    EXAMPLES,
    SECRET,
    WORKER,
    become,
    enqueued,
    refusal,
)
from tests.kit.harness import Programs, eventually, free_port
from tests.programs import handlers_for_tests as handlers

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


def test_an_instant_in_a_help_text_comes_with_its_bound() -> None:
    """The one that shows how it is written is further ahead than is allowed."""
    result = CliRunner(env={"COLUMNS": "250"}).invoke(app, ["jobs", "enqueue", "--help"])

    assert f"at most {RUN_AT_AHEAD_MAX.days} days ahead" in result.output


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
    """It may be a typing error, or meant for another version; so is one that changes nothing."""
    on_database.settings |= {"ASYNC_JOBS_LEASE_DURATION": "60", "ASYNC_JOBS_METRICS_PORT": "9464"}
    program = on_database.start("scheduler", "--log-format", "json")
    await program.has_logged("scheduler_started")

    assert program.logged("unknown_variables")[0]["names"] == ["ASYNC_JOBS_LEASE_DURATION"]
    assert program.logged("variable_not_used")[0]["variable"] == "ASYNC_JOBS_METRICS_PORT"


async def test_a_scheduler_without_use_cases_is_told_how_to_declare_one(
    on_database: Programs,
) -> None:
    """There would be nothing to do for it."""
    del on_database.settings["ASYNC_JOBS_USE_CASES"]

    told = refusal(await on_database.run("scheduler"), 2)

    assert "error: no use case is declared: set ASYNC_JOBS_USE_CASES" in told


async def test_a_scheduler_that_cannot_reach_a_queue_is_told_what_to_set(
    on_database: Programs,
) -> None:
    """Once SQS carries one queue, it carries all; no job has to come first to find out."""
    on_database.settings |= {
        "ASYNC_JOBS_SQS_QUEUE_MAIL": "https://sqs.eu-central-1.amazonaws.com/123456789012/mail",
    }

    scheduler = await on_database.run("scheduler")

    assert scheduler.process.returncode == 2
    assert "set ASYNC_JOBS_SQS_QUEUE_NOTIFICATIONS, or" in scheduler.stderr.splitlines()[-1]
    assert "scheduler_started" not in scheduler.stderr


async def test_a_worker_of_a_queue_that_nobody_feeds_is_told_the_known_ones(cli: Programs) -> None:
    """A typing error would leave it idle for ever."""
    told = refusal(await cli.run("worker", "--queue", "notification", *EXAMPLES), 2)

    assert told == "error: the queue 'notification' is fed by no use case; known: notifications\n"


async def test_a_health_port_that_is_taken_is_told(on_database: Programs) -> None:
    """An orchestrator would wait for the other program's answers."""
    port = str(free_port())
    first = on_database.start("scheduler", "--health-port", port, "--log-format", "json")
    await first.has_logged("scheduler_started")

    told = refusal(await on_database.run("scheduler", "--health-port", port), 2)

    assert re.search(rf"^error: --health-port: nothing can listen on .*{port} ", told, re.MULTILINE)


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

    assert told == (
        "error: the database's address must begin with postgresql:// (or postgres://);"
        " its scheme is mysql\n"
    )


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


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("migrate",), 1),
        (("scheduler", "--init-db"), 0),
        ((*WORKER, *EXAMPLES, "--init-db"), 0),
        (("api", "--no-auth", "--port", "0", "--init-db"), 0),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
async def test_a_program_that_waits_for_a_migration_ends_at_sigterm(
    cli: Programs, empty_database_dsn: str, command: tuple[str, ...], code: int
) -> None:
    """It has a handler from the start: as process number 1 it would not hear of it otherwise."""
    cli.settings["ASYNC_JOBS_DB_DSN"] = empty_database_dsn
    connection = await asyncpg.connect(empty_database_dsn)
    try:
        async with connection.transaction():
            key = lock_key("migrate", "")
            await connection.execute("SELECT pg_advisory_xact_lock($1)", key)
            program = cli.start(*command)

            async def waits() -> bool:
                return bool(
                    await connection.fetchval(
                        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                    )
                )

            await eventually(waits, "it waits for the lock")
            program.terminate()
            assert await program.ended(seconds=30) == code
        table = await connection.fetchval("SELECT to_regclass('jobs')")
    finally:
        await connection.close()

    assert table is None
    assert "Traceback" not in program.stderr


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


async def test_a_module_that_exits_is_told(cli: Programs, tmp_path: Path) -> None:
    """By its name and the place: else a worker would end as if all were well."""
    (tmp_path / "leaves.py").write_text("import sys\n\nsys.exit(0)\n")

    program = await cli.run(*WORKER, "--handlers", "leaves", cwd=tmp_path)

    told = refusal(program, 2)
    assert "'leaves' cannot be imported: SystemExit: 0" in told
    assert f"({tmp_path / 'leaves.py'}:3)" in told


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import json\n\njson.loads('{')\n", 3),
        ("from async_jobs import job_registry\n\n\n@job_registry.handler\ndef f(c, p): ...\n", 4),
    ],
    ids=["a library", "this one"],
)
async def test_where_a_module_broke_off_is_told_by_its_own_line(
    cli: Programs, tmp_path: Path, text: str, line: int
) -> None:
    """Not by one of what it called."""
    (tmp_path / "breaks.py").write_text(text)

    program = await cli.run(*WORKER, "--handlers", "breaks", cwd=tmp_path)

    assert f"({tmp_path / 'breaks.py'}:{line})" in refusal(program, 2)


async def test_a_module_may_run_a_loop_of_its_own(on_database: Programs, tmp_path: Path) -> None:
    """Handlers are imported before there is another; and a thread that they leave keeps nobody."""
    (tmp_path / "loads_secrets.py").write_text(
        "import asyncio, threading\n"
        "from async_jobs.handlers import notifications\n"
        "asyncio.run(asyncio.sleep(0))\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
    )
    await on_database.run("migrate")
    program = on_database.start(
        *WORKER, "--handlers", "loads_secrets", "--log-format", "json", cwd=tmp_path
    )
    await program.has_logged("worker_started")
    program.terminate()

    assert await program.ended(seconds=40) == 0
    assert program.logged("worker_stopped")


async def test_the_level_debug_adds_the_stack_trace(cli: Programs, tmp_path: Path) -> None:
    """Whoever asks for the whole story gets it, after the message."""
    (tmp_path / "broken.py").write_text("raise RuntimeError('no licence')")

    program = await cli.run(*WORKER, "--handlers", "broken", "--log-level", "debug", cwd=tmp_path)

    assert program.process.returncode == 2
    assert program.stderr.startswith(
        "error: handlers (--handlers, ASYNC_JOBS_HANDLERS_MODULE): 'broken' cannot be"
    )
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
    assert waiting.attempts == 0
    assert waiting.last_error == "no worker that received it has a handler for its type"
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
    assert {record["logger"] for record in records} == {"async_jobs", "an_application"}
