"""The statements of `sql/`, read once by name."""

from __future__ import annotations

from functools import cache
from importlib import resources

from async_jobs.adapters.postgres.columns import PLACEHOLDERS


@cache
def sql(name: str) -> str:
    """Return the text of the statement in `sql/<name>.sql`, whose first word is its name.

    The columns that it reads of a job are filled in; see `columns`.

    OpenTelemetry's asyncpg instrumentation (0.5x) names a span by the first word, and takes off a
    comment only if nothing stands before it: hence the blank.
    """
    text = (resources.files(f"{__package__}.sql") / f"{name}.sql").read_text("utf-8")
    for placeholder, columns in PLACEHOLDERS.items():
        text = text.replace(placeholder, columns)
    return f" /*{name}*/\n{text}"
