"""make fairness: deadlines and fairness in virtual time, and what came of them."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fairness import beside, report
from benchmarks.fairness.cases import CASES, TITLES
from benchmarks.fairness.units import OURS, Measured, units_of
from benchmarks.machine import commits
from benchmarks.machine.environments import Missing

RESULTS = Path("benchmarks/results")


def main(arguments: Sequence[str]) -> None:
    """Measure, and write tables, figures and pictures."""
    options = _options(arguments)
    cases = [
        case
        for case in CASES
        if (not options.only or case.section in options.only)
        and (case.quick or not options.quick)
        and (not options.config or case.config in options.config)
    ]
    units = list(units_of(cases, options.seeds))
    if options.plain:
        units = [unit for unit in units if not unit.is_ours]
    ours = [unit for unit in units if unit.is_ours]
    partial = bool(options.only or options.config)
    name = "-".join(["fairness"] + ["quick"] * options.quick + ["partial"] * partial)
    began = time.monotonic()

    def teller(system: str, total: int) -> beside.Tell:
        done = 0

        def tell(found: Measured) -> None:
            nonlocal done
            done += 1
            named = system if found.unit.is_ours else found.unit.system
            told = ", ".join(f"{name} {report.text(v)}" for name, v in found.figures.items())
            unit = found.unit
            print(
                f"{time.monotonic() - began:5.0f} s {done}/{total}  {unit.section}: {unit.group},"
                f" {unit.config}, seed {unit.seed}: {named}: {told}",
                flush=True,
            )

        return tell

    here = commits.here()
    runs: dict[str, list[Measured]] = {}
    checkouts = [commits.of_commit(commit) for commit in options.beside]
    for checkout in checkouts:
        label = f"{OURS} {checkout.commit}"
        runs[label] = beside.measure(
            checkout, ours, teller(label, len(ours)), processes=options.processes,
            fresh=options.fresh,
        )  # fmt: skip
    runs[OURS] = beside.measure(
        here, units, teller(OURS, len(units)), processes=options.processes, fresh=options.fresh
    )
    told = report.Report(
        name=name,
        commit=here.commit,
        command=shlex.join(["make", "fairness", f"ARGS={shlex.join(arguments)}"]),
        seeds=options.seeds,
        runs=runs,
    )
    written = report.write(told, options.results)
    pictures = report.drawn(told, options.results)
    if isinstance(pictures, Missing):
        print(f"no pictures: {pictures.reason}")
        pictures = []
    print(report.goals_text(told))
    for path in [*written, *pictures]:
        print(f"written: {path}")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fairness ARGS=…", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few traces, in a few minutes")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--only", nargs="+", choices=list(TITLES), help="some sections")
    parser.add_argument("--config", nargs="+", help="some configurations, such as one or slack")
    parser.add_argument("--beside", nargs="+", default=[], help="commits to measure beside")
    parser.add_argument("--plain", action="store_true", help="baselines and bounds alone")
    parser.add_argument("--processes", type=int, default=1, help="how many measure at once")
    parser.add_argument("--fresh", action="store_true", help="measure again what is known")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results go")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
