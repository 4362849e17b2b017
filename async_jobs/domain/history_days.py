"""Which days of a history there has to be room for, and which are forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

DAYS_AHEAD: Final = 2
"""Room is made for so many days after today: for so long housekeeping may fail unnoticed."""


class Part(NamedTuple):
    """A part of the history, forgotten as a whole.

    Attributes:
        name: what the adapter calls it.
        day: whose records it has; None for the part that has what no other has room for.
        size: how many bytes it takes.
        oldest, newest: the first and the last day that it has records of; None without any. Of a
            part for a day it is that day.
    """

    name: str
    day: date | None
    size: int
    oldest: date | None
    newest: date | None


def today(now: datetime) -> date:
    """Return the day of an instant, in UTC."""
    return now.astimezone(UTC).date()


def to_make(parts: Sequence[Part], now: datetime) -> list[date]:
    """Return the days that need a part of their own, none of which has begun.

    What ends today, if there is no room for it, is on its way to the common part already. Nor those
    of which that part has records, by a clock that was wrong: they stay where they are.
    """
    there = {part.day for part in parts}
    days = [today(now) + timedelta(days=n + 1) for n in range(DAYS_AHEAD)]
    return [day for day in days if day not in there and not _is_taken(day, parts)]


def _is_taken(day: date, parts: Sequence[Part]) -> bool:
    return any(
        part.day is None and part.oldest and part.newest and part.oldest <= day <= part.newest
        for part in parts
    )


def to_drop(parts: Sequence[Part], now: datetime, *, days: int, bytes_max: int) -> list[Part]:
    """Return the parts that are forgotten, oldest first.

    Args:
        parts: all there are.
        now: the instant that decides.
        days: how many days before today are kept.
        bytes_max: how many bytes are kept; never less than today and what lies after it.
    """
    first_kept = today(now) - timedelta(days=days)
    past = sorted(
        (part.newest, part.name, part) for part in parts if part.newest and part.newest < today(now)
    )
    left = sum(part.size for part in parts)
    dropped = []
    for newest, _, part in past:
        if newest < first_kept or left > bytes_max:
            dropped.append(part)
            left -= part.size
    return dropped
