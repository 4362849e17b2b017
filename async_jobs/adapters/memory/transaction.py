"""A transaction on the memory store: what it adds stays hidden until it is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from uuid import UUID

from async_jobs.domain.errors import InvalidJobError

_MUST_BE = "must be an open transaction of the memory store (async with store.transaction() as …)"


class MemoryTransaction:
    """What `MemoryJobStore.transaction()` yields, to be passed as `within`.

    It holds the admission lock of every limited tenant it adds for, as a transaction on a
    real database would, until it ends.
    """

    def __init__(self, tenant_locks: dict[str, asyncio.Lock]) -> None:
        self._tenant_locks = tenant_locks
        self._held: dict[str, asyncio.Lock] = {}
        self._wake_ups: list[Callable[[], None]] = []
        self.added: set[UUID] = set()
        self.over = asyncio.Event()

    @classmethod
    def of(cls, within: object) -> MemoryTransaction:
        """Return an open transaction that a caller handed in.

        Raises:
            InvalidJobError: it is over, or something else.
        """
        if not isinstance(within, cls):
            raise InvalidJobError(
                "connection",
                f"{_MUST_BE}; got {type(within).__module__}.{type(within).__qualname__}",
            )
        if within.over.is_set():
            raise InvalidJobError("connection", f"{_MUST_BE}; it is over")
        return within

    async def lock_tenants(self, tenants: Iterable[str]) -> None:
        """Take the admission locks, in one order for everybody, so that none wait in a ring."""
        for tenant in sorted(set(tenants) - self._held.keys()):
            lock = self._tenant_locks.setdefault(tenant, asyncio.Lock())
            await lock.acquire()
            self._held[tenant] = lock

    def on_commit(self, wake: Callable[[], None]) -> None:
        """Call `wake` if this is committed, and then."""
        self._wake_ups.append(wake)

    def end(self, *, committed: bool) -> None:
        """Let go of the locks and wake whoever waits for the outcome."""
        for lock in self._held.values():
            lock.release()
        self._held.clear()
        self.over.set()
        if committed:
            for wake in self._wake_ups:
                wake()
