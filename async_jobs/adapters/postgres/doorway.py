"""Who may hold a connection of a pool while other people's transactions are waited for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from async_jobs.domain.errors import Unavailable

OF_A_TENANT: Final = 2
"""So many calls for one tenant go on at a time: they would wait for the same row."""
KEPT_FREE: Final = 2
"""So many connections of a pool are left to calls that wait for nobody."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call that waits; `awaited` are its tenants that had no free place since it came."""

    tenants: frozenset[str]
    awaited: set[str]
    admitted: asyncio.Future[None]

    def keeps_out(self, tenants: frozenset[str]) -> bool:
        """Tell whether a call for some tenants, which came later, would pass it."""
        return not self.awaited and not self.tenants.isdisjoint(tenants)


class Doorway:
    """Lets in calls that may wait for another transaction: of a tenant few, and of all some.

    The others wait here, without a connection: tenants whose transactions do not end keep nobody
    else from the database. A call for several tenants needs a place of each at one time. It is
    passed while one of them has had none to give, which may never end. Once each has had one, no
    later call for any of them is let in before it: those that come and go do not starve it.

    Args:
        connections: how many the pool may have.
    """

    def __init__(self, connections: int) -> None:
        self._room = max(1, connections - min(KEPT_FREE, connections // 2))
        self._of_tenants: Counter[str] = Counter()
        self._waiting: list[_Waiting] = []

    @asynccontextmanager
    async def passing(self, tenants: frozenset[str], *, wait_seconds: float) -> AsyncIterator[None]:
        """Hold a place for a block, waiting for one if need be.

        Raises:
            Unavailable: none was free in time; nothing was done.
        """
        if self._is_free(tenants) and not any(each.keeps_out(tenants) for each in self._waiting):
            self._enter(tenants)
        else:
            await self._wait(tenants, wait_seconds)
        try:
            yield
        finally:
            self._leave(tenants)

    async def _wait(self, tenants: frozenset[str], seconds: float) -> None:
        awaited = {each for each in tenants if not self._has_place(each)}
        waiting = _Waiting(tenants, awaited, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                await waiting.admitted
        except BaseException as error:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
                self._admit()  # who did not pass it may be free to enter
            else:
                self._leave(tenants)  # it was let in, and nobody is there to enter
            if isinstance(error, TimeoutError) and limit.expired():
                raise Unavailable(
                    f"other calls for {', '.join(map(repr, sorted(tenants)))}, or for other"
                    " tenants whose enqueues wait for transactions that do not end, left no room"
                    f" within {seconds:g} s; nothing was written"
                ) from None
            raise

    def _has_place(self, tenant: str) -> bool:
        return self._of_tenants[tenant] < OF_A_TENANT

    def _is_free(self, tenants: frozenset[str]) -> bool:
        return self._room > 0 and all(map(self._has_place, tenants))

    def _enter(self, tenants: frozenset[str]) -> None:
        self._room -= 1
        self._of_tenants.update(tenants)

    def _leave(self, tenants: frozenset[str]) -> None:
        self._room += 1
        self._of_tenants.subtract(tenants)
        for tenant in tenants:
            if not self._of_tenants[tenant]:
                del self._of_tenants[tenant]
        self._admit()

    def _admit(self) -> None:
        # Tenants whose places are kept for somebody who came earlier.
        kept: set[str] = set()
        for waiting in [each for each in self._waiting if self._room > 0]:
            if waiting.admitted.cancelled():
                continue  # it goes, and has not been run since to say so
            waiting.awaited = {each for each in waiting.awaited if not self._has_place(each)}
            if self._is_free(waiting.tenants) and kept.isdisjoint(waiting.tenants):
                self._enter(waiting.tenants)
                self._waiting.remove(waiting)
                waiting.admitted.set_result(None)
            elif not waiting.awaited:
                kept |= waiting.tenants
