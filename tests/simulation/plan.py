"""What a seed stands for: how large the system is, how it is set up, and what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from async_jobs import BackoffPolicy, TenantQuota, UseCaseConfig
from async_jobs.application.settings import SchedulerSettings, WorkerSettings
from async_jobs.domain.deadline import LatePolicy
from async_jobs.testing.builders import SimpleLimits
from tests.simulation.dice import Dice
from tests.simulation.faults import Faults, faults_of

ELSEWHERE, BESIDE = LANES = ("elsewhere", "beside")
"""Whether hand-offs are on a transport, or in the database with the jobs."""
LEASE_SECONDS = 60.0
RETENTION_SECONDS = 600.0
CROWDED = 0.1
"""How often there are more tenants than slots."""
CONTROLS_MAX = 5
"""How many orders operators give at most."""
SCALES = {1.0: 0.5, 4.0: 0.3, 20.0: 0.2}
"""How much longer than the defaults all durations are, and how often that is so."""
LONG_SCALES = {1.0: 0.1, 20.0: 0.3, 200.0: 0.3, 1_000.0: 0.3}
"""The same for runs of a great many hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One simulation, wholly: the same plan gives the same run.

    Attributes:
        seed: names every stream of chance.
        level: of the faults.
        faults: what goes wrong, and how often.
        scale: by how much every duration is longer than by default.
        leases: for how long there is trouble, in lengths of a lease.
        jobs: how many jobs clients ask for.
        schedulers, workers, apis: how many processes of each kind.
        use_cases, tenants: how many of each.
        crowd: how many more tenants want more than there is, once nothing goes wrong any more.
        lanes: where hand-offs are, one of `LANES`.
        controls: how many orders operators give; with none, nobody looks for orders either.
        interval, poll: how often schedulers tick and workers poll, in seconds before scaling.
    """

    seed: int
    level: str = "calm"
    faults: Faults = field(default_factory=Faults)
    scale: float = 1.0
    leases: int = 10
    jobs: int = 60
    schedulers: int = 2
    workers: int = 3
    apis: int = 1
    use_cases: int = 2
    tenants: int = 3
    crowd: int = 0
    interval: float = 1.0
    poll: float = 1.0
    lanes: str = ELSEWHERE
    controls: int = 0

    def __post_init__(self) -> None:
        if self.lanes not in LANES:
            raise ValueError(f"lanes must be one of {', '.join(LANES)}; got {self.lanes!r}")

    @property
    def trouble_seconds(self) -> float:
        """How long clients ask for work and things go wrong."""
        return self.leases * LEASE_SECONDS * self.scale

    @property
    def lease_seconds(self) -> float:
        return LEASE_SECONDS * self.scale

    def scheduler_settings(self) -> SchedulerSettings:
        s = self.scale
        return SchedulerSettings(
            interval_seconds=self.interval * s,
            dispatch_timeout_seconds=60 * s,
            window_min=4,
            reap_limit=20,
            promote_limit=50,
            purge_limit=20,
            purge_interval_seconds=60 * s,
            retention_seconds=RETENTION_SECONDS * s,
            unreadable_delay_seconds=300 * s,
        )

    def worker_settings(self) -> WorkerSettings:
        s = self.scale
        return WorkerSettings(
            slots=3,
            prefetch=self.seed % 2,
            poll_interval_seconds=self.poll * s,
            lease_seconds=self.lease_seconds,
            margin_seconds=5 * s,
            job_timeout_seconds=90 * s,
            drain_timeout_seconds=25 * s,
            cancel_grace_seconds=2 * s,
            suspect_wait_seconds=60 * s,
            missing_handler_delay_seconds=30 * s,
            heartbeat_seconds=5 * s,
            stall_seconds=120 * s,
            watch_seconds=0.5 * s,
        )

    def limits(self) -> SimpleLimits:
        """Return capacities, policies and quotas."""
        dice = Dice(f"{self.seed} limits")
        cases = {}
        for number in range(self.use_cases):
            cases[f"use-case-{number}"] = UseCaseConfig(
                max_concurrent=dice.whole(1, 5),
                default_delay_tolerance_seconds=dice.between(0, 120) * self.scale,
                late_policy=dice.pick(list(LatePolicy)),
                queue=dice.pick([None, "shared"]),
                default_max_attempts=dice.whole(1, 4),
                default_backoff_policy=BackoffPolicy(
                    base_delay_seconds=dice.between(0, 20) * self.scale,
                    max_delay_seconds=60 * self.scale,
                    jitter=dice.pick([0.0, 0.5, 1.0]),
                ),
            )
        quotas = {}
        for number in range(self.tenants):
            quotas[f"tenant-{number}"] = TenantQuota(
                max_pending_jobs=dice.pick([None, None, 5, 15]),
                max_running=dice.pick([None, None, 1, 2]),
                weight=dice.pick([1.0, 1.0, 3.0]),
            )
        if self.crowd:
            # Of some worlds the slots are below the capacity, of others the capacity below them.
            capacity = dice.pick([1, 4, 40])
            cases["use-case-0"] = replace(cases["use-case-0"], max_concurrent=capacity)
            quotas["crowd-1"] = TenantQuota(weight=2.0)
        return SimpleLimits(use_case_configs=cases, per_tenant_quotas=quotas)


def plan_of(
    seed: int, *, level: str | None = None, scales: Mapping[float, float] | None = None
) -> Plan:
    """Return the plan that a seed stands for.

    Args:
        seed: any whole number.
        level: of the faults; by default the seed decides, and rarely for calm.
        scales: how often each scale is drawn; `SCALES` by default.
    """
    dice = Dice(f"{seed} plan")
    drawn = "calm" if dice.happens(0.05) else dice.pick(["rough", "storm"])
    level = drawn if level is None else level
    scale = _drawn(dice, scales or SCALES)
    return Plan(
        seed=seed,
        level=level,
        faults=faults_of(level),
        scale=scale,
        leases=dice.whole(2, 5),
        jobs=dice.whole(10, 40),
        schedulers=dice.whole(1, 3),
        workers=dice.whole(1, 4),
        apis=dice.whole(1, 2),
        use_cases=dice.whole(1, 3),
        tenants=dice.whole(1, 4),
        interval=dice.pick([2.0, 3.0, 5.0]),
        poll=dice.pick([1.0, 5.0, 20.0]),
        crowd=dice.whole(6, 12) if dice.happens(CROWDED) and scale == 1 else 0,
        controls=Dice(f"{seed} controls").whole(1, CONTROLS_MAX),
    )


def _drawn(dice: Dice, weights: Mapping[float, float]) -> float:
    left = dice.draw() * sum(weights.values())
    for thing, weight in weights.items():
        left -= weight
        if left < 0:
            return thing
    return next(reversed(weights))
