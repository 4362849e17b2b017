"""JobRegistry: which function runs which type of job, and what it is given."""

from __future__ import annotations

import functools
import inspect
import math
import threading
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import ErrorDetails

from async_jobs.application.handling.outcomes import Cancellation, Reject, StopRequested
from async_jobs.domain.bounds import check_name
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError
from async_jobs.domain.job import Job, JsonValue, Payload
from async_jobs.domain.wording import INVALID_PAYLOAD

PROBLEMS_TOLD_MAX = 5
CONTEXT_NAMES = ("ctx", "context", "job_context")
# What pydantic's core calls types that no JSON object passes. What an application validates by
# functions of its own is none of them: those make of an object what they like.
NO_OBJECTS = {
    *("none", "bool", "int", "float", "decimal", "complex", "str", "bytes", "literal", "enum"),
    *("date", "time", "datetime", "timedelta", "uuid", "url", "multi-host-url"),
    *("list", "tuple", "set", "frozenset", "generator"),
}

HandlerFunction = TypeVar("HandlerFunction", bound=Callable[..., Any])
HookFunction = TypeVar("HookFunction", bound=Callable[..., Any])


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
    trace_id: str | None = None
    """The trace that this attempt is in, or else the one that the job was enqueued in."""

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
    def of(cls, job: Job, cancellation: Cancellation, trace_id: str | None = None) -> JobContext:
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
            trace_id=trace_id,
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


ErrorHook: TypeAlias = Callable[[BaseException, JobContext], object]
"""Is told of what handlers raise: the exception itself, and whose job it was."""


class JobRegistry:
    """Handlers by job type. Only what is registered here can ever be run."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._error_hooks: tuple[ErrorHook, ...] = ()

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
                other way round, annotates the payload with what pydantic cannot read or what a
                JSON object cannot be, or is a generator.
        """

        _check_is_no_function(type)

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
        if timeout_seconds is not None and not _is_time(timeout_seconds):
            raise ConfigurationError(
                f"handler {type!r}: timeout_seconds must be above 0, a finite number"
            )
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

    def on_error(self, hook: HookFunction) -> HookFunction:
        """Tell the decorated function of each exception that fails an attempt, as for Sentry.

        It gets the exception, with its traceback, and the `JobContext`. Told are what a handler
        raised or returned, a payload that does not fit (`Reject`), and a timeout (`TimeoutError`);
        not `Snooze`, `RetryAfter` and stops. Workers call it in a thread of its own, with the
        context variables of the handler's task. Whatever it does, jobs go on: what it raises is
        logged by its kind, and while it hangs, further errors are left out.

        Raises:
            ConfigurationError: it is no function, or an async one.
        """
        given: object = hook
        if not callable(given) or _is_async(given) or _is_generator(given):
            named = getattr(hook, "__qualname__", repr(hook))
            raise ConfigurationError(
                f"on_error {named}: must be a plain function of an exception and a JobContext"
            )
        self._error_hooks = (*self._error_hooks, hook)
        return hook

    @property
    def error_hooks(self) -> tuple[ErrorHook, ...]:
        """What `on_error` was given, in order."""
        return self._error_hooks

    def include(self, other: JobRegistry) -> None:
        """Register everything that `other` holds here as well, error hooks too.

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
        new = [hook for hook in other._error_hooks if hook not in self._error_hooks]
        self._error_hooks = (*self._error_hooks, *new)


def _check_is_no_function(type: object) -> None:
    """Refuse what a decorator without its parentheses gives."""
    if not isinstance(type, str):
        named = getattr(type, "__qualname__", repr(type))
        raise ConfigurationError(
            f"handler {named}: the decorator takes the job type: write"
            f' @job_registry.handler("{named}")'
        )


def _is_time(seconds: object) -> bool:
    """Tell whether something is a finite number of seconds above 0."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return False
    return 0 < seconds < math.inf


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
        for each in (_whole(outer), getattr(_whole(outer), "__call__", None))  # noqa: B004 - as below
    )


def _is_generator(function: Callable[..., Any]) -> bool:
    """Tell whether calling the function only makes a generator, and runs nothing.

    What wraps a generator function may well run it.
    """
    whole = _whole(function)
    return any(
        inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each)
        for each in (whole, getattr(whole, "__call__", None))  # noqa: B004 - as below
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
    first, second = [*signature.parameters.values(), None][:2]
    annotation = _payload_annotation(type, function, second)
    _check_order(type, function, first, second, annotation)
    origin = typing.get_origin(annotation) or annotation
    if origin in (inspect.Parameter.empty, Any, dict, Mapping, object):
        return None
    adapter = None
    # Pydantic's own words tell how to change pydantic, not the handler.
    with suppress(PydanticUserError, TypeError):
        adapter = TypeAdapter[Any](annotation)
    if adapter is None or not _passes_objects(adapter.core_schema, {}):
        raise ConfigurationError(
            f"handler {type!r}: its payload, a JSON object, cannot be read as {_shown(annotation)}:"
            " annotate it with a pydantic model, a dataclass, a TypedDict or dict, or leave it"
            " without"
        )
    return adapter


def _check_order(
    type: str,
    function: Callable[..., Any],
    first: inspect.Parameter | None,
    second: inspect.Parameter | None,
    payload_annotation: Any,
) -> None:
    """Refuse a function that takes the payload first, by what it says of its parameters."""
    why = None
    if _names_the_context(payload_annotation):
        why = "its second parameter is annotated as the JobContext"
    elif first is not None and (found := _wants_no_context(function, first)) is not None:
        why = f"its first parameter is annotated as {_shown(found)}"
    elif (
        first is not None
        and second is not None
        and payload_annotation is inspect.Parameter.empty
        and second.name in CONTEXT_NAMES
        and first.name not in CONTEXT_NAMES
    ):
        why = f"its second parameter is called {second.name}"
    if why is not None:
        raise ConfigurationError(
            f"handler {type!r}: must take the context first and the payload second; {why}"
        )


def _wants_no_context(function: Callable[..., Any], first: inspect.Parameter) -> Any:
    """Return what the first parameter is annotated as if no context is one, else None."""
    try:
        annotation = _annotation(function, first)
    except (NameError, TypeError):
        return None  # it may be imported for type checkers only
    wanted = typing.get_origin(annotation) or annotation
    if wanted in (inspect.Parameter.empty, Any, types.UnionType) or not inspect.isclass(wanted):
        return None
    is_protocol = getattr(wanted, "_is_protocol", False)
    return None if is_protocol or issubclass(JobContext, wanted) else annotation


def _passes_objects(schema: Mapping[str, Any], named: Mapping[str, Any]) -> bool:
    """Tell whether a core schema of pydantic lets any JSON object pass, as far as it shows."""
    match schema:
        case {"type": "definitions", "schema": inner, "definitions": definitions}:
            return _passes_objects(inner, {each["ref"]: each for each in definitions})
        case {"type": "definition-ref", "schema_ref": name} if name in named:
            return _passes_objects(named[name], {})
        case {"type": "nullable" | "default", "schema": inner}:
            return _passes_objects(inner, named)
        case {"type": "model", "root_model": True, "schema": inner}:
            return _passes_objects(inner, named)
        case {"type": "json-or-python", "json_schema": inner}:
            return _passes_objects(inner, named)
        case {"type": "union", "choices": choices}:
            plain = [each[0] if isinstance(each, tuple) else each for each in choices]
            return any(_passes_objects(each, named) for each in plain)
        case _:
            return schema["type"] not in NO_OBJECTS


def _names_the_context(annotation: Any) -> bool:
    return annotation is JobContext or any(map(_names_the_context, typing.get_args(annotation)))


def _shown(annotation: Any) -> str:
    is_plain = inspect.isclass(annotation) and not typing.get_args(annotation)
    return annotation.__qualname__ if is_plain else repr(annotation)


def _payload_annotation(
    type: str, function: Callable[..., Any], second: inspect.Parameter | None
) -> Any:
    """Return the annotation of the payload, which has to be resolvable."""
    if second is None:
        return inspect.Parameter.empty
    try:
        return _annotation(function, second)
    except NameError as error:
        raise ConfigurationError(
            f"handler {type!r}: the annotation of its payload cannot be resolved: {error}"
        ) from None


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the annotation of one parameter, and of no other: those may be unresolvable."""
    annotation = parameter.annotation
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
    holder = types.SimpleNamespace(__annotations__={parameter.name: annotation})
    return typing.get_type_hints(holder, globalns=scope, include_extras=True)[parameter.name]


job_registry = JobRegistry()
"""The registry that `@job_registry.handler(...)` fills when a handlers module is imported."""
