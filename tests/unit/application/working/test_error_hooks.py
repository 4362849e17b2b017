"""Error hooks: told of what handlers raise, whatever they do themselves."""

from __future__ import annotations

import contextvars
import threading
from typing import Any

import pytest

from async_jobs.application.handling.outcomes import Reject, RetryAfter, Snooze
from async_jobs.application.handling.registry import JobContext, JobRegistry
from async_jobs.application.working.error_hooks import WAITING_MAX, ErrorHooks, ErrorThread
from async_jobs.domain.errors import ConfigurationError
from async_jobs.domain.job import JobStatus
from async_jobs.host import SystemClock
from async_jobs.testing.builders import a_request
from async_jobs.testing.system import MemorySystem, memory_system
from tests.unit.application.working.attempts import attempt_of

TAG: contextvars.ContextVar[str] = contextvars.ContextVar("TAG", default="")


def context() -> JobContext:
    """Return what a handler knows of its job."""
    return attempt_of(lambda ctx, payload: None).context()


def system_raising(error: BaseException) -> tuple[MemorySystem, JobRegistry]:
    """Return a system whose handler raises an error."""
    registry = JobRegistry()

    @registry.handler("send_email")
    async def send(ctx: JobContext, payload: Any) -> None:
        TAG.set("set by the handler")
        raise error

    return memory_system(use_cases=["notifications"], registry=registry), registry


async def test_a_hook_gets_the_error_and_whose_job_it_was() -> None:
    """The very exception, with its traceback, in the context variables of the handler."""
    error = ValueError("no such address")
    system, registry = system_raising(error)
    told: list[tuple[BaseException, JobContext, str]] = []

    @registry.on_error
    def report(error: BaseException, context: JobContext) -> None:
        told.append((error, context, TAG.get()))

    job_id = (await system.service.enqueue(a_request())).job_id
    await system.run_until_idle()

    ((raised, about, tag),) = told
    assert raised is error
    assert raised.__traceback__ is not None
    assert tag == "set by the handler"
    assert (about.job_id, about.tenant_id, about.use_case) == (job_id, "acme", "notifications")
    assert (about.type, about.attempt) == ("send_email", 1)


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        (ValueError("x"), True),
        (ExceptionGroup("several", [ValueError("x"), Snooze(5)]), True),
        (Reject("never"), True),
        (Snooze(5), False),
        (RetryAfter(5), False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_a_handler_says_on_purpose_is_no_error(error: Exception, is_told: bool) -> None:
    """But for a rejection, which ends the job."""
    system, registry = system_raising(error)
    told: list[BaseException] = []
    registry.on_error(lambda error, context: told.append(error))

    await system.service.enqueue(a_request())
    await system.run_until_idle()

    assert told == ([error] if is_told else [])


async def test_a_hook_that_raises_harms_nothing() -> None:
    """The job fails by its own error, other hooks are told, and the trouble is told once."""
    system, registry = system_raising(ValueError("x"))
    told: list[str] = []

    @registry.on_error
    def broken(error: BaseException, context: JobContext) -> None:
        raise SystemExit(str(error))

    registry.on_error(lambda error, context: told.append(context.type))
    await system.service.enqueue(a_request())
    await system.run_until_idle()

    (job,) = await system.jobs()
    assert (job.status, job.last_error) == (JobStatus.PENDING, "ValueError: x")
    assert told == ["send_email"]

    troubles: list[Exception] = []
    hooks = ErrorHooks(registry, troubles.append)
    for _ in range(3):
        hooks.tell(ValueError("secret"), context())
    assert [str(each) for each in troubles] == [
        "an error hook raised SystemExit: what handlers raise may go untold"
    ]


async def test_a_hook_that_hangs_keeps_nobody_waiting() -> None:
    """Not the worker, nor its end; what does not fit is left out, and told once."""
    registry = JobRegistry()
    release, began = threading.Event(), threading.Event()
    told: list[BaseException] = []

    @registry.on_error
    def hangs(error: BaseException, context: JobContext) -> None:
        began.set()
        release.wait()
        told.append(error)

    troubles: list[Exception] = []
    hooks = ErrorThread(registry, troubles.append)
    hooks.tell(ValueError("first"), context())
    assert began.wait(10)
    for _ in range(WAITING_MAX + 5):
        hooks.tell(ValueError("next"), context())
    await hooks.finish(SystemClock(), seconds=0)

    assert [str(each) for each in troubles] == [
        f"error hooks are slow: {WAITING_MAX} errors wait, others are left out"
    ]
    release.set()
    await hooks.finish(SystemClock(), seconds=10)
    assert len(told) == WAITING_MAX + 1


async def test_without_a_hook_there_is_no_thread() -> None:
    """What is not used costs nothing."""
    before = threading.active_count()

    ErrorThread(JobRegistry()).tell(ValueError("x"), context())

    assert threading.active_count() == before


async def test_hooks_are_included_with_the_handlers_of_a_registry() -> None:
    """Once each."""
    library, registry = JobRegistry(), JobRegistry()

    @library.on_error
    def report(error: BaseException, context: JobContext) -> None:
        pass

    registry.include(library)
    registry.include(library)

    assert registry.error_hooks == (report,)


def test_an_async_hook_is_refused() -> None:
    """Nobody would await it; nor is anything else called that is no function."""

    async def report(error: BaseException, context: JobContext) -> None:
        pass

    for hook in (report, "sentry"):
        with pytest.raises(ConfigurationError, match="must be a plain function"):
            JobRegistry().on_error(hook)  # type: ignore[type-var]
