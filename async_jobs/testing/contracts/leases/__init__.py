"""The contract of `Leases`, by what it is about."""

from __future__ import annotations

from async_jobs.testing.contracts.leases.claiming import ClaimingContract
from async_jobs.testing.contracts.leases.heads import HeadsContract
from async_jobs.testing.contracts.leases.reaping import AsideContract, ExpiringContract
from async_jobs.testing.contracts.leases.succeeding import SucceedingContract
from async_jobs.testing.contracts.leases.turns import LeasingContract, TurnsContract
from async_jobs.testing.contracts.leases.views import ViewsContract


class LeasesContract(
    HeadsContract,
    ViewsContract,
    TurnsContract,
    LeasingContract,
    ExpiringContract,
    AsideContract,
    ClaimingContract,
    SucceedingContract,
):
    """Everything `Leases` promises, LS-1 to LS-8; fixtures as for `StoreContract`."""
