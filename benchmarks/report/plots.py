"""Draws the figures of a run; it has an environment of its own.

    python -m benchmarks.report.plots <raw results> <directory> <name>

async_jobs is dark, the floors are hatched, everybody else is light. Every bar tells its value,
so that no axis has to be read; whiskers are the lowest and the highest round.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt

from benchmarks.plan.subjects import FLOOR, OURS
from benchmarks.report.figures import Key, Measured, Spread, spreads

INK, OWN, OTHER, QUIET = "#22272e", "#1f4e79", "#b9c4d0", "#8a939d"
SHADES = {
    "worker": "#1f4e79",
    "scheduler": "#6f9bc3",
    "postgres": "#c9d3dd",
    "redis": "#d9b8b0",
}
WIDTH_INCHES, BAR_INCHES, HEAD_INCHES = 7.2, 0.3, 1.0
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": QUIET,
    "ytick.color": INK,
    "ytick.left": False,
    "svg.hashsalt": "async_jobs",
    "hatch.linewidth": 0.6,
}
Found = Mapping[Key, Spread]


def _is_floor(system: str) -> bool:
    return system.startswith((FLOOR, "bare-"))


def _best_last(found: Found, measured: str, metric: str, *, highest_best: bool) -> list[str]:
    """Return the systems of a measurement from the bottom of a chart to its top."""
    values = {
        s: each.median for (m, s, what), each in found.items() if (m, what) == (measured, metric)
    }
    return sorted(values, key=lambda system: values[system], reverse=not highest_best)


def rates(axes: Any, found: Found, measured: str, title: str) -> bool:
    """Draw a bar for the rate of each system; returns False when there is none."""
    systems = _best_last(found, measured, "jobs_per_s", highest_best=True)
    if not systems:
        return False
    each = [found[measured, system, "jobs_per_s"] for system in systems]
    bars = axes.barh(
        systems,
        [spread.median for spread in each],
        xerr=[[s.median - s.low for s in each], [s.high - s.median for s in each]],
        color=[OWN if system == OURS else OTHER for system in systems],
        error_kw={"ecolor": QUIET, "elinewidth": 0.8, "capsize": 2},
        height=0.62,
    )
    for bar, system, spread in zip(bars, systems, each, strict=True):
        if _is_floor(system):
            bar.set(facecolor="white", edgecolor=QUIET, hatch="////")
        _label(axes, spread.high, bar.get_y() + bar.get_height() / 2, f"{spread.median:,.0f}")
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlim(0, 1.16 * max(spread.high for spread in each))
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    return True


def latencies(axes: Any, found: Found, measured: str, title: str) -> bool:
    """Draw a line from the median to the 99th percentile of each system."""
    systems = _best_last(found, measured, "p50_ms", highest_best=False)
    for place, system in enumerate(systems):
        middle = found[measured, system, "p50_ms"].median
        high = found[measured, system, "p99_ms"].median
        color = OWN if system == OURS else QUIET
        axes.plot([middle, high], [place, place], color=color, linewidth=2.2)
        axes.plot(middle, place, "o", color=color, markersize=5)
        axes.plot(high, place, "|", color=color, markersize=9, markeredgewidth=2)
        _label(axes, high, place, f"{middle:.1f} – {high:.1f} ms", factor=1.08)
    axes.set_yticks(range(len(systems)), systems)
    axes.set_ylim(-0.6, len(systems) - 0.4)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.margins(x=0.25)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel("milliseconds, logarithmic", fontsize=8)
    return bool(systems)


def costs(axes: Any, found: Found, measured: str, title: str) -> bool:
    """Draw the CPU of a job, by process."""
    systems = _best_last(found, measured, "cpu_us", highest_best=False)
    starts = [0.0] * len(systems)
    for process, shade in SHADES.items():
        spread = [found.get((measured, system, f"cpu_us_{process}")) for system in systems]
        if not any(spread):
            continue
        widths = [0.0 if each is None else each.median for each in spread]
        axes.barh(systems, widths, left=starts, color=shade, height=0.62, label=process)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    for place, total in enumerate(starts):
        _label(axes, total, place, f"{total:,.0f} µs")
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlim(0, 1.16 * max(starts, default=1.0))
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    if systems:
        axes.legend(frameon=False, fontsize=8, ncols=4, loc="upper left", bbox_to_anchor=(0, 0))
    return bool(systems)


def _label(axes: Any, x: float, y: float, text: str, factor: float = 1.0) -> None:
    axes.annotate(
        text,
        (x * factor, y),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )


Draw = Callable[[Any, Found, str, str], bool]
CHARTS: Mapping[str, Sequence[tuple[Draw, str, str]]] = {
    "enqueue": (
        (rates, "W1 one", "Enqueue, one producer: jobs/s"),
        (rates, "W1 32", "Enqueue, 32 producers: jobs/s"),
        (rates, "W2", "Enqueue in bulk: jobs/s"),
        (rates, "W8 single", "Enqueue over HTTP, one a request: jobs/s"),
    ),
    "drain": (
        (rates, "W3 plain", "Drain, one worker: jobs/s"),
        (rates, "W3 capped", "Drain with caps, one worker: jobs/s"),
        (rates, "W3 sqs", "Drain over SQS, and the bare client: jobs/s"),
    ),
    "latency": ((latencies, "W4", "From enqueue to the handler, idle system: p50 to p99"),),
    "cost": (
        (costs, "W3 plain", "CPU a job, drain"),
        (costs, "W3 capped", "CPU a job, drain with caps"),
    ),
}


def draw(found: Found, directory: Path, name: str) -> list[Path]:
    """Draw all charts for which there are figures; return the files."""
    written: list[Path] = []
    measured = {key[0] for key in found}
    for chart, parts in CHARTS.items():
        present = [part for part in parts if part[1] in measured]
        if not present:
            continue
        counts = [len({s for m, s, _ in found if m == what}) for _, what, _ in present]
        heights = [HEAD_INCHES + BAR_INCHES * count for count in counts]
        figure, axes = plt.subplots(
            len(present),
            figsize=(WIDTH_INCHES, sum(heights)),
            height_ratios=heights,
            squeeze=False,
            layout="constrained",
        )
        for (drawing, what, title), ax in zip(present, axes[:, 0], strict=True):
            drawing(ax, found, what, title)
        written += saved(figure, directory / f"{name}-{chart}")
    return written


def saved(figure: Any, stem: Path) -> list[Path]:
    """Write a figure in both formats, let go of it, and return the files."""
    written = []
    for suffix in ("svg", "png"):
        path = stem.with_name(f"{stem.name}.{suffix}")
        metadata = {"Date": None} if suffix == "svg" else {}
        figure.savefig(path, dpi=144, facecolor="white", metadata=metadata)
        written.append(path)
    plt.close(figure)
    return written


def main(raw: str, directory: str, name: str) -> None:
    """Draw the charts of a file of raw results, and name what was written."""
    rounds = [Measured(**each) for each in json.loads(Path(raw).read_text("utf-8"))["rounds"]]
    with mpl.rc_context(STYLE):
        written = draw(spreads(rounds), Path(directory), name)
    sys.stdout.write("".join(f"{path}\n" for path in written))


if __name__ == "__main__":
    main(*sys.argv[1:])
