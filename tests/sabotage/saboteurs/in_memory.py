"""The contracts, bound to every saboteur.

Collected by `test_saboteurs_are_caught.py` only: all fail.
"""

from __future__ import annotations

from types import ModuleType
from typing import ClassVar

import pytest

from async_jobs.adapters.memory.store import MemoryJobStore
from async_jobs.ports.queue import JobQueue, Outbox
from async_jobs.ports.store import Store
from async_jobs.testing.builders import UnreadableRows
from async_jobs.testing.clocks import ManualClock, let_others_run
from async_jobs.testing.contracts import (
    JobQueueContract,
    OutboxContract,
    StoreContract,
)
from async_jobs.testing.contracts.queues import PutBody
from async_jobs.testing.contracts.scenes import Corrupt, Elapse, Mend, Transaction
from tests.sabotage.saboteurs import admission, outboxes, queues, stores, turns
from tests.sabotage.saboteurs.admission import Door
from tests.sabotage.saboteurs.outboxes import UntouchedOutbox
from tests.sabotage.saboteurs.queues import UntouchedLane
from tests.sabotage.saboteurs.stores import Untouched


class SabotagedStore(StoreContract):
    saboteur: ClassVar[type[Untouched]]

    @pytest.fixture
    async def store(self, unreadable: UnreadableRows) -> Store:
        return self.saboteur(unreadable)

    @pytest.fixture
    async def other_store(self, store: Store) -> Store:
        return store

    @pytest.fixture
    async def transaction(self, store: Untouched) -> Transaction:
        return store.transaction

    @pytest.fixture
    async def corrupt(self, store: Untouched) -> Corrupt:
        return store.corrupt

    @pytest.fixture
    async def mend(self, store: Untouched) -> Mend:
        return store.mend


class SabotagedQueue(JobQueueContract):
    saboteur: ClassVar[type[UntouchedLane]]

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def queue(self, clock: ManualClock) -> JobQueue:
        return self.saboteur("lane", clock)

    @pytest.fixture
    async def other_lane(self, clock: ManualClock) -> JobQueue:
        return self.saboteur("other", clock)

    @pytest.fixture
    async def elapse(self, clock: ManualClock) -> Elapse:
        async def elapse(seconds: float) -> None:
            clock.advance(seconds)
            await let_others_run(10)

        return elapse

    @pytest.fixture
    async def poison(self, queue: UntouchedLane) -> PutBody:
        async def poison(body: str) -> None:
            queue.put(body)

        return poison


class SabotagedOutbox(OutboxContract):
    saboteur: ClassVar[type[UntouchedOutbox]]

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    async def store(self) -> Store:
        return MemoryJobStore()

    @pytest.fixture
    async def queue(self, store: MemoryJobStore, clock: ManualClock) -> Outbox:
        return self.saboteur(store, "lane", clock)

    @pytest.fixture
    async def other_lane(self, store: MemoryJobStore, clock: ManualClock) -> Outbox:
        return self.saboteur(store, "other", clock)

    elapse = SabotagedQueue.elapse
    poison = SabotagedQueue.poison


Saboteur = type[Untouched] | type[UntouchedLane] | type[UntouchedOutbox]


def bound(binding: type, module: ModuleType, root: Saboteur) -> dict[str, type]:
    """Return a test class for every saboteur that a module defines, and for its root."""
    found = [each for each in vars(module).values() if isinstance(each, type)]
    saboteurs = [each for each in found if issubclass(each, root) and each.breaks]
    return {
        f"Test{each.__name__}": type(f"Test{each.__name__}", (binding,), {"saboteur": each})
        for each in (root, *saboteurs)
    }


globals().update(bound(SabotagedStore, stores, Untouched))
globals().update(bound(SabotagedStore, admission, Door))
globals().update(bound(SabotagedStore, turns, Untouched))
globals().update(bound(SabotagedQueue, queues, UntouchedLane))
globals().update(bound(SabotagedOutbox, outboxes, UntouchedOutbox))
