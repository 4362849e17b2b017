"""Every event against every state, and the compare-and-set around it.

The grid below was written from the specification, not from the code.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import pytest

from async_jobs.domain.crashes import CRASHES_MAX
from async_jobs.domain.errors import IllegalTransition
from async_jobs.domain.job import Job, JobStatus, Phase
from async_jobs.domain.lifecycle import (
    TRANSITIONS,
    Amended,
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
    Restored,
    Retried,
    SetAside,
    Snoozed,
    Succeeded,
    advance,
    cancelling,
    change,
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

OVER = {"lease_expires_at": after(-1)}
UNWANTED = {"cancel_requested": True}  # kept by a row that was set aside

SITUATIONS: Mapping[str, Job] = {
    "pending, on time": pending(),
    "pending, late": pending(run_at=after(-31), deadline_at=after(-1)),
    "pending, unwanted": pending(**UNWANTED),
    "handed off": handed_off(),
    "handed off, lease over": handed_off(**OVER),
    "handed off, unwanted": handed_off(**UNWANTED),
    "handed off, unwanted, lease over": handed_off(**UNWANTED, **OVER),
    "claimed": claimed(),
    "claimed, lease over": claimed(**OVER),
    "flagged": flagged(),
    "flagged, lease over": flagged(**OVER),
    "succeeded": succeeded(),
    "dead": dead(),
    "cancelled": cancelled(),
}

# P pending, H handed off, C claimed, F claimed and flagged (its cancellation was requested),
# S succeeded, D dead, X cancelled; a dot: cannot happen. All jobs have attempts left.
GRID = {
    # event            pending    handed off           claimed   flagged   finished
    #                               wanted    unwanted
    #                  ok late un live over live over live over live over  S D X
    "Leased": "        H  H    H  .    .    .    .    .    .    .    .     . . .",
    "HandOffFailed": " .  .    .  P    P    X    X    .    .    .    .     . . .",
    "Claimed": "       .  .    .  C    .    .    .    .    .    .    .     . . .",
    "Renewed": "       .  .    .  H    .    H    .    C    .    F    .     . . .",
    "Succeeded": "     .  .    .  .    .    .    .    S    S    S    S     . . .",
    "Failed": "        .  .    .  .    .    .    .    P    P    X    X     . . .",
    "Rejected": "      .  .    .  .    .    .    .    D    D    D    D     . . .",
    "Snoozed": "       .  .    .  .    .    .    .    P    P    X    X     . . .",
    "Released": "      .  .    .  .    .    .    .    P    P    X    X     . . .",
    "CancelRequested": ".  .    .  .    .    .    .    F    F    F    F     . . .",
    "Cancelled": "     X  X    X  X    X    X    X    .    .    X    X     . . .",
    "LeaseExpired": "  .  .    .  .    P    .    X    .    P    .    X     . . .",
    "SetAside": "      .  .    .  .    P    .    P    .    P    .    P     . . .",
    "Expired": "       .  D    .  .    .    .    .    .    .    .    .     . . .",
    "Retried": "       .  .    .  .    .    .    .    .    .    .    .     . P P",
    "Amended": "       P  P    P  .    .    .    .    .    .    .    .     . . .",
    "Restored": "      .  .    .  .    .    .    .    .    .    .    .     . . P",
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
    "SetAside": SetAside(after(60)),
    "Expired": Expired(),
    "Retried": Retried(),
    "Amended": Amended(priority=7),
    "Restored": Restored(),
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
LAST_ONES: list[tuple[Job, JobEvent]] = [
    (job(attempts=3, crashes=CRASHES_MAX - 1, **OVER), event)
    for job in (claimed, flagged)
    for event in (Failed("boom"), LeaseExpired())
]


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


@pytest.mark.parametrize(("job", "event"), LAST_ONES)
def test_the_last_attempt_and_the_last_crash_end_a_job(job: Job, event: JobEvent) -> None:
    """Also one whose cancellation was asked for: it failed for good before that."""
    assert advance(job, event, now=NOW).phase is Phase.DEAD


def test_the_table_says_what_the_grid_says() -> None:
    """TRANSITIONS lists the pairs of the grid and the phases they lead to, and no others."""
    drawn: dict[tuple[Phase, EventType], set[Phase]] = {}
    for event, situation, phase in LEGAL:
        pair = (SITUATIONS[situation].phase, type(EVENTS[event]))
        drawn.setdefault(pair, set()).add(phase)
    for job, happens in LAST_ONES:
        drawn[job.phase, type(happens)].add(Phase.DEAD)

    assert {pair: set(row.to) for pair, row in TRANSITIONS.items()} == drawn
    assert all(len(row.to) == len(set(row.to)) for row in TRANSITIONS.values())


def test_a_row_has_a_guard_where_the_grid_refuses_some_jobs_of_a_phase() -> None:
    """Exactly where a pair is legal for some jobs of a phase but not for all."""
    refused = {(SITUATIONS[situation].phase, type(EVENTS[event])) for event, situation in ILLEGAL}

    guarded = {pair for pair, row in TRANSITIONS.items() if row.only}

    assert guarded == refused & TRANSITIONS.keys()


@pytest.mark.parametrize(("phase", "event"), TRANSITIONS)
def test_no_guard_is_there_for_nothing(phase: Phase, event: EventType) -> None:
    """Each one of a row holds for some jobs of its phase, and refuses some that others let pass."""
    jobs = [job for job in SITUATIONS.values() if job.phase is phase]
    guards = TRANSITIONS[phase, event].only

    for guard in guards:
        others = [each for each in guards if each is not guard]
        passing = [job for job in jobs if all(each.holds(job, NOW) for each in others)]
        assert {guard.holds(job, NOW) for job in passing} == {True, False}


@pytest.mark.parametrize(
    ("situation", "event", "why"),
    [
        ("handed off", "Failed", "no worker has claimed it"),
        ("handed off", "CancelRequested", "no worker has claimed it"),
        ("handed off", "Retried", ""),
        ("claimed", "Claimed", "a worker has claimed it"),
        ("flagged", "HandOffFailed", "a worker has claimed it"),
        ("claimed", "Cancelled", "a worker has claimed it"),
        ("claimed", "Retried", ""),
        ("handed off, lease over", "Claimed", "its lease is over"),
        ("handed off, unwanted", "Claimed", "its cancellation was asked for"),
        ("claimed", "SetAside", "its lease is not over"),
        ("pending, on time", "Expired", "its deadline has not passed"),
        ("succeeded", "Cancelled", ""),
    ],
)
def test_a_refusal_says_why_where_the_state_is_not_all(
    situation: str, event: str, why: str
) -> None:
    """What a guard says; of a running job, whether a worker has claimed it if that matters."""
    with pytest.raises(IllegalTransition) as refusal:
        advance(SITUATIONS[situation], EVENTS[event], now=NOW)

    assert refusal.value.why == why


# --- The edges of guards ---------------------------------------------------------------------


@pytest.mark.parametrize("job", [handed_off(), claimed(), flagged()], ids=lambda job: job.phase)
def test_a_lease_is_over_at_its_last_instant(job: Job) -> None:
    """At `lease_expires_at` itself a lease can expire, and can no longer be renewed."""
    at_the_end = after(5)

    ended = Phase.CANCELLED if job.cancel_requested else Phase.PENDING
    assert advance(job, LeaseExpired(), now=at_the_end).phase is ended
    with pytest.raises(IllegalTransition, match="lease is over"):
        advance(job, Renewed(after(60)), now=at_the_end)


def test_a_lease_cannot_be_claimed_at_its_last_instant() -> None:
    """At `lease_expires_at` itself the hand-off comes too late."""
    with pytest.raises(IllegalTransition, match="lease is over"):
        advance(handed_off(), Claimed("worker-2", after(60)), now=after(5))


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


# --- What was to be cancelled ----------------------------------------------------------------

GIVING_BACK: list[JobEvent] = [Failed("boom"), Snoozed(after(60)), Released(), LeaseExpired()]


@pytest.mark.parametrize("event", GIVING_BACK, ids=lambda event: type(event).__name__)
def test_a_cancel_request_outlives_the_attempt(event: JobEvent) -> None:
    """A flagged job that would be pending again is cancelled, after what the event changed."""
    before = flagged(**OVER)
    given_back = advance(claimed(**OVER), event, now=NOW)

    assert advance(before, event, now=NOW) == replace(
        given_back,
        status=JobStatus.CANCELLED,
        cancel_requested=True,
        finished_at=NOW,
        started_at=before.started_at,
        worker_id=before.worker_id,
    )


@pytest.mark.parametrize(
    "event", [HandOffFailed("gone"), LeaseExpired()], ids=lambda event: type(event).__name__
)
def test_a_request_that_a_row_kept_ends_with_its_next_lease(event: JobEvent) -> None:
    """A row that was set aside keeps the request, which is honoured once it can be read again."""
    given_back = advance(handed_off(**OVER), event, now=NOW)

    assert advance(handed_off(**UNWANTED, **OVER), event, now=NOW) == replace(
        given_back, status=JobStatus.CANCELLED, cancel_requested=True, finished_at=NOW
    )


# --- change ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("event", "situation", "phase"), LEGAL)
def test_a_change_expects_the_job_as_it_is_known(event: str, situation: str, phase: Phase) -> None:
    """The fence holds number, phase and worker, and the end where the event is about that."""
    job = SITUATIONS[situation]
    about_the_end = event in {"Renewed", "LeaseExpired", "SetAside"}

    end = job.lease_expires_at if about_the_end else None
    expected = Fence(job.lease_seq, job.phase, end, job.worker_id)

    settled = advance(job, EVENTS[event], now=NOW)
    assert settled.phase is phase
    step = change(job, EVENTS[event], now=NOW)
    assert step == Change(expected, settled, step.record)


@pytest.mark.parametrize(("event", "situation"), ILLEGAL)
def test_a_change_refuses_what_advance_refuses(event: str, situation: str) -> None:
    """With the same words."""
    job = SITUATIONS[situation]
    with pytest.raises(IllegalTransition) as refusal:
        advance(job, EVENTS[event], now=NOW)

    with pytest.raises(IllegalTransition, match=re.escape(str(refusal.value))):
        change(job, EVENTS[event], now=NOW)
