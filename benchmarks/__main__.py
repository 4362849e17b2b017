"""make bench: every workload on every system, or curves of growth, and what came of it."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.machine.commits import UnknownCommitError, of_commit
from benchmarks.machine.environments import Missing
from benchmarks.machine.processes import FailedError
from benchmarks.machine.redis import RedisMissing, RedisServer, redis_server
from benchmarks.machine.services import postgres, sqs
from benchmarks.measure.bench import Bench, Result
from benchmarks.measure.points import cells_of
from benchmarks.measure.workloads import Workload, chosen
from benchmarks.plan.axes import AXES
from benchmarks.plan.sizes import FULL, SMALL, Sizes
from benchmarks.plan.subjects import (
    OURS,
    QUICK,
    SUBJECTS,
    WATCHED,
    Subject,
    of_another_commit,
    of_watched,
    system_of,
)
from benchmarks.report.figures import Measured, problems
from benchmarks.report.record import Report, commit
from benchmarks.report.write import plotted, write

QUICK_SECONDS = 275.0  # with the plots it is less than five minutes
CURVE_SECONDS = 390.0  # for each round: three of them take less than twenty minutes
LOADED = time.monotonic()
console = Console(highlight=False, soft_wrap=True)


def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="async_jobs, floor and PgQueuer; under five minutes.")
    ] = False,
    growth: Annotated[
        bool, typer.Option("--growth", help="Curves of growth, of async_jobs alone, instead.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, max=50)] = 3,
    systems: Annotated[
        str | None, typer.Option(help="Names, separated by commas; else all.")
    ] = None,
    workloads: Annotated[
        str | None, typer.Option(help="W1 to W8, or axes of growth, separated by commas; else all.")
    ] = None,
    beside: Annotated[
        str | None, typer.Option(help="A commit whose package is measured by turns with this one.")
    ] = None,
    watched: Annotated[
        bool,
        typer.Option("--watched", help="With metrics and with traces, too, by turns with neither."),
    ] = False,
    results: Annotated[Path, typer.Option(help="Where the results go.")] = Path(
        "benchmarks/results"
    ),
) -> None:
    """Measure async_jobs beside its floor, its peers and other commits; write tables and plots."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if growth and systems:
        raise typer.BadParameter("--growth measures async_jobs alone")
    subjects = _subjects(OURS if growth else systems, quick=quick)
    if beside is not None:
        try:
            subjects.append(of_another_commit(of_commit(beside)))
        except UnknownCommitError as error:
            raise typer.BadParameter(f"--beside {beside}: {error}") from None
    subjects += [of_watched(by) for by in WATCHED] if watched else []
    names = workloads.split(",") if workloads else None
    cells = _curves(names, quick=quick) if growth else chosen(names, quick=quick)
    report = Report(
        quick=quick,
        partial=bool(systems or workloads or beside or watched),
        growth=growth,
        commit=commit(),
    )
    with _services(subjects, cells) as bench:
        report.server = bench.server.settings
        report.describe_machine(bench.home)
        present = _present(bench, subjects, report)
        if isinstance(bench.sqs, Missing):
            report.missing["W3 over SQS"] = bench.sqs.reason
            cells = [cell for cell in cells if not cell.needs_sqs]
        _rounds(bench, present, cells, report, rounds, SMALL if quick else FULL)
    written = write(report, results)
    charts = plotted(written[0], report, console.print)
    if isinstance(charts, Missing):
        console.print(f"no plots: {charts.reason}")
        charts = []
    for path in [*written, *charts]:
        console.print(f"written: {path}")
    wrong = problems(report.rounds)
    for line in wrong:
        console.print(f"NOT correct: {line}")
    own = [each for each in report.rounds if SUBJECTS[system_of(each.system)].environment is None]
    raise typer.Exit(1 if problems(own) else 0)


def _subjects(systems: str | None, *, quick: bool) -> list[Subject]:
    names = systems.split(",") if systems else list(QUICK if quick else SUBJECTS)
    unknown = [name for name in names if name not in SUBJECTS]
    if unknown:
        known = ", ".join(SUBJECTS)
        raise typer.BadParameter(f"{', '.join(unknown)}; known: {known}")
    return [SUBJECTS[name] for name in names]


def _curves(names: list[str] | None, *, quick: bool) -> list[Workload]:
    unknown = [name for name in names or () if name not in AXES]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}; known: {', '.join(AXES)}")
    return cells_of(names or AXES, quick=quick)


@contextlib.contextmanager
def _services(subjects: list[Subject], cells: list[Workload]) -> Iterator[Bench]:
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="async_jobs_bench_")))
        console.print("starting Postgres …")
        server = stack.enter_context(postgres())
        redis: RedisServer | Missing = Missing("no system needs Redis")
        if any(subject.store == "redis" for subject in subjects):
            try:
                redis = stack.enter_context(redis_server(console.print))
            except RedisMissing as error:
                redis = Missing(str(error))
        queue: str | Missing = ""
        if any(cell.needs_sqs for cell in cells):
            queue = stack.enter_context(sqs(home, console.print))
        bench = Bench(server, redis, queue, home, console.print)
        stack.callback(bench.close)
        yield bench


def _present(bench: Bench, subjects: list[Subject], report: Report) -> list[Subject]:
    present = []
    for subject in subjects:
        reason = bench.missing(subject)
        if reason is None:
            present.append(subject)
            report.describe_system(subject)
        else:
            console.print(f"{subject.name} is not measured: {reason}")
            report.missing[subject.name] = reason
    return present


def _rounds(
    bench: Bench,
    subjects: list[Subject],
    cells: list[Workload],
    report: Report,
    rounds: int,
    sizes: Sizes,
) -> None:
    plan = [
        (cell, subject)
        for cell in cells
        for subject in subjects
        if subject.system in (cell.quick if report.quick else cell.systems)
    ]
    began = time.monotonic()
    seconds_max = _seconds_max(report, rounds)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        bar = progress.add_task("", total=rounds * len(plan))
        for number in range(1, rounds + 1):
            a_round = (time.monotonic() - began) / max(1, number - 1)
            if number > 1 and time.monotonic() + a_round > LOADED + seconds_max:
                console.print(f"{number - 1} rounds: another one would take too long")
                return
            # Every second round runs backwards, so that none is always first.
            for cell, subject in plan if number % 2 else reversed(plan):
                label = f"round {number}: {cell.name}, {cell.about}: {subject.name}"
                progress.update(bar, description=label)
                if progress.disable:
                    console.print(f"{time.monotonic() - began:5.0f} s  {label}")
                report.rounds += _measured(bench, cell, subject, number, sizes)
                progress.advance(bar)


def _seconds_max(report: Report, rounds: int) -> float:
    """Return how long the rounds may take; where they take longer, there are fewer."""
    if report.growth:
        return rounds * CURVE_SECONDS
    return QUICK_SECONDS if report.quick else math.inf


def _measured(
    bench: Bench, cell: Workload, subject: Subject, number: int, sizes: Sizes
) -> list[Measured]:
    """Run one cell; a failure is a result too, and the others go on."""
    results: Mapping[str, Result]
    try:
        results = cell.measure(bench, subject, sizes)
    except (FailedError, OSError, asyncpg.PostgresError) as error:
        results = {f"{cell.name} ({cell.about})": Result(problem=str(error))}
    return [
        Measured(
            measured=name,
            system=subject.name,
            round=number,
            metrics=result.metrics,
            problem=result.problem,
        )
        for name, result in results.items()
    ]


if __name__ == "__main__":
    typer.run(main)
