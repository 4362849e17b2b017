"""F5, F6, F11, F13: which job starts next, and that one does, over traces that try to break it.

F9 is about crashes (`test_crashes.py`), F12 about what a turn looks at (`test_dispatching.py`).
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.fairness import STARTS_BETWEEN_LATE
from async_jobs.domain.limits import UseCaseConfig
from tests.unit.domain.crowds import (
    CAN_WAIT,
    HOUR,
    PRESSES,
    a_few,
    backlog,
    stints,
)
from tests.unit.domain.play import HUGE, Job, Play, Work

# --- F5: no free slot while a job waits ----------------------------------------------------------


@a_few
@given(st.data())
def test_f5_no_slot_is_idle_while_an_eligible_job_waits(data: st.DataObject) -> None:
    """Over pools of their own and shared ones, workers of a pool that receive different queues, use
    cases that are full, limited tenants, and jobs of every urgency: after each turn (and those that
    it says have to follow at once).
    """
    use_cases = {
        name: UseCaseConfig(
            max_concurrent=data.draw(st.sampled_from([1, 2, 4, HUGE])),
            late_policy=data.draw(st.sampled_from([LatePolicy.RUN, LatePolicy.SIDELINE])),
        )
        for name in ("mail", "report")
    }
    tenants = ["acme", "bolt", "core"]
    play = Play(
        workers=[
            (queues, data.draw(st.integers(1, 3)))
            for queues in data.draw(
                st.sampled_from([[("a", "b"), ("c",)], [("a", "b"), ("b", "c"), ("c",)]])
            )
        ],
        use_cases=use_cases,
        weights=dict.fromkeys(tenants, 1.0),
        max_running=data.draw(st.dictionaries(st.sampled_from(tenants), st.integers(0, 2))),
    )
    works = data.draw(stints(tenants))
    lane = st.sampled_from([(queue, name) for queue in "abc" for name in use_cases])
    lanes = {kind: data.draw(lane) for kind in {work.kind for work in works}}
    for work in works:
        queue, name = lanes[work.kind]
        play.add([replace(work, queue=queue, use_case=name)])

    def watch(play: Play) -> None:
        for job in play.waiting.values():
            assert not (play.is_eligible(job) and play.idle(job.work.queue) > 0)

    play.after_turn = watch
    play.go_on(60_000)


def test_f5_f10_what_waits_for_busy_workers_keeps_no_others_idle() -> None:
    """Long jobs of queue a hold the slots of those who receive b as well. What comes for b waits
    for them, and the other workers go on with a.
    """
    play = Play(
        workers=[(("a",), 4), (("a", "b"), 4)],
        use_cases={name: UseCaseConfig(max_concurrent=HUGE) for name in ("mail", "report")},
        run_times={"long": 600.0, "work": 1.0},
    )
    play.add([Work(queue="a", type="long", run=600_000, **CAN_WAIT)] * 4)
    play.add([Work(queue="a", at=1, **CAN_WAIT)] * 2_000)
    play.add([Work(tenant="bolt", use_case="report", queue="b", at=5_000, **PRESSES)] * 20)

    play.go_on(300_000)

    starts = Counter(job.work.queue for job in play.starts if job.started is not None)
    assert starts == {"a": 4 + 4 * 300}
    assert not play.handed_off


# --- F6: overload does not domino ----------------------------------------------------------------


def earliest_deadline_first(works: list[Work], slots: int) -> int:
    """Return how many of the jobs begin in time if the earliest deadline simply goes first."""
    coming = sorted((work.at, work.deadline, n, work.run) for n, work in enumerate(works))
    waiting: list[tuple[int, int, int]] = []
    ends = [0] * slots
    in_time = now = 0
    while coming or waiting:
        now = max(now, heapq.heappop(ends))
        if not waiting:
            now = max(now, coming[0][0])
        while coming and coming[0][0] <= now:
            _, deadline, number, run = coming.pop(0)
            heapq.heappush(waiting, (deadline, number, run))
        deadline, _, run = heapq.heappop(waiting)
        in_time += now <= deadline
        heapq.heappush(ends, now + run)
    return in_time


@settings(max_examples=100)
@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(
            st.integers(0, 20_000),
            st.sampled_from([0, 1_000, 4_000, 12_000, 30_000, 60_000]),
            st.integers(1, 12),
        ),
        min_size=1,
        max_size=10,
    ),
)
def test_f6_overload_makes_no_more_jobs_late_than_it_must(
    slots: int, bursts: list[tuple[int, int, int]]
) -> None:
    """With jobs of one length and one tenant, at least as many begin in time as under plain
    earliest deadline first, however many come.
    """
    works = [
        Work(at=at, tolerance=tolerance) for at, tolerance, count in bursts for _ in range(count)
    ]
    play = Play(workers=[(("lane",), slots)])
    play.add(works)

    play.go_on(400_000)

    assert len(play.starts) == len(works)
    in_time = sum(not play.is_late(job) for job in play.starts)
    assert in_time >= earliest_deadline_first(works, slots)


def test_f6_a_fifth_too_much_makes_a_fifth_late_and_not_everything() -> None:
    """The worst case of earliest deadline first: once behind, everything is late by turns."""
    works = [
        Work(tenant=f"tenant-{n % 4}", at=n * 208, tolerance=15_000) for n in range(240_000 // 208)
    ]
    play = Play(workers=[(("lane",), 4)], weights={f"tenant-{n}": 1.0 for n in range(4)})
    play.add(works)

    play.go_on(400_000)

    in_time = sum(not play.is_late(job) for job in play.starts)
    assert earliest_deadline_first(works, 4) < 0.6 * len(works)
    assert in_time > 0.8 * len(works)


@pytest.mark.parametrize("cap", [HUGE, 5, 2, 1])
def test_f6_a_late_job_is_not_starved(cap: int) -> None:
    """While a late job waits and others press without end, at most STARTS_BETWEEN_LATE others and
    what one turn can start go before the one that is overdue for longest.
    """
    play = Play(
        workers=[(("lane",), 2)],
        use_cases={"mail": UseCaseConfig(max_concurrent=cap)},
        weights={"flood": 1.0, "acme": 1.0},
    )
    play.add(backlog("flood", [250], 200_000, **PRESSES))
    overdue = [Work(at=n, tolerance=-1) for n in range(4)]
    play.add(overdue)

    play.go_on(100_000)

    places = [n for n, job in enumerate(play.starts) if job.work.tenant == "acme"]
    gaps = [after - before for before, after in zip([-1, *places], places, strict=False)]
    assert len(places) == len(overdue)
    assert max(gaps) <= STARTS_BETWEEN_LATE + 4
    assert [job.work.at for job in play.starts if job.work.tenant == "acme"] == list(range(4))


# --- F11: one choice for one pool ----------------------------------------------------------------


def test_f11_no_slot_is_kept_for_a_queue_that_is_empty() -> None:
    """Three queues share the slots, and one of them has all the work."""
    queues = ("a", "b", "c")
    play = Play(
        workers=[(queues, 6)],
        use_cases={name: UseCaseConfig(max_concurrent=HUGE, queue=name) for name in queues},
    )
    play.add(backlog("acme", [1_000], 20_000, use_case="b", queue="b"))

    play.go_on(500)

    assert len(play.running) == 6


@a_few
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9_000)), min_size=6, max_size=30))
def test_f11_deadlines_decide_across_use_cases_and_queues(asked: list[tuple[str, int]]) -> None:
    """What one tenant has critical in three use cases with a queue each begins by deadline, as if
    there were one.
    """
    queues = ("a", "b", "c")
    play = Play(
        workers=[(queues, 2)],
        use_cases={name: UseCaseConfig(max_concurrent=HUGE, queue=name) for name in queues},
        run_times={"work": 0.2},
    )
    play.add([Work(use_case=q, queue=q, tolerance=t, run=200) for q, t in asked])

    play.go_on(60_000)

    in_time = [job.work.tolerance for job in play.starts if not play.is_late(job)]
    assert in_time == sorted(in_time)


# --- F13: priorities -----------------------------------------------------------------------------


@a_few
@given(st.integers(1, 3), st.data())
def test_f13_priority_never_lets_what_can_wait_pass_what_presses(
    slots: int, data: st.DataObject
) -> None:
    """When a job begins that can wait, none of its tenant's presses, whatever their priorities; and
    of what presses, and of what can wait, the higher priority goes first.
    """
    play = Play(workers=[(("lane",), slots)])
    works = data.draw(stints(["acme"]))
    priorities = {kind: data.draw(st.sampled_from([-5, 0, 10])) for kind in {w.kind for w in works}}
    play.add(replace(work, priority=priorities[work.kind]) for work in works)
    seen = 0

    def watch(play: Play) -> None:
        nonlocal seen
        left = [
            (_urgency(job, play), -job.work.priority)
            for job in play.waiting.values()
            if not play.is_late(job)
        ]
        for job in play.starts[seen:]:
            if left and not play.is_late(job):
                assert (_urgency(job, play), -job.work.priority) <= min(left)
        seen = len(play.starts)

    play.after_turn = watch
    play.go_on(60_000)


def _urgency(job: Job, play: Play) -> int:
    if job.work.deadline - play.now <= 10_000:
        return 0
    return 1 if play.presses(job) else 2


@a_few
@given(st.sampled_from([0, 5, 10]))
def test_f13_a_tenants_own_relaxed_jobs_of_high_priority_cost_it_no_deadline(priority: int) -> None:
    """Its tight jobs begin in time as they would without priorities."""
    play = Play(workers=[(("lane",), 2)])
    play.add(backlog("acme", [1_000], 200_000, priority=priority, tolerance=HOUR))
    play.add([Work(at=n * 1_000, tolerance=12_000) for n in range(100)])

    play.go_on(120_000)

    assert not any(play.is_late(job) for job in play.starts if job.work.tolerance == 12_000)
