"""Draws the curves of growth; it runs in the environment of the plots.

    python -m benchmarks.report.curves <raw results> <directory> <name>

Of each axis the rate, with the lowest and the highest round, and beneath it the CPU of a job, by
process. Points stand side by side, because their numbers grow by factors and may begin at none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt

from benchmarks.report.figures import Measured
from benchmarks.report.growth import CPU, Point, curves
from benchmarks.report.plots import OWN, QUIET, SHADES, STYLE, WIDTH_INCHES, saved

HEIGHT_INCHES = 5.0
BAR = 0.55


def rate(axes: Any, points: Sequence[Point]) -> None:
    """Draw the rate, and how it compares with that of the first point."""
    spread = [point.figures["jobs_per_s"] for point in points]
    middles = [each.median for each in spread]
    axes.errorbar(
        range(len(points)),
        middles,
        yerr=[[s.median - s.low for s in spread], [s.high - s.median for s in spread]],
        color=OWN,
        ecolor=QUIET,
        elinewidth=0.8,
        capsize=2,
        marker="o",
        markersize=5,
        linewidth=2.2,
    )
    for place, point in enumerate(points):
        times = point.ratios.get("jobs_per_s")
        told = f"{middles[place]:,.0f}" + (f"\n{times:.2f} ×" if place and times else "")
        _label(axes, place, spread[place].high, told)
    axes.set_ylim(0, 1.3 * max(each.high for each in spread))
    axes.set_title(f"{points[0].axis.title}: jobs/s", loc="left", fontsize=10, fontweight="bold")
    _plain(axes)


def cost(axes: Any, points: Sequence[Point]) -> None:
    """Draw the CPU of a job, by process."""
    starts = [0.0] * len(points)
    for process, shade in SHADES.items():
        spread = [point.figures.get(f"{CPU}{process}") for point in points]
        if not any(spread):
            continue
        heights = [0.0 if each is None else each.median for each in spread]
        places = range(len(points))
        axes.bar(places, heights, bottom=starts, color=shade, width=BAR, label=process)
        starts = [start + height for start, height in zip(starts, heights, strict=True)]
    for place, total in enumerate(starts):
        _label(axes, place, total, f"{total:,.0f} µs")
    axes.set_ylim(0, 1.2 * max(*starts, 1.0))
    axes.set_title("CPU a job", loc="left", fontsize=10, fontweight="bold")
    _plain(axes)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper right", bbox_to_anchor=(1, 1.18))


def _label(axes: Any, x: float, y: float, text: str) -> None:
    axes.annotate(
        text,
        (x, y),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},  # over a steep line
    )


def _plain(axes: Any) -> None:
    """Leave out what the labels tell."""
    axes.yaxis.set_visible(False)
    axes.margins(x=0.08)


def draw(points: Sequence[Point], directory: Path, name: str) -> list[Path]:
    """Draw one curve; return the files."""
    figure, (above, below) = plt.subplots(
        2, figsize=(WIDTH_INCHES, HEIGHT_INCHES), sharex=True, layout="constrained"
    )
    rate(above, points)
    cost(below, points)
    below.set_xticks(range(len(points)), [f"{point.at:,}" for point in points])
    below.tick_params(axis="x", labelcolor=STYLE["text.color"])
    return saved(figure, directory / f"{name}-{points[0].axis.name}")


def main(raw: str, directory: str, name: str) -> None:
    """Draw the curves of a file of raw results, and name what was written."""
    rounds = [Measured(**each) for each in json.loads(Path(raw).read_text("utf-8"))["rounds"]]
    with mpl.rc_context(STYLE):
        written = [
            path
            for points in curves(rounds).values()
            for path in draw(points, Path(directory), name)
        ]
    sys.stdout.write("".join(f"{path}\n" for path in written))


if __name__ == "__main__":
    main(*sys.argv[1:])
