"""Admission against tenant limits: all or nothing for one call."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.limits import TenantQuota
from async_jobs.domain.quota import Refused, admit, limited_tenants


@pytest.mark.parametrize(("used", "asked"), [(0, 3), (2, 1), (0, 0), (3, 0)])
def test_a_call_that_fits_is_admitted(used: int, asked: int) -> None:
    """A tenant may fill its limit to the last place."""
    assert admit(["acme"] * asked, {"acme": used}, {"acme": 3}) is None


@pytest.mark.parametrize(("used", "asked"), [(0, 4), (2, 2), (3, 1), (9, 1)])
def test_a_call_above_the_limit_is_refused_with_the_numbers(used: int, asked: int) -> None:
    """The refusal carries tenant, limit, used and asked."""
    refused = admit(["acme"] * asked, {"acme": used}, {"acme": 3})

    assert refused == Refused(tenant_id="acme", limit=3, used=used, asked=asked)


def test_a_limit_of_zero_admits_nothing() -> None:
    """A tenant can be shut out."""
    assert admit(["acme"], {}, {"acme": 0}) is not None


def test_one_tenant_without_room_refuses_the_whole_call() -> None:
    """Tenants that have room are refused along with the one that has none."""
    refused = admit(["acme", "bolt"], {"bolt": 5}, {"acme": 10, "bolt": 5})

    assert refused is not None
    assert refused.tenant_id == "bolt"


def test_of_several_tenants_without_room_the_first_by_name_is_told() -> None:
    """Which tenant is named does not depend on the order of the call."""
    limits = {"acme": 0, "bolt": 0}

    refusals = [admit(call, {}, limits) for call in (["acme", "bolt"], ["bolt", "acme"])]

    assert refusals == [Refused(tenant_id="acme", limit=0, used=0, asked=1)] * 2


def test_a_tenant_nobody_counted_has_nothing_pending() -> None:
    """Adapters need not report zeros."""
    assert admit(["acme"], {}, {"acme": 1}) is None


def test_a_tenant_without_a_limit_is_never_refused() -> None:
    """No limit means unlimited."""
    assert admit(["acme"] * 1000, {"acme": 10**9}, {}) is None


def test_a_full_tenant_that_asks_for_nothing_refuses_nobody() -> None:
    """Limits lowered below what is pending only stop new jobs of that tenant."""
    assert admit(["acme"], {"bolt": 9}, {"bolt": 5}) is None


def test_limited_tenants_are_those_of_the_call_that_have_a_pending_limit() -> None:
    """Unlimited, unknown and absent tenants are left out; zero is a limit."""
    quotas = {
        "acme": TenantQuota(max_pending_jobs=5),
        "bolt": TenantQuota(max_running=1),
        "core": TenantQuota(max_pending_jobs=0),
        "dune": TenantQuota(max_pending_jobs=7),
    }

    limits = limited_tenants(["acme", "acme", "bolt", "core", "elsewhere"], quotas)

    assert limits == {"acme": 5, "core": 0}


tenants = st.sampled_from(["acme", "bolt", "core"])
counts = st.dictionaries(tenants, st.integers(0, 4))


@given(st.lists(tenants, max_size=8), counts, counts)
def test_a_call_is_admitted_exactly_when_nobody_would_pass_a_limit(
    call: list[str], pending: dict[str, int], limits: dict[str, int]
) -> None:
    """Admission is the same question for each tenant of the call, on its own."""
    asked = Counter(call)
    fits = all(
        pending.get(tenant, 0) + asked[tenant] <= limits[tenant]
        for tenant in limits
        if asked[tenant]
    )

    assert (admit(call, pending, limits) is None) == fits
