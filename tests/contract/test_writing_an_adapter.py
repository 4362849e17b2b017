"""What the documentation shows to authors of adapters works as it stands there."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from async_jobs.testing import contracts

GUIDE = Path(__file__).parents[2] / "docs" / "writing-an-adapter.md"
Fixture = type(pytest.fixture(lambda: None))
EXAMPLE = re.compile(r"^```\w+\n# (?P<name>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_guide_pass_as_they_stand(tmp_path: Path) -> None:
    """Somebody copies every example into an empty directory and runs pytest there."""
    examples = {
        found["name"]: found["text"] for found in EXAMPLE.finditer(GUIDE.read_text("utf-8"))
    }
    for name, text in examples.items():
        (tmp_path / name).write_text(text, "utf-8")

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert sum(name.startswith("test_") for name in examples) == 3
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_guide_tells_of_every_contract_and_its_fixtures() -> None:
    """So that nobody has to read the suites to bind them."""
    guide = GUIDE.read_text("utf-8")
    names = set(contracts.__all__)
    for contract in contracts.__all__:
        members = inspect.getmembers(getattr(contracts, contract))
        names |= {name for name, each in members if isinstance(each, Fixture)}

    assert {name for name in names if not re.search(rf"\b{name}\b", guide)} == set()
