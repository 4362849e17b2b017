"""Deliberate bugs as edits of the source: a piece of a function's text, and what stands instead.

The edited text is compiled and takes the place of the function's code, so that whoever imported
the function runs it too. The text must be there exactly once: a bug that lost its place says so.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeAlias, cast
from unittest import mock

from async_jobs.domain.job import Phase
from async_jobs.domain.lifecycle import TRANSITIONS, EventType


@dataclass(frozen=True)
class Edit:
    """In the source of `function`, `what` becomes `instead`."""

    function: Callable[..., Any] | property
    what: str
    instead: str


@dataclass(frozen=True)
class Swap:
    """A name of a module stands for something else."""

    module: ModuleType
    name: str
    instead: object


@dataclass(frozen=True)
class Entry:
    """A table has one more entry."""

    table: Mapping[Any, Any]
    key: object
    value: object


Change: TypeAlias = Edit | Swap | Entry


@dataclass(frozen=True)
class Bug:
    """A deliberate bug.

    Attributes:
        name: what it is called in tests and tables.
        what: the bug in one sentence.
        breaks: the promise: S1-S19 and L1-L6 of the design of trust, or a port's own number.
        changes: the small patch.
    """

    name: str
    what: str
    breaks: str
    changes: tuple[Change, ...]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Let the bug be there for the length of the block."""
        sources: dict[FunctionType, str] = {}
        with ExitStack() as stack:
            for change in self.changes:
                match change:
                    case Edit(function, what, instead):
                        edited = plain(function)
                        source = sources.get(edited) or inspect.getsource(edited)
                        places = source.count(what)
                        assert places == 1, f"{edited.__qualname__} has {places} times {what!r}"
                        sources[edited] = source.replace(what, instead)
                    case Swap(module, name, value):
                        stack.enter_context(mock.patch.object(module, name, value))
                    case Entry(table, key, value):
                        changeable = cast("MutableMapping[Any, Any]", table)
                        stack.enter_context(mock.patch.dict(changeable, {key: value}))
            for edited, source in sources.items():
                stack.enter_context(_running(edited, _compiled(edited, source)))
            yield


def bug(name: str, what: str, *changes: Change, breaks: str) -> Bug:
    """Return a bug; the changes are its patch."""
    return Bug(name, what, breaks, changes)


def transition(phase: Phase, event: EventType, *, like: Phase) -> Entry:
    """Return the entry by which an event happens in a phase as it does in another one."""
    return Entry(TRANSITIONS, (phase, event), TRANSITIONS[like, event])


def transitions(event: EventType, **changes: Any) -> Iterator[Entry]:
    """Yield the entries by which an event has other rows, in every phase where it may happen."""
    for key, row in TRANSITIONS.items():
        if key[1] is event:
            yield Entry(TRANSITIONS, key, row._replace(**changes))


def plain(function: Callable[..., Any] | property) -> FunctionType:
    """Return the function itself, without its decorators."""
    found = function.fget if isinstance(function, property) else function
    assert found is not None
    found = inspect.unwrap(found)
    assert isinstance(found, FunctionType)
    return found


def _compiled(function: FunctionType, source: str) -> CodeType:
    """Return the code of a function that has another source."""
    tree = ast.parse(textwrap.dedent(source))
    (definition,) = tree.body
    assert isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef)
    definition.decorator_list = []
    # What the function names, it finds in its own module; the copy keeps that one as it is.
    names = dict(vars(sys.modules[function.__module__]))
    flags = __future__.annotations.compiler_flag
    exec(compile(tree, inspect.getfile(function), "exec", flags), names)
    edited = names[function.__name__]
    assert isinstance(edited, FunctionType)
    return edited.__code__


@contextmanager
def _running(function: FunctionType, code: CodeType) -> Iterator[None]:
    """Let a function run other code for the length of the block."""
    original = function.__code__
    function.__code__ = code
    try:
        yield
    finally:
        function.__code__ = original
