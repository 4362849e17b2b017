"""Starts the programs of the systems, and sees that none outlives the benchmark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.machine.environments import ROOT

STOP_SECONDS = 10.0
LOOK_SECONDS = 0.005
TAIL_LINES = 6


class FailedError(Exception):
    """A program of a system failed, or took too long; the message ends with what it wrote."""


class Program:
    """A running program whose output goes to files."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path):
        self.name = name
        self._out, self._log = log.with_suffix(".out"), log.with_suffix(".err")
        with self._out.open("wb") as out, self._log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                cwd=ROOT,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended, well or not."""
        return self._process.poll() is not None

    def answers(self) -> list[dict[str, Any]]:
        """Return the lines of JSON it has printed so far."""
        lines = self._out.read_text("utf-8", "replace").split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def tail(self) -> str:
        """Return the last lines of what it wrote."""
        text = self._out.read_text("utf-8", "replace") + self._log.read_text("utf-8", "replace")
        return "\n".join(text.strip().splitlines()[-TAIL_LINES:])

    def failed(self, why: str) -> FailedError:
        """Return the error that says why the run is over."""
        return FailedError(f"{self.name} {why}:\n{self.tail()}")

    def check(self) -> None:
        """Raise `FailedError` if it has ended."""
        if self.ended:
            raise self.failed(f"ended with {self._process.returncode}")

    def result(self, seconds: float) -> dict[str, Any]:
        """Wait for its end; return the last line of JSON."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.failed(f"took longer than {seconds:.0f} s") from None
        answers = self.answers()
        if code != 0 or not answers:
            raise self.failed(f"ended with {code}")
        return answers[-1]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and to all it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def end(self) -> None:
        """End it with SIGTERM, or with SIGKILL when it does not obey."""
        if not self.ended:
            self.signal(signal.SIGTERM)
            self.wait(STOP_SECONDS)
        self.signal(signal.SIGKILL)  # also what it has started and left
        self.wait(STOP_SECONDS)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; returns False when it did not come in time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


class Programs:
    """The programs of one run, all ended when the block is left."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[Program] = []

    def start(self, name: str, command: list[str], environment: Mapping[str, str]) -> Program:
        """Start a program; `name` says whose it is."""
        log = self._directory / f"program-{len(self._running)}.log"
        program = Program(name, command, environment, log)
        self._running.append(program)
        return program

    def check(self, *programs: Program) -> None:
        """Raise `FailedError` if one of them has ended."""
        for program in programs:
            program.check()

    def stop(self) -> None:
        """End all with SIGTERM, and what does not obey with SIGKILL."""
        for program in self._running:
            if not program.ended:
                program.signal(signal.SIGTERM)
        for program in self._running:
            program.end()
        self._running.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds; returns False when time runs out first."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(LOOK_SECONDS)
    return True
