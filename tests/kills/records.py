"""Files that only ever grow, one JSON object a line, written by any number of processes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

EXECUTIONS_VARIABLE: Final = "KILLS_EXECUTIONS_FILE"
EXECUTIONS_FILE: Final = "executions"


def append(path: Path, line: Mapping[str, object]) -> None:
    """Add a line, by one write, so that those of several processes never mix."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, (json.dumps(line) + "\n").encode())
    finally:
        os.close(file)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines in the order in which they were written; none when there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
