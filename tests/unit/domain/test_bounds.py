"""Hostile JSON stops at the door, with the path of what is wrong and never its value."""

import json
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.bounds import (
    ERROR_CHARACTERS_MAX,
    NESTING_MAX,
    PAYLOAD_BYTES_MAX,
    RESULT_BYTES_MAX,
    bounded_error,
    check_json,
    check_payload,
    check_result,
)
from async_jobs.domain.errors import InvalidJobError

SECRET = "hunter2"


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Ratio(float):
    __slots__ = ()


def refusal(check: Callable[[Any], object], value: object) -> InvalidJobError:
    """Return the error that a check raises."""
    with pytest.raises(InvalidJobError) as caught:
        check(value)
    return caught.value


def nested(levels: int, kind: type = list) -> Any:
    """Return so many containers, one inside the other."""
    value: Any = kind()
    for _ in range(levels - 1):
        value = {"k": value} if kind is dict else [value]
    return value


# --- Values that no JSON column can keep -----------------------------------------------------

HOSTILE: dict[str, object] = {
    "nul": f"{SECRET}\0",
    "high surrogate": f"{SECRET}\ud800",
    "low surrogate": f"{SECRET}\udfff",
    "surrogates in the wrong order": f"{SECRET}\udc00\ud800",
    "nan": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "1e400": json.loads("1e400"),
    "an integer past 64 bits": 2**63,
    "a negative integer past 64 bits": -(2**63) - 1,
    "5,000 digits": 10**5000,
    "tuple": (SECRET,),
    "set": {SECRET},
    "bytes": SECRET.encode(),
    "decimal": Decimal("1.5"),
    "a subclass of str": Text(SECRET),
    "a subclass of int": Number(7),
    "a subclass of float": Ratio(1.5),
    "a subclass of dict": OrderedDict(k=SECRET),
    "complex": 1j,
    "object": object(),
    "type": int,
}
hostile = pytest.mark.parametrize("value", HOSTILE.values(), ids=list(HOSTILE))


@hostile
@pytest.mark.parametrize("check", [check_payload, check_result])
def test_a_value_that_cannot_be_kept_is_refused_at_its_path(
    check: Callable[[object], object], value: object
) -> None:
    """Payloads and results name the place of the value that is wrong."""
    field = check.__name__.removeprefix("check_")

    error = refusal(check, {"fine": 1, "items": [0, {"name": value}]})

    assert error.field == f"{field}.items[1].name"


@hostile
def test_a_value_that_cannot_be_kept_is_never_told(value: object) -> None:
    """The message names what is wrong with the value, but not the value, which may be secret."""
    error = refusal(check_payload, {"k": value})

    assert SECRET not in str(error)
    assert len(str(error)) < 100


@pytest.mark.parametrize(
    "value",
    [
        *[0, -1, 2**63 - 1, -(2**63)],
        *[0.0, -0.0, 1.5, 5e-324, 1.7976931348623157e308],
        *["", "plain", "Grüße 👋", "\ue000\uffff", "\n\t\x7f"],
        *[True, False, None, [], {}],
    ],
    ids=repr,
)
def test_a_value_at_the_edge_of_what_can_be_kept_passes(value: object) -> None:
    """Every JSON value within the bounds is taken as it is."""
    payload = {"k": value}

    assert check_payload(payload) is payload


# --- Keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [7, 1.5, True, None, (1, 2), b"k", Text("k")],
    ids=["int", "float", "bool", "none", "tuple", "bytes", "subclass"],
)
def test_a_key_that_is_no_string_is_refused(key: object) -> None:
    """`json.dumps` would quietly turn some of these into other keys."""
    error = refusal(check_payload, {"outer": {key: 1}})

    assert error.field == "payload.outer"
    assert error.problem == f"must have string keys, not {type(key).__name__}"


@pytest.mark.parametrize("key", ["a\0b", "a\ud800b"], ids=["nul", "surrogate"])
def test_a_key_that_cannot_be_kept_is_refused_without_being_told(key: str) -> None:
    """The path names the object and says that a key is meant; the message can be printed."""
    error = refusal(check_payload, {"outer": {key: 1}})

    assert error.field == "payload.outer (a key)"
    assert str(error).encode()
    assert "\0" not in str(error)


def test_a_long_key_is_cut_in_the_path() -> None:
    """A path grows by at most 80 characters a level."""
    error = refusal(check_payload, {"k" * 10_000: {"l" * 10_000: float("nan")}})

    assert error.field == f"payload.{'k' * 80}.{'l' * 80}"


# --- Nesting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, dict])
def test_32_levels_pass(kind: type) -> None:
    """The outermost container is the first level."""
    assert NESTING_MAX == 32
    check_json("value", nested(32, kind), bytes_max=1000)


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("levels", [33, 100_000])
def test_deeper_levels_are_refused(kind: type, levels: int) -> None:
    """100,000 levels are refused as quickly as 33, without exhausting the stack."""
    error = refusal(lambda value: check_json("value", value, bytes_max=1000), nested(levels, kind))

    assert error.problem == "is nested deeper than 32 levels"
    assert error.field == "value" + (".k" if kind is dict else "[0]") * 32


def test_a_payload_counts_as_a_level() -> None:
    """A payload holds at most 31 levels more."""
    assert check_payload({"k": nested(31)})
    assert "32 levels" in refusal(check_payload, {"k": nested(32)}).problem


def test_a_value_that_contains_itself_is_refused() -> None:
    """A cycle is nested without end."""
    cycle: list[Any] = []
    cycle.extend([cycle, cycle])

    assert "32 levels" in refusal(check_payload, {"k": cycle}).problem


# --- Size ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "bytes_max"), [(check_payload, PAYLOAD_BYTES_MAX), (check_result, RESULT_BYTES_MAX)]
)
@pytest.mark.parametrize("character", ["x", "ü", "👋", '"'])
def test_the_size_is_counted_in_bytes_of_compact_utf_8(
    check: Callable[[object], object], bytes_max: int, character: str
) -> None:
    """The last byte allowed passes and one more is refused, whatever a character takes."""
    character_bytes = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    rest = bytes_max - len('{"k":""}')
    text = character * (rest // character_bytes) + "x" * (rest % character_bytes)

    assert check({"k": text})
    error = refusal(check, {"k": text + "x"})
    assert error.problem == f"has {bytes_max + 1} bytes encoded; {bytes_max} are allowed"


def test_the_bounds_of_size() -> None:
    """256 KiB for payloads, 64 KiB for results."""
    assert (PAYLOAD_BYTES_MAX, RESULT_BYTES_MAX) == (256 * 1024, 64 * 1024)


# --- What a payload and a result may be ------------------------------------------------------


@pytest.mark.parametrize("value", [None, [], "{}", 1, True, ()], ids=repr)
def test_a_payload_is_an_object(value: object) -> None:
    """Anything but an object is refused with the kind it has."""
    error = refusal(check_payload, value)

    assert (error.field, error.problem) == (
        "payload",
        f"must be an object, not {type(value).__name__}",
    )


@pytest.mark.parametrize("value", [None, 1, "text", [1, 2], {"k": None}, True], ids=repr)
def test_a_result_is_any_json_value(value: object) -> None:
    """A handler may return a bare value."""
    assert check_result(value) is value


# --- Errors are cut, not refused -------------------------------------------------------------


def test_an_error_of_the_longest_length_is_not_cut() -> None:
    """2,000 characters fit, however many bytes they take."""
    text = "ü" * ERROR_CHARACTERS_MAX

    assert bounded_error(text) == text


def test_a_long_error_is_cut_and_says_so() -> None:
    """An ellipsis takes the last place."""
    text = bounded_error("x" * (ERROR_CHARACTERS_MAX + 1))

    assert text == "x" * (ERROR_CHARACTERS_MAX - 1) + "…"


def test_places_have_half_of_an_errors_room() -> None:
    """The first of them, whole; the text is cut for them, and is all there is without any."""
    places = tuple(f"{number} {'y' * 90}" for number in range(50))

    text = bounded_error("x" * ERROR_CHARACTERS_MAX, places)

    first, *lines = text.split("\n")
    assert len(text) == ERROR_CHARACTERS_MAX
    assert first.endswith("x…")
    assert lines == [f"  at {place}" for place in places[: len(lines)]]
    assert ERROR_CHARACTERS_MAX / 2 - 100 < len("\n".join(lines)) <= ERROR_CHARACTERS_MAX / 2
    assert bounded_error("boom", ("a", "b")) == "boom\n  at a\n  at b"


@given(st.text(st.characters(), max_size=50))
def test_any_error_becomes_storable(text: str) -> None:
    """NUL and lone surrogates are replaced, and everything else stays."""
    stored = bounded_error(text)

    assert len(stored) == len(text)
    assert "\0" not in stored
    assert stored.encode().decode() == stored
    for kept, original in zip(stored, text, strict=True):
        assert kept == original or original == "\0" or "\ud800" <= original <= "\udfff"


# --- Whatever is accepted --------------------------------------------------------------------

scalars: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats()
    | st.text(st.characters(), max_size=6)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(), max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(values)
def test_whatever_is_accepted_survives_json_and_utf_8_unchanged(value: object) -> None:
    """A value that passes is read back equal, types included, from its encoding."""
    try:
        check_json("value", value, bytes_max=PAYLOAD_BYTES_MAX)
    except InvalidJobError:
        return

    for ensure_ascii in (True, False):
        encoded = json.dumps(value, ensure_ascii=ensure_ascii, allow_nan=False).encode()
        assert repr(json.loads(encoded.decode())) == repr(value)


@given(values)
def test_whatever_is_refused_would_have_been_lost(value: object) -> None:
    """A small value is refused only if it could not be kept: no false alarms."""
    try:
        check_json("value", value, bytes_max=PAYLOAD_BYTES_MAX)
    except InvalidJobError:
        assert not can_be_kept(value)
    else:
        assert can_be_kept(value)


def can_be_kept(value: object) -> bool:
    """Tell, from the rules in prose, whether every adapter can keep the value."""
    match value:
        case None | bool():
            return True
        case int():
            return value.bit_length() <= 63 or value == -(2**63)
        case float():
            return value - value == 0
        case str():
            return not any(c == "\0" or 0xD800 <= ord(c) <= 0xDFFF for c in value)
        case list():
            return all(map(can_be_kept, value))
        case dict():
            return all(isinstance(k, str) and can_be_kept(k) for k in value) and all(
                map(can_be_kept, value.values())
            )
        case _:
            return False


@given(values)
def test_a_byte_less_than_a_value_takes_is_too_little(value: object) -> None:
    """However its size was told: the quick bound is never below what the encoding takes."""
    try:
        check_json("value", value, bytes_max=PAYLOAD_BYTES_MAX)
    except InvalidJobError:
        return
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())

    check_json("value", value, bytes_max=size)
    error = refusal(lambda each: check_json("value", each, bytes_max=size - 1), value)

    assert error.problem == f"has {size} bytes encoded; {size - 1} are allowed"
