"""The lifecycle document says what the code does, and the check notices when it does not."""

import re
from pathlib import Path

import pytest

from async_jobs.domain.crashes import CRASHES_MAX
from async_jobs.domain.errors import IllegalTransition
from async_jobs.domain.job import Job, JobStatus
from async_jobs.domain.lifecycle import (
    TRANSITIONS,
    Amended,
    Cancelled,
    CancelRequested,
    Claimed,
    Expired,
    Failed,
    HandOffFailed,
    JobEvent,
    Leased,
    LeaseExpired,
    Rejected,
    Released,
    Renewed,
    Restored,
    Retried,
    SetAside,
    Snoozed,
    Succeeded,
    advance,
)
from tests.unit.domain.builders import (
    NOW,
    after,
    cancelled,
    claimed,
    dead,
    handed_off,
    pending,
    succeeded,
)
from tools import generated_files
from tools import lifecycle_diagram as diagram
from tools.generated_files import GeneratedFileError, find_root
from tools.lifecycle_diagram import document, embed, main, mermaid

REPOSITORY = Path(__file__).parents[2]
README = f"# Jobs\n\n{diagram.BEGIN}\nold\n{diagram.END}\n\nMore.\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A directory that looks like a clone of the repository, with nothing generated yet."""
    (tmp_path / "docs").mkdir()
    source = tmp_path / generated_files.LIFECYCLE
    source.parent.mkdir(parents=True)
    source.touch()
    return tmp_path


# --- What is drawn ---------------------------------------------------------------------------

JOBS: list[Job] = [
    pending(run_at=after(-31), deadline_at=after(-1)),
    handed_off(),
    handed_off(lease_expires_at=after(-1), attempts=3),
    claimed(),
    claimed(attempts=3),
    claimed(lease_expires_at=after(-1)),
    claimed(lease_expires_at=after(-1), crashes=CRASHES_MAX - 1),
    *(
        job(cancel_requested=True, lease_expires_at=end, **last)
        for job in (handed_off, claimed)
        for end in (after(5), after(-1))
        for last in ({}, {"attempts": 3, "crashes": CRASHES_MAX - 1})
    ),
    succeeded(),
    dead(),
    cancelled(),
]
EVENTS: list[JobEvent] = [
    Leased(after(60)),
    HandOffFailed("no"),
    Claimed("worker-2", after(60)),
    Renewed(after(60)),
    Succeeded(),
    Failed("boom"),
    Rejected("never"),
    Snoozed(after(60)),
    Released(),
    CancelRequested(),
    Cancelled(),
    LeaseExpired(),
    SetAside(after(60)),
    Expired(),
    Retried(),
    Amended(priority=7),
    Restored(),
]


def drawn() -> set[tuple[str, str, str]]:
    """Read the arrows off the diagram: from, event, to."""
    found = set()
    for source, target, label in re.findall(r"^ +(\w+) --> (\w+): (.+)$", mermaid(), re.MULTILINE):
        found |= {(source, event, target) for event in label.split(", ")}
    return found


def really_possible() -> set[tuple[str, str, str]]:
    """Try every event on a job in every state."""
    found = set()
    for job in JOBS:
        for event in EVENTS:
            try:
                moved = advance(job, event, now=NOW)
            except IllegalTransition:
                continue
            found.add((job.phase.value, type(event).__name__, moved.phase.value))
    return found


def test_every_arrow_is_something_that_can_happen_and_the_reverse() -> None:
    """The diagram and the state machine agree, event by event and phase by phase."""
    assert drawn() == really_possible()


def test_a_running_job_is_drawn_as_its_three_phases() -> None:
    """One composite state that holds them."""
    composite = re.search(r"state running \{(.*?)\}", mermaid(), re.DOTALL)

    assert composite is not None
    assert 'state "handed off" as handed_off' in composite[1]
    assert 'state "claimed" as claimed' in composite[1]
    assert 'state "cancelling" as cancelling' in composite[1]
    assert "handed_off --> claimed: Claimed" in composite[1]
    assert "claimed --> cancelling: CancelRequested" in composite[1]
    assert "pending" not in composite[1]


def test_every_life_begins_pending_and_ends_in_a_terminal_status() -> None:
    """The diagram has a beginning and ends."""
    text = mermaid()

    assert re.findall(r"\[\*\] --> (\w+)", text) == ["pending"]
    assert re.findall(r"(\w+) --> \[\*\]", text) == ["succeeded", "dead", "cancelled"]


def test_the_table_lists_every_transition_with_its_guard() -> None:
    """One line for each pair of the table: from, event, guard, to, and what happened."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in document().partition("## Transitions")[2].splitlines()
        if line.startswith("|")
    ][2:]

    assert [row[:3] for row in rows] == [
        [phase.value.replace("_", " "), f"`{event.__name__}`", ", ".join(g.name for g in row.only)]
        for (phase, event), row in TRANSITIONS.items()
    ]
    assert [row[3].replace(" ", "_").split("_or_") for row in rows] == [
        [phase.value for phase in row.to] for row in TRANSITIONS.values()
    ]
    assert all(row[4].endswith(".") for row in rows)


def test_every_status_is_explained() -> None:
    """The introduction has the texts under the members of `JobStatus`."""
    texts = diagram.status_docs()

    assert list(texts) == list(JobStatus)
    assert all(f"| **{status}** | {text} |" in document() for status, text in texts.items())


def test_the_document_says_where_it_comes_from() -> None:
    """Whoever opens it to change it learns what to run instead."""
    generated = " ".join(document().split())

    assert "Generated by `python -m tools.lifecycle_diagram`" in generated
    assert "do not edit" in generated


# --- Writing ---------------------------------------------------------------------------------


def test_the_document_is_written(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments the command writes and says so."""
    code = main([], root=clone)

    assert code == 0
    assert (clone / "docs/lifecycle.md").read_text(encoding="utf-8") == document()
    assert capsys.readouterr().out == "wrote docs/lifecycle.md\n"


def test_a_document_that_is_up_to_date_is_left_alone(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run changes nothing and says so."""
    main([], root=clone)
    capsys.readouterr()

    code = main([], root=clone)

    assert code == 0
    assert capsys.readouterr().out == "docs/lifecycle.md is up to date\n"


def test_the_diagram_in_the_readme_is_replaced(clone: Path) -> None:
    """Between the markers stands the diagram; everything around them stays."""
    (clone / "README.md").write_text(README, encoding="utf-8")

    code = main([], root=clone)

    text = (clone / "README.md").read_text(encoding="utf-8")
    assert code == 0
    assert text == (
        f"# Jobs\n\n{diagram.BEGIN}\n```mermaid\n{mermaid()}\n```\n{diagram.END}\n\nMore.\n"
    )


def test_a_readme_without_markers_is_left_alone(clone: Path) -> None:
    """Embedding the diagram is an offer."""
    (clone / "README.md").write_text("# Jobs\n", encoding="utf-8")

    code = main([], root=clone)

    assert code == 0
    assert (clone / "README.md").read_text(encoding="utf-8") == "# Jobs\n"


@pytest.mark.parametrize(
    "text",
    [
        diagram.BEGIN,
        diagram.END,
        f"{diagram.END} {diagram.BEGIN}",
        f"{diagram.BEGIN} {diagram.END} {diagram.BEGIN} {diagram.END}",
    ],
    ids=["no end", "no beginning", "wrong order", "twice"],
)
def test_markers_that_do_not_pair_are_an_error(text: str) -> None:
    """Nothing is guessed about where the diagram should go."""
    with pytest.raises(GeneratedFileError, match=r"README\.md must have .* once"):
        embed(text)


# --- Checking --------------------------------------------------------------------------------


def test_a_check_passes_on_what_was_written(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Right after writing, both files are up to date."""
    (clone / "README.md").write_text(README, encoding="utf-8")
    main([], root=clone)
    capsys.readouterr()

    code = main(["--check"], root=clone)

    assert code == 0
    assert capsys.readouterr().out == "docs/lifecycle.md is up to date\nREADME.md is up to date\n"


@pytest.mark.parametrize("name", ["docs/lifecycle.md", "README.md"])
def test_a_check_fails_on_a_file_that_was_edited(
    clone: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Exit 1, the file named with the command that mends it, and nothing written."""
    (clone / "README.md").write_text(README, encoding="utf-8")
    main([], root=clone)
    edited = (clone / name).read_text(encoding="utf-8").replace("pending", "waiting")
    (clone / name).write_text(edited, encoding="utf-8")

    code = main(["--check"], root=clone)

    assert code == 1
    assert capsys.readouterr().err == (
        f"{name} differs from the transition table; run `python -m tools.lifecycle_diagram`\n"
    )
    assert (clone / name).read_text(encoding="utf-8") == edited


def test_a_check_fails_on_a_missing_document(clone: Path) -> None:
    """A file that was never generated is out of date, and stays missing."""
    code = main(["--check"], root=clone)

    assert code == 1
    assert not (clone / "docs/lifecycle.md").exists()


def test_a_broken_readme_fails_with_a_message(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends with exit code 1 and no traceback, before it writes anything."""
    (clone / "README.md").write_text(diagram.BEGIN, encoding="utf-8")

    code = main([], root=clone)

    assert code == 1
    assert not (clone / "docs/lifecycle.md").exists()
    assert capsys.readouterr().err.startswith("error: README.md must have")


def test_the_files_in_this_repository_are_up_to_date() -> None:
    """What is committed is what the table says."""
    assert main(["--check"], root=REPOSITORY) == 0


# --- Finding the repository ------------------------------------------------------------------


def test_the_repository_is_the_first_place_that_looks_like_it(clone: Path) -> None:
    """A directory that only happens to have `docs/` is passed over."""
    other = clone / "other"
    (other / "docs").mkdir(parents=True)

    assert find_root([other, clone]) == clone


def test_outside_of_a_clone_the_command_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Installed from a wheel and run anywhere, it ends with a clear message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(generated_files, "__file__", str(tmp_path / "a/b/generated.py"))

    code = main(["--check"])

    message = capsys.readouterr().err
    assert code == 1
    assert str(tmp_path) in message
    assert "Run this in a clone of the repository." in message


def test_the_command_finds_the_repository_from_its_own_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an editable install it works from any directory."""
    monkeypatch.chdir(tmp_path)

    assert main(["--check"]) == 0
