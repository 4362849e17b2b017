"""Time and chance, the two things a program cannot compute."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID


class Clock(Protocol):
    """The only source of time. Everything that waits, waits through it.

    In production `now` is the database's time, so that hosts whose clocks differ agree.

    Promises:
        CK-1 `now` is aware, in UTC, and never goes back within a process.
        CK-2 `monotonic` never goes back; only differences of it mean anything.
        CK-3 `sleep` returns once `monotonic` has moved on by at least `seconds`; it can be
            cancelled, and zero or less only lets others run.
        CK-4 After `sync`, `now` can be read and trusted; while the last measurement is fresh
            it returns at once. A clock that has measured before does not fail when it cannot
            measure again: the last measurement stays in force. Given a caller's transaction,
            it measures in that one, and waits for nothing else.

    Not promised: that `now` and `monotonic` move at exactly the same rate.
    """

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some unknown point."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        ...

    async def sync(self, *, within: object | None = None) -> None:
        """Measure the time if the last measurement has grown old; call it before deciding.

        Args:
            within: an open transaction, as for `JobStore.add`: the one to measure in. A clock
                that asks no database may ignore it.
        """
        ...


class Chance(Protocol):
    """The only source of randomness.

    Promises:
        CH-1 `uniform` is within [0, 1).
        CH-2 `uuid` never repeats, is a UUIDv7 of the instant given, and within one process
            grows from call to call while the instants do not go back.
    """

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        ...

    def uuid(self, at: datetime) -> UUID:
        """Return a new UUIDv7 for the instant `at`, so that creation order is id order."""
        ...
