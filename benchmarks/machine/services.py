"""What the systems run on: a Postgres with its default durability, and an SQS emulator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from async_jobs.adapters.postgres.embedded import EmbeddedPostgres
from benchmarks.machine.costs import name_of, parent_of
from benchmarks.machine.environments import HOME, Missing, Tell
from benchmarks.machine.processes import Program, until

DSN_VARIABLE = "BENCH_DSN"
SETTINGS = {
    "shared_buffers": "512MB",
    "max_connections": "200",
    # No checkpoint begins in the middle of a run; durability is as it is by default.
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "track_counts": "on",
}
TOLD_SETTINGS = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "autovacuum",
    *SETTINGS,
)
FAUXQS = "fauxqs@1.9.2"  # the newest that Node 20 runs
START_SECONDS = 30.0
REGION = "eu-central-1"
AWS = {
    "AWS_ACCESS_KEY_ID": "AKIATEST",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
}


class Server(NamedTuple):
    """A running Postgres.

    Attributes:
        dsn: of a database on it whose user may create others.
        postmaster: its process id, None when it runs on another host.
        settings: what it says of itself.
    """

    dsn: str
    postmaster: int | None
    settings: dict[str, str]

    def database(self, name: str, template: str = "template1") -> str:
        """Return the DSN of a new database of that name, empty or a copy of another one."""
        self.drop(name)
        if template != "template1":
            self.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{template}'"
            )
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return urlunsplit(urlsplit(self.dsn)._replace(path=f"/{name}"))

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, statement: str, dsn: str | None = None) -> list[Any]:
        """Execute a statement, by default in the server's own database."""
        return asyncio.run(_fetch(dsn or self.dsn, statement))


async def _fetch(dsn: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(dsn, command_timeout=600)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


@contextlib.contextmanager
def postgres() -> Iterator[Server]:
    """Yield the server that `BENCH_DSN` names, else an embedded one, which ends with the block."""
    given = os.environ.get(DSN_VARIABLE)
    if given:
        yield _described(given, asyncio.run(_postmaster(given)))
        return
    with EmbeddedPostgres(durable=True, settings=SETTINGS) as embedded:
        yield _described(embedded.dsn, embedded.pid)


def _described(dsn: str, postmaster: int | None) -> Server:
    names = ", ".join(f"'{name}'" for name in TOLD_SETTINGS)
    statement = (
        f"SELECT name, current_setting(name) AS value FROM pg_settings WHERE name IN ({names})"
    )
    rows = asyncio.run(_fetch(dsn, statement))
    return Server(dsn, postmaster, {row["name"]: row["value"] for row in rows})


async def _postmaster(dsn: str) -> int | None:
    """Return the postmaster of a server on this host, which is the parent of every session."""
    connection = await asyncpg.connect(dsn)
    try:
        statement = "SELECT pg_backend_pid() AS pid, host(inet_client_addr()) AS client"
        row = await connection.fetchrow(statement)
        assert row is not None
        # In a container process ids are others than here, although the address is a local one.
        is_local = row["client"] in {None, "127.0.0.1", "::1"} and "postgres" in name_of(row["pid"])
        return parent_of(row["pid"]) if is_local else None
    finally:
        await connection.close()


def prepared(dsn: str) -> None:
    """Give every system the same start: statistics, and nothing left to vacuum."""
    asyncio.run(_fetch(dsn, "VACUUM (ANALYZE)"))


# --- SQS ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def sqs(directory: Path, tell: Tell) -> Iterator[str | Missing]:
    """Yield the endpoint of an SQS emulator that is fast enough to measure on, or why none runs."""
    server = _fauxqs(tell)
    if isinstance(server, Missing):
        yield server
        return
    port = free_port()
    environment = {
        **os.environ,
        "FAUXQS_PORT": str(port),
        "FAUXQS_HOST": "127.0.0.1",
        "FAUXQS_DEFAULT_REGION": REGION,
        "FAUXQS_LOGGER": "false",
    }
    command = [sys.executable, "-m", "benchmarks.machine.leash", "node", str(server)]
    program = Program("fauxqs", command, environment, directory / "fauxqs.log")
    try:
        endpoint = f"http://127.0.0.1:{port}"
        if not until(lambda: program.ended or _answers(endpoint), START_SECONDS) or program.ended:
            yield Missing(f"fauxqs does not start: {program.tail()}")
        else:
            yield endpoint
    finally:
        program.end()


def _fauxqs(tell: Tell) -> Path | Missing:
    """Return the emulator's program, installed by npm when it is first needed."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return Missing("SQS is measured on fauxqs, which needs Node.js and npm")
    home = HOME / "fauxqs"
    program = home / "node_modules" / "fauxqs" / "dist" / "server.js"
    stamp = home / ".installed"
    if program.exists() and stamp.exists() and stamp.read_text("ascii") == FAUXQS:
        return program
    tell(f"installing {FAUXQS}")
    home.mkdir(parents=True, exist_ok=True)
    (home / "package.json").write_text(json.dumps({"private": True}), "ascii")
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--silent", FAUXQS],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode != 0:
        return Missing(f"npm cannot install {FAUXQS}: {done.stderr.strip()[-200:]}")
    stamp.write_text(FAUXQS, "ascii")
    return program


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=1):
            return True
    except urllib.error.HTTPError:
        return True  # it speaks HTTP
    except OSError:
        return False


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
