"""The contract of `Store`: of `JobStore`, `Leases` and `Upkeep` together."""

from __future__ import annotations

from async_jobs.testing.contracts.leases import LeasesContract
from async_jobs.testing.contracts.store import JobStoreContract
from async_jobs.testing.contracts.upkeep import UpkeepContract


class StoreContract(JobStoreContract, LeasesContract, UpkeepContract):
    """Everything a store promises: JS-1 to JS-11, LS-1 to LS-8, UP-1 and UP-2.

    Subclass it as `TestMyStore` and override the fixtures `store`, `other_store`,
    `transaction`, `corrupt` and `mend`; see `StoreFixtures` for what each has to give.
    """
