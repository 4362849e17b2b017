"""A transport lane in a table: the transport where there is no SQS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

import asyncpg

from async_jobs.adapters.postgres.errors import is_full_queue, retried, translated
from async_jobs.adapters.postgres.pool import fetched
from async_jobs.adapters.postgres.signal import PostgresSignal
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.errors import AsyncJobsError, Unavailable
from async_jobs.domain.job import HandOff
from async_jobs.ports.clock import Clock
from async_jobs.ports.queue import Acked, Delivery, Sent
from async_jobs.ports.signal import Signal, handed_off

POLL_SECONDS = 0.5
POISON = "the message names no job"
_RECEIPT = re.compile(r"([0-9]{1,18}):([0-9]{1,9})")


class PostgresJobQueue:
    """Implements `JobQueue` on the table `handoffs`.

    Args:
        pool: where the table is.
        name: the lane.
        clock: whose instants make messages visible; the database's, so that hosts agree.
        signal: wakes receivers at once; without it they look every half second.
        visibility_timeout_seconds: how long a received message stays hidden.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        name: str,
        *,
        clock: Clock,
        signal: Signal | None = None,
        visibility_timeout_seconds: float = 60.0,
    ) -> None:
        self._pool = pool
        self._name = name
        self._clock = clock
        self._signal = signal
        self._hidden_for = timedelta(seconds=visibility_timeout_seconds)

    @property
    def name(self) -> str:
        """See `JobQueue`."""
        return self._name

    @property
    def channel(self) -> str | None:
        """Where to NOTIFY of messages; None where nobody listens, or nobody can be told."""
        if isinstance(self._signal, PostgresSignal):
            return self._signal.channel(handed_off(self._name))
        return None

    def hush(self) -> None:
        """Notify nobody for a while: the queue of notifications is full, and receivers poll."""
        if isinstance(self._signal, PostgresSignal):
            self._signal.hush()

    async def send(self, handoffs: Sequence[HandOff]) -> list[Sent]:
        """See `JobQueue`."""
        if not handoffs:
            return []
        columns = (
            [handoff.job_id for handoff in handoffs],
            [handoff.lease_seq for handoff in handoffs],
            [handoff.tenant_id for handoff in handoffs],
        )
        try:
            try:
                await self._fetch("send_handoffs", *columns, self.channel)
            except Unavailable as error:
                if self.channel is None or not is_full_queue(error):
                    raise
                self.hush()
                await self._fetch("send_handoffs", *columns, self.channel)
        except AsyncJobsError as error:
            return [Sent(handoff, str(error)) for handoff in handoffs]
        self.wake()
        return [Sent(handoff) for handoff in handoffs]

    def wake(self) -> None:
        """Wake who waits in this process, where the statement that sent could notify nobody."""
        if self._signal is not None and self.channel is None:
            self._signal.notify(handed_off(self._name))

    async def receive(self, *, max_messages: int, wait_seconds: float) -> list[Delivery]:
        """See `JobQueue`."""
        until = self._clock.monotonic() + wait_seconds
        while True:
            if received := await self._take(max_messages):
                return received
            left = until - self._clock.monotonic()
            if left <= 0:
                return []
            await self.wait(left)

    async def wait(self, seconds: float) -> None:
        """Wait until there may be a message, at most so long and at most for half a second."""
        seconds = min(seconds, POLL_SECONDS)
        if self._signal is None:
            await self._clock.sleep(seconds)
        else:
            await self._signal.wait(handed_off(self._name), timeout_seconds=seconds)

    async def _take(self, max_messages: int) -> list[Delivery]:
        await self._clock.sync()
        now = self._clock.now()
        rows = await self._fetch("receive_handoffs", now, now + self._hidden_for, max_messages)
        return [_delivery(row) for row in sorted(rows, key=lambda row: row["id"])]

    async def ack(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        """See `JobQueue`."""
        return await self._settle("ack_handoffs", deliveries)

    async def release(self, deliveries: Sequence[Delivery]) -> list[Acked]:
        """See `JobQueue`."""
        if not deliveries:
            return []
        settled = await self._settle("release_handoffs", deliveries)
        if self._signal is not None:
            self._signal.notify(handed_off(self._name))
        return settled

    async def _settle(self, statement: str, deliveries: Sequence[Delivery]) -> list[Acked]:
        if not deliveries:
            return []
        receipts = [_receipt(delivery) for delivery in deliveries]
        ordered = sorted(receipts)
        ids, counts = [id for id, _ in ordered], [count for _, count in ordered]
        try:
            rows = await self._fetch(statement, ids, counts)
        except AsyncJobsError as error:
            return [Acked(delivery, str(error)) for delivery in deliveries]
        settled = {row["id"] for row in rows}
        return [
            Acked(delivery, None if id in settled else "the receipt is no longer valid")
            for delivery, (id, _) in zip(deliveries, receipts, strict=True)
        ]

    async def depth(self) -> int:
        """See `JobQueue`."""
        await self._clock.sync()
        (row,) = await self._fetch("handoffs_depth", self._clock.now())
        return int(row[0])

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async def once() -> list[asyncpg.Record]:
            return await fetched(self._pool, sql(statement), self._name, *arguments)

        async with translated(self._pool):
            return await retried(once)


def _delivery(row: asyncpg.Record) -> Delivery:
    receipt = f"{row['id']}:{row['receipts']}"
    if row["job_id"] is None:
        return Delivery(receipt, None, POISON)
    return Delivery(receipt, HandOff(row["job_id"], row["lease_seq"], row["tenant_id"]))


def _receipt(delivery: Delivery) -> tuple[int, int]:
    """Return the message's id and how often it had been received; (-1, -1) for a foreign one."""
    ours = _RECEIPT.fullmatch(delivery.receipt)
    return (int(ours[1]), int(ours[2])) if ours else (-1, -1)
