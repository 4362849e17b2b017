"""The bounds every value meets at the door: on enqueue, and on results and errors alike.

What passes here can be stored and read back by every adapter. Postgres refuses NUL and lone
surrogates, Python refuses integers of thousands of digits, and deep nesting exhausts the
stack of both, so all of that stops here, with the path of the offending value.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import TypeAlias, cast
from uuid import UUID

from async_jobs.domain.errors import InvalidJobError
from async_jobs.domain.job import JobStatus, JsonValue, Payload
from async_jobs.domain.limits import DELAY_TOLERANCE_MAX, MAX_ATTEMPTS_MAX

JOBS_PER_CALL_MAX = 1_000
JOBS_PER_PAGE_MAX = 1_000
PAYLOAD_BYTES_MAX = 256 * 1024
RESULT_BYTES_MAX = 64 * 1024
NESTING_MAX = 32
NAME_CHARACTERS_MAX = 200
ERROR_CHARACTERS_MAX = 2_000
ERRORS_KEPT_MAX = 20
HEADERS_MAX = 16
HEADER_CHARACTERS_MAX = 1_024
LABELS_MAX = 8
LABEL_NAME_CHARACTERS_MAX, LABEL_CHARACTERS_MAX = 50, 100
RUN_AT_AHEAD_MAX = timedelta(days=366)
PRIORITY_MIN, PRIORITY_MAX = -(2**15), 2**15 - 1
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1
Places: TypeAlias = tuple[str, ...]
"""Where in the code something happened, innermost first: files, lines and functions, no values."""
# The longest that JSON makes of a character (an escape), a number, and true, false or null.
_CHARACTER_BYTES, _NUMBER_BYTES, _CONSTANT_BYTES = 6, 25, 5
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


def check_names(field: str, names: Collection[object]) -> list[str]:
    """Return some names, one at least, in order; or raise `InvalidJobError`."""
    if isinstance(names, str):
        # Its characters would be taken for names.
        raise InvalidJobError(field, "must be a collection of names, not a string")
    if not names:
        raise InvalidJobError(field, "must name one at least; None is for all")
    return sorted(check_name(field, name) for name in names)


def check_status(field: str, value: object) -> JobStatus:
    """Return a status, given as such or by its name, or raise `InvalidJobError`."""
    try:
        return JobStatus(cast("str", value))
    except ValueError:
        raise InvalidJobError(field, f"must be one of {', '.join(JobStatus)}") from None


def check_uuid(field: str, value: object) -> UUID:
    """Return an id, or raise `InvalidJobError`: text is no id before somebody has parsed it."""
    if not isinstance(value, UUID):
        raise InvalidJobError(field, f"must be a UUID, not {type(value).__name__}")
    return value


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
    try:
        encoded_at_most = _bytes_at_most(value, NESTING_MAX)
    except _BrokenError as broken:
        raise InvalidJobError(f"{field}{broken.path}", broken.problem) from None
    if encoded_at_most <= bytes_max:
        return
    encoded_bytes = len(_ENCODER.encode(value).encode())
    if encoded_bytes > bytes_max:
        raise InvalidJobError(field, f"has {encoded_bytes} bytes encoded; {bytes_max} are allowed")


class _BrokenError(Exception):
    """A value breaks a bound; its path is put together on the way out, so that it costs nothing."""

    def __init__(self, problem: str, path: str = "") -> None:
        self.problem = problem
        self.path = path

    def within(self, step: str) -> _BrokenError:
        return _BrokenError(self.problem, f"{step}{self.path}")


def _bytes_at_most(value: object, levels_left: int) -> int:
    """Check a value; returns a bound of its size that is quick to tell.

    Raises:
        _BrokenError: a bound is broken.
    """
    kind = type(value)
    if kind is str:
        return _text_bytes_at_most(cast("str", value))
    if value is None or kind is bool:
        return _CONSTANT_BYTES
    if kind is int:
        if not INTEGER_MIN <= cast("int", value) <= INTEGER_MAX:
            raise _BrokenError("must fit into 64 bits")
        return _NUMBER_BYTES
    if kind is float:
        if not math.isfinite(cast("float", value)):
            raise _BrokenError("must be a finite number")
        return _NUMBER_BYTES
    if kind is not dict and kind is not list:
        raise _BrokenError(f"must be a JSON value, not {kind.__name__}")
    if levels_left == 0:
        raise _BrokenError(f"is nested deeper than {NESTING_MAX} levels")
    if kind is list:
        return _items_bytes_at_most(cast("list[object]", value), levels_left - 1)
    return _entries_bytes_at_most(cast("dict[object, object]", value), levels_left - 1)


def _items_bytes_at_most(items: list[object], levels_left: int) -> int:
    total = 2 + len(items)
    for index, item in enumerate(items):
        try:
            total += _bytes_at_most(item, levels_left)
        except _BrokenError as broken:
            raise broken.within(f"[{index}]") from None
    return total


def _entries_bytes_at_most(entries: dict[object, object], levels_left: int) -> int:
    total = 2 + 2 * len(entries)
    for key, item in entries.items():
        if type(key) is not str:
            raise _BrokenError(f"must have string keys, not {type(key).__name__}")
        try:
            total += _text_bytes_at_most(key)
        except _BrokenError as broken:
            raise broken.within(" (a key)") from None
        try:
            total += _bytes_at_most(item, levels_left)
        except _BrokenError as broken:
            raise broken.within(f".{key[:80]}") from None
    return total


def _text_bytes_at_most(value: str) -> int:
    if "\0" in value:
        raise _BrokenError("must not hold the NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _BrokenError("must not hold a lone surrogate") from None
    return 2 + _CHARACTER_BYTES * len(value)


def _check_text(path: str, value: str) -> None:
    try:
        _text_bytes_at_most(value)
    except _BrokenError as broken:
        raise InvalidJobError(path, broken.problem) from None


def check_headers(headers: object) -> Mapping[str, str]:
    """Return at most 16 short text headers, or raise `InvalidJobError`."""
    # Asked for a dict first: that is what comes, and an abstract class is slow to ask for.
    if not isinstance(headers, (dict, Mapping)) or len(headers) > HEADERS_MAX:
        raise InvalidJobError("headers", f"must be a mapping of at most {HEADERS_MAX} entries")
    for name, value in headers.items():
        check_name("headers (a name)", name)
        if not isinstance(value, str) or len(value) > HEADER_CHARACTERS_MAX:
            raise InvalidJobError(
                f"headers.{name}", f"must be a string of at most {HEADER_CHARACTERS_MAX} characters"
            )
        _check_text(f"headers.{name}", value)
    return dict(headers)


def check_labels(labels: object) -> Mapping[str, str]:
    """Return at most 8 short names with short values, or raise `InvalidJobError`."""
    if not isinstance(labels, (dict, Mapping)) or len(labels) > LABELS_MAX:
        raise InvalidJobError("labels", f"must be a mapping of at most {LABELS_MAX} entries")
    for name, value in labels.items():
        if len(check_name("labels (a name)", name)) > LABEL_NAME_CHARACTERS_MAX:
            most = LABEL_NAME_CHARACTERS_MAX
            raise InvalidJobError("labels (a name)", f"must have 1 to {most} characters")
        if len(check_name(f"labels.{name}", value)) > LABEL_CHARACTERS_MAX:
            most = LABEL_CHARACTERS_MAX
            raise InvalidJobError(f"labels.{name}", f"must have 1 to {most} characters")
    return dict(labels)


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


def bounded_error(text: str, places: Places = ()) -> str:
    """Return an error text that can be stored: cut to 2,000 characters, unstorable ones replaced.

    Each place in the code has a line below it. They have half of that room at most, and those that
    come first are kept. An error is cut rather than refused, because refusing it would lose the
    outcome it tells of.
    """
    lines, left = "", ERROR_CHARACTERS_MAX // 2
    for line in (f"\n  at {place}" for place in places):
        left -= len(line)
        if left < 0:
            break
        lines += line
    room = ERROR_CHARACTERS_MAX - len(lines)
    cut = text if len(text) <= room else text[: room - 1] + "…"
    return (cut + lines).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
