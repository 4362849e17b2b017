"""The contract of `JobQueue`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import TypeAlias

import pytest

from async_jobs.domain.job import HandOff
from async_jobs.ports.queue import Acked, Delivery, JobQueue
from async_jobs.testing.builders import a_handoff
from async_jobs.testing.clocks import let_others_run
from async_jobs.testing.contracts.scenes import Elapse, soon, until_done

PutBody: TypeAlias = Callable[[str], Awaitable[None]]
"""Puts a body on the lane by hand."""

POISON = [
    "hunter2",
    '{"password": "hunter2"}',
    '{"job_id": "hunter2", "lease_seq": 1}',
    '{"job_id": 5, "lease_seq": 1}',
    '{"job_id": null}',
    '["hunter2"]',
    "null",
    "5",
    "9" * 5_000,
    "[" * 5_000,
    '{"job_id": "01b8dd58-e200-7000-8000-000000000000", "lease_seq": "hunter2"}',
    '{"job_id": "01b8dd58-e200-7000-8000-000000000000", "lease_seq": 1.5}',
    '{"job_id": "01b8dd58-e200-7000-8000-000000000000", "lease_seq": true}',
]

FORGED = ["", "hunter2", "0", "²:1", "9" * 40 + ":1", "-1:-1", "1:2:3", "\u0000", "💥"]


class JobQueueContract:
    """Everything `JobQueue` promises, JQ-1 to JQ-9.

    Subclass it as `TestMyQueue` and override the fixtures `queue`, `other_lane`, `elapse` and
    `poison`. Both lanes are empty when a test begins.
    """

    visibility_timeout_seconds: float = 60.0
    """With which the lanes of the binding are made."""
    notices_within_seconds: float = 1.0
    """How long a waiting `receive` may take to notice what was sent meanwhile."""
    knows_its_receipts: bool = True
    """False for a transport that accepts any receipt without a word."""

    @pytest.fixture
    async def queue(self) -> JobQueue:
        """The lane under test."""
        raise NotImplementedError("override the fixture `queue`")

    @pytest.fixture
    async def other_lane(self) -> JobQueue:
        """A lane of another name on the same transport."""
        raise NotImplementedError("override the fixture `other_lane`")

    @pytest.fixture
    async def elapse(self) -> Elapse:
        """Makes time pass for the transport, and lets it answer what is under way."""
        raise NotImplementedError("override the fixture `elapse`")

    @pytest.fixture
    async def poison(self) -> PutBody:
        """Puts a body on the lane that is no hand-off; without bodies, whatever is like it."""
        raise NotImplementedError("override the fixture `poison`")

    async def test_jq_1_what_is_sent_is_received(self, queue: JobQueue, elapse: Elapse) -> None:
        """Job and lease number arrive as they were, a bare job id without one."""
        sent = [a_handoff(lease_seq=seq) for seq in (0, 1, 2**62, None)]
        await queue.send(sent)

        assert hints(await received(queue, elapse, 4)) == hints_of(sent)

    async def test_jq_1_an_unacked_delivery_comes_back(
        self, queue: JobQueue, elapse: Elapse
    ) -> None:
        """After the visibility timeout, and again, until somebody acks it."""
        sent = [a_handoff(), a_handoff()]
        await queue.send(sent)

        for _ in range(3):
            deliveries = await received(queue, elapse, 2)
            assert hints(deliveries) == hints_of(sent)
            await elapse(self.visibility_timeout_seconds)
        again = await received(queue, elapse, 2)
        await queue.ack([d for d in again if hints([d]) == hints_of(sent[:1])])
        await elapse(self.visibility_timeout_seconds)

        assert hints(await received(queue, elapse, 2)) == hints_of(sent[1:])

    @pytest.mark.parametrize("tenant_id", ["acme", " ", "ü𝄞'\"%s;-/" * 20, "a" * 200, "\t"])
    async def test_jq_1_any_tenant_can_be_served(
        self, queue: JobQueue, elapse: Elapse, tenant_id: str
    ) -> None:
        """Whatever names the transport itself allows."""
        handoff = a_handoff(tenant_id=tenant_id)

        (sent,) = await queue.send([handoff])

        assert sent == (handoff, None)
        assert hints(await received(queue, elapse, 1)) == hints_of([handoff])

    async def test_jq_2_an_acked_delivery_is_gone(self, queue: JobQueue, elapse: Elapse) -> None:
        """It does not come back after the visibility timeout."""
        await queue.send([a_handoff(), a_handoff()])
        deliveries = await received(queue, elapse, 2)

        assert await queue.ack(deliveries) == [Acked(delivery) for delivery in deliveries]
        await elapse(self.visibility_timeout_seconds * 2)
        assert await queue.receive(max_messages=10, wait_seconds=0) == []

    async def test_jq_2_one_handoff_sent_twice_is_two_messages(
        self, queue: JobQueue, elapse: Elapse
    ) -> None:
        """Acking one of them leaves the other."""
        handoff = a_handoff()
        await queue.send([handoff, handoff])
        first, second = await received(queue, elapse, 2)

        await queue.ack([first])
        await queue.release([second])

        assert hints(await received(queue, elapse, 1)) == hints_of([handoff])

    @pytest.mark.parametrize("count", [0, 1, 11, 60])
    async def test_jq_3_each_handoff_has_its_answer(
        self, queue: JobQueue, elapse: Elapse, count: int
    ) -> None:
        """In order, also beyond what the transport takes in one request."""
        handoffs = [a_handoff() for _ in range(count)]

        results = await queue.send(handoffs)

        assert results == [(handoff, None) for handoff in handoffs]
        assert hints(await drained(queue, elapse, count)) == hints_of(handoffs)

    async def test_jq_4_receive_returns_at_most_what_was_asked_for(self, queue: JobQueue) -> None:
        """One, a few, and more than the transport gives in one answer."""
        await queue.send([a_handoff() for _ in range(30)])

        for max_messages in (1, 3, 25):
            deliveries = await soon(queue.receive(max_messages=max_messages, wait_seconds=1))
            assert 1 <= len(deliveries) <= max_messages

    async def test_jq_4_receive_waits_no_longer_than_it_may(
        self, queue: JobQueue, elapse: Elapse
    ) -> None:
        """On an empty lane it comes back with nothing."""
        assert await soon(queue.receive(max_messages=10, wait_seconds=0)) == []

        waiting = asyncio.ensure_future(queue.receive(max_messages=10, wait_seconds=2))
        waited = await until_done(waiting, elapse, 0.5)

        assert await waiting == []
        assert waited <= 2 + self.notices_within_seconds

    @pytest.mark.parametrize("body", POISON, ids=range(len(POISON)))
    async def test_jq_4_a_malformed_body_is_poison(
        self, queue: JobQueue, elapse: Elapse, poison: PutBody, body: str
    ) -> None:
        """It is marked, never quoted, and can be acked like any other."""
        await poison(body)

        (delivery,) = await received(queue, elapse, 1)

        assert delivery.handoff is None
        assert delivery.problem
        assert "hunter2" not in delivery.problem
        assert await queue.ack([delivery]) == [Acked(delivery)]

    async def test_jq_4_acked_poison_is_gone(
        self, queue: JobQueue, elapse: Elapse, poison: PutBody
    ) -> None:
        """It does not come back after the visibility timeout."""
        await poison("hunter2")
        await queue.ack(await received(queue, elapse, 1))

        await elapse(self.visibility_timeout_seconds)

        assert await queue.receive(max_messages=1, wait_seconds=0) == []

    async def test_jq_4_poison_hides_no_handoff(
        self, queue: JobQueue, elapse: Elapse, poison: PutBody
    ) -> None:
        """What came before and after it is delivered."""
        sent = [a_handoff(), a_handoff()]
        await queue.send(sent[:1])
        await poison("hunter2")
        await queue.send(sent[1:])

        deliveries = await received(queue, elapse, 3)

        assert len(deliveries) == 3
        assert hints(d for d in deliveries if d.handoff) == hints_of(sent)

    async def test_jq_5_a_released_delivery_is_receivable_at_once(
        self, queue: JobQueue, elapse: Elapse
    ) -> None:
        """Before its visibility timeout, and under a receipt that acks it."""
        sent = [a_handoff() for _ in range(12)]
        await queue.send(sent)
        deliveries = await received(queue, elapse, 12)

        released = await queue.release(deliveries)

        assert released == [Acked(delivery) for delivery in deliveries]
        again = await received(queue, elapse, 12)
        assert hints(again) == hints_of(sent)
        assert all(acked.error is None for acked in await queue.ack(again))

    async def test_jq_5_a_release_wakes_who_waits(self, queue: JobQueue, elapse: Elapse) -> None:
        """Another worker takes it over."""
        await queue.send([a_handoff()])
        deliveries = await received(queue, elapse, 1)
        waiting = asyncio.ensure_future(queue.receive(max_messages=1, wait_seconds=20))
        await let_others_run(5)

        await queue.release(deliveries)

        assert await until_done(waiting, elapse, 0.5) <= 2 * self.notices_within_seconds
        assert len(await waiting) == 1

    @pytest.mark.parametrize("turns", [0, 1, 2, 4, 8, 16])
    @pytest.mark.parametrize("waits", [True, False])
    async def test_jq_6_a_cancelled_receive_strands_no_message(
        self, queue: JobQueue, elapse: Elapse, waits: bool, turns: int
    ) -> None:
        """Cancelled at any step, before or after the messages came, it has lost none of them."""
        sent = [a_handoff() for _ in range(3)]
        if not waits:
            await queue.send(sent)
        receiving = asyncio.ensure_future(queue.receive(max_messages=2, wait_seconds=20))
        await let_others_run(turns)
        if waits:
            await queue.send(sent)
            await let_others_run(turns)
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await soon(receiving)

        await elapse(self.visibility_timeout_seconds)

        assert hints(await received(queue, elapse, 3)) == hints_of(sent)

    @pytest.mark.parametrize("settle", ["ack", "release"])
    @pytest.mark.parametrize("receipt", FORGED, ids=range(len(FORGED)))
    async def test_jq_7_a_receipt_nobody_gave_is_reported(
        self, queue: JobQueue, elapse: Elapse, settle: str, receipt: str
    ) -> None:
        """It raises nothing, and the true ones beside it are carried out."""
        await queue.send([a_handoff(), a_handoff()])
        first, second = await received(queue, elapse, 2)
        forged = first._replace(receipt=receipt)

        results = await (queue.ack if settle == "ack" else queue.release)([first, forged, second])

        assert [result.delivery for result in results] == [first, forged, second]
        assert [results[0].error, results[2].error] == [None, None]
        assert bool(results[1].error) or not self.knows_its_receipts

    async def test_jq_7_an_ack_that_comes_twice_is_borne(
        self, queue: JobQueue, elapse: Elapse
    ) -> None:
        """Each delivery has its answer, whatever the second one says; nothing to do is fine."""
        await queue.send([a_handoff()])
        deliveries = await received(queue, elapse, 1)
        await queue.ack(deliveries)

        again = [*await queue.ack(deliveries), *await queue.release(deliveries)]

        assert [result.delivery for result in again] == deliveries * 2
        assert await queue.ack([]) == await queue.release([]) == []
        await elapse(self.visibility_timeout_seconds)
        assert await queue.receive(max_messages=1, wait_seconds=0) == []

    async def test_jq_8_a_waiting_receive_takes_what_comes(
        self, queue: JobQueue, elapse: Elapse
    ) -> None:
        """It does not sit out its wait."""
        handoff = a_handoff()
        waiting = asyncio.ensure_future(queue.receive(max_messages=10, wait_seconds=20))
        await let_others_run(5)

        await queue.send([handoff])

        assert await until_done(waiting, elapse, 0.5) <= 2 * self.notices_within_seconds
        assert hints(await waiting) == hints_of([handoff])

    async def test_jq_8_a_receive_does_not_wait_for_more(self, queue: JobQueue) -> None:
        """One message is reason enough to return."""
        await queue.send([a_handoff()])

        assert len(await soon(queue.receive(max_messages=10, wait_seconds=20))) == 1

    async def test_jq_9_lanes_share_nothing(
        self, queue: JobQueue, other_lane: JobQueue, elapse: Elapse
    ) -> None:
        """What is sent to one is neither received from nor counted in the other."""
        handoff = a_handoff()
        await queue.send([handoff])

        assert queue.name != other_lane.name
        assert await other_lane.receive(max_messages=10, wait_seconds=0) == []
        assert await other_lane.depth() == 0
        assert hints(await received(queue, elapse, 1)) == hints_of([handoff])

    async def test_jq_9_a_receipt_is_good_for_its_own_lane_only(
        self, queue: JobQueue, other_lane: JobQueue, elapse: Elapse
    ) -> None:
        """Acked on the wrong lane, the message comes back on the right one."""
        await queue.send([a_handoff()])
        deliveries = await received(queue, elapse, 1)

        await other_lane.ack(deliveries)
        await elapse(self.visibility_timeout_seconds)

        assert len(await received(queue, elapse, 1)) == 1


async def received(queue: JobQueue, elapse: Elapse, count: int) -> list[Delivery]:
    """Receive until `count` deliveries are there, or nothing more comes."""
    deliveries: list[Delivery] = []
    while (left := count - len(deliveries)) > 0:
        receiving = asyncio.ensure_future(queue.receive(max_messages=left, wait_seconds=1))
        # In small steps: where time is real, each takes as long as it says.
        await until_done(receiving, elapse, 0.05)
        come = await receiving
        if not come:
            break
        deliveries += come
    return deliveries


async def drained(queue: JobQueue, elapse: Elapse, count: int) -> list[Delivery]:
    """Receive `count` deliveries and ack them, a few at a time, before any is visible again."""
    deliveries: list[Delivery] = []
    while (left := count - len(deliveries)) > 0:
        come = await received(queue, elapse, min(left, 10))
        if not come:
            break
        await queue.ack(come)
        deliveries += come
    return deliveries


def hints(deliveries: Iterable[Delivery]) -> list[tuple[str, int | None]]:
    """Return what deliveries are about, sorted: the order in which they come is no promise."""
    return hints_of([delivery.handoff for delivery in deliveries if delivery.handoff])


def hints_of(handoffs: Collection[HandOff]) -> list[tuple[str, int | None]]:
    """Return jobs and lease numbers, sorted; the tenant is for the transport alone."""
    return sorted((str(handoff.job_id), handoff.lease_seq) for handoff in handoffs)
