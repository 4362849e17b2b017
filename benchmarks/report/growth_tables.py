"""The tables of growth: a curve each, with the ratios to its first point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.report.growth import BUFFERS, CPU, Point, curves
from benchmarks.report.record import Report
from benchmarks.report.tables import (
    beside,
    correctness,
    figure_text,
    head,
    missing,
    ratio_text,
    settings,
    spread_text,
)

IN_ALL = ("cpu_us", "wal_bytes", BUFFERS)
UNITS = {"cpu_us": "CPU, µs", "wal_bytes": "WAL, bytes", BUFFERS: "buffers"}


def markdown(report: Report) -> str:
    """Return the whole report."""
    parts: list[Iterable[str]] = [
        head(report),
        _about(),
        *(_curve(points) for points in curves(report.rounds).values()),
        beside(report),
        missing(report),
        correctness(report),
        settings(report),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def _about() -> Iterator[str]:
    yield (
        "Costs are those of one job; CPU in microseconds, by process and in all; buffers of"
        " tables and indexes that were touched. ÷ is the ratio to the first line."
    )
    yield ""


def _curve(points: Sequence[Point]) -> Iterator[str]:
    axis = points[0].axis
    metrics = sorted({m for p in points for m in p.figures if m.startswith(CPU)}, reverse=True)
    processes = [metric.removeprefix(CPU) for metric in metrics]
    columns = " | ".join(f"{UNITS[metric]} | ÷" for metric in IN_ALL)
    yield f"## {axis.name}: {axis.title}"
    yield ""
    yield f"| | jobs/s | ÷ | {' | '.join(processes)} | {columns} | rounds |"
    yield "|---:|" + "---:|" * (2 + len(processes) + 2 * len(IN_ALL) + 1)
    for point in points:
        figures, ratios = point.figures, point.ratios
        cells = [spread_text(figures["jobs_per_s"]), ratio_text(ratios.get("jobs_per_s"))]
        cells += [figure_text(figures[m].median) if m in figures else "" for m in metrics]
        for metric in IN_ALL:
            cells += [figure_text(figures[metric].median), ratio_text(ratios.get(metric))]
        yield f"| {point.at:,} | {' | '.join(cells)} | {figures['jobs_per_s'].rounds} |"
    yield ""
