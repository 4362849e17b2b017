"""Schedulers and workers on an outbox: one commit for a lease and its hand-off."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from async_jobs.application.scheduling.scheduler import Scheduler
from async_jobs.application.working.claiming import TRIES_MAX
from async_jobs.application.working.worker import Worker
from async_jobs.domain.errors import Unavailable
from async_jobs.domain.facts import JobStarted, PoisonDropped
from async_jobs.domain.job import Job, JobStatus, Phase
from async_jobs.domain.lifecycle import Cancelled
from async_jobs.ports.queue import JobQueue, Outbox
from async_jobs.testing.builders import a_handoff
from async_jobs.testing.contracts.scenes import added, happened
from tests.unit.application.faults import FaultyOutbox, unavailable
from tests.unit.application.stage import Runs, Stage, handoff_of, phases, quiet


@dataclass
class Beside:
    """A stage whose lane `notifications` is an outbox; others are elsewhere."""

    stage: Stage
    lane: FaultyOutbox

    def queue_of(self, name: str) -> JobQueue:
        return self.lane if name == self.lane.name else self.stage.queue(name)

    def outbox_of(self, name: str) -> Outbox | None:
        return self.lane if name == self.lane.name else None

    def worker(self, *queues: JobQueue, **settings: Any) -> Worker:
        return self.stage.worker(*queues, outboxes=[self.lane], **settings)

    def scheduler(self, **settings: Any) -> Scheduler:
        return self.stage.scheduler(queue_of=self.queue_of, outbox_of=self.outbox_of, **settings)

    async def tick(self) -> int:
        tick = await self.scheduler().tick()
        assert tick.unsent == 0
        return tick.leased

    async def handed_off(self, jobs: int = 1) -> list[Job]:
        """Add jobs and let a scheduler hand them off."""
        new = [await added(self.stage.memory) for _ in range(jobs)]
        assert await self.tick() == jobs
        return new


@pytest.fixture
def beside(stage: Stage, runs: Runs) -> Beside:
    """Its handlers end at once."""
    runs.may_end.set()
    lane = FaultyOutbox(stage.memory, "notifications", clock=stage.clock)
    return Beside(stage, lane)


def starts(stage: Stage) -> int:
    return sum(isinstance(fact, JobStarted) for fact in stage.telemetry.facts)


# --- Schedulers -------------------------------------------------------------------------------


async def test_a_lease_brings_its_hand_off(beside: Beside) -> None:
    """Nothing is sent besides."""
    job = await added(beside.stage.memory)

    assert await beside.tick() == 1

    (delivery,) = await beside.lane.receive(max_messages=10, wait_seconds=0)
    assert delivery.handoff == handoff_of(await beside.stage.job(job))
    assert beside.lane.calls["send"] == 0


async def test_a_queue_is_an_outbox_where_it_is_wired_as_one(beside: Beside) -> None:
    """Nobody asks it what it is: as a queue among others it is sent to and received from."""
    await added(beside.stage.memory)

    await beside.stage.scheduler(queue_of=beside.queue_of).tick()
    ran = await beside.stage.worker(beside.lane).step()

    assert ran == 1
    assert (beside.lane.calls["send"], beside.lane.calls["claim"]) == (1, 0)


async def test_each_lane_is_served_in_its_own_way(beside: Beside) -> None:
    """An outbox and one elsewhere, in one tick."""
    here = await added(beside.stage.memory)
    there = await added(beside.stage.memory, queue="elsewhere")

    assert await beside.tick() == 2

    for queue, job in ((beside.lane, here), (beside.stage.queue("elsewhere"), there)):
        (delivery,) = await queue.receive(max_messages=10, wait_seconds=0)
        assert delivery.handoff == handoff_of(await beside.stage.job(job))
    assert beside.stage.queue("elsewhere").calls["send"] == 1


# --- Workers ----------------------------------------------------------------------------------


async def test_a_worker_claims_what_is_on_the_lane(beside: Beside, runs: Runs) -> None:
    """It neither receives nor acknowledges anything."""
    jobs = await beside.handed_off(3)

    assert await beside.worker().step() == 3

    assert await phases(beside.stage, jobs) == [Phase.SUCCEEDED] * 3
    assert [ctx.job_id for ctx in runs.started] == [job.id for job in jobs]
    assert starts(beside.stage) == 3
    assert await beside.lane.depth() == 0


async def test_a_worker_that_waits_is_woken_by_the_turn(beside: Beside) -> None:
    """The clock does not move meanwhile."""
    async with beside.stage.running(beside.worker()):
        (job,) = await beside.handed_off()
        await quiet()

        assert (await beside.stage.job(job)).status is JobStatus.SUCCEEDED


async def test_stale_messages_do_not_keep_a_worker_from_the_others(beside: Beside) -> None:
    """It goes on until it has something or nothing is left."""
    cancelled = await beside.handed_off(3)
    for job in cancelled:
        await happened(beside.stage.memory, await beside.stage.job(job), Cancelled())
    (job,) = await beside.handed_off()

    assert await beside.worker(slots=1).step() == 1
    assert (await beside.stage.job(job)).status is JobStatus.SUCCEEDED


async def test_poison_is_told_of(beside: Beside) -> None:
    """With the lane that it was on."""
    beside.lane.put("hunter2")
    await beside.lane.send([a_handoff()])

    assert await beside.worker().step() == 0

    (fact,) = [fact for fact in beside.stage.telemetry.facts if isinstance(fact, PoisonDropped)]
    assert fact.queue == "notifications"
    assert fact.problem
    assert await beside.lane.depth() == 0


async def test_a_claim_that_did_not_get_through_is_repeated(beside: Beside) -> None:
    """What had no effect costs nothing."""
    (job,) = await beside.handed_off()
    beside.lane.before("claim", unavailable, unavailable)

    await beside.stage.seconds_until_done(ran := _step(beside), at_most=10)

    assert ran.result() == 1
    assert (await beside.stage.job(job)).attempts == 1


async def test_a_claim_whose_reply_was_lost_is_executed(beside: Beside, runs: Runs) -> None:
    """Once, at its first attempt; what else is on the lane stays for the next time."""
    jobs = await beside.handed_off(2)
    beside.lane.after("claim", unavailable)

    await beside.stage.seconds_until_done(ran := _step(beside, slots=1), at_most=10)

    assert ran.result() == len(runs.started) == starts(beside.stage) == 1
    assert await phases(beside.stage, jobs) == [Phase.SUCCEEDED, Phase.HANDED_OFF]
    assert await beside.lane.depth() == 1


async def test_another_workers_claim_is_not_taken_for_ones_own(beside: Beside, runs: Runs) -> None:
    """Though it was made at the same instant."""
    await beside.handed_off(2)
    await beside.worker(worker_id="worker-2", slots=1).step()
    beside.lane.before("claim", unavailable)

    await beside.stage.seconds_until_done(ran := _step(beside), at_most=10)

    assert ran.result() == 1
    assert len({ctx.job_id for ctx in runs.started}) == 2


@pytest.mark.parametrize("lost", ["claim", "claimed"])
async def test_a_worker_gives_up_a_claim_that_stays_in_doubt(beside: Beside, lost: str) -> None:
    """After some tries, whether it is the claim or the look for it that fails."""
    await beside.handed_off()
    beside.lane.after("claim", unavailable)
    if lost == "claim":
        beside.lane.before("claim", *[_nothing, *[unavailable] * TRIES_MAX])
        beside.lane.after("claimed", *[unavailable] * TRIES_MAX)
    else:
        beside.lane.before("claimed", *[unavailable] * TRIES_MAX)

    await beside.stage.seconds_until_done(ran := _step(beside), at_most=30)

    assert isinstance(ran.exception(), Unavailable)
    assert beside.lane.calls["claim"] + beside.lane.calls["claimed"] == TRIES_MAX


async def test_a_lane_that_is_down_keeps_its_messages(beside: Beside) -> None:
    """Nothing was claimed, and the next one gets them."""
    (job,) = await beside.handed_off()
    beside.lane.down = True
    await beside.stage.seconds_until_done(ran := _step(beside), at_most=30)
    beside.lane.down = False

    assert isinstance(ran.exception(), Unavailable)
    assert (await beside.stage.job(job)).phase is Phase.HANDED_OFF
    assert await beside.worker().step() == 1


async def test_what_a_stopping_worker_claims_is_given_back(beside: Beside, runs: Runs) -> None:
    """It was told to stop while its claim was under way."""
    async with beside.stage.running(beside.worker()) as stop:

        async def end() -> None:
            stop.set()
            await quiet()

        beside.lane.before("claim", end)
        (job,) = await beside.handed_off()
        await quiet()

    back = await beside.stage.job(job)
    assert (back.phase, back.attempts, runs.started) == (Phase.PENDING, 0, [])


def _step(beside: Beside, **settings: Any) -> asyncio.Task[int]:
    return asyncio.create_task(beside.worker(**settings).step())


async def _nothing() -> None:
    pass
