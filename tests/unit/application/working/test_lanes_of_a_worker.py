"""Several lanes of one worker: no slot is kept for an empty one, and none starves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from typing import Any

import pytest

from async_jobs.application.handling.registry import JobContext
from async_jobs.application.working.claiming import TRIES_MAX
from async_jobs.application.working.queue_receiving import MOMENT_SECONDS
from async_jobs.application.working.worker import Worker
from async_jobs.domain.job import Job, Phase
from async_jobs.testing.builders import later
from async_jobs.testing.clocks import let_others_run
from async_jobs.testing.contracts.scenes import added, leased
from tests.unit.application.faults import FaultyOutbox, FaultyQueue, unavailable
from tests.unit.application.stage import (
    Runs,
    Stage,
    count,
    handoff_of,
    phases,
    quiet,
)

NAMES = ("notifications", "reports", "alerts")


class Lanes:
    """Three queues, of which those of the given names are outboxes, and stand last."""

    def __init__(self, stage: Stage, *, beside: Collection[str] = ()) -> None:
        self.stage = stage
        self.elsewhere = [stage.queue(name) for name in NAMES if name not in beside]
        self.outboxes = [FaultyOutbox(stage.memory, name, clock=stage.clock) for name in beside]
        self.all: list[FaultyQueue | FaultyOutbox] = [*self.elsewhere, *self.outboxes]

    def worker(self, queues: int = len(NAMES), **settings: Any) -> Worker:
        """Return a worker of the first ones."""
        rest = max(0, queues - len(self.elsewhere))
        return self.stage.worker(
            *self.elsewhere[:queues], outboxes=self.outboxes[:rest], **settings
        )

    async def handed_off(self, lane: int, jobs: int = 1, **overrides: Any) -> list[Job]:
        """Put jobs on a lane, all at once."""
        queue = self.all[lane]
        until = later(self.stage.clock.monotonic() + 600)
        new = [
            await leased(
                self.stage.memory,
                await added(self.stage.memory, queue=queue.name, **overrides),
                until=until,
                now=self.stage.clock.now(),
            )
            for _ in range(jobs)
        ]
        put = queue.inner.put if isinstance(queue, FaultyQueue) else queue.put
        for job in new:
            put(handoff_of(job))
        return new


@pytest.fixture(params=["elsewhere", "beside"])
def lanes(stage: Stage, request: pytest.FixtureRequest) -> Lanes:
    return Lanes(stage, beside=NAMES if request.param == "beside" else ())


@pytest.fixture
def elsewhere(stage: Stage) -> Lanes:
    return Lanes(stage)


def running(runs: Runs, jobs: list[Job]) -> int:
    """Tell how many of the jobs have been started."""
    return len({ctx.job_id for ctx in runs.started} & {job.id for job in jobs})


# --- Whoever has jobs has the slots -----------------------------------------------------------


@pytest.mark.parametrize("full", [0, 1, 2])
async def test_empty_lanes_leave_all_slots_to_a_full_one(
    stage: Stage, runs: Runs, lanes: Lanes, full: int
) -> None:
    """At once: the clock does not move."""
    async with stage.running(lanes.worker(slots=8)):
        await stage.elapse(5)
        await lanes.handed_off(full, 12)
        await quiet()
        most = runs.now
        runs.may_end.set()

    assert most == 8


async def test_a_lane_that_has_become_empty_keeps_its_places_for_a_moment_at_most(
    stage: Stage, runs: Runs, lanes: Lanes
) -> None:
    """It had as many jobs as it was asked for, and has no more."""
    async with stage.running(lanes.worker(slots=8)):
        await stage.elapse(5)
        await lanes.handed_off(0, 8)
        await quiet()
        runs.may_end.set()
        await quiet()
        runs.may_end.clear()
        others = await lanes.handed_off(1, 8)
        stage.clock.advance(MOMENT_SECONDS)
        await quiet()
        started = running(runs, others)
        runs.may_end.set()

    assert started == 8


async def test_full_lanes_share_the_slots_from_the_start(
    stage: Stage, runs: Runs, lanes: Lanes
) -> None:
    """Whichever is asked first."""
    jobs = [await lanes.handed_off(lane, 20) for lane in (0, 1)]

    async with stage.running(lanes.worker(2, slots=8)):
        await quiet()
        started = [running(runs, each) for each in jobs]
        runs.may_end.set()
        await let_others_run(400)

    assert started == [4, 4]


async def test_full_lanes_take_turns(stage: Stage, lanes: Lanes) -> None:
    """With one slot that they all want, none waits for more than one job of each other."""
    order: list[str] = []

    @stage.registry.handler("send_email")
    async def send_email(ctx: JobContext, payload: Any) -> None:
        order.append(payload["lane"])
        await stage.clock.sleep(1)

    for lane in range(3):
        await lanes.handed_off(lane, 10, payload={"lane": lane})
    async with stage.running(lanes.worker(slots=1)):
        await stage.elapse(18)

    assert Counter(order[:15]) == {0: 5, 1: 5, 2: 5}


@pytest.mark.parametrize("late", [0, 1, 2])
async def test_a_lane_whose_first_job_comes_late_is_served_in_turn(
    stage: Stage, lanes: Lanes, late: int
) -> None:
    """The others fill all slots, one of which becomes free every second."""
    started: dict[Any, float] = {}

    @stage.registry.handler("send_email")
    async def send_email(ctx: JobContext, payload: Any) -> None:
        started[ctx.job_id] = stage.clock.monotonic()
        await stage.clock.sleep(payload["seconds"])

    others = [lane for lane in range(3) if lane != late]
    for lane in others:
        await lanes.handed_off(lane, 1, payload={"seconds": 1 + lane})
        await lanes.handed_off(lane, 60, payload={"seconds": 4})
    async with stage.running(lanes.worker(slots=4, drain_timeout_seconds=0)):
        await stage.elapse(10)
        began = stage.clock.monotonic()
        jobs = await lanes.handed_off(late, 3, payload={"seconds": 4})
        await stage.elapse(20, step_seconds=0.05)

    waited = [started[job.id] - began for job in jobs]
    assert len(waited) == 3
    assert waited[0] <= 5
    assert waited[-1] <= 13


async def test_no_more_is_claimed_than_there_are_places(
    stage: Stage, runs: Runs, lanes: Lanes
) -> None:
    """Slots and prefetch, whatever all lanes bring at the same instant."""
    async with stage.running(lanes.worker(slots=3, prefetch=2)):
        await stage.elapse(5)
        for lane in range(3):
            await lanes.handed_off(lane, 5)
        await stage.elapse(5, step_seconds=0.05)
        claimed = await count(stage, Phase.CLAIMED)
        runs.may_end.set()
        await stage.elapse(10)

    assert (claimed, runs.most) == (5, 3)
    assert await count(stage, Phase.SUCCEEDED) == 15


async def test_jobs_of_a_lane_start_in_their_order(stage: Stage, runs: Runs, lanes: Lanes) -> None:
    """Whatever comes in between."""
    runs.may_end.set()
    jobs = [await lanes.handed_off(lane, 12) for lane in range(3)]

    async with stage.running(lanes.worker(slots=4)):
        await stage.elapse(10)

    order = [ctx.job_id for ctx in runs.started]
    for each in jobs:
        ids = [job.id for job in each]
        assert [job_id for job_id in order if job_id in ids] == ids


# --- What comes when others have taken the places -----------------------------------------------


async def test_what_finds_no_place_is_given_back_within_a_moment(
    stage: Stage, runs: Runs, elsewhere: Lanes
) -> None:
    """Unclaimed and visible at once, to a worker that has a slot for it."""
    async with stage.running(elsewhere.worker(2, slots=2)):
        await stage.elapse(5)
        jobs = await elsewhere.handed_off(0, 2) + await elsewhere.handed_off(1, 2)
        await quiet()
        held = await phases(stage, jobs)
        stage.clock.advance(MOMENT_SECONDS)
        await quiet()
        async with stage.running(elsewhere.worker(2, worker_id="another", slots=4)):
            await quiet()
            started = runs.now
            runs.may_end.set()

    assert held.count(Phase.CLAIMED) == held.count(Phase.HANDED_OFF) == 2
    assert (started, len(runs.started)) == (4, 4)
    assert await phases(stage, jobs) == [Phase.SUCCEEDED] * 4


async def test_what_finds_a_place_within_a_moment_is_not_given_back(
    stage: Stage, runs: Runs, elsewhere: Lanes
) -> None:
    """Its places become free, one after another."""
    async with stage.running(elsewhere.worker(2, slots=2)):
        await stage.elapse(5)
        jobs = await elsewhere.handed_off(0, 2) + await elsewhere.handed_off(1, 2)
        await quiet()
        stage.clock.advance(MOMENT_SECONDS * 0.9)
        runs.may_end.set()
        await let_others_run(400)

    assert await phases(stage, jobs) == [Phase.SUCCEEDED] * 4
    assert sum(lane.calls["release"] for lane in elsewhere.all) == 0


async def test_messages_do_not_go_to_and_fro(stage: Stage, runs: Runs, elsewhere: Lanes) -> None:
    """While nothing ends, every lane gives back once at most."""
    async with stage.running(elsewhere.worker(slots=2)):
        await stage.elapse(5)
        for number in range(3):
            await elsewhere.handed_off(number, 4)
        before = sum(lane.calls["receive"] for lane in elsewhere.all)
        await stage.elapse(60)
        calls = Counter[str]()
        for lane in elsewhere.all:
            calls += Counter(lane.calls)
        runs.may_end.set()
        await stage.elapse(10)

    assert calls["release"] <= 3
    assert calls["receive"] - before <= 3
    assert await count(stage, Phase.SUCCEEDED) == 12


async def test_a_worker_that_stops_gives_back_what_it_holds(
    stage: Stage, runs: Runs, elsewhere: Lanes
) -> None:
    """At once, and unclaimed."""
    async with stage.running(elsewhere.worker(2, slots=2)) as stop:
        await stage.elapse(5)
        await elsewhere.handed_off(0, 2)
        await elsewhere.handed_off(1, 2)
        await quiet()
        stop.set()
        await quiet()
        depths = [await lane.depth() for lane in elsewhere.all]
        runs.may_end.set()

    assert sum(depths) == 2
    assert await count(stage, Phase.HANDED_OFF) == 2


async def test_a_claim_that_fails_gives_back_what_is_held_too(
    stage: Stage, runs: Runs, elsewhere: Lanes
) -> None:
    """To whoever can reach the store."""
    async with stage.running(elsewhere.worker(2, slots=4)):
        await stage.elapse(5)
        await elsewhere.handed_off(0, 2)
        await quiet()
        stage.store.before("claim", *[unavailable] * TRIES_MAX)
        await elsewhere.handed_off(1, 4)
        await quiet()
        while not stage.errors:
            await stage.elapse(0.5)
        depth = await elsewhere.all[1].depth()
        runs.may_end.set()

    assert depth == 4


async def test_a_lane_that_does_not_answer_keeps_its_places_for_a_moment(
    stage: Stage, runs: Runs, elsewhere: Lanes
) -> None:
    """The other one has them all then."""
    silence = asyncio.Event()
    elsewhere.all[0].before("receive", silence.wait)

    async with stage.running(elsewhere.worker(2, slots=4)):
        await stage.elapse(MOMENT_SECONDS)
        await elsewhere.handed_off(1, 4)
        await quiet()
        started = runs.now
        runs.may_end.set()
        silence.set()

    assert started == 4


async def test_a_lane_elsewhere_and_one_beside_the_jobs_share_the_slots(
    stage: Stage, runs: Runs
) -> None:
    """Whichever is full."""
    lanes = Lanes(stage, beside=NAMES[:1])

    async with stage.running(lanes.worker(slots=6)):
        await stage.elapse(5)
        for lane in (0, -1):
            await lanes.handed_off(lane, 6)
            await quiet()
            started = runs.now
            runs.may_end.set()
            await quiet()
            runs.may_end.clear()
            await stage.elapse(1)
            assert started == 6
        runs.may_end.set()
