"""When the scheduler ticks, and several schedulers side by side."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from async_jobs.adapters.memory.checkpoints import MemoryCheckpoints
from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.errors import ConfigurationError, StoreRefused, Unavailable
from async_jobs.domain.facts import ChoreSkipped, JobLeased
from async_jobs.domain.job import Phase
from async_jobs.domain.lifecycle import Cancelled
from async_jobs.domain.limits import TenantQuota, UseCaseConfig
from async_jobs.ports.checkpoints import CHECKPOINT
from async_jobs.ports.signal import DISPATCH
from async_jobs.testing.builders import a_job, a_request, a_worker, later
from async_jobs.testing.clocks import ManualChance, let_others_run
from async_jobs.testing.contracts.scenes import (
    added,
    all_jobs,
    happened,
    in_phase,
    race,
    stored,
)
from tests.unit.application.faults import Faulty, FaultyCheckpoints, FaultyWorkers, die, unavailable
from tests.unit.application.stage import Stage, count, limits, quiet, sent, waiting, wide

# --- The loop ---------------------------------------------------------------------------------


@asynccontextmanager
async def looping(stage: Stage, scheduler: Scheduler) -> AsyncIterator[asyncio.Event]:
    """Run a scheduler for the length of a block; yields what stops it."""
    stop = asyncio.Event()
    task = asyncio.create_task(scheduler.run(stop, stage.errors.append))
    await quiet()
    try:
        yield stop
    finally:
        stop.set()
        assert await stage.seconds_until_done(task, at_most=1) == 0
        await task


def ticks(stage: Stage) -> int:
    """Return how many ticks began."""
    return stage.store.calls["promote"]


async def test_the_loop_ticks_at_intervals() -> None:
    """With every signal lost."""
    stage = Stage()

    async with looping(stage, stage.scheduler(interval_seconds=2)):
        await stage.elapse(6)
        seen = ticks(stage)

    assert seen == 4


async def test_a_signal_makes_the_loop_tick_at_once() -> None:
    """The clock has not moved."""
    stage = Stage()

    async with looping(stage, stage.scheduler()):
        enqueued = await stage.service().enqueue(a_request())
        await quiet()
        job = await stage.job(enqueued.job_id)

    assert job.phase is Phase.HANDED_OFF


async def test_the_loop_wakes_when_the_next_job_comes_due() -> None:
    """Well before its interval is over."""
    stage = Stage()
    job = await added(stage.memory, run_at=later(3))

    async with looping(stage, stage.scheduler(interval_seconds=60)):
        await stage.elapse(2.75, step_seconds=0.25)
        before = await stage.job(job)
        await stage.elapse(0.25)
        due = await stage.job(job)

    assert (before.phase, due.phase) == (Phase.PENDING, Phase.HANDED_OFF)


async def test_the_loop_goes_on_at_once_while_there_is_more_to_do() -> None:
    """A bound of one tick is not a bound of the interval."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=0)))
    for _ in range(7):
        await in_phase(stage.memory, Phase.HANDED_OFF)
    stage.clock.advance(60)

    async with looping(stage, stage.scheduler(reap_limit=2)):
        reaped = await count(stage, Phase.PENDING)

    assert reaped == 7


async def test_the_loop_leases_all_that_may_run_before_it_rests() -> None:
    """However many turns that takes, none of them waits for the interval."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=2_500)))
    await waiting(stage, 2_200)

    async with looping(stage, stage.scheduler(window_min=3_000)):
        leased = await count(stage, Phase.HANDED_OFF)
        seen = ticks(stage)

    assert leased == 2_200
    assert seen == 3


async def test_the_loop_rests_once_it_has_leased_what_it_sees() -> None:
    """A look that can find nothing would only stand in the worker's way."""
    stage = Stage()
    await added(stage.memory)

    async with looping(stage, stage.scheduler()):
        await let_others_run(200)
        seen = ticks(stage)

    assert seen == 1


async def test_hand_offs_that_all_fail_do_not_make_the_loop_spin() -> None:
    """It waits as if nothing had been leased."""
    stage = Stage()
    await added(stage.memory)
    stage.queue().down = True

    async with looping(stage, stage.scheduler()):
        await let_others_run(200)
        seen = ticks(stage)

    assert seen == 1


async def test_the_loop_survives_an_unavailable_store() -> None:
    """It tells, waits longer each time, and goes on when the store is back."""
    stage = Stage()
    job = await added(stage.memory)
    stage.store.down = True

    async with looping(stage, stage.scheduler()):
        await stage.elapse(120)
        failures = len(stage.errors)
        stage.store.down = False
        await stage.elapse(15)
        due = await stage.job(job)

    assert 8 <= failures <= 25
    assert {type(error) for error in stage.errors} == {Unavailable}
    assert due.phase is Phase.HANDED_OFF


async def test_a_failure_that_ended_is_forgotten() -> None:
    """The next one is waited for as briefly as the first."""
    stage = Stage()

    async with looping(stage, stage.scheduler()):
        for _ in range(4):
            stage.store.before("turn", unavailable)
            await stage.elapse(2.5)

    assert len(stage.errors) == 4


async def test_what_waiting_would_not_mend_ends_the_loop() -> None:
    """A mistake in the set-up is not waited out."""
    stage = Stage()
    stage.store.before("turn", is_set_up_wrongly)

    with pytest.raises(ConfigurationError):
        await stage.scheduler().run(asyncio.Event(), stage.errors.append)

    assert stage.errors == []


async def is_set_up_wrongly() -> None:
    raise ConfigurationError("there is no such table")


# --- Chores that fail -----------------------------------------------------------------------------


async def fails() -> None:
    raise StoreRefused("a trigger says no") from ValueError("no")


@pytest.mark.parametrize("how", [fails, unavailable, is_set_up_wrongly, die])
@pytest.mark.parametrize(
    ("method", "chore"),
    [
        ("expired", "reap"),
        ("set_aside", "set aside"),
        ("promote", "promote"),
        ("oldest_finished", "purge"),
        ("live", "count slots"),
        ("load", "checkpoint"),
    ],
)
async def test_a_chore_that_fails_is_told_of_once_and_keeps_nothing_back(
    method: str, chore: str, how: Callable[[], Awaitable[None]]
) -> None:
    """Whatever it fails by: the jobs are dispatched, and the chore is done when it succeeds."""
    stage = Stage()
    checkpoints, stage.workers = FaultyCheckpoints(), FaultyWorkers()
    scheduler = stage.scheduler(checkpoints=checkpoints, purge_interval_seconds=1.0)
    parts: dict[str, Faulty] = {"live": stage.workers, "load": checkpoints}
    faulty = parts.get(method, stage.store)
    faulty.before(method, *[how] * 3)
    jobs = [await added(stage.memory)]

    for _ in range(4):
        await scheduler.tick()
        jobs.append(await added(stage.memory))
        stage.clock.advance(60)

    assert {(await stage.job(job)).lease_seq for job in jobs[:4]} >= {1}
    assert [fact.chore for fact in stage.telemetry.of(ChoreSkipped)] == [chore]
    assert faulty.calls[method] >= 4


async def test_a_chore_that_fails_anew_is_told_of_again() -> None:
    """What failed, was mended and fails is news; so is another reason, if it does not pass."""
    stage = Stage()
    scheduler = stage.scheduler()

    async def passes() -> None:
        """Do nothing."""

    for how in (fails, fails, unavailable, passes, unavailable, passes, *[unavailable] * 3):
        stage.store.before("expired", how)
        await scheduler.tick()
        stage.clock.advance(1)

    told = [fact.error.partition(":")[0] for fact in stage.telemetry.of(ChoreSkipped)]
    assert told == ["ValueError", "Unavailable", "Unavailable"]


async def test_nothing_is_said_of_chores_while_nothing_can_be_dispatched() -> None:
    """One who does not answer at all is told of as that; the last to meet it is no news either."""
    stage = Stage()
    scheduler = stage.scheduler()
    stage.store.down = True

    for _ in range(3):
        with pytest.raises(Unavailable):
            await scheduler.tick()
        stage.clock.advance(1)
    stage.store.down = False
    stage.store.before("expired", unavailable)
    await scheduler.tick()

    assert stage.telemetry.of(ChoreSkipped) == []


async def test_a_stop_lets_the_tick_under_way_end() -> None:
    """What was leased is sent."""
    stage = Stage()
    await added(stage.memory)
    stop = asyncio.Event()

    async def shut_down() -> None:
        stop.set()

    stage.store.after("lease", shut_down)

    await stage.scheduler().run(stop, stage.errors.append)

    assert len(await sent(stage)) == 1
    assert ticks(stage) == 1


async def test_a_stop_does_not_wait_for_a_tick_that_does_not_end() -> None:
    """It is cut off after some seconds: a process that is told to end has to."""
    stage = Stage()
    stop = asyncio.Event()

    async def never() -> None:
        await asyncio.Event().wait()

    stage.store.before("promote", never)
    task = asyncio.create_task(stage.scheduler().run(stop, stage.errors.append))
    await quiet()

    stop.set()

    assert 2 <= await stage.seconds_until_done(task, at_most=20) <= 4
    await task
    assert (len(asyncio.all_tasks()), stage.clock.sleepers) == (1, 0)


async def test_a_cancelled_tick_leaves_nothing_behind() -> None:
    """Nor does it take any time."""
    stage = Stage()

    async def never() -> None:
        await asyncio.Event().wait()

    stage.store.before("promote", never)
    task = asyncio.create_task(stage.scheduler().run(asyncio.Event(), stage.errors.append))
    await quiet()

    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert task.cancelled()
    assert (len(asyncio.all_tasks()), stage.clock.sleepers) == (1, 0)


async def test_a_cancelled_loop_leaves_nothing_behind() -> None:
    """No waiter on the signal, no sleeper on the clock."""
    stage = Stage()
    task = asyncio.create_task(stage.scheduler().run(asyncio.Event(), stage.errors.append))
    await quiet()

    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert task.cancelled()
    assert (len(asyncio.all_tasks()), stage.clock.sleepers) == (1, 0)


async def test_a_scheduler_is_ready_while_its_ticks_succeed() -> None:
    """Not before the first one, and no longer when the last one is long ago."""
    stage = Stage()
    scheduler = stage.scheduler()

    before = scheduler.ready()
    await scheduler.tick()
    after = scheduler.ready()
    stage.clock.advance(9)
    still = scheduler.ready()
    stage.store.down = True
    with suppress(Unavailable):
        await scheduler.tick()
    stage.clock.advance(1)
    silent = scheduler.ready()

    assert (before, after, still, silent) == (False, True, True, False)


async def test_a_backlog_of_late_jobs_is_buried_without_a_pause() -> None:
    """The job behind it can still be on time, and there is room for it."""
    stage = Stage(limits(notifications=UseCaseConfig(late_policy=LatePolicy.EXPIRE)))
    await waiting(stage, 400, deadline_at=later(5))
    stage.clock.advance(6)
    mine = await added(stage.memory, run_at=later(6))

    async with looping(stage, stage.scheduler()):
        await let_others_run(300)

    assert await count(stage, Phase.DEAD) == 400
    assert (await stage.job(mine)).phase is Phase.HANDED_OFF


# --- Signals that do not arrive ---------------------------------------------------------------


async def handed_off_ahead(stage: Stage) -> int:
    """Let a signal tell of many jobs; returns how many are handed off beyond the two slots."""
    await waiting(stage, 20)
    stage.signal.notify(DISPATCH)
    await quiet()
    return await count(stage, Phase.HANDED_OFF) - 2


async def test_nothing_is_handed_off_ahead_where_signals_arrive() -> None:
    """Whoever frees a slot says so, and the slot is filled at once."""
    stage = wide()
    await stage.workers.announce(a_worker(slots=2))

    async with looping(stage, stage.scheduler()):
        await stage.elapse(2)

        assert await handed_off_ahead(stage) == 0


async def test_a_scheduler_that_nobody_told_hands_off_an_interval_ahead() -> None:
    """It found by itself what it should have been told of, and slots would stay idle."""
    stage = wide()
    await stage.workers.announce(a_worker(slots=2))

    async with looping(stage, stage.scheduler(interval_seconds=2)):
        await waiting(stage, 20)
        await stage.elapse(5)
        ahead = await count(stage, Phase.HANDED_OFF) - 2

    assert ahead > 0


async def test_a_scheduler_that_is_told_again_trusts_signals() -> None:
    """It hands off no more than there are idle slots."""
    stage = wide()
    await stage.workers.announce(a_worker(slots=2))

    async with looping(stage, stage.scheduler()):
        found = await added(stage.memory)
        await stage.elapse(1)
        await happened(stage.memory, await stage.job(found), Cancelled())
        stage.signal.notify(DISPATCH)
        await quiet()

        assert await handed_off_ahead(stage) == 0


# --- Several schedulers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remembers", "first"), [(True, "small"), (False, "big")], ids=["told", "not told"]
)
async def test_a_new_scheduler_takes_over_what_another_one_remembered(
    remembers: bool, first: str
) -> None:
    """Whose turn it is; to one that is told nothing all are equal, and the deadline decides."""
    stage = Stage(limits(notifications=UseCaseConfig(max_concurrent=1)))
    checkpoints = MemoryCheckpoints()
    for _ in range(2):
        await added(stage.memory, tenant_id="big", deadline_at=later(300))
    await added(stage.memory, tenant_id="small", deadline_at=later(301))
    former = stage.scheduler(checkpoints=checkpoints)
    for _ in range(3):
        await former.tick()
        stage.clock.advance(4)
    (run,) = await sent(stage)
    await happened(stage.memory, await stage.job(run.job_id), Cancelled())

    await stage.scheduler(checkpoints=checkpoints if remembers else None).tick()

    leased = stage.telemetry.of(JobLeased)
    assert [fact.tenant_id for fact in leased] == ["big", first]


async def test_a_scheduler_saves_nothing_while_nobody_waits() -> None:
    """There is nothing to remember."""
    stage = Stage()
    checkpoints = MemoryCheckpoints()
    scheduler = stage.scheduler(checkpoints=checkpoints)

    for _ in range(3):
        await added(stage.memory)
        await scheduler.tick()
        stage.clock.advance(4)

    assert await checkpoints.load(CHECKPOINT) is None


async def committed(stage: Stage) -> tuple[Counter[str], Counter[str]]:
    """Count the running jobs by use case and by tenant."""
    by_use_case: Counter[str] = Counter()
    by_tenant: Counter[str] = Counter()
    async with stage.memory.turn([]) as turn:
        for each in await turn.running():
            by_use_case[each.use_case] += each.claimed + each.unclaimed
            by_tenant[each.tenant_id] += each.claimed + each.unclaimed
    return by_use_case, by_tenant


@pytest.mark.parametrize("seed", range(20))
async def test_schedulers_side_by_side_never_break_a_limit(seed: int) -> None:
    """Interleaved at every call, beside workers and cancels; in the end everything has run."""
    config = limits(
        {"acme": TenantQuota(max_running=3)},
        notifications=UseCaseConfig(max_concurrent=2),
        reports=UseCaseConfig(max_concurrent=3),
    )
    stage = Stage(config, seed=seed)
    lanes = [stage.queue("notifications"), stage.queue("reports")]
    order = ManualChance(seed + 1_000)
    worst: Counter[str] = Counter()

    async def interleave() -> None:
        by_use_case, by_tenant = await committed(stage)
        for counts in (by_use_case, by_tenant):
            for name, running in counts.items():
                worst[name] = max(worst[name], running)
        await let_others_run(int(order.uniform() * 6))

    async def work(worker_id: str) -> None:
        worker = stage.worker(*lanes, worker_id=worker_id)
        for _ in range(8):
            await worker.step()

    async def schedule() -> None:
        scheduler = stage.scheduler(window_min=100)
        for _ in range(8):
            await scheduler.tick()

    @stage.registry.handler("send_email")
    async def send_email(ctx: Any, payload: Any) -> None:
        await let_others_run(int(order.uniform() * 10))

    jobs = [
        a_job(use_case=use_case, tenant_id=tenant)
        for use_case in ("notifications", "reports")
        for tenant in ("acme", "other")
        for _ in range(4)
    ]
    await stored(stage.memory, *jobs)
    stage.store.around = interleave

    await race(schedule(), schedule(), schedule(), work("one"), work("two"))
    stage.store.around = None
    scheduler, worker = (
        stage.scheduler(),
        stage.worker(*map(stage.queue, ("notifications", "reports"))),
    )
    for _ in range(20):
        await scheduler.tick()
        await worker.step()

    assert worst["notifications"] <= 2
    assert worst["reports"] <= 3
    assert worst["acme"] <= 3
    assert await count(stage, Phase.SUCCEEDED) == len(jobs)
    assert all(job.attempts == 1 for job in await all_jobs(stage.memory))


async def test_several_schedulers_share_the_work() -> None:
    """A use case is leased by one of them at a time, and every job once."""
    stage = wide()
    await waiting(stage, 5)
    await waiting(stage, 5, use_case="reports")

    results = await race(*(stage.scheduler().tick() for _ in range(4)))

    assert sum(tick.leased for tick in results) == len(stage.telemetry.of(JobLeased)) == 10
