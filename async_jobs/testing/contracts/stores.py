"""The contract of `JobStore`, whole."""

from __future__ import annotations

from async_jobs.testing.contracts.admission import (
    IdentityContract,
    QuotaContract,
)
from async_jobs.testing.contracts.claiming import ClaimingContract
from async_jobs.testing.contracts.dedupe import DedupeContract
from async_jobs.testing.contracts.heads import HeadsContract, PromotionContract
from async_jobs.testing.contracts.housekeeping import AsideContract, HouseKeepingContract
from async_jobs.testing.contracts.reading import (
    IsolationContract,
    PagesContract,
    RoundTripContract,
    TenantsContract,
)
from async_jobs.testing.contracts.saving import SavingContract
from async_jobs.testing.contracts.succeeding import SucceedingContract
from async_jobs.testing.contracts.transactions import TransactionContract
from async_jobs.testing.contracts.turns import LeasesContract, TurnsContract
from async_jobs.testing.contracts.unreadable import UnreadableContract
from async_jobs.testing.contracts.views import ViewsContract


class JobStoreContract(
    RoundTripContract,
    SavingContract,
    ClaimingContract,
    SucceedingContract,
    QuotaContract,
    DedupeContract,
    HeadsContract,
    ViewsContract,
    TurnsContract,
    LeasesContract,
    PagesContract,
    TenantsContract,
    IsolationContract,
    UnreadableContract,
    HouseKeepingContract,
    AsideContract,
    IdentityContract,
    PromotionContract,
    TransactionContract,
):
    """Everything `JobStore` promises, JS-1 to JS-21.

    Subclass it as `TestMyStore` and override the fixtures `store`, `other_store`,
    `transaction`, `corrupt` and `mend`; see `StoreFixtures` for what each has to give.
    """
