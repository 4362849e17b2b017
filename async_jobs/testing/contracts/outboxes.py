"""The contract of `Outbox`: what an outbox promises besides the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from uuid import UUID

import pytest

from async_jobs.domain.job import Job, Phase
from async_jobs.domain.lifecycle import (
    Cancelled,
    Claimed,
    Failed,
    HandOffFailed,
    Leased,
    Succeeded,
    advance,
)
from async_jobs.domain.scheduling import grant
from async_jobs.ports.queue import Claims, Outbox
from async_jobs.ports.store import Store
from async_jobs.testing.builders import a_handoff, a_job, candidate_of, later
from async_jobs.testing.clocks import NOW, let_others_run
from async_jobs.testing.contracts.leases.claiming import handoff_of
from async_jobs.testing.contracts.queues import JobQueueContract, PutBody, received
from async_jobs.testing.contracts.scenes import (
    CRASH,
    UNTIL,
    Elapse,
    RollBack,
    happened,
    race,
    soon,
    stored,
    the_job,
    until_done,
)

CLAIMED = Claimed("worker-2", later(300))


class OutboxContract(JobQueueContract):
    """Everything `Outbox` promises, OB-1 to OB-5, and `JobQueue`, JQ-1 to JQ-9.

    Subclass it as `TestMyLane` and override the fixtures of `JobQueueContract`, whose lanes are
    then in the database of the fixture `store`.
    """

    @pytest.fixture
    async def store(self) -> Store:
        """Where the jobs of both lanes are; there are none when a test begins."""
        raise NotImplementedError("override the fixture `store`")

    async def test_ob_1_a_claim_gives_exactly_what_advance_makes(
        self, queue: Outbox, store: Store, elapse: Elapse
    ) -> None:
        """All fields of it; and the message does not come back."""
        job = await happened(
            store,
            await a_handed_off_job(store, queue, max_attempts=3),
            HandOffFailed("throttled"),
            *CRASH,
            Leased(UNTIL),
            Claimed("worker-1", UNTIL),
            Failed("no route"),
        )
        job = await happened(store, job, Leased(later(900)), now=later(600))
        await queue.send([handoff_of(job)])

        claims = await queue.claim(Claimed("worker-2", later(999)), now=later(601), max_messages=5)

        expected = advance(job, Claimed("worker-2", later(999)), now=later(601))
        assert (list(claims.jobs), claims.poison) == ([expected], ())
        assert await the_job(store, job.id) == expected
        await elapse(2 * self.visibility_timeout_seconds)
        assert await queue.receive(max_messages=10, wait_seconds=0) == []

    async def test_ob_1_several_for_one_job_are_one_claim(
        self, queue: Outbox, store: Store
    ) -> None:
        """Of a former lease, of the present one, twice, and a bare id: all are gone."""
        job = await a_handed_off_job(store, queue)
        handoff = handoff_of(job)
        await queue.send(
            [handoff._replace(lease_seq=seq) for seq in (job.lease_seq - 1, None)]
            + [handoff, handoff, handoff._replace(lease_seq=job.lease_seq + 1)]
        )

        claimed = await all_claimed(queue)

        assert claimed == [advance(job, CLAIMED, now=later(1))]
        assert await queue.depth() == 0

    async def test_ob_1_another_lease_is_left_alone(self, queue: Outbox, store: Store) -> None:
        """A former one, and one that was never given; their messages are gone."""
        job = await a_handed_off_job(store, queue)
        stale = [handoff_of(job)._replace(lease_seq=job.lease_seq + n) for n in (-1, 1)]
        await queue.send(stale)

        assert await all_claimed(queue) == []
        assert await the_job(store, job.id) == job
        assert await queue.depth() == 0

    async def test_ob_1_what_cannot_be_claimed_is_gone_and_unchanged(
        self, queue: Outbox, store: Store
    ) -> None:
        """Cancelled, taken back, claimed by another, over, or unknown; the others are claimed."""
        jobs = [await a_handed_off_job(store, queue) for _ in range(6)]
        after = [
            await happened(store, jobs[0], Cancelled()),
            await happened(store, jobs[1], HandOffFailed("throttled")),
            await happened(store, jobs[2], Claimed("worker-1", UNTIL)),
            await happened(store, jobs[3], HandOffFailed("throttled"), Leased(later(1))),
        ]
        overs = [handoff_of(after[3]), a_handoff()]
        await queue.send([*map(handoff_of, jobs[:5]), *overs, handoff_of(jobs[5])])

        claimed = await all_claimed(queue)

        assert [job.id for job in claimed] == [job.id for job in jobs[4:]]
        assert [await the_job(store, job.id) for job in after] == after
        assert await queue.depth() == 0

    async def test_ob_1_no_more_are_taken_than_were_asked_for(
        self, queue: Outbox, store: Store
    ) -> None:
        """The others stay, and come in the order in which they were sent."""
        jobs = [await a_handed_off_job(store, queue) for _ in range(5)]
        await queue.send([handoff_of(job) for job in jobs[::-1]])

        takes = [
            await queue.claim(CLAIMED, now=later(1), max_messages=most) for most in (2, 1, 1_000)
        ]

        taken = [[job.id for job in take.jobs] for take in takes]
        ids = [job.id for job in jobs[::-1]]
        assert taken == [ids[:2], ids[2:3], ids[3:]]

    async def test_ob_1_a_message_is_one_claims(self, queue: Outbox, store: Store) -> None:
        """Many claim at once: each job is claimed once, and none is left out."""
        jobs = [await a_handed_off_job(store, queue) for _ in range(12)]
        await queue.send([handoff_of(job) for job in jobs])

        takes = await race(
            *(queue.claim(CLAIMED, now=later(1 + n / 10), max_messages=3) for n in range(4))
        )
        claimed = [*ids_of(takes), *(job.id for job in await all_claimed(queue))]

        assert sorted(claimed) == sorted(job.id for job in jobs)
        assert {(await the_job(store, job_id)).attempts for job_id in claimed} == {1}

    async def test_ob_1_what_another_has_received_is_hidden(
        self, queue: Outbox, store: Store, elapse: Elapse
    ) -> None:
        """By its own way, until it gives it back or its time is over."""
        jobs = [await a_handed_off_job(store, queue) for _ in range(2)]
        await queue.send([handoff_of(job) for job in jobs])
        first, _ = await received(queue, elapse, 2)

        assert is_empty(await queue.claim(CLAIMED, now=later(1), max_messages=5))
        await queue.release([first])
        (released,) = (await queue.claim(CLAIMED, now=later(2), max_messages=5)).jobs
        assert first.handoff is not None
        assert released.id == first.handoff.job_id
        await elapse(self.visibility_timeout_seconds)
        late = later(self.visibility_timeout_seconds)
        assert not (await queue.claim(CLAIMED, now=late, max_messages=5)).jobs
        assert await queue.depth() == 0

    @pytest.mark.parametrize("turns", [0, 1, 2, 4, 8, 16])
    async def test_ob_1_a_cancelled_claim_has_done_both_or_neither(
        self, queue: Outbox, store: Store, elapse: Elapse, turns: int
    ) -> None:
        """Cancelled at any step, it leaves no message without its lease, and no lease without."""
        jobs = [await a_handed_off_job(store, queue) for _ in range(3)]
        await queue.send([handoff_of(job) for job in jobs])

        claiming = asyncio.ensure_future(queue.claim(CLAIMED, now=later(1), max_messages=2))
        await let_others_run(turns)
        claiming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await soon(claiming)
        await elapse(0)

        stands = [(await the_job(store, job.id)).phase for job in jobs]
        left = {job.id for job in await all_claimed(queue)}
        assert left == {
            job.id for job, phase in zip(jobs, stands, strict=True) if phase is Phase.HANDED_OFF
        }
        assert stands.count(Phase.CLAIMED) in (0, 2)

    async def test_ob_1_each_lane_has_its_own(
        self, queue: Outbox, other_lane: Outbox, store: Store
    ) -> None:
        """A claim on the other one takes nothing of it."""
        job = await a_handed_off_job(store, queue)
        await queue.send([handoff_of(job)])

        assert is_empty(await other_lane.claim(CLAIMED, now=later(1), max_messages=5))
        assert await all_claimed(queue) == [advance(job, CLAIMED, now=later(1))]

    async def test_ob_2_what_was_claimed_unheard_is_found(
        self, queue: Outbox, other_lane: Outbox, store: Store
    ) -> None:
        """By the worker, the lane and the instants, and while it is still held."""
        jobs = [await a_handed_off_job(store, queue) for _ in range(4)]
        elsewhere = await a_handed_off_job(store, other_lane)
        await other_lane.send([handoff_of(elsewhere)])
        instants = [later(1), later(2), later(3), later(4)]
        claimed: list[Job] = []
        for job, at in zip(jobs, instants, strict=True):
            await queue.send([handoff_of(job)])
            claimed += (await queue.claim(CLAIMED, now=at, max_messages=5)).jobs
        await other_lane.claim(CLAIMED, now=later(1), max_messages=5)
        await happened(store, claimed[1], Succeeded())

        async def found(worker_id: str, *at: int) -> list[Job]:
            jobs = await queue.claimed(worker_id, {instants[each] for each in at})
            return sorted(jobs, key=lambda job: job.id)

        assert await found("worker-2", 0, 1, 2) == [claimed[0], claimed[2]]
        assert await found("worker-1", 0, 1, 2) == []
        assert await found("worker-2") == []

    async def test_ob_3_poison_is_dropped_and_holds_up_nothing(
        self, queue: Outbox, store: Store, poison: PutBody
    ) -> None:
        """What came before and after it is claimed; each is told of once."""
        jobs = [await a_handed_off_job(store, queue) for _ in range(2)]
        await queue.send([handoff_of(jobs[0])])
        await poison("hunter2")
        await poison("hunter2")
        await queue.send([handoff_of(jobs[1])])

        takes = await every_claim(queue, max_messages=1)

        assert ids_of(takes) == [job.id for job in jobs]
        told = [problem for take in takes for problem in take.poison]
        assert len(told) == 2
        assert all(told)
        assert "hunter2" not in str(told)
        assert await queue.depth() == 0

    async def test_ob_3_more_tells_of_what_is_left(self, queue: Outbox, store: Store) -> None:
        """Nothing that was taken could be claimed, and yet there is something behind it."""
        job = await a_handed_off_job(store, queue)
        await queue.send([*(a_handoff() for _ in range(3)), handoff_of(job)])

        takes = await every_claim(queue, max_messages=2)

        assert ids_of(takes) == [job.id]
        assert is_empty(takes[-1])

    async def test_ob_4_a_wait_ends_when_a_message_comes(
        self, queue: Outbox, elapse: Elapse
    ) -> None:
        """It does not sit out its time."""
        waiting = asyncio.ensure_future(queue.wait(20))
        await let_others_run(5)

        await queue.send([a_handoff()])

        assert await until_done(waiting, elapse, 0.5) <= 2 * self.notices_within_seconds

    async def test_ob_4_a_wait_has_an_end(self, queue: Outbox, elapse: Elapse) -> None:
        """On an empty lane, whether short or long."""
        for seconds in (0.0, 0.25, 2.0):
            waiting = asyncio.ensure_future(queue.wait(seconds))
            assert await until_done(waiting, elapse, 0.25) <= seconds + self.notices_within_seconds

    async def test_ob_5_what_a_turn_leases_is_handed_off(
        self, queue: Outbox, other_lane: Outbox, store: Store
    ) -> None:
        """On the lanes given, each its own, in the order of the grants; on others nothing."""
        names = [queue.name, other_lane.name, "elsewhere", queue.name]
        jobs = [a_job(queue=name) for name in names]
        await stored(store, *jobs)

        leased = await leased_onto(store, [queue, other_lane], jobs[::-1])

        assert leased == {job.id for job in jobs}
        assert [job.id for job in await all_claimed(queue)] == [jobs[3].id, jobs[0].id]
        assert [job.id for job in await all_claimed(other_lane)] == [jobs[1].id]
        assert (await the_job(store, jobs[2].id)).phase is Phase.HANDED_OFF

    async def test_ob_5_a_lane_that_was_not_given_gets_nothing(
        self, queue: Outbox, other_lane: Outbox, store: Store
    ) -> None:
        """Whoever leased sends by itself, as it does to a lane elsewhere."""
        job = a_job(queue=queue.name)
        await stored(store, job)

        await leased_onto(store, [other_lane], [job])

        assert (await queue.depth(), await other_lane.depth()) == (0, 0)

    async def test_ob_5_what_was_not_leased_is_not_handed_off(
        self, queue: Outbox, store: Store
    ) -> None:
        """A grant that lost leaves no message."""
        jobs = [a_job(queue=queue.name) for _ in range(2)]
        await stored(store, *jobs)
        await happened(store, jobs[0], Cancelled())

        assert await leased_onto(store, [queue], jobs) == {jobs[1].id}
        assert await queue.depth() == 1
        assert [job.id for job in await all_claimed(queue)] == [jobs[1].id]

    async def test_ob_5_a_turn_that_fails_hands_off_nothing(
        self, queue: Outbox, store: Store
    ) -> None:
        """And nobody sees a hand-off before the turn has ended."""
        job = a_job(queue=queue.name)
        await stored(store, job)

        leases = [grant(candidate_of(job), until=UNTIL, now=NOW)]
        with contextlib.suppress(RollBack):
            async with store.turn([job.use_case]) as turn:
                assert await turn.lease(leases, onto=[queue]) == {job.id}
                assert await queue.depth() == 0
                raise RollBack

        assert await queue.depth() == 0
        assert await the_job(store, job.id) == job

    async def test_ob_5_a_turn_wakes_who_waits(
        self, queue: Outbox, store: Store, elapse: Elapse
    ) -> None:
        """A worker need not look again by itself."""
        job = a_job(queue=queue.name)
        await stored(store, job)
        waiting = asyncio.ensure_future(queue.wait(20))
        await let_others_run(5)

        await leased_onto(store, [queue], [job])

        assert await until_done(waiting, elapse, 0.5) <= 2 * self.notices_within_seconds


async def a_handed_off_job(store: Store, queue: Outbox, **fields: object) -> Job:
    """Store a job of the lane's queue and lease it, without a message."""
    job = a_job(queue=queue.name, **fields)
    await stored(store, job)
    return await happened(store, job, Leased(UNTIL))


async def leased_onto(
    store: Store, lanes: Sequence[Outbox], jobs: Sequence[Job]
) -> frozenset[UUID]:
    """Lease pending jobs of one use case onto lanes, in a turn of their own."""
    async with store.turn([jobs[0].use_case]) as turn:
        grants = [grant(candidate_of(job), until=UNTIL, now=NOW) for job in jobs]
        return await turn.lease(grants, onto=lanes)


async def every_claim(queue: Outbox, *, max_messages: int) -> list[Claims]:
    """Claim until nothing was claimed and nothing is said to be left."""
    takes: list[Claims] = []
    for n in range(100):
        takes.append(
            await queue.claim(CLAIMED, now=later(1 + n / 1_000), max_messages=max_messages)
        )
        if not takes[-1].jobs and not takes[-1].more:
            return takes
    raise AssertionError("there is no end of it")


async def all_claimed(queue: Outbox) -> list[Job]:
    """Claim all there is at one instant; returns the jobs in the order in which they came."""
    jobs: list[Job] = []
    for _ in range(100):
        claims = await queue.claim(CLAIMED, now=later(1), max_messages=100)
        jobs += claims.jobs
        if not claims.jobs and not claims.more:
            return jobs
    raise AssertionError("there is no end of it")


def is_empty(claims: Claims) -> bool:
    """Tell whether a claim found nothing and nothing is left."""
    return not (claims.jobs or claims.poison or claims.more)


def ids_of(takes: Iterable[Claims]) -> list[UUID]:
    """Return the jobs that claims brought, in their order."""
    return [job.id for take in takes for job in take.jobs]
