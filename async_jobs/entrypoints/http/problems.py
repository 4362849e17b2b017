"""Problem documents (RFC 9457): what every error of the API looks like."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from async_jobs.adapters.http.wire import PROBLEM_MEDIA_TYPE, Problem, problem_of
from async_jobs.domain.errors import AsyncJobsError, MigrationDue, TenantBusy
from async_jobs.entrypoints.http.access import Forbidden, Unauthenticated
from async_jobs.entrypoints.http.bodies import InvalidFields
from async_jobs.entrypoints.http.reading import (
    BODY,
    BodyTooLarge,
    BodyTooSlow,
    UnsupportedMediaType,
)
from async_jobs.ports.clock import Clock

RETRY_AFTER_SECONDS: Final = 1
CHALLENGE: Final = "APIKey"
"""A 401 has to name a scheme; there is no registered one for a token in a header of its own."""
HANG_UP: Final = {"Connection": "close"}
"""For those who may go on sending a body that nobody reads: servers would take it in for ever."""
FRAMES_MAX: Final = 8
TITLES: Final[Mapping[Problem, str]] = {
    Problem.INVALID_JOB: "Something in the request breaks a bound",
    Problem.QUOTA_EXCEEDED: "The tenant has no room for what was asked",
    Problem.JOB_NOT_FOUND: "There is no such job",
    Problem.CONTROL_NOT_FOUND: "There is no such control or operation",
    Problem.BULK_NOT_FOUND: "There is no such action over many jobs",
    Problem.CONTROL_CHANGED: "What stands is not what was expected",
    Problem.ILLEGAL_TRANSITION: "The job's state forbids it",
    Problem.STORE_REFUSED: "A rule of the database forbids it",
    Problem.UNAUTHENTICATED: "A valid token is required",
    Problem.FORBIDDEN: "The token may not be used for this",
    Problem.BODY_TOO_SLOW: "The body took too long to arrive",
    Problem.BODY_TOO_LARGE: "The body is too large",
    Problem.UNSUPPORTED_MEDIA_TYPE: "The body must be JSON",
    Problem.UNAVAILABLE: "A component did not answer",
    Problem.NO_SUCH_ROUTE: "There is nothing here",
    Problem.METHOD_NOT_ALLOWED: "The route has no such method",
    Problem.INTERNAL_ERROR: "Something went wrong on this side",
}
# What these errors say of themselves may tell of hosts and statements.
UNAVAILABLE: Final = (
    "a component did not answer; whether a write took effect is unknown, and repeating a call"
    " that carries an id is harmless"
)
REFUSED: Final = (
    "a constraint or a trigger on the jobs, or a value that the database cannot hold: nothing was"
    " written, and repeating the call does not help"
)
MIGRATION_DUE: Final = (
    "the database's tables are missing or older than this version; run: async-jobs migrate"
)
MIGRATION_TOLD_AGAIN_SECONDS: Final = 3_600.0
INTERNAL: Final = "the error was logged"
_ABOUT_BLANK: Final = "about:blank"
_PHRASES: Final = {each.value: each.phrase for each in HTTPStatus}


def problem(
    status: int,
    type: Problem,
    detail: str,
    members: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return a response that is a problem document."""
    told = {"type": type, "title": TITLES[type], "status": status, "detail": detail}
    return JSONResponse(
        told | dict(members or {}), status, dict(headers or {}), media_type=PROBLEM_MEDIA_TYPE
    )


class MigrationNotice:
    """Tells the log that a migration is due, once and then hourly.

    Every request meets it, and clients repeat what is answered by 503.
    """

    def __init__(self, logger: logging.Logger, clock: Clock) -> None:
        self._logger = logger
        self._clock = clock
        self._again_at = -math.inf

    def tell(self, error: MigrationDue) -> None:
        """Log it, unless that was done less than an hour ago."""
        now = self._clock.monotonic()
        if now >= self._again_at:
            self._again_at = now + MIGRATION_TOLD_AGAIN_SECONDS
            self._logger.error("migration_due", extra={"problem": str(error)})


def answer_to(error: Exception, logger: logging.Logger) -> JSONResponse:
    """Return the problem document of any error; what nobody foresaw is logged."""
    match error:
        case Unauthenticated():
            headers = {"WWW-Authenticate": CHALLENGE, **HANG_UP}
            return problem(401, Problem.UNAUTHENTICATED, str(error), headers=headers)
        case Forbidden():
            return problem(403, Problem.FORBIDDEN, str(error), headers=HANG_UP)
        case BodyTooSlow():
            return problem(408, Problem.BODY_TOO_SLOW, str(error), headers=HANG_UP)
        case BodyTooLarge():
            return problem(413, Problem.BODY_TOO_LARGE, str(error))
        case MigrationDue():
            again = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            return problem(503, Problem.UNAVAILABLE, MIGRATION_DUE, headers=again)
        case UnsupportedMediaType():
            return problem(415, Problem.UNSUPPORTED_MEDIA_TYPE, str(error))
        case AsyncJobsError() if (known := problem_of(error)) is not None:
            return _of_jobs(error, *known)
        case HTTPException():
            return _of_http(error)
        case ClientDisconnect():
            return problem(422, Problem.INVALID_JOB, "the body ended early", _told(BODY, "is cut"))
    # The error itself may quote a payload or a statement: only its kind and places are logged.
    logger.error("api_failed", extra={"problem": type(error).__name__, "at": place_of(error)})
    return problem(500, Problem.INTERNAL_ERROR, INTERNAL)


def _of_jobs(
    error: AsyncJobsError, status: int, type: Problem, members: dict[str, Any]
) -> JSONResponse:
    detail = str(error)
    headers = {}
    if type is Problem.UNAVAILABLE:
        # What a busy tenant is told names its own tenants, and says that nothing was written.
        detail = str(error) if isinstance(error, TenantBusy) else UNAVAILABLE
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    if type is Problem.STORE_REFUSED:
        detail = f"{members['refusal']}: {REFUSED}"
    if isinstance(error, InvalidFields):
        members |= {"errors": [_told(each.field, each.problem) for each in error.errors]}
    return problem(status, type, detail, members, headers)


def _told(field: str, problem: str) -> dict[str, str]:
    return {"field": field, "problem": problem}


def _of_http(error: HTTPException) -> JSONResponse:
    """Return the problem of an error by its status; these are raised by frameworks and hosts."""
    known = {404: Problem.NO_SUCH_ROUTE, 405: Problem.METHOD_NOT_ALLOWED}
    phrase = _PHRASES.get(error.status_code, "Error")
    type = known.get(error.status_code) if error.detail == phrase else None
    if type is not None:
        return problem(error.status_code, type, TITLES[type].lower(), headers=error.headers)
    told = {"type": _ABOUT_BLANK, "title": phrase, "status": error.status_code}
    return JSONResponse(
        told | {"detail": str(error.detail)},
        error.status_code,
        dict(error.headers or {}),
        media_type=PROBLEM_MEDIA_TYPE,
    )


def place_of(error: BaseException) -> list[str]:
    """Return the innermost places an error came through, as `file:line`."""
    frames = traceback.walk_tb(error.__traceback__)
    places = [f"{frame.f_code.co_filename}:{line}" for frame, line in frames]
    return places[-FRAMES_MAX:]
