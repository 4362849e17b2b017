"""The contract of `JobStore`, by what it is about."""

from __future__ import annotations

from async_jobs.testing.contracts.store.admission import IdentityContract, QuotaContract
from async_jobs.testing.contracts.store.dedupe import DedupeContract
from async_jobs.testing.contracts.store.reading import (
    IsolationContract,
    PagesContract,
    RoundTripContract,
    TenantsContract,
)
from async_jobs.testing.contracts.store.saving import SavingContract
from async_jobs.testing.contracts.store.transactions import TransactionContract
from async_jobs.testing.contracts.store.unreadable import UnreadableContract


class JobStoreContract(
    RoundTripContract,
    SavingContract,
    QuotaContract,
    DedupeContract,
    PagesContract,
    TenantsContract,
    IsolationContract,
    UnreadableContract,
    IdentityContract,
    TransactionContract,
):
    """Everything `JobStore` promises, JS-1 to JS-11; fixtures as for `StoreContract`."""
