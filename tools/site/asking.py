"""Ask the search of the built site what newcomers ask: the right page has to come first."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
QUESTIONS: Final = HERE / "questions.toml"


class Answer(NamedTuple):
    """A question, the page that should come first, and the pages that came, best first."""

    question: str
    wanted: str
    found: Sequence[str]


def questions() -> dict[str, str]:
    """Return each question, with the page that answers it."""
    pages: Mapping[str, Sequence[str]] = tomllib.loads(QUESTIONS.read_text("utf-8"))["pages"]
    return {question: page for page, asked in pages.items() for question in asked}


def answers(html: Path, node: str) -> Iterator[Answer]:
    """Yield what the search of the site in `html` finds, run by a program of Node.js."""
    asked = questions()
    done = subprocess.run(
        [node, str(HERE / "search.js"), str(html)],
        input=json.dumps(list(asked)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for (question, wanted), found in zip(asked.items(), json.loads(done.stdout), strict=True):
        yield Answer(question, wanted, found)
