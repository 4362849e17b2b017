"""The documentation site has every page, once, and all that is public; `make docs` builds it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import async_jobs
from tools.site.asking import questions
from tools.site.pages import DECISIONS, LinkError, Sources, parts_of
from tools.site.reference import groups

ROOT = Path(__file__).parents[2]
PRINTED = {"python.rst", "http-calls.md", "tables.md"}


def a_repository(place: Path, **pages: str) -> Path:
    """Write pages, a double underscore for each slash, and whatever else a site needs."""
    needed = ("CHANGELOG", "CONTRIBUTING", "benchmarks__README", "examples__README")
    told = dict.fromkeys((*needed, "tests__README", "docs__index", "docs__decisions__README"), "")
    for name, text in (told | pages).items():
        path = place / f"{name.replace('__', '/')}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return place


def test_every_page_is_in_the_contents_once() -> None:
    """The index, which a forge shows too, lists all but itself and the single decisions."""
    sources = Sources(ROOT)
    listed = Counter(page for section in sources.sections for page in section.pages)
    records = {page for page in sources.pages if page.startswith(f"{DECISIONS}/")}
    there = (sources.pages.keys() - records - {"index.md"}) | {f"{DECISIONS}/README.md"} | PRINTED

    assert listed == Counter(there)
    assert [section.title for section in sources.sections] == [
        "Learn",
        "How to",
        "Concepts",
        "Reference",
        "Evidence",
    ]


def test_every_public_name_is_in_the_reference_once() -> None:
    """By what it is for, or after all that is."""
    names = Counter(name for group in groups(async_jobs.__all__).values() for name in group)

    assert names == Counter(async_jobs.__all__)


@pytest.mark.parametrize(
    ("link", "on_the_site"),
    [
        ("[a](other.md#part)", "[a](other.md#part)"),
        ("[a](../CHANGELOG.md)", "[a](changelog.md)"),
        ("[the\nnews](../CHANGELOG.md#1)", "[the\nnews](changelog.md#1)"),
        ("[`a.json`](../deploy/a.json)", "[`a.json`](path:files/deploy/a.json)"),
        ("![a](../deploy/a.json)", "![a](files/deploy/a.json)"),
        ("all of [the files](../deploy)", "all of the files"),
        ("[examples](../examples)", "[examples](examples.md)"),
        ("[a](https://example.com/a.md)", "[a](https://example.com/a.md)"),
        ("[a](#part)", "[a](#part)"),
        ("```\n[a](nowhere.md)\n```", "```\n[a](nowhere.md)\n```"),
    ],
)
def test_a_link_leads_to_the_same_on_the_site(link: str, on_the_site: str, tmp_path: Path) -> None:
    """Pages that are elsewhere in the repository, files that are none, folders."""
    root = a_repository(tmp_path, docs__page=link, docs__other="# Other\n")
    (root / "deploy").mkdir()
    (root / "deploy" / "a.json").write_text("{}")

    assert Sources(root).pages["page.md"] == on_the_site


def test_a_link_to_nowhere_is_an_error(tmp_path: Path) -> None:
    """It names the page and the target."""
    root = a_repository(tmp_path, docs__page="[a](gone.md)")

    with pytest.raises(LinkError, match=r"docs/page\.md links gone\.md"):
        Sources(root)


def test_what_only_the_site_has_is_a_link_there(tmp_path: Path) -> None:
    """On a forge it is words."""
    root = a_repository(tmp_path, docs__index="## Look up\n\n- Names: all <!-- page: a.md -->\n")
    sources = Sources(root)

    assert "- [Names](a.md): all\n" in sources.pages["index.md"]
    assert sources.sections[0].pages == ("a.md",)


def test_words_that_a_page_explains_are_in_the_index(tmp_path: Path) -> None:
    """As main entries, which the search puts first; a forge shows nothing of it."""
    page = "# Pages\n<!-- index: a page, paging -->\n\nText.\n"
    root = a_repository(tmp_path, docs__page=page)

    assert Sources(root).pages["page.md"] == (
        "# Pages\n```{index} ! a page, ! paging\n```\n\nText.\n"
    )


def test_the_search_is_asked_enough() -> None:
    """Whether it answers rightly, `make docs` finds out, once the site is built."""
    pages = Sources(ROOT).pages
    asked = questions()

    assert len(asked) >= 30
    assert not [page for page in asked.values() if f"{page}.md" not in pages]


def test_code_is_told_from_prose() -> None:
    """A fence ends at a line that is the same fence alone."""
    page = "a\n````md\n```\nb\n````\nc\n"

    assert list(parts_of(page)) == [
        ("a\n", False),
        ("````md\n```\nb\n````\n", True),
        ("c\n", False),
    ]
