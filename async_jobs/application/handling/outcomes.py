"""What a handler may raise to say more than "it failed", and what each becomes."""

from __future__ import annotations

import math
from asyncio import CancelledError
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from traceback import walk_stack, walk_tb
from types import CodeType, FrameType
from typing import Final, Protocol, SupportsFloat

from async_jobs.domain import lifecycle
from async_jobs.domain.fingerprints import is_own
from async_jobs.domain.wording import ASKED_FOR_A_RETRY, UNTELLABLE

LEAVES_TOLD_MAX: Final = 3
CAUSES_TOLD_MAX: Final = 3
FRAMES_MAX: Final = 8
PLACE_CHARACTERS_MAX: Final = 300
_BETWEEN: Final = (
    str(Path(__file__).parents[1] / "working" / "attempt.py"),
    str(Path("concurrent", "futures", "thread.py")),
)
_LOOP: Final = str(Path("asyncio", "events.py"))


class HandlerOutcome(Exception):
    """The root of what handlers raise on purpose. Returned, it means the same.

    Not frozen, because whatever an exception passes through may set its traceback.
    """


@dataclass(eq=False)
class Snooze(HandlerOutcome):
    """Run me again after `seconds`; this attempt does not count.

    For work that is not ready yet. From 1 second, which less counts as, to 366 days. Once the job
    is older than `ASYNC_JOBS_SNOOZE_MAX_SECONDS`, a snooze is a failed attempt.
    """

    seconds: float

    def __post_init__(self) -> None:
        self.seconds = _seconds(self.seconds)


@dataclass(eq=False)
class Reject(HandlerOutcome):
    """Retrying is pointless: the job becomes dead now, whatever attempts it has left."""

    reason: str


@dataclass(eq=False)
class RetryAfter(HandlerOutcome):
    """This attempt failed; try again after `seconds` instead of the backoff's delay."""

    seconds: float
    reason: str = ASKED_FOR_A_RETRY

    def __post_init__(self) -> None:
        self.seconds = _seconds(self.seconds)


class Cancellation(Protocol):
    """Tells a running handler that it should stop; safe to ask from any thread."""

    def is_set(self) -> bool:
        """Return True once the handler should stop."""
        ...


class StopRequested(HandlerOutcome):
    """The handler noticed that it should stop, and did. Raised by `ctx.check_cancelled()`."""


def _seconds(seconds: object) -> float:
    """Return any real number, as a decimal or a fraction, as a float."""
    try:
        number = float(seconds) if isinstance(seconds, SupportsFloat) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= timedelta(days=366).total_seconds():
        found = repr(number) if not math.isnan(number) else f"a {type(seconds).__name__}"
        raise ValueError(f"seconds must be a number, from 0 to 366 days; it is {found}")
    return number


def event_of(error: BaseException, *, now: datetime, draw: float) -> lifecycle.JobEvent:
    """Return the event that an exception out of a handler stands for, whatever it is made of.

    Of a group, the foremost of what is in it at any depth: a `Reject`, else the longest
    `RetryAfter`, else any other exception, else the longest `Snooze`. So nothing that failed goes
    uncharged because something else was not ready.
    """
    try:
        return _event_of(error, now=now, draw=draw)
    except Exception:  # the exception's own attributes or texts are broken, or were changed
        return lifecycle.Failed(UNTELLABLE, draw=draw)


def _event_of(error: BaseException, *, now: datetime, draw: float) -> lifecycle.JobEvent:
    match _foremost(error):
        case Snooze(seconds=seconds):
            return lifecycle.Snoozed(now + timedelta(seconds=seconds))
        case Reject(reason=reason):
            return lifecycle.Rejected(_text(reason))
        case RetryAfter(seconds=seconds, reason=reason):
            delay = timedelta(seconds=seconds)
            return lifecycle.Failed(_text(reason), retry_after=delay, draw=draw)
        case _:
            return lifecycle.Failed(describe(error), draw=draw, places=places_of(error))


def is_outcome(error: BaseException) -> bool:
    """Tell whether an exception says nothing but what a handler raises on purpose."""
    return all(isinstance(each, HandlerOutcome) for each in _leaves(error))


def is_failure(error: BaseException, event: lifecycle.JobEvent | None) -> bool:
    """Tell whether an exception is one that an attempt failed by, and not by design.

    A `Reject` is: the job is dead. A `RetryAfter` is no more than a wish.
    """
    if isinstance(event, lifecycle.Rejected):
        return True
    try:
        return isinstance(event, lifecycle.Failed) and not is_outcome(error)
    except Exception:  # a group whose own parts raise
        return True


def is_stop(error: BaseException) -> bool:
    """Tell whether an exception says nothing but that a handler noticed that it should stop."""
    try:
        leaves = _leaves(error)
    except Exception:  # a group whose own parts raise says nothing of the kind
        return False
    return all(isinstance(each, StopRequested | CancelledError) for each in leaves)


def _foremost(error: BaseException) -> BaseException:
    leaves = _leaves(error)
    for each in leaves:
        if isinstance(each, Reject):
            return each
    retries = [each for each in leaves if isinstance(each, RetryAfter)]
    snoozes = [each for each in leaves if isinstance(each, Snooze)]
    if retries or len(snoozes) == len(leaves):
        return max(retries or snoozes, key=lambda each: each.seconds)
    return error


def _leaves(error: BaseException) -> list[BaseException]:
    """Return what is in a group and in the groups in it, in order; what is no group is alone."""
    leaves: list[BaseException] = []
    ahead = [error]
    while ahead:
        each = ahead.pop()
        if isinstance(each, BaseExceptionGroup):
            ahead += reversed(each.exceptions)
        else:
            leaves.append(each)
    return leaves


def describe(error: BaseException) -> str:
    """Return an error as `Type: message`, for a job's history; of a group, what is in it too."""
    name, text = type(error).__name__, _text(error)
    told = f"{name}: {text}" if text else name
    if not isinstance(error, BaseExceptionGroup):
        return told
    leaves = _leaves(error)
    more = f"; and {len(leaves) - LEAVES_TOLD_MAX} more" if len(leaves) > LEAVES_TOLD_MAX else ""
    return f"{told}: {'; '.join(map(describe, leaves[:LEAVES_TOLD_MAX]))}{more}"


def places_of(error: BaseException) -> tuple[str, ...]:
    """Return where an error came from, innermost first: files, lines and functions, no values.

    Then the same of what is in it, if it is a group, and of what caused it, each by its type.
    """
    places = _frames(error)
    for each in _leaves(error)[:LEAVES_TOLD_MAX]:
        if each is not error:
            places += _headed(f"{type(each).__name__} in the group", each)
        seen = [error, each]
        for cause in _causes(each, seen):
            places += _headed(f"caused by {type(cause).__name__}", cause)
    return tuple(place[:PLACE_CHARACTERS_MAX] for place in places)


def _causes(error: BaseException, seen: list[BaseException]) -> Iterator[BaseException]:
    """Yield what caused an error, what caused that, and so on: a few, and each once."""
    each = error
    for _ in range(CAUSES_TOLD_MAX):
        cause = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        if cause is None or any(cause is known for known in seen):
            return
        seen.append(cause)
        yield cause
        each = cause


def places_in(frame: FrameType) -> tuple[str, ...]:
    """Return where a handler is that runs in a frame of another thread: as `places_of`."""
    codes: list[tuple[CodeType, int]] = []
    for each, line in walk_stack(frame):
        # What has called the handler is ours or the event loop's, and the same for all.
        if each.f_code.co_filename.endswith((*_BETWEEN, _LOOP)):
            break
        codes.append((each.f_code, line))
    told = [*codes[: FRAMES_MAX - 1], *codes[FRAMES_MAX - 1 :][-1:]]  # with the handler's own
    return tuple(place[:PLACE_CHARACTERS_MAX] for place in map(_place, told))


def _headed(heading: str, error: BaseException) -> list[str]:
    frames = _frames(error)
    return [f"{heading}, {frames[0]}", *frames[1:]] if frames else [heading]


def _frames(error: BaseException) -> list[str]:
    codes = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__)]
    # What lies between the worker and the handler is ours, and the same for all.
    while codes and codes[0][0].co_filename.endswith(_BETWEEN):
        del codes[0]
    return [_place(each) for each in _chosen(codes[::-1])]


def _chosen(codes: list[tuple[CodeType, int]]) -> list[tuple[CodeType, int]]:
    """Return a few of the frames, innermost first.

    The innermost of all, then the application's own, and libraries' as far as there is room.
    """
    own = [i for i, (code, _) in enumerate(codes) if i and is_own(code.co_filename)]
    others = [i for i in range(1, len(codes)) if i not in own]
    kept = sorted([0, *own, *others][:FRAMES_MAX])
    return [codes[i] for i in kept if i < len(codes)]


def _place(at: tuple[CodeType, int]) -> str:
    code, line = at
    return f"{code.co_filename}:{line} in {code.co_qualname}"


def _text(value: object) -> str:
    """Return as text what a handler gave as a reason: it may be anything."""
    try:
        return str(value)
    except BaseException:  # as whatever comes out of a handler, it is no more than a failure
        return ""
