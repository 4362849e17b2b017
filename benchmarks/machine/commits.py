"""The package of this checkout and of other commits, to be measured side by side.

The rig is always this checkout's; only the package changes. Of another commit its `async_jobs`
is put under `.async_jobs/commits/`, and comes first on the path of what measures it.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine.environments import ROOT

PACKAGE = "async_jobs"
_HOME = ROOT / ".async_jobs" / "commits"


class Checkout(NamedTuple):
    """A package to measure: the directory that holds it, and its commit."""

    directory: Path
    commit: str

    def environment(self) -> Mapping[str, str]:
        """Return the variables by which a Python imports this package and this checkout's rig."""
        path = os.pathsep.join(map(str, dict.fromkeys((self.directory, ROOT))))
        return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


class UnknownCommitError(Exception):
    """Git does not know the commit, or this is no checkout."""


def here() -> Checkout:
    """Return this checkout, with what has not been committed."""
    try:
        head = _git("rev-parse", "--short", "HEAD").decode().strip()
        changed = _git("status", "--porcelain", PACKAGE).strip()
    except UnknownCommitError:
        return Checkout(ROOT, "unknown")
    return Checkout(ROOT, f"{head} with changes" if changed else head)


def of_commit(commit: str) -> Checkout:
    """Return a checkout of another commit's package.

    Raises:
        UnknownCommitError: git does not know it.
    """
    short = _git("rev-parse", "--short", f"{commit}^{{commit}}").decode().strip()
    directory = _HOME / short
    if not (directory / PACKAGE).exists():
        packed = _git("archive", short, PACKAGE)
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(directory, filter="data")
    return Checkout(directory, short)


def _git(*arguments: str) -> bytes:
    command = ["git", "-C", str(ROOT), *arguments]
    told = subprocess.run(command, capture_output=True, check=False)
    if told.returncode != 0:
        raise UnknownCommitError(told.stderr.decode().strip())
    return told.stdout
