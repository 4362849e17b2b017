"""The store of the fairness rig keeps what the scheduler relies on."""

from __future__ import annotations

import pytest

from async_jobs.ports.store import Store
from async_jobs.testing.contracts.leases.claiming import ClaimingContract
from async_jobs.testing.contracts.leases.heads import HeadsContract
from async_jobs.testing.contracts.leases.turns import LeasingContract, TurnsContract
from async_jobs.testing.contracts.upkeep import PromotionContract
from benchmarks.fairness.store import IndexedJobStore


class TestIndexedJobStore(
    TurnsContract, LeasingContract, HeadsContract, PromotionContract, ClaimingContract
):
    """Turns, heads, promotion and claims; what only applications use is left out."""

    @pytest.fixture
    async def store(self) -> Store:
        """Finished jobs can be read, as the contract wants to."""
        return IndexedJobStore(keeps_finished=True)

    @pytest.fixture
    async def other_store(self, store: Store) -> Store:
        """It lives in one process."""
        return store
