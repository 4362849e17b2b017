"""What integration tests share: waiting for a condition, and programs in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from async_jobs.adapters.http.wire import TOKEN_HEADER
from async_jobs.host import SystemClock

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
CLI = (sys.executable, "-m", "async_jobs.entrypoints.cli.main")
PATIENCE_SECONDS = 90.0
"""How long a condition may take to come true: only ever waited for when a test fails."""
LOOK_SECONDS = 0.02

clock = SystemClock()


async def eventually(
    look: Callable[[], Awaitable[T]], what: str, *, seconds: float = PATIENCE_SECONDS
) -> T:
    """Return the first answer of `look` that is true; fail when none is in time."""
    until = clock.monotonic() + seconds
    while not (answer := await look()):
        if clock.monotonic() > until:
            raise AssertionError(f"never happened: {what}")
        await clock.sleep(LOOK_SECONDS)
    return answer


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with these settings of async_jobs and no others."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("ASYNC_JOBS_")}
    return kept | {"COLUMNS": "100", "PYTHONUNBUFFERED": "1"} | dict(settings)


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer(port: int, path: str, token: str | None = None) -> tuple[int, Any]:
    """Return the status and the JSON body of an HTTP answer; 0 when nobody listens."""
    headers = {} if token is None else {TOKEN_HEADER: token}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, None


class Program:
    """A process, and what it has written so far."""

    def __init__(
        self, command: tuple[str, ...], settings: Mapping[str, str], written: Path, cwd: Path
    ) -> None:
        self._stdout, self._stderr = written.with_suffix(".out"), written.with_suffix(".err")
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment(settings),
                cwd=cwd,
            )

    @property
    def stdout(self) -> str:
        return self._stdout.read_text("utf-8")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text("utf-8")

    @property
    def logs(self) -> list[dict[str, Any]]:
        """What a program with `--log-format json` has logged, whole lines only."""
        lines = self.stderr.split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The records of one event."""
        return [record for record in self.logs if record["event"] == event]

    async def has_logged(self, event: str) -> None:
        """Wait until the program logs an event; fail at once when it ends instead."""

        async def look() -> bool:
            if f'"{event}"' not in self.stderr and self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}: {self.stderr}")
            return bool(self.logged(event))

        await eventually(look, f"a log record of {event}")

    def terminate(self) -> None:
        self.process.terminate()

    async def killed(self) -> None:
        """Kill it as the kernel does, and wait until it is gone."""
        self.process.kill()
        assert await self.ended() == -signal.SIGKILL

    async def ended(self, *, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for its end; returns the exit code."""

        async def look() -> bool:
            return self.process.poll() is not None

        await eventually(look, f"the end of {self.process.args!r}", seconds=seconds)
        return int(self.process.returncode)


class Programs:
    """Starts programs with shared settings."""

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        self.settings = dict(settings)
        self.directory = directory
        self.started: list[Program] = []

    def start(
        self,
        *arguments: str,
        command: tuple[str, ...] = CLI,
        cwd: Path = ROOT,
        settings: Mapping[str, str] | None = None,
    ) -> Program:
        """Start `async-jobs` with these arguments, or another command."""
        written = self.directory / f"program-{len(self.started)}"
        program = Program(
            (*command, *arguments), self.settings | dict(settings or {}), written, cwd
        )
        self.started.append(program)
        return program

    async def run(self, *arguments: str, **options: Any) -> Program:
        """Start a program and wait for its end."""
        program = self.start(*arguments, **options)
        await program.ended()
        return program


@contextmanager
def programs(directory: Path, settings: Mapping[str, str]) -> Iterator[Programs]:
    """Yield what starts programs; kills those that still run when the block ends."""
    starting = Programs(directory, settings)
    try:
        yield starting
    finally:
        for program in starting.started:
            program.process.kill()
            program.process.wait()
