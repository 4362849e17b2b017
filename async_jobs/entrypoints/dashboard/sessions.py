"""Sessions: who signed in by which token, for how long that counts, and who guesses too often."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from ipaddress import IPv6Address
from typing import Final, NamedTuple

from async_jobs.entrypoints.settings.tokens import digest_of
from async_jobs.ports.clock import Clock

SESSION_SECONDS: Final = 12 * 3_600.0
SESSIONS_MAX: Final = 1_000
"""The oldest one ends for a newer one."""
FAILURES_MAX: Final = 10
"""So many wrong tokens an address may present within `FAILURES_SECONDS`."""
FAILURES_SECONDS: Final = 60.0
ADDRESSES_MAX: Final = 10_000


class _Session(NamedTuple):
    token: bytes
    ends_at: float


class Sessions:
    """What stands behind the cookies of this process: digests of tokens, by digests of ids.

    A session is as good as the entry of its token: who asks has to look that up at each request.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: OrderedDict[bytes, _Session] = OrderedDict()

    def begin(self, token: bytes) -> str:
        """Begin a session of the token with this digest; returns its secret id."""
        session_id = secrets.token_urlsafe(32)
        now = self._clock.monotonic()
        while self._open and (
            len(self._open) >= SESSIONS_MAX or next(iter(self._open.values())).ends_at <= now
        ):
            self._open.popitem(last=False)
        self._open[digest_of(session_id.encode())] = _Session(token, now + SESSION_SECONDS)
        return session_id

    def token_of(self, session_id: str) -> bytes | None:
        """Return the digest of the token that a session was begun with; None if there is none."""
        found = self._open.get(digest_of(session_id.encode("utf-8", "replace")))
        if found is None or found.ends_at <= self._clock.monotonic():
            return None
        return found.token

    def end(self, session_id: str) -> None:
        """End a session, if there is such a one."""
        self._open.pop(digest_of(session_id.encode("utf-8", "replace")), None)


class Failures:
    """Counts wrong tokens by address, so that nobody can try many.

    The addresses of one network of IPv6 count as one: whoever has any of them has all.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_address: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_seconds(self, address: str) -> float:
        """Return how long an address has to wait before it may try; zero if it need not."""
        since, times = self._by_address.get(_network_of(address), (0.0, 0))
        left = since + FAILURES_SECONDS - self._clock.monotonic()
        return max(0.0, left) if times >= FAILURES_MAX else 0.0

    def add(self, address: str) -> None:
        """Count a wrong token."""
        now, address = self._clock.monotonic(), _network_of(address)
        since, times = self._by_address.pop(address, (now, 0))
        if since + FAILURES_SECONDS <= now:
            since, times = now, 0
        self._by_address[address] = since, times + 1
        if len(self._by_address) > ADDRESSES_MAX:
            self._by_address.popitem(last=False)


def _network_of(address: str) -> str:
    try:
        known = IPv6Address(address)
    except ValueError:
        return address
    if known.ipv4_mapped is not None:  # of a socket that listens for both
        return str(known.ipv4_mapped)
    return str(IPv6Address(int(known) >> 64 << 64))
