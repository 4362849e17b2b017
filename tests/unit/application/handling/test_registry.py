"""What may be registered as a handler, and what a handler is given.

This module postpones its annotations, as most do, so every annotation below reaches the
registry as text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from async_jobs.application.handling.outcomes import Reject
from async_jobs.application.handling.registry import (
    Handler,
    HandlerExistsError,
    JobContext,
    JobRegistry,
)
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError, InvalidJobError
from async_jobs.domain.job import JsonValue, Payload

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers

SECRET = "hunter2"


class Address(BaseModel):
    street: str
    number: int


class Greeting(BaseModel):
    """A payload with every kind of mistake to make."""

    to: str
    copies: int = 1
    when: datetime | None = None
    addresses: list[Address] = []


@dataclass
class Note:
    text: str


# --- Handlers of every shape -----------------------------------------------------------------


async def greet(ctx: JobContext, payload: Greeting) -> JsonValue:
    return payload.to


def greet_sync(ctx: JobContext, payload: Greeting) -> JsonValue:
    return payload.to


async def greet_through(mailer: str, ctx: JobContext, payload: Greeting) -> JsonValue:
    return mailer + payload.to


class Greeter:
    async def __call__(self, ctx: JobContext, payload: Greeting) -> JsonValue:
        return payload.to

    def greet(self, ctx: JobContext, payload: Greeting) -> JsonValue:
        return payload.to

    @classmethod
    async def greet_all(cls, ctx: JobContext, payload: Greeting) -> JsonValue:
        return payload.to

    @staticmethod
    def greet_once(ctx: JobContext, payload: Greeting) -> JsonValue:
        return payload.to


class SyncGreeter:
    def __call__(self, ctx: JobContext, payload: Greeting) -> JsonValue:
        return payload.to


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as most decorators do: pass on whatever the function returns."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def made_async(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a plain function so that it has to be awaited."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


SHAPES: dict[str, tuple[Callable[..., Any], bool]] = {
    "async def": (greet, True),
    "def": (greet_sync, False),
    "partial": (functools.partial(greet_through, "smtp"), True),
    "partial of a partial": (functools.partial(functools.partial(greet_through), "smtp"), True),
    "partial of def": (functools.partial(greet_sync), False),
    "callable object": (Greeter(), True),
    "callable object, sync": (SyncGreeter(), False),
    "bound method": (Greeter().greet, False),
    "class method": (Greeter.greet_all, True),
    "static method": (Greeter.greet_once, False),
    "decorated async def": (logged(greet), True),
    "decorated def": (logged(greet_sync), False),
    "def made async": (made_async(greet_sync), True),
}
each_shape = pytest.mark.parametrize(("function", "is_async"), SHAPES.values(), ids=list(SHAPES))


def registered(function: Callable[..., Any], **options: Any) -> Handler:
    """Register the function and return its handler."""
    registry = JobRegistry()
    registry.register("greet", function, **options)
    handler = registry.get("greet")
    assert handler is not None
    return handler


@each_shape
def test_a_handler_knows_whether_it_has_to_be_awaited(
    function: Callable[..., Any], is_async: bool
) -> None:
    """Whatever the shape, what has to be awaited is awaited and the rest runs in a thread."""
    assert registered(function).is_async is is_async


@each_shape
def test_a_handler_of_any_shape_gets_its_typed_payload(
    function: Callable[..., Any], is_async: bool
) -> None:
    """The annotation of the second argument is found through every wrapping."""
    assert registered(function).load({"to": "acme"}) == Greeting(to="acme")


def test_the_decorator_returns_the_function_itself() -> None:
    """A registered function can still be called and tested directly."""
    registry = JobRegistry()

    returned = registry.handler("greet", timeout_seconds=5)(greet)

    handler = registry.get("greet")
    assert returned is greet
    assert handler is not None
    assert handler.function is greet
    assert handler.timeout_seconds == 5


# --- Payloads --------------------------------------------------------------------------------


def takes_nothing_said(ctx, payload):  # type: ignore[no-untyped-def]
    return None


def takes_dict(ctx: JobContext, payload: dict[str, Any]) -> None: ...
def takes_bare_dict(ctx: JobContext, payload: dict) -> None: ...  # type: ignore[type-arg]
def takes_mapping(ctx: JobContext, payload: Mapping[str, Any]) -> None: ...
def takes_payload(ctx: JobContext, payload: Payload) -> None: ...
def takes_any(ctx: JobContext, payload: Any) -> None: ...
def takes_object(ctx: JobContext, payload: object) -> None: ...
def takes_anything(*args: Any) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        takes_nothing_said,
        takes_dict,
        takes_bare_dict,
        takes_mapping,
        takes_payload,
        takes_any,
        takes_object,
        takes_anything,
    ],
)
def test_a_plain_mapping_is_passed_as_it_is(function: Callable[..., Any]) -> None:
    """Without a type to validate against, the handler gets the JSON object itself."""
    payload: Payload = {"to": "acme", "copies": "not a number"}

    assert registered(function).load(payload) is payload


def test_json_text_becomes_the_type_that_was_asked_for() -> None:
    """JSON has no dates, so text in the usual form is taken for them."""
    loaded = registered(greet).load({"to": "acme", "when": "2030-05-17T12:00:00Z"})

    assert loaded == Greeting(to="acme", when=datetime(2030, 5, 17, 12, tzinfo=UTC))


def test_a_dataclass_is_validated_as_well() -> None:
    """Anything pydantic understands may be the payload's type."""

    def take_note(ctx: JobContext, payload: Note) -> None: ...

    handler = registered(take_note)

    assert handler.load({"text": "hi"}) == Note("hi")
    with pytest.raises(Reject, match=r"payload\.text"):
        handler.load({})


def test_annotations_that_are_not_text_work_as_well() -> None:
    """A module that does not postpone its annotations hands over the types themselves."""

    def take(ctx: JobContext, payload: Any) -> None: ...

    take.__annotations__ = {"ctx": JobContext, "payload": Greeting}

    assert registered(take).load({"to": "acme"}) == Greeting(to="acme")


def test_only_the_annotation_of_the_payload_has_to_be_resolvable() -> None:
    """Other annotations may be imported for type checkers only."""

    def take(ctx: JobContext, payload: Greeting) -> OnlyForTypeCheckers | None: ...

    assert registered(take).load({"to": "acme"}) == Greeting(to="acme")


def test_a_payload_annotation_that_cannot_be_resolved_is_refused_at_once() -> None:
    """Better at import than with the first job."""

    def take(ctx: JobContext, payload: OnlyForTypeCheckers) -> None: ...

    with pytest.raises(ConfigurationError, match=r"'greet'.*OnlyForTypeCheckers"):
        registered(take)


# --- Invalid payloads ------------------------------------------------------------------------


class Email(BaseModel):
    kind: Literal["email"]


class Letter(BaseModel):
    kind: Literal["letter"]


class Strict(BaseModel):
    """A payload for which pydantic's own messages would quote what they refuse."""

    kind: Annotated[Email | Letter, Field(discriminator="kind")] | None = None
    id: UUID | None = None


async def greet_strictly(ctx: JobContext, payload: Strict) -> None: ...


def reason(function: Callable[..., Any], payload: Payload) -> str:
    """Return why the payload is rejected."""
    with pytest.raises(Reject) as rejected:
        registered(function).load(payload)
    return rejected.value.reason


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ({}, "payload.to"),
        ({"to": 7}, "payload.to"),
        ({"to": "acme", "copies": SECRET}, "payload.copies"),
        (
            {"to": "acme", "addresses": [{"street": "Elm", "number": 1}, {"street": SECRET}]},
            "payload.addresses.1.number",
        ),
    ],
    ids=["missing", "wrong kind", "no number", "nested"],
)
def test_an_invalid_payload_is_rejected_by_path(payload: Payload, path: str) -> None:
    """The reason names the field; no retry would make the payload fit."""
    told = reason(greet, payload)

    assert told.startswith("invalid payload: ")
    assert f"{path}:" in told


@pytest.mark.parametrize(
    ("function", "payload"),
    [
        (greet, {"to": "acme", "copies": SECRET}),
        (greet, {"to": [SECRET]}),
        (greet, {"to": "acme", "when": SECRET}),
        (greet_strictly, {"kind": {"kind": SECRET}}),
        (greet_strictly, {"id": SECRET}),
    ],
    ids=["no number", "wrong kind", "no date", "unknown tag", "no uuid"],
)
def test_a_rejection_never_holds_a_value(function: Callable[..., Any], payload: Payload) -> None:
    """The reason is stored and logged, and values may be secrets."""
    assert SECRET not in reason(function, payload)


def test_only_the_first_problems_are_told() -> None:
    """A payload of a thousand mistakes gives a short reason."""
    addresses: list[JsonValue] = [{} for _ in range(1000)]

    told = reason(greet, {"to": "acme", "addresses": addresses})

    assert told.count("payload.") == 5


def test_a_rejection_hides_the_error_that_holds_the_payload() -> None:
    """Pydantic's error carries the input, so it is not chained to what gets logged."""
    with pytest.raises(Reject) as rejected:
        registered(greet).load({"to": "acme", "copies": SECRET})

    assert rejected.value.__suppress_context__
    assert rejected.value.__cause__ is None


# --- What may not be registered --------------------------------------------------------------


def takes_none() -> None: ...
def takes_one(ctx: JobContext) -> None: ...
def takes_three(ctx: JobContext, payload: Payload, more: int) -> None: ...
def takes_keywords(*, ctx: JobContext, payload: Payload) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        takes_none,
        takes_one,
        takes_three,
        takes_keywords,
        functools.partial(takes_nothing_said, None),
    ],
    ids=["none", "one", "three", "keywords only", "partial with one left"],
)
def test_a_function_of_the_wrong_arity_is_refused(function: Callable[..., Any]) -> None:
    """A handler takes the context and the payload; the error says so and names the type."""
    registry = JobRegistry()

    with pytest.raises(ConfigurationError, match=r"'greet'.*two positional arguments"):
        registry.register("greet", function)

    assert registry.types == ()


def takes_them_swapped(payload: Payload, ctx: JobContext) -> None: ...


def may_take_them_swapped(payload: Payload, ctx: JobContext | None) -> None: ...


def names_it_in_a_string(payload: Payload, ctx: "JobContext") -> None: ...  # noqa: UP037


@pytest.mark.parametrize(
    "function", [takes_them_swapped, may_take_them_swapped, names_it_in_a_string]
)
def test_a_function_that_takes_the_context_second_is_refused(function: Callable[..., Any]) -> None:
    """The error says which comes first; pydantic would say how to validate a context."""
    with pytest.raises(ConfigurationError) as refused:
        JobRegistry().register("greet", function)

    assert str(refused.value) == (
        "handler 'greet': must take the context first and the payload second; its second"
        " parameter is annotated as the JobContext"
    )


class Unfit:
    """Nothing that pydantic knows how to make."""


def takes_the_unfit(ctx: JobContext, payload: Unfit) -> None: ...


def takes_a_list_of_it(ctx: JobContext, payload: list[Unfit]) -> None: ...


@pytest.mark.parametrize("function", [takes_the_unfit, takes_a_list_of_it])
def test_a_payload_that_cannot_be_validated_is_refused(function: Callable[..., Any]) -> None:
    """With the type's name and what is allowed instead, in one line."""
    told = r"'greet'.* as \S*Unfit\]?: annotate it with a pydantic model, .*, or leave it without$"

    with pytest.raises(ConfigurationError, match=told):
        JobRegistry().register("greet", function)


def yields(ctx: JobContext, payload: Payload) -> Iterator[int]:
    yield 1


async def yields_later(ctx: JobContext, payload: Payload) -> AsyncIterator[int]:
    yield 1


class Yielding:
    def __call__(self, ctx: JobContext, payload: Payload) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    "function", [yields, yields_later, Yielding(), functools.partial(yields)], ids=range(4)
)
def test_a_generator_is_refused(function: Callable[..., Any]) -> None:
    """Calling it runs nothing. What wraps one may run it."""
    registry = JobRegistry()

    with pytest.raises(ConfigurationError, match=r"'greet'.*yield"):
        registry.register("greet", function)

    @functools.wraps(yields)
    def runs(ctx: JobContext, payload: Payload) -> int:
        return sum(yields(ctx, payload))

    registry.register("greet", runs)
    assert registry.types == ("greet",)


def test_further_arguments_may_have_defaults() -> None:
    """Only what has to be given counts."""

    def take(ctx: JobContext, payload: Greeting, punctuation: str = "!") -> None: ...

    assert registered(take).load({"to": "acme"}) == Greeting(to="acme")


def test_a_second_handler_for_a_type_is_refused() -> None:
    """The first one stays; nothing is replaced by an import that comes later."""
    registry = JobRegistry()
    registry.register("greet", greet)

    with pytest.raises(HandlerExistsError, match="'greet' has a handler already"):
        registry.register("greet", greet_sync)

    handler = registry.get("greet")
    assert handler is not None
    assert handler.function is greet
    assert issubclass(HandlerExistsError, AsyncJobsError)


def test_the_decorator_without_parentheses_is_refused() -> None:
    """It would take the function for the type, and register nothing."""
    told = 'handler greet: the decorator takes the job type: write @job_registry.handler("greet")'

    with pytest.raises(ConfigurationError, match=re.escape(told)):
        JobRegistry().handler(greet)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout_seconds", [0, -1, float("nan"), float("inf"), "5", True])
def test_a_timeout_is_above_zero(timeout_seconds: Any) -> None:
    """A handler that may not run at all, or for ever, is a mistake."""
    with pytest.raises(ConfigurationError, match="'greet': timeout_seconds must be above 0"):
        registered(greet, timeout_seconds=timeout_seconds)


@pytest.mark.parametrize("type", ["", "x" * 201, "a\nb"], ids=["empty", "long", "newline"])
def test_a_type_is_a_name(type: str) -> None:
    """No job could ever carry another one."""
    with pytest.raises(InvalidJobError, match=r"^type: "):
        JobRegistry().register(type, greet)


# --- Looking up and including ----------------------------------------------------------------


def registry_of(**handlers: Callable[..., Any]) -> JobRegistry:
    """Return a registry of these handlers."""
    registry = JobRegistry()
    for type, function in handlers.items():
        registry.register(type, function)
    return registry


def test_an_unknown_type_has_no_handler() -> None:
    """Only what is registered can ever be run."""
    assert registry_of(greet=greet).get("os.system") is None


def test_types_are_sorted() -> None:
    """The order of imports does not show."""
    assert registry_of(b=greet, c=greet, a=greet).types == ("a", "b", "c")


def test_include_adds_the_handlers_of_another_registry() -> None:
    """The same handlers, with what was looked at when they were registered."""
    registry, other = registry_of(a=greet), registry_of(b=greet_sync)

    registry.include(other)

    assert registry.types == ("a", "b")
    assert registry.get("b") is other.get("b")
    assert other.types == ("b",)


def test_including_twice_is_harmless() -> None:
    """Two modules may include the same third one."""
    registry, other = registry_of(a=greet), registry_of(b=greet)

    registry.include(other)
    registry.include(other)
    registry.include(registry)

    assert registry.types == ("a", "b")


def test_a_clash_includes_nothing() -> None:
    """All or nothing; the error names the types that clash."""
    registry = registry_of(a=greet, b=greet)
    kept = registry.get("b")

    with pytest.raises(HandlerExistsError, match=r"\['b'\]"):
        registry.include(registry_of(b=greet_sync, c=greet))

    assert registry.types == ("a", "b")
    assert registry.get("b") is kept
