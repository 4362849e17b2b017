"""Fingerprints: equal for errors of one cause, whatever job they befell."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.fingerprints import fingerprint, is_own, own_place, without_values

PLACES = (
    "/venv/lib/python3.12/site-packages/httpx/_client.py:901 in Client.send",
    "/app/mail/sending.py:41 in Sender.send",
    "/app/mail/handlers.py:7 in send_email",
)
WORDS = st.text("abcdefghij klmno", min_size=1, max_size=30)


@given(st.text(max_size=300), st.lists(st.text(max_size=60), max_size=4))
def test_anything_has_a_fingerprint(error: str, places: list[str]) -> None:
    """Sixteen hex digits, the same each time, whatever a handler's error and places are."""
    found = fingerprint(error, tuple(places))

    assert re.fullmatch("[0-9a-f]{16}", found)
    assert found == fingerprint(error, tuple(places))


@given(WORDS, st.integers(), st.integers(), st.uuids(), st.uuids(), WORDS, WORDS)
def test_what_differs_from_job_to_job_does_not_count(
    words: str, one: int, other: int, id: UUID, other_id: UUID, quoted: str, other_quoted: str
) -> None:
    """Numbers, ids, addresses of mail, and what is quoted by any of the usual quotes."""

    def of(number: int, id: UUID, text: str) -> str:
        told = f"KeyError: {words} {number} of {id} for {number}x@example.org '{text}' \"{text}\""
        return fingerprint(told, PLACES)

    assert of(one, id, quoted) == of(other, other_id, other_quoted)


@given(st.text(max_size=200))
def test_a_message_without_values_has_none_to_leave_out(message: str) -> None:
    """Left out twice is left out once; no digit is left."""
    once = without_values(message)

    assert not re.search(r"\d", once)
    assert without_values(once) == once


def test_the_line_does_not_count_nor_where_the_code_is_installed() -> None:
    """A deployment that moves the code makes no new error."""
    moved = tuple(
        place.replace("/app/", "/srv/other/").replace(":41 ", ":977 ") for place in PLACES
    )

    assert fingerprint("E: x", PLACES) == fingerprint("E: x", moved)


@pytest.mark.parametrize(
    ("error", "places"),
    [
        ("TypeError: no such row", PLACES),
        ("KeyError: no such column", PLACES),
        ("KeyError: no such row", PLACES[2:]),
        ("KeyError: no such row", ()),
        ("no such row", PLACES),
    ],
)
def test_type_message_and_own_place_tell_errors_apart(error: str, places: tuple[str, ...]) -> None:
    """Each of them alone does."""
    assert fingerprint(error, places) != fingerprint("KeyError: no such row", PLACES)


def test_the_innermost_own_place_counts() -> None:
    """Not the library's that raised; without one of the application's, the innermost of all."""
    assert own_place(PLACES) == "mail/sending.py in Sender.send"
    assert own_place(PLACES[:1]) == "httpx/_client.py in Client.send"
    assert own_place(("no place",)) == ""


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/app/mail.py", True),
        ("handlers.py", True),
        (r"C:\app\mail.py", True),
        ("/usr/lib/python3.12/json/decoder.py", False),
        ("/venv/lib/python3.12/site-packages/httpx/_client.py", False),
        ("/usr/lib/python3/dist-packages/yaml.py", False),
        (r"C:\venv\Lib\site-packages\httpx.py", False),
        ("<frozen runpy>", False),
    ],
)
def test_libraries_are_told_from_own_code(file: str, own: bool) -> None:
    """By where they are installed."""
    assert is_own(file) is own


def test_an_apostrophe_is_no_quote() -> None:
    """What is between two words with one is part of the message."""
    assert without_values("can't reach the host, won't try") == "can't reach the host, won't try"
