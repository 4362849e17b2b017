"""A transaction on the memory store: what it adds stays hidden until it is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from uuid import UUID


class MemoryTransaction:
    """What `MemoryJobStore.transaction()` yields, to be passed as `within`.

    It holds the admission lock of every limited tenant it adds for, as a transaction on a
    real database would, until it ends.
    """

    def __init__(self, tenant_locks: dict[str, asyncio.Lock]) -> None:
        self._tenant_locks = tenant_locks
        self._held: dict[str, asyncio.Lock] = {}
        self.added: set[UUID] = set()
        self.over = asyncio.Event()

    async def lock_tenants(self, tenants: Iterable[str]) -> None:
        """Take the admission locks, in one order for everybody, so that none wait in a ring."""
        for tenant in sorted(set(tenants) - self._held.keys()):
            lock = self._tenant_locks.setdefault(tenant, asyncio.Lock())
            await lock.acquire()
            self._held[tenant] = lock

    def end(self) -> None:
        """Let go of the locks and wake whoever waits for the outcome."""
        for lock in self._held.values():
            lock.release()
        self._held.clear()
        self.over.set()
