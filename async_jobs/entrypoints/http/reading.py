"""Reading what strangers send: never more than is allowed, and nothing but JSON."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from starlette.requests import Request

from async_jobs.domain.errors import AsyncJobsError, InvalidJobError

JOB_BYTES_MAX: Final = 2 * 1024 * 1024
"""A payload has 256 KiB at most, which escapes can make six times as long."""
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
BODY_SECONDS_MAX: Final = 30.0
INTEGER_CHARACTERS_MAX: Final = 20
"""Longer integers do not fit into 64 bits, however they are written."""
CHARSETS: Final = {"utf-8", "utf8", "us-ascii"}
"""JSON is UTF-8 (RFC 8259, 8.1), which ASCII is, too."""
BODY: Final = "body"
"""The field of a problem with the body as a whole."""
KEY_CHARACTERS_MAX: Final = 80


class BodyTooLarge(AsyncJobsError):
    """The body has more bytes than the route reads."""


class BodyTooSlow(AsyncJobsError):
    """The body did not arrive in time."""


class UnsupportedMediaType(AsyncJobsError):
    """The body is not said to be JSON."""


async def read_body(
    request: Request, *, bytes_max: int, seconds_max: float = BODY_SECONDS_MAX
) -> bytes:
    """Return the body of a request that says it is JSON, read piece by piece.

    Raises:
        UnsupportedMediaType: its content is not said to be JSON, or is said to be encoded.
        BodyTooLarge: it has more than `bytes_max` bytes; no more of it was read.
        BodyTooSlow: it did not arrive in time.
    """
    _check_content(request)
    too_large = f"the body may have at most {bytes_max} bytes"
    told = request.headers.get("content-length", "")
    if told.isascii() and told.isdigit() and (len(told) > 18 or int(told) > bytes_max):
        raise BodyTooLarge(too_large)
    pieces, read_bytes = [], 0
    stream: AsyncIterator[bytes] = request.stream()
    try:
        async with asyncio.timeout(seconds_max):
            async for piece in stream:
                read_bytes += len(piece)
                if read_bytes > bytes_max:
                    raise BodyTooLarge(too_large)
                pieces.append(piece)
    except TimeoutError:
        raise BodyTooSlow(f"the body has to arrive within {seconds_max:g} seconds") from None
    return b"".join(pieces)


def _check_content(request: Request) -> None:
    told = request.headers.get("content-type", "").lower()
    media_type, *parameters = (each.strip() for each in told.split(";"))
    is_json = media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )
    if not is_json:
        raise UnsupportedMediaType("the content type must be application/json")
    for name, _, value in (each.partition("=") for each in parameters):
        if name.strip() == "charset" and value.strip(' "') not in CHARSETS:
            raise UnsupportedMediaType("the charset must be utf-8")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("the content must not be encoded")


# --- JSON ---------------------------------------------------------------------------------------


def object_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is.

    What JSON allows and the stores do not (numbers beyond 64 bits, NUL, lone surrogates, deep
    nesting) is returned as it can be, for the domain to refuse by its path.

    Raises:
        InvalidJobError: it is not a JSON object, or an object in it names a field twice.
    """
    value = parse(body)
    if not isinstance(value, dict):
        raise InvalidJobError(BODY, "must be a JSON object")
    return value


def parse(body: bytes) -> Any:
    """Return the JSON value that the bytes are; see `object_of`."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise InvalidJobError(BODY, "must be UTF-8") from None
    if text.startswith("\ufeff"):
        raise InvalidJobError(BODY, "must not begin with a byte order mark")
    if not text.strip(" \t\r\n"):
        raise InvalidJobError(BODY, "must not be empty")
    repeated: tuple[dict[str, Any], list[tuple[str, Any]]] | None = None

    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        found = dict(pairs)
        if len(found) != len(pairs):
            # The last one stays: those before it may have been in what a repetition threw away.
            repeated = found, pairs
        return found

    try:
        value = _decoded(text, checked)
    except RecursionError:
        raise InvalidJobError(BODY, "is nested too deeply") from None
    if repeated is not None:
        holder, pairs = repeated
        times = Counter(name for name, _ in pairs)
        place = _place(value, holder, next(name for name in times if times[name] > 1))
        raise InvalidJobError(place, "must be given once only")
    return value


def _decoded(text: str, checked: Any) -> Any:
    try:
        return json.loads(text, object_pairs_hook=checked)
    except json.JSONDecodeError as error:
        raise InvalidJobError(
            BODY, f"must be JSON; it is not at line {error.lineno}, column {error.colno}"
        ) from None
    except ValueError:
        # An integer of thousands of digits, which Python refuses to read. It is read once more
        # with a stand-in that is too large as well, so that the domain can name its path.
        return json.loads(text, object_pairs_hook=checked, parse_int=_integer)


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= INTEGER_CHARACTERS_MAX else 2**64


def _place(value: Any, holder: dict[str, Any], name: str) -> str:
    """Return the path of the field `name` of `holder`, which stands somewhere in `value`.

    It goes down one branch at a time, so that it keeps no more than the branch it is in.
    """
    branch: list[tuple[str, Iterator[tuple[str | int, Any]]]] = [("", iter([("", value)]))]
    while branch:
        path, items = branch[-1]
        found = next(items, None)
        if found is None:
            branch.pop()
            continue
        key, each = found
        if not isinstance(each, dict | list):
            continue
        if isinstance(key, int):
            here = f"{path or BODY}[{key}]"
        else:
            here = joined(path, key) if len(branch) > 1 else ""
        if each is holder:
            return joined(here, name)
        inner = each.items() if isinstance(each, dict) else enumerate(each)
        branch.append((here, iter(inner)))
    return shown(name)


def joined(path: str, name: str) -> str:
    """Return the path of a field of the object at `path`; the outermost object has an empty one."""
    return f"{path}.{shown(name)}" if path else shown(name)


def shown(name: str) -> str:
    """Return a field's name as it can be told: cut, and without what UTF-8 cannot hold."""
    return name[:KEY_CHARACTERS_MAX].encode("utf-8", "replace").decode()
