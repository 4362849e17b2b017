"""The line to the other side: its address, the token, timeouts and tries, for both clients."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable, Generator
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote
from uuid import UUID

import httpx

from async_jobs.adapters.http.calls import Call
from async_jobs.adapters.http.exchange import Answer, Closed, Lost, exchange
from async_jobs.adapters.http.wire import PROBLEM_MEDIA_TYPE, TOKEN_HEADER
from async_jobs.domain.errors import ConfigurationError
from async_jobs.ports.clock import Chance, Clock
from async_jobs.ports.tracing import NO_TRACING, Tracing

T = TypeVar("T")

TIMEOUT_SECONDS: Final = 30.0
TRIES: Final = 4
TIMEOUT_SECONDS_MAX: Final = 3_600.0
TRIES_MAX: Final = 10
CONNECT_TIMEOUT_SECONDS: Final = 5.0
CONNECTIONS_MAX: Final = 100
IDLE_CONNECTIONS_MAX: Final = 20
# Less than the five seconds after which uvicorn closes an idle connection: of two that hang
# up, it had better be us, or a request is sent into a connection that is being closed.
IDLE_SECONDS_MAX: Final = 3.0
REDACTED: Final = "[token]"
ANSWER_BYTES_MAX: Final = 64 * 2**20
TOO_LARGE: Final = f"the answer is larger than {ANSWER_BYTES_MAX // 2**20} MiB"
COMPRESSED: Final = "the body is compressed, although that was not asked for"
PROXY_VARIABLES: Final = frozenset({"all_proxy", "http_proxy", "https_proxy", "no_proxy"})
CERTIFICATE_VARIABLES: Final = frozenset({"ssl_cert_dir", "ssl_cert_file"})


class Line:
    """What two kinds of clients have in common, which is all but the sending and the waiting.

    Args:
        base_url: where the other side is, http or https, with or without a path.
        auth_token: what it wants to see; None sends none. Printable ASCII.
        timeout_seconds: how long a try may wait for a connection (5 s at most), to be answered,
            and for the whole body of the answer; each by itself.
        tries: how often a call is sent at most, 1-10.
        clock: dates new ids and measures timeouts.
        chance: makes new ids and spreads the tries.
        tracing: gives requests the context of the current span.

    Raises:
        ConfigurationError: an argument is unusable; the token is never shown.
    """

    def __init__(
        self,
        base_url: str,
        auth_token: str | None,
        *,
        timeout_seconds: float,
        tries: int,
        clock: Clock,
        chance: Chance,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._base_url = _checked_url(base_url)
        self._token = _checked_token(auth_token)
        self._secret = None if self._token is None else _forms(self._token)
        self._timeout_seconds = _checked_timeout(timeout_seconds)
        self._tries = _checked_tries(tries)
        self._clock = clock
        self._chance = chance
        self._tracing = tracing

    def client_options(self) -> dict[str, Any]:
        """Return the arguments that `httpx.Client` and `httpx.AsyncClient` share."""
        headers = {
            "Accept": f"application/json, {PROBLEM_MEDIA_TYPE}",
            "Accept-Encoding": "identity",  # a small body could become a large one
            "User-Agent": "async-jobs",
        }
        if self._token is not None:
            headers[TOKEN_HEADER] = self._token
        return {
            "base_url": self._base_url,
            "headers": headers,
            "timeout": httpx.Timeout(self._timeout_seconds, connect=self._connect_seconds),
            "limits": httpx.Limits(
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=IDLE_CONNECTIONS_MAX,
                keepalive_expiry=IDLE_SECONDS_MAX,
            ),
            "follow_redirects": False,  # the token goes nowhere but where it was meant to go
        }

    @property
    def try_seconds(self) -> float:
        """How long a try may take in all: no timeout of httpx ends a head that trickles in."""
        return self._connect_seconds + 2 * self._timeout_seconds

    @property
    def _connect_seconds(self) -> float:
        return min(CONNECT_TIMEOUT_SECONDS, self._timeout_seconds)

    def new_id(self) -> UUID:
        """Return an id for a job that brings none, the same in every try."""
        return self._chance.uuid(self._clock.now())

    def exchange(self, call: Call[T]) -> Generator[float, Answer | Lost | Closed, T]:
        """Return the decisions on one call; see there."""
        return exchange(
            call,
            address=str(self._base_url).rstrip("/"),
            tries=self._tries,
            draw=self._chance.uniform,
            redact=self._redact,
        )

    def request_options(self, call: Call[Any]) -> dict[str, Any]:
        """Return the arguments that `stream` of both clients of httpx shares."""
        headers = dict(self._tracing.carried())
        options: dict[str, Any] = {
            "method": call.method,
            "url": call.path,
            "params": dict(call.params),
        }
        if call.body is not None:
            headers["Content-Type"] = "application/json"
            options["content"] = call.body
        return options | {"headers": headers}

    def reading(self) -> Reading:
        """Return what gathers one answer."""
        return Reading(self._clock, self._timeout_seconds)

    def _redact(self, text: str) -> str:
        """Take our token out of a text of the other side."""
        return text if self._secret is None else self._secret.sub(REDACTED, text)


def _forms(token: str) -> re.Pattern[str]:
    """Return what finds the token as it stands, and as pages, URLs and JSON escape it."""
    forms = {token, html.escape(token), quote(token, safe=""), json.dumps(token)[1:-1]}
    return re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))


class Reading:
    """Gathers an answer as it arrives, byte by byte as it was sent: nothing is decompressed.

    httpx limits the wait for each part of a body; here the whole of it is limited. The time
    counts from its head on, so that what was heard at the last moment is not thrown away.
    """

    def __init__(self, clock: Clock, timeout_seconds: float) -> None:
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._head: httpx.Response | None = None
        self._began = 0.0
        self._body = bytearray()
        self._unread: str | None = None

    def begin(self, response: httpx.Response) -> bool:
        """Take the status and the headers; return whether the body is to be read."""
        self._head = response
        self._began = self._clock.monotonic()
        codings = response.headers.get("Content-Encoding", "").lower().split(",")
        if not {coding.strip() for coding in codings} <= {"", "identity"}:
            self._unread = COMPRESSED
        return self._unread is None

    def add(self, part: bytes) -> bool:
        """Take a part of the body; return whether more is to be read.

        Raises:
            httpx.ReadTimeout: the body takes too long.
        """
        if len(self._body) + len(part) > ANSWER_BYTES_MAX:
            self._body.clear()
            self._unread = TOO_LARGE
            return False
        self._body += part
        if self._clock.monotonic() - self._began > self._timeout_seconds:
            raise httpx.ReadTimeout("the answer took too long to arrive")
        return True

    def end(self) -> Answer:
        """Return the whole."""
        assert self._head is not None
        retry_after = self._head.headers.get("Retry-After")
        return Answer(self._head.status_code, bytes(self._body), retry_after, self._unread)


def lost(error: Exception) -> Lost:
    """Return what became of a request that ended in an error of httpx."""
    unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
    return Lost(error, sent=not isinstance(error, unsent))


def out_of_time() -> Lost:
    """Return what became of a request that took longer than a try may."""
    return Lost(httpx.ReadTimeout("the try took too long"), sent=True)


def forget_location(response: httpx.Response) -> None:
    """Make a redirect an answer like any other: httpx fails on one it cannot read."""
    response.headers.pop("Location", None)


def made(make: Callable[[], T]) -> T:
    """Return a client of httpx, which reads the environment when it is made.

    Raises:
        ConfigurationError: what it reads there is unusable; its values are not shown.
    """
    try:
        return make()
    except ImportError:
        names, why = PROXY_VARIABLES, "SOCKS proxies need httpx[socks]"
    except (httpx.InvalidURL, ValueError):
        names, why = PROXY_VARIABLES, "no proxy can be used that is written like this"
    except OSError:
        names, why = CERTIFICATE_VARIABLES, "the certificates cannot be read"
    # Raised out here: what was caught holds the values.
    found = sorted(name for name in os.environ if name.lower() in names and os.environ[name])
    raise ConfigurationError(f"{', '.join(found) or 'the settings of this system'}: {why}")


def _checked_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
        port = 1 if url.port is None else url.port
    except (httpx.InvalidURL, TypeError, ValueError):
        raise ConfigurationError("base_url: is not a URL") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigurationError("base_url: must begin with http:// or https:// and a host")
    if "%" in url.host or not 1 <= port <= 65_535:
        raise ConfigurationError("base_url: its host or port cannot be one")
    if url.userinfo or url.query or url.fragment:
        raise ConfigurationError("base_url: must have no credentials, no query and no fragment")
    return url


def _checked_token(token: object) -> str | None:
    if token is None:
        return None
    if not isinstance(token, str) or not token:
        raise ConfigurationError("auth_token: must be a string that is not empty, or None")
    if not (token.isascii() and token.isprintable()) or token != token.strip():
        raise ConfigurationError("auth_token: must be printable ASCII without spaces around it")
    return token


def _checked_timeout(seconds: object) -> float:
    if type(seconds) not in {int, float}:
        raise ConfigurationError("timeout_seconds: must be a number")
    if not 0 < cast("float", seconds) <= TIMEOUT_SECONDS_MAX:  # which no NaN is
        raise ConfigurationError(f"timeout_seconds: must be above 0, up to {TIMEOUT_SECONDS_MAX}")
    return float(cast("float", seconds))


def _checked_tries(tries: int) -> int:
    if type(tries) is not int or not 1 <= tries <= TRIES_MAX:
        raise ConfigurationError(f"tries: must be an integer from 1 to {TRIES_MAX}")
    return tries
