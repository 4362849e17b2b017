"""The HTTP clients as applications make them: an address, a token, everything else chosen.

They are wired here and not in the container, so that an application that only enqueues loads
neither a database driver nor what the scheduler and the workers need.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import httpx

from async_jobs.adapters.http import blocking, client
from async_jobs.adapters.http.line import TIMEOUT_SECONDS, TRIES
from async_jobs.adapters.system import SystemChance, SystemClock
from async_jobs.ports.clock import Chance, Clock


class AsyncJobsHttpClient(client.AsyncJobsHttpClient):
    """Enqueue jobs over HTTP, look at them, cancel and retry them; see docs/http-client.md.

    Args:
        base_url: where the API is, e.g. `http://jobs.internal` or `https://gateway/jobs-api`.
        auth_token: what its `ASYNC_JOBS_ENQUEUE_AUTH_TOKEN` holds.
        timeout_seconds: how long a try may wait for a connection (5 s at most), to be answered,
            and for the whole body of the answer; each by itself. No try takes longer than
            the three together.
        tries: how often a call is sent at most, 1-10.
        transport: in tests `httpx.ASGITransport(app)`; by default the network.
        clock: by default this host's.
        chance: by default the operating system's entropy.

    Raises:
        ConfigurationError: an argument or the environment's proxies are unusable.
    """

    def __init__(
        self,
        base_url: str,
        auth_token: str | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        tries: int = TRIES,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
        chance: Chance | None = None,
    ) -> None:
        super().__init__(
            base_url,
            auth_token,
            timeout_seconds=timeout_seconds,
            tries=tries,
            transport=transport,
            clock=clock or SystemClock(),
            chance=chance or SystemChance(),
        )


class JobsHttpClient(blocking.JobsHttpClient):
    """The same for programs without an event loop; may be shared by threads.

    Args:
        base_url, auth_token, tries, clock, chance: as above.
        timeout_seconds: as above, but until the head of an answer has arrived, each read and
            write has that time for itself.
        transport: in tests `httpx.MockTransport` or the like; by default the network.
        pause: blocks its thread for so many seconds, between two tries.
    """

    def __init__(
        self,
        base_url: str,
        auth_token: str | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        tries: int = TRIES,
        transport: httpx.BaseTransport | None = None,
        clock: Clock | None = None,
        chance: Chance | None = None,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        super().__init__(
            base_url,
            auth_token,
            timeout_seconds=timeout_seconds,
            tries=tries,
            transport=transport,
            clock=clock or SystemClock(),
            chance=chance or SystemChance(),
            pause=pause or threading.Event().wait,
        )
