"""The curves of growth: their points, what is there at each, ratios, and what is written."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.measure.drains import SKIPPED, verdict
from benchmarks.measure.points import cells_of
from benchmarks.measure.tally import Tally
from benchmarks.plan.axes import AXES, CAPACITY, Axis
from benchmarks.plan.scenes import LIMIT, Scene
from benchmarks.plan.sizes import FULL, SMALL, Sizes
from benchmarks.plan.subjects import OURS
from benchmarks.report.figures import Measured
from benchmarks.report.growth import curves, growth_list
from benchmarks.report.growth_tables import markdown
from benchmarks.report.record import Report
from benchmarks.report.write import write
from benchmarks.systems import async_jobs_setup
from benchmarks.systems.protocol import settings

EXECUTED = {"executed": 3, "once": 3}


def point(axis: str, at: int, *rates: float, cpu: float = 40.0) -> list[Measured]:
    """Return correct rounds of a point with these rates."""
    return [
        Measured(
            measured=AXES[axis].measured(at),
            system=OURS,
            round=number,
            metrics={
                "jobs_per_s": rate,
                "cpu_us_worker": cpu,
                "cpu_us_scheduler": 15.0,
                "cpu_us_postgres": 45.0,
                "cpu_us": cpu + 60.0,
                "wal_bytes": 800.0,
                "buffers": 30.0,
            },
        )
        for number, rate in enumerate(rates, start=1)
    ]


TENANTS = [
    *point("tenants", 1, 1_000.0, 4_000.0, 2_000.0),
    *point("tenants", 10_000, 500.0, 1_500.0, 1_000.0, cpu=140.0),
    *point("tenants", 10, 3_000.0, 3_000.0, 3_000.0),
]


def wrong(axis: str, at: int) -> Measured:
    """Return a round whose figures do not count."""
    (right,) = point(axis, at, 99_000.0)
    return Measured(
        measured=right.measured,
        system=OURS,
        round=4,
        metrics=right.metrics,
        problem="1 of 9 jobs executed more than once, such as 3",
    )


# --- the points ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "at"),
    [
        ("backlog", (10_000, 50_000, 200_000, 1_000_000)),
        ("tenants", (1, 10, 100, 1_000, 10_000)),
        ("use-cases", (1, 3, 10, 30, 100)),
        ("scheduled", (0, 10_000, 100_000, 1_000_000)),
        ("finished", (0, 10_000, 100_000, 1_000_000)),
        ("schedulers", (1, 2, 3, 4)),
        ("workers", (1, 2, 3, 4)),
    ],
)
def test_an_axis_has_these_points(axis: str, at: tuple[int, ...]) -> None:
    """Who compares two runs compares the same points."""
    assert AXES[axis].at == at


def test_there_is_no_other_axis() -> None:
    """The cases above are all there are."""
    assert len(AXES) == 7


@pytest.mark.parametrize("axis", AXES.values(), ids=lambda axis: axis.name)
def test_points_grow_and_the_quick_curve_begins_where_the_full_one_does(axis: Axis) -> None:
    """The first point is what both are compared with."""
    assert axis.quick[0] == axis.at[0]
    for points in (axis.at, axis.quick):
        assert len(points) >= 4
        assert all(one < next_one for one, next_one in pairwise(points))


def test_a_round_takes_the_axes_in_turns() -> None:
    """What disturbs the machine for a while disturbs a point of each, not one whole curve."""
    cells = cells_of(["backlog", "tenants"], quick=False)

    assert [(cell.name, cell.about) for cell in cells] == [
        ("backlog", "10,000"),
        ("tenants", "1"),
        ("backlog", "50,000"),
        ("tenants", "10"),
        ("backlog", "200,000"),
        ("tenants", "100"),
        ("backlog", "1,000,000"),
        ("tenants", "1,000"),
        ("tenants", "10,000"),
    ]


def test_every_point_is_measured_once_a_round_on_async_jobs_alone() -> None:
    """Of the quick curves too."""
    full, quick = cells_of(AXES, quick=False), cells_of(AXES, quick=True)

    assert len(full) == sum(len(axis.at) for axis in AXES.values())
    assert len(quick) == sum(len(axis.quick) for axis in AXES.values())
    assert len({(cell.name, cell.about) for cell in full}) == len(full)
    assert {cell.systems | cell.quick for cell in (*full, *quick)} == {frozenset({OURS})}


# --- the scenes ---------------------------------------------------------------------------------

POINTS = [
    pytest.param(axis, at, sizes, id=f"{axis.name}-{at}{'' if sizes is FULL else '-quick'}")
    for axis in AXES.values()
    for sizes in (FULL, SMALL)
    for at in (axis.at if sizes is FULL else axis.quick)
]


@pytest.mark.parametrize(("axis", "at", "sizes"), POINTS)
def test_there_are_enough_jobs_for_the_sample(axis: Axis, at: int, sizes: Sizes) -> None:
    """It is large enough to tell anything, and the schedulers have work until it ends.

    The smallest backlog is what it is: there the last jobs have been handed out before.
    """
    scene = axis.scene(at, sizes)
    slots = scene.workers * async_jobs_setup.SETTINGS["slots"]
    handed_out = 2 * slots if scene.pending > 10_000 else 0

    assert scene.sample >= 8_000
    assert SKIPPED + scene.sample + handed_out < scene.pending


@pytest.mark.parametrize(("axis", "at", "sizes"), POINTS)
def test_only_what_the_axis_is_about_differs(axis: Axis, at: int, sizes: Sizes) -> None:
    """Else the curve would be of something else too."""
    here, first = axis.scene(at, sizes), axis.scene(axis.at[0], sizes)
    differs = {name for name in Scene.__slots__ if getattr(here, name) != getattr(first, name)}
    about = {
        "backlog": {"pending"},
        "tenants": {"tenants"},
        "use-cases": {"use_cases", "settings"},
        "scheduled": {"beside"},
        "finished": {"beside"},
        "schedulers": {"schedulers"},
        "workers": {"workers"},
    }

    assert differs == (about[axis.name] if at != axis.at[0] else set())


@pytest.mark.parametrize("at", AXES["use-cases"].at)
def test_use_cases_share_one_capacity(at: int) -> None:
    """More of them are not more room, and each has some."""
    cap = AXES["use-cases"].scene(at, FULL).all_settings()["cap"]

    assert 0.9 * CAPACITY <= cap * at <= CAPACITY


@pytest.mark.parametrize("kind", ["scheduled", "finished"])
def test_what_does_not_run_is_beside_what_does(kind: str) -> None:
    """And at the first point there is nothing of it."""
    axis = AXES[kind]

    assert axis.scene(0, FULL).beside == {}
    assert axis.scene(100_000, FULL).beside == {kind: 100_000}


def test_all_processes_know_the_tenants_and_use_cases_of_a_scene(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each has a limit or a cap of its own."""
    scene = Scene(pending=9, sample=3, tenants=1_000, use_cases=30, settings={"cap": 66})
    monkeypatch.setenv("BENCH_DSN", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("BENCH_SETTINGS", json.dumps(scene.all_settings()))

    config = async_jobs_setup.config()

    assert settings(async_jobs_setup.SETTINGS)["tenant_running"] == LIMIT
    assert config.per_tenant_quotas["tenant-999"].max_running == LIMIT
    assert "tenant-1000" not in config.per_tenant_quotas
    assert config.use_case_configs["capped-29"].max_concurrent == 66
    assert "capped-30" not in config.use_case_configs


# --- every job exactly once ---------------------------------------------------------------------


def tally(*times: int) -> Tally:
    """Return how often each of some jobs was executed."""
    return Tally(bytes(times), 1.0, 2.0, [])


def test_a_drain_that_ends_early_is_right_when_what_was_executed_has_one_outcome() -> None:
    """What still waits is no fault."""
    assert verdict(tally(1, 1, 1, 0, 0), EXECUTED, settled=True) is None


@pytest.mark.parametrize(
    ("times", "stored", "settled", "told"),
    [
        ((1, 1, 1, 1), EXECUTED, True, "4 jobs were executed, 3 have an outcome, 3 of them at on"),
        ((1, 1, 0, 0), EXECUTED, True, "2 jobs were executed, 3 have an outcome, 3 of them at on"),
        ((1, 1, 1), {"executed": 3, "once": 2}, True, "3 have an outcome, 2 of them at once"),
        ((1, 2, 1), EXECUTED, True, "1 of 3 jobs executed more than once, such as 1"),
        ((1, 1, 1), EXECUTED, False, "jobs were still running after the schedulers had ended"),
    ],
    ids=["lost", "invented", "again", "twice", "stuck"],
)
def test_a_drain_that_ends_early_is_wrong_when_handlers_and_store_disagree(
    times: tuple[int, ...], stored: dict[str, int], settled: bool, told: str
) -> None:
    """Whatever the rate was."""
    assert told in str(verdict(tally(*times), stored, settled=settled))


# --- the curves ---------------------------------------------------------------------------------


def test_a_point_is_the_median_of_its_rounds_and_a_ratio_to_the_first() -> None:
    """In the order of the axis, whatever the order of the rounds."""
    assert growth_list(TENANTS) == [
        {
            "axis": "tenants",
            "at": at,
            "jobs_per_s": rate,
            "cpu_us": {"worker": cpu, "scheduler": 15.0, "postgres": 45.0},
            "wal_b": 800.0,
            "buffers": 30.0,
            "ratio_to_first": ratio,
        }
        for at, rate, cpu, ratio in [
            (1, 2_000.0, 40.0, 1.0),
            (10, 3_000.0, 40.0, 1.5),
            (10_000, 1_000.0, 140.0, 0.5),
        ]
    ]


def test_a_curve_takes_the_points_of_both_kinds_in_order() -> None:
    """The quick ones lie between the others."""
    at = [100_000, 1_000_000, 20_000, 50_000, 10_000]
    entries = growth_list([each for number in at for each in point("backlog", number, 10.0)])

    assert [entry["at"] for entry in entries] == sorted(at)


def test_costs_have_ratios_of_their_own() -> None:
    """A rate can stay where it is while a job costs twice as much."""
    last = curves(TENANTS)["tenants"][-1]

    assert last.ratios["cpu_us"] == pytest.approx(2.0)
    assert last.ratios["wal_bytes"] == pytest.approx(1.0)


def test_a_curve_without_its_first_point_has_no_ratios() -> None:
    """The second one is no substitute."""
    (entry,) = growth_list([*point("workers", 2, 10.0), wrong("workers", 1)])

    assert (entry["at"], entry["ratio_to_first"]) == (2, None)


def test_a_round_of_a_point_that_was_not_correct_does_not_count() -> None:
    """Executing a job twice is no way to be fast."""
    assert growth_list([*TENANTS, wrong("tenants", 10)]) == growth_list(TENANTS)


def test_an_axis_does_not_take_the_figures_of_one_that_begins_alike() -> None:
    """Schedulers are not what is scheduled."""
    found = curves([*point("scheduled", 0, 10.0), *point("schedulers", 1, 20.0)])

    assert {name: [each.at for each in curve] for name, curve in found.items()} == {
        "scheduled": [0],
        "schedulers": [1],
    }


# --- what is written ----------------------------------------------------------------------------


def report(*measured: Measured, quick: bool = False) -> Report:
    """Return the report of curves."""
    return Report(quick=quick, growth=True, rounds=[*measured])


def test_the_table_has_a_line_for_each_point_with_its_ratios() -> None:
    """Of the rate, and of each cost."""
    lines = markdown(report(*TENANTS)).splitlines()

    assert "## tenants: Tenants with limits that share the jobs" in lines
    assert (
        "| 10,000 | 1,000 (500–1,500) | 0.50 | 140 | 15.0 | 45.0 | 200 | 2.00 | 800 | 1.00"
        " | 30.0 | 1.00 | 3 |"
    ) in lines


def test_every_line_of_a_table_has_as_many_cells_as_its_head() -> None:
    """Also where the CPU of Postgres cannot be seen at one point, and there is no ratio."""
    (blind,) = point("workers", 2, 10.0)
    seen = {name: value for name, value in blind.metrics.items() if name != "cpu_us_postgres"}
    lines = markdown(
        report(
            Measured(measured=blind.measured, system=OURS, round=1, metrics=seen),
            *point("workers", 3, 10.0),
        )
    ).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("## workers"))
    table = lines[start + 2 : start + 6]

    assert all(line.startswith("|") for line in table)
    assert len({line.count("|") for line in table}) == 1


def test_the_table_of_curves_says_when_everything_was_correct() -> None:
    """Not every job was executed, and nobody says so."""
    text = markdown(report(*TENANTS))

    assert "In every round every job that was handed out was executed exactly once" in text


def test_the_table_of_curves_says_what_was_wrong() -> None:
    """And in how many rounds the others were right."""
    text = markdown(report(*TENANTS, wrong("tenants", 10)))

    assert "- tenants 10, async_jobs, round 4: 1 of 9 jobs executed more than once" in text
    assert "In every round" not in text


def test_curves_write_the_list_the_table_and_every_round(tmp_path: Path) -> None:
    """What the list is made from is kept."""
    write(report(*TENANTS), tmp_path)

    raw = json.loads((tmp_path / "growth-raw.json").read_text("utf-8"))
    assert json.loads((tmp_path / "growth.json").read_text("utf-8")) == growth_list(TENANTS)
    assert [Measured(**each) for each in raw["rounds"]] == TENANTS
    assert (tmp_path / "growth.md").read_text("utf-8").startswith("# The growth benchmark\n")


@pytest.mark.parametrize(
    ("quick", "partial", "name"),
    [
        (False, False, "growth"),
        (True, False, "quick-growth"),
        (False, True, "partial-growth"),
        (True, True, "partial-quick-growth"),
    ],
)
def test_curves_of_other_sizes_or_of_some_axes_leave_the_whole_ones_alone(
    quick: bool, partial: bool, name: str
) -> None:
    """And neither is taken for a run of the workloads."""
    made = report(quick=quick)
    made.partial = partial

    assert made.name == name
