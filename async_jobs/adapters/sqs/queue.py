"""A transport lane on an SQS standard queue."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from async_jobs.adapters.sqs.errors import (
    RefusedError,
    check_is_empty,
    told_of_entry,
    translated,
)
from async_jobs.adapters.sqs.messages import MalformedBodyError, body_of, group_of, handoff_of
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError, Unavailable
from async_jobs.domain.job import HandOff
from async_jobs.ports.clock import Clock
from async_jobs.ports.queue import Acked, Delivery, Sent

BATCH_MAX = 10
BATCHES_IN_FLIGHT = 8
WAIT_SECONDS_MAX = 20
VISIBILITY_SECONDS_MAX = 43_200
PAUSE_SECONDS_MAX = 1.0
# The client's read timeout is made for long polls. A write that takes longer than this is reported
# as failed, so that one queue that does not answer holds up nobody who writes to others.
WRITE_SECONDS_MAX = 10.0
# How long messages in hand may wait for others that are fetched with them.
FILL_SECONDS_MAX = 5.0

Request: TypeAlias = Callable[..., Awaitable[Mapping[str, Any]]]
Entry: TypeAlias = dict[str, Any]


class SqsClient(Protocol):
    """What is needed of an aiobotocore client, whichever version or wrapper made it."""

    @property
    def send_message_batch(self) -> Request: ...
    @property
    def receive_message(self) -> Request: ...
    @property
    def delete_message_batch(self) -> Request: ...
    @property
    def change_message_visibility_batch(self) -> Request: ...
    @property
    def get_queue_attributes(self) -> Request: ...


class SqsJobQueue:
    """Implements `JobQueue`.

    Tenants are message groups, so that on a standard queue SQS lets none of them wait behind
    another's backlog; see `group_of` for the names it does not allow.

    Args:
        client: shared by all lanes of a process. Its read timeout has to be above 20 seconds.
        name: the lane.
        url: the queue's URL, of the client's region.
        clock: what waits are measured by.
        visibility_timeout_seconds: how long a received message stays hidden, 12 hours at most;
            rounded up to whole seconds.

    Raises:
        ConfigurationError: the queue is a FIFO queue, which would let a tenant's jobs wait for
            one another, or the visibility timeout is out of bounds.
    """

    def __init__(
        self,
        client: SqsClient,
        name: str,
        url: str,
        *,
        clock: Clock,
        visibility_timeout_seconds: float = 60.0,
    ) -> None:
        if url.endswith(".fifo"):
            raise ConfigurationError(f"the SQS queue {name!r} must be a standard queue, not FIFO")
        if not 0 < visibility_timeout_seconds <= VISIBILITY_SECONDS_MAX:
            raise ConfigurationError(
                f"the visibility timeout of the SQS queue {name!r} must be above 0 and at most"
                f" {VISIBILITY_SECONDS_MAX} seconds"
            )
        self._client = client
        self._name = name
        self._url = url
        self._clock = clock
        self._hidden_seconds = math.ceil(visibility_timeout_seconds)

    @property
    def name(self) -> str:
        """See `JobQueue`."""
        return self._name

    async def send(self, handoffs: Sequence[HandOff]) -> list[Sent]:
        """See `JobQueue`."""
        entries = [
            {
                "Id": str(index),
                "MessageBody": body_of(handoff),
                "MessageGroupId": group_of(handoff.tenant_id),
                # Whatever the queue's own delay: a lease that nobody has heard of runs out.
                "DelaySeconds": 0,
            }
            for index, handoff in enumerate(handoffs)
        ]
        errors = await self._carry_out(self._client.send_message_batch, entries)
        return [Sent(handoff, error) for handoff, error in zip(handoffs, errors, strict=True)]

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        """See `JobQueue`."""
        until = self._clock.monotonic() + wait_seconds
        left = wait_seconds
        while True:
            wait = min(max(math.floor(left), 0), WAIT_SECONDS_MAX)
            received = await self._poll(min(max_messages, BATCH_MAX), wait)
            if received:
                break
            left = until - self._clock.monotonic()
            if left <= 0:
                return []
            # SQS waits whole seconds only. Neither the rest nor an endpoint that does not wait
            # at all may become a loop that asks without a pause.
            await self._clock.sleep(min(left, PAUSE_SECONDS_MAX))
            left = until - self._clock.monotonic()
        if len(received) == BATCH_MAX < max_messages:
            received += await self._rest(max_messages - BATCH_MAX)
        return received

    async def _rest(self, wanted: int) -> list[Delivery]:
        """Fetch what else is there, without waiting for any to come. Raises nothing.

        What has been received so far must be claimed before its visibility timeout, so that an
        answer that does not come soon is not waited for; its messages come back by themselves.
        """
        received: list[Delivery] = []
        until = self._clock.monotonic() + FILL_SECONDS_MAX
        while (left := wanted - len(received)) > 0 and self._clock.monotonic() < until:
            sizes = [
                min(BATCH_MAX, left - start)
                for start in range(0, min(left, BATCH_MAX * BATCHES_IN_FLIGHT), BATCH_MAX)
            ]
            polls = [asyncio.create_task(self._poll(size, 0)) for size in sizes]
            await self._all_done(polls, until - self._clock.monotonic())
            got = [poll.result() for poll in polls if not poll.cancelled() and not poll.exception()]
            received += [delivery for deliveries in got for delivery in deliveries]
            if sum(map(len, got)) < sum(sizes):
                break
        return received

    async def _all_done(self, polls: Sequence[asyncio.Task[Any]], seconds: float) -> None:
        """Wait until all have ended, at most so long; then the others are cancelled."""
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        everything = asyncio.gather(*polls, return_exceptions=True)
        try:
            await asyncio.wait((everything, sleeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            everything.cancel()
            sleeping.cancel()
            await asyncio.gather(everything, sleeping, return_exceptions=True)

    async def _poll(self, max_messages: int, wait_seconds: int) -> list[Delivery]:
        with translated(self._name):
            answer = await self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=max_messages,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=self._hidden_seconds,
            )
        if not answer.get("Messages"):
            check_is_empty(self._name, answer)
        return [_delivery(message) for message in answer.get("Messages") or ()]

    async def ack(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        """See `JobQueue`."""
        return await self._settle(self._client.delete_message_batch, deliveries)

    async def release(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        """See `JobQueue`."""
        request = self._client.change_message_visibility_batch
        return await self._settle(request, deliveries, VisibilityTimeout=0)

    async def _settle(
        self, request: Request, deliveries: Sequence[Delivery], **fields: object
    ) -> list[Acked]:
        receipts = list(dict.fromkeys(delivery.receipt for delivery in deliveries))
        entries = [
            {"Id": str(index), "ReceiptHandle": receipt, **fields}
            for index, receipt in enumerate(receipts)
        ]
        errors = dict(zip(receipts, await self._carry_out(request, entries), strict=True))
        return [Acked(delivery, errors[delivery.receipt]) for delivery in deliveries]

    async def _carry_out(self, request: Request, entries: Sequence[Entry]) -> list[str | None]:
        """Make batch requests, several at once; return what went wrong with each entry."""
        turn = asyncio.Semaphore(BATCHES_IN_FLIGHT)
        until = self._clock.monotonic() + WRITE_SECONDS_MAX

        async def in_turn(batch: Sequence[Entry]) -> list[str | None]:
            async with turn:
                return await self._batch(request, batch, until)

        batches = [
            entries[start : start + BATCH_MAX] for start in range(0, len(entries), BATCH_MAX)
        ]
        answers = await asyncio.gather(*(in_turn(batch) for batch in batches))
        return [error for errors in answers for error in errors]

    async def _batch(
        self, request: Request, batch: Sequence[Entry], until: float
    ) -> list[str | None]:
        left = max(0.0, until - self._clock.monotonic())
        try:
            with translated(self._name):
                async with asyncio.timeout(left):
                    answer = await request(QueueUrl=self._url, Entries=batch)
        except RefusedError as error:
            if len(batch) == 1:
                return [str(error)]
            # One entry may be the reason, and must not keep the others from being carried out.
            return [
                error for entry in batch for error in await self._batch(request, [entry], until)
            ]
        except AsyncJobsError as error:
            return [str(error)] * len(batch)
        errors: dict[str, str | None] = {
            accepted.get("Id", ""): None for accepted in answer.get("Successful") or ()
        }
        errors |= {
            failed.get("Id", ""): told_of_entry(failed) for failed in answer.get("Failed") or ()
        }
        return [errors.get(entry["Id"], "SQS gave no answer") for entry in batch]

    async def depth(self) -> int:
        """See `JobQueue`. Needs the permission sqs:GetQueueAttributes, as nothing else does."""
        with translated(self._name):
            answer = await self._client.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["ApproximateNumberOfMessages"]
            )
        try:
            return int(answer["Attributes"]["ApproximateNumberOfMessages"])
        except (KeyError, TypeError, ValueError):
            raise Unavailable(f"SQS did not tell the depth of the queue {self._name!r}") from None


def _delivery(message: Mapping[str, Any]) -> Delivery:
    receipt = str(message.get("ReceiptHandle", ""))
    try:
        return Delivery(receipt, handoff_of(message.get("Body") or ""))
    except MalformedBodyError as error:
        return Delivery(receipt, None, str(error))
