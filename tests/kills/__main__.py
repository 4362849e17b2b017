"""The long run: `python -m tests.kills --kills 500 --deaths 20 --restarts 50`.

Exits 1 when a promise was broken, and keeps the evidence: the violations, the clients' book, the
record of the executions, and what became of the programs.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from async_jobs.host import SystemClock
from tests.kills.arena import LEASE_SECONDS, LIMITS, TICK_SECONDS
from tests.kills.campaign import Plan, Report, a_campaign
from tests.kills.faults import Fault
from tests.kills.recovery import Delays
from tests.kit import services

RESTARTS = (Fault.RESTART_FAST, Fault.RESTART_IMMEDIATE)
TOLD_MAX = 20

console = Console(width=100, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one campaign as the command line wants it; returns the exit code."""
    options = _parser().parse_args(arguments)
    restarts = {RESTARTS[0]: (options.restarts + 1) // 2, RESTARTS[1]: options.restarts // 2}
    others = {fault: options.faults for fault in Fault if fault not in RESTARTS}
    plan = Plan(
        kills=options.kills,
        deaths=options.deaths,
        faults=restarts | others,
        seed=options.seed,
        schedulers=options.schedulers,
        workers=options.workers,
        apis=options.apis,
    )
    directory = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        report = asyncio.run(_run(plan, directory, options.transport, options.minutes))
    except BaseException:
        console.print(f"the evidence is in {directory}")
        raise
    _tell(report, plan, options.transport)
    late = report.after_claims.worst > options.late or report.after_hand_offs.worst > options.late
    if late:
        console.print(f"[red]recovery took longer than {options.late} s[/]")
    if report.verdict.violations or report.journal.tracebacks or late:
        console.print(f"the evidence is in {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    add = parser.add_argument
    add("--kills", type=int, default=500, help="programs to kill at random")
    add("--deaths", type=int, default=20, help="deaths at each failpoint")
    add("--restarts", type=int, default=50, help="restarts of Postgres, half of them crashes")
    add("--faults", type=int, default=5, help="how often each other fault happens")
    add("--transport", choices=["postgres", "sqs"], default="postgres")
    add("--schedulers", type=int, default=2)
    add("--workers", type=int, default=3)
    add("--apis", type=int, default=1)
    add("--seed", type=int, default=1)
    add("--minutes", type=float, default=60.0, help="give up after so long")
    add("--late", type=float, default=5.0, help="seconds a lease may outlive its end; see recovery")
    return parser


async def _run(plan: Plan, directory: Path, transport: str, minutes: float) -> Report:
    began = SystemClock().monotonic()

    def tell(what: str) -> None:
        passed = int(SystemClock().monotonic() - began)
        console.print(f"{passed // 60:3}:{passed % 60:02}  {what}")

    with ExitStack() as stack:
        endpoint = stack.enter_context(services.sqs()) if transport == "sqs" else None
        async with asyncio.timeout(60 * minutes):
            async with a_campaign(plan, directory, sqs_endpoint=endpoint) as campaign:
                return await campaign.run(tell)


# --- telling ------------------------------------------------------------------------------------


def _tell(report: Report, plan: Plan, transport: str) -> None:
    journal, verdict, book = report.journal, report.verdict, report.book
    table = Table(title=f"{transport}, seed {plan.seed}, {report.seconds:.0f} s", min_width=80)
    table.add_column("what")
    table.add_column("count", justify="right")
    for kind, count in sorted(journal.kills.items()):
        table.add_row(f"{kind}s killed at random", str(count))
    for name, count in sorted(journal.deaths.items()):
        table.add_row(f"died at {name}", str(count))
    for name, count in sorted(journal.faults.items()):
        table.add_row(name, str(count))
    table.add_section()
    for end, count in sorted(journal.ends.items()):
        table.add_row(f"ended by itself: {end}", str(count))
    table.add_row("programs started", str(journal.starts))
    table.add_section()
    table.add_row("jobs sent", str(len(book.planned)))
    table.add_row("jobs acknowledged", str(len(book.acknowledged)))
    table.add_row("jobs refused by a quota", str(len(book.refused)))
    table.add_row("jobs in the database", str(verdict.jobs))
    table.add_row("executions", str(verdict.executions))
    table.add_row("executions beside another one of the job", str(verdict.overlaps))
    table.add_row("commits", str(verdict.commits))
    table.add_row("transitions checked", str(verdict.events.total()))
    for event, count in sorted(verdict.events.items()):
        table.add_row(f"  {event}", str(count))
    for name, most in sorted(verdict.most_running.items()):
        cap = LIMITS.caps.get(name) or LIMITS.tenant_caps.get(name) or "any number"
        table.add_row(f"most running of {name}, of {cap}", str(most))
    table.add_section()
    table.add_row("violations", str(len(verdict.violations)))
    table.add_row("stack traces", str(len(journal.tracebacks)))
    console.print(table)
    console.print(_recovery(report))
    for violation in verdict.violations[:TOLD_MAX]:
        console.print(f"[red]{violation}[/]")


def _recovery(report: Report) -> Table:
    excused = sum(span.end - span.start for span in report.excused)
    table = Table(
        title=f"seconds from a lease's end to its reap (lease {LEASE_SECONDS} s, tick"
        f" {TICK_SECONDS} s; {excused:.0f} s taken out)",
        min_width=80,
    )
    for title in ("leases", "count", "excused", "median", "99 %", "longest"):
        table.add_column(title, justify="left" if title == "leases" else "right")

    def add(name: str, delays: Delays) -> None:
        figures = (delays.quantile(0.5), delays.quantile(0.99), delays.worst)
        counts = (str(len(delays.seconds)), str(delays.excused))
        table.add_row(name, *counts, *(f"{each:.3f}" for each in figures))

    add("claimed", report.after_claims)
    add("handed off", report.after_hand_offs)
    return table


if __name__ == "__main__":
    sys.exit(main())
