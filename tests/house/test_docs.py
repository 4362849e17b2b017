"""The documentation tells the truth: its examples run, its tables are whole."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from async_jobs.adapters.telemetry.instruments import INSTRUMENTS
from async_jobs.entrypoints.settings import config as config_module
from async_jobs.entrypoints.settings.config import AsyncJobsConfig
from tests.kit.pages import PAGES, ROOT, blocks_of, name_of

_LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
TESTS = ROOT / "tests"


TESTED_ELSEWHERE = {"docs/writing-an-adapter.md", "docs/tutorial.md"}
RUN_ALL = """
import json, sys
for page, line, code in json.load(sys.stdin):
    exec(compile("\\n" * (line - 1) + code, page, "exec"), {"__name__": "__main__"})
"""


@pytest.mark.parametrize(
    "page",
    [
        page
        for page in PAGES
        if any(block.language == "python" for block in blocks_of(page))
        and name_of(page) not in TESTED_ELSEWHERE
    ],
    ids=name_of,
)
def test_the_examples_run(page: Path) -> None:
    """Each Python block is a program that runs as it stands."""
    programs = [
        (name_of(page), block.line, block.code)
        for block in blocks_of(page)
        if block.language == "python"
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN_ALL],
        input=json.dumps(programs),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"AWS_DEFAULT_REGION": "eu-central-1"},
    )

    assert done.returncode == 0, done.stderr


def test_the_ten_lines_are_ten() -> None:
    """In the README, which promises it; they say what they do."""
    page = (ROOT / "README.md").read_text("utf-8").partition("## Ten lines\n")[2]
    program = page.partition("```python\n")[2].partition("```")[0]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert len([line for line in program.splitlines() if line]) == 10
    assert done.stdout == b"acme welcomes Ada\n"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_json_can_be_read(page: Path) -> None:
    """But for what says by an ellipsis that it is a part."""
    for block in blocks_of(page):
        if block.language == "json" and "…" not in block.code:
            json.loads(block.code)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_addresses_are_well_formed(page: Path) -> None:
    """Nobody asks whether somebody answers there; that would fail for others' sake."""
    text = page.read_text("utf-8")
    addresses = re.findall(r"\]\((\w+:[^)]*)\)", text)

    assert [each for each in addresses if not re.fullmatch(r"https://[\w.-]+(/\S*)?", each)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that exists."""
    links = [link for link in _LINK.findall(page.read_text("utf-8")) if "://" not in link]

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", ["docs/configuration.md", "examples/.env.example"])
def test_every_variable_is_documented(page: str) -> None:
    """A setting that the code reads is in the table and in the file to copy."""
    text = (ROOT / page).read_text("utf-8")
    variables = [*config_module._SCALARS, *config_module._JSON_OBJECTS]

    assert [variable for variable in variables if variable not in text] == []


def test_the_table_of_metrics_is_that_of_the_instruments() -> None:
    """Row by row, in its order."""
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    rows = []
    for each in INSTRUMENTS:
        labels = ", ".join(f"`{label}`" for label in each.labels) or "–"
        labels += " (`tenant`)" if each.by_tenant else ""
        names = f"`{each.name}` | `{each.prometheus_name}`"
        rows.append(f"| {names} | {each.kind} | {labels} | {each.help} |")

    assert "\n".join(rows) in page


def test_every_metric_that_a_page_names_is_measured() -> None:
    """An alert on what is not there never fires."""
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    named = set(re.findall(r"\basync_jobs_\w+", page)) - {"async_jobs_migrations"}
    parts = {name: re.sub(r"_(bucket|count|sum)$", "", name) for name in named}
    measured = {each.prometheus_name for each in INSTRUMENTS}

    assert named
    assert [name for name, part in parts.items() if not {name, part} & measured] == []


def test_the_example_environment_is_valid() -> None:
    """The file to copy can be read as it stands."""
    lines = (ROOT / "examples" / ".env.example").read_text("utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))

    config = AsyncJobsConfig.from_env(dict(pairs))

    assert config.queue_names == ("notifications",)
    assert config.unknown_variables == ()


def test_the_map_of_the_tests_is_whole() -> None:
    """Every folder, and every test of the house, is on it."""
    tests = ROOT / "tests"
    folders = {f"{path.parent.relative_to(tests).parts[0]}/" for path in tests.rglob("*/*.py")}
    files = {path.name for path in tests.glob("house/test_*.py")}
    text = (tests / "README.md").read_text("utf-8")

    assert "unit/" in folders
    assert [name for name in sorted(folders | files) if f"`{name}`" not in text] == []


def test_how_a_job_travels_names_files_that_are_there() -> None:
    """A row names a file from the package on, or beside the one before it."""
    package, page = ROOT / "async_jobs", ROOT / "docs" / "how-a-job-travels.md"
    missing = []
    for row in re.findall(r"^\|[^|]*\|([^|]*)\|$", page.read_text(encoding="utf-8"), re.MULTILINE):
        beside = package
        for name in re.findall(r"`([\w/]+(?:\.py|\.sql|/))`", row):
            found = [place / name for place in (package, beside, package / "adapters/postgres")]
            found = [path for path in found if path.exists()]
            if not found:
                missing.append(name)
            elif not name.startswith("sql/"):
                beside = found[0].parent

    assert missing == []


def test_field_reports_name_tests_that_are_there() -> None:
    """Each path and each test's name; a name alone is of the file before it."""
    page = (ROOT / "docs" / "field-reports.md").read_text("utf-8").partition("\n## ")[2]
    kit = ROOT / "async_jobs" / "testing" / "contracts"
    file, missing = ROOT, []
    for path, name in re.findall(r"`([\w./-]*\.py|[\w./-]+/|)((?:::[\w…]+)*)`", page):
        if path.startswith("c/"):
            file = next(
                (each for each in (kit, TESTS / "contract") if (each / path[2:]).exists()), kit
            )
            file /= path[2:]
        elif path:
            file = TESTS / path.replace("u/", "unit/", 1) if path.startswith("u/") else TESTS / path
        test = name.split("::")[-1]
        if (path or test) and not _holds(file, test):
            missing.append(path + name)

    assert not missing


def _holds(file: Path, test: str) -> bool:
    """Tell whether a test is in a file, or in a contract that it binds; any file holds no name."""
    if not file.exists() or not test:
        return file.exists()
    kit = (ROOT / "async_jobs" / "testing").rglob("*.py")
    sources = [file, *kit] if "contract" in file.parts else [file]
    return any(f"def {test}(" in each.read_text("utf-8") for each in sources)
