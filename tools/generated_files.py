"""Files that are printed from the code and kept in the repository: written, or checked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

LIFECYCLE: Final = "async_jobs/domain/lifecycle.py"
"""What only a clone of this repository has."""


class GeneratedFileError(Exception):
    """The repository, or a file in it, is not as a command needs it."""


class GeneratedFile(NamedTuple):
    """A file, the text it has (empty if it is not there), and the text it should have."""

    path: Path
    text: str
    wanted: str


def keep(
    command: str,
    description: str,
    printed_from: str,
    files: Callable[[Path], Iterable[GeneratedFile]],
    *,
    arguments: Sequence[str] | None,
    root: Path | None,
) -> int:
    """Write or check generated files; returns 0 when all is well, else 1.

    Args:
        command: what is typed for it.
        description: what it does, for `--help`.
        printed_from: what a file that is out of date differs from.
        files: returns the files of a repository.
        arguments: the command line; the process's own when None.
        root: the repository; found from this module's place or the working directory when None.
    """
    parser = argparse.ArgumentParser(prog=command, description=description)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a file is out of date"
    )
    check = parser.parse_args(arguments).check
    here = Path(__file__).resolve().parents[1]
    try:
        root = root or find_root([here, Path.cwd(), *Path.cwd().parents])
        wanted = list(files(root))
    except GeneratedFileError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    stale = [file for file in wanted if file.text != file.wanted]
    for file in wanted:
        name = file.path.relative_to(root)
        if file not in stale:
            sys.stdout.write(f"{name} is up to date\n")
        elif check:
            sys.stderr.write(f"{name} differs from {printed_from}; run `{command}`\n")
        else:
            file.path.write_text(file.wanted, encoding="utf-8", newline="\n")
            sys.stdout.write(f"wrote {name}\n")
    return int(check and bool(stale))


def find_root(starts: Iterable[Path]) -> Path:
    """Return the first directory that is a clone of this repository and has `docs/`.

    Raises:
        GeneratedFileError: none of them is.
    """
    looked_in = list(dict.fromkeys(starts))
    for directory in looked_in:
        if (directory / LIFECYCLE).is_file() and (directory / "docs").is_dir():
            return directory
    places = ", ".join(str(directory) for directory in looked_in)
    raise GeneratedFileError(
        f"found no directory with {LIFECYCLE} and docs/; looked in: {places}."
        " Run this in a clone of the repository."
    )


def text_of(path: Path) -> str:
    """Return the text of a file; empty if it is not there."""
    return path.read_text(encoding="utf-8") if path.exists() else ""
