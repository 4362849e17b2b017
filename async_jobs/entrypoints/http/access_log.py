"""The log of requests: who asked for what, and how that ended; never what was asked."""

from __future__ import annotations

import logging
import math
import re
from typing import Any, Final, TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from async_jobs.entrypoints.http.access import Caller
from async_jobs.ports.clock import Chance, Clock

REQUEST_ID: Final = "x-request-id"
_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_CALLER: Final = "async_jobs.caller"
_Headers: TypeAlias = list[tuple[bytes, bytes]]
REFUSED_TOLD_AGAIN_SECONDS: Final = 60.0
LEFT_OUT: Final = frozenset({"/health/live", "/health/ready", "/metrics"})
"""What probes and scrapers ask for, again and again."""


def remember(scope: Any, caller: Caller) -> None:
    """Keep who calls, for the log of the request."""
    scope[_CALLER] = caller.name


class AccessLog:
    """An ASGI application around another one: logs each request once it was answered.

    An answer has the request's id: the caller's own (`X-Request-ID`) if that is a short word, else
    a new one.

    Args:
        app: what answers.
        logger: told of requests at level info.
        clock: tells how long they took.
        chance: makes their ids.
    """

    def __init__(
        self, app: ASGIApp, *, logger: logging.Logger, clock: Clock, chance: Chance
    ) -> None:
        self._app = app
        self._logger = logger
        self._clock = clock
        self._chance = chance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and tell."""
        if scope["type"] != "http" or scope["path"] in LEFT_OUT:
            await self._app(scope, receive, send)
            return
        request_id = _id_in(scope["headers"]) or self._chance.uuid(self._clock.now()).hex
        status: int | None = None

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (REQUEST_ID.encode(), request_id.encode())
                message = {**message, "headers": [*message.get("headers", ()), own]}
            await send(message)

        began = self._clock.monotonic()
        try:
            await self._app(scope, receive, sending)
        except Exception:
            status = status or 500  # what a server answers whose application fails
            raise
        finally:
            method, route = scope["method"], scope.get("route")
            self._logger.info(
                "request",
                extra={
                    "method": method if method in _METHODS else "other",
                    # The path itself may hold anything.
                    "route": getattr(route, "path", None),
                    "status": status,
                    "seconds": round(self._clock.monotonic() - began, 6),
                    "token": scope.get(_CALLER),
                    "request_id": request_id,
                },
            )


def _id_in(headers: _Headers) -> str | None:
    for name, value in headers:
        if name == REQUEST_ID.encode() and _ID.fullmatch(value):
            return value.decode("ascii")
    return None


class RefusedTokens:
    """Tells the log of requests without a token that counts, at most once a minute."""

    def __init__(self, logger: logging.Logger, clock: Clock) -> None:
        self._logger = logger
        self._clock = clock
        self._times = 0
        self._again_at = -math.inf

    def tell(self, scope: Scope) -> None:
        """Count a refusal, and log how many there were since the last line if it is time."""
        self._times += 1
        now = self._clock.monotonic()
        if now >= self._again_at:
            self._again_at = now + REFUSED_TOLD_AGAIN_SECONDS
            route = getattr(scope.get("route"), "path", None)
            self._logger.warning("token_refused", extra={"times": self._times, "route": route})
            self._times = 0
