"""One word for one thing: words that the glossary retires are in no page and in no message."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
RETIRED_HEADING = "## Retired words\n"

# What was decided or changed once stays as it was written.
RECORDS = re.compile(r"\d{4}-.*\.md|CHANGELOG\.md")
PAGES = sorted(
    path
    for folder in (".", "docs", "docs/decisions", "docs/how-to", "examples", "benchmarks", "tests")
    for path in (ROOT / folder).glob("*.md")
    if not RECORDS.fullmatch(path.name)
)
SOURCES = sorted((ROOT / "async_jobs").rglob("*.py"))

ROW = re.compile(r"^\| (?P<words>[^|]+?) \| (?P<other>[^|]+?) \|", re.MULTILINE)
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`|(?<=\])\([^)]*\)", re.MULTILINE | re.DOTALL)


def rows_of(text: str) -> list[tuple[str, str]]:
    """Return the first two cells of each row of the tables in a page, but for the headings."""
    rows = [(row["words"], row["other"]) for row in ROW.finditer(text)]
    return [row for row in rows if row[0] not in {"word", "retired"} and set(row[0]) != {"-"}]


def retired() -> dict[str, str]:
    """Return each retired word, with what is said instead."""
    table = GLOSSARY.read_text("utf-8").partition(RETIRED_HEADING)[2]
    return {word: instead for words, instead in rows_of(table) for word in words.split(", ")}


RETIRED = retired()
ANY_RETIRED = re.compile(rf"\b(?:{'|'.join(map(re.escape, RETIRED))})\b", re.IGNORECASE)


def prose_of(page: str) -> str:
    """Return a page without its code and the targets of its links; lines stay where they are."""
    return CODE.sub(lambda code: "\n" * code[0].count("\n"), page)


def messages_of(source: str, *, with_docstrings: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each literal that people may read."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if " " in text:
                if with_docstrings or id(node) not in docstrings:
                    yield node.lineno, text


def found_in(texts: Iterable[tuple[int, str]]) -> list[str]:
    """Return each retired word in some texts, with its line and with what to say instead."""
    return [
        f"line {line}: {found[0]!r}; instead: {RETIRED[found[0].lower()]}"
        for line, text in texts
        for found in ANY_RETIRED.finditer(text)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_uses_a_retired_word(page: Path) -> None:
    """But for the glossary, which says that they are retired."""
    text = page.read_text("utf-8")
    if page == GLOSSARY:
        text = text.partition(RETIRED_HEADING)[0]

    assert found_in(enumerate(prose_of(text).splitlines(), start=1)) == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_message_uses_a_retired_word(source: Path) -> None:
    """Errors and options are what people meet; docstrings of commands are their help."""
    is_command = source.name.startswith("cli")
    messages = messages_of(source.read_text("utf-8"), with_docstrings=is_command)

    assert found_in(messages) == []


def test_the_glossary_explains_each_word_once() -> None:
    """And none that it retires."""
    text = GLOSSARY.read_text("utf-8").partition(RETIRED_HEADING)[0]
    words = [word for words, _ in rows_of(text) for word in words.split(", ")]

    assert len(words) > 40
    assert sorted(words) == sorted(set(words))
    assert not set(words) & RETIRED.keys()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a worker of two lanes\n", 1),
        ("Bury it, beside the jobs\n", 2),
        ("| a cell | that walks |\n", 1),
        ("`lane` and [a link](lane.md)\n", 0),
        ("```\nlane\n```\nplanes\n", 0),
    ],
)
def test_a_retired_word_is_found_in_prose(text: str, found: int) -> None:
    """Names in code may have it still."""
    assert len(found_in(enumerate(prose_of(text).splitlines(), start=1))) == found


def test_a_retired_word_is_found_in_a_message() -> None:
    """Also within an f-string; a docstring is read by programmers, unless it is a command's."""
    source = 'def f(n):\n    """Take a lane."""\n    raise E("lane", f"{n} lanes are full")\n'

    assert found_in(messages_of(source)) == ["line 3: 'lanes'; instead: queue"]
    assert len(found_in(messages_of(source, with_docstrings=True))) == 2
