"""The one table of instruments: what is measured, from which facts, and how.

Every exporter of metrics is made from it, and so is the table of `docs/metrics.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from async_jobs.adapters.telemetry.measuring import (
    Feed,
    Instrument,
    Measurement,
    Read,
    Survey,
    counter,
    fed_by,
    gauge,
    histogram,
    one,
)
from async_jobs.adapters.telemetry.surveys import SURVEYED
from async_jobs.domain import facts, readings
from async_jobs.domain.facts import Ending, Fact
from async_jobs.domain.tallies import RUNS, TOLERANCES, WAITS

USE_CASE: Final = ("use_case",)
TYPED: Final = ("use_case", "type")

ON_TIME: Final = timedelta(0)
TICKS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)


def _typed(fact: Any) -> tuple[str, str]:
    return fact.use_case, fact.type


def _use_case(fact: Any) -> tuple[str]:
    return (fact.use_case,)


def _queue(fact: Any) -> tuple[str]:
    return (fact.queue,)


def _is(outcome: str) -> Callable[[Any], tuple[str, ...]]:
    return lambda fact: (fact.use_case, fact.type, outcome)


def _seconds(lasted: timedelta) -> float:
    # Clocks of hosts differ a little, and no time is negative.
    seconds = lasted.total_seconds()
    return seconds if seconds > 0 else 0.0


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _first(fact: facts.JobStarted) -> tuple[str, str]:
    return fact.use_case, "true" if fact.first else "false"


def _late(fact: facts.JobStarted) -> Measurement | None:
    if fact.late_by <= ON_TIME:
        return None
    return Measurement(_seconds(fact.late_by), _first(fact))


# --- how jobs and attempts end ------------------------------------------------------------------


def _died(fact: facts.JobDied) -> Measurement:
    outcome = "expired" if fact.because is Ending.DEADLINE_MISSED else "dead"
    return Measurement(1, (fact.use_case, fact.type, outcome))


def _failed_attempt(fact: facts.JobFailed | facts.JobDied) -> Measurement | None:
    # A lease that ran out tells of its attempt itself, and what expired had none.
    if fact.because not in (Ending.FAILED, Ending.REJECTED):
        return None
    return Measurement(1, (fact.use_case, fact.type, fact.because.value))


def _cancelled_attempt(fact: facts.JobCancelled) -> Measurement | None:
    if fact.ran_for is None:
        return None
    return Measurement(1, (fact.use_case, fact.type, "cancelled"))


def _expired_attempt(fact: facts.LeaseExpired) -> Measurement | None:
    if not fact.claimed:
        return None
    return Measurement(1, (fact.use_case, fact.type, Ending.LEASE_EXPIRED.value))


ATTEMPT_ENDS: Final = (
    one(facts.JobSucceeded, _is("succeeded")),
    fed_by(facts.JobFailed, _failed_attempt),
    fed_by(facts.JobDied, _failed_attempt),
    one(facts.JobSnoozed, _is("snoozed")),
    one(facts.JobReleased, _is("released")),
    fed_by(facts.JobCancelled, _cancelled_attempt),
    fed_by(facts.LeaseExpired, _expired_attempt),
)


def _timed(feed: Feed) -> Feed:
    """Return the feed that measures how long what another one counts has run."""

    def read(fact: Any) -> Measurement | None:
        counted, ran_for = feed.read(fact), getattr(fact, "ran_for", None)
        if counted is None or ran_for is None:
            return None
        return Measurement(_seconds(ran_for), counted.labels)

    return Feed(feed.kind, read)


def _blocked(fact: facts.LoopBlocked) -> Measurement:
    return Measurement(1, (fact.use_case or "unknown", fact.type or "unknown"))


def _notice(kind: type[Fact], name: str) -> Feed:
    return Feed(kind, lambda fact: Measurement(1, (name,)))


def _slots(count: Callable[[readings.SlotsTaken], int]) -> tuple[Feed]:
    def read(fact: readings.SlotsTaken) -> Measurement:
        return Measurement(count(fact), (",".join(sorted(fact.queues)),))

    return (fed_by(readings.SlotsTaken, read),)


# --- the table ----------------------------------------------------------------------------------


INSTRUMENTS: Final = (
    histogram(
        "start.tolerance_used",
        "1",
        "Share of its delay tolerance that a start has used; at most 1 is on time",
        ("use_case", "first"),
        TOLERANCES,
        fed_by(facts.JobStarted, lambda fact: Measurement(fact.tolerance_used, _first(fact))),
        by_tenant=True,
    ),
    histogram(
        "start.late",
        "s",
        "How long after their deadlines late starts were",
        ("use_case", "first"),
        WAITS,
        fed_by(facts.JobStarted, _late),
    ),
    histogram(
        "start.latency",
        "s",
        "From when a job was due to its start; of a retry, from when that was due",
        ("use_case", "first"),
        WAITS,
        fed_by(
            facts.JobStarted, lambda fact: Measurement(_seconds(fact.start_latency), _first(fact))
        ),
    ),
    counter(
        "deadline.missed",
        "{job}",
        "Starts after the deadline, and jobs that expired unstarted",
        ("use_case", "started", "first"),
        one(
            facts.DeadlineMissed,
            lambda fact: (fact.use_case, _truth(fact.started), _truth(fact.first)),
        ),
        by_tenant=True,
    ),
    counter(
        "jobs.enqueued",
        "{job}",
        "Jobs enqueued, but for those in transactions of callers",
        TYPED,
        one(facts.JobEnqueued, _typed),
        by_tenant=True,
    ),
    counter(
        "jobs.duplicate",
        "{job}",
        "Enqueues that found their job there already",
        TYPED,
        one(readings.JobDuplicate, _typed),
    ),
    counter(
        "jobs.finished",
        "{job}",
        "Jobs that succeeded, died, were cancelled or expired unstarted",
        (*TYPED, "outcome"),
        one(facts.JobSucceeded, _is("succeeded")),
        fed_by(facts.JobDied, _died),
        one(facts.JobCancelled, _is("cancelled")),
        by_tenant=True,
    ),
    counter(
        "jobs.retried",
        "{job}",
        "Finished jobs that an operator has set going again",
        TYPED,
        one(facts.JobRetried, _typed),
    ),
    counter(
        "jobs.purged",
        "{job}",
        "Finished jobs forgotten after their retention",
        USE_CASE,
        fed_by(facts.JobsPurged, lambda fact: Measurement(fact.count, _use_case(fact))),
    ),
    counter(
        "quota.rejected",
        "{job}",
        "Jobs not taken, because their tenant has as many pending jobs as it may have",
        USE_CASE,
        one(readings.QuotaRefused, _use_case),
        by_tenant=True,
    ),
    counter(
        "attempts.ended",
        "{attempt}",
        "Attempts by how they ended",
        (*TYPED, "outcome"),
        *ATTEMPT_ENDS,
    ),
    histogram(
        "attempt.duration",
        "s",
        "From claim to end of attempts, but for those whose lease ran out",
        (*TYPED, "outcome"),
        RUNS,
        *(_timed(feed) for feed in ATTEMPT_ENDS),
    ),
    counter(
        "lease.expired",
        "{lease}",
        "Leases that ran out: a worker died or, unclaimed, a hand-off was lost",
        ("use_case", "claimed"),
        one(facts.LeaseExpired, lambda fact: (fact.use_case, _truth(fact.claimed))),
    ),
    counter(
        "handoff.failed",
        "{job}",
        "Hand-offs that a transport refused",
        USE_CASE,
        one(facts.JobHandOffFailed, _use_case),
    ),
    counter(
        "outcome.stale",
        "{attempt}",
        "Outcomes that came after their lease was lost, and changed nothing",
        ("use_case", "event"),
        one(facts.StaleOutcomeDropped, lambda fact: (fact.use_case, fact.outcome)),
    ),
    counter(
        "result.left_out",
        "{job}",
        "Results of handlers that could not be kept",
        TYPED,
        one(facts.ResultLeftOut, _typed),
    ),
    counter(
        "poison.dropped",
        "{message}",
        "Messages that are no hand-offs, taken off their queue",
        ("queue",),
        one(facts.PoisonDropped, _queue),
    ),
    counter(
        "row.unreadable",
        "{row}",
        "Stored rows that were skipped because they are no jobs any more",
        (),
        one(facts.RowUnreadable),
    ),
    counter(
        "row.unwritable",
        "{row}",
        "Rows that the store refused to write",
        (),
        one(facts.RowUnwritable),
    ),
    counter(
        "handler.missing",
        "{job}",
        "Jobs that came to a worker without a handler for their type",
        TYPED,
        one(facts.HandlerMissing, _typed),
    ),
    counter(
        "handler.stuck",
        "{attempt}",
        "Handlers that did not stop when they were cancelled",
        TYPED,
        one(facts.HandlerStuck, _typed),
    ),
    counter(
        "loop.blocked",
        "{time}",
        "Times that a worker's event loop was blocked, by the handler that held it",
        TYPED,
        fed_by(facts.LoopBlocked, _blocked),
    ),
    counter(
        "use_case.skipped",
        "{time}",
        "Turns in which a use case could not be dispatched",
        USE_CASE,
        one(facts.UseCaseSkipped, _use_case),
    ),
    counter(
        "chore.skipped",
        "{time}",
        "Chores of schedulers that began to fail",
        ("chore",),
        one(facts.ChoreSkipped, lambda fact: (fact.chore,)),
    ),
    counter(
        "notices",
        "{time}",
        "What looks like a mistake in how the system is set up, each time it is told",
        ("notice",),
        _notice(facts.QueueUnattended, "queue_unattended"),
        _notice(facts.QueueUnfed, "queue_unfed"),
        _notice(facts.TransportsDiffer, "transports_differ"),
        _notice(facts.UseCaseUnknown, "use_case_unknown"),
        _notice(facts.UseCasePaused, "use_case_paused"),
        _notice(facts.SchedulerMissing, "scheduler_missing"),
    ),
    histogram(
        "scheduler.tick.duration",
        "s",
        "What ticks of this scheduler took, but for those that failed",
        (),
        TICKS,
        fed_by(readings.SchedulerTicked, lambda fact: Measurement(_seconds(fact.took))),
    ),
    gauge(
        "scheduler.last_tick_timestamp",
        "s",
        "When this scheduler ended its last tick that did not fail, in seconds since 1970",
        (),
        (fed_by(readings.SchedulerTicked, lambda fact: Measurement(fact.at.timestamp())),),
    ),
    counter(
        "scheduler.leased",
        "{job}",
        "Jobs that this scheduler has handed off",
        (),
        fed_by(readings.SchedulerTicked, lambda fact: Measurement(fact.leased)),
    ),
    gauge(
        "worker.slots.limit",
        "{slot}",
        "Slots of this worker, by the queues it receives",
        ("queue",),
        _slots(lambda fact: fact.slots),
    ),
    gauge(
        "worker.slots.used",
        "{slot}",
        "Slots of this worker that are taken, as of its last heartbeat",
        ("queue",),
        _slots(lambda fact: fact.taken),
    ),
    *SURVEYED,
)


def _by_fact(
    table: Iterable[Instrument],
) -> Mapping[type[Fact], tuple[tuple[Instrument, Read], ...]]:
    found: dict[type[Fact], tuple[tuple[Instrument, Read], ...]] = {}
    for instrument in table:
        for kind, read in instrument.feeds:
            found[kind] = (*found.get(kind, ()), (instrument, read))
    return found


BY_FACT: Final = _by_fact(INSTRUMENTS)
"""What is to be read off facts of each kind; of others there is nothing to measure."""

BY_SURVEY: Final[Mapping[type[Fact], tuple[tuple[Instrument, Survey], ...]]] = {
    kind: tuple(
        (each, each.survey) for each in INSTRUMENTS if each.survey and each.survey.kind is kind
    )
    for kind in {each.survey.kind for each in INSTRUMENTS if each.survey}
}
"""Which instruments have all their series told by facts of each kind."""
