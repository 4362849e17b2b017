"""What the demo sets and plants, what its processes told, and the account of what became of it."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import quantiles
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table

from async_jobs.domain.crashes import LEASE_EXPIRED
from async_jobs.domain.job import TERMINAL, Job, JobStatus
from async_jobs.entrypoints.demo.workload import (
    FAILURE_SHARE,
    NOISY,
    NOISY_MAX,
    REPORT,
    TENANTS,
    USE_CASES,
    Planned,
)

STARTED = frozenset({"api_started", "scheduler_started", "worker_started"})
ENDED = frozenset({"job_succeeded", "job_died", "job_cancelled"})
STOPPED = ENDED | {"job_failed", "job_released"}
LIMITS: Mapping[str, int] = {
    **{name: config.max_concurrent for name, config in USE_CASES.items()},
    NOISY: NOISY_MAX,
}
"""How many jobs of each use case, and of the noisy tenant, may run at once."""


class FactLog:
    """Reads the JSON logs of running processes as they grow.

    Attributes:
        workers: what each worker calls itself, by the name of its log.
        reports: the reports that it executes.
    """

    def __init__(self) -> None:
        self._offsets: dict[Path, int] = {}
        self.workers: dict[str, str] = {}
        self.reports: dict[str, set[str]] = {}
        self.started_processes = 0
        self.api_port: int | None = None
        self.ended = 0

    def read(self, paths: Iterable[Path]) -> None:
        """Take in what was written since the last time; an unfinished line waits."""
        for path in paths:
            if not path.exists():
                continue
            offset = self._offsets.get(path, 0)
            with path.open("rb") as log:
                log.seek(offset)
                text = log.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._offsets[path] = offset + len(whole)
            for line in whole.splitlines():
                self._take(path, line)

    def _take(self, path: Path, line: bytes) -> None:
        try:
            record: dict[str, Any] = json.loads(line)
        except ValueError:
            return
        event = record.get("event")
        if event in STARTED:
            self.started_processes += 1
            self.api_port = record.get("port", self.api_port)
        elif event == "job_started":
            self.workers[path.stem] = record["worker_id"]
            if record["type"] == REPORT:
                self.reports.setdefault(path.stem, set()).add(record["job_id"])
        if event in STOPPED:
            self.reports.get(path.stem, set()).discard(record["job_id"])
        if event in ENDED:
            self.ended += 1

    def busiest(self) -> str | None:
        """Return the name of the worker that executes the most reports; None if none does."""
        busy = {name: len(ids) for name, ids in self.reports.items() if ids}
        return max(busy, key=lambda name: busy[name], default=None)


@dataclass(slots=True)
class Killed:
    """A worker that was killed.

    Attributes:
        name: of its process.
        at: when it was dead.
        worker_id: what it called itself; None if it had started no job.
        jobs: those that it had, by the records of their attempts.
    """

    name: str
    at: datetime
    worker_id: str | None
    jobs: list[Job] = field(default_factory=list)


@dataclass(slots=True)
class Account:
    """What the demo saw.

    Attributes:
        planned: how each job has to end.
        stored: the jobs as the store has them in the end.
        most_running: the most that were seen running at once, by use case and noisy tenant.
        killed: None as long as no worker was.
        seconds: how long it took.
    """

    planned: Mapping[UUID, JobStatus] = field(default_factory=dict)
    stored: Sequence[Job] = ()
    most_running: Counter[str] = field(default_factory=Counter)
    killed: Killed | None = None
    seconds: float = 0.0

    def broken(self) -> list[str]:
        """Name each promise that was not kept; the store is the only truth."""
        ended = {job.id: job.status for job in self.stored}
        told = {
            "lost": len(self.planned.keys() - ended.keys()),
            "unfinished": sum(job.status not in TERMINAL for job in self.stored),
            "ended otherwise than planned": sum(
                ended.get(id, fate) in TERMINAL and ended.get(id, fate) is not fate
                for id, fate in self.planned.items()
            ),
        }
        return [
            *(f"{count:,} jobs {what}" for what, count in told.items() if count),
            *(
                f"{self.most_running[name]} jobs of {name} ran at once; {limit} may"
                for name, limit in LIMITS.items()
                if self.most_running[name] > limit
            ),
        ]


def print_plan(console: Console, planned: Sequence[Planned], lease_seconds: float) -> None:
    """Say what is set and which faults are planted."""
    noisy = sum(each.request.tenant_id == NOISY for each in planned)
    dead = sum(each.fate is JobStatus.DEAD for each in planned)
    _print_part(
        console,
        "What is set",
        {
            name: f"{config.max_concurrent} at once; to start within"
            f" {config.default_delay_tolerance_seconds:g} s of being due"
            for name, config in USE_CASES.items()
        }
        | {NOISY: f"{NOISY_MAX} at once; {noisy:,} of {len(planned):,} jobs, before all others'"},
    )
    _print_part(
        console,
        "What is planted",
        {
            "failures": f"{FAILURE_SHARE:.0%} of deliveries fail at their first attempt",
            "dead jobs": f"{dead:,} e-mails go to an impossible address",
            "a kill": f"of a worker, while it makes reports; leases last {lease_seconds:g} s",
        },
    )


def print_report(console: Console, account: Account) -> None:
    """Say what became of the jobs, of what was planted, and of what was set."""
    stored = account.stored
    by_status = Counter(job.status.value for job in stored)
    statuses = ", ".join(f"{count:,} {status}" for status, count in sorted(by_status.items()))
    failed = sum(job.status is JobStatus.SUCCEEDED and _has_failed(job) for job in stored)
    per_second = len(stored) / account.seconds
    _print_part(
        console,
        "What became of it",
        {
            "jobs": f"{statuses}; {per_second:,.0f} jobs/s over {account.seconds:.1f} s",
            "failures": f"{failed:,} jobs failed, were retried, and succeeded",
            "the kill": _about_kill(account.killed),
        }
        | {
            name: f"at most {account.most_running[name]} seen running at once; {limit} may"
            for name, limit in LIMITS.items()
        },
    )
    console.print()
    console.print(_starts(stored))
    console.print(
        "in time: started by the deadline. at best: what these starts allowed, had they\n"
        "gone by deadline alone, to whichever tenant. p50, p95, p99: from due to started"
    )


def _print_part(console: Console, title: str, lines: Mapping[str, str]) -> None:
    console.print(f"\n{title}")
    for name, text in lines.items():
        console.print(f"  {name:<16}  {text}", soft_wrap=True)


def _has_failed(job: Job) -> bool:
    return any(not each.error.startswith(LEASE_EXPIRED) for each in job.errors)


def _about_kill(killed: Killed | None) -> str:
    if killed is None:
        return "all jobs had ended before it"
    if not killed.jobs:
        return f"{killed.name} was executing no job when it died"
    back = [job for job in killed.jobs if job.finished_at is not None]
    if not back:
        return f"{killed.name} had {len(killed.jobs)} jobs; none has ended"
    last = max((job.finished_at or killed.at) - killed.at for job in back).total_seconds()
    return (
        f"{killed.name} had {len(killed.jobs)} jobs; {len(back)} ended elsewhere, in {last:.1f} s"
    )


# --- punctuality --------------------------------------------------------------------------------


def _starts(stored: Sequence[Job]) -> Table:
    table = Table(title="first starts", title_justify="left")
    table.add_column("")
    for heading in ("jobs", "in time", "at best", "p50", "p95", "p99"):
        table.add_column(heading, justify="right")
    for use_case in USE_CASES:
        jobs = [job for job in stored if job.use_case == use_case]
        _add_row(table, use_case, jobs, f"{best_share(jobs):.1%}" if jobs else "")
    table.add_section()
    _add_row(table, NOISY, [job for job in stored if job.tenant_id == NOISY])
    others = [job for job in stored if job.tenant_id != NOISY]
    _add_row(table, f"{len(TENANTS) - 1} other tenants", others)
    return table


def _add_row(table: Table, name: str, jobs: Sequence[Job], best: str = "") -> None:
    waits = [(job.first_start - _due_at(job)).total_seconds() for job in jobs if job.first_start]
    if len(waits) < 2:
        return
    cuts = quantiles(waits, n=100, method="inclusive")
    on_time = sum(_is_on_time(job) for job in jobs) / len(jobs)
    latencies = (f"{cuts[percent - 1]:.2f} s" for percent in (50, 95, 99))
    table.add_row(name, f"{len(jobs):,}", f"{on_time:.1%}", best, *latencies)


def _due_at(job: Job) -> datetime:
    return job.first_deadline - job.delay_tolerance


def _is_on_time(job: Job) -> bool:
    return job.first_start is not None and job.first_start <= job.first_deadline


def best_share(jobs: Sequence[Job]) -> float:
    """Return the share of jobs that could have been on time, by starts at the same instants.

    At each instant at which a job started, the one that is due and has the earliest deadline
    still ahead would have: no other order has more of them on time (Glover 1967).
    """
    coming = sorted((_due_at(job), job.first_deadline) for job in jobs)[::-1]
    due: list[datetime] = []
    on_time = 0
    for start in sorted(job.first_start for job in jobs if job.first_start is not None):
        while coming and coming[-1][0] <= start:
            heapq.heappush(due, coming.pop()[1])
        while due and due[0] < start:
            heapq.heappop(due)
        if due:
            heapq.heappop(due)
            on_time += 1
    return on_time / len(jobs)
