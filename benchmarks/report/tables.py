"""The table that people read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.plan.goals import GOALS, HIGHER_IS_BETTER, floor_of
from benchmarks.plan.subjects import OURS, PEER, SUBJECTS, system_of
from benchmarks.report.figures import (
    Key,
    Spread,
    by_turns,
    medians,
    problems,
    ratio,
    spreads,
    told_metrics,
)
from benchmarks.report.record import Report

UNITS = {
    "jobs_per_s": "jobs/s",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "cpu_us": "CPU, µs a job",
    "wal_bytes": "WAL, bytes a job",
}
RIGHT = "In every round every job had exactly one accepted outcome, and nothing was left."
RIGHT_DRAINED = (
    "In every round every job that was handed out was executed exactly once and had exactly one"
    " accepted outcome."
)
PACKAGE_OF = {"taskiq-pg": "taskiq-pg", "awa": "awa-pg", OURS: "async-jobs"}


def markdown(report: Report) -> str:
    """Return the whole report."""
    found = spreads(report.rounds)
    parts: list[Iterable[str]] = [
        head(report),
        _goals(report),
        beside(report),
        *(_workload(name, found) for name in _measured(found)),
        _costs(found),
        missing(report),
        correctness(report),
        settings(report),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def _measured(found: Mapping[Key, Spread]) -> list[str]:
    return sorted({measured for measured, _, _ in found})


def head(report: Report) -> Iterator[str]:
    """Say what was measured, when, and on what."""
    kind = "growth benchmark" if report.growth else "benchmark"
    kind = f"quick {kind}" if report.quick else kind
    rounds = max((each.round for each in report.rounds), default=0)
    machine = report.machine
    yield f"# The {kind}"
    yield ""
    yield (
        f"{report.began}, commit `{report.commit}`. Medians of {rounds} interleaved rounds, with"
        " the lowest and the highest in brackets; no-op handlers, payloads of about 200 bytes."
        " Only ratios carry over to other machines."
    )
    yield ""
    yield (
        f"{machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('memory')},"
        f" {machine.get('system')}; 8 kB written and synced in {machine.get('fdatasync_us')} µs;"
        f" Python {machine.get('python')}. Load before the run: {machine.get('load_before')}."
    )
    server = ", ".join(f"{name} {value}" for name, value in sorted(report.server.items()))
    yield ""
    yield f"Postgres: {server}."
    yield ""


def _goals(report: Report) -> Iterator[str]:
    found = medians(report.rounds)
    yield "## Goals"
    yield ""
    yield "| | figure | async_jobs | goal | reached | met |"
    yield "|---|---|---:|---|---:|---|"
    for goal in GOALS:
        reached, met = goal.ratio(found), goal.met(found)
        if reached is None:
            continue
        value = found[goal.measured, OURS, goal.metric]
        told = {True: "yes", False: "no", None: ""}[met]
        times = "" if goal.against is None else f"{reached:.2f} ×"
        yield (
            f"| {goal.measured} | {UNITS.get(goal.metric, goal.metric)} | {figure_text(value)}"
            f" | {goal.text} | {times} | {told} |"
        )
    yield ""


def beside(report: Report) -> Iterator[str]:
    """Tell how this commit compares with others, round by round."""
    found = by_turns(report.rounds)
    if not found:
        return
    yield "## Beside other commits"
    yield ""
    yield "This commit's figure divided by the other's of the same round."
    yield ""
    yield "| | figure | beside | median (lowest to highest) | rounds |"
    yield "|---|---|---|---:|---:|"
    for (measured, other, metric), spread in sorted(found.items()):
        told = f"{spread.median:.2f} ({spread.low:.2f}–{spread.high:.2f})"
        yield (f"| {measured} | {UNITS.get(metric, metric)} | {other} | {told} | {spread.rounds} |")
    yield ""


def _workload(measured: str, found: Mapping[Key, Spread]) -> Iterator[str]:
    middles = {key: spread.median for key, spread in found.items()}
    metrics = [
        metric
        for metric in told_metrics(measured)
        if any((name, each) == (measured, metric) for name, _, each in found)
    ]
    if not metrics:
        return
    floor = floor_of(measured)
    yield f"## {measured}"
    yield ""
    columns = [f"{UNITS[metric]} | ÷ {PEER} | ÷ {floor}" for metric in metrics]
    yield f"| | {' | '.join(columns)} |"
    yield "|---|" + "---:|---:|---:|" * len(metrics)
    for system in _ordered(measured, metrics[0], middles):
        cells = []
        for metric in metrics:
            key = (measured, system, metric)
            spread = found.get(key)
            cells += [
                "" if spread is None else spread_text(spread),
                ratio_text(ratio(middles, key, PEER)),
                ratio_text(ratio(middles, key, floor)),
            ]
        yield f"| {system} | {' | '.join(cells)} |"
    yield ""


def _ordered(measured: str, metric: str, middles: Mapping[Key, float]) -> Sequence[str]:
    """Return the systems of a measurement, the best first."""
    values = {
        s: value for (name, s, m), value in middles.items() if (name, m) == (measured, metric)
    }
    return sorted(values, key=lambda s: values[s], reverse=metric in HIGHER_IS_BETTER)


def _costs(found: Mapping[Key, Spread]) -> Iterator[str]:
    drains = [(name, system) for name, system, metric in found if metric == "wal_bytes"]
    if not drains:
        return
    processes = sorted(
        {metric for *_, metric in found if metric.startswith("cpu_us_")}, reverse=True
    )
    names = [process.removeprefix("cpu_us_") for process in processes]
    yield "## W6: what a job costs"
    yield ""
    yield "CPU in microseconds, by process and in all; WAL in bytes; dead rows."
    yield ""
    yield f"| | | {' | '.join(names)} | in all | WAL | dead rows |"
    yield "|---|---|" + "---:|" * (len(names) + 3)
    for name, system in sorted(drains):
        figures = [*processes, "cpu_us", "wal_bytes", "dead_tuples"]
        spread = [found.get((name, system, figure)) for figure in figures]
        cells = " | ".join("" if each is None else figure_text(each.median) for each in spread)
        yield f"| {name} | {system} | {cells} |"
    yield ""


def missing(report: Report) -> Iterator[str]:
    """Say what could not be measured, and why."""
    if report.missing:
        yield "## Not measured"
        yield ""
        for name, reason in sorted(report.missing.items()):
            yield f"- {name}: {reason}"
        yield ""


def correctness(report: Report) -> Iterator[str]:
    """Say what was wrong, or that nothing was."""
    wrong = problems(report.rounds)
    yield "## Correctness"
    yield ""
    if not wrong:
        yield RIGHT_DRAINED if report.growth else RIGHT
    for line in wrong:
        yield f"- {' '.join(line.split())}"
    yield ""


def settings(report: Report) -> Iterator[str]:
    """Say which versions were measured, and how they were set up."""
    yield "## Versions and settings"
    yield ""
    yield "| | version | settings |"
    yield "|---|---|---|"
    for system, chosen in report.settings.items():
        package = PACKAGE_OF.get(system, system)
        version = report.packages.get(system, {}).get(package, "")
        told = ", ".join(f"{name} = {value}" for name, value in chosen.items())
        if SUBJECTS[system_of(system)].store == "redis":
            told = f"not durable: Redis keeps no file; {told}"
        yield f"| {system} | {version} | {told} |"
    yield ""


def spread_text(spread: Spread) -> str:
    """Return a median with the lowest and the highest in brackets."""
    return f"{figure_text(spread.median)} ({figure_text(spread.low)}–{figure_text(spread.high)})"


def figure_text(value: float) -> str:
    """Return a figure as people read it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def ratio_text(value: float | None) -> str:
    """Return a ratio, empty where there is none."""
    return "" if value is None else f"{value:.2f}"
