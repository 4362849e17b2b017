"""What a use case and a tenant may have at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.deadline import LatePolicy

MAX_CONCURRENT_MAX = 1_000_000
DELAY_TOLERANCE_MAX = timedelta(days=30)
MAX_ATTEMPTS_MAX = 100
WEIGHT_MAX = 1_000_000.0


def _check(*rules: tuple[str, bool, str]) -> None:
    """Raise one ValueError that names every field whose rule does not hold."""
    broken = [f"{field} {allowed}" for field, holds, allowed in rules if not holds]
    if broken:
        raise ValueError("; ".join(broken))


class KeptAttempts(StrEnum):
    """Of which attempts of a use case there are records."""

    UNUSUAL = "unusual"
    """All but successes and snoozes."""
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCaseConfig:
    """A kind of work: its capacity and the defaults of its jobs.

    Attributes:
        max_concurrent: how many of its jobs may be running at once, over all workers;
            0 pauses the use case.
        default_delay_tolerance_seconds: 0 to 30 days.
        late_policy: what becomes of jobs that miss their deadline.
        queue: the lane that carries its hand-offs; the use case's own name when None.
        default_max_attempts: 1 to 100.
        default_backoff_policy: used by jobs that bring none.
        retention_seconds: how long finished jobs are kept; None takes the system's
            setting, 0 keeps them for ever.
        history: of which attempts there are records: of `unusual` ones, as failures and lost
            leases, or of `all`, which costs an insert more for each success.

    Raises:
        ValueError: a value is out of its bounds; the message names the field.
    """

    max_concurrent: int = 10
    default_delay_tolerance_seconds: float = 60.0
    late_policy: LatePolicy = LatePolicy.SIDELINE
    queue: str | None = None
    default_max_attempts: int = 5
    default_backoff_policy: BackoffPolicy = field(default_factory=BackoffPolicy)
    retention_seconds: float | None = None
    history: KeptAttempts = KeptAttempts.UNUSUAL

    def __post_init__(self) -> None:
        _check(
            (
                "max_concurrent",
                0 <= self.max_concurrent <= MAX_CONCURRENT_MAX,
                f"must be from 0 to {MAX_CONCURRENT_MAX}",
            ),
            (
                "default_delay_tolerance_seconds",
                0 <= self.default_delay_tolerance_seconds <= DELAY_TOLERANCE_MAX.total_seconds(),
                "must be from 0 s to 30 days",
            ),
            (
                "default_max_attempts",
                1 <= self.default_max_attempts <= MAX_ATTEMPTS_MAX,
                f"must be from 1 to {MAX_ATTEMPTS_MAX}",
            ),
            (
                "retention_seconds",
                self.retention_seconds is None or 0 <= self.retention_seconds < math.inf,
                "must be a number of seconds, at least 0",
            ),
        )
        try:
            object.__setattr__(self, "late_policy", LatePolicy(self.late_policy))
        except ValueError:
            raise ValueError(f"late_policy must be one of {', '.join(LatePolicy)}") from None
        try:
            object.__setattr__(self, "history", KeptAttempts(self.history))
        except ValueError:
            raise ValueError(f"history must be one of {', '.join(KeptAttempts)}") from None

    @property
    def default_delay_tolerance(self) -> timedelta:
        """How late after `run_at` a start of its jobs is still on time."""
        return _seconds(self.default_delay_tolerance_seconds)


@lru_cache(maxsize=1_024)
def _seconds(seconds: float) -> timedelta:
    """Return so many seconds: every job that is added asks for its use case's."""
    return timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantQuota:
    """What one tenant may have.

    Attributes:
        max_pending_jobs: how many pending jobs an enqueue may take the tenant to; None
            for no limit.
        max_running: how many of its jobs may be running at once, over all use cases;
            None for no limit, 0 pauses the tenant.
        weight: its part of a contended capacity relative to other tenants'.

    Raises:
        ValueError: a value is out of its bounds; the message names the field.
    """

    max_pending_jobs: int | None = None
    max_running: int | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        pending, running = self.max_pending_jobs, self.max_running
        _check(
            ("max_pending_jobs", pending is None or pending >= 0, "must be at least 0"),
            ("max_running", running is None or running >= 0, "must be at least 0"),
            ("weight", 0 < self.weight <= WEIGHT_MAX, f"must be above 0, up to {WEIGHT_MAX:g}"),
        )


UNLIMITED = TenantQuota()


class Limits(Protocol):
    """The two settings that a job service needs; `AsyncJobsConfig` is one such object."""

    @property
    def use_case_configs(self) -> Mapping[str, UseCaseConfig]:
        """Every known use case, by name."""
        ...

    @property
    def per_tenant_quotas(self) -> Mapping[str, TenantQuota]:
        """The tenants that are limited or weighted; all others are `UNLIMITED`."""
        ...


def recorded_of(use_cases: Mapping[str, UseCaseConfig]) -> frozenset[str]:
    """Return the use cases of which all attempts are recorded."""
    return frozenset(n for n, each in use_cases.items() if each.history is KeptAttempts.ALL)


def queue_of(use_case: str, config: UseCaseConfig) -> str:
    """Return the lane that carries the use case's hand-offs."""
    return config.queue or use_case
