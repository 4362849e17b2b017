"""One attempt: what a handler is given, and what its end becomes."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import signal
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, model_serializer

from async_jobs.application.handling.outcomes import Reject, RetryAfter, Snooze, StopRequested
from async_jobs.application.handling.registry import JobContext
from async_jobs.application.working.attempt import StopReason
from async_jobs.domain.lifecycle import (
    Failed,
    JobEvent,
    Rejected,
    Released,
    Snoozed,
    Succeeded,
)
from async_jobs.testing.builders import later
from async_jobs.testing.clocks import NOW, ManualChance, ManualClock, let_others_run
from tests.unit.application.working.attempts import Attempts, attempt_of, claimed

tenant = contextvars.ContextVar("tenant", default="nobody")


class Letter(BaseModel):
    to: str
    copies: int = 1


# --- What a handler is given -----------------------------------------------------------------


async def test_a_handler_is_given_its_job(run: Attempts) -> None:
    """Who it is for, which attempt it is, and the payload."""
    job = claimed(payload={"n": 1}, headers={"trace": "1"})
    given: list[tuple[JobContext, Any]] = []

    async def handler(ctx: JobContext, payload: Any) -> None:
        given.append((ctx, payload))

    await run.of(handler, job)

    ((ctx, payload),) = given
    assert (ctx.job_id, ctx.tenant_id, ctx.attempt, ctx.lease_seq) == (job.id, "acme", 1, 1)
    assert (payload, ctx.headers) == ({"n": 1}, {"trace": "1"})
    assert not ctx.cancelled


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_typed_payload_is_validated_first(run: Attempts, is_async: bool) -> None:
    """The handler works with its own type."""

    async def handler(ctx: JobContext, letter: Letter) -> str:
        return letter.to * letter.copies

    def sync_handler(ctx: JobContext, letter: Letter) -> str:
        return letter.to * letter.copies

    event = await run.of(
        handler if is_async else sync_handler, claimed(payload={"to": "ab", "copies": 2})
    )

    assert event == Succeeded("abab")


async def test_a_payload_of_another_shape_is_rejected(run: Attempts) -> None:
    """No retry would change it; the field is named, its value is not."""
    ran = []

    async def handler(ctx: JobContext, letter: Letter) -> None:
        ran.append(letter)

    event = await run.of(handler, claimed(payload={"to": "a", "copies": "hunter2"}))

    assert isinstance(event, Rejected)
    assert "payload.copies" in event.error
    assert "hunter2" not in event.error
    assert ran == []


async def test_a_handler_may_do_with_its_payload_what_it_likes(run: Attempts) -> None:
    """The job keeps the one it was enqueued with, for the next attempt."""
    job = claimed(payload={"items": [1, 2, 3]})

    async def handler(ctx: JobContext, payload: Any) -> None:
        payload["items"].clear()
        raise ValueError("boom")

    await run.of(handler, job)

    assert job.payload == {"items": [1, 2, 3]}


async def test_a_sync_handler_runs_in_a_thread(run: Attempts) -> None:
    """With the context variables of its worker, and without holding up the event loop."""
    tenant.set("acme")
    seen: list[tuple[str, bool]] = []

    def handler(ctx: JobContext, payload: Any) -> None:
        seen.append((tenant.get(), threading.current_thread() is threading.main_thread()))

    await run.of(handler)

    assert seen == [("acme", False)]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_handler_leaves_no_context_behind(run: Attempts, is_async: bool) -> None:
    """What one tenant's job sets, the next job in the same slot must not see."""
    seen: list[str] = []

    async def handler(ctx: JobContext, payload: Any) -> None:
        seen.append(tenant.get())
        tenant.set(ctx.tenant_id)

    def sync_handler(ctx: JobContext, payload: Any) -> None:
        seen.append(tenant.get())
        tenant.set(ctx.tenant_id)

    for _ in range(2):
        await run.of(handler if is_async else sync_handler)

    assert seen == ["nobody", "nobody"]


# --- What its end becomes --------------------------------------------------------------------


@pytest.mark.parametrize("result", [None, True, 7, "done", {"sent": [1, 2.5, None]}])
@pytest.mark.parametrize("is_async", [True, False])
async def test_what_a_handler_returns_is_the_result(
    run: Attempts, result: Any, is_async: bool
) -> None:
    """Any JSON within the bounds."""

    async def handler(ctx: JobContext, payload: Any) -> Any:
        return result

    def sync_handler(ctx: JobContext, payload: Any) -> Any:
        return result

    assert await run.of(handler if is_async else sync_handler) == Succeeded(result)


class Colour(StrEnum):
    RED = "red"


@dataclass
class Parcel:
    weight: Decimal
    colours: tuple[Colour, ...]


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (NOW, "2030-01-01T12:00:00Z"),
        ({"at": [NOW]}, {"at": ["2030-01-01T12:00:00Z"]}),
        ({1: "one"}, {"1": "one"}),
        (("a", "tuple"), ["a", "tuple"]),
        (UUID(int=7), str(UUID(int=7))),
        (Letter(to="Ada"), {"to": "Ada", "copies": 1}),
        (Parcel(Decimal("1.50"), (Colour.RED,)), {"weight": "1.50", "colours": ["red"]}),
        (defaultdict(list, {"a": [1]}), {"a": [1]}),
        ({"only"}, ["only"]),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_result_is_converted_as_an_answer_would_be(
    run: Attempts, result: Any, kept: Any
) -> None:
    """Handlers return what endpoints return."""

    async def handler(ctx: JobContext, payload: Any) -> Any:
        return result

    assert await run.of(handler) == Succeeded(kept)


class Unwilling(BaseModel):
    @model_serializer
    def refuse(self) -> str:
        raise RuntimeError("hunter2")


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ({"a": float("nan")}, "result.a: must be a finite number"),
        ("x" * 100_000, "100002 bytes encoded; 65536 are allowed"),
        ({"k": "\ud800"}, "result.k: must not hold a lone surrogate"),
        (object(), "must be a JSON value"),
        (2**70, "must fit into 64 bits"),
        (Unwilling(), "must be a JSON value"),
        ({"a": [itertools.count()]}, "must be a JSON value, not count"),
        ([iter([1])], "not list_iterator"),
    ],
    ids=range(8),
)
async def test_a_result_that_cannot_be_kept_is_left_out(
    run: Attempts, result: Any, problem: str
) -> None:
    """The work is done: doing it again would bring the same result, so the job has succeeded."""

    async def handler(ctx: JobContext, payload: Any) -> Any:
        return result

    event = await run.of(handler)

    assert isinstance(event, Succeeded)
    assert problem in event.left_out
    assert event.result == {"result_left_out": event.left_out}
    assert "hunter2" not in event.left_out


async def test_an_awaitable_is_no_result(run: Attempts) -> None:
    """The handler forgot to say `async`: its work was never done."""
    forgotten = asyncio.get_running_loop().create_future()

    def handler(ctx: JobContext, payload: Any) -> Any:
        return forgotten

    event = await run.of(handler)

    assert isinstance(event, Rejected)
    assert "declare it async" in event.error


def generated() -> Iterator[int]:
    yield 1


async def generated_later() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("made", [generated, generated_later])
async def test_a_generator_is_no_result(run: Attempts, made: Callable[[], object]) -> None:
    """Not one line of it has run, so the work is not done."""
    event = await run.of(lambda ctx, payload: made())

    assert isinstance(event, Rejected)
    assert "returned a generator" in event.error


async def test_a_class_of_exceptions_is_no_result(run: Attempts) -> None:
    """Whoever returns it forgot the parentheses."""
    event = await run.of(lambda ctx, payload: Snooze)

    assert event == Rejected("the handler returned an exception's class: return an instance")


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("returned", "event"),
    [
        (Snooze(60), Snoozed),
        (Reject("no such customer"), Rejected),
        (RetryAfter(60), Failed),
        (ValueError("no such customer"), Failed),
    ],
    ids=repr,
)
async def test_an_exception_that_is_returned_means_what_it_means_raised(
    run: Attempts, returned: Exception, event: type, is_async: bool
) -> None:
    """Whoever returns it has not done the work."""

    async def handler(ctx: JobContext, payload: Any) -> Any:
        return returned

    found = await run.of(handler if is_async else lambda ctx, payload: returned)

    assert type(found) is event


def boom(error: BaseException) -> Callable[[JobContext, Any], None]:
    """Return a sync handler that raises."""

    def handler(ctx: JobContext, payload: Any) -> None:
        raise error

    return handler


def async_boom(error: BaseException) -> Callable[[JobContext, Any], Any]:
    """Return an async handler that raises."""

    async def handler(ctx: JobContext, payload: Any) -> None:
        await let_others_run()
        raise error

    return handler


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class Panic(BaseException):
    """What PyO3 makes of a panic: no `Exception`, and raised for bad data."""


class Speechless(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


each_kind = pytest.mark.parametrize("kind", [boom, async_boom], ids=["sync", "async"])


ENDS: list[tuple[BaseException, type[JobEvent], str]] = [
    (ValueError("boom"), Failed, "ValueError: boom"),
    (TimeoutError(), Failed, "TimeoutError"),
    (Reject("no such address"), Rejected, "no such address"),
    (RetryAfter(7, "busy"), Failed, "busy"),
    (StopRequested(), Failed, "the handler stopped unasked"),
    (asyncio.CancelledError(), Failed, "the handler cancelled itself"),
    (SystemExit(3), Failed, "SystemExit: 3"),
    (KeyboardInterrupt("mine"), Failed, "KeyboardInterrupt: mine"),
    (Panic("called `unwrap()` on `None`"), Failed, "Panic: called `unwrap()` on `None`"),
    (Speechless(), Failed, "Speechless"),
    (Wordless(), Failed, "Wordless"),
    (StopIteration("no more"), Failed, "StopIteration"),
    (ExceptionGroup("two", [OSError(), OSError()]), Failed, "ExceptionGroup: two"),
    (BaseExceptionGroup("one", [SystemExit(3)]), Failed, "BaseExceptionGroup: one"),
    (Reject(ValueError("bad")), Rejected, "bad"),  # type: ignore[arg-type]
    (RetryAfter(7, ValueError("bad")), Failed, "bad"),  # type: ignore[arg-type]
]


@each_kind
@pytest.mark.parametrize(
    ("error", "event_type", "text"),
    ENDS,
    ids=[f"{type(end[0]).__name__}-{i}" for i, end in enumerate(ENDS)],
)
async def test_whatever_a_handler_raises_is_an_outcome(
    run: Attempts,
    kind: Callable[[BaseException], Callable[..., Any]],
    error: BaseException,
    event_type: type[Failed | Rejected],
    text: str,
) -> None:
    """And none of it ends the worker."""
    async with asyncio.timeout(30):
        event = await run.of(kind(error))

    assert isinstance(event, event_type)
    assert isinstance(event.error, str)
    assert text in event.error


async def test_an_interrupt_from_outside_is_not_the_jobs(
    clock: ManualClock, threads: ThreadPoolExecutor
) -> None:
    """Ctrl-C hits whatever runs just then."""

    async def handler(ctx: JobContext, payload: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    running = attempt_of(handler).run(clock, ManualChance(), threads)
    was = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            running.send(None)  # in no task, for that would end the loop as well
    finally:
        signal.signal(signal.SIGINT, was)


@each_kind
async def test_a_failure_tells_its_places(
    run: Attempts, kind: Callable[[BaseException], Callable[..., Any]]
) -> None:
    """From where it was raised out to the handler, and nothing of the worker."""
    event = await run.of(kind(ValueError("boom")))

    assert isinstance(event, Failed)
    (place,) = event.places
    assert place.startswith(f"{__file__}:")
    assert place.endswith("<locals>.handler")


async def test_an_outcome_out_of_a_task_group_is_that_outcome(run: Attempts) -> None:
    """Task groups wrap whatever is raised in them."""

    async def handler(ctx: JobContext, payload: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(async_boom(Reject("no such address"))(ctx, payload))

    assert await run.of(handler) == Rejected("no such address")


async def test_a_stop_noticed_within_a_group_is_that_stop(run: Attempts) -> None:
    """The job is given back, uncharged."""

    def handler(ctx: JobContext, payload: Any) -> None:
        attempt.stop(StopReason.SHUTDOWN, at=0.0)
        try:
            ctx.check_cancelled()
        except StopRequested as error:
            raise ExceptionGroup("one", [error]) from None

    attempt = attempt_of(handler)

    assert await run(attempt) == Released()


@each_kind
async def test_a_snooze_counts_from_the_end_of_the_attempt(
    run: Attempts, clock: ManualClock, kind: Callable[[BaseException], Callable[..., Any]]
) -> None:
    """However long the handler took to find out that it was too early."""
    clock.advance(5)

    assert await run.of(kind(Snooze(10))) == Snoozed(later(15))


async def test_a_retry_after_names_its_own_delay(run: Attempts) -> None:
    """Instead of the backoff's."""
    event = await run.of(boom(RetryAfter(7, "busy")))

    assert isinstance(event, Failed)
    assert event.retry_after is not None
    assert event.retry_after.total_seconds() == 7


async def test_a_failure_draws_its_jitter(run: Attempts) -> None:
    """So that jobs that failed together do not come back together."""
    event = await run.of(boom(ValueError("boom")))

    assert isinstance(event, Failed)
    assert 0 < event.draw < 1


async def test_a_handler_that_cancels_its_own_task_has_failed(run: Attempts) -> None:
    """Nobody asked the attempt to stop."""

    async def handler(ctx: JobContext, payload: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await let_others_run()

    event = await run.of(handler)

    assert isinstance(event, Failed)
    assert event.error == "the handler cancelled itself"
