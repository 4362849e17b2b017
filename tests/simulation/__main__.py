"""`python -m tests.simulation`: search seeds for a broken rule, or replay one of them.

make simulate                       # 500 seeds, as CI does
make simulate ARGS='--seeds 5000'
make simulate ARGS='--seed 4711 --trace'
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tests.simulation.faults import LEVELS
from tests.simulation.plan import LANES, LONG_SCALES, SCALES, Plan, plan_of
from tests.simulation.records import Totals
from tests.simulation.shrink import options_of, shrunk
from tests.simulation.world import Report, simulate

HOUR = 3_600.0
KEPT_LINES = 60

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


@dataclass
class Sum:
    """What many simulations came to."""

    seeds: int = 0
    steps: int = 0
    lines: int = 0
    seconds: dict[float, float] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    digests: int = 0

    def add(self, report: Report) -> None:
        self.seeds += 1
        self.steps += report.steps
        self.lines += report.length
        scale = report.plan.scale
        self.seconds[scale] = self.seconds.get(scale, 0.0) + report.seconds
        self.totals.add(report.totals)
        # One number that stands for all of them: the same seeds give the same one.
        self.digests ^= int(report.digest, 16) * (2 * report.plan.seed + 1) % 2**64

    @property
    def hours(self) -> float:
        return sum(self.seconds.values()) / HOUR


def main(
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to try.")] = 500,
    start: Annotated[int, typer.Option(min=0, help="The first seed.")] = 1,
    level: Annotated[
        str | None, typer.Option(help=f"Of faults: {', '.join(LEVELS)}; else the seed decides.")
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", help="Mostly durations of 20 and 200 times the defaults.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, help="How many run side by side.")] = 2,
    seed: Annotated[int | None, typer.Option(help="Replay this one seed instead.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Print all that happens.")] = False,
    faults: Annotated[
        str | None, typer.Option(help="Only these kinds, separated by commas, or none.")
    ] = None,
    scale: Annotated[float | None, typer.Option(min=0.1, help="Of all durations.")] = None,
    leases: Annotated[int | None, typer.Option(min=1, help="Length, in leases.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1)] = None,
    schedulers: Annotated[int | None, typer.Option(min=1)] = None,
    workers: Annotated[int | None, typer.Option(min=1)] = None,
    apis: Annotated[int | None, typer.Option(min=1)] = None,
    use_cases: Annotated[int | None, typer.Option("--use_cases", min=1)] = None,
    tenants: Annotated[int | None, typer.Option(min=1)] = None,
    crowd: Annotated[int | None, typer.Option(min=0)] = None,
    controls: Annotated[int | None, typer.Option(min=0, help="How many orders.")] = None,
    interval: Annotated[float | None, typer.Option(min=0.1)] = None,
    poll: Annotated[float | None, typer.Option(min=0.1)] = None,
    lanes: Annotated[
        str | None, typer.Option(help=f"Of hand-offs: {' or '.join(LANES)}, the jobs' database.")
    ] = None,
) -> None:
    """Run the whole system in a seeded world where everything goes wrong, and check every rule.

    Options below --trace replace what the seed would decide.
    """
    changes = {
        name: value
        for name, value in locals().items()
        if name in {each.name for each in fields(Plan)} - {"seed", "level", "faults"}
        and value is not None
    }
    plan = partial(_plan, level=level, long=long, kinds=faults, changes=changes)
    if seed is not None:
        raise typer.Exit(_replay(plan(seed), trace=trace))
    raise typer.Exit(_search([plan(each) for each in range(start, start + seeds)], processes))


def _plan(
    seed: int, *, level: str | None, long: bool, kinds: str | None, changes: dict[str, Any]
) -> Plan:
    try:
        plan = plan_of(seed, level=level, scales=LONG_SCALES if long else SCALES)
        if kinds is not None:
            wanted = [] if kinds == "none" else kinds.split(",")
            plan = replace(plan, faults=plan.faults.only(*wanted))
        return replace(plan, **changes)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


# --- one seed ---


def _replay(plan: Plan, *, trace: bool) -> int:
    report = simulate(plan, keep_lines=None if trace else KEPT_LINES)
    if trace or report.violation is not None:
        for line in report.lines:
            out.print(line, soft_wrap=True, markup=False)
    out.print(f"seed {plan.seed}: {_told(report)}", markup=False)
    out.print(f"hash {report.digest}, {report.length} lines, {report.steps} steps")
    return 0 if report.violation is None else 1


def _told(report: Report) -> str:
    hours = f"{report.seconds / HOUR:.2f} simulated hours"
    if report.violation is None:
        return f"every rule held for {hours}"
    return f"after {hours}: {report.violation}"


# --- many seeds ---


def _search(plans: list[Plan], processes: int) -> int:
    found: Report | None = None
    total = Sum()
    with _progress() as progress:
        task = progress.add_task("simulating", total=len(plans), told="")
        for report in _reports(plans, processes):
            total.add(report)
            told = f"{total.hours:,.0f} h, {total.totals.acknowledged:,} jobs"
            progress.update(task, advance=1, told=told)
            if report.violation is not None:
                found = report
                break
    if found is not None:
        _tell_failure(found)
        return 1
    _tell_success(total)
    return 0


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[told]}"),
        console=err,
        disable=not err.is_terminal,
    )


def _reports(plans: list[Plan], processes: int) -> Iterator[Report]:
    """Yield the reports in order of the plans; whoever stops asking ends the search."""
    if processes == 1:
        yield from map(_brief, plans)
        return
    pool = ProcessPoolExecutor(processes, max_tasks_per_child=None)
    try:
        yield from pool.map(_brief, plans, chunksize=4)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _brief(plan: Plan) -> Report:
    return simulate(plan, keep_lines=KEPT_LINES)


def _tell_failure(report: Report) -> None:
    normal = plan_of(report.plan.seed)
    out.print(f"seed {report.plan.seed}: {_told(report)}", markup=False)
    out.print("Looking for a shorter trace ...")
    with err.status("shrinking") as status:
        best = shrunk(report, told=lambda better: status.update(f"{better.length} lines"))
    for line in best.lines:
        out.print(line, soft_wrap=True, markup=False)
    out.print(f"\n{best.violation}", markup=False)
    out.print(f"{best.length} lines instead of {report.length}. To replay:")
    out.print(f"  {_command(report.plan, normal)}", soft_wrap=True, markup=False)
    out.print("and the shortest that was found:")
    small = _command(best.plan, plan_of(best.plan.seed))
    out.print(f"  {small} --trace", soft_wrap=True, markup=False)


def _command(plan: Plan, normal: Plan) -> str:
    return f".venv/bin/python -m tests.simulation {' '.join(options_of(plan, normal))}"


def _tell_success(total: Sum) -> None:
    totals = total.totals
    hours = {scale: seconds / HOUR for scale, seconds in sorted(total.seconds.items())}
    by_scale = ", ".join(f"{each:,.1f} at {scale:g}x" for scale, each in hours.items())
    out.print(f"{total.seeds:,} seeds, every rule held")
    out.print(f"  {total.hours:,.1f} simulated hours ({by_scale})")
    out.print(f"  {totals.acknowledged:,} jobs acknowledged, {totals.executions:,} executions")
    out.print(
        f"  {totals.transitions.total():,} transitions checked: {_listed(totals.transitions)}"
    )
    out.print(f"  {totals.faults.total():,} faults: {_listed(totals.faults)}")
    out.print(f"  bounds checked: {_listed(totals.bounds)}")
    out.print(f"  {total.steps:,} steps, combined hash {total.digests:016x}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(_parts(counts.most_common()))


def _parts(counts: Iterable[tuple[str, int]]) -> Iterator[str]:
    for name, count in counts:
        yield f"{name} {count:,}"


if __name__ == "__main__":
    typer.run(main)
