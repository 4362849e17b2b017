"""Records of attempts, the days they are kept by, and the timeline that is made of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.fingerprints import fingerprint
from async_jobs.domain.history import TRACEBACK_BYTES_MAX, Outcome, traceback_of
from async_jobs.domain.history_days import DAYS_AHEAD, Part, to_drop, to_make, today
from async_jobs.domain.job import AttemptError, Job
from async_jobs.domain.lifecycle import (
    Cancelled,
    Claimed,
    Failed,
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
    change,
)
from async_jobs.domain.timeline import Moment, history_of
from tests.unit.domain.builders import (
    NOW,
    after,
    cancelled,
    claimed,
    dead,
    flagged,
    handed_off,
    pending,
)

OVER = {"lease_expires_at": after(-1)}


@pytest.mark.parametrize(
    ("job", "event", "outcome"),
    [
        (claimed(), Failed("boom"), Outcome.FAILED),
        (claimed(), Rejected("never"), Outcome.REJECTED),
        (claimed(), Released(), Outcome.RELEASED),
        (claimed(**OVER), LeaseExpired(), Outcome.LEASE_EXPIRED),
        (claimed(**OVER), SetAside(after(300)), Outcome.SET_ASIDE),
        (flagged(), Cancelled(), Outcome.CANCELLED),
        (flagged(), Failed("boom"), Outcome.FAILED),
        (handed_off(**OVER), LeaseExpired(), Outcome.LEASE_EXPIRED),
        (handed_off(), Cancelled(), Outcome.CANCELLED),
        (pending(), Cancelled(), Outcome.CANCELLED),
        (dead(), Retried(), Outcome.RETRIED),
        (cancelled(), Restored(), Outcome.RESTORED),
    ],
)
def test_what_is_unusual_is_recorded(job: Job, event: JobEvent, outcome: Outcome) -> None:
    """With who had it and since when, if anybody had."""
    record = change(job, event, now=NOW).record

    assert record is not None
    assert (record.job_id, record.outcome, record.ended_at) == (job.id, outcome, NOW)
    assert (record.attempt, record.lease_seq) == (job.attempts, job.lease_seq)
    has_one = job.phase.value in ("claimed", "cancelling")
    expected = (job.worker_id, job.started_at) if has_one else (None, None)
    assert (record.worker_id, record.started_at) == expected


@pytest.mark.parametrize("event", [Succeeded(), Snoozed(after(9))])
def test_what_is_ordinary_is_recorded_if_asked_for(event: JobEvent) -> None:
    """A success, a snooze."""
    assert change(claimed(), event, now=NOW).record is None
    assert change(claimed(), event, now=NOW, all_are_kept=True).record is not None


@pytest.mark.parametrize(
    ("job", "event"),
    [
        (pending(), Leased(after(60))),
        (handed_off(), Claimed("worker-2", after(60))),
        (handed_off(), HandOffFailed("gone")),
        (claimed(), Renewed(after(90))),
    ],
)
def test_what_ends_nothing_is_not_recorded(job: Job, event: JobEvent) -> None:
    """Nor is a hand-off that a transport refused: it may refuse thousands a second."""
    assert change(job, event, now=NOW, all_are_kept=True).record is None


def test_a_failure_keeps_its_error_its_places_and_its_fingerprint() -> None:
    """Apart from each other; a crash has a fingerprint, too."""
    places = ("/app/mail.py:7 in send",)

    failed = change(claimed(), Failed("ValueError: 7", places=places), now=NOW).record
    crashed = change(claimed(**OVER), LeaseExpired(), now=NOW).record

    assert failed is not None
    assert crashed is not None
    assert (failed.error, failed.traceback) == ("ValueError: 7", places[0])
    assert failed.fingerprint == fingerprint("ValueError: 7", places)
    assert (crashed.error, crashed.traceback) == ("lease expired", None)
    assert crashed.fingerprint == fingerprint("lease expired")


@given(st.lists(st.text(max_size=3_000), max_size=20))
def test_a_traceback_is_bounded_and_can_be_stored(places: list[str]) -> None:
    """In bytes, from its end; the first places are whole."""
    told = traceback_of(tuple(places))

    encoded = (told or "").encode()
    assert len(encoded) <= TRACEBACK_BYTES_MAX
    assert b"\0" not in encoded


# --- days ---------------------------------------------------------------------------------------

DAYS = st.dates(date(2029, 12, 1), date(2030, 2, 1))


@st.composite
def histories(draw: st.DrawFn) -> list[Part]:
    """Draw the parts of a history, the common one among them."""
    days = draw(st.sets(DAYS, max_size=8))
    parts = [Part(f"p{day}", day, draw(st.integers(0, 100)), day, day) for day in days]
    common = sorted(draw(st.lists(DAYS, max_size=2)))
    ends = (common[0], common[-1]) if common else (None, None)
    return [*parts, Part("common", None, draw(st.integers(0, 100)), *ends)]


INSTANTS = st.integers(0, 31 * 24).map(
    lambda hours: datetime(2030, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
)


@given(histories(), INSTANTS, st.integers(1, 20), st.integers(0, 500))
def test_days_are_forgotten_by_age_and_by_size(
    parts: list[Part], now: datetime, days: int, bytes_max: int
) -> None:
    """Whole ones, the oldest first, none too old is left, and no more than needed goes."""
    dropped = to_drop(parts, now, days=days, bytes_max=bytes_max)

    left = [part for part in parts if part not in dropped]
    past = [part for part in left if part.newest and part.newest < today(now)]
    first_kept = today(now) - timedelta(days=days)
    assert all(part.newest and part.newest < today(now) for part in dropped)
    assert all(part.newest and part.newest >= first_kept for part in past)
    assert not past or sum(part.size for part in left) <= bytes_max
    young = [part for part in dropped if part.newest and part.newest >= first_kept]
    if young:
        assert sum(part.size for part in left) + young[-1].size > bytes_max
    ends = [part.newest for part in dropped if part.newest]
    assert ends == sorted(ends)


@given(histories(), INSTANTS)
def test_room_is_made_for_days_that_have_not_begun(parts: list[Part], now: datetime) -> None:
    """Each once, and none of which the common part has records."""
    made = to_make(parts, now)

    ahead = [today(now) + timedelta(days=n + 1) for n in range(DAYS_AHEAD)]
    common = parts[-1]
    for day in ahead:
        there = any(part.day == day for part in parts)
        taken = common.oldest and common.newest and common.oldest <= day <= common.newest
        assert (day in made) == (not there and not taken)
    assert set(made) <= set(ahead)


def test_a_day_is_one_in_utc() -> None:
    """Wherever the process is."""
    east = datetime.fromisoformat("2030-01-02T01:00:00+03:00")

    assert today(east) == date(2030, 1, 1)


# --- the timeline -------------------------------------------------------------------------------


def test_what_the_job_remembers_stands_in_for_a_record() -> None:
    """Of a failure before there were records, or after they were dropped: once, not twice."""
    error = "ValueError: no\n  at /app/mail.py:7 in send\n  at /app/mail.py:3 in handle"
    before = replace(pending(), errors=(AttemptError(attempt=1, at=after(-9), error=error),))

    (entry,) = [e for e in history_of(before, [], at=NOW).entries if e.moment is Moment.ENDED]

    assert (entry.at, entry.outcome) == (after(-9), Outcome.FAILED)
    assert entry.error == "ValueError: no"
    assert entry.traceback == "/app/mail.py:7 in send\n/app/mail.py:3 in handle"

    step = change(claimed(), Failed("boom"), now=NOW)
    assert step.record is not None
    told = [e.error for e in history_of(step.job, [step.record], at=NOW).entries]
    assert told.count("boom") == 1


def test_entries_come_in_the_order_of_time() -> None:
    """Whatever order the records came in."""
    steps = [change(claimed(), Failed(str(n)), now=after(n)).record for n in (3, 1, 2)]
    records = [record for record in steps if record]

    entries = history_of(pending(), records, at=NOW).entries[1:]

    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)


@pytest.mark.parametrize("kind", [Moment, Outcome])
def test_what_a_newer_version_tells_is_another(kind: type[Moment] | type[Outcome]) -> None:
    """A client reads it all the same."""
    assert kind("anything new").value == "other"
