"""Starts `async-jobs` hundreds of times, each in a process of its own, without the second that
Python takes to import it: a process that has imported everything and done nothing forks.

`python -m tests.kills.nursery` reads orders from its standard input, a JSON object a line, and
answers each with a process id. What a program ended with, it writes beside what that wrote.
When nobody gives orders any more, it kills all that still run.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from async_jobs.entrypoints.cli.main import main
from tests.kills import deaths
from tests.kit.harness import ROOT, environment

LOOK_SECONDS = 0.02
IMPORTED = (
    "async_jobs.adapters.sqs.client",
    "async_jobs.adapters.sqs.queue",
    "async_jobs.entrypoints.http.app",
    "async_jobs.entrypoints.serving.uvicorn_server",
    "uvloop",
)


class Program(NamedTuple):
    """A process that was started, and where it writes."""

    pid: int
    written: Path

    @property
    def returncode(self) -> int | None:
        """What it ended with, as in `subprocess`; None while it runs."""
        path = self.written.with_suffix(".code")
        return int(path.read_text("ascii")) if path.exists() else None

    @property
    def stderr(self) -> str:
        path = self.written.with_suffix(".err")  # made by the program itself, a moment later
        return path.read_text("utf-8") if path.exists() else ""

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def forget(self) -> None:
        """Remove what it wrote."""
        for suffix in (".out", ".err", ".code"):
            self.written.with_suffix(suffix).unlink(missing_ok=True)


class Nursery:
    """The other end of the orders."""

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self._process = process
        self._directory = directory
        self.started = 0

    def start(self, *arguments: str, settings: Mapping[str, str]) -> Program:
        """Start `async-jobs` with these arguments and settings; takes a few milliseconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.started += 1
        written = self._directory / f"program-{self.started}"
        order = {
            "arguments": arguments,
            "environment": environment(settings),
            "written": str(written),
        }
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Program(int(self._process.stdout.readline()), written)


@contextmanager
def a_nursery(directory: Path) -> Iterator[Nursery]:
    """Yield a nursery; kills what it started when the block ends."""
    command = (sys.executable, "-m", "tests.kills.nursery")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        yield Nursery(process, directory)  # leaving closes the pipe of the orders


# --- the nursery's own process ------------------------------------------------------------------


def _until_forked() -> dict[str, Any]:
    """Serve orders; returns in the children only, each with its own."""
    for module in IMPORTED:
        importlib.import_module(module)
    gc.freeze()
    running: dict[int, Path] = {}
    while True:
        orders, _, _ = select.select([sys.stdin], [], [], LOOK_SECONDS)
        if orders:
            line = sys.stdin.readline()
            if not line:
                break
            order: dict[str, Any] = json.loads(line)
            pid = os.fork()
            if pid == 0:
                return order
            running[pid] = Path(order["written"])
            sys.stdout.write(f"{pid}\n")
            sys.stdout.flush()
        _bury(running)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    sys.exit()


def _bury(running: dict[int, Path]) -> None:
    """Write down what has ended, by a rename, so that nobody reads half of it."""
    for pid, written in list(running.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            del running[pid]
            fresh = written.with_suffix(".fresh")
            fresh.write_text(str(os.waitstatus_to_exitcode(status)), "ascii")
            fresh.rename(written.with_suffix(".code"))


def _become(order: Mapping[str, Any]) -> None:
    """Turn a fork into what was ordered."""
    written = Path(order["written"])
    for suffix, descriptor, flags in (
        (None, 0, os.O_RDONLY),
        (".out", 1, os.O_WRONLY | os.O_CREAT),
        (".err", 2, os.O_WRONLY | os.O_CREAT),
    ):
        path = os.devnull if suffix is None else written.with_suffix(suffix)
        file = os.open(path, flags, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = ["async-jobs", *order["arguments"]]
    deaths.arm(os.environ)


if __name__ == "__main__":
    _become(_until_forked())
    main()
