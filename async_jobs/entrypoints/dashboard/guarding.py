"""Who is calling the dashboard, by the cookie of a session; and what is refused before that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from async_jobs.domain.errors import InvalidJobError
from async_jobs.entrypoints.dashboard.sessions import SESSION_SECONDS, Sessions
from async_jobs.entrypoints.http.access import ANYBODY, Access, Caller, Forbidden, Unauthenticated
from async_jobs.entrypoints.settings.tokens import digest_of

COOKIE: Final = "async_jobs_session"
FORM_BYTES_MAX: Final = 64 * 1024
FORM_SECONDS: Final = 30.0
FIELDS_MAX: Final = 120

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""What every answer has. Nothing comes from elsewhere, nothing in a page is script or style."""


class Guard:
    """Recognises who comes with a session, and lets sessions begin and end.

    Args:
        access: knows the tokens; asked at each request, so that a session ends with its token.
        sessions: those of this process.
    """

    def __init__(self, access: Access, sessions: Sessions) -> None:
        self._access = access
        self._sessions = sessions

    @property
    def is_open(self) -> bool:
        """Whether everybody is let in, without a session."""
        return self._access.is_open

    def caller(self, request: Request) -> Caller:
        """Return who is calling.

        Raises:
            Unauthenticated: there is no session, or its token counts no more.
        """
        if self._access.is_open:
            return ANYBODY
        token = self._sessions.token_of(request.cookies.get(COOKIE, ""))
        caller = None if token is None else self._access.holder(token)
        if caller is None:
            raise Unauthenticated("sign in first")
        return caller

    def begin(self, request: Request, response: Response, token: str) -> None:
        """Begin a session of a token that counts; its id goes out with the response.

        Raises:
            Unauthenticated: the token is none that counts.
        """
        presented = token.strip().encode("utf-8", "replace")
        self._access.caller([presented])
        session_id = self._sessions.begin(digest_of(presented))
        response.set_cookie(
            COOKIE,
            session_id,
            max_age=int(SESSION_SECONDS),
            path=base_of(request) or "/",
            secure=_is_secure(request),
            httponly=True,
            samesite="strict",
        )

    def end(self, request: Request, response: Response) -> None:
        """End the session of who is calling."""
        self._sessions.end(request.cookies.get(COOKIE, ""))
        response.delete_cookie(COOKIE, path=base_of(request) or "/")


def base_of(request: Request) -> str:
    """Return the path below which the dashboard is, whoever mounted it; empty for the root."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def _is_secure(request: Request) -> bool:
    # A proxy that ends TLS says so; whoever forges that keeps only the own browser from sending it.
    told = request.headers.get("x-forwarded-proto", "").split(",")[0].strip()
    return "https" in {request.url.scheme, told}


def check_origin(request: Request) -> None:
    """Raise `Forbidden` unless a page of this dashboard sent a request that changes something.

    A browser says so by `Sec-Fetch-Site`, which pages cannot set; an older one by `Origin`.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site == "same-origin":
            return
    else:
        origin = urlsplit(request.headers.get("origin", ""))
        if origin.netloc and origin.netloc == request.headers.get("host"):
            return
    raise Forbidden("only pages of the dashboard itself may send this")


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form that was sent, the last one of each name.

    Raises:
        InvalidJobError: it is too large, too slow, or no form.
    """
    told = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if told != "application/x-www-form-urlencoded":
        raise InvalidJobError("form", "must be sent as a page of the dashboard sends it")
    body = bytearray()
    stream: AsyncIterator[bytes] = request.stream()
    try:
        async with asyncio.timeout(FORM_SECONDS):
            async for piece in stream:
                body += piece
                if len(body) > FORM_BYTES_MAX:
                    raise InvalidJobError("form", f"may have at most {FORM_BYTES_MAX} bytes")
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except TimeoutError:
        raise InvalidJobError("form", f"has to arrive within {FORM_SECONDS:g} seconds") from None
    except ValueError as error:
        if isinstance(error, InvalidJobError):
            raise
        raise InvalidJobError("form", "cannot be read") from None
    return dict(fields)
