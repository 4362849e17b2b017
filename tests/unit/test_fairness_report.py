"""What is written of the fairness rig: goals, ratios to the bound, tables, and what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.fairness import beside, elsewhere, report
from benchmarks.fairness.cases import CASES, GAIN, ON_TIME, TITLES
from benchmarks.fairness.goals import GOALS
from benchmarks.fairness.units import BOUND, OURS, Measured, Unit, units_of
from benchmarks.machine.commits import Checkout


def found(section: str, config: str, system: str, seed: int = 1, **figures: float) -> Measured:
    """Return a measurement of a group."""
    named = {name.replace("_", " "): value for name, value in figures.items()}
    return Measured(Unit(section, "group", config, system, seed), named, 0.1)


def a_report(**runs: list[Measured]) -> report.Report:
    """Return a report of the package, and of other commits."""
    labels = {OURS if name == "ours" else f"{OURS} {name}": each for name, each in runs.items()}
    return report.Report(
        name="fairness",
        commit="abc",
        command="make fairness",
        seeds=[1, 2],
        runs=labels,
        elsewhere=Path("nowhere"),
    )


OURS_DAY = [
    found("day", "one", BOUND, on_time=0.9),
    found("day", "one", "FIFO", on_time=0.45),
    found("day", "one", OURS, on_time=0.9),
    found("day", "own", OURS, on_time=0.81),
]


def test_every_section_has_a_title_and_every_goal_a_figure() -> None:
    """Nothing is measured that is not told, and no goal is about nothing."""
    assert {case.section for case in CASES} == set(TITLES)
    assert {section for goal in GOALS for section in goal.sections} <= set(TITLES)
    assert len({(case.section, case.group, case.config) for case in CASES}) == len(CASES)


def test_bounds_and_baselines_are_measured_once_for_a_group() -> None:
    """The package in each configuration, and with each seed."""
    units = list(units_of([case for case in CASES if case.section == "day"], [1, 2]))

    assert len(units) == len(set(units))
    assert sum(unit.is_ours for unit in units) == 2 * 3
    assert sum(unit.system == BOUND for unit in units) == 2


def test_goals_name_the_worst_figure_and_where_it_is() -> None:
    """Of this package and of another commit's, held against the bound of the group."""
    other = [found("day", "one", OURS, on_time=0.45)]
    lies = [Measured(Unit("liar", "group", "slack", OURS, 2), {GAIN: -0.02}, 0.1)]

    text = report.markdown(a_report(ours=[*OURS_DAY, *lies], older=other))

    assert "| 0.900 | **no** | day: group, own, seed 1 | 0.500 | **no** | day: group, one" in text
    assert "| ≤ 0.01 | -0.020 | yes | liar: group, slack, seed 2 |" in text
    assert "| group | async_jobs, own | 0.810 | 0.900 |" in text
    assert "| group | async_jobs older, one | 0.450 | 0.500 |" in text
    assert f"| group | {BOUND} | 0.900 |  |" in text


def test_figures_are_written_for_programs(tmp_path: Path) -> None:
    """All of them, each with whose it is."""
    told = a_report(ours=OURS_DAY)

    table, figures = report.write(told, tmp_path)

    assert table.read_text("utf-8").startswith("# Deadlines and fairness")
    assert json.loads(figures.read_text("utf-8")) == told.as_json()
    assert told.as_json()["figures"][1]["figures"][ON_TIME] == 0.45


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (0, "0"), (1.0, "1.000"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_figures_are_told_as_people_read_them(value: float, text: str) -> None:
    """Counts whole, shares with three places."""
    assert report.text(value) == text


def test_what_is_known_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the package changes; and another one with the same contents is known as well."""
    monkeypatch.setattr(beside, "HOME", tmp_path / "home")
    packages = [tmp_path / name for name in ("a", "b")]
    for each in packages:
        (each / "async_jobs").mkdir(parents=True)
        (each / "async_jobs" / "code.py").write_text("same = True")
    ours, fifo = OURS_DAY[2], OURS_DAY[1]
    asked: list[Unit] = []

    def measured(checkout: Checkout, units: list[Unit]) -> list[Measured]:
        asked.extend(units)
        return [each for each in OURS_DAY if each.unit in units]

    monkeypatch.setattr(beside, "_measured", measured)

    def measure(package: Path) -> list[Measured]:
        return beside.measure(Checkout(package, "x"), [ours.unit, fifo.unit], lambda _: None)

    assert measure(packages[0]) == measure(packages[1]) == [ours, fifo]
    assert asked == [ours.unit, fifo.unit]
    (packages[0] / "async_jobs" / "code.py").write_text("same = False")
    assert measure(packages[0]) == [ours, fifo]
    assert asked == [ours.unit, fifo.unit, ours.unit]


def test_what_others_do_is_told_if_it_was_measured(tmp_path: Path) -> None:
    """Each script with all systems."""
    path = tmp_path / "elsewhere.json"
    assert list(elsewhere.lines(path)) == []
    figures = {elsewhere.ON_TIME: 0.5, elsewhere.MEAN: 1.25, elsewhere.P99: 3.0}

    elsewhere.write([elsewhere.Row("dump", "celery", "plain", figures)], "abc", path)

    about = elsewhere.ABOUT["dump"]
    row = f"| {about} | celery | in the order they came | 0.50 | 1.25 | 3.00 |"
    assert row in list(elsewhere.lines(path))
