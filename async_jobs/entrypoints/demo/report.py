"""What the demo's processes told in their logs, and the table made of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

from async_jobs.domain.job import Job
from async_jobs.entrypoints.demo.workload import NOISY

STARTED = frozenset({"api_started", "scheduler_started", "worker_started"})
ENDED = frozenset({"job_succeeded", "job_died", "job_cancelled"})


@dataclass(frozen=True, slots=True)
class Start:
    """A first attempt's start, as the worker told it."""

    use_case: str
    tenant_id: str
    latency_seconds: float
    on_time: bool


class FactLog:
    """Reads the JSON logs of running processes as they grow."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._offsets = dict.fromkeys(paths, 0)
        self.starts: list[Start] = []
        self.started_processes = 0
        self.api_port: int | None = None
        self.ended = 0
        self.retries = 0

    def read(self) -> None:
        """Take in what was written since the last time; an unfinished line waits."""
        for path, offset in self._offsets.items():
            if not path.exists():
                continue
            with path.open("rb") as log:
                log.seek(offset)
                text = log.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._offsets[path] = offset + len(whole)
            for line in whole.splitlines():
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            return
        event = record.get("event")
        if event in STARTED:
            self.started_processes += 1
            self.api_port = record.get("port", self.api_port)
        elif event == "job_started" and record["attempt"] == 1:
            self.starts.append(_start(record))
        elif event in ENDED:
            self.ended += 1
        elif event == "job_failed":
            self.retries += 1


def _start(record: dict[str, Any]) -> Start:
    return Start(
        use_case=record["use_case"],
        tenant_id=record["tenant_id"],
        latency_seconds=record["start_latency"],
        on_time=record["late_by"] <= 0,
    )


def print_report(console: Console, jobs: Iterable[Job], log: FactLog, seconds: float) -> None:
    """Print jobs by status, and punctuality by use case and by group of tenants."""
    by_status = Counter(job.status.value for job in jobs)
    total = sum(by_status.values())
    statuses = ", ".join(f"{count:,} {status}" for status, count in sorted(by_status.items()))
    console.print(f"\n{total:,} jobs: {statuses}; {log.retries:,} attempts failed and were retried")
    console.print(f"throughput: {total / seconds:,.0f} jobs/s over {seconds:.1f} s\n")
    table = Table(title="first attempts", title_justify="left")
    table.add_column("")
    for heading in ("jobs", "started on time", "p50", "p95", "p99"):
        table.add_column(heading, justify="right")
    for use_case in sorted({start.use_case for start in log.starts}):
        _add_row(table, use_case, [s for s in log.starts if s.use_case == use_case])
    table.add_section()
    _add_row(table, NOISY, [s for s in log.starts if s.tenant_id == NOISY])
    _add_row(table, "19 other tenants", [s for s in log.starts if s.tenant_id != NOISY])
    console.print(table)
    console.print("p50, p95, p99: seconds from the moment a job was due to its start")


def _add_row(table: Table, name: str, starts: Sequence[Start]) -> None:
    if len(starts) < 2:
        return
    cuts = quantiles((start.latency_seconds for start in starts), n=100, method="inclusive")
    on_time = sum(start.on_time for start in starts) / len(starts)
    latencies = (f"{cuts[percent - 1]:.2f} s" for percent in (50, 95, 99))
    table.add_row(name, f"{len(starts):,}", f"{on_time:.1%}", *latencies)
