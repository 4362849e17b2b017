"""One measurement: a system, prepared afresh, does one thing, and everything is checked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine.costs import POSTGRES, REDIS, Cost, CpuMeter, dead_rows, wal_position
from benchmarks.machine.environments import Missing, Tell, python_of
from benchmarks.machine.processes import FailedError, Program, Programs, until
from benchmarks.machine.redis import RedisServer
from benchmarks.machine.services import Server, prepared
from benchmarks.measure.tally import Tally, executions
from benchmarks.plan.subjects import Subject

COMMAND_SECONDS = 180.0
READY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of one system gave.

    Attributes:
        metrics: figures by name.
        problem: what was not as it must be; None for a correct run.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None


class Bench:
    """What all measurements share."""

    def __init__(
        self,
        server: Server,
        redis: RedisServer | Missing,
        sqs: str | Missing,
        home: Path,
        tell: Tell,
    ) -> None:
        self.server = server
        self.redis = redis
        self.sqs = sqs
        self.home = home
        self.tell = tell
        self._templates: set[str] = set()

    def missing(self, subject: Subject) -> str | None:
        """Say why a system cannot be measured; makes its environment otherwise."""
        if subject.store == "redis" and isinstance(self.redis, Missing):
            return self.redis.reason
        python = python_of(subject.environment, self.tell)
        return python.reason if isinstance(python, Missing) else None

    @contextlib.contextmanager
    def run(self, subject: Subject, jobs: int, **settings: Any) -> Iterator[Run]:
        """Yield a system on a new database; ends its programs and drops it afterwards.

        Args:
            subject: the system.
            jobs: how many jobs there will be at most.
            settings: what replaces the settings of the system's module.
        """
        python = python_of(subject.environment, self.tell)
        if isinstance(python, Missing):
            raise FailedError(python.reason)
        directory = self.home / subject.database
        shutil.rmtree(directory, ignore_errors=True)
        marks = directory / "marks"
        marks.mkdir(parents=True)
        environment = {
            **{name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
            **({} if subject.checkout is None else subject.checkout.environment()),
            "BENCH_REDIS": "" if isinstance(self.redis, Missing) else self.redis.url,
            "BENCH_RUN_DIR": str(marks),
            "BENCH_JOBS": str(jobs),
            "BENCH_SETTINGS": json.dumps({**subject.settings, **settings}),
        }
        try:
            with Programs(directory) as programs:
                run = Run(self, subject, [str(python)], environment, programs, marks)
                self._set_up(run, subject)
                yield run
        finally:
            self.server.drop(subject.database)

    def _set_up(self, run: Run, subject: Subject) -> None:
        """Prepare the database, as a copy of one that was prepared before where there is one."""
        template = f"{subject.database}_template"
        if subject.store == "postgres" and template in self._templates:
            run.use(self.server.database(subject.database, template))
            return
        run.use(self.server.database(subject.database))
        run.call("setup")
        if subject.store == "postgres":
            self.server.database(template, subject.database)
            self._templates.add(template)

    def close(self) -> None:
        """Drop what was kept from run to run."""
        for template in self._templates:
            self.server.drop(template)


class Run:
    """A system on a database of its own."""

    def __init__(
        self,
        bench: Bench,
        subject: Subject,
        python: list[str],
        environment: dict[str, str],
        programs: Programs,
        marks: Path,
    ) -> None:
        self.bench = bench
        self.subject = subject
        self.dsn = ""
        self.marks = marks
        self.programs = programs
        self.environment = environment
        self._python = python

    def use(self, dsn: str) -> None:
        """Take this database."""
        self.dsn = self.environment["BENCH_DSN"] = dsn

    def start(self, command: str, *arguments: object, capped: bool = False) -> Program:
        """Start a command of the system."""
        line = [
            *self._python,
            *("-m", f"benchmarks.systems.{self.subject.module}", command),
            *(["--capped"] if capped else []),
            *(str(argument) for argument in arguments),
        ]
        return self.programs.start(f"{self.subject.name} {command}", line, self.environment)

    def call(
        self,
        command: str,
        *arguments: object,
        capped: bool = False,
        seconds: float = COMMAND_SECONDS,
    ) -> dict[str, Any]:
        """Run a command of the system to its end; return what it answered."""
        program = self.start(command, *arguments, capped=capped)
        return program.result(seconds)

    def fill(self, jobs: int, *, capped: bool = False) -> float:
        """Enqueue in bulk; return jobs per second."""
        answer = self.call("bulk", jobs, capped=capped)
        return float(answer["jobs"] / answer["seconds"])

    def prepared(self) -> None:
        """Give the database the same state whatever filled it."""
        prepared(self.dsn)

    def processes(
        self, workers: int, *, schedulers: int = 1, capped: bool = False
    ) -> dict[str, list[Program]]:
        """Start the workers and then the schedulers, which find them at work."""
        started = {"worker": [self.start("work", capped=capped) for _ in range(workers)]}
        if self.subject.ready is not None:
            self._until_ready(workers, started["worker"])
        if self.subject.scheduler:
            started["scheduler"] = [
                self.start("schedule", capped=capped) for _ in range(schedulers)
            ]
        return started

    def _until_ready(self, workers: int, programs: list[Program]) -> None:
        def ready() -> bool:
            self.programs.check(*programs)
            assert self.subject.ready is not None
            rows = self.bench.server.execute(self.subject.ready, self.dsn)
            return bool(rows[0][0] >= workers)

        if not until(ready, READY_SECONDS):
            raise programs[0].failed("did not announce itself")

    def drain(
        self, jobs: int, *, workers: int = 1, capped: bool = False, seconds: float = COMMAND_SECONDS
    ) -> Result:
        """Start the system on jobs that wait; measure until every outcome is durable."""
        watcher = self.start("until-empty", jobs, seconds)
        if not until(lambda: _check(watcher) and bool(watcher.answers()), READY_SECONDS):
            raise watcher.failed("did not begin to watch")
        wal = asyncio.run(wal_position(self.dsn))
        dead = asyncio.run(dead_rows(self.dsn))
        running = self.processes(workers, capped=capped)
        programs = [program for each in running.values() for program in each]

        def begun() -> bool:
            if executions(self.marks) > 0:
                return True
            self.programs.check(watcher, *programs)
            return False

        if not until(begun, seconds):
            raise programs[0].failed("has executed nothing")
        meter, before = CpuMeter(self.process_ids(running)), executions(self.marks)

        def empty() -> bool:
            self.programs.check(*programs)
            return len(watcher.answers()) > 1 or watcher.ended

        until(empty, seconds + READY_SECONDS)
        cpu, counted = meter.used(), max(1, executions(self.marks) - before)
        verdict = watcher.result(READY_SECONDS)
        empty_at = watcher.answers()[1]["empty_at"]
        wal = asyncio.run(wal_position(self.dsn)) - wal
        for program in programs:
            program.end()
        dead = asyncio.run(dead_rows(self.dsn)) - dead
        tally = Tally.read(self.marks, jobs)
        cost = Cost({n: 1e6 * used / counted for n, used in cpu.items()}, wal / jobs, dead / jobs)
        rate = jobs / (empty_at - tally.first_at) if tally.first_at is not None else 0.0
        return Result(
            {"jobs_per_s": rate, **cost.metrics()}, _both(tally.problem(), verdict.get("problem"))
        )

    def process_ids(self, running: Mapping[str, list[Program]]) -> dict[str, list[int]]:
        """Return whose CPU counts: these programs, and their store where it is on this host."""
        ids = {name: [program.pid for program in programs] for name, programs in running.items()}
        if self.subject.store == "redis" and not isinstance(self.bench.redis, Missing):
            return ids | {REDIS: [self.bench.redis.pid]}
        postmaster = self.bench.server.postmaster
        return ids | ({POSTGRES: [postmaster]} if postmaster is not None else {})

    def latency(self, jobs: int, interval_ms: float) -> Result:
        """Enqueue at intervals into an idle system; return the time until the handler."""
        running = self.processes(1)
        programs = [program for each in running.values() for program in each]
        producer = self.start("latency", jobs, interval_ms)
        seconds = COMMAND_SECONDS + jobs * interval_ms / 1000

        def ended() -> bool:
            self.programs.check(*programs)
            return producer.ended

        until(ended, seconds)
        answer = producer.result(1.0)
        everything = jobs + int(answer["warm_up"])
        watched = self.call("until-empty", everything, 30)
        for program in programs:
            program.end()
        tally = Tally.read(self.marks, everything)
        ordered = sorted(1000 * seconds for seconds in tally.latencies)
        metrics = {
            f"p{share}_ms": ordered[min(len(ordered) - 1, len(ordered) * share // 100)]
            for share in (50, 90, 99)
            if ordered
        }
        return Result(metrics, _both(tally.problem(), watched.get("problem")))


def _check(program: Program) -> bool:
    program.check()
    return True


def _both(*problems: str | None) -> str | None:
    return "; ".join(problem for problem in problems if problem) or None
