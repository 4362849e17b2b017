"""Statements that take long, by their names; never their arguments."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from asyncpg.connection import LoggedQuery

from async_jobs.ports.clock import Clock

TOLD_AGAIN_SECONDS: Final = 10.0
UNNAMED: Final = "unnamed"
_NAMED: Final = re.compile(r"\s*/\*(\w+)\*/")
_OF_TRANSACTIONS: Final = re.compile(r"\s*(BEGIN|COMMIT|ROLLBACK)\b")

Tell = Callable[[str, float, int], None]
"""Told the name of a statement, the longest time it took, and how often it was slow."""


def name_of(statement: str) -> str:
    """Return what a statement is called: by its file in `sql/`, or what it does to a transaction.

    All else is `unnamed`: its text may hold what somebody stored.
    """
    found = _NAMED.match(statement) or _OF_TRANSACTIONS.match(statement)
    return found[1] if found else UNNAMED


class SlowStatements:
    """Hears of every statement of a connection, and tells of the slow ones.

    Of each one that is slow again and again it tells every ten seconds at most.

    Args:
        seconds: what is slow.
        tell: is told.
        clock: tells when it is time to tell again.
    """

    def __init__(self, seconds: float, tell: Tell, *, clock: Clock) -> None:
        self._seconds = seconds
        self._tell = tell
        self._clock = clock
        self._again_at: dict[str, float] = {}
        self._untold: dict[str, tuple[float, int]] = {}

    def __call__(self, query: LoggedQuery) -> None:
        """Take note of a statement that has ended, well or not."""
        if query.elapsed < self._seconds:
            return
        name, now = name_of(query.query), self._clock.monotonic()
        longest, times = self._untold.get(name, (0.0, 0))
        longest, times = max(longest, query.elapsed), times + 1
        if now < self._again_at.get(name, now):
            self._untold[name] = longest, times
            return
        self._untold.pop(name, None)
        self._again_at[name] = now + TOLD_AGAIN_SECONDS
        self._tell(name, longest, times)
