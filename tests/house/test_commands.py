"""What the pages tell readers to type can be typed: commands, their options, make's targets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from async_jobs.entrypoints.cli.main import app
from tests.kit.pages import PAGES, ROOT, name_of, typed_in
from tools import cli_reference

OLD = re.compile(r"CHANGELOG\.md|docs/decisions/\d{4}-.*")  # what was true once
READ = [page for page in PAGES if not OLD.fullmatch(name_of(page))]

# At the start of a command, after variables, and after a program that runs another one.
COMMAND = re.compile(
    r"(?:^|[;|&(])\s*(?:\w+=\S*\s+)*(?:(?:exec|opentelemetry-instrument)\s+)?(?:[\w./-]*/)?"
    r"(async-jobs(?:-scheduler|-worker)?)(?=\s|$)([^|;&>)]*)"
)
PROGRAM: Any = get_command(app)
AN_ID = re.compile(r"(?:JOB_)?IDS?…?|[0-9a-f]+…")  # as pages write one
SOME_ID = "01a22d78-c49b-73e9-963c-2d6450db3a3e"
MAKE = re.compile(r"(?:^|&& )make ([a-z][a-z-]*)")
TARGETS = set(re.findall(r"^([\w-]+):.*?##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def mistakes(line: str) -> Iterator[str]:
    """Yield what cannot be typed as it stands in a line."""
    for program, rest in COMMAND.findall(line):
        yield from _mistakes_of([*program.split("-", 2)[2:], *_words(rest)])
    for target in MAKE.findall(line):
        if target not in TARGETS:
            yield f"make {target}: no such target"


def _words(text: str) -> list[str]:
    """Return the words of a command, each quoted part as one, without a comment."""
    return re.findall(r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"])+", re.sub(r"(^|\s)#.*", "", text))


def _mistakes_of(words: Sequence[str]) -> Iterator[str]:
    """Find the command and let it read its words, as if they were typed; nothing is run."""
    command, path, left = PROGRAM, "async-jobs", [word.strip("'\"") for word in words]
    while left and (inside := getattr(command, "commands", None)):
        if left[0].startswith("--"):
            if left[0] not in {"--help", "--install-completion", "--version"}:
                yield f"{path}: no option {left[0]}"
            return
        if left[0] not in inside:
            if re.fullmatch(r"[a-z][a-z-]*", left[0]):  # no placeholder
                yield f"{path}: no command {left[0]}"
            return
        command, path = inside[left[0]], f"{path} {left.pop(0)}"
    if hasattr(command, "commands") or "--help" in left:
        return
    try:
        typed = [SOME_ID if AN_ID.fullmatch(word) else word for word in left]
        command.make_context(path, [word for word in typed if word != "[OPTIONS]"])
    except Exception as error:
        said = str(getattr(error, "message", "") or error)
        # Within a sentence a command may be named without all that it needs.
        if not said.startswith("Missing") and not said.endswith("requires an argument."):
            yield f"{path}: {said}"


@pytest.mark.parametrize("page", READ, ids=name_of)
def test_what_a_page_tells_to_type_can_be_typed(page: Path) -> None:
    """Each command, option and target exists."""
    assert [mistake for line in typed_in(page) for mistake in mistakes(line)] == []


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("async-jobs wroker --queue a", "async-jobs: no command wroker"),
        ("X=1 .venv/bin/async-jobs jobs lst", "async-jobs jobs: no command lst"),
        ("async-jobs worker --queues a &", "async-jobs worker: No such option: --queues"),
        ("async-jobs-worker --queues a", "async-jobs worker: No such option: --queues"),
        ("async-jobs jobs enqueue --payload '{}' --tenent acme", "No such option: --tenent"),
        ("async-jobs attainment --by tenants", "'tenants'"),
        ("async-jobs limit --reset weight --tenant a --reason b", "weight"),
        ("async-jobs worker --concurrency many --queue a", "a valid integer"),
        ("make chek", "make chek: no such target"),
    ],
)
def test_a_mistake_is_found(line: str, mistake: str) -> None:
    """The rule has been seen to fail."""
    (found,) = mistakes(line)

    assert mistake in found


def test_what_is_right_is_left_alone() -> None:
    """Comments, pipes, values and other programs are no mistakes."""
    line = "async-jobs jobs list --tenant a --json | jq . # --nothing"

    assert not list(mistakes(line))
    assert not list(mistakes("async-jobs token | head -n 1"))
    assert not list(mistakes("make check && make docs"))


def test_the_page_of_the_command_line_has_every_command() -> None:
    """With every option; what it says of each is kept in step by `make check`."""
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    options = [
        (path, flag)
        for path, command in cli_reference.commands()
        for each in command.params
        if each.param_type_name == "option"
        for flag in each.opts
    ]

    assert len(options) > 100
    for path, flag in options:
        section = page.partition(f"## `{' '.join(path)}`\n")[2].partition("\n## ")[0]
        assert f"`{flag}" in section, (path, flag)
    assert cli_reference.main(["--check"], root=ROOT) == 0
