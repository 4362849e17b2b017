"""The fairness rig: plain policies, bounds and measures on cases small enough to do by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.fairness import baselines, bound, corners, measures, rig, traces
from benchmarks.fairness.baselines import BASELINES
from benchmarks.fairness.ordered import CHUNK, Ordered
from benchmarks.fairness.traces import in_order, work
from benchmarks.fairness.units import Unit
from benchmarks.fairness.world import HOUR, SECOND, Ran, Trace, UseCase, Work
from benchmarks.machine import commits
from benchmarks.machine.environments import ROOT


def a_trace(*jobs: Work, slots: int = 1, **settings: object) -> Trace:
    """Return a trace of one use case."""
    fields = {"name": "small", "slots": slots, "use_cases": {"all": UseCase(slots)}}
    return Trace(**{**fields, "work": in_order(jobs, "one"), **settings})  # type: ignore[arg-type]


def order_of(ran: Ran) -> str:
    """Return the tenants in the order in which their jobs started."""
    return "".join(ran.trace.work[span.number].tenant for span in ran.spans)


# One slot; a holds it until 10 s. Then b was first, c is due first, d is short and relaxed.
CROWD = a_trace(
    work(0, 0, 10 * SECOND, "a", "job"),
    work(1 * SECOND, 60 * SECOND, 5 * SECOND, "b", "job"),
    work(2 * SECOND, 20 * SECOND, 5 * SECOND, "c", "job"),
    work(3 * SECOND, 2 * SECOND, 5 * SECOND, "c", "job"),
    work(4 * SECOND, HOUR, 1 * SECOND, "d", "job"),
)


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("FIFO", "abccd"),
        ("static priority", "acbcd"),  # at most 5 s, a minute, an hour
        ("round robin", "abcdc"),
        ("global EDF", "accbd"),
        ("EDF, late last", "acbdc"),  # the second c cannot be on time any more
        ("least laxity", "accbd"),
    ],
)
def test_a_plain_policy_starts_jobs_in_its_order(policy: str, order: str) -> None:
    """Each by what it goes by, and nothing else."""
    assert order_of(baselines.run(CROWD, BASELINES[policy])) == order


def test_a_plain_policy_keeps_capacity_horizon_and_pauses() -> None:
    """No more at once than a use case may have, nothing after the end, nothing of who is paused."""
    jobs = [work(0, SECOND, SECOND, name, "job") for name in "aabb"]
    trace = replace(a_trace(*jobs, slots=4, horizon=1_500), max_running={"b": 0})
    trace = replace(trace, use_cases={"all": UseCase(1)})

    ran = baselines.run(trace, BASELINES["FIFO"])

    assert [(span.start, span.number) for span in ran.spans] == [(0, 0), (1_000, 1)]


def test_failed_attempts_come_back_after_their_pause() -> None:
    """They are told apart from first attempts, which alone count."""
    trace = a_trace(
        work(0, SECOND, SECOND, "a", "job"),
        fails=lambda number, attempt: attempt < 3,
        pause=lambda number, attempt: 5 * SECOND * attempt,
    )
    starts = [(0, 0, 1), (6_000, 0, 2), (17_000, 0, 3)]

    for ran in (baselines.run(trace, BASELINES["FIFO"]), rig.run(trace)):
        assert ran.spans == starts
        assert measures.attainment(ran) == 1.0


SIX = [work(0, SECOND, SECOND, "a", "job") for _ in range(6)]


@pytest.mark.parametrize(
    ("slots", "jobs", "most"),
    [
        (1, SIX, 2 / 6),  # two can start within the first second, one after another
        (2, SIX, 4 / 6),
        (3, SIX, 1.0),
        (2, [work(0, 0, 9_000, "a", "job")] * 4, 2 / 4),
        (1, [*SIX, *(each._replace(due=HOUR) for each in SIX)], 4 / 12),  # losses add up
        (1, [], 1.0),
    ],
)
def test_bound_and_schedule_meet_where_the_answer_is_known(
    slots: int, jobs: list[Work], most: float
) -> None:
    """What no schedule can beat and what one reaches are the same here."""
    assert bound.upper(slots, jobs) == pytest.approx(most)
    assert bound.exists(slots, jobs) == pytest.approx(most)


@pytest.mark.parametrize("make", [traces.overload, corners.many, corners.blocked, traces.herd])
def test_no_plain_policy_beats_the_bound(make: Callable[[int], Trace]) -> None:
    """Nor does the schedule that exists."""
    whole = make(3)
    jobs = [job for job in whole.work if job.due < 200 * SECOND][:1_500]
    trace = replace(whole, work=jobs, slots=whole.slots // 3, horizon=None)
    most = bound.upper(trace.slots, jobs, points=40)

    reached = [measures.attainment(baselines.run(trace, each)) for each in BASELINES.values()]

    assert max(each or 0.0 for each in reached) <= most
    assert bound.exists(trace.slots, jobs) <= most


def test_attainment_counts_first_attempts_that_could_be_judged() -> None:
    """By deadline: on it is on time; what is due to start after the end does not count."""
    trace = a_trace(
        work(0, 0, 5 * SECOND, "a", "x"),
        work(0, 5 * SECOND, 5 * SECOND, "b", "x"),
        work(0, 6 * SECOND, 5 * SECOND, "b", "y"),
        work(0, HOUR, SECOND, "c", "y"),
        horizon=20 * SECOND,
    )
    ran = baselines.run(trace, BASELINES["FIFO"])

    assert measures.attainment(ran) == 2 / 3
    assert measures.by_group(ran, lambda job: job.kind) == {"x": 1.0, "y": 0.0}
    assert measures.worst_tenant(ran) == 0.5
    assert measures.lateness(ran, 100) == 4.0
    assert measures.waits(ran, lambda job: job.kind == "y") == [10.0]


def test_service_is_divided_by_weight_within_an_interval() -> None:
    """Slots held before and after do not count."""
    trace = replace(
        a_trace(
            work(0, 0, 4 * SECOND, "a", "x"), work(0, 0, 9 * SECOND, "b", "x"),
            work(0, 0, 20 * SECOND, "a", "x"), slots=2,
        ),
        weights={"b": 2.0},
    )  # fmt: skip
    ran = baselines.run(trace, BASELINES["FIFO"])

    assert measures.service(ran, 2_000, 8_000) == {"a": 6.0, "b": 6.0}
    assert measures.fairness(ran, 2_000, 8_000) == pytest.approx(9**2 / (2 * 45))
    assert measures.longest_wait(ran, 0, 12_000) == 3.0
    assert measures.unserved(ran, 1_000, 12_000) == 1
    assert measures.load_swing(ran, 4_000, 0, 12_000) == 2 / 1.25


def test_jain_is_one_when_all_have_as_much() -> None:
    """And one part in n when one has everything."""
    assert measures.jain([3.0, 3.0, 3.0]) == 1.0
    assert measures.jain([5.0, 0.0, 0.0, 0.0]) == 0.25


def test_a_share_is_what_those_who_want_less_leave() -> None:
    """Ten slots: two want one each, the other two divide eight."""
    wanted = {"a": 1.0, "b": 1.0, "c": 9.0, "d": 4.5}
    assert [measures.share(wanted, 10.0, name) for name in "abcd"] == [1.0, 1.0, 4.0, 4.0]
    assert measures.share({"a": 1.0, "b": 2.0}, 10.0, "b") == 2.0


def test_a_gain_is_what_was_served_beyond_the_share() -> None:
    """Two tenants want all of one slot; one of them gets three quarters."""
    jobs = [work(0, at, SECOND, "aaab"[at % 4], "x") for at in range(40)]
    jobs += [work(0, HOUR, SECOND, "b", "x") for _ in range(20)]
    ran = baselines.run(a_trace(*jobs, horizon=30 * SECOND), BASELINES["global EDF"])

    assert measures.gain(ran, "a", 0, 28 * SECOND) == pytest.approx(0.5)


def test_percentiles_are_interpolated() -> None:
    """Between the two values next to the place."""
    assert measures.percentile([4.0, 1.0, 2.0, 3.0], 50) == 2.5
    assert measures.percentile([1.0, 3.0], 100) == 3.0
    assert measures.percentile([], 99) == 0.0


def test_a_newcomer_is_overtaken_by_what_starts_before_it() -> None:
    """First in, first out, 180 of 200 jobs are left when it comes to ten slots."""
    trace = corners.newcomer(1, cap=10, slots=10, tenants=1, each=200)
    ran = baselines.run(trace, BASELINES["FIFO"])

    assert measures.overtaken_by(ran, "newcomer") == 180


def test_a_sorted_collection_stays_sorted() -> None:
    """Through many chunks, with entries taken out anywhere, and begun anywhere."""
    kept = Ordered()
    for number in range(5 * CHUNK):
        kept.add((number * 7919 % (5 * CHUNK), "x"))
    for number in range(0, 5 * CHUNK, 3):
        kept.remove((number,))
    left = [number for number in range(5 * CHUNK) if number % 3]

    assert [number for number, _ in kept] == left
    assert len(kept) == len(left)
    assert next(kept.since((1_000,))) == (1_000, "x")
    with pytest.raises(KeyError):
        kept.remove((0,))
    for number in left:
        kept.remove((number, "x"))
    assert not kept
    assert list(kept.since((0,))) == []


@pytest.mark.parametrize("config", ["one", "slack", "shared", "own"])
def test_the_rig_does_the_same_twice(config: str) -> None:
    """The application's scheduler on a day of a minute: every job is executed exactly once."""

    def ran(seed: int) -> Ran:
        whole = traces.day(seed, config, jobs=2_000)
        return rig.run(replace(whole, work=whole.work[:120]))

    first = ran(5)

    assert first.fingerprint() == ran(5).fingerprint() != ran(6).fingerprint()
    assert sorted(span.number for span in first.spans) == list(range(120))


def test_the_rig_keeps_slots_and_capacity() -> None:
    """Never more at once than there are slots, and a free slot serves whoever is alone."""
    jobs = [work(0, HOUR, SECOND, "a", "x") for _ in range(40)]
    ran = rig.run(a_trace(*jobs, slots=4))

    assert [span.start for span in ran.spans] == [n // 4 * SECOND for n in range(40)]


def test_the_rig_takes_its_time_from_a_signal_to_the_leases() -> None:
    """With latency, a job starts so much later."""
    trace = a_trace(work(10_300, HOUR, SECOND, "a", "x"))

    assert rig.run(trace).first == [10_300]
    assert rig.run(trace, latency=50).first == [10_350]


def test_the_rig_runs_the_package_of_the_commit_that_figures_are_compared_with() -> None:
    """What has moved or changed its name since is asked for in `shapes`."""
    try:
        checkout = commits.of_commit("0362666")
    except commits.UnknownCommitError as unknown:
        pytest.skip(f"no history here: {unknown}")
    unit = Unit("newcomer", "1 flood, 4 on 4 slots", "one", "async_jobs", 1)
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.fairness.units"],
        input=json.dumps(unit) + "\n",
        env={**os.environ, **checkout.environment()},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)[0] == [*unit]
