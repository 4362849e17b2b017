"""The pages of the repository, and what stands in them as code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(
            ROOT / name
            for name in ("benchmarks/README.md", "examples/README.md", "tests/README.md")
        ),
    ]
)

_BLOCK = re.compile(
    r"^(?P<fence>```+)(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL
)
_INLINE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block of code: its language ("" if it has none), its text, its first line."""

    language: str
    code: str
    line: int


def name_of(page: Path) -> str:
    """Return where a page is, from the repository on."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    return [
        Block(found["language"], found["code"], text.count("\n", 0, found.start("code")) + 1)
        for found in _BLOCK.finditer(text)
    ]


def inline_code_of(page: Path) -> list[str]:
    """Return what stands between backticks within the lines of a page."""
    return _INLINE.findall(_BLOCK.sub("", page.read_text("utf-8")))


def typed_in(page: Path) -> Iterator[str]:
    """Yield each line that a page tells its reader to type, in a block or within a line."""
    for block in blocks_of(page):
        if block.language in {"", "sh", "console"}:
            whole = block.code.replace("\\\n", " ")
            yield from (line.strip().removeprefix("$ ") for line in whole.splitlines())
    yield from inline_code_of(page)
