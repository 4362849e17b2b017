"""Fingerprints: what errors of one cause have in common, whatever job they befell.

Of an error counts its type, where the application's own code raised it, and its message without
what differs from job to job: numbers, ids, addresses, and whatever is quoted.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

from async_jobs.domain.bounds import Places

FINGERPRINT_CHARACTERS: Final = 16
MESSAGE_CHARACTERS_MAX: Final = 200
VARYING: Final = "…"
"""What stands for each part of a message that differs from job to job."""

_TYPE: Final = re.compile(r"([A-Za-z_][\w.]{0,79})(?:: |$)")
# A quote within a word is an apostrophe.
_QUOTED: Final = re.compile(r"(?<!\w)'[^'\n]*'(?!\w)|\"[^\"\n]*\"|`[^`\n]*`|“[^”\n]*”|«[^»\n]*»")
# An address of mail, or what has a digit in it: a number, an id, an instant, a path with either.
_VARIES: Final = re.compile(r"\S*[\d@…]\S*")
_PLACE: Final = re.compile(r"(?P<file>.+):\d+ in (?P<function>.+)")
_LIBRARIES: Final = re.compile(r"[/\\](?:site|dist)-packages[/\\]|[/\\]python3(?:\.\d+)?[/\\]")
_PATH_PARTS: Final = 2


def fingerprint(error: str, places: Places = ()) -> str:
    """Return what errors of one cause share, and others most likely do not: 16 hex digits.

    Args:
        error: as a job keeps it, `Type: message` or words of the system's own.
        places: where it came from, as `Failed.places`. Lines do not count, so that a deployment
            which moves the code makes no new error of it, nor does where it is installed.
    """
    found = _TYPE.match(error)
    kind, message = (found[1], error[found.end() :]) if found else ("", error)
    told = "\n".join((kind, own_place(places), without_values(message)))
    return sha256(told.encode("utf-8", "replace")).hexdigest()[:FINGERPRINT_CHARACTERS]


def without_values(message: str) -> str:
    """Return the first line of a message without numbers, ids, addresses and quoted parts."""
    first = message.strip().partition("\n")[0]
    told = _VARIES.sub(VARYING, _QUOTED.sub(VARYING, first))
    return " ".join(told.split())[:MESSAGE_CHARACTERS_MAX]


def own_place(places: Places) -> str:
    """Return the innermost place in the application's own code: its file and function.

    Where there is none, the innermost of all; without any, nothing.
    """
    known = [found for found in map(_PLACE.fullmatch, places) if found]
    own = [found for found in known if is_own(found["file"])] or known
    if not own:
        return ""
    file = "/".join(re.split(r"[/\\]", own[0]["file"])[-_PATH_PARTS:])
    return f"{file} in {own[0]['function']}"


def is_own(file: str) -> bool:
    """Tell whether a file is the application's own: neither Python's nor a library's."""
    return not file.startswith("<frozen ") and _LIBRARIES.search(file) is None
