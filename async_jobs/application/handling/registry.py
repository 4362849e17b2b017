"""JobRegistry: which function runs which type of job, and what it is given."""

from __future__ import annotations

import functools
import inspect
import threading
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import ErrorDetails

from async_jobs.application.handling.outcomes import Reject, StopRequested
from async_jobs.domain.bounds import check_name
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError
from async_jobs.domain.job import Job, JsonValue, Payload
from async_jobs.domain.wording import INVALID_PAYLOAD

PROBLEMS_TOLD_MAX = 5

HandlerFunction = TypeVar("HandlerFunction", bound=Callable[..., Any])


class Cancellation(Protocol):
    """Tells a running handler that it should stop; safe to ask from any thread."""

    def is_set(self) -> bool:
        """Return True once the handler should stop."""
        ...


@dataclass(frozen=True, kw_only=True)
class JobContext:
    """What a handler knows of its job.

    A job may be executed more than once, wholly or in part: after a crash it runs again. Hand
    `idempotency_key` to systems that can drop repetitions.
    """

    job_id: UUID
    tenant_id: str
    use_case: str
    type: str
    attempt: int
    max_attempts: int
    lease_seq: int
    run_at: datetime
    deadline_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict)
    cancellation: Cancellation = field(default_factory=threading.Event, repr=False)

    @property
    def idempotency_key(self) -> str:
        """The job's: the same for all its attempts, and after an operator's retry."""
        return str(self.job_id)

    @property
    def execution_key(self) -> str:
        """Names this attempt on this lease; any other has another. To tell executions apart."""
        return f"{self.job_id}:{self.attempt}:{self.lease_seq}"

    @property
    def cancelled(self) -> bool:
        """True once the handler should stop; async handlers are cancelled besides."""
        return self.cancellation.is_set()

    def check_cancelled(self) -> None:
        """Raise `StopRequested` once the handler should stop: the way out for sync handlers."""
        if self.cancelled:
            raise StopRequested("the handler was asked to stop")

    @classmethod
    def of(cls, job: Job, cancellation: Cancellation) -> JobContext:
        """Return the context of a claimed job."""
        context = object.__new__(cls)
        # Quicker than a frozen class's constructor, and every job needs one.
        context.__dict__.update(
            job_id=job.id,
            tenant_id=job.tenant_id,
            use_case=job.use_case,
            type=job.type,
            attempt=job.attempts,
            max_attempts=job.max_attempts,
            lease_seq=job.lease_seq,
            run_at=job.run_at,
            deadline_at=job.deadline_at,
            headers=job.headers,
            cancellation=cancellation,
        )
        return context


running_job: ContextVar[JobContext | None] = ContextVar("running_job", default=None)
"""Whose handler runs in this context: for lines of a log, for example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A registered function, looked at once.

    Attributes:
        function: called with the context and the payload.
        is_async: awaited when True, else run in a thread.
        timeout_seconds: the longest run of one attempt; None takes the worker's setting.
        payload_type: validates the payload first; None passes the JSON object as it is.
    """

    type: str
    function: Callable[[JobContext, Any], Awaitable[JsonValue] | JsonValue]
    is_async: bool
    timeout_seconds: float | None = None
    payload_type: TypeAdapter[Any] | None = None

    def load(self, payload: Payload) -> Any:
        """Return the payload as the function wants it.

        Raises:
            Reject: the payload does not fit; no retry would change that. The reason names
                fields and problems, never values.
        """
        if self.payload_type is None:
            return payload
        try:
            return self.payload_type.validate_python(payload)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            told = "; ".join(_told(problem) for problem in problems[:PROBLEMS_TOLD_MAX])
            raise Reject(f"{INVALID_PAYLOAD}: {told}") from None


class HandlerExistsError(AsyncJobsError):
    """Two functions were registered for one type."""


class JobRegistry:
    """Handlers by job type. Only what is registered here can ever be run."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def handler(
        self, type: str, *, timeout_seconds: float | None = None
    ) -> Callable[[HandlerFunction], HandlerFunction]:
        """Register the decorated function for jobs of `type`.

        The function takes a `JobContext` and the payload. When the payload parameter is
        annotated with anything but a plain mapping, pydantic validates the payload into it
        first. An `async def` is awaited, a plain `def` runs in a thread. What it returns
        becomes the job's result: JSON of at most 64 KiB, None, or what pydantic makes JSON of.
        A result that cannot be kept is left out, which is told; the job has succeeded.

        Raises:
            HandlerExistsError: `type` has a handler already.
            ConfigurationError: the function does not take two positional arguments, takes them the
                other way round, annotates the payload with what pydantic cannot read, or is a
                generator.
        """

        def register(function: HandlerFunction) -> HandlerFunction:
            self.register(type, function, timeout_seconds=timeout_seconds)
            return function

        return register

    def register(
        self, type: str, function: Callable[..., Any], *, timeout_seconds: float | None = None
    ) -> None:
        """Register `function` for jobs of `type`; see `handler`."""
        check_name("type", type)
        if type in self._handlers:
            raise HandlerExistsError(f"the job type {type!r} has a handler already")
        if timeout_seconds is not None and not timeout_seconds > 0:
            raise ConfigurationError(f"handler {type!r}: timeout_seconds must be above 0")
        if _is_generator(function):
            raise ConfigurationError(
                f"handler {type!r}: must return its result; with `yield` in it, it would never run"
            )
        self._handlers[type] = Handler(
            type=type,
            function=function,
            is_async=_is_async(function),
            timeout_seconds=timeout_seconds,
            payload_type=_payload_type(type, function),
        )

    def get(self, type: str) -> Handler | None:
        """Return the handler of a type, or None."""
        return self._handlers.get(type)

    @property
    def types(self) -> tuple[str, ...]:
        """The registered types, sorted."""
        return tuple(sorted(self._handlers))

    def include(self, other: JobRegistry) -> None:
        """Register everything that `other` holds here as well.

        Raises:
            HandlerExistsError: a type has another handler here; nothing was registered then.
        """
        clashes = [
            type
            for type, handler in other._handlers.items()
            if self._handlers.get(type, handler) is not handler
        ]
        if clashes:
            raise HandlerExistsError(f"these job types have handlers already: {clashes}")
        self._handlers.update(other._handlers)


def _told(problem: ErrorDetails) -> str:
    """Return where a payload is wrong and how, without the value."""
    path = "".join(f".{part}" for part in problem["loc"])
    message = problem["msg"]
    if problem["type"] == "union_tag_invalid":  # pydantic's text quotes the tag it found
        message = f"the tag must be one of {problem.get('ctx', {}).get('expected_tags')}"
    return f"payload{path}: {message}"


def _is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling the function gives something to await: by itself, or because it
    hands on what a function that it wraps returns."""
    return any(
        inspect.iscoroutinefunction(each)
        for outer in (function, inspect.unwrap(_whole(function)))
        for each in (_whole(outer), getattr(_whole(outer), "__call__", None))  # noqa: B004
    )


def _is_generator(function: Callable[..., Any]) -> bool:
    """Tell whether calling the function only makes a generator, and runs nothing.

    What wraps a generator function may well run it.
    """
    whole = _whole(function)
    return any(
        inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each)
        for each in (whole, getattr(whole, "__call__", None))  # noqa: B004
    )


def _whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a partial is a part of."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _payload_type(type: str, function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    try:
        signature = inspect.signature(function)
        signature.bind(object(), object())
    except TypeError:
        raise ConfigurationError(
            f"handler {type!r}: must take two positional arguments, the context and the payload"
        ) from None
    annotation = _payload_annotation(type, function, signature)
    if _names_the_context(annotation):
        raise ConfigurationError(
            f"handler {type!r}: must take the context first and the payload second; its second"
            " parameter is annotated as the JobContext"
        )
    origin = typing.get_origin(annotation) or annotation
    if origin in (inspect.Parameter.empty, Any, dict, Mapping, object):
        return None
    try:
        return TypeAdapter(annotation)
    except (PydanticUserError, TypeError):
        # Pydantic's own words tell how to change pydantic, not the handler.
        raise ConfigurationError(
            f"handler {type!r}: its payload cannot be read as {_shown(annotation)}: annotate it"
            " with a pydantic model, a dataclass, a TypedDict or dict, or leave it without"
        ) from None


def _names_the_context(annotation: Any) -> bool:
    return annotation is JobContext or any(map(_names_the_context, typing.get_args(annotation)))


def _shown(annotation: Any) -> str:
    return annotation.__qualname__ if inspect.isclass(annotation) else repr(annotation)


def _payload_annotation(
    type: str, function: Callable[..., Any], signature: inspect.Signature
) -> Any:
    """Return the annotation of the second parameter, and of no other: those may be unresolvable,
    because they are imported for type checkers only."""
    parameters = list(signature.parameters.values())
    if len(parameters) < 2:
        return inspect.Parameter.empty
    annotation = parameters[1].annotation
    if not isinstance(annotation, str):
        return annotation
    inner = _whole(inspect.unwrap(function))
    scope = getattr(inner, "__globals__", None) or getattr(
        getattr(inner, "__call__", None),  # noqa: B004 - callable objects are annotated there
        "__globals__",
        {},
    )
    if scope.get(annotation) is Payload:
        return dict  # an alias whose own parts the handler's module need not import
    holder = types.SimpleNamespace(__annotations__={"payload": annotation})
    try:
        return typing.get_type_hints(holder, globalns=scope, include_extras=True)["payload"]
    except NameError as error:
        raise ConfigurationError(
            f"handler {type!r}: the annotation of its payload cannot be resolved: {error}"
        ) from None


job_registry = JobRegistry()
"""The registry that `@job_registry.handler(...)` fills when a handlers module is imported."""
