"""The commands that serve the HTTP API: `api`, `token`, `dev`, and the demo."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from async_jobs.adapters.http.wire import Problem
from async_jobs.adapters.postgres import embedded_host
from async_jobs.adapters.postgres.embedded import EmbeddedPostgres
from async_jobs.entrypoints.settings.names import TOKEN_VARIABLE
from tests.kit.command_line import (
    ENQUEUE,
    SECRET,
    enqueued,
    refusal,
)
from tests.kit.harness import Program, Programs, answer, clock, environment, eventually

# --- the API ------------------------------------------------------------------------------------


async def test_an_api_without_a_token_does_not_start(cli: Programs) -> None:
    """Unless somebody says that everybody may come in."""
    told = refusal(await cli.run("api"), 2)

    assert "ASYNC_JOBS_ENQUEUE_AUTH_TOKEN" in told
    assert "--no-auth" in told


async def test_an_api_with_a_token_is_not_for_everybody(cli: Programs) -> None:
    """Whoever sets both is asked which it is to be."""
    cli.settings[TOKEN_VARIABLE] = SECRET

    assert "--no-auth" in refusal(await cli.run("api", "--no-auth"), 2)


async def started_api(cli: Programs, *options: str) -> tuple[Program, int]:
    """Start an API; returns it and its port."""
    api = cli.start("api", "--port", "0", "--log-format", "json", *options)
    await api.has_logged("api_started")
    return api, api.logged("api_started")[0]["port"]


async def test_an_api_for_everybody_asks_nobody(on_database: Programs) -> None:
    """It has its health and its documents, and ends at SIGTERM."""
    api, port = await started_api(on_database, "--no-auth")

    answers = [
        await asyncio.to_thread(answer, port, path)
        for path in ("/health/live", "/health/ready", "/jobs/", "/openapi.json", "/nowhere")
    ]
    api.terminate()

    assert [status for status, _ in answers] == [200, 200, 200, 200, 404]
    assert answers[2][1] == {"jobs": [], "next_cursor": None}
    assert await api.ended() == 0
    assert api.logged("api_stopped")


async def test_a_token_that_was_made_lets_its_tenant_in(on_database: Programs) -> None:
    """The first line is for the caller, the second one for the API; others stay outside."""
    making = await on_database.run("token", "--tenant", "acme", "--scope", "read")
    token, entry = making.stdout.splitlines()
    on_database.settings["ASYNC_JOBS_API_TOKENS"] = f"[{entry}]"
    await enqueued(on_database, "send_email", tenant_id="other")
    job_id = await enqueued(on_database, "send_email", tenant_id="acme")
    api, port = await started_api(on_database)

    status, page = await asyncio.to_thread(answer, port, "/jobs/", token)
    refused, _ = await asyncio.to_thread(answer, port, "/jobs/", entry)

    assert (status, refused) == (200, 401)
    assert [job["id"] for job in page["jobs"]] == [job_id]
    assert token not in api.stderr + entry
    assert json.loads(entry)["tenants"] == ["acme"]


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--scope", "everything"], "scopes"), (["--tenant", ""], "tenants")],
)
async def test_a_token_that_cannot_be_is_not_made(
    cli: Programs, options: list[str], told: str
) -> None:
    """What is wrong is named."""
    assert told in refusal(await cli.run("token", *options), 2)


async def test_an_api_is_not_ready_without_its_database(
    durable_postgres: EmbeddedPostgres, cli: Programs
) -> None:
    """It lives on, says so to its load balancer, and answers 503."""
    cli.settings["ASYNC_JOBS_DB_DSN"] = durable_postgres.dsn
    _, port = await started_api(cli, "--no-auth", "--init-db")
    await asyncio.to_thread(durable_postgres.stop)

    answers = [
        await asyncio.to_thread(answer, port, path)
        for path in ("/health/live", "/health/ready", "/jobs/")
    ]

    assert [status for status, _ in answers] == [200, 503, 503]


# --- all in one ---------------------------------------------------------------------------------


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that the user who runs Postgres can reach, as pytest's own are not."""
    parent = next(embedded_host._scratch_parents(durable=False))
    with tempfile.TemporaryDirectory(prefix="async_jobs-test-", dir=parent) as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def told(dev: Program) -> str:
    """Return what dev tells once it runs."""

    async def look() -> str:
        assert dev.process.poll() is None, dev.stderr
        return dev.stdout if "press Ctrl-C to stop" in dev.stdout else ""

    return await eventually(look, "dev tells how to use it")


def shell(lines: str, directory: Path) -> str:
    """Type lines into a shell; returns what they print."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines],
        cwd=directory,
        env=environment({"PATH": path}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("edit", "lacks"),
    [("DROP TABLE jobs", "jobs"), ("ALTER TABLE jobs DROP COLUMN crashes", "jobs.crashes")],
    ids=["without tables", "older"],
)
async def test_an_api_says_that_a_migration_is_due(
    on_database: Programs, database_dsn: str, edit: str, lacks: str
) -> None:
    """In the log before anybody asks, to its load balancer and to callers: what is to be done.

    Who asks again is told again, and the log is not.
    """
    operator = await asyncpg.connect(database_dsn)
    await operator.execute(edit)
    await operator.close()
    api, port = await started_api(on_database, "--no-auth")
    at_the_start = api.logged("not_ready")

    (status, ready), again, (refused, problem) = [
        await asyncio.to_thread(answer, port, path)
        for path in ("/health/ready", "/health/ready", "/jobs/")
    ]
    listing = await on_database.run("jobs", "list", "--url", f"http://127.0.0.1:{port}")

    assert (status, refused) == (503, 503)
    assert again == (status, ready)
    assert ready == {"status": "not ready", "problem": problem["detail"]}
    assert ready["problem"].endswith("run: async-jobs migrate")
    assert problem["type"] == Problem.UNAVAILABLE
    assert "run: async-jobs migrate" in refusal(listing, 1)
    (told,) = api.logged("not_ready")
    assert [told] == at_the_start
    assert (told["level"], lacks in told["problem"]) == ("error", True)
    assert told["problem"].endswith("run: async-jobs migrate")
    assert [each["level"] for each in api.logged("migration_due")] == ["error"]


async def test_an_api_is_ready_once_its_database_is_migrated(
    cli: Programs, empty_database_dsn: str
) -> None:
    """Nobody has to start it again."""
    cli.settings["ASYNC_JOBS_DB_DSN"] = empty_database_dsn
    _, port = await started_api(cli, "--no-auth")
    before, _ = await asyncio.to_thread(answer, port, "/health/ready")

    await cli.run("migrate")

    assert (before, await asyncio.to_thread(answer, port, "/health/ready")) == (
        503,
        (200, {"status": "ready"}),
    )


@pytest.mark.parametrize("kept", [True, False])
async def test_dev_runs_what_its_own_words_enqueue(
    cli: Programs, home: Path, tmp_path: Path, kept: bool
) -> None:
    """API, scheduler and worker in one process, until SIGTERM, on Postgres or in memory."""
    cli.settings.clear()
    where = ("--data-dir", str(home)) if kept else ("--memory",)
    dev = cli.start("dev", "--port", "0", *where)
    lines = (await told(dev)).partition("in another terminal:\n")[2]
    typed = lines.partition("press Ctrl-C")[0]

    printed = await asyncio.to_thread(shell, typed, tmp_path)
    job_id = json.loads(printed.partition("}")[0] + "}")["job_id"]
    (url,) = re.findall(r"API: +(\S+)", dev.stdout)
    show = f"{typed.partition('export ')[1]}{typed.partition('export ')[2].splitlines()[0]}\n"
    show += f"async-jobs jobs show {job_id} --url {url}"

    async def has_succeeded() -> bool:
        job = json.loads(await asyncio.to_thread(shell, show, tmp_path))
        return bool(job["status"] == "succeeded")

    await eventually(has_succeeded, "the job succeeds")
    dev.terminate()
    code = await dev.ended()

    assert code == 0
    assert job_id in printed.partition("}")[2]
    assert "Traceback" not in dev.stderr


async def test_dev_keeps_its_data_and_a_token_that_was_given(cli: Programs, home: Path) -> None:
    """A second start finds the jobs of the first one."""
    cli.settings = {TOKEN_VARIABLE: "the-token-of-a-team"}
    counted = []
    for _ in range(2):
        dev = cli.start("dev", "--port", "0", "--data-dir", str(home))
        words = await told(dev)
        (url,) = re.findall(r"API: +(\S+)", words)
        assert "the-token-of-a-team" in words
        listed = await cli.run("jobs", "list", "--json", "--url", url)
        counted.append(len(json.loads(listed.stdout)["jobs"]))
        await cli.run(*ENQUEUE, "--url", url)
        dev.terminate()
        assert await dev.ended() == 0

    assert counted == [0, 1]


async def test_dev_says_what_it_waits_for_and_that_it_has_stopped(
    cli: Programs, tmp_path: Path
) -> None:
    """Whoever pressed Ctrl-C sees that it was heard, and what would hurry it."""
    cli.settings = {
        "ASYNC_JOBS_USE_CASES": json.dumps({"mine": {"max_concurrent": 3}}),
        TOKEN_VARIABLE: "a-token",
        "EXECUTIONS_FILE": str(tmp_path / "executions"),
        "GATE_FILE": str(tmp_path / "gate"),
    }
    dev = cli.start(
        *("dev", "--port", "0", "--memory", "--log-format", "json"),
        *("--handlers", "tests.programs.handlers_for_tests"),
    )
    (url,) = re.findall(r"API: +(\S+)", await told(dev))
    await cli.run(
        *("jobs", "enqueue", "--tenant", "acme", "--use-case", "mine"),
        *("--type", "hold", "--url", url),
    )

    async def has_begun() -> bool:
        return (tmp_path / "executions").exists()

    await eventually(has_begun, "the job begins")
    dev.process.send_signal(signal.SIGINT)
    await dev.has_logged("draining")
    (tmp_path / "gate").touch()

    assert await dev.ended() == 0
    assert [line["event"] for line in dev.logs[-3:]] == ["stopping", "draining", "dev_stopped"]
    assert dev.logged("draining")[0]["jobs"] == 1


async def test_a_second_dev_in_one_folder_is_told_of_the_first(cli: Programs, home: Path) -> None:
    """And how to run both; the first one is left alone."""
    cli.settings.clear()
    first = cli.start("dev", "--port", "0", "--data-dir", str(home))
    await told(first)

    second = await cli.run("dev", "--port", "0", "--data-dir", str(home))
    first.terminate()

    assert second.process.returncode == 2
    assert second.stderr.startswith(f"error: --data-dir: another async-jobs dev runs in {home} (")
    assert second.stderr.endswith("a second one needs a --data-dir and a --port of its own\n")
    assert await first.ended() == 0


async def test_dev_runs_handlers_and_use_cases_of_ones_own(cli: Programs, tmp_path: Path) -> None:
    """What the environment says of them counts; what dev does in its own way is told."""
    use_cases = {"mine": {"max_concurrent": 3}}
    cli.settings |= {"ASYNC_JOBS_USE_CASES": json.dumps(use_cases), TOKEN_VARIABLE: "a-token"}
    cli.settings["EXECUTIONS_FILE"] = str(tmp_path / "executions")
    dev = cli.start(
        *("dev", "--port", "0", "--memory", "--log-format", "json"),
        *("--handlers", "tests.programs.handlers_for_tests"),
    )
    words = await told(dev)
    (url,) = re.findall(r"API: +(\S+)", words)
    enqueueing = await cli.run(
        *("jobs", "enqueue", "--tenant", "acme", "--use-case", "mine"),
        *("--type", "succeed", "--url", url),
    )

    async def has_succeeded() -> bool:
        shown = await cli.run("jobs", "show", enqueueing.stdout.strip(), "--url", url)
        return bool(json.loads(shown.stdout)["status"] == "succeeded")

    await eventually(has_succeeded, "the job succeeds")
    dev.terminate()

    assert await dev.ended() == 0
    assert '"use_case": "mine"' in words
    assert [each["variable"] for each in dev.logged("variable_not_used")] == ["ASYNC_JOBS_DB_DSN"]


@pytest.mark.parametrize(("signals", "code"), [(1, 1), (9, 128 + 2)], ids=["once", "again"])
async def test_dev_stops_its_postgres_while_a_handler_blocks_its_loop(
    cli: Programs, home: Path, tmp_path: Path, signals: int, code: int
) -> None:
    """The handler is told of; then Ctrl-C ends all of it within its bound, or at once if repeated.

    So no server is left that nobody stops.
    """
    cli.settings = {
        "ASYNC_JOBS_USE_CASES": json.dumps({"mine": {"max_concurrent": 3}}),
        "ASYNC_JOBS_DRAIN_TIMEOUT_SECONDS": "0",
        TOKEN_VARIABLE: "a-token",
        "EXECUTIONS_FILE": str(tmp_path / "executions"),
        "GATE_FILE": str(tmp_path / "gate"),
    }
    dev = cli.start(
        *("dev", "--port", "0", "--data-dir", str(home), "--log-format", "json"),
        *("--handlers", "tests.programs.handlers_for_tests"),
    )
    words = await told(dev)
    (url,) = re.findall(r"API: +(\S+)", words)
    (dsn,) = re.findall(r"database: +(\S+)", words)
    await cli.run(
        *("jobs", "enqueue", "--tenant", "acme", "--use-case", "mine"),
        *("--type", "hold_the_event_loop", "--url", url),
    )
    await dev.has_logged("loop_blocked")

    async def has_ended() -> bool:
        nonlocal signals
        if signals:
            dev.process.send_signal(signal.SIGINT)
            signals -= 1
        await clock.sleep(0.2)  # a second one right behind the first is the same one
        return dev.process.poll() is not None

    async def is_gone() -> bool:
        try:
            await (await asyncpg.connect(dsn)).close()
        except ConnectionRefusedError:
            return True
        except asyncpg.CannotConnectNowError:
            return False  # it is shutting down
        return False

    await eventually(has_ended, "the end of dev", seconds=30)
    await eventually(is_gone, "the end of its Postgres", seconds=30)

    assert dev.process.returncode == code
    assert dev.logged("loop_blocked")[0]["type"] == "hold_the_event_loop"


async def test_the_demo_ends_as_planned(cli: Programs) -> None:
    """A whole system, in a minute, without a word of configuration, and with a worker killed."""
    cli.settings.clear()

    demo = await cli.run("demo", "--jobs", "200")

    assert demo.process.returncode == 0, demo.stdout + demo.stderr
    assert "all 200 jobs ended as planned; none was lost" in demo.stdout
    ((victim, held, back),) = re.findall(
        r"(worker-\d) had (\d+) jobs; (\d+) ended elsewhere", demo.stdout
    )
    assert f"{victim} killed (SIGKILL); worker-3 starts in its place" in demo.stdout
    assert int(held) == int(back) >= 1
    assert not [line for line in demo.stdout.splitlines() if len(line) > 80]


async def test_ctrl_c_in_the_demo_is_answered(cli: Programs) -> None:
    """It says what it does, for that takes a while."""
    cli.settings.clear()
    demo = cli.start("demo", "--jobs", "100000")

    async def is_under_way() -> bool:
        assert demo.process.poll() is None, demo.stderr
        return "starting the API" in demo.stdout

    await eventually(is_under_way, "the demo starts its processes")
    demo.process.send_signal(signal.SIGINT)

    assert await demo.ended() == 128 + 2
    assert demo.stdout.endswith("stopping the processes of the demo …\n")
