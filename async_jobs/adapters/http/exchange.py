"""One call, decided without any I/O: pause, send, send again, return or raise.

    exchange ── yields the seconds to pause before it sends ──▶ client
             ◀── is sent the Answer, or that it was Lost ──────

Both clients drive this one generator, so that they cannot come to different decisions.

    heard                                       what follows
    never sent (no connection)                  another try
    sent, no answer; 502, 503, 504              another try, if the call is repeatable
    429 without a quota problem                 another try: it was turned away at the door
    200, 201                                    the answer, or RemoteHttpError if unreadable
    401, 403                                    AuthTokenError
    a problem document with an error of ours    that error
    anything else, redirects among it           RemoteHttpError
    the last try failed                         Unavailable
    the client was closed before the try        ConfigurationError
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple, TypeVar

from async_jobs.adapters.http.calls import Call
from async_jobs.adapters.http.wire import error_of
from async_jobs.domain.backoff import BackoffPolicy
from async_jobs.domain.errors import (
    AsyncJobsError,
    AuthTokenError,
    ConfigurationError,
    RemoteHttpError,
    Unavailable,
)

T = TypeVar("T")

BACKOFF: Final = BackoffPolicy(base_delay_seconds=0.2, max_delay_seconds=5.0, jitter=0.5)
RETRY_AFTER_SECONDS_MAX: Final = 30.0
EXCERPT_CHARACTERS_MAX: Final = 200
EXCERPT_BYTES_READ: Final = 64 * 1024
TURNED_AWAY: Final = 429
PASSING: Final = frozenset({TURNED_AWAY, 502, 503, 504})
DOUBT: Final = "; whether it took effect is unknown"
# What reading something else than a document of ours can raise, however odd it is.
UNREADABLE: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError)


class Answer(NamedTuple):
    """What came back.

    Attributes:
        status, retry_after: the status, and the header of that name.
        body: empty if it was not read.
        unread: why it was not read, in words of ours.
    """

    status: int
    body: bytes
    retry_after: str | None = None
    unread: str | None = None


class Lost(NamedTuple):
    """Nothing came back, or not all; unless it was `sent`, the other side knows nothing of it."""

    error: Exception
    sent: bool


class Closed(NamedTuple):
    """Nothing was sent, and nothing ever will be: the client is closed."""


def exchange(
    call: Call[T],
    *,
    address: str,
    tries: int,
    draw: Callable[[], float],
    redact: Callable[[str], str],
) -> Generator[float, Answer | Lost | Closed, T]:
    """Yield how many seconds to pause before each try; return what the call returns.

    Args:
        call: what is sent at each try.
        address: where it is sent, without the call's own path; told in errors.
        tries: how often at most, the first one included.
        draw: returns a number in [0, 1), which spreads the tries of many clients.
        redact: takes out of a text of the other side what must not appear in errors.

    Raises:
        AsyncJobsError: see the table above.
    """
    pause_seconds, in_doubt = 0.0, False
    for attempt in itertools.count(1):
        heard = yield pause_seconds
        if isinstance(heard, Closed):
            raise ConfigurationError(f"the client is closed{DOUBT if in_doubt else ''}")
        cause = _passing(call, heard, redact)
        if cause is None:
            assert isinstance(heard, Answer)
            return _concluded(call, heard, redact)
        in_doubt |= call.writes and _may_have_taken_effect(heard)
        if attempt == tries or (in_doubt and not call.repeatable):
            why = redact(str(cause)) or type(cause).__name__
            place = f"{call.method} {address}/{call.path}"
            raise Unavailable(_last_words(place, why, attempt, in_doubt)) from cause
        pause_seconds = BACKOFF.delay(attempt, draw()).total_seconds() + _told_to_wait(heard)
    raise AssertionError("unreachable: the last try returns or raises")


def _passing(call: Call[T], heard: Answer | Lost, redact: Callable[[str], str]) -> Exception | None:
    """Return what is wrong if it may be gone at the next try; None if there is no need of one."""
    if isinstance(heard, Lost):
        return heard.error
    if heard.status not in PASSING:
        return None
    error = _error(call, heard, redact)
    if error is None:
        return RemoteHttpError(heard.status, _words(heard, redact))
    return error if isinstance(error, Unavailable) else None


def _may_have_taken_effect(heard: Answer | Lost) -> bool:
    return heard.sent if isinstance(heard, Lost) else heard.status != TURNED_AWAY


def _told_to_wait(heard: Answer | Lost) -> float:
    """Return the seconds of a Retry-After, up to 30; dates and nonsense count as none."""
    told = heard.retry_after if isinstance(heard, Answer) else None
    if told is None or not (told.isascii() and told.isdigit()):
        return 0.0
    return min(float(told), RETRY_AFTER_SECONDS_MAX)


def _last_words(place: str, why: str, tries: int, in_doubt: bool) -> str:
    often = "one try" if tries == 1 else f"{tries} tries"
    return f"{place} failed after {often}: {why}{DOUBT if in_doubt else ''}"


def _concluded(call: Call[T], answer: Answer, redact: Callable[[str], str]) -> T:
    words = _words(answer, redact)
    if answer.status in {200, 201} and answer.unread is None:
        try:
            return call.decode(json.loads(answer.body))
        except (*UNREADABLE, ValueError) as unreadable:
            kind = type(unreadable).__name__
        words = f"the body is not an answer of this interface ({kind})"
    # Nothing is raised where something was caught: the body would go along as the context.
    error = _error(call, answer, redact)
    if answer.status in {401, 403} and not isinstance(error, AuthTokenError):
        error = AuthTokenError(f"the remote side refused the token ({answer.status})")
    if error is not None:
        raise error
    is_done = answer.status < 300 or (answer.unread is not None and answer.status >= 500)
    doubt = "; the call may have taken effect" if call.writes and is_done else ""
    raise RemoteHttpError(answer.status, words + doubt)


def _error(call: Call[T], answer: Answer, redact: Callable[[str], str]) -> AsyncJobsError | None:
    """Return the error of ours that an answer tells of, if it does."""
    if answer.status < 400:
        return None
    try:
        document = json.loads(answer.body)
        return error_of(_redacted(call, document, redact)) if isinstance(document, dict) else None
    except (*UNREADABLE, ValueError):
        return None


def _redacted(
    call: Call[T], document: dict[str, Any], redact: Callable[[str], str]
) -> dict[str, Any]:
    """Return a problem document that does not repeat what must not be seen.

    Its type is shown to nobody, and an id that the call itself names is no secret: both are left
    as they are, because a short token may be a part of them.
    """
    clean = {name: _clean(value, redact) for name, value in document.items()}
    for name in ("job_id", "id"):
        own = document.get(name)
        if isinstance(own, str) and own in call.path:
            clean[name] = own
    return clean | {"type": document.get("type")}


def _clean(value: Any, redact: Callable[[str], str]) -> Any:
    match value:
        case str():
            return redact(value)
        case list():
            return [_clean(each, redact) for each in value]
        case dict():
            return {redact(name): _clean(each, redact) for name, each in value.items()}
    return value


def _words(answer: Answer, redact: Callable[[str], str]) -> str:
    """Return what an error says of an answer; of a good status never the body: it holds jobs."""
    if answer.unread is not None:
        return answer.unread
    if answer.status < 300:
        return "the interface has no answer of this status"
    text = redact(answer.body[:EXCERPT_BYTES_READ].decode(errors="replace"))
    printable = "".join(each if each.isprintable() else " " for each in text)
    return " ".join(printable.split())[:EXCERPT_CHARACTERS_MAX]
