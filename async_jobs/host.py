"""The only real clock, randomness and ids of the package; everything else is handed them."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from struct import iter_unpack
from uuid import UUID


class SystemClock:
    """Implements `Clock` by this host's clocks.

    Good for one host; where several hosts share a database, use the database's clock.
    """

    def __init__(self) -> None:
        # Counting on from one reading keeps `now` from going back when the host's clock is set.
        self._started_at = datetime.now(UTC)
        self._started_monotonic = time.monotonic()

    def now(self) -> datetime:
        """See `Clock`."""
        return self._started_at + timedelta(seconds=self.monotonic() - self._started_monotonic)

    def monotonic(self) -> float:
        """See `Clock`."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        await asyncio.sleep(max(0.0, seconds))

    async def sync(self, *, within: object | None = None) -> None:
        """See `Clock`. The host keeps its own clock right."""


class _Entropy:
    """Random bits from the operating system, for many draws at once: each call to it is dear."""

    _DRAWS = 512

    def __init__(self) -> None:
        self._drawn: Iterator[tuple[int, ...]] = iter(())
        # A child that went on with its parent's bits would give the same ids as the parent.
        if hasattr(os, "register_at_fork"):  # nothing forks on Windows
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._drawn = iter(())

    def bits(self) -> int:
        """Return 74 bits that nobody else gets, in any thread or process."""
        drawn = next(self._drawn, None)
        if drawn is None:
            self._drawn = iter_unpack(">QH", os.urandom(10 * self._DRAWS))
            drawn = next(self._drawn)
        return drawn[0] << 10 | drawn[1] >> 6


_entropy = _Entropy()


class SystemChance:
    """Implements `Chance` by the operating system's entropy; safe to share between threads."""

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._lock = threading.Lock()
        self._last = 0

    def uniform(self) -> float:
        """See `Chance`."""
        return self._random.random()

    def uuid(self, at: datetime) -> UUID:
        """See `Chance`."""
        milliseconds = int(at.timestamp() * 1000)
        with self._lock:
            drawn = _entropy.bits()
            fresh = _payload_bits(milliseconds, drawn)
            # RFC 9562, 6.2, method 2: within a millisecond (or when time goes back) count on.
            self._last = max(fresh, self._last + 1 + (drawn & 0xFFFF))
            return _with_version(self._last)


def _payload_bits(milliseconds: int, chance: int) -> int:
    """Return 122 payload bits of a UUIDv7: 48 bits of milliseconds above 74 bits of chance."""
    return (milliseconds & (2**48 - 1)) << 74 | chance & (2**74 - 1)


def _with_version(bits: int) -> UUID:
    milliseconds, high, low = bits >> 74, (bits >> 62) & 0xFFF, bits & (2**62 - 1)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
