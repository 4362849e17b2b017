"""Who is charged when a worker dies, and who is tried apart."""

from __future__ import annotations

from typing import Any

import pytest

from async_jobs.domain.crashes import CRASHES_MAX, SUSPECT_CRASHES_MIN, is_suspect, who_waited
from async_jobs.domain.job import Job
from async_jobs.domain.lifecycle import LeaseExpired, Released, advance
from async_jobs.testing.builders import a_job, an_id
from tests.unit.domain.builders import NOW, after, claimed, handed_off

OVER = after(-1)


def lost(crashes: int, **changes: Any) -> Job:
    """Return a claimed job whose lease is over."""
    return claimed(id=an_id(), crashes=crashes, **{"lease_expires_at": OVER, **changes})


@pytest.mark.parametrize(("crashes", "expected"), [(0, False), (1, False), (2, True), (4, True)])
def test_two_crashes_make_a_suspect(crashes: int, expected: bool) -> None:
    """One may be chance; whoever was there twice is tried apart, more than once."""
    assert is_suspect(a_job(crashes=crashes)) is expected
    assert SUSPECT_CRASHES_MIN < CRASHES_MAX - 1


def test_a_suspect_beside_others_had_not_begun() -> None:
    """It begins when its worker holds no other lease. The others may have."""
    suspect, other = lost(2), lost(1)

    assert who_waited([suspect, other]) == {suspect.id}


def test_of_two_suspects_none_had_begun() -> None:
    """Each would have waited for the other."""
    suspects = [lost(2), lost(4)]

    assert who_waited(suspects) == {job.id for job in suspects}


def test_a_suspect_alone_may_have_begun() -> None:
    """So it is charged, whoever else lost a lease elsewhere, at another time, or unclaimed."""
    elsewhere = lost(0, worker_id="worker-2")
    earlier = lost(0, lease_expires_at=after(-2))
    unclaimed = handed_off(id=an_id(), lease_expires_at=OVER)

    assert who_waited([lost(2), elsewhere, earlier, unclaimed]) == set()


def test_suspects_that_nobody_claimed_are_nobodys() -> None:
    """Their hand-offs were lost."""
    waiting = [handed_off(id=an_id(), crashes=3, lease_expires_at=OVER) for _ in range(2)]

    assert who_waited(waiting) == set()


def test_who_waited_is_given_back_as_by_its_worker() -> None:
    """Charged neither a crash nor an attempt, and as due as it was."""
    job = lost(4)

    expired = advance(job, LeaseExpired(waited=True), now=NOW)

    assert expired == advance(job, Released(), now=NOW)
