"""What a handler may raise to say more than "it failed", and what each becomes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from async_jobs.domain import lifecycle


class HandlerOutcome(Exception):
    """The root of what handlers raise on purpose.

    Not frozen, because whatever an exception passes through may set its traceback.
    """


@dataclass(eq=False)
class Snooze(HandlerOutcome):
    """Run me again after `seconds`; this attempt does not count.

    For work that is not ready yet. At most 366 days.
    """

    seconds: float

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)


@dataclass(eq=False)
class Reject(HandlerOutcome):
    """Retrying is pointless: the job becomes dead now, whatever attempts it has left."""

    reason: str


@dataclass(eq=False)
class RetryAfter(HandlerOutcome):
    """This attempt failed; try again after `seconds` instead of the backoff's delay."""

    seconds: float
    reason: str = "the handler asked for a retry"

    def __post_init__(self) -> None:
        _check_seconds(self.seconds)


class StopRequested(HandlerOutcome):
    """The handler noticed that it should stop, and did. Raised by `ctx.check_cancelled()`."""


def _check_seconds(seconds: float) -> None:
    if not 0 <= seconds <= timedelta(days=366).total_seconds():
        raise ValueError("seconds must be from 0 to 366 days")


def event_of(error: BaseException, *, now: datetime, draw: float) -> lifecycle.JobEvent:
    """Return the event that an exception out of a handler stands for."""
    match error:
        case Snooze(seconds=seconds):
            return lifecycle.Snoozed(now + timedelta(seconds=seconds))
        case Reject(reason=reason):
            return lifecycle.Rejected(_text(reason))
        case RetryAfter(seconds=seconds, reason=reason):
            delay = timedelta(seconds=seconds)
            return lifecycle.Failed(_text(reason), retry_after=delay, draw=draw)
        case _:
            return lifecycle.Failed(describe(error), draw=draw)


def describe(error: BaseException) -> str:
    """Return an error as `Type: message`, for a job's history."""
    name, text = type(error).__name__, _text(error)
    return f"{name}: {text}" if text else name


def _text(value: object) -> str:
    """Return as text what a handler gave as a reason: it may be anything."""
    try:
        return str(value)
    except Exception:
        return ""
