"""The judge can be wrong in one way only: by letting something pass. Here nothing passes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from async_jobs.domain.lifecycle import (
    Cancelled,
    CancelRequested,
    Claimed,
    Failed,
    HandOffFailed,
    Leased,
    LeaseExpired,
    Released,
    Renewed,
    Retried,
)
from tests.simulation.forged import FORGED, Court


def test_nothing_is_wrong_with_a_life_as_it_should_be() -> None:
    """Every kind of step, each by whom it may be taken."""
    court = Court()
    court.ended()
    job = court.happens(court.executed(), Failed("x"), court.worker)
    court.seconds = 100
    job = court.happens(job, Leased(court.until()), court.scheduler)
    court.seconds = 130
    job = court.happens(job, LeaseExpired(), court.scheduler)
    job = court.happens(job, Leased(court.until()), court.scheduler)
    job = court.happens(job, HandOffFailed("x"), court.scheduler)
    job = court.happens(job, Leased(court.until()), court.scheduler)
    job = court.happens(job, Claimed("w", court.until()), court.other)
    job = court.happens(job, Renewed(court.until(60)), court.other)
    job = court.happens(job, Released(), court.other)
    job = court.happens(job, Leased(court.until()), court.scheduler)
    job = court.happens(job, Claimed("w", court.until()), court.other)
    job = court.happens(job, CancelRequested(), court.api)
    job = court.happens(job, Cancelled(), court.other)
    job = court.happens(job, Retried(), court.api)
    job = court.happens(job, Cancelled(), court.api)
    court.judge.acknowledged(job.id, "acme")
    court.seconds = 300
    court.judge.forgotten(job.id, court.scheduler, committed=True)
    court.judge.conclude()

    assert not court.broken


@pytest.mark.parametrize(("deed", "rule"), FORGED)
def test_what_is_wrong_is_seen(deed: Callable[[Court], None], rule: str) -> None:
    """And called by the rule that was broken."""
    court = Court()

    deed(court)

    assert rule in [violation.rule for violation in court.broken]


def test_who_stood_still_is_excused() -> None:
    """S9 is promised as long as workers can obey."""
    court = Court()
    job = court.claimed()
    court.begins(job, court.worker)
    court.seconds = court.worker.stood_at = 40

    court.happens(job, LeaseExpired(), court.scheduler)

    assert not court.broken
