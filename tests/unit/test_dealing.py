"""The order of the tests lets no process wait for a long test at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit import dealing

ROOT = Path(__file__).parents[2]
LONG = {"tests/a.py::test_a": 50, "tests/b.py::test_b": 30, "tests/c.py": 20}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Thirteen tests, five of them long."""
    monkeypatch.setattr(dealing, "LONG_SECONDS", LONG)
    short = [f"tests/unit.py::test_{number}" for number in range(8)]
    long = ["tests/a.py::test_a[1]", "tests/a.py::test_a[2]", "tests/b.py::test_b"]
    return [*short[:6], *long, "tests/c.py::test_c[1]", "tests/c.py::test_c[2]", *short[6:]]


def test_each_part_begins_with_its_share_of_the_long_tests(names: list[str]) -> None:
    """What shares a file's fixture stays together; the short ones stay in their order."""
    order = dealing.dealt(names, names, 2)

    assert order[:3] == ["tests/a.py::test_a[1]", "tests/b.py::test_b", "tests/unit.py::test_0"]
    assert order[6] == "tests/a.py::test_a[2]"
    assert order[7:9] == ["tests/c.py::test_c[1]", "tests/c.py::test_c[2]"]
    assert [name for name in order if "unit" in name] == [n for n in names if "unit" in n]


@pytest.mark.parametrize("processes", [1, 2, 3, 5, 20])
def test_no_test_is_lost(names: list[str], processes: int) -> None:
    """However many processes share them."""
    assert sorted(dealing.dealt(names, names, processes)) == sorted(names)


@pytest.mark.parametrize("name", dealing.LONG_SECONDS)
def test_a_test_that_is_called_long_is_there(name: str) -> None:
    """One that has another name by now would be among the short ones."""
    file, _, function = name.partition("::")

    assert f"def {function}" in (ROOT / file).read_text(encoding="utf-8")
