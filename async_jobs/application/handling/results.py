"""What becomes of what a handler returns: the work is done, whatever it is."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import is_dataclass

from pydantic_core import to_jsonable_python

from async_jobs.domain.bounds import NESTING_MAX, check_result
from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.lifecycle import Succeeded
from async_jobs.domain.refused import without_result


def success_with(result: object) -> Succeeded:
    """Return the success of a handler, with its result as JSON if that can be had.

    Models, dataclasses, datetimes, UUIDs, decimals, enums, tuples and sets become what pydantic
    makes of them, as in an answer of FastAPI's.
    """
    try:
        return Succeeded(check_result(result))
    except InvalidJobError:
        pass
    try:
        _check_ends(result, NESTING_MAX)
        return Succeeded(check_result(to_jsonable_python(result)))
    except InvalidJobError as error:
        return without_result(str(error))
    except Exception as error:  # serializers of models are the application's own
        # Its text may quote the value.
        return without_result(f"result: must be a JSON value ({type(error).__name__})")


def _check_ends(value: object, levels_left: int) -> None:
    """Refuse iterators: to convert one is to run it, and it may go on for ever."""
    if isinstance(value, Iterator | AsyncIterator):
        raise InvalidJobError("result", f"must be a JSON value, not {type(value).__name__}")
    if isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, list | tuple | set | frozenset | deque):
        inner = list(value)
    elif is_dataclass(value):
        inner = list(getattr(value, "__dict__", {}).values())
    else:
        return
    if not levels_left:
        raise InvalidJobError("result", f"is nested deeper than {NESTING_MAX} levels")
    for each in inner:
        _check_ends(each, levels_left - 1)
