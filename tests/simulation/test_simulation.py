"""The rules hold in worlds where everything goes wrong, and whatever breaks one can be replayed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from async_jobs.application.failpoints import FAILPOINTS, OF_LANES_ELSEWHERE
from async_jobs.domain import dispatching, fairness, rounds, scheduling
from tests.simulation import __main__ as program
from tests.simulation.faults import STORM, faults_of
from tests.simulation.plan import BESIDE, plan_of
from tests.simulation.records import Totals
from tests.simulation.shrink import options_of
from tests.simulation.world import Report, simulate

ROOT = Path(__file__).parents[2]
SEEDS, CHUNKS = 500, 10
SEEDS_BESIDE, CHUNKS_BESIDE = 80, 2
HOURS_MIN = 125
# Dying at a failpoint counts by its name; wrong clocks are there all the time.
COUNTED = {*STORM.kinds, *FAILPOINTS, "lingering", "timeouts"} - {"failpoints", "skew_seconds"}
RARE = {"stubborn", *FAILPOINTS}
OF_TRANSPORTS = {"drops", "delays", "refused_sends", "lost_acks"}
BOUNDS = {"L1", "L2", "L3", "L6", "S21"}


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_rule_holds_whatever_goes_wrong(chunk: int) -> None:
    """Five hundred worlds, in each of which operators pause and limit.

    A seed that fails is replayed by the command that is told.
    """
    size = SEEDS // CHUNKS
    hours, totals = 0.0, Totals()
    for seed in range(1 + chunk * size, 1 + (chunk + 1) * size):
        report = simulate(plan_of(seed))
        assert report.violation is None, f"{report.violation}; make simulate ARGS='--seed {seed}'"
        hours += report.seconds / 3_600
        totals.add(report.totals)

    assert hours > HOURS_MIN / CHUNKS
    assert totals.faults.keys() >= COUNTED - RARE
    assert totals.bounds.keys() >= BOUNDS


@pytest.mark.parametrize("chunk", range(CHUNKS_BESIDE))
def test_every_rule_holds_on_lanes_beside_the_jobs(chunk: int) -> None:
    """Claims whose replies are lost, lanes that are emptied, and messages of ended leases."""
    size = SEEDS_BESIDE // CHUNKS_BESIDE
    totals = Totals()
    for seed in range(1 + chunk * size, 1 + (chunk + 1) * size):
        report = simulate(replace(plan_of(seed), lanes=BESIDE))
        replay = f"make simulate ARGS='--seed {seed} --lanes {BESIDE}'"
        assert report.violation is None, f"{report.violation}; {replay}"
        totals.add(report.totals)

    assert totals.faults.keys() >= COUNTED - RARE - OF_TRANSPORTS
    assert not totals.faults.keys() & (OF_TRANSPORTS | set(OF_LANES_ELSEWHERE))
    assert totals.bounds.keys() >= BOUNDS


def test_every_rule_holds_where_the_rare_is_common() -> None:
    """Deaths at every failpoint, and handlers that do not listen."""
    faults = replace(STORM, failpoints=0.25, stubborn=0.6, unavailable_after=0.0, partitions=0.0)
    counted = Counter[str]()
    for seed in range(20):
        report = simulate(replace(plan_of(seed, level="storm"), faults=faults))
        assert report.violation is None, f"seed {seed}: {report.violation}"
        counted += report.totals.faults

    assert counted.keys() >= RARE


@cache
def stormy(seed: int) -> Report:
    """Return what became of the storm of a seed; several tests look at the same one."""
    return simulate(plan_of(seed, level="storm"))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_seed_is_replayed_step_by_step(seed: int) -> None:
    """In this process, and in a fresh one whose sets and dicts are ordered otherwise."""
    first, second = stormy(seed), simulate(plan_of(seed, level="storm"))
    elsewhere = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--level", "storm"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(1_000 + seed)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert first.digest == second.digest
    assert first.steps == second.steps
    assert f"hash {first.digest}, " in elsewhere.stdout


def test_another_seed_is_another_world() -> None:
    """The hash is of what happened."""
    assert len({stormy(seed).digest for seed in (1, 2, 3)}) == 3


def test_a_calm_world_has_no_faults() -> None:
    """So whatever is counted elsewhere was caused on purpose."""
    report = simulate(plan_of(1, level="calm"))

    assert report.violation is None
    assert not report.totals.faults
    assert report.totals.transitions["settled succeeded"] > 0


def run_program(*arguments: str) -> tuple[int, str]:
    """Run the program in this process, where a patch is in force."""
    app = typer.Typer()
    app.command()(program.main)
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_a_broken_rule_is_told_with_the_command_that_replays_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And with the shortest trace that was found; both commands show the same rule broken."""
    monkeypatch.setattr(dispatching.TurnView, "free", lambda self, use_case: 1_000)
    monkeypatch.setattr(
        dispatching, "select", lambda request: scheduling.select(_without_cap(request))
    )

    status, told = run_program("--seeds", "3", "--processes", "1")

    commands = re.findall(r"-m tests.simulation (.+)", told)
    assert status == 1
    assert "S8" in told
    assert len(commands) == 2
    lengths = []
    for command in commands:
        replayed, shown = run_program(*command.split())
        assert replayed == 1
        assert "S8 BROKEN" in shown
        lengths.append(int(re.findall(r", (\d+) lines", shown)[-1]))
    assert lengths[1] < lengths[0]


def _without_cap(request: scheduling.SelectionRequest) -> scheduling.SelectionRequest:
    config = replace(request.config, max_concurrent=1_000)
    return replace(request, config=config)


CROWDED = [replace(plan_of(seed, level="calm"), scale=1.0, crowd=9) for seed in (1, 3)]


def test_a_fair_policy_passes_nobody_over() -> None:
    """In a sound system with more tenants than slots."""
    assert all(simulate(plan).violation is None for plan in CROWDED)


@pytest.mark.parametrize("plant", ["no memory", "earliest deadline first"])
def test_an_unfair_policy_is_seen(monkeypatch: pytest.MonkeyPatch, plant: str) -> None:
    """In the same worlds."""
    if plant == "no memory":
        monkeypatch.setattr(fairness.Contest, "observe", lambda *args: None)
    else:
        monkeypatch.setattr(rounds._Rounds, "entry", _by_deadline)

    broken = {str(simulate(plan).violation)[:2] for plan in CROWDED}

    assert "L5" in broken


def _by_deadline(self: object, contender: Any, tenant: str, index: int) -> Any:
    return 0, 0, 0, contender[3], contender[4], tenant, index


def test_the_totals_of_many_seeds_are_told() -> None:
    """Hours, jobs, transitions and faults by kind."""
    status, told = run_program("--seeds", "4", "--processes", "2", "--start", "5")

    assert status == 0
    assert "4 seeds, every rule held" in told
    for word in ("simulated hours", "acknowledged", "transitions checked", "combined hash"):
        assert word in told


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--lanes", "aside"), "lanes must be one of elsewhere, beside"),
        (("--level", "hurricane"), "level must be one of calm, rough, storm"),
        (("--seed", "1", "--faults", "locusts"), "there is no locusts; there are duplicates"),
    ],
)
def test_a_wrong_option_is_refused(arguments: tuple[str, ...], problem: str) -> None:
    """With what is allowed."""
    status, told = run_program(*arguments)

    assert status == 2
    assert problem in re.sub(r"[\s│]+", " ", told)


def test_options_tell_what_a_plan_has_otherwise() -> None:
    """What the seed decides needs no option."""
    normal = plan_of(9)
    storm = faults_of("storm")
    plan = replace(plan_of(9, level="storm"), jobs=3, faults=storm.only("drops", "ghosts"))

    assert options_of(normal, normal) == ["--seed 9"]
    assert " ".join(options_of(plan, replace(normal, level="rough"))) == (
        "--seed 9 --level storm --jobs 3 --faults drops,ghosts"
    )


def test_there_are_three_levels() -> None:
    """Each worse than the one before."""
    calm, rough, storm = (faults_of(level) for level in ("calm", "rough", "storm"))

    assert not calm.kinds
    assert rough.kinds == storm.kinds
    assert all(getattr(rough, kind) <= getattr(storm, kind) for kind in storm.kinds)
