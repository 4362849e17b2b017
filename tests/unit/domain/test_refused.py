"""What is kept instead of an outcome that the store refuses."""

from __future__ import annotations

import pytest

from async_jobs.domain.events import (
    Cancelled,
    Failed,
    JobEvent,
    Rejected,
    Released,
    Snoozed,
    Succeeded,
)
from async_jobs.domain.refused import instead_of, without_result
from async_jobs.testing.builders import later

NO = "CheckViolationError by theirs"
TOLD = f"its outcome was refused: {NO}"
WITHOUT = without_result(f"result: the store refuses it ({NO})")

CHAINS: dict[str, list[JobEvent]] = {
    "a success with a result": [Succeeded(1), WITHOUT, Failed(TOLD)],
    "a success without": [Succeeded(), Failed(TOLD)],
    "one whose result is left out": [without_result("too large"), Failed(TOLD)],
    "a failure": [Failed("no", draw=0.5), Failed(TOLD, draw=0.5)],
    "a rejection": [Rejected("no"), Rejected(TOLD)],
    "a snooze": [Snoozed(later(9)), Failed(TOLD)],
    "a release": [Released()],
    "a cancellation": [Cancelled()],
}


@pytest.mark.parametrize("what", CHAINS)
def test_it_is_less_each_time_and_comes_to_an_end(what: str) -> None:
    """The last one is what says that it was refused."""
    event, *expected = CHAINS[what]
    chain: list[JobEvent] = []

    instead = instead_of(event, NO)
    while instead is not None:
        chain.append(instead)
        instead = instead_of(instead, NO)

    assert chain == expected
