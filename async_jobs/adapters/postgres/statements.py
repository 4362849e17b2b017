"""The statements of `sql/`, read once by name."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def sql(name: str) -> str:
    """Return the text of the statement in `sql/<name>.sql`."""
    return (resources.files(f"{__package__}.sql") / f"{name}.sql").read_text("utf-8")
