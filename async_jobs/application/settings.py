"""How schedulers and workers behave in time. All durations are in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from async_jobs.domain.limits import UseCaseConfig

# A century: before long, such an instant would lie before the beginning of the calendar.
FOR_EVER_SECONDS = 100 * 366 * 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """Attributes:
    interval_seconds: the longest pause between two ticks; signals shorten it.
    dispatch_timeout_seconds: the life of a lease that no worker has claimed.
    window_min: the hand-offs a queue may hold while no worker is known to be alive.
    hand_off_seconds: from the end of a job until the next one is in its slot, over the transport.
        What all slots can work off in this time is handed off ahead of free slots.
    reap_limit, promote_limit, purge_limit: rows one tick may touch for each.
    purge_interval_seconds: how often finished jobs past their retention, and unreadable rows
        whose lease is over, are looked for.
    retention_seconds: how long finished jobs are kept where the use case says nothing;
        0 keeps them for ever.
    unreadable_delay_seconds: how long a row that cannot be read waits before it is leased
        again, by when somebody may have mended it.
    history_days: how many days of attempt records are kept besides today.
    history_bytes_max: how much of them is kept.
    """

    interval_seconds: float = 1.0
    dispatch_timeout_seconds: float = 60.0
    window_min: int = 10
    hand_off_seconds: float = 0.05
    reap_limit: int = 500
    promote_limit: int = 1_000
    purge_limit: int = 1_000
    purge_interval_seconds: float = 60.0
    retention_seconds: float = 7 * 24 * 3600.0
    unreadable_delay_seconds: float = 300.0
    history_days: int = 14
    history_bytes_max: int = 2**30

    def retention_of(self, config: UseCaseConfig | None) -> float:
        """Return how long a use case's finished jobs are kept; 0 for ever.

        None is for one that nobody configures any more: what it left is kept as long as others'.
        """
        own = None if config is None else config.retention_seconds
        seconds = self.retention_seconds if own is None else own
        return seconds if seconds < FOR_EVER_SECONDS else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Attributes:
    slots: how many jobs are executed at once.
    prefetch: how many claimed jobs may wait for a slot.
    poll_interval_seconds: how long one receive waits for work.
    lease_seconds: the life of a claimed lease; renewed every third of it.
    margin_seconds: a handler whose lease could not be renewed is stopped this long before
        the lease ends.
    job_timeout_seconds: the longest run of an attempt whose handler sets none of its own.
    drain_timeout_seconds: what handlers get to finish when the worker shuts down.
    cancel_grace_seconds: what a cancelled handler gets to stop before it counts as stuck.
    suspect_wait_seconds: how long a job that is to run apart waits for the others to end; then
        it is put off for as long, and they go on.
    missing_handler_delay_seconds: how long a job of an unknown type waits for a worker that
        knows it, at first; then a tenth of the time it has waited, an hour at most.
    unknown_type_max_seconds: after so long without a worker that knows its type it is dead.
    snooze_max_seconds: once a job is so old, a snooze is a failed attempt.
    heartbeat_seconds: how often the worker announces itself.
    stall_seconds: without one successful receive for so long the worker gives up.
    watch_seconds: how often handlers are held against their timeouts and leases.
    recorded: the use cases of which all attempts are recorded, successes too.
    """

    slots: int = 10
    prefetch: int = 0
    poll_interval_seconds: float = 1.0
    lease_seconds: float = 60.0
    margin_seconds: float = 5.0
    job_timeout_seconds: float = 900.0
    drain_timeout_seconds: float = 25.0
    cancel_grace_seconds: float = 2.0
    suspect_wait_seconds: float = 60.0
    missing_handler_delay_seconds: float = 30.0
    unknown_type_max_seconds: float = 7 * 24 * 3600.0
    snooze_max_seconds: float = 366 * 24 * 3600.0
    heartbeat_seconds: float = 5.0
    stall_seconds: float = 120.0
    watch_seconds: float = 0.5
    recorded: frozenset[str] = frozenset()

    @property
    def places(self) -> int:
        """How many jobs may be in hand."""
        return self.slots + self.prefetch

    @property
    def renewal_seconds(self) -> float:
        """How often leases are renewed."""
        return self.lease_seconds / 3

    @property
    def lost_margin_seconds(self) -> float:
        """How long before its lease ends an unrenewed handler is stopped."""
        return min(self.margin_seconds, self.lease_seconds / 4)

    @property
    def lost_margin(self) -> timedelta:
        """The same as a duration."""
        return timedelta(seconds=self.lost_margin_seconds)
