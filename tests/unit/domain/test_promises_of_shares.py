"""F1 to F4 and F7: what tenants can rely on against each other, over traces that try to break it.

What they can rely on from the slots is in `test_promises_of_starts.py`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.fairness import ServiceMemory
from async_jobs.domain.limits import UseCaseConfig
from async_jobs.domain.rounds import ROUNDS_AHEAD_MAX
from tests.unit.domain.crowds import (
    CAN_WAIT,
    ENDLESS,
    HOUR,
    PRESSES,
    Leads,
    a_few,
    backlog,
    crowds,
    lengths,
    stints,
    weights,
)
from tests.unit.domain.play import HUGE, Play, Work, lead_bound

# --- F1: shares are of what can run --------------------------------------------------------------


@a_few
@given(crowds(caps=False), st.lists(lengths, min_size=6, max_size=6), st.integers(1, 4))
def test_f1_work_that_is_split_over_use_cases_and_queues_brings_no_more(
    play: Play, runs: list[list[int]], parts: int
) -> None:
    """The first tenant has its work in several use cases and queues that the same slots serve, the
    others in one. `lead_bound` holds between all of them, as if there were one use case.
    """
    names = [f"part-{n}" for n in range(parts)]
    play = Play(
        workers=[(("lane", "other"), play.slots)],
        use_cases={name: UseCaseConfig(max_concurrent=HUGE) for name in ["mail", *names]},
        weights=play.weights,
    )
    play.after_turn = Leads(max(map(max, runs)))
    first, *rest = play.weights
    for number, name in enumerate(names):
        queue = ("lane", "other")[number % 2]
        play.add(backlog(first, runs[0], 100_000, use_case=name, queue=queue, **CAN_WAIT))
    for tenant, own in zip(rest, runs[1:], strict=False):
        play.add(backlog(tenant, own, 20_000 * play.slots, **CAN_WAIT))

    play.go_on(20_000)


@a_few
@given(st.integers(1, 6), st.data())
def test_f1_backlogs_in_several_use_cases_hide_nobody_who_is_in_one_of_them(
    slots: int, data: st.DataObject
) -> None:
    """Some tenants have backlogs in two use cases, the others in one of these, of whatever
    capacities, weights and deadlines. All jobs are equally long. Each has what its weight is due of
    the slots, or of the capacity of its use case if that is less, but for a few jobs.
    """
    names = [f"tenant-{n}" for n in range(data.draw(st.integers(2, 4)))]
    caps = st.sampled_from([1, max(1, slots - 1), slots, slots + 1, 2 * slots, HUGE])
    use_cases = {n: UseCaseConfig(max_concurrent=data.draw(caps)) for n in ("mail", "bulk")}
    in_both = data.draw(st.integers(1, len(names) - 1))
    play = Play(
        workers=[(("lane",), slots)],
        use_cases=use_cases,
        weights={name: data.draw(st.sampled_from([0.5, 1.0, 1.0, 2.0])) for name in names},
        run_times={"work": 1.0},
    )
    seconds = 40
    for number, name in enumerate(names):
        for use_case in ("bulk", "mail") if number < in_both else ("bulk",):
            tolerance = ENDLESS + data.draw(st.sampled_from([-1, 0, 1])) * HOUR
            jobs = [Work(tenant=name, use_case=use_case, tolerance=tolerance)]
            play.add(jobs * (seconds * slots))

    play.go_on(seconds * 1_000)

    starts = Counter(job.work.tenant for job in play.starts)
    some = min(slots, use_cases["bulk"].max_concurrent) / sum(play.weights.values())
    for name, weight in play.weights.items():
        assert starts[name] >= some * weight * seconds - 3 * slots - 5


def test_f1_who_chooses_another_use_case_first_hides_nobody_of_this_one() -> None:
    """One slot. A tenant has earlier deadlines in another use case than in the one that three have
    in common: each of them has a third of the starts.
    """
    play = Play(
        workers=[(("lane",), 1)],
        use_cases={name: UseCaseConfig(max_concurrent=1) for name in ("mail", "bulk")},
        run_times={"work": 1.0},
    )
    play.add([Work(tenant="both", use_case="mail", tolerance=ENDLESS)] * 60)
    for hour, tenant in enumerate(("both", "acme", "bolt")):
        play.add([Work(tenant=tenant, use_case="bulk", tolerance=ENDLESS + hour * HOUR)] * 60)

    play.go_on(60_000)

    starts = Counter(job.work.tenant for job in play.starts)
    assert all(starts[tenant] >= 19 for tenant in ("both", "acme", "bolt"))


def test_f1_capacity_that_was_not_used_for_another_use_cases_sake_is_not_saved_up() -> None:
    """While a tenant's slots go to mails, another has the capacity for reports. Once there are no
    mails, both share that capacity, whatever one of them has not had before.
    """
    play = Play(
        workers=[(("lane",), 2)],
        use_cases={name: UseCaseConfig(max_concurrent=2) for name in ("mail", "report")},
        run_times={"work": 1.0},
    )
    play.add([Work(tenant="acme", use_case="mail", tolerance=ENDLESS)] * 60)
    for tenant in ("acme", "bolt"):
        play.add([Work(tenant=tenant, use_case="report", tolerance=ENDLESS + HOUR)] * 100)
    play.go_on(60_000)
    before = len(play.starts)

    play.go_on(80_000)

    starts = Counter(job.work.tenant for job in play.starts[before:])
    assert abs(starts["acme"] - starts["bolt"]) <= 4


def test_f1_work_in_another_pool_costs_nothing_in_this_one() -> None:
    """Three share the capacity of one use case. One of them is also short of slots elsewhere."""
    play = Play(
        workers=[(("a",), 5), (("b",), 1)],
        use_cases={
            "mail": UseCaseConfig(max_concurrent=1),
            "report": UseCaseConfig(max_concurrent=HUGE),
        },
        run_times={"work": 1.0},
    )
    for hour, tenant in enumerate(("acme", "bolt", "both")):
        play.add([Work(tenant=tenant, queue="a", tolerance=ENDLESS + hour * HOUR)] * 60)
    play.add([Work(tenant="both", use_case="report", queue="b", tolerance=ENDLESS)] * 100)

    play.go_on(60_000)

    starts = Counter(job.work.tenant for job in play.starts if job.work.use_case == "mail")
    assert all(starts[tenant] >= 19 for tenant in ("acme", "bolt", "both"))


# --- F2: memory ----------------------------------------------------------------------------------


@a_few
@given(crowds(), st.lists(lengths, min_size=6, max_size=6), st.sampled_from([CAN_WAIT, PRESSES]))
def test_f2_who_waits_without_pause_is_served_by_weight(
    play: Play, runs: list[list[int]], urgency: dict[str, Any]
) -> None:
    """Between two tenants whose jobs are of the same urgency and wait without pause, at every
    instant: |service_i ÷ w_i - service_j ÷ w_j| <= R (¼ + 1 ÷ w_j) + slots × max(L ÷ w_i, R ÷ w_j),
    where R is a round, the longest mean run time that was expected, and L the longest job. However
    long they wait, however many they are, whatever the slots, `max_concurrent` and the weights.
    """
    leads = Leads(max(map(max, runs)))
    play.after_turn = leads
    for tenant, own in zip(play.weights, runs, strict=False):
        play.add(backlog(tenant, own, 40_000 * play.slots, **urgency))

    play.go_on(40_000)

    assert leads.checked


@a_few
@given(crowds(tenants_max=4, caps=False), st.data())
def test_f2_urgency_brings_forty_rounds_at_most(play: Play, data: st.DataObject) -> None:
    """Between tenants that have jobs that press, however urgent, or none that do, nobody gets ahead
    by more than the same and ROUNDS_AHEAD_MAX rounds, whoever comes and goes meanwhile.
    """
    play.after_turn = Leads(4_000, borrowed=ROUNDS_AHEAD_MAX)
    play.add(data.draw(stints(list(play.weights))))

    play.go_on(60_000)


@a_few
@given(crowds(tenants_max=4, caps=False), st.integers(21_000, 90_000), lengths)
def test_f2_what_can_wait_is_held_back_for_half_of_its_tolerance_and_no_longer(
    play: Play, tolerance: int, runs: list[int]
) -> None:
    """While others press without end, a job with time begins when half of its tolerance is gone,
    and nobody has had more than `lead_bound` by then, from that instant on.
    """
    late_runs = {"mail": UseCaseConfig(max_concurrent=HUGE, late_policy=LatePolicy.RUN)}
    play = Play(workers=play.workers, use_cases=late_runs, weights=play.weights)
    one, *others = play.weights
    for tenant in others:
        play.add(backlog(tenant, runs, 200_000 * play.slots, **PRESSES))
    play.add([Work(tenant=one, at=1_000, tolerance=tolerance)])

    play.go_on(1_000 + tolerance // 2 - 1)
    held_back = not any(job.work.tenant == one for job in play.starts)
    had = dict(play.service)
    while not any(job.work.tenant == one for job in play.starts):
        play.go_on(play.now + 250)

    assert held_back
    for tenant in others:
        bound = lead_bound(play, tenant, one, max(runs))
        assert play.service[tenant] - had.get(tenant, 0) <= bound


@pytest.mark.parametrize("use_case", ["mail", "report"])
@pytest.mark.parametrize("beside", [[], [(("other",), 2)]])
def test_f2_f4_a_long_job_is_begun_soon_beside_short_ones_that_wait_ahead_of_slots(
    use_case: str, beside: list[tuple[tuple[str, ...], int]]
) -> None:
    """Where jobs are short, more of them wait ahead of busy slots, and no slot is ever idle."""
    play = Play(
        workers=[*beside, (("lane", "other") if beside else ("lane",), 4)],
        use_cases={name: UseCaseConfig(max_concurrent=HUGE) for name in ("mail", "report")},
        run_times={"work": 0.05, "long": 2.0},
        hand_off_seconds=0.05,
    )
    play.add([Work(tenant="short", run=50, **CAN_WAIT)] * 1_000)
    long = Work(tenant="long", use_case=use_case, type="long", run=2_000, at=1_000, **CAN_WAIT)
    play.add([long] * 30)

    play.go_on(11_000)

    assert next(job.started for job in play.starts if job.work == long) == 1_050
    assert abs(play.service["long"] - (play.service["short"] - 4_000)) <= 4 * 2_000


@settings(max_examples=6)
@given(
    crowds(tenants_max=4, caps=False),
    st.lists(st.sampled_from([50, 250, 1_000, 3_000]), min_size=4, max_size=4),
    st.sampled_from(["one use case", "a use case each"]),
    st.sampled_from(["workers alike", "workers apart"]),
    st.booleans(),
)
def test_f2_short_jobs_ahead_of_busy_slots_shut_nobody_out(
    play: Play, runs: list[int], use_cases: str, workers: str, is_known: bool
) -> None:
    """Each tenant has jobs of one length, which differ: what may wait ahead of busy slots is only
    the short ones. Other workers of the pool, which do not receive their queue, are idle.
    """
    lengths = dict(zip(play.weights, runs, strict=False))
    names = {tenant: tenant if use_cases == "a use case each" else "mail" for tenant in lengths}
    types = {tenant: f"of {run} ms" for tenant, run in lengths.items()}
    alone, apart = (("lane",), play.slots), [(("other",), 2), (("lane", "other"), play.slots)]
    play = Play(
        workers=apart if workers == "workers apart" else [alone],
        use_cases={name: UseCaseConfig(max_concurrent=HUGE) for name in names.values()},
        weights=play.weights,
        run_times={types[t]: run / 1_000 for t, run in lengths.items()} if is_known else {},
        hand_off_seconds=0.1,
    )

    def watch(play: Play) -> None:
        for one, other in permutations(lengths, 2):
            bound = lead_bound(play, one, other, max(runs))
            assert play.service[one] - play.service[other] <= 2 * bound

    play.after_turn = watch
    for tenant, run in lengths.items():
        traits: dict[str, Any] = {"use_case": names[tenant], "type": types[tenant], **PRESSES}
        play.add(backlog(tenant, [run], 20_000 * play.slots, **traits))
    play.go_on(20_000)


# --- F3: urgency is no currency ------------------------------------------------------------------


@a_few
@given(
    st.integers(1, 4),
    st.sampled_from([0, 1_000, 5_000, 10_000]),
    st.sampled_from([12_000, 30_000, 60_000]),
    st.sampled_from([1.0, 1.0, 3.0]),
)
def test_f3_who_calls_everything_urgent_gains_nothing_over_its_share(
    slots: int, lie: int, tolerance: int, weight: float
) -> None:
    """Both hand in more than all slots can do. However long that lasts, the liar's service ÷ weight
    is never ahead by more than what the honest tenant offers to wait, half of its tolerance of all
    slots, and the bound of F2 with ROUNDS_AHEAD_MAX rounds.
    """
    play = Play(workers=[(("lane",), slots)], weights={"honest": 1.0, "liar": weight})
    every = 900 // slots
    for at in range(0, 120_000, every):
        play.add([Work(tenant="honest", at=at, tolerance=tolerance)])
        play.add([Work(tenant="liar", at=at, tolerance=lie)])

    def watch(play: Play) -> None:
        bound = lead_bound(play, "liar", "honest", 1_000, borrowed=ROUNDS_AHEAD_MAX)
        waits = slots * tolerance / 2 / weight
        assert play.service["liar"] - play.service["honest"] <= bound + waits

    play.after_turn = watch
    play.go_on(120_000)


# --- F4: newcomers -------------------------------------------------------------------------------


@a_few
@given(crowds(), st.integers(0, 20_000), weights, st.sampled_from([CAN_WAIT, PRESSES]))
def test_f4_a_newcomer_waits_for_a_round_of_the_others(
    play: Play, at: int, weight: float, urgency: dict[str, Any]
) -> None:
    """Jobs are equally long and urgent. Before a newcomer of weight w begins, each other tenant of
    weight w_i begins fewer than w_i (1 ÷ w + ¼) more jobs, whatever its backlog: one where all
    weigh the same.
    """
    play = Play(
        workers=play.workers,
        use_cases=play.use_cases,
        weights={**play.weights, "newcomer": weight},
        run_times={"work": 1.0},
    )
    for tenant in list(play.weights)[:-1]:
        play.add(backlog(tenant, [1_000], 60_000 * play.slots, **urgency))
    play.go_on(at)
    before = len(play.starts)
    play.add([Work(tenant="newcomer", at=at, **urgency)])

    while not any(job.work.tenant == "newcomer" for job in play.starts):
        play.go_on(play.now + 1_000)

    starts = [job.work.tenant for job in play.starts[before:]]
    ahead = starts[: starts.index("newcomer")]
    for tenant, own in play.weights.items():
        assert ahead.count(tenant) < own * (1 / weight + 1 / 4) + 0.001


@a_few
@given(crowds(tenants_max=3, caps=False), st.integers(1, 60_000), lengths)
def test_f4_an_idle_tenant_saves_nothing_up(play: Play, idle: int, runs: list[int]) -> None:
    """Whoever comes after a while of doing nothing gets ahead of those who waited by no more than
    the one that had the least of them.
    """
    one, *others = play.weights
    for tenant in others:
        play.add(backlog(tenant, runs, (idle + 30_000) * play.slots, **CAN_WAIT))
    play.go_on(idle)
    least = min(play.service[other] for other in others)
    play.add(backlog(one, runs, 30_000 * play.slots, at=idle, **CAN_WAIT))

    def watch(play: Play) -> None:
        for other in others:
            lead = least + play.service[one] - play.service[other]
            assert lead <= lead_bound(play, one, other, max(runs))

    play.after_turn = watch
    play.go_on(idle + 30_000)


@pytest.mark.parametrize(
    "why", ["it can wait", "few slots receive its queue", "beside idle slots", "a small pool"]
)
def test_f4_who_waits_for_another_reason_lets_no_newcomer_in_below_the_others(why: str) -> None:
    """Two tenants share what there is for ten minutes. Somebody waits all the time, and has had
    little for a reason of its own. Then a newcomer has as much as they have, and no more.
    """
    workers: list[tuple[tuple[str, ...], int]] = [(("lane",), 9)]
    if why in ("few slots receive its queue", "beside idle slots"):
        workers.append((("lane", "narrow"), 1))
    if why == "beside idle slots":
        workers += [(("lane", "spare"), 1), (("spare",), 2)]
    if why == "a small pool":
        workers.append((("narrow",), 1))
    capacity = 6 if why == "a small pool" else HUGE
    play = Play(
        workers=workers,
        use_cases={"mail": UseCaseConfig(max_concurrent=capacity)},
        run_times={"work": 1.0},
    )
    waits: dict[str, Any] = CAN_WAIT if why == "it can wait" else {**PRESSES, "queue": "narrow"}
    play.add([Work(tenant="other", **waits)] * 700)
    for tenant in ("acme", "bolt"):
        play.add([Work(tenant=tenant, **PRESSES)] * 6_000)
    play.go_on(600_000)
    before = len(play.starts)
    play.add([Work(tenant="newcomer", at=600_000, **PRESSES)] * 600)

    play.go_on(630_000)

    starts = Counter(job.work.tenant for job in play.starts[before:])
    assert max(abs(starts["newcomer"] - starts[tenant]) for tenant in ("acme", "bolt")) <= 12


@pytest.mark.parametrize("minutes", [1, 60])
def test_f4_who_waits_for_a_queue_that_is_full_for_long_lets_nobody_in_below_the_others(
    minutes: int,
) -> None:
    """Long jobs hold the one slot that receives `b`. Who waits for it has had nothing, and a
    newcomer on `a` has as much as those who share that queue, and no more.
    """
    run = minutes * 60_000
    play = Play(
        workers=[(("a",), 4), (("a", "b"), 1)],
        use_cases={name: UseCaseConfig(max_concurrent=HUGE) for name in ("mail", "report")},
        run_times={"work": 1.0, "long": run / 1_000},
    )
    long = Work(use_case="report", queue="b", type="long", run=run, **CAN_WAIT)
    play.add([replace(long, tenant="first")] * 200)
    play.add([replace(long, tenant="other", at=10)] * 3)
    for tenant, at in (("acme", 20), ("bolt", 20), ("newcomer", 300_000)):
        play.add([Work(tenant=tenant, queue="a", at=at, **CAN_WAIT)] * 3_000)
    play.go_on(300_000)
    before = len(play.starts)

    play.go_on(360_000)

    starts = Counter(job.work.tenant for job in play.starts[before:])
    assert max(abs(starts["newcomer"] - starts[tenant]) for tenant in ("acme", "bolt")) <= 12


# --- F7: it survives -----------------------------------------------------------------------------


@a_few
@given(crowds(), st.lists(lengths, min_size=6, max_size=6), st.sampled_from([2_000, 7_000]))
def test_f7_another_scheduler_goes_on_with_what_was_saved(
    play: Play, runs: list[list[int]], every: int
) -> None:
    """However often one takes over, the bound of F2 holds as if it were always the same: what is
    saved, as JSON, is all that is needed.
    """
    play.after_turn = Leads(max(map(max, runs)))
    for tenant, own in zip(play.weights, runs, strict=False):
        play.add(backlog(tenant, own, 30_000 * play.slots, **CAN_WAIT))

    for at in range(every, 30_000, every):
        play.go_on(at)
        play.turn()
        saved = json.dumps(play.memory.saved())
        play.memory = ServiceMemory()
        play.memory.restore(json.loads(saved))
        play.turn()


@a_few
@given(crowds(), st.lists(lengths, min_size=6, max_size=6))
def test_f7_a_scheduler_that_remembers_nothing_costs_the_bound_once_more(
    play: Play, runs: list[list[int]]
) -> None:
    """All are equal again, so that the lead there was is kept, and another may come."""
    leads = Leads(max(map(max, runs)))
    play.after_turn = leads
    for tenant, own in zip(play.weights, runs, strict=False):
        play.add(backlog(tenant, own, 30_000 * play.slots, **CAN_WAIT))

    for at in (9_000, 18_000):
        play.go_on(at)
        play.memory = ServiceMemory()
        leads.times += 1
        play.turn()
    play.go_on(30_000)
