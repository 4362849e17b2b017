"""The statements of `sql/`, read once by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from async_jobs.adapters.postgres.columns import PLACEHOLDERS


@cache
def statements() -> Mapping[str, Traversable]:
    """Return the file of each statement by its name, in whatever folder of `sql/` it is."""
    folders = (each for each in resources.files(f"{__package__}.sql").iterdir() if each.is_dir())
    files = (file for folder in folders for file in folder.iterdir())
    return {each.name.removesuffix(".sql"): each for each in files if each.name.endswith(".sql")}


@cache
def sql(name: str) -> str:
    """Return the text of the statement in `<name>.sql`, whose first word is its name.

    The columns that it reads of a job are filled in; see `columns`.

    OpenTelemetry's asyncpg instrumentation (0.5x) names a span by the first word, and takes off a
    comment only if nothing stands before it: hence the blank.
    """
    text = statements()[name].read_text("utf-8")
    for placeholder, columns in PLACEHOLDERS.items():
        text = text.replace(placeholder, columns)
    return f" /*{name}*/\n{text}"
