"""Sessions end, and whoever guesses tokens has to wait."""

from __future__ import annotations

import pytest

from async_jobs.entrypoints.dashboard.sessions import (
    FAILURES_MAX,
    FAILURES_SECONDS,
    SESSION_SECONDS,
    SESSIONS_MAX,
    Failures,
    Sessions,
)
from async_jobs.testing.clocks import ManualClock


def test_a_session_counts_until_its_end() -> None:
    """And an id that nobody was given counts never."""
    clock = ManualClock()
    sessions = Sessions(clock)
    session_id = sessions.begin(b"token")

    assert sessions.token_of(session_id) == b"token"
    assert sessions.token_of("") is None
    assert sessions.token_of("\udcff") is None
    clock.advance(SESSION_SECONDS)
    assert sessions.token_of(session_id) is None


def test_a_session_that_was_ended_counts_no_more() -> None:
    """Whoever kept the cookie has nothing."""
    sessions = Sessions(ManualClock())
    session_id = sessions.begin(b"token")

    sessions.end(session_id)

    assert sessions.token_of(session_id) is None


def test_there_are_so_many_sessions_at_most() -> None:
    """The oldest one ends for a newer one: signing in again and again fills no memory."""
    sessions = Sessions(ManualClock())
    ids = [sessions.begin(b"token") for _ in range(SESSIONS_MAX + 1)]

    assert sessions.token_of(ids[0]) is None
    assert all(sessions.token_of(each) for each in ids[1:])


def test_an_address_may_fail_so_often_and_then_waits() -> None:
    """Others need not wait for it."""
    clock = ManualClock()
    failures = Failures(clock)
    for _ in range(FAILURES_MAX):
        assert failures.wait_seconds("10.0.0.1") == 0
        failures.add("10.0.0.1")

    assert failures.wait_seconds("10.0.0.1") == FAILURES_SECONDS
    assert failures.wait_seconds("10.0.0.2") == 0
    clock.advance(FAILURES_SECONDS)
    assert failures.wait_seconds("10.0.0.1") == 0


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "testclient", False),
    ],
)
def test_the_addresses_of_one_network_are_one(one: str, other: str, are_one: bool) -> None:
    """A host has as many of them as it likes, but not those of its neighbours."""
    failures = Failures(ManualClock())
    for _ in range(FAILURES_MAX):
        failures.add(one)

    assert (failures.wait_seconds(other) > 0) is are_one
