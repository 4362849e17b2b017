"""The arithmetic of the benchmark: medians, ratios, goals, and what is written of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.machine.commits import Checkout
from benchmarks.measure.workloads import WORKLOADS, chosen
from benchmarks.plan.goals import (
    BACKLOG_SMALL,
    BACKLOGS,
    BARE_ROUTE,
    BARE_SQS,
    GOALS,
    TICK_MANY,
    TICK_ONE,
    Goal,
    floor_of,
)
from benchmarks.plan.subjects import (
    FLOOR,
    OURS,
    PEER,
    SUBJECTS,
    WATCHED,
    Subject,
    of_another_commit,
    of_watched,
)
from benchmarks.report.figures import (
    Measured,
    Spread,
    by_turns,
    medians,
    problems,
    quick_list,
    ratio,
    spreads,
)
from benchmarks.report.record import Report, module_settings
from benchmarks.report.tables import markdown
from benchmarks.report.write import write
from benchmarks.systems import async_jobs_setup
from benchmarks.systems.protocol import percentiles


def rounds(measured: str, system: str, *rates: float) -> list[Measured]:
    """Return correct rounds with these rates."""
    return [
        Measured(measured=measured, system=system, round=number, metrics={"jobs_per_s": rate})
        for number, rate in enumerate(rates, start=1)
    ]


CAPPED = [
    *rounds("W3 capped", OURS, 900.0, 3_000.0, 1_000.0),
    *rounds("W3 capped", PEER, 500.0, 400.0, 450.0),
    *rounds("W3 capped", FLOOR, 2_000.0, 1_000.0, 1_500.0),
]


def wrong(problem: str) -> Measured:
    """Return a round of ours whose figures do not count."""
    return Measured(
        measured="W3 capped",
        system=OURS,
        round=4,
        metrics={"jobs_per_s": 99_000.0},
        problem=problem,
    )


# --- medians, spreads and ratios ----------------------------------------------------------------


def test_a_figure_is_the_median_of_its_rounds_with_the_lowest_and_the_highest() -> None:
    """One lucky round changes nothing but the spread."""
    found = spreads(CAPPED)

    assert found["W3 capped", OURS, "jobs_per_s"] == Spread(1_000.0, 900.0, 3_000.0, 3)


def test_the_median_of_two_rounds_lies_between_them() -> None:
    """An even number of rounds has no middle one."""
    found = medians(rounds("W2", OURS, 100.0, 300.0))

    assert found == {("W2", OURS, "jobs_per_s"): 200.0}


def test_a_round_that_was_not_correct_does_not_count() -> None:
    """Losing jobs is no way to be fast."""
    assert medians([*CAPPED, wrong("12 jobs never executed")]) == medians(CAPPED)


def test_another_commit_is_compared_with_round_by_round() -> None:
    """A machine that slows down from round to round slows both."""
    other = of_another_commit(Checkout(Path("/elsewhere"), "abc1234"))
    found = [*rounds("W3 capped", OURS, 500.0, 300.0, 110.0), wrong("12 jobs never executed")]
    beside = [*found, *rounds("W3 capped", other.name, 1_000.0, 600.0, 200.0, 1.0)]

    assert (other.system, other.database) == (OURS, "bench_async_jobs_abc1234")
    assert by_turns(beside) == {
        ("W3 capped", "async_jobs@abc1234", "jobs_per_s"): Spread(0.5, 0.5, 0.55, 3)
    }
    assert medians(beside)["W3 capped", OURS, "jobs_per_s"] == 300.0
    told = markdown(Report(quick=True, rounds=beside))
    assert "| W3 capped | jobs/s | async_jobs@abc1234 | 0.50 (0.50–0.55) | 3 |" in told
    assert by_turns(CAPPED) == {}


def test_a_round_that_was_not_correct_is_told() -> None:
    """It is neither hidden nor averaged away."""
    assert problems([*CAPPED, wrong("12 jobs never executed")]) == [
        "W3 capped, async_jobs, round 4: 12 jobs never executed"
    ]


@pytest.mark.parametrize(
    ("to", "expected"), [(PEER, 1_000 / 450), (FLOOR, 1_000 / 1_500), ("celery", None)]
)
def test_a_ratio_is_one_of_medians(to: str, expected: float | None) -> None:
    """There is none to a system that was not measured."""
    found = ratio(medians(CAPPED), ("W3 capped", OURS, "jobs_per_s"), to)

    assert found == (None if expected is None else pytest.approx(expected))


def test_there_is_no_ratio_to_nothing() -> None:
    """A system that did nothing at all is no measure."""
    found = medians([*rounds("W2", OURS, 10.0), *rounds("W2", PEER, 0.0)])

    assert ratio(found, ("W2", OURS, "jobs_per_s"), PEER) is None


@pytest.mark.parametrize(
    ("measured", "floor"),
    [("W1 one", FLOOR), ("W3 sqs", BARE_SQS), ("W8 single", BARE_ROUTE), ("W4", FLOOR)],
)
def test_the_floor_is_what_does_the_same_with_the_least(measured: str, floor: str) -> None:
    """SQS and HTTP have floors of their own."""
    assert floor_of(measured) == floor


def test_percentiles_are_in_milliseconds() -> None:
    """The 99th of a hundred is not the highest."""
    found = percentiles([number / 1_000 for number in range(101)])

    assert found == pytest.approx({"p50_ms": 50.0, "p99_ms": 99.0})


# --- goals --------------------------------------------------------------------------------------


CASES: list[tuple[str, str, float, str | None, str | None]] = [
    ("W1 one", "jobs_per_s", 1.0, PEER, None),
    ("W1 32", "jobs_per_s", 10.0, PEER, None),
    ("W2", "jobs_per_s", 2.0, PEER, None),
    ("W3 plain", "jobs_per_s", 1.5, PEER, None),
    ("W3 capped", "jobs_per_s", 3.0, PEER, None),
    ("W3 capped", "jobs_per_s", 0.7, FLOOR, None),
    ("W3 sqs", "jobs_per_s", 0.8, BARE_SQS, None),
    ("W4", "p50_ms", 1.0, PEER, None),
    ("W4", "p99_ms", 2.0, FLOOR, None),
    *((name, "jobs_per_s", 0.8, OURS, BACKLOG_SMALL) for name in BACKLOGS),
    ("W3 capped", "cpu_us", 80.0, None, None),
    ("W3 capped", "wal_bytes", 900.0, None, None),
    (TICK_MANY, "p50_ms", 3.0, OURS, TICK_ONE),
    ("W8 single", "jobs_per_s", 0.8, BARE_ROUTE, None),
]


@pytest.mark.parametrize(("measured", "metric", "factor", "against", "elsewhere"), CASES)
def test_a_goal_is_met_at_its_bound_and_missed_beyond_it(
    measured: str, metric: str, factor: float, against: str | None, elsewhere: str | None
) -> None:
    """Rates are to be high; times, CPU and WAL are to be low."""
    (goal,) = [g for g in GOALS if (g.measured, g.metric, g.against) == (measured, metric, against)]
    base = {} if against is None else {(elsewhere or measured, against, metric): 4.0}
    bound = factor * (1.0 if against is None else 4.0)
    worse = bound * (0.99 if metric == "jobs_per_s" else 1.01)

    assert goal.met({**base, (measured, OURS, metric): bound})
    assert goal.met({**base, (measured, OURS, metric): worse}) is False


def test_there_is_no_other_goal() -> None:
    """The cases above are all there are."""
    assert len(GOALS) == len(CASES)


def test_a_goal_without_its_measure_is_neither_met_nor_missed() -> None:
    """Without PgQueuer nobody knows."""
    goal = Goal(measured="W2", metric="jobs_per_s", factor=2.0, against=PEER)

    assert goal.met({("W2", OURS, "jobs_per_s"): 1e9}) is None
    assert goal.met({("W2", PEER, "jobs_per_s"): 1e9}) is None


# --- what is written ----------------------------------------------------------------------------


def test_quick_json_has_one_entry_for_each_figure_and_goal() -> None:
    """A capped drain has two goals; whoever is not us has none."""
    assert quick_list(CAPPED) == [
        {
            "workload": "W3 capped",
            "system": OURS,
            "jobs_per_s": 1_000.0,
            "ratio_to_pgqueuer": 2.222,
            "ratio_to_floor": 0.667,
            "goal": "≥ 3 × pgqueuer",
            "met": False,
        },
        {
            "workload": "W3 capped",
            "system": OURS,
            "jobs_per_s": 1_000.0,
            "ratio_to_pgqueuer": 2.222,
            "ratio_to_floor": 0.667,
            "goal": "≥ 0.7 × floor",
            "met": False,
        },
        {
            "workload": "W3 capped",
            "system": PEER,
            "jobs_per_s": 450.0,
            "ratio_to_pgqueuer": 1.0,
            "ratio_to_floor": 0.3,
            "goal": None,
            "met": None,
        },
        {
            "workload": "W3 capped",
            "system": FLOOR,
            "jobs_per_s": 1_500.0,
            "ratio_to_pgqueuer": 3.333,
            "ratio_to_floor": 1.0,
            "goal": None,
            "met": None,
        },
    ]


def test_quick_json_tells_latency_by_its_percentiles() -> None:
    """An entry has one figure; costs and other percentiles stay in the raw results."""
    figures = {"p50_ms": 2.0, "p90_ms": 3.0, "p99_ms": 4.0}
    told = quick_list([Measured(measured="W4", system=FLOOR, round=1, metrics=figures)])

    assert [{*entry} & {*figures} for entry in told] == [{"p50_ms"}, {"p99_ms"}]


def report(*measured: Measured) -> Report:
    """Return the report of a quick run."""
    return Report(quick=True, rounds=[*measured], missing={"oban": "needs Python 3.12"})


def test_the_table_tells_medians_spreads_ratios_and_goals() -> None:
    """What a reader looks for first is there in one line each."""
    text = markdown(report(*CAPPED))

    assert "| W3 capped | jobs/s | 1,000 | ≥ 3 × pgqueuer | 2.22 × | no |" in text
    assert "| async_jobs | 1,000 (900–3,000) | 2.22 | 0.67 |" in text


def test_the_table_begins_with_the_best() -> None:
    """Also where the best is the lowest."""
    latencies = [
        Measured(measured="W4", system=system, round=1, metrics={"p50_ms": value, "p99_ms": 9.0})
        for system, value in ((OURS, 3.0), (FLOOR, 1.0), (PEER, 2.0))
    ]
    lines = markdown(report(*CAPPED, *latencies)).split("## W3 capped")[1].splitlines()
    systems = [line.split(" | ")[0] for line in lines if " | " in line]
    known = [name for each in systems if (name := each.removeprefix("| ")) in SUBJECTS]

    assert known == [FLOOR, OURS, PEER, FLOOR, PEER, OURS]


def test_the_table_names_who_is_missing_and_what_was_wrong() -> None:
    """Nobody is silently dropped."""
    text = markdown(report(*CAPPED, wrong("3 jobs\nare left")))

    assert "- oban: needs Python 3.12" in text
    assert "- W3 capped, async_jobs, round 4: 3 jobs are left" in text
    assert "In every round" not in text


def test_the_table_says_when_everything_was_correct() -> None:
    """Silence would say nothing."""
    assert "In every round every job had exactly one accepted outcome" in markdown(report(*CAPPED))


def test_a_quick_run_writes_the_list_the_table_and_every_round(tmp_path: Path) -> None:
    """What the list is made from is kept."""
    write(report(*CAPPED), tmp_path)

    raw = json.loads((tmp_path / "quick-raw.json").read_text("utf-8"))
    assert json.loads((tmp_path / "quick.json").read_text("utf-8")) == quick_list(CAPPED)
    assert [Measured(**each) for each in raw["rounds"]] == CAPPED
    assert (tmp_path / "quick.md").read_text("utf-8") == markdown(report(*CAPPED)).replace(
        report().began, raw["began"]
    )


def test_a_run_of_some_workloads_leaves_the_whole_results_alone(tmp_path: Path) -> None:
    """What was asked for in part is written under another name."""
    part = report(*CAPPED)
    part.partial = True

    assert {path.name for path in write(part, tmp_path)} == {
        "partial-quick-raw.json",
        "partial-quick.json",
        "partial-quick.md",
    }


def test_settings_are_read_without_importing_what_is_not_installed(tmp_path: Path) -> None:
    """A value that is not written out is told as it is written."""
    module = tmp_path / "peer.py"
    module.write_text('import not_here\nSETTINGS = {"batch": 10, "limit": not_here.MAX}\n', "utf-8")

    assert module_settings(module) == {"batch": 10, "limit": "not_here.MAX"}


# --- what is run --------------------------------------------------------------------------------


def test_every_workload_is_measured_and_names_known_systems() -> None:
    """W2 and W6 are figures of W3."""
    assert {each.name for each in WORKLOADS} == {"W1", "W3", "W4", "W5", "W7", "W8"}
    assert frozenset().union(*(each.systems for each in WORKLOADS)) == {*SUBJECTS}


def test_the_quick_benchmark_has_a_part_of_the_workloads_and_systems() -> None:
    """Each goal of W1 to W4 is looked at."""
    quick = chosen(None, quick=True)

    assert all(each.quick and each.quick <= each.systems for each in quick)
    assert {each.name for each in quick} == {"W1", "W3", "W4", "W7", "W8"}


def test_costs_are_asked_for_by_the_name_of_their_workload() -> None:
    """They are measured where the jobs are drained."""
    assert {each.name for each in chosen(frozenset({"W6"}), quick=False)} == {"W3"}


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=lambda subject: subject.name)
def test_a_system_has_a_program_and_pinned_requirements(subject: Subject) -> None:
    """What is measured today can be measured again."""
    benchmarks = Path(__file__).parents[2] / "benchmarks"

    assert (benchmarks / "systems" / f"{subject.module}.py").exists()
    if subject.environment is not None:
        pins = (benchmarks / "requirements" / f"{subject.environment}.txt").read_text("utf-8")
        lines = [line for line in pins.splitlines() if line and not line.startswith("#")]
        assert lines
        assert all("==" in line for line in lines)


ROOMS = ("machine", "plan", "measure", "report")
MAY_IMPORT = {
    "machine": {"machine", "systems"},
    "plan": {"plan", "machine"},
    "measure": {"measure", "plan", "machine", "systems"},
    "report": {"report", "plan", "machine", "systems"},
}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_none_above_it(room: str) -> None:
    """What is planned knows nothing of how it is measured, and neither of them of what is told."""
    folder = Path(__file__).parents[2] / "benchmarks" / room
    imports = re.compile(r"^\s*(?:from|import) benchmarks\.(\w+)", re.MULTILINE)
    files = sorted(folder.glob("*.py"))
    found = {name for file in files for name in imports.findall(file.read_text("utf-8"))}

    assert files
    assert found <= MAY_IMPORT[room]


@pytest.mark.parametrize("by", WATCHED)
def test_what_is_watched_is_told_by_turns_with_what_is_not(by: str) -> None:
    """By a name of its own, and the same system."""
    watched = of_watched(by)

    assert (watched.name, watched.system, watched.database) == (
        f"{OURS}@{by}",
        OURS,
        f"bench_async_jobs_{by}",
    )
    found = [
        *rounds("W3 capped", OURS, 900.0, 1_000.0),
        *rounds("W3 capped", watched.name, 900.0, 500.0),
    ]
    assert by_turns(found)["W3 capped", watched.name, "jobs_per_s"].median == 1.5


@pytest.mark.parametrize(
    ("by", "metrics", "statistics", "traces"),
    [
        ("", "none", False, "none"),
        ("metrics", "prometheus", True, "none"),
        ("traces", "none", False, "otel"),
    ],
)
def test_all_processes_are_watched_alike(
    monkeypatch: pytest.MonkeyPatch, by: str, metrics: str, statistics: bool, traces: str
) -> None:
    """By settings that the package has."""
    monkeypatch.setenv("BENCH_SETTINGS", json.dumps({"watched": by}))
    monkeypatch.setenv("BENCH_DSN", "postgresql:///bench")

    config = async_jobs_setup.config()

    assert (config.metrics, config.statistics, config.traces) == (metrics, statistics, traces)
    assert config.unknown_variables == ()
    assert config.not_used == {}
