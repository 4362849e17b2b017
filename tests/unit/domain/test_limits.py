"""What a use case and a tenant may be configured to have."""

from datetime import timedelta
from typing import Any

import pytest

from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.deadline import LatePolicy
from async_jobs.domain.limits import UNLIMITED, TenantQuota, UseCaseConfig, queue_of

NAN, INFINITY = float("nan"), float("inf")


def test_the_defaults_of_a_use_case() -> None:
    """Ten at once, a minute of tolerance, late jobs go behind, five attempts."""
    config = UseCaseConfig()

    assert config.max_concurrent == 10
    assert config.default_delay_tolerance == timedelta(seconds=60)
    assert config.late_policy is LatePolicy.SIDELINE
    assert config.default_max_attempts == 5
    assert config.default_backoff_policy == BackoffPolicy()
    assert config.retention_seconds is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_concurrent", -1),
        ("max_concurrent", 1_000_001),
        ("default_delay_tolerance_seconds", -0.001),
        ("default_delay_tolerance_seconds", 30 * 24 * 3600 + 0.001),
        ("default_delay_tolerance_seconds", NAN),
        ("default_max_attempts", 0),
        ("default_max_attempts", 101),
        ("retention_seconds", -1),
        ("retention_seconds", INFINITY),
        ("retention_seconds", NAN),
        ("late_policy", "never"),
    ],
)
def test_a_use_case_outside_its_bounds_is_refused_by_name(field: str, value: object) -> None:
    """The message names the field."""
    settings: dict[str, Any] = {field: value}

    with pytest.raises(ValueError, match=field):
        UseCaseConfig(**settings)


def test_every_bad_field_is_told_at_once() -> None:
    """Who reads the message can mend all of them in one go."""
    with pytest.raises(ValueError, match="default_max_attempts") as refusal:
        UseCaseConfig(max_concurrent=-1, default_max_attempts=0, retention_seconds=-1)
    with pytest.raises(ValueError, match="weight") as quota_refusal:
        TenantQuota(max_pending_jobs=-1, weight=0)

    assert "max_concurrent" in str(refusal.value)
    assert "retention_seconds" in str(refusal.value)
    assert "max_pending_jobs" in str(quota_refusal.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_concurrent", 0),
        ("max_concurrent", 1_000_000),
        ("default_delay_tolerance_seconds", 0),
        ("default_delay_tolerance_seconds", 30 * 24 * 3600),
        ("default_max_attempts", 1),
        ("default_max_attempts", 100),
        ("retention_seconds", 0),
    ],
)
def test_the_bounds_of_a_use_case_are_allowed(field: str, value: object) -> None:
    """Both ends of every range are inside it."""
    settings: dict[str, Any] = {field: value}

    assert getattr(UseCaseConfig(**settings), field) == value


def test_a_late_policy_may_be_given_by_name() -> None:
    """Settings read from text end up as the enumeration."""
    settings: dict[str, Any] = {"late_policy": "expire"}

    assert UseCaseConfig(**settings).late_policy is LatePolicy.EXPIRE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_pending_jobs", -1),
        ("max_running", -1),
        ("weight", 0.0),
        ("weight", -1.0),
        ("weight", 1_000_001.0),
        ("weight", NAN),
        ("weight", INFINITY),
    ],
)
def test_a_quota_outside_its_bounds_is_refused_by_name(field: str, value: object) -> None:
    """The message names the field."""
    settings: dict[str, Any] = {field: value}

    with pytest.raises(ValueError, match=field):
        TenantQuota(**settings)


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_pending_jobs", 0), ("max_running", 0), ("weight", 1e-9), ("weight", 1_000_000.0)],
)
def test_the_bounds_of_a_quota_are_allowed(field: str, value: object) -> None:
    """Zero jobs are a limit; any weight above zero counts."""
    settings: dict[str, Any] = {field: value}

    assert getattr(TenantQuota(**settings), field) == value


def test_a_tenant_nobody_configured_has_no_limits_and_the_weight_one() -> None:
    """`UNLIMITED` is what every unknown tenant gets."""
    unlimited = TenantQuota(max_pending_jobs=None, max_running=None, weight=1.0)

    assert unlimited == UNLIMITED


@pytest.mark.parametrize(("queue", "expected"), [(None, "notifications"), ("shared", "shared")])
def test_a_use_case_has_its_own_queue_unless_it_names_one(queue: str | None, expected: str) -> None:
    """Hand-offs travel on the lane the configuration names, else on the use case's own."""
    assert queue_of("notifications", UseCaseConfig(queue=queue)) == expected
