"""How late a lease was ended, and which time does not count."""

from __future__ import annotations

from uuid import UUID

from tests.kills.recovery import Delays, Span, delays, gaps, outage, united
from tests.kills.verdict import Expiry


def _expiry(lease_end: float, ended_at: float) -> Expiry:
    return Expiry(UUID(int=1), 1, True, lease_end, ended_at)


def test_a_delay_is_counted_while_somebody_could_work() -> None:
    """Time in which nobody could is taken out, and no other."""
    excused = united([Span(10, 20), Span(15, 25), Span(40, 50)])

    found = delays([_expiry(5, 12), _expiry(12, 13), _expiry(24, 45), _expiry(60, 62)], excused)

    assert excused == [Span(10, 25), Span(40, 50)]
    assert (found.seconds, found.excused) == ([5, 15, 2], 1)
    assert found.worst == 15


def test_the_time_without_a_scheduler_is_what_no_scheduler_served() -> None:
    """Two that overlap leave no gap between them."""
    whole = Span(0, 100)

    assert gaps([Span(10, 40), Span(30, 60), Span(70, 90)], whole) == [
        Span(0, 10),
        Span(60, 70),
        Span(90, 100),
    ]
    assert gaps([], whole) == [whole]
    assert gaps([Span(-5, 200)], whole) == []


def test_an_outage_excuses_the_pause_after_it() -> None:
    """Tries come half as rarely each time, so the pause grows with what it waits for."""
    assert outage(10, 12) == Span(10, 16)


def test_quantiles_are_those_of_the_leases_there_were() -> None:
    """Of no leases there is nothing to tell."""
    found = Delays([float(number) for number in range(100)])

    assert (found.quantile(0.5), found.quantile(0.99), found.worst) == (50, 99, 99)
    assert (Delays().quantile(0.5), Delays().worst) == (0, 0)
