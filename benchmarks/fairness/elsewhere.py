"""The table of what you would get elsewhere, kept beside the results and shown in each report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.fairness.cases import Figures
from benchmarks.machine.environments import ROOT

FILE = ROOT / "benchmarks" / "results" / "fairness-elsewhere.json"
ON_TIME, MEAN, P99 = "on time", "mean wait s", "p99 wait s"
RULES = {"plain": "in the order they came", "priority": "static priority by tolerance", "": ""}
ABOUT = {
    "newcomer": "a job (1 s) that comes after 200 of another tenant (1 s)",
    "dump": "quiet tenants (0.5 s) beside a dump of 300 jobs (6 s)",
    "dump that claims to be urgent": "the same, and the dump claims 0.5 s",
    "behind": "urgent jobs (0.3 s) beside bulk of 100 ms",
}


class Row(NamedTuple):
    """A script on a system."""

    script: str
    system: str
    rule: str
    figures: Figures


def write(rows: Sequence[Row], commit: str, path: Path = FILE) -> Path:
    """Keep the figures, and of which commit async_jobs was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"commit": commit, "rows": [row._asdict() for row in rows]}
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


def lines(path: Path = FILE) -> Iterator[str]:
    """Yield the table of what was kept; nothing if nothing was."""
    if not path.exists():
        return
    kept = json.loads(path.read_text("utf-8"))
    rows = [Row(**each) for each in kept["rows"]]
    yield "## What you would get elsewhere"
    yield ""
    yield (
        "Real time: jobs of 50 to 100 ms on four slots, each system by its own rules with its own"
        f" worker; async_jobs at `{kept['commit']}`. `python -m benchmarks.fairness.peers` repeats"
        " it; other than the tables above it depends on the machine. *Ideal* knows no latency."
    )
    yield ""
    yield f"| | | | {ON_TIME} | {MEAN} | {P99} |"
    yield "|---|---|---|---:|---:|---:|"
    for script, about in ABOUT.items():
        for row in rows:
            if row.script == script:
                figures = row.figures
                yield (
                    f"| {about} | {row.system} | {RULES[row.rule]} | {figures[ON_TIME]:.2f}"
                    f" | {figures[MEAN]:.2f} | {figures[P99]:.2f} |"
                )
    yield ""
