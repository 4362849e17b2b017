"""The store of the fairness rig keeps what the scheduler relies on."""

from __future__ import annotations

import pytest

from async_jobs.ports.store import JobStore
from async_jobs.testing.contracts.claiming import ClaimingContract
from async_jobs.testing.contracts.heads import HeadsContract, PromotionContract
from async_jobs.testing.contracts.turns import LeasesContract, TurnsContract
from benchmarks.fairness.store import IndexedJobStore


class TestIndexedJobStore(
    TurnsContract, LeasesContract, HeadsContract, PromotionContract, ClaimingContract
):
    """Turns, heads, promotion and claims; what only applications use is left out."""

    @pytest.fixture
    async def store(self) -> JobStore:
        """Finished jobs can be read, as the contract wants to."""
        return IndexedJobStore(keeps_finished=True)

    @pytest.fixture
    async def other_store(self, store: JobStore) -> JobStore:
        """It lives in one process."""
        return store
