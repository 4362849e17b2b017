"""The pages of the site, out of those of the repository.

The pages in `docs/` are written for a forge and read well there. The site takes them as they are,
adds what is printed from the code, and turns links that leave `docs/` into links within the site.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

INDEX: Final = "index.md"
DECISIONS: Final = "decisions"

ELSEWHERE: Final = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
    "tests/README.md": "tests.md",
}
"""Pages that are not in `docs/`, and where the site has them."""

FILES: Final = "files"
"""Where the site keeps what its pages link and are no pages."""

_FENCE = re.compile(r"^ *(```+|~~~+)")
_LINK = re.compile(r"(?P<text>!?\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<target>[^()\s]+)\)")
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_ENTRY = re.compile(r"^- \[[^\]]*\]\(([^)#]+\.(?:md|rst))\)", re.MULTILINE)
_WORDS = re.compile(r"^<!-- index: (.+) -->$", re.MULTILINE)
_PRINTED = re.compile(r"^- ([^:\n]+)(.*) <!-- page: ([\w.-]+) -->$", re.MULTILINE)


class LinkError(Exception):
    """A page links what is not there."""


class Section(NamedTuple):
    """A part of the site, with its pages in their order."""

    title: str
    pages: tuple[str, ...]


class Sources:
    """The pages and files of the site, by where the site has them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._places = {f"docs/{page}": page for page in _markdown(root / "docs")} | ELSEWHERE
        self.pages: dict[str, str] = {}
        self.files: dict[str, Path] = {}
        for source, place in self._places.items():
            text = (root / source).read_text("utf-8")
            self.pages[place] = _WORDS.sub(_index, self._with_links(text, source, place))
        # A page that only the site has is no link on a forge, and one here.
        index = _PRINTED.sub(r"- [\1](\3)\2", self.pages[INDEX])
        self.sections = sections_of(index)
        self.pages[INDEX] = index + "".join(map(_toctree, self.sections))
        records = (page for page in self.pages if page.startswith(f"{DECISIONS}/"))
        self.pages[f"{DECISIONS}/README.md"] += _toctree(
            Section("", tuple(page for page in records if not page.endswith("README.md")))
        )

    def _with_links(self, text: str, source: str, place: str) -> str:
        return "".join(
            part if in_code else _LINK.sub(lambda link: self._link(link, source, place), part)
            for part, in_code in parts_of(text)
        )

    def _link(self, link: re.Match[str], source: str, place: str) -> str:
        """Return a link of the page at `source` as the site has it, at `place`."""
        target, sign, anchor = link["target"].partition("#")
        if not target or ":" in target:
            return link[0]
        path = os.path.normpath(PurePosixPath(source).parent / target)
        found = self._root / path
        if not found.exists():
            raise LinkError(f"{source} links {target}, which is not there")
        if path in self._places:
            return f"{link['text']}({_relative(self._places[path], place)}{sign}{anchor})"
        if found.is_dir():
            inside = f"{path}/README.md"
            if inside in self._places:
                return f"{link['text']}({_relative(self._places[inside], place)})"
            return link["text"][1:-1]
        copy = f"{FILES}/{path}"
        self.files[copy] = found
        scheme = "" if link["text"].startswith("!") else "path:"
        return f"{link['text']}({scheme}{_relative(copy, place)})"


def sections_of(index: str) -> list[Section]:
    """Return the sections of the page that lists all others: its headings and their links."""
    parts = _HEADING.split(index)[1:]
    found = zip(parts[::2], parts[1::2], strict=True)
    return [Section(title, tuple(_ENTRY.findall(text))) for title, text in found]


def _index(words: re.Match[str]) -> str:
    """Return words that a place explains, as entries of the index: the search looks there first."""
    entries = ", ".join(f"! {word}" for word in words[1].split(", "))
    return f"```{{index}} {entries}\n```"


def _toctree(section: Section) -> str:
    caption = f":caption: {section.title}\n" if section.title else ""
    entries = "\n".join(f"/{page.rpartition('.')[0]}" for page in section.pages)
    return f"\n```{{toctree}}\n:hidden:\n{caption}\n{entries}\n```\n"


def parts_of(page: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a page in order, and of each whether it is a block of code."""
    fence, part = "", ""
    for line in page.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if mark and not fence:
            yield part, False
            fence, part = mark[1], line
        elif mark and line.strip() == fence:
            yield part + line, True
            fence, part = "", ""
        else:
            part += line
    yield part, bool(fence)


def _markdown(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.md"))


def _relative(target: str, page: str) -> str:
    return PurePosixPath(os.path.relpath(target, PurePosixPath(page).parent)).as_posix()
