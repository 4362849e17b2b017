"""A program: run the sabotaged contracts of a file, and tell what failed and passed.

It is a process of its own, because a pytest within a pytest shares too much with it.
"""

from __future__ import annotations

import json
import sys

import pytest


class Tally:
    """A pytest plugin: runs what may fail, until it does, and keeps which test it was."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        self.passed: dict[str, int] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Of a saboteur's tests only those of the promise that it breaks are run."""
        items[:] = [item for item in items if concerns(item)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """One failure is enough."""
        if whose(item.nodeid) in self.failed:
            pytest.skip("seen red")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the first failure of each class."""
        name = whose(report.nodeid)
        if report.failed:
            self.failed.setdefault(name, f"{report.nodeid} ({report.when})")
        elif report.when == "call":
            self.passed[name] = self.passed.get(name, 0) + 1


def concerns(item: pytest.Item) -> bool:
    """Tell whether a test is about the promise that its saboteur breaks, if it breaks any."""
    assert isinstance(item, pytest.Function)
    assert item.cls is not None
    promise = item.cls.saboteur.breaks.lower().replace("-", "_")
    return item.name.startswith(f"test_{promise}_" if promise else "test_")


def whose(nodeid: str) -> str:
    """Return the saboteur whose test this is."""
    return nodeid.split("::")[1].removeprefix("Test")


def main(path: str) -> None:
    """Print what became of the saboteurs, as JSON on the last line."""
    tally = Tally()
    without = ["-p", "no:cacheprovider", "-p", "no:xdist"]
    pytest.main([path, "-q", "--tb=line", "--no-header", *without], plugins=[tally])
    sys.stdout.write(json.dumps({"failed": tally.failed, "passed": tally.passed}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
