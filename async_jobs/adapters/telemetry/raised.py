"""What a handler raised, as an exception that log integrations understand and that holds no value.

The exception itself never gets here: its text may quote a payload, and its frames hold one. Facts
have its type and its places, of which one is made that looks the same from outside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from traceback import walk_tb
from types import CodeType, FrameType, TracebackType
from typing import Final

from async_jobs.domain.wording import TIMED_OUT

_PLACE: Final = re.compile(r"(?P<file>.+):(?P<line>\d+) in (?P<function>.+)")
_CAUSE: Final = re.compile(r"caused by (?P<type>\w+)(?:, (?P<place>.+))?")
_GROUP: Final = re.compile(r"\w+ in the group\b")
_BARE_KIND: Final = re.compile(r"[A-Za-z_]\w{0,79}")
_RAISING: Final = compile("raise error", "<handler>", "exec")
KINDS_MAX: Final = 1_000


class HandlerRaised(Exception):
    """Stands for what a handler raised: a subclass of the same name, without its text."""

    def __str__(self) -> str:
        return "see the job"


def kind_of(error: str) -> str | None:
    """Return the type that an error of `Type: text` begins with; None if it does not."""
    kind = error.partition(": ")[0]
    return kind if _BARE_KIND.fullmatch(kind) else None


def kind_raised(error: str) -> str:
    """Return the name of what was raised, of an error that has places."""
    return kind_of(error) or ("TimeoutError" if error.startswith(TIMED_OUT) else "HandlerRaised")


def raised(kind: str, places: Sequence[str]) -> HandlerRaised:
    """Return an exception of a name that seems to come from some places, and from its causes.

    Args:
        kind: the name of its type.
        places: as `JobFailed.places`: innermost first, then those of causes and of a group.
    """
    error = first = _class(kind)()
    own: list[str] = []
    for place in places:
        cause = _CAUSE.fullmatch(place)
        if cause is None and _GROUP.match(place) is None:
            own.append(place)
            continue
        error.__traceback__ = _through(own)
        own = []
        if cause is None:
            return first  # a group's members are in the places, and no causes of it
        error.__cause__ = _class(cause["type"])()
        error = error.__cause__
        own = [cause["place"]] if cause["place"] else []
    error.__traceback__ = _through(own)
    return first


@lru_cache(KINDS_MAX)
def _class(kind: str) -> type[HandlerRaised]:
    return type(kind, (HandlerRaised,), {"__module__": "builtins"})


def _through(places: Sequence[str]) -> TracebackType | None:
    """Return a traceback through places, innermost first, whose frames have no locals."""
    trace: TracebackType | None = None
    for found in map(_PLACE.fullmatch, places):
        if found is not None:
            line = int(found["line"])
            code = _RAISING.replace(
                co_filename=found["file"],
                co_firstlineno=line,
                co_name=found["function"].rpartition(".")[2],
                co_qualname=found["function"],
            )
            # Without the place within the line, which would be that of our own code.
            trace = TracebackType(trace, _frame(code), -1, line)
    return trace


def _frame(code: CodeType) -> FrameType:
    try:
        exec(code, {"error": HandlerRaised()}, {})
    except HandlerRaised as error:
        return [frame for frame, _ in walk_tb(error.__traceback__)][-1]
    raise AssertionError("it raises")
