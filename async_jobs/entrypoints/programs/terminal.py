"""What a terminal is shown: text of strangers that cannot command, hide or reorder anything."""

from __future__ import annotations

import sys
from typing import Final

# Letters and marks that show nothing, though Unicode does not count them among what is unprintable.
_INVISIBLE: Final = frozenset(
    map(
        chr,
        (
            0x034F,
            *range(0x115F, 0x1161),
            *range(0x17B4, 0x17B6),
            *range(0x180B, 0x1810),
            0x3164,
            *range(0xFE00, 0xFE10),
            0xFFA0,
            *range(0xE0100, 0xE01F0),
        ),
    )
)


def printable(text: str, *, keep: str = "") -> str:
    r"""Return the text with all that a terminal would obey, hide or reorder as escapes.

    That is control characters (C0 and C1), what changes the direction of writing, what has no
    width, and separators of lines and paragraphs. The escapes are JSON's (`\u009b`), so that
    JSON stays JSON and means what it meant.

    Args:
        text: anything.
        keep: characters to leave as they are, such as the line feeds of a layout.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        each if (each.isprintable() and each not in _INVISIBLE) or each in keep else _escaped(each)
        for each in text
    )


def _escaped(character: str) -> str:
    code = ord(character)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x1_0000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def set_up_output() -> None:
    """Let no letter that the terminal's encoding lacks end a command; it is shown as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
