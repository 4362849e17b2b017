"""Every event against every state, and the compare-and-set around it.

The grid below was written from the specification, not from the code.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import pytest

from async_jobs.domain.errors import IllegalTransition
from async_jobs.domain.job import Job, JobStatus, Phase
from async_jobs.domain.lifecycle import (
    GUARDS,
    TRANSITIONS,
    Cancelled,
    CancelRequested,
    Change,
    Claimed,
    EventType,
    Expired,
    Failed,
    Fence,
    HandOffFailed,
    JobEvent,
    Leased,
    LeaseExpired,
    Rejected,
    Released,
    Renewed,
    Retried,
    Snoozed,
    Succeeded,
    advance,
    cancelling,
    change,
    settle,
)
from tests.unit.domain.builders import (
    NOW,
    after,
    cancelled,
    claimed,
    dead,
    flagged,
    handed_off,
    pending,
    succeeded,
)

# --- The grid --------------------------------------------------------------------------------

SITUATIONS: Mapping[str, Job] = {
    "pending, on time": pending(),
    "pending, late": pending(run_at=after(-31), deadline_at=after(-1)),
    "handed off": handed_off(),
    "handed off, lease over": handed_off(lease_expires_at=after(-1)),
    "claimed": claimed(),
    "claimed, lease over": claimed(lease_expires_at=after(-1)),
    "flagged": flagged(),
    "flagged, lease over": flagged(lease_expires_at=after(-1)),
    "succeeded": succeeded(),
    "dead": dead(),
    "cancelled": cancelled(),
}

# P pending, H handed off, C claimed, F claimed and flagged (its cancellation was requested),
# S succeeded, D dead, X cancelled; a dot: cannot happen. All jobs have attempts left.
GRID = {
    # event            pending   handed off  claimed   flagged    finished
    #                  ok late   live over   live over live over  S D X
    "Leased": "        H  H      .    .      .    .    .    .     . . .",
    "HandOffFailed": " .  .      P    P      .    .    .    .     . . .",
    "Claimed": "       .  .      C    .      .    .    .    .     . . .",
    "Renewed": "       .  .      H    .      C    .    F    .     . . .",
    "Succeeded": "     .  .      .    .      S    S    S    S     . . .",
    "Failed": "        .  .      .    .      P    P    P    P     . . .",
    "Rejected": "      .  .      .    .      D    D    D    D     . . .",
    "Snoozed": "       .  .      .    .      P    P    P    P     . . .",
    "Released": "      .  .      .    .      P    P    P    P     . . .",
    "CancelRequested": ".  .      .    .      F    F    F    F     . . .",
    "Cancelled": "     X  X      X    X      .    .    X    X     . . .",
    "LeaseExpired": "  .  .      .    P      .    P    .    P     . . .",
    "Expired": "       .  D      .    .      .    .    .    .     . . .",
    "Retried": "       .  .      .    .      .    .    .    .     . P P",
}
EVENTS: Mapping[str, JobEvent] = {
    "Leased": Leased(after(60)),
    "HandOffFailed": HandOffFailed("the queue is gone"),
    "Claimed": Claimed("worker-2", after(60)),
    "Renewed": Renewed(after(60)),
    "Succeeded": Succeeded({"sent": 2}),
    "Failed": Failed("boom"),
    "Rejected": Rejected("never"),
    "Snoozed": Snoozed(after(60)),
    "Released": Released(),
    "CancelRequested": CancelRequested(),
    "Cancelled": Cancelled(),
    "LeaseExpired": LeaseExpired(),
    "Expired": Expired(),
    "Retried": Retried(),
}
PHASES = {
    "P": Phase.PENDING,
    "H": Phase.HANDED_OFF,
    "C": Phase.CLAIMED,
    "F": Phase.CANCELLING,
    "S": Phase.SUCCEEDED,
    "D": Phase.DEAD,
    "X": Phase.CANCELLED,
}
CELLS = [
    (event, situation, cell)
    for event, row in GRID.items()
    for situation, cell in zip(SITUATIONS, row.split(), strict=True)
]
LEGAL = [(event, situation, PHASES[cell]) for event, situation, cell in CELLS if cell != "."]
ILLEGAL = [(event, situation) for event, situation, cell in CELLS if cell == "."]
# The one thing a grid of jobs with attempts and workers left cannot show.
OUT_OF_ATTEMPTS = {"Failed", "LeaseExpired"}


@pytest.mark.parametrize(("event", "situation", "phase"), LEGAL)
def test_a_listed_event_leads_where_the_grid_says(event: str, situation: str, phase: Phase) -> None:
    """Each event that may happen takes the job to the state in the grid."""
    job = advance(SITUATIONS[situation], EVENTS[event], now=NOW)

    assert job.phase is phase


@pytest.mark.parametrize(("event", "situation"), ILLEGAL)
def test_any_other_event_is_refused_and_changes_nothing(event: str, situation: str) -> None:
    """An event that is not listed raises, with the state and itself, and the job is equal."""
    job = SITUATIONS[situation]
    untouched = replace(job)

    with pytest.raises(IllegalTransition) as refusal:
        advance(job, EVENTS[event], now=NOW)

    assert refusal.value.state == job.phase.value
    assert refusal.value.event == event
    assert job.phase.value.replace("_", " ") in str(refusal.value)
    assert job == untouched


def test_the_grid_is_complete() -> None:
    """The grid has a row for every event, and a column for every phase."""
    events = {event.__name__ for event in get_args(JobEvent)}

    assert set(GRID) == set(EVENTS) == events
    assert {job.phase for job in SITUATIONS.values()} == set(Phase)


def test_the_transition_table_says_what_the_grid_says() -> None:
    """TRANSITIONS lists the pairs of the grid and the statuses they lead to, and no others."""
    drawn: dict[tuple[JobStatus, EventType], set[JobStatus]] = {}
    for event, situation, phase in LEGAL:
        pair = (SITUATIONS[situation].status, type(EVENTS[event]))
        drawn.setdefault(pair, set()).add(_status(phase))
    for event in OUT_OF_ATTEMPTS:
        drawn[JobStatus.RUNNING, type(EVENTS[event])].add(JobStatus.DEAD)

    assert {pair: set(statuses) for pair, statuses in TRANSITIONS.items()} == drawn


def test_a_guard_is_written_down_where_the_grid_refuses_some_jobs_of_a_status() -> None:
    """GUARDS has exactly the pairs that are legal for some jobs of a status but not for all."""
    refused = {(SITUATIONS[situation].status, type(EVENTS[event])) for event, situation in ILLEGAL}

    assert set(GUARDS) == refused & TRANSITIONS.keys()


def _status(phase: Phase) -> JobStatus:
    halves = {Phase.HANDED_OFF, Phase.CLAIMED, Phase.CANCELLING}
    return JobStatus.RUNNING if phase in halves else JobStatus(phase.value)


# --- The edges of guards ---------------------------------------------------------------------


@pytest.mark.parametrize("job", [handed_off(), claimed(), flagged()], ids=lambda job: job.phase)
def test_a_lease_is_over_at_its_last_instant(job: Job) -> None:
    """At `lease_expires_at` itself a lease can expire, and can no longer be renewed."""
    at_the_end = after(5)

    assert advance(job, LeaseExpired(), now=at_the_end).status is JobStatus.PENDING
    with pytest.raises(IllegalTransition, match="lease is over"):
        advance(job, Renewed(after(60)), now=at_the_end)


def test_a_lease_cannot_be_claimed_at_its_last_instant() -> None:
    """At `lease_expires_at` itself the hand-off comes too late."""
    with pytest.raises(IllegalTransition, match="lease is over"):
        advance(handed_off(), Claimed("worker-2", after(60)), now=after(5))


def test_a_job_to_be_cancelled_is_not_claimed_but_ends_with_its_lease() -> None:
    """A row that was set aside keeps the request, which is honoured once it can be read again."""
    job = handed_off(cancel_requested=True)

    with pytest.raises(IllegalTransition, match="cancellation was asked for"):
        advance(job, Claimed("worker-2", after(60)), now=NOW)
    assert settle(job, LeaseExpired(), now=after(5)).status is JobStatus.CANCELLED


def test_a_job_does_not_expire_on_its_deadline() -> None:
    """A start on the deadline itself would still be on time."""
    with pytest.raises(IllegalTransition, match="deadline has not passed"):
        advance(pending(), Expired(), now=after(20))


# --- cancelling -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "event"),
    [
        (pending(), Cancelled()),
        (handed_off(), Cancelled()),
        (claimed(), CancelRequested()),
        (flagged(), None),
        (cancelled(), None),
    ],
    ids=lambda value: value.phase if isinstance(value, Job) else "",
)
def test_what_nobody_executes_is_cancelled_at_once(job: Job, event: JobEvent | None) -> None:
    """A worker is asked to stop what it executes; what is under way or done needs nothing."""
    assert cancelling(job) == event


@pytest.mark.parametrize("job", [succeeded(), dead()], ids=lambda job: job.phase)
def test_a_job_that_ended_otherwise_cannot_be_cancelled(job: Job) -> None:
    """The refusal names the state and `Cancelled`."""
    with pytest.raises(IllegalTransition, match="it has ended") as refusal:
        cancelling(job)

    assert (refusal.value.state, refusal.value.event) == (job.phase.value, "Cancelled")


# --- settle and change -----------------------------------------------------------------------

GIVING_BACK: list[JobEvent] = [Failed("boom"), Snoozed(after(60)), Released(), LeaseExpired()]


@pytest.mark.parametrize("event", GIVING_BACK, ids=lambda event: type(event).__name__)
def test_settle_lets_a_cancel_request_outlive_the_attempt(event: JobEvent) -> None:
    """A flagged job that would be pending again is cancelled, after what the event changed."""
    before = flagged(lease_expires_at=after(-1))

    settled = settle(before, event, now=NOW)

    assert settled.phase is Phase.CANCELLED
    assert settled == advance(advance(before, event, now=NOW), Cancelled(), now=NOW)


@pytest.mark.parametrize("event", GIVING_BACK, ids=lambda event: type(event).__name__)
def test_settle_is_advance_for_a_job_nobody_wants_cancelled(event: JobEvent) -> None:
    """Without the flag, the job is pending again."""
    before = claimed(lease_expires_at=after(-1))

    settled = settle(before, event, now=NOW)

    assert settled.phase is Phase.PENDING
    assert settled == advance(before, event, now=NOW)


@pytest.mark.parametrize(
    ("event", "phase"), [(Succeeded(), Phase.SUCCEEDED), (Rejected("never"), Phase.DEAD)]
)
def test_settle_honours_an_outcome_that_came_before_the_cancellation(
    event: JobEvent, phase: Phase
) -> None:
    """A flagged job whose handler finished first keeps its outcome."""
    assert settle(flagged(), event, now=NOW).phase is phase


def test_settle_refuses_what_advance_refuses() -> None:
    """An illegal event stays illegal."""
    with pytest.raises(IllegalTransition, match="cannot succeed"):
        settle(pending(), Succeeded(), now=NOW)


@pytest.mark.parametrize(("event", "situation", "phase"), LEGAL)
def test_a_change_expects_the_job_as_it_is_known(event: str, situation: str, phase: Phase) -> None:
    """The fence holds number, phase and worker, and the end where the event is about that."""
    job = SITUATIONS[situation]
    about_the_end = event in {"Renewed", "LeaseExpired"}

    end = job.lease_expires_at if about_the_end else None
    expected = Fence(job.lease_seq, job.phase, end, job.worker_id)

    settled = settle(job, EVENTS[event], now=NOW)
    assert change(job, EVENTS[event], now=NOW) == Change(expected, settled)


def test_a_change_honours_a_cancel_request() -> None:
    """What is written for a flagged job that failed is its cancellation."""
    assert change(flagged(), Failed("boom"), now=NOW).job.phase is Phase.CANCELLED
