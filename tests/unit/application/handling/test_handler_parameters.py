"""What a handler may take: the context first, and then what a JSON object can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol
from uuid import UUID

import pytest
from pydantic import BaseModel, BeforeValidator, Field, RootModel

from async_jobs.application.handling.registry import JobContext, JobRegistry
from async_jobs.domain.errors import ConfigurationError
from async_jobs.domain.job import Payload


class Greeting(BaseModel):
    to: str


class Email(BaseModel):
    kind: Literal["email"]


class Letter(BaseModel):
    kind: Literal["letter"]


@dataclass
class Note:
    text: str


def takes_the_payload_first(payload, ctx):  # type: ignore[no-untyped-def]
    return None


def takes_data_first(data, context):  # type: ignore[no-untyped-def]
    return None


def annotates_the_payload_first(message: dict[str, Any], more):  # type: ignore[no-untyped-def]
    return None


def annotates_a_model_first(greeting: Greeting, more):  # type: ignore[no-untyped-def]
    return None


def annotates_an_alias_first(message: Payload, more):  # type: ignore[no-untyped-def]
    return None


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (takes_the_payload_first, "second parameter is called ctx"),
        (takes_data_first, "second parameter is called context"),
        (annotates_the_payload_first, r"first parameter is annotated as dict\[str, .*Any\]"),
        (annotates_a_model_first, "first parameter is annotated as Greeting"),
        (annotates_an_alias_first, "first parameter is annotated as dict"),
    ],
)
def test_a_function_that_takes_the_payload_first_is_refused(
    function: Callable[..., Any], why: str
) -> None:
    """Without annotations too: it would be given the context as its payload, with every job."""
    with pytest.raises(ConfigurationError, match=rf"'greet': .* payload second; its {why}$"):
        JobRegistry().register("greet", function)


class LikeAContext(Protocol):
    """What a handler needs of the context, for its tests."""

    @property
    def tenant_id(self) -> str: ...


def takes_a_protocol(ctx: LikeAContext, payload: Payload) -> None: ...


def takes_it_or_nothing(ctx: JobContext | None, payload: Payload) -> None: ...


def takes_an_object(whatever: object, payload: Payload) -> None: ...


def calls_it_otherwise(job: JobContext, context: Greeting) -> None: ...


def names_nothing(_, __):  # type: ignore[no-untyped-def]
    return None


@pytest.mark.parametrize(
    "function",
    [takes_a_protocol, takes_it_or_nothing, takes_an_object, calls_it_otherwise, names_nothing],
)
def test_whatever_may_be_the_context_comes_first(function: Callable[..., Any]) -> None:
    """Nothing else is asked of how it is named or annotated."""
    JobRegistry().register("greet", function)


class Status(StrEnum):
    """Text."""

    NEW = "new"


class Numbers(RootModel[list[int]]):
    """A model that is no object."""


class Tree(BaseModel):
    """A model that holds itself."""

    children: dict[str, Tree] = {}


class Names(RootModel[dict[str, str]]):
    """A model that is one."""


@pytest.mark.parametrize(
    "annotation",
    [
        *(list, tuple, set, str, bytes, int, float, bool, None, datetime, UUID),
        *(list[Greeting], tuple[int, ...], Sequence[int], Iterable[str], Literal["a"], Status),
        *(str | None, list[int] | tuple[str, ...], Annotated[list[int], Field(max_length=3)]),
        *(Numbers, Numbers | None),
    ],
)
def test_a_payload_that_no_object_can_be_is_refused(annotation: Any) -> None:
    """Every one of its jobs would end dead."""

    def take(ctx: JobContext, payload: Any) -> None: ...

    take.__annotations__["payload"] = annotation

    with pytest.raises(ConfigurationError, match=r"'greet': its payload, a JSON object, cannot be"):
        JobRegistry().register("greet", take)


def items_of(value: Any) -> Any:
    """Validate as an application may: an object with a list in it becomes the list."""
    return value["items"] if isinstance(value, dict) else value


@pytest.mark.parametrize(
    "annotation",
    [
        *(Greeting | None, Greeting | list[int], Names, dict[str, int], Note, Email | Letter),
        *(Annotated[Email | Letter, Field(discriminator="kind")], Mapping[str, int]),
        *(Annotated[list[int], BeforeValidator(items_of)], Tree),
    ],
)
def test_a_payload_that_some_object_can_be_is_taken(annotation: Any) -> None:
    """Also what an application's own functions make of one."""

    def take(ctx: JobContext, payload: Any) -> None: ...

    take.__annotations__["payload"] = annotation

    JobRegistry().register("greet", take)
