"""Decisions can be found: each says its status and its area, and each is listed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

DECISIONS = Path(__file__).parents[2] / "docs" / "decisions"
INDEX = "README.md"
AREAS = {"lifecycle", "enqueue", "dispatch", "workers", "storage", "api", "docs"}

RECORD_NAME = re.compile(r"(?P<number>\d{4})-[a-z0-9-]+\.md")
HEAD = re.compile(
    r"# (?P<number>\d+)\. (?P<title>\S.*)\n\n- Status: (?P<status>.*)\n- Area: (?P<area>.*)\n\n"
)
STATUS = re.compile(r"accepted|(?:amended|superseded) by (?P<later>\d+(?:, \d+)*)")
ENTRY = re.compile(
    r"^- (?P<number>\d+): \[(?P<title>.*)\]\((?P<name>[^)]*)\)(?: \((?P<status>[^)]*)\))?$",
    re.MULTILINE,
)


def pages_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.md"))}


def flaws(pages: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong with decisions, given the text of each file by its name."""
    records = {name: text for name, text in pages.items() if RECORD_NAME.fullmatch(name)}
    strangers = sorted(set(pages) - set(records) - {INDEX} - {f"{area}.md" for area in AREAS})
    yield from (f"{name}: neither a record nor an area's page" for name in strangers)
    numbers = [int(name[:4]) for name in records]
    yield from (f"{n} is the number of two" for n in set(numbers) if numbers.count(n) > 1)
    heads = {name: found for name, text in records.items() if (found := HEAD.match(text))}
    for name in sorted(records):
        if head := heads.get(name):
            yield from (f"{name}: {flaw}" for flaw in _flaws_of(name, head, pages, set(numbers)))
        else:
            yield f"{name}: it does not begin with `# N. Title`, `- Status:` and `- Area:`"
    yield from _flaws_of_index(pages[INDEX], heads)


def _flaws_of(
    name: str, head: re.Match[str], pages: Mapping[str, str], numbers: set[int]
) -> Iterator[str]:
    number, area = int(head["number"]), head["area"]
    if number != int(name[:4]):
        yield f"its title says {number}"
    status = STATUS.fullmatch(head["status"])
    if status is None:
        yield f"its status {head['status']!r} is not one that {INDEX} allows"
    later = [int(n) for n in status["later"].split(", ")] if status and status["later"] else []
    yield from (f"{n} is no later decision" for n in later if n <= number or n not in numbers)
    if area not in AREAS:
        yield f"its area {area!r} is none of {sorted(AREAS)}"
    elif not head["status"].startswith("superseded") and f"]({name})" not in pages[f"{area}.md"]:
        yield f"{area}.md, which says what holds now, does not link it"


def _flaws_of_index(index: str, heads: Mapping[str, re.Match[str]]) -> Iterator[str]:
    listed: dict[str, list[tuple[str, str, str, str]]] = {}
    for section in index.split("\n## ")[1:]:
        area = re.search(r"\]\((\w+)\.md\)", section)
        for entry in ENTRY.finditer(section):
            told = (entry["number"], entry["title"], entry["status"] or "accepted")
            listed.setdefault(entry["name"], []).append((*told, area[1] if area else ""))
    for name, head in heads.items():
        if listed.get(name) != [head.group("number", "title", "status", "area")]:
            yield f"{INDEX}: {name} is not listed once, with its title, status and area"


def test_each_decision_says_its_status_and_area_and_is_listed() -> None:
    """The index, the areas' pages and the records agree."""
    pages = pages_of(DECISIONS)

    assert not list(flaws(pages))
    assert sum(bool(RECORD_NAME.fullmatch(name)) for name in pages) >= 39  # the pattern matches


RECORD = "# 2. Do it\n\n- Status: accepted\n- Area: api\n\n**Context.**\n"
SOUND = {
    "0002-do-it.md": RECORD,
    "0003-do-it-otherwise.md": RECORD.replace("# 2. Do it", "# 3. Do it otherwise"),
    "api.md": "# API\n\n[2](0002-do-it.md), [3](0003-do-it-otherwise.md)\n",
    INDEX: "# Decisions\n\n## API\n\n[What holds now](api.md)\n\n"
    "- 2: [Do it](0002-do-it.md)\n- 3: [Do it otherwise](0003-do-it-otherwise.md)\n",
}


@pytest.mark.parametrize(
    ("name", "before", "after", "flaw"),
    [
        ("0002-do-it.md", "- Status: accepted\n", "", "does not begin with"),
        ("0002-do-it.md", "- Area: api\n", "", "does not begin with"),
        ("0002-do-it.md", "# 2.", "# 4.", "its title says 4"),
        ("0002-do-it.md", "accepted", "forgotten", "is not one that README.md allows"),
        ("0003-do-it-otherwise.md", "accepted", "superseded by 2", "2 is no later decision"),
        ("0002-do-it.md", "accepted", "amended by 3, 7", "7 is no later decision"),
        ("0002-do-it.md", "Area: api", "Area: doors", "its area 'doors' is none of"),
        ("api.md", "[2](0002-do-it.md)", "2", "api.md, which says what holds now"),
        (INDEX, "- 2: [Do it](0002-do-it.md)\n", "", "is not listed once"),
        (INDEX, "[Do it]", "[Do that]", "is not listed once"),
        (INDEX, "(api.md)", "(enqueue.md)", "is not listed once"),
        ("notes.md", "", "", "neither a record nor an area's page"),
        ("0002-again.md", "", RECORD, "2 is the number of two"),
    ],
)
def test_a_flaw_is_found(name: str, before: str, after: str, flaw: str) -> None:
    """The rules for decisions have been seen to fail."""
    pages = dict(SOUND)
    pages[name] = pages[name].replace(before, after) if name in SOUND else after

    assert not list(flaws(SOUND))
    assert [found for found in flaws(pages) if flaw in found]
