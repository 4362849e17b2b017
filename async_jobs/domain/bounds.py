"""The bounds every value meets at the door: on enqueue, and on results and errors alike.

What passes here can be stored and read back by every adapter. Postgres refuses NUL and lone
surrogates, Python refuses integers of thousands of digits, and deep nesting exhausts the
stack of both, so all of that stops here, with the path of the offending value.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import cast

from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.job import JsonValue, Payload
from async_jobs.domain.limits import DELAY_TOLERANCE_MAX, MAX_ATTEMPTS_MAX

PAYLOAD_BYTES_MAX = 256 * 1024
RESULT_BYTES_MAX = 64 * 1024
NESTING_MAX = 32
NAME_CHARACTERS_MAX = 200
ERROR_CHARACTERS_MAX = 2_000
ERRORS_KEPT_MAX = 20
HEADERS_MAX = 16
HEADER_CHARACTERS_MAX = 1_024
RUN_AT_AHEAD_MAX = timedelta(days=366)
PRIORITY_MIN, PRIORITY_MAX = -(2**15), 2**15 - 1
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1
# Made once: `json.dumps` makes one for every value.
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def check_name(field: str, value: object) -> str:
    """Return a name of 1-200 printable characters, or raise `InvalidJobError`."""
    if not isinstance(value, str):
        raise InvalidJobError(field, f"must be a string, not {type(value).__name__}")
    if not 1 <= len(value) <= NAME_CHARACTERS_MAX:
        raise InvalidJobError(field, f"must have 1 to {NAME_CHARACTERS_MAX} characters")
    if not value.isascii() or not value.isprintable():
        _check_characters(field, value)
    return value


def _check_characters(field: str, value: str) -> None:
    for character in value:
        if unicodedata.category(character) in {"Cc", "Cs"}:
            raise InvalidJobError(field, "must hold no control characters and no lone surrogates")


def check_payload(value: object) -> Payload:
    """Return the payload when it is a JSON object within the bounds.

    Raises:
        InvalidJobError: with the path of the value that breaks one.
    """
    if not isinstance(value, dict):
        raise InvalidJobError("payload", f"must be an object, not {type(value).__name__}")
    check_json("payload", value, bytes_max=PAYLOAD_BYTES_MAX)
    return cast("Payload", value)


def check_result(value: object) -> JsonValue:
    """Return what a handler returned when it is JSON within the bounds (64 KiB)."""
    if value is not None:
        check_json("result", value, bytes_max=RESULT_BYTES_MAX)
    return cast("JsonValue", value)


def check_json(field: str, value: object, *, bytes_max: int) -> None:
    """Raise `InvalidJobError` unless `value` is JSON that every adapter can keep unchanged."""
    _check_value(field, value, NESTING_MAX)
    encoded_bytes = len(_ENCODER.encode(value).encode())
    if encoded_bytes > bytes_max:
        raise InvalidJobError(field, f"has {encoded_bytes} bytes encoded; {bytes_max} are allowed")


def _check_value(path: str, value: object, levels_left: int) -> None:
    kind = type(value)
    if kind is str:
        _check_text(path, cast("str", value))
    elif value is None or kind is bool:
        pass
    elif kind is int:
        if not INTEGER_MIN <= cast("int", value) <= INTEGER_MAX:
            raise InvalidJobError(path, "must fit into 64 bits")
    elif kind is float:
        if not math.isfinite(cast("float", value)):
            raise InvalidJobError(path, "must be a finite number")
    elif kind is dict or kind is list:
        if levels_left == 0:
            raise InvalidJobError(path, f"is nested deeper than {NESTING_MAX} levels")
        _check_children(path, value, levels_left - 1)
    else:
        raise InvalidJobError(path, f"must be a JSON value, not {kind.__name__}")


def _check_children(path: str, value: object, levels_left: int) -> None:
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_value(f"{path}[{index}]", item, levels_left)
        return
    for key, item in cast("dict[object, object]", value).items():
        if type(key) is not str:
            raise InvalidJobError(path, f"must have string keys, not {type(key).__name__}")
        _check_text(f"{path} (a key)", key)
        _check_value(f"{path}.{key[:80]}", item, levels_left)


def _check_text(path: str, value: str) -> None:
    if "\0" in value:
        raise InvalidJobError(path, "must not hold the NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidJobError(path, "must not hold a lone surrogate") from None


def check_headers(headers: object) -> Mapping[str, str]:
    """Return at most 16 short text headers, or raise `InvalidJobError`."""
    if not isinstance(headers, Mapping) or len(headers) > HEADERS_MAX:
        raise InvalidJobError("headers", f"must be a mapping of at most {HEADERS_MAX} entries")
    for name, value in headers.items():
        check_name("headers (a name)", name)
        if not isinstance(value, str) or len(value) > HEADER_CHARACTERS_MAX:
            raise InvalidJobError(
                f"headers.{name}", f"must be a string of at most {HEADER_CHARACTERS_MAX} characters"
            )
        _check_text(f"headers.{name}", value)
    return dict(headers)


def check_instant(field: str, value: object) -> datetime:
    """Return an aware instant, or raise `InvalidJobError`."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidJobError(field, "must be a datetime with a time zone")
    return value


def check_delay_tolerance(value: object) -> timedelta:
    """Return a delay tolerance of 0-30 days, or raise `InvalidJobError`."""
    if not isinstance(value, timedelta) or not timedelta(0) <= value <= DELAY_TOLERANCE_MAX:
        raise InvalidJobError("delay_tolerance", "must be a duration from 0 s to 30 days")
    return value


def check_max_attempts(value: object) -> int:
    """Return 1-100 attempts, or raise `InvalidJobError`."""
    return _check_integer("max_attempts", value, 1, MAX_ATTEMPTS_MAX)


def check_priority(value: object) -> int:
    """Return a priority within 16 bits, or raise `InvalidJobError`."""
    return _check_integer("priority", value, PRIORITY_MIN, PRIORITY_MAX)


def _check_integer(field: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise InvalidJobError(field, f"must be an integer from {low} to {high}")
    return value


def bounded_error(text: str) -> str:
    """Return an error text that can be stored: cut to 2,000 characters, unstorable ones replaced.

    An error is cut rather than refused, because refusing it would lose the outcome it tells of.
    """
    cut = text if len(text) <= ERROR_CHARACTERS_MAX else text[: ERROR_CHARACTERS_MAX - 1] + "…"
    return cut.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
