"""The SQS adapter on a wire that fails: what it reports, and that no message is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from async_jobs.adapters.sqs.queue import BATCHES_IN_FLIGHT, FILL_SECONDS_MAX, SqsJobQueue
from async_jobs.domain.errors import ConfigurationError, Unavailable
from async_jobs.domain.job import HandOff
from async_jobs.ports.clock import Clock
from async_jobs.ports.queue import Acked, Delivery
from async_jobs.testing.builders import a_handoff
from async_jobs.testing.clocks import ManualClock
from async_jobs.testing.contracts.queues import hints, hints_of
from tests.kit import services
from tests.kit.harness import PATIENCE_SECONDS, clock, eventually
from tests.sqs import wire as on_the_wire
from tests.sqs.wire import Fault, Wire, is_refused, wire_to

HIDDEN_SECONDS = 1.0
READ_TIMEOUT_SECONDS = 2.0

PASSING: dict[str, Fault] = {
    "reply lost": on_the_wire.loses_the_reply,
    "reset": on_the_wire.is_reset,
    "no answer": on_the_wire.never_ends,
    "503": is_refused("ServiceUnavailable", status=503),
    "500 without a body that says why": on_the_wire.is_answered_with_an_error_page,
    "a throttling of another name": is_refused("ProxyThrottlingError", status=403),
    "an expiry of another name": is_refused("SecurityTokenExpiredException", status=403),
    "RequestThrottled": is_refused("RequestThrottled"),
    "ThrottlingException": is_refused("ThrottlingException"),
    "OverLimit": is_refused("AWS.SimpleQueueService.OverLimit", status=403),
    "ExpiredToken": is_refused("ExpiredTokenException"),
    "InvalidClientTokenId": is_refused("InvalidClientTokenId", status=403),
    "UnrecognizedClient": is_refused("UnrecognizedClientException"),
    "a code nobody knows": is_refused("Whatever", status=418),
}
LASTING: dict[str, Fault] = {
    "no such queue": is_refused("QueueDoesNotExist"),
    "AccessDenied": is_refused("AccessDeniedException"),
    "403": is_refused("Forbidden", status=403),
    "no key": is_refused("KMS.AccessDeniedException"),
    "InvalidAddress": is_refused("InvalidAddress", status=404),
}

passing = pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
lasting = pytest.mark.parametrize("fault", LASTING.values(), ids=LASTING)
settling = pytest.mark.parametrize(
    ("settle", "operation"),
    [("ack", "DeleteMessageBatch"), ("release", "ChangeMessageVisibilityBatch")],
)


@pytest.fixture
async def wire(sqs_endpoint: str) -> AsyncIterator[Wire]:
    async with wire_to(sqs_endpoint) as wire:
        yield wire


@pytest.fixture
async def client(wire: Wire) -> AsyncIterator[Any]:
    """It makes each request once: what the adapter does by itself is what these tests show."""
    async with services.sqs_client(
        wire.url, read_timeout=READ_TIMEOUT_SECONDS, max_pool_connections=20
    ) as client:
        yield client


@pytest.fixture
async def url(sqs_endpoint: str) -> AsyncIterator[str]:
    """An empty queue, made and deleted past the wire."""
    async with services.sqs_client(sqs_endpoint) as client, services.sqs_queue(client) as url:
        yield url


@pytest.fixture
def queue(client: Any, url: str) -> SqsJobQueue:
    return lane(client, url)


def lane(client: Any, url: str, *, clock: Clock = clock) -> SqsJobQueue:
    return SqsJobQueue(
        client, "orders", url, clock=clock, visibility_timeout_seconds=HIDDEN_SECONDS
    )


async def in_time(call: Any) -> Any:
    """Await what hangs only when a test fails."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await call


async def everything(queue: SqsJobQueue, count: int) -> list[Delivery]:
    """Receive until so many deliveries of different hand-offs are there; ack them."""
    come: dict[HandOff | None, Delivery] = {}

    async def enough() -> bool:
        try:
            deliveries = await queue.receive(max_messages=100, wait_seconds=0)
        except Unavailable:
            return False  # a busy machine may not answer in time either
        come.update((delivery.handoff, delivery) for delivery in deliveries)
        await queue.ack(deliveries)
        return len(come) >= count

    await eventually(enough, f"{count} messages received")
    return list(come.values())


async def asked(wire: Wire, operation: str, count: int) -> None:
    """Wait until so many calls of an operation have come."""

    async def look() -> bool:
        return len(wire.of(operation)) >= count

    await eventually(look, f"{count} calls of {operation}")


def some(count: int) -> list[HandOff]:
    return [a_handoff() for _ in range(count)]


# --- sending ---


async def test_25_handoffs_are_three_requests_at_once(queue: SqsJobQueue, wire: Wire) -> None:
    """None of them is answered before all three are there."""
    wire.on("SendMessageBatch", on_the_wire.waits_for(asyncio.Barrier(3)))
    handoffs = some(25)

    results = await in_time(queue.send(handoffs))

    assert results == [(handoff, None) for handoff in handoffs]
    assert sorted(len(call.entries) for call in wire.calls) == [5, 10, 10]


async def test_no_more_requests_are_made_at_once_than_are_allowed(
    queue: SqsJobQueue, wire: Wire
) -> None:
    """The ninth waits for its turn."""
    barrier = asyncio.Barrier(BATCHES_IN_FLIGHT + 1)
    wire.on("SendMessageBatch", on_the_wire.waits_for(barrier))
    sending = asyncio.ensure_future(queue.send(some(10 * BATCHES_IN_FLIGHT + 1)))
    await asked(wire, "SendMessageBatch", BATCHES_IN_FLIGHT)

    wire.mend()
    waiting = barrier.n_waiting
    await in_time(barrier.wait())

    assert waiting == BATCHES_IN_FLIGHT
    assert all(sent.error is None for sent in await in_time(sending))
    assert len(wire.calls) == BATCHES_IN_FLIGHT + 1


@pytest.mark.parametrize(
    ("tenant_id", "group"),
    [
        ("acme", "acme"),
        ("a:b/c.d-e_f@g~", "a:b/c.d-e_f@g~"),
        ("a" * 128, "a" * 128),
        ("a" * 129, "sha256-c12cb024a2e5551cca0e08fce8f1c5e314555cc3fef6329ee994a3db752166ae"),
        ("two words", "sha256-a03f1d611645eb53ad16c1af546ca0792dc884505bab57ede80f4dad6b911d3a"),
    ],
)
async def test_a_tenant_is_a_message_group(
    queue: SqsJobQueue, wire: Wire, tenant_id: str, group: str
) -> None:
    """Under its own name where SQS allows it, else under a digest of it."""
    handoff = a_handoff(tenant_id=tenant_id)

    assert await queue.send([handoff]) == [(handoff, None)]

    (entry,) = wire.calls[0].entries
    assert entry["MessageGroupId"] == group
    assert entry["DelaySeconds"] == 0


@pytest.mark.parametrize("fault", [*PASSING.values(), *LASTING.values()], ids=[*PASSING, *LASTING])
async def test_a_batch_that_failed_is_told_for_each_of_its_handoffs(
    queue: SqsJobQueue, wire: Wire, fault: Fault
) -> None:
    """It raises nothing, and the other batch is sent all the same."""
    handoffs = some(13)
    wire.on("SendMessageBatch", fault, at={1})
    wire.on("SendMessageBatch", fault, at=range(3, 20))

    results = await in_time(queue.send(handoffs))

    ids = {int(entry["Id"]) for entry in wire.calls[0].entries}
    assert [result.handoff for result in results] == handoffs
    assert {place for place, result in enumerate(results) if result.error} == ids
    assert all("orders" in result.error for result in results if result.error)


async def test_a_garbled_answer_is_no_consent(queue: SqsJobQueue, wire: Wire) -> None:
    """What is not known to be sent counts as failed; it may be sent all the same."""
    handoffs = some(2)
    wire.on("SendMessageBatch", on_the_wire.is_answered_garbage)

    results = await queue.send(handoffs)

    assert results == [(handoff, "SQS gave no answer") for handoff in handoffs]
    assert hints(await everything(queue, 2)) == hints_of(handoffs)


async def test_what_failed_within_a_batch_is_told(queue: SqsJobQueue, wire: Wire) -> None:
    """And what did not is on the queue."""
    handoffs = some(5)
    wire.on("SendMessageBatch", on_the_wire.fails_for({1, 3}, "InternalError", "try again"))

    results = await queue.send(handoffs)

    told = "InternalError: try again"
    assert [result.error for result in results] == [None, told, None, told, None]
    assert hints(await everything(queue, 3)) == hints_of(handoffs[::2])


async def test_what_an_answer_forgets_counts_as_failed(queue: SqsJobQueue, wire: Wire) -> None:
    """In neither list of the answer: nobody knows."""
    wire.on("SendMessageBatch", on_the_wire.forgets({0, 2}))

    results = await queue.send(some(3))

    told = "SQS gave no answer"
    assert [result.error for result in results] == [told, None, told]


async def test_a_refused_batch_is_sent_one_by_one(queue: SqsJobQueue, wire: Wire) -> None:
    """One hand-off that SQS does not like keeps no other from being sent."""
    handoffs = some(3)
    wire.on("SendMessageBatch", is_refused("InvalidParameterValue"), at={1, 3})

    results = await queue.send(handoffs)

    assert [result.error is None for result in results] == [True, False, True]
    assert [len(call.entries) for call in wire.calls] == [3, 1, 1, 1]


# --- receiving ---


@passing
async def test_a_receive_that_failed_is_unavailable(
    queue: SqsJobQueue, wire: Wire, fault: Fault
) -> None:
    """At once, for the caller knows when to ask again; no message is lost."""
    handoffs = some(2)
    await queue.send(handoffs)
    wire.on("ReceiveMessage", fault, at={1})

    with pytest.raises(Unavailable, match="orders"):
        await in_time(queue.receive(max_messages=10, wait_seconds=20))

    assert len(wire.of("ReceiveMessage")) == 1
    assert hints(await everything(queue, 2)) == hints_of(handoffs)


@lasting
async def test_a_receive_that_can_never_succeed_is_a_configuration_error(
    queue: SqsJobQueue, wire: Wire, fault: Fault
) -> None:
    """It names the queue."""
    wire.on("ReceiveMessage", fault)
    wire.on("GetQueueAttributes", fault)

    with pytest.raises(ConfigurationError, match="'orders'"):
        await queue.receive(max_messages=10, wait_seconds=0)
    with pytest.raises(ConfigurationError, match="'orders'"):
        await queue.depth()


async def test_a_queue_that_does_not_exist_is_a_configuration_error(client: Any, url: str) -> None:
    """As the service itself says it; what is sent there is told as failed."""
    queue = lane(client, f"{url}-of-old")

    with pytest.raises(ConfigurationError, match="queue 'orders' does not exist"):
        await queue.receive(max_messages=10, wait_seconds=0)
    (sent,) = await queue.send(some(1))
    assert sent.error is not None
    assert "does not exist" in sent.error


async def test_messages_whose_delivery_was_lost_come_back(queue: SqsJobQueue, wire: Wire) -> None:
    """After the visibility timeout, and not before."""
    handoffs = some(3)
    await queue.send(handoffs)
    wire.on("ReceiveMessage", on_the_wire.is_answered_garbage, at={1})

    assert await queue.receive(max_messages=10, wait_seconds=0) == []

    assert hints(await everything(queue, 3)) == hints_of(handoffs)


@pytest.mark.parametrize(
    "fault", [on_the_wire.is_answered_with_a_page, on_the_wire.is_answered_with_nothing]
)
async def test_a_gateways_page_is_no_empty_queue(
    queue: SqsJobQueue, wire: Wire, fault: Fault
) -> None:
    """It comes with a good status, and says nothing of messages."""
    wire.on("ReceiveMessage", fault)

    with pytest.raises(Unavailable, match="instead of SQS something else answered"):
        await queue.receive(max_messages=1, wait_seconds=0)


async def test_what_was_received_survives_a_later_failure(queue: SqsJobQueue, wire: Wire) -> None:
    """The first ten are here; the caller gets what came, and the rest the next time."""
    handoffs = some(30)
    await queue.send(handoffs)
    wire.on("ReceiveMessage", on_the_wire.is_reset, at={2})

    first = await in_time(queue.receive(max_messages=30, wait_seconds=1))
    second = await in_time(queue.receive(max_messages=30, wait_seconds=1))

    assert (len(first), len(second)) == (20, 10)
    assert hints([*first, *second]) == hints_of(handoffs)


async def test_what_was_received_does_not_wait_for_what_never_comes(
    client: Any, url: str, wire: Wire
) -> None:
    """It has to be claimed before its visibility timeout."""
    manual = ManualClock()
    queue = lane(client, url, clock=manual)
    await queue.send(some(30))
    wire.on("ReceiveMessage", on_the_wire.never_ends, at={3})
    receiving = asyncio.ensure_future(queue.receive(max_messages=30, wait_seconds=1))
    await asked(wire, "ReceiveMessage", 3)

    manual.advance(FILL_SECONDS_MAX)

    assert len(await in_time(receiving)) >= 10


async def test_a_receive_that_is_cancelled_among_its_polls_leaves_nothing_behind(
    queue: SqsJobQueue, wire: Wire
) -> None:
    """No task goes on, and every message comes back."""
    handoffs = some(25)
    await queue.send(handoffs)
    tasks = asyncio.all_tasks()
    wire.on("ReceiveMessage", on_the_wire.never_ends, at={2, 3})
    receiving = asyncio.ensure_future(queue.receive(max_messages=30, wait_seconds=1))
    await asked(wire, "ReceiveMessage", 3)

    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving

    ours = {task for task in asyncio.all_tasks() - tasks if "SqsJobQueue" in repr(task)}
    assert not ours
    assert hints(await everything(queue, 25)) == hints_of(handoffs)


async def test_a_fraction_of_a_second_is_not_a_loop(client: Any, url: str, wire: Wire) -> None:
    """SQS waits whole seconds: it is asked once, then once more when the time is over."""
    manual = ManualClock()
    queue = lane(client, url, clock=manual)
    receiving = asyncio.ensure_future(queue.receive(max_messages=10, wait_seconds=0.5))

    async def sleeps() -> bool:
        return manual.sleepers == 1

    await eventually(sleeps, "the pause between two polls")
    manual.advance(0.5)

    assert await in_time(receiving) == []
    assert [call.body["WaitTimeSeconds"] for call in wire.calls] == [0, 0]


async def test_a_whole_second_is_waited_for_by_the_service(queue: SqsJobQueue, wire: Wire) -> None:
    """The first poll is as long as the wait, up to what SQS allows."""
    await queue.send(some(3))

    for wait_seconds in (1, 20, 500):
        assert len(await queue.receive(max_messages=1, wait_seconds=wait_seconds)) == 1

    polls = [call.body for call in wire.of("ReceiveMessage")]
    assert [poll["WaitTimeSeconds"] for poll in polls] == [1, 20, 20]
    assert {(poll["MaxNumberOfMessages"], poll["VisibilityTimeout"]) for poll in polls} == {(1, 1)}


# --- settling ---


@settling
@pytest.mark.parametrize("fault", [*PASSING.values(), *LASTING.values()], ids=[*PASSING, *LASTING])
async def test_a_settlement_that_failed_is_told(
    queue: SqsJobQueue, wire: Wire, settle: str, operation: str, fault: Fault
) -> None:
    """It raises nothing; at worst a message comes back."""
    await queue.send(some(2))
    deliveries = await received(queue, 2)
    wire.on(operation, fault)

    results = await in_time(getattr(queue, settle)(deliveries))

    assert [result.delivery for result in results] == deliveries
    assert all("orders" in (result.error or "") for result in results)


@settling
async def test_what_failed_within_a_settlement_is_told(
    queue: SqsJobQueue, wire: Wire, settle: str, operation: str
) -> None:
    """For its own delivery."""
    await queue.send(some(3))
    deliveries = await received(queue, 3)
    wire.on(operation, on_the_wire.fails_for({1}, "InternalError"))

    results = await getattr(queue, settle)(deliveries)

    assert [result.error for result in results] == [None, "InternalError: no", None]


@settling
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ReceiptHandleIsInvalid", "The input receipt handle is invalid."),
        ("AWS.SimpleQueueService.MessageNotInflight", ""),
        ("InvalidParameterValue", "Value x is invalid. Reason: The receipt handle has expired."),
    ],
)
async def test_an_expired_receipt_is_told(
    queue: SqsJobQueue, wire: Wire, settle: str, operation: str, code: str, message: str
) -> None:
    """In the words that all transports have for it."""
    await queue.send(some(2))
    deliveries = await received(queue, 2)
    wire.on(operation, on_the_wire.fails_for({0}, code, message))

    results = await getattr(queue, settle)(deliveries)

    assert results[0].error.startswith("the receipt is no longer valid")
    assert results[1].error is None


@settling
async def test_one_bad_receipt_does_not_keep_the_others(
    queue: SqsJobQueue, wire: Wire, settle: str, operation: str
) -> None:
    """A service that refuses the whole batch for it is asked for one after another."""
    await queue.send(some(3))
    deliveries = await received(queue, 3)
    fault = on_the_wire.refuses_batches_with({deliveries[1].receipt}, "ReceiptHandleIsInvalid")
    wire.on(operation, fault)

    results = await getattr(queue, settle)(deliveries)

    assert [result.error is None for result in results] == [True, False, True]


@settling
async def test_a_delivery_that_is_named_twice_is_settled_once(
    queue: SqsJobQueue, wire: Wire, settle: str, operation: str
) -> None:
    """Each mention has its answer."""
    await queue.send(some(2))
    one, other = await received(queue, 2)

    results = await getattr(queue, settle)([one, other, one])

    assert results == [Acked(one), Acked(other), Acked(one)]
    assert [len(call.entries) for call in wire.of(operation)] == [2]


async def received(queue: SqsJobQueue, count: int) -> Sequence[Delivery]:
    deliveries = await in_time(queue.receive(max_messages=10, wait_seconds=20))
    assert len(deliveries) == count
    return list(deliveries)
