"""Draws the figures of a run; it has an environment of its own.

    python -m benchmarks.fairness.pictures <figures>

The package is dark, the one of another commit lighter, baselines are light, bounds hatched.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt

QUIET, OWN, OLD, OTHER, INK = "#8a939d", "#1f4e79", "#6f9bc3", "#b9c4d0", "#22272e"
WIDTH_INCHES, BAR_INCHES, HEAD_INCHES = 7.2, 0.24, 0.7
OURS, BOUNDS = "async_jobs", ("no schedule can beat", "a schedule exists")
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.spines.bottom": False,
    "ytick.color": INK,
    "ytick.left": False,
    "svg.hashsalt": "async_jobs",
    "hatch.linewidth": 0.6,
}


class Chart(NamedTuple):
    """What is drawn of a section: one figure, and up to where its axis goes."""

    section: str
    figure: str
    title: str
    most: float | None = 1.0


CHARTS: Mapping[str, Sequence[Chart]] = {
    "deadlines": (
        Chart("day", "on time", "First attempts on time: an ordinary day"),
        Chart("overload", "on time", "1.2 times too much for an hour"),
        Chart("many", "on time", "40 use cases"),
        Chart("retries", "on time", "A storm of retries"),
    ),
    "fairness": (
        Chart("backlog", "Jain's index", "Jain's index of service ÷ weight while backlogged"),
        Chart("noisy", "quiet ones on time", "Quiet tenants on time beside a dump of 100,000 jobs"),
        Chart("liar", "liar's gain", "What a liar gains over its share", None),
    ),
    "urgent": (
        Chart("behind", "÷ EDF's", "Wait of urgent jobs beside bulk work ÷ EDF's", 20.0),
        Chart("hidden", "urgent ones on time", "Urgent jobs on time that others hide"),
        Chart("newcomer", "waited, rounds", "Rounds that a newcomer waits", 20.0),
    ),
}
Row = tuple[str, str, float]  # label, system, figure


def rows_of(figures: Sequence[Mapping[str, Any]], chart: Chart) -> list[Row]:
    """Return the bars of a chart from top to bottom: medians over seeds."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for each in figures:
        if each["section"] == chart.section and chart.figure in each["figures"]:
            config = each["config"] if each["system"].startswith(OURS) else ""
            key = (each["group"], each["system"], config)
            values.setdefault(key, []).append(each["figures"][chart.figure])
    groups = list(dict.fromkeys(group for group, *_ in values))
    return [
        (f"{group}: {system}{f', {config}' if config else ''}", system, statistics.median(found))
        for wanted in groups
        for (group, system, config), found in sorted(
            values.items(), key=lambda item: item[0][1].startswith(OURS)
        )
        if group == wanted
    ]


def bars(axes: Any, rows: Sequence[Row], chart: Chart) -> None:
    """Draw a bar for each row; every bar tells its value."""
    most = chart.most or max(1e-9, *(value for *_, value in rows))
    for place, (_, system, value) in enumerate(reversed(rows)):
        color = OWN if system == OURS else OLD if system.startswith(OURS) else OTHER
        (bar,) = axes.barh([place], [max(0.0, min(value, most))], color=color, height=0.66)
        if system in BOUNDS:
            bar.set(facecolor="white", edgecolor=QUIET, hatch="////")
        axes.annotate(
            f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}",
            (max(0.0, min(value, most)), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_yticks(range(len(rows)), [label for label, *_ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0, 1.12 * most)
    axes.xaxis.set_visible(False)
    axes.set_title(chart.title, loc="left", fontsize=9, fontweight="bold")


def draw(figures: Sequence[Mapping[str, Any]], stem: Path) -> list[Path]:
    """Draw all pictures for which there are figures; return the files."""
    written = []
    for name, charts in CHARTS.items():
        present = [(chart, rows) for chart in charts if (rows := rows_of(figures, chart))]
        if not present:
            continue
        heights = [HEAD_INCHES + BAR_INCHES * len(rows) for _, rows in present]
        figure, axes = plt.subplots(
            len(present),
            figsize=(WIDTH_INCHES, sum(heights)),
            height_ratios=heights,
            squeeze=False,
            layout="constrained",
        )
        for (chart, rows), ax in zip(present, axes[:, 0], strict=True):
            bars(ax, rows, chart)
        for suffix in ("svg", "png"):
            path = stem.with_name(f"{stem.name}-{name}.{suffix}")
            metadata = {"Date": None} if suffix == "svg" else {}
            figure.savefig(path, dpi=110, facecolor="white", metadata=metadata)
            written.append(path)
        plt.close(figure)
    return written


def main(path: str) -> None:
    """Draw the pictures of a file of figures beside it, and name what was written."""
    figures = json.loads(Path(path).read_text("utf-8"))["figures"]
    with mpl.rc_context(STYLE):
        written = draw(figures, Path(path).with_suffix(""))
    sys.stdout.write("".join(f"{each}\n" for each in written))


if __name__ == "__main__":
    main(sys.argv[1])
