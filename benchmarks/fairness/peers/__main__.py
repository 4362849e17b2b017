"""What you would get elsewhere: small traces played in real time on async_jobs and its peers.

    python -m benchmarks.fairness.peers

Each runs by its own rules with its own worker, in the environment that `benchmarks` makes for it,
on a new database. What is measured is the order, so that how fast a system is tells little.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.fairness import baselines, elsewhere, measures
from benchmarks.fairness.baselines import BASELINES
from benchmarks.fairness.cases import Figures
from benchmarks.fairness.peers.played import PLAIN, PRIORITY, marks
from benchmarks.fairness.peers.scripts import SCRIPTS, script_of
from benchmarks.fairness.world import SECOND, Ran, Trace
from benchmarks.machine import commits
from benchmarks.machine.environments import Missing, python_of
from benchmarks.machine.processes import FailedError, Programs
from benchmarks.machine.redis import RedisMissing, redis_server
from benchmarks.machine.services import Server, postgres

PLAY_SECONDS = 180.0


class Subject(NamedTuple):
    """A system: its module and the environment it needs; None for the project's own."""

    name: str
    environment: str | None
    rules: tuple[str, ...]
    programs: tuple[str, ...] = ("work",)


SUBJECTS = (
    Subject("pgqueuer", "pgqueuer", (PLAIN, PRIORITY)),
    Subject("procrastinate", "procrastinate", (PLAIN, PRIORITY)),
    Subject("celery", "celery", (PLAIN, PRIORITY)),
    Subject("async_jobs", None, (PLAIN,), ("schedule", "work")),
)


def figures_of(ran: Ran) -> Figures:
    """Return what tells of a script."""
    of = "newcomer" if ran.trace.name == "newcomer" else "urgent"
    of = "quiet" if ran.trace.name == "dump" else of
    waits = measures.waits(ran, lambda work: work.kind == of)
    return {
        elsewhere.ON_TIME: measures.attainment(ran, lambda work: work.kind == of) or 0.0,
        elsewhere.MEAN: sum(waits) / len(waits),
        elsewhere.P99: measures.percentile(waits, 99),
    }


def played(
    subject: Subject, python: Path, server: Server, redis: str, trace: Trace, rule: str
) -> Ran:
    """Play a script on a system."""
    with tempfile.TemporaryDirectory(prefix="async_jobs_play_") as name:
        directory = Path(name)
        (directory / "marks").mkdir()
        script = directory / "script.json"
        script.write_text(json.dumps(script_of(trace)), "utf-8")
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"} | {
            "BENCH_DSN": server.database("play"),
            "BENCH_REDIS": redis,
            "BENCH_RUN_DIR": str(directory / "marks"),
            "PLAY_SCRIPT": str(script),
            "PLAY_RULE": rule,
        }
        with Programs(directory) as programs:

            def command(verb: str) -> list[str]:
                return [str(python), "-m", f"benchmarks.fairness.peers.{subject.name}", verb]

            programs.start("setup", command("setup"), environment).result(PLAY_SECONDS)
            for verb in subject.programs:
                programs.start(verb, command(verb), environment)
            answer = programs.start("play", command("play"), environment).result(PLAY_SECONDS)
        starts = marks(directory / "marks")
    ran = Ran(trace=trace)
    for number, at in sorted(starts.items(), key=lambda each: each[1]):
        if number < len(trace.work):
            ran.start(number, 1, round((at - answer["began"]) * SECOND))
    return ran


def main() -> None:
    """Play everything everywhere; write the table."""
    told: list[elsewhere.Row] = []
    for name, trace in SCRIPTS.items():
        for policy in ("round robin", "global EDF", "EDF, late last"):
            ideal = baselines.run(trace, BASELINES[policy])
            told.append(elsewhere.Row(name, f"ideal {policy}", "", figures_of(ideal)))
    with postgres() as server, _redis() as redis:
        for subject in SUBJECTS:
            python = python_of(subject.environment, print)
            if isinstance(python, Missing) or (subject.name == "celery" and not redis):
                print(f"{subject.name} is not measured: {python}")
                continue
            for rule in subject.rules:
                for name, trace in SCRIPTS.items():
                    try:
                        figures = figures_of(played(subject, python, server, redis, trace, rule))
                    except (FailedError, OSError, subprocess.SubprocessError) as error:
                        print(f"{subject.name}, {rule}, {name}: {error}")
                        continue
                    print(f"{subject.name}, {rule}, {name}: {figures}", flush=True)
                    shown = "" if subject.name == "async_jobs" else rule
                    told.append(elsewhere.Row(name, subject.name, shown, figures))
        server.drop("play")
    print(f"written: {elsewhere.write(told, commits.here().commit)}")


@contextlib.contextmanager
def _redis() -> Iterator[str]:
    try:
        with redis_server(print) as server:
            yield server.url
    except RedisMissing as error:
        print(error)
        yield ""


if __name__ == "__main__":
    main()
