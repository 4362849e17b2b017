"""What an exception out of a handler becomes."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from async_jobs.application.handling.outcomes import (
    FRAMES_MAX,
    HandlerOutcome,
    Reject,
    RetryAfter,
    Snooze,
    describe,
    event_of,
    is_stop,
    places_in,
    places_of,
)
from async_jobs.domain.lifecycle import Failed, JobEvent, Rejected, Snoozed
from async_jobs.domain.wording import UNTELLABLE

NOW = datetime(2030, 5, 17, 12, 0, tzinfo=UTC)
YEAR_SECONDS = 366 * 24 * 3600


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (Snooze(90), Snoozed(NOW + timedelta(seconds=90))),
        (Reject("no such address"), Rejected("no such address")),
        (
            RetryAfter(7, "busy"),
            Failed("busy", retry_after=timedelta(seconds=7), draw=0.25),
        ),
        (ValueError("boom"), Failed("ValueError: boom", draw=0.25)),
        (TimeoutError(), Failed("TimeoutError", draw=0.25)),
    ],
    ids=["Snooze", "Reject", "RetryAfter", "an error", "an error without text"],
)
def test_each_exception_has_its_event(error: Exception, event: JobEvent) -> None:
    """What handlers raise on purpose says what follows; anything else is a failed attempt."""
    assert event_of(error, now=NOW, draw=0.25) == event


def test_a_subclass_of_an_outcome_is_that_outcome() -> None:
    """Applications may name their own reasons to give up."""

    class NoSuchAddress(Reject):
        pass

    assert event_of(NoSuchAddress("bounced"), now=NOW, draw=0.0) == Rejected("bounced")


def nested(*errors: Exception) -> ExceptionGroup[Exception]:
    """Return a group of these, two levels down, as task groups within each other raise them."""
    return ExceptionGroup("outer", [ExceptionGroup("inner", [each]) for each in errors])


@pytest.mark.parametrize(
    ("errors", "event"),
    [
        ([Reject("never")], Rejected("never")),
        ([Snooze(90)], Snoozed(NOW + timedelta(seconds=90))),
        ([RetryAfter(7, "busy")], Failed("busy", retry_after=timedelta(seconds=7), draw=0.25)),
        ([Snooze(5), KeyError(), RetryAfter(7), Reject("never")], Rejected("never")),
        (
            [Snooze(5), KeyError(), RetryAfter(7, "a"), RetryAfter(9, "b"), RetryAfter(8, "c")],
            Failed("b", retry_after=timedelta(seconds=9), draw=0.25),
        ),
        ([Snooze(5), Snooze(90), Snooze(7)], Snoozed(NOW + timedelta(seconds=90))),
    ],
    ids=["Reject", "Snooze", "RetryAfter", "Reject first", "then RetryAfter", "the longest"],
)
def test_an_outcome_in_a_group_is_that_outcome(
    errors: Sequence[Exception], event: JobEvent
) -> None:
    """At any depth; of several the foremost."""
    assert event_of(nested(*errors), now=NOW, draw=0.25) == event


def test_a_failure_beside_a_snooze_is_charged() -> None:
    """Else a job that always fails in one part and waits in another would never end."""
    event = event_of(nested(Snooze(5), KeyError("x")), now=NOW, draw=0.25)

    assert isinstance(event, Failed)
    assert "KeyError: 'x'" in event.error


# --- places_of -------------------------------------------------------------------------------


def fail_within(secret: str) -> None:
    raise KeyError(secret)


def fail_because(secret: str) -> None:
    try:
        fail_within(secret)
    except KeyError as error:
        raise ValueError(secret) from error


def raised(function: Callable[[str], None]) -> Exception:
    """Return what a function raises when it is given a secret."""
    try:
        function("hunter2")
    except Exception as error:
        return error
    raise AssertionError("it did not raise")


def test_places_tell_file_line_and_function() -> None:
    """Innermost first, then those of the cause; and never a value."""
    places = places_of(raised(fail_because))

    line = fail_because.__code__.co_firstlineno
    assert places[0] == f"{__file__}:{line + 4} in fail_because"
    assert places[1].endswith(" in raised")
    within = fail_within.__code__.co_firstlineno + 1
    assert places[2] == f"caused by KeyError, {__file__}:{within} in fail_within"
    assert "hunter2" not in "".join(places)


def test_the_places_of_a_group_are_those_of_what_is_in_it() -> None:
    """The group itself was raised by somebody else's code."""
    (place, *_) = places_of(ExceptionGroup("one", [raised(fail_within)]))

    assert place.startswith(f"KeyError in the group, {__file__}:")


def test_places_are_few() -> None:
    """However deep an error was, and whatever caused it."""

    def dive(secret: str, depth: int = 200) -> None:
        if depth:
            dive(secret, depth - 1)
        raise ValueError(secret)

    places = places_of(ExceptionGroup("many", [raised(dive) for _ in range(50)]))

    assert len(places) == 3 * FRAMES_MAX


def test_the_places_in_a_thread_are_where_it_is_just_now() -> None:
    """Innermost first, few of them, and the outermost among them; what called it is not."""

    def dive(depth: int) -> tuple[str, ...]:
        return dive(depth - 1) if depth else places_in(sys._getframe())

    def handle() -> tuple[str, ...]:
        return dive(200)

    # As the event loop calls what a task does.
    loop = asyncio.new_event_loop()
    told: list[tuple[str, ...]] = []
    handle_of_loop = asyncio.Handle(lambda: told.append(handle()), (), loop, None)
    handle_of_loop._run()
    loop.close()

    ((*_, within, outermost),) = told
    assert len(told[0]) == FRAMES_MAX
    assert within.endswith(".dive")
    assert outermost.endswith(".<lambda>")


def test_a_retry_without_a_reason_says_that_it_was_asked_for() -> None:
    """The history is never empty."""
    event = event_of(RetryAfter(7), now=NOW, draw=0.0)

    assert isinstance(event, Failed)
    assert event.error == "the handler asked for a retry"


@pytest.mark.parametrize("seconds", [0, 0.5, YEAR_SECONDS])
@pytest.mark.parametrize("outcome", [Snooze, RetryAfter])
def test_a_wait_from_nothing_to_366_days_is_allowed(
    outcome: type[Snooze | RetryAfter], seconds: float
) -> None:
    """Both ends are inside the bound."""
    assert outcome(seconds).seconds == seconds


@pytest.mark.parametrize(
    "seconds", [-0.001, YEAR_SECONDS + 1, float("nan"), float("inf"), float("-inf")]
)
@pytest.mark.parametrize("outcome", [Snooze, RetryAfter])
def test_any_other_wait_is_refused_where_it_is_made(
    outcome: type[Snooze | RetryAfter], seconds: float
) -> None:
    """The handler's own line raises, so that the mistake is found there."""
    with pytest.raises(ValueError, match="seconds must be a number, from 0 to 366 days"):
        outcome(seconds)


def test_every_outcome_has_one_root() -> None:
    """A handler that catches `HandlerOutcome` to re-raise it catches them all."""
    assert {Snooze, Reject, RetryAfter} <= set(HandlerOutcome.__subclasses__())


# --- Outcomes are exceptions like any other --------------------------------------------------


@pytest.mark.parametrize("seconds", [Decimal("1.5"), Fraction(3, 2), 1.5, True], ids=repr)
def test_any_number_of_seconds_is_a_delay(seconds: Any) -> None:
    """Whatever library it comes from."""
    assert event_of(Snooze(seconds), now=NOW, draw=0.5) == Snoozed(
        NOW + timedelta(seconds=float(seconds))
    )
    assert isinstance(event_of(RetryAfter(seconds), now=NOW, draw=0.5), Failed)


@pytest.mark.parametrize("seconds", ["60", "busy", timedelta(minutes=5), None, 1j], ids=repr)
def test_what_is_no_number_of_seconds_is_refused_where_it_is_made(seconds: Any) -> None:
    """So that the handler's own error says where."""
    with pytest.raises(ValueError, match="seconds must be a number, from 0 to 366 days"):
        Snooze(seconds)


class Hostile(Exception):
    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise RuntimeError("no cause")


class Groupless(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> tuple[Exception, ...]:
        raise RuntimeError("no exceptions")


def changed() -> Snooze:
    """Return an outcome that was sound when it was made."""
    snooze = Snooze(60)
    snooze.seconds = float("nan")
    return snooze


@pytest.mark.parametrize(
    "error",
    [changed(), Hostile("x"), Groupless("x", [ValueError()])],
    ids=lambda e: type(e).__name__,
)
def test_an_exception_that_cannot_be_told_is_a_failure(error: Exception) -> None:
    """It is the job's, not the worker's, also while the handler is being stopped."""
    assert event_of(error, now=NOW, draw=0.5) == Failed(UNTELLABLE, draw=0.5)
    assert not is_stop(error)


OUTCOMES = [Snooze(90), Reject("never"), RetryAfter(7, "busy")]
each_outcome = pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda each: type(each).__name__)


@contextmanager
def transaction() -> Iterator[None]:
    """Stand for any context manager that a handler works in."""
    yield


@each_outcome
def test_an_outcome_passes_through_context_managers(outcome: HandlerOutcome) -> None:
    """`contextlib` sets the traceback of what passes, so an outcome has to let it."""
    with pytest.raises(type(outcome)) as caught, transaction():
        raise outcome

    assert caught.value is outcome


@each_outcome
def test_an_outcome_can_be_raised_from_another_error(outcome: HandlerOutcome) -> None:
    """The cause stays with it for the logs."""
    cause = OSError("the mail server is gone")

    with pytest.raises(type(outcome)) as caught:
        raise outcome from cause

    assert caught.value.__cause__ is cause


@each_outcome
def test_an_outcome_can_be_hashed(outcome: HandlerOutcome) -> None:
    """Tools that follow a chain of exceptions keep those they have seen in a set."""
    assert {outcome} == {outcome}


# --- describe --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("boom"), "ValueError: boom"),
        (ValueError(), "ValueError"),
        (KeyError("name"), "KeyError: 'name'"),
        (
            ExceptionGroup("two", [OSError("a"), ExceptionGroup("in", [KeyError("b")])]),
            "ExceptionGroup: two (2 sub-exceptions): OSError: a; KeyError: 'b'",
        ),
        (
            ExceptionGroup("many", [OSError() for _ in range(9)]),
            "ExceptionGroup: many (9 sub-exceptions): OSError; OSError; OSError; and 6 more",
        ),
        (SystemExit(3), "SystemExit: 3"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_an_error_is_described_by_type_and_message(error: BaseException, text: str) -> None:
    """The history shows what a traceback ends with."""
    assert describe(error) == text


def test_an_error_that_cannot_be_printed_is_described_by_its_type() -> None:
    """A broken `__str__` must not cost the outcome of the attempt."""
    assert "Unprintable" in describe(Unprintable())


def test_own_places_have_the_first_claim_on_room() -> None:
    """However deep a library raised: the innermost of all, the application's own, then others."""

    def within_library(depth: int) -> None:
        if depth:
            within_library(depth - 1)
        raise ValueError("hunter2")

    library = within_library.__code__.replace(
        co_filename="/venv/lib/python3.12/site-packages/library.py"
    )
    within_library.__code__ = library

    places = places_of(raised(lambda secret: within_library(50)))

    assert len(places) == FRAMES_MAX
    assert places[0].startswith("/venv/lib/python3.12/site-packages/library.py:")
    assert places[-1].endswith(" in raised")
    assert [place.startswith(__file__) for place in places].count(True) == 2


def test_causes_of_causes_are_told() -> None:
    """A few, each once, even where they go round in a circle."""
    errors = [ValueError(str(n)) for n in range(6)]
    for error, cause in zip(errors, [*errors[1:], errors[0]], strict=True):
        error.__cause__ = cause

    assert places_of(errors[0]) == ("caused by ValueError",) * 3

    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__cause__ = other, one
    assert places_of(one) == ("caused by KeyError",)
