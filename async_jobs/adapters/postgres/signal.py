"""Wake-ups by LISTEN and NOTIFY."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache

import asyncpg

from async_jobs.adapters.postgres.callers import connection_of, in_callers_transaction
from async_jobs.adapters.postgres.errors import is_full_queue, translated
from async_jobs.adapters.postgres.pool import borrowed, fetched
from async_jobs.adapters.postgres.statements import sql
from async_jobs.domain.errors import AsyncJobsError, Unavailable
from async_jobs.ports.clock import Clock

SEND_PAUSE_SECONDS = 0.005
RECONNECT_SECONDS = 1.0
# Whoever keeps the queue full mostly does so for long.
HUSHED_SECONDS = 30.0


class PostgresSignal:
    """Implements `Signal`.

    NOTIFY takes a lock that all of the database's commits with a NOTIFY queue for, so a process
    sends at most one every 5 ms, each for all topics that gathered meanwhile, on a connection of
    its own; within a caller's transaction only for what that one has added.

    Args:
        pool: one of its connections is kept for listening once somebody waits.
        clock: what timeouts are measured by.
        listen: False behind PgBouncer in transaction mode, where LISTEN hears nothing; every
            wait then lasts to its timeout, and polling bounds apply.
    """

    def __init__(self, pool: asyncpg.Pool, *, clock: Clock, listen: bool = True) -> None:
        self._pool = pool
        self._clock = clock
        self._listen = listen
        self._waits: dict[str, set[asyncio.Future[None]]] = {}
        self._missed: set[str] = set()
        self._to_send: set[str] = set()
        self._sender: asyncio.Task[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._topics: dict[str, str] = {}
        self._hushed_until = float("-inf")

    def notify(self, topic: str) -> None:
        """See `Signal`."""
        if self.channel(topic) is None:
            # Nobody else can hear it, but this process may wait for itself.
            self._wake(topic)
        self._to_send.add(_channel(topic))
        if self._sender is None or self._sender.done():
            with suppress(RuntimeError):
                self._sender = asyncio.get_running_loop().create_task(self._send())

    async def notify_within(self, topic: str, within: object) -> None:
        """See `Signal`. `within` is what `connection_of` takes."""
        connection = await connection_of(within)
        async with in_callers_transaction(connection):
            await connection.execute(sql("notify_topics"), [_channel(topic)])

    def channel(self, topic: str) -> str | None:
        """Return where to NOTIFY of a topic within a statement; None where nobody can hear it.

        That is for a statement whose commit has nothing to wait for, as one on an unlogged table:
        its NOTIFY holds the lock for no longer than one by itself would.
        """
        return _channel(topic) if self._listen and not self._is_hushed else None

    def hush(self) -> None:
        """Notify nobody for a while.

        The server keeps notifications until every listening session has taken them. One that sits
        in a transaction can fill their queue, and then nothing that notifies can be committed.
        """
        self._hushed_until = self._clock.monotonic() + HUSHED_SECONDS

    @property
    def _is_hushed(self) -> bool:
        return self._clock.monotonic() < self._hushed_until

    async def _send(self) -> None:
        while self._to_send:
            channels, self._to_send = sorted(self._to_send), set()
            if not self._is_hushed:
                await self._tell(channels)
            await self._clock.sleep(SEND_PAUSE_SECONDS)

    async def _tell(self, channels: Sequence[str]) -> None:
        with suppress(AsyncJobsError):
            try:
                async with translated(self._pool):
                    await fetched(self._pool, sql("notify_topics"), channels)
            except Unavailable as error:
                if is_full_queue(error):
                    self.hush()

    async def wait(self, topic: str, *, timeout_seconds: float) -> bool:
        """See `Signal`."""
        self._subscribe(topic)
        if topic in self._missed:
            self._missed.discard(topic)
            return True
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waits = self._waits.setdefault(topic, set())
        waits.add(woken)
        sleeping = asyncio.ensure_future(self._clock.sleep(timeout_seconds))
        try:
            await asyncio.wait((woken, sleeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waits.discard(woken)
            sleeping.cancel()
        return woken.done()

    def _wake(self, topic: str) -> None:
        if waits := self._waits.get(topic):
            for woken in waits:
                if not woken.done():
                    woken.set_result(None)
        elif topic in self._topics.values():
            self._missed.add(topic)

    def _subscribe(self, topic: str) -> None:
        if _channel(topic) in self._topics:
            return
        self._topics[_channel(topic)] = topic
        self._wanted.set()
        if self._listen and self._listener is None:
            self._listener = asyncio.create_task(self._keep_listening())

    async def _keep_listening(self) -> None:
        """Listen for as long as the process lives, on a new connection after each loss."""
        while True:
            with suppress(AsyncJobsError):
                async with translated(self._pool):
                    await self._listen_until_lost()
            await self._clock.sleep(RECONNECT_SECONDS)

    async def _listen_until_lost(self) -> None:
        async with borrowed(self._pool) as connection:
            try:
                connection.add_termination_listener(self._lost)
                listening: set[str] = set()
                while not connection.is_closed():
                    self._wanted.clear()
                    for channel in self._topics.keys() - listening:
                        await connection.add_listener(channel, self._heard)
                        listening.add(channel)
                        # Whatever was told before anybody listened is missed: look once.
                        self._wake(self._topics[channel])
                    await self._wanted.wait()
            finally:
                # Never given back alive: its LISTENs would go on in somebody else's hands.
                connection.terminate()

    def _lost(self, connection: object) -> None:
        self._wanted.set()

    def _heard(self, connection: object, pid: int, channel: str, payload: object) -> None:
        if channel in self._topics:
            self._wake(self._topics[channel])

    async def close(self) -> None:
        """Send what gathered, then let go of the listening connection."""
        if self._sender is not None:
            await asyncio.wait((self._sender,), timeout=RECONNECT_SECONDS)
        tasks = [task for task in (self._sender, self._listener) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@lru_cache(maxsize=1_024)
def _channel(topic: str) -> str:
    """Return the topic's channel: channel names are short, topics hold names of any length."""
    return "async_jobs_" + hashlib.blake2b(topic.encode(), digest_size=16).hexdigest()
