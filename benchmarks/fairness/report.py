"""Writes what was measured: goals, tables, figures for programs, pictures."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fairness import elsewhere
from benchmarks.fairness.cases import ON_TIME, TITLES
from benchmarks.fairness.goals import GOALS, TIMES_BOUND
from benchmarks.fairness.units import BOUND, EXISTS, OURS, Measured
from benchmarks.machine.environments import ROOT, Missing, python_of


@dataclass(kw_only=True)
class Report:
    """A run of the rig.

    Attributes:
        name: of its files.
        commit: of this checkout's package.
        command: that repeats it.
        seeds: of its traces.
        runs: what was measured of each package, of this checkout's with bounds and baselines.
        elsewhere: where figures of other systems are kept, if there are any.
    """

    name: str
    commit: str
    command: str
    seeds: Sequence[int]
    runs: Mapping[str, Sequence[Measured]]
    elsewhere: Path = elsewhere.FILE

    def __post_init__(self) -> None:
        bounds = {_group(m): m.figures[ON_TIME] for m in self.runs[OURS] if m.unit.system == BOUND}
        self.runs = {
            label: [_with_bound(each, bounds.get(_group(each))) for each in found]
            for label, found in self.runs.items()
        }

    def ours(self, label: str) -> list[Measured]:
        """Return what was measured of a package."""
        return [each for each in self.runs[label] if each.unit.is_ours]

    def as_json(self) -> dict[str, Any]:
        """Return every figure."""
        return {
            "commit": self.commit,
            "command": self.command,
            "seeds": list(self.seeds),
            "figures": [
                {
                    **each.unit._asdict(),
                    "system": label if each.unit.is_ours else each.unit.system,
                    "figures": each.figures,
                }
                for label, found in self.runs.items()
                for each in found
            ],
        }


def _group(found: Measured) -> tuple[str, str, int]:
    # Late policies that are set by hand are held against the bound of the same jobs.
    return found.unit.section, found.unit.group.partition(",")[0], found.unit.seed


def _with_bound(found: Measured, bound: float | None) -> Measured:
    if bound is None or ON_TIME not in found.figures or found.unit.system == BOUND:
        return found
    figures = dict(found.figures)
    on_time = figures.pop(ON_TIME)
    return found._replace(figures={ON_TIME: on_time, TIMES_BOUND: on_time / bound} | figures)


def write(report: Report, directory: Path) -> list[Path]:
    """Write the tables and the figures."""
    directory.mkdir(parents=True, exist_ok=True)
    table, figures = directory / f"{report.name}.md", directory / f"{report.name}.json"
    table.write_text(markdown(report), "utf-8")
    figures.write_text(json.dumps(report.as_json(), indent=1, ensure_ascii=False) + "\n", "utf-8")
    return [table, figures]


def drawn(report: Report, directory: Path) -> list[Path] | Missing:
    """Draw the pictures of what was written, in an environment of their own."""
    python = python_of("plots", print)
    if isinstance(python, Missing):
        return python
    raw = (directory / f"{report.name}.json").absolute()
    command = [str(python), "-m", "benchmarks.fairness.pictures", str(raw)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if told.returncode != 0:
        return Missing(told.stderr.strip()[-300:])
    return [Path(line) for line in told.stdout.splitlines()]


def markdown(report: Report) -> str:
    """Return goals and tables."""
    return "\n".join(
        [*_head(report), *goals(report), *_sections(report), *elsewhere.lines(report.elsewhere)]
    )


def _head(report: Report) -> Iterator[str]:
    yield "# Deadlines and fairness"
    yield ""
    seeds = ", ".join(map(str, report.seeds))
    yield (
        f"Virtual time, commit `{report.commit}`, seeds {seeds}"
        f"{'; medians over seeds' if len(report.seeds) > 1 else ''}. Repeat with"
        f" `{report.command}`: the same seeds give the same figures on every machine."
    )
    yield ""
    yield (
        "The application's own scheduler and rules on simulated workers; baselines are ideal:"
        " they know no hand-off and no latency. *On time* is the share of first attempts that"
        " start by their deadline."
    )
    yield ""


def goals(report: Report) -> Iterator[str]:
    """Yield the table of goals: of each the figure that is farthest from it."""
    labels = _labels(report)
    yield "## Goals"
    yield ""
    yield f"| | goal |{''.join(f' {label} | met | worst in |' for label in labels)}"
    yield "|---|---|" + "---:|---|---|" * len(labels)
    for goal in GOALS:
        cells = []
        for label in labels:
            worst = goal.worst(report.ours(label))
            if worst is None:
                cells += ["", "", ""]
                continue
            value, found = worst
            unit = found.unit
            where = f"{unit.section}: {unit.group}, {unit.config}"
            if len(report.seeds) > 1:
                where += f", seed {unit.seed}"
            cells += [text(value), "yes" if goal.met(value) else "**no**", where]
        if any(cells):
            yield f"| {goal.text} | {goal.told} | {' | '.join(cells)} |"
    yield ""


def goals_text(report: Report) -> str:
    """Return the goals for a terminal."""
    return "\n".join(goals(report))


def _sections(report: Report) -> Iterator[str]:
    for section, title in TITLES.items():
        lines = list(_rows(report, section))
        if len(lines) > 2:
            yield f"## {title} (`{section}`)"
            yield ""
            yield from lines
            yield ""


def _rows(report: Report, section: str) -> Iterator[str]:
    rows: dict[tuple[str, str], list[Measured]] = {}
    for label in reversed(_labels(report)):
        for each in report.runs[label]:
            unit = each.unit
            if unit.section == section:
                system = f"{label}, {unit.config}" if unit.is_ours else unit.system
                rows.setdefault((unit.group, system), []).append(each)
    names = list(
        dict.fromkeys(
            name
            for (_, system), found in sorted(rows.items(), key=lambda row: row[0][1] == BOUND)
            if system != EXISTS
            for name in found[0].figures
        )
    )
    yield f"| | | {' | '.join(names)} |"
    yield "|---|---|" + "---:|" * len(names)
    groups = list(dict.fromkeys(group for group, _ in rows))
    for group in groups:
        systems = [system for of, system in rows if of == group]
        for system in sorted(systems, key=lambda name: name.startswith(OURS)):
            found = rows[group, system]
            cells = []
            for name in names:
                values = [each.figures[name] for each in found if name in each.figures]
                cells.append(text(statistics.median(values)) if values else "")
            yield f"| {group} | {system} | {' | '.join(cells)} |"


def _labels(report: Report) -> list[str]:
    """Return the packages, this checkout's first."""
    return [OURS, *(label for label in report.runs if label != OURS)]


def text(value: float) -> str:
    """Return a figure as people read it."""
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
