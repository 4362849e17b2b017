"""Writes what was measured: tables for people, figures for programs, plots."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.machine.environments import ROOT, Missing, Tell, python_of
from benchmarks.report import growth_tables, tables
from benchmarks.report.figures import quick_list
from benchmarks.report.growth import growth_list
from benchmarks.report.record import Report


def write(report: Report, directory: Path) -> list[Path]:
    """Write the raw figures, the table and, of a quick run and of curves, a list of the figures."""
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    figures = _figures(report)
    raw = directory / f"{report.name}{'.json' if figures is None else '-raw.json'}"
    table = directory / f"{report.name}.md"
    written = [raw, table]
    raw.write_text(_dumped(report.as_json()), "utf-8")
    if figures is not None:
        path = directory / f"{report.name}.json"
        path.write_text(_dumped(figures), "utf-8")
        written.append(path)
    markdown = growth_tables.markdown if report.growth else tables.markdown
    table.write_text(markdown(report), "utf-8")
    return written


def _figures(report: Report) -> list[dict[str, Any]] | None:
    if report.growth:
        return growth_list(report.rounds)
    return quick_list(report.rounds) if report.quick else None


def plotted(raw: Path, report: Report, tell: Tell) -> list[Path] | Missing:
    """Draw the charts of a file of raw results, in an environment of their own."""
    python = python_of("plots", tell)
    if isinstance(python, Missing):
        return python
    module = "benchmarks.report.curves" if report.growth else "benchmarks.report.plots"
    command = [str(python), "-m", module, str(raw), str(raw.parent), report.name]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if told.returncode != 0:
        return Missing(told.stderr.strip()[-300:])
    return [Path(line) for line in told.stdout.splitlines()]


def _dumped(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
