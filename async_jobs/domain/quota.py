"""Admission against a tenant's limit of pending jobs. Adapters count; the answer is here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from async_jobs.domain.limits import UNLIMITED, TenantQuota


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The call was turned away, whole: the tenant named has no room for it."""

    tenant_id: str
    limit: int
    used: int
    asked: int


def limited_tenants(
    tenant_ids: Iterable[str], quotas: Mapping[str, TenantQuota]
) -> Mapping[str, int]:
    """Return the pending limit of each tenant in the call that has one."""
    limits = {t: quotas.get(t, UNLIMITED).max_pending_jobs for t in set(tenant_ids)}
    return {tenant: limit for tenant, limit in limits.items() if limit is not None}


def admit(
    new_tenants: Iterable[str], pending: Mapping[str, int], limits: Mapping[str, int]
) -> Refused | None:
    """Judge one call, all or nothing.

    Args:
        new_tenants: the tenant of every job the call would really add; duplicates charge
            nothing and are left out.
        pending: how many pending jobs each limited tenant has, without the new ones.
        limits: the pending limit of each limited tenant.

    Returns:
        None when everything fits, else the first tenant (by name) that has no room.
    """
    asked = Counter(new_tenants)
    for tenant in sorted(asked.keys() & limits.keys()):
        used = pending.get(tenant, 0)
        if used + asked[tenant] > limits[tenant]:
            return Refused(tenant_id=tenant, limit=limits[tenant], used=used, asked=asked[tenant])
    return None
