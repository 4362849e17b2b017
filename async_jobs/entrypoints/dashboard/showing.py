"""How values look on a page: names of strangers, numbers with units, instants, and addresses."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from async_jobs.entrypoints.dashboard.charts import spark

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_UNITS: Final = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))
NOTHING: Final = "–"
LONG: Final = 20


def environment() -> Environment:
    """Return what renders the templates; everything that is put in is escaped."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "name": name,
        "visible": visible,
        "count": count,
        "rate": rate,
        "several": several,
        "percent": percent,
        "lasting": lasting,
        "instant": instant,
        "words": words,
        "indented": indented,
        "spark": spark,
    }
    return made


def visible(text: str) -> str:
    """Return a text in which nothing is hidden: what has no glyph, or turns others round, is told.

    Line breaks and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"\\u{{{ord(each):x}}}"
        if each not in "\n\t" and unicodedata.category(each) in _HIDDEN
        else each
        for each in text
    )


def name(value: str | None) -> Markup:
    """Return a name that strangers chose, apart from the text around it."""
    if value is None:
        return Markup('<span class="none">{}</span>').format(NOTHING)
    shown = visible(value)
    if len(shown) <= LONG:
        return Markup('<bdi class="name">{}</bdi>').format(shown)
    # Where there is no room for all of it, pointing at it tells the rest.
    return Markup('<bdi class="name" title="{0}">{0}</bdi>').format(shown)


def words(value: str) -> str:
    """Return what a code says in words."""
    return value.replace("_", " ")


def count(value: float | None, at_least: bool = False) -> str:
    """Return a whole number for people; with a plus where there may be more."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}{'+' if at_least else ''}"


def several(value: int, noun: str) -> str:
    """Return how many of something."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def rate(value: float | None) -> str:
    """Return how many a second."""
    if value is None:
        return NOTHING
    if value and value < 0.1:
        return f"{value * 60:.2g}/min"
    return f"{value:,.0f}/s" if value >= 100 else f"{value:.3g}/s"


def percent(value: float | None) -> str:
    """Return a share; what is not all is never told as 100 %."""
    if value is None:
        return NOTHING
    shown = f"{value * 100:.2f}".rstrip("0").rstrip(".")
    if shown == "100" and value < 1:
        shown = "99.99"
    return f"{shown} %"


def lasting(seconds: float | timedelta | None) -> str:
    """Return a duration in its largest unit."""
    if seconds is None:
        return NOTHING
    value = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    size = abs(value)
    for length, unit in _UNITS:
        if size >= length:
            amount = value / length
            return f"{amount:.0f} {unit}" if abs(amount) >= 10 else f"{amount:.2g} {unit}"
    return "0 s" if not value else f"{value * 1_000:.3g} ms"


def absolute(at: datetime) -> str:
    """Return an instant in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def instant(at: datetime | None, now: datetime) -> Markup:
    """Return an instant by its distance from now; pages can show it in other ways."""
    if at is None:
        return Markup('<span class="none">{}</span>').format(NOTHING)
    away = (now - at).total_seconds()
    if abs(away) < 1:
        told = "just now"
    else:
        told = f"{lasting(away)} ago" if away > 0 else f"in {lasting(-away)}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.astimezone(UTC).isoformat(), absolute(at), told
    )


def indented(value: object) -> str:
    """Return a JSON value as it can be read, its keys in their order."""
    return visible(json.dumps(value, ensure_ascii=False, indent=2))


class Addresses:
    """Makes the addresses of pages, wherever the dashboard is mounted.

    Values go into the query, whatever they hold: a name in a path could be a path.
    """

    def __init__(self, base: str) -> None:
        self._base = base

    def __call__(self, path: str = "", **query: object) -> str:
        """Return the address of a page; what is None is left out of its query."""
        told = {key: each for key, each in query.items() if each is not None}
        return f"{self._base}/{path}" + (f"?{urlencode(told)}" if told else "")

    def static(self, file: str) -> str:
        """Return the address of a file."""
        return f"{self._base}/static/{file}"


def query_without(query: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return what a query says, but for some names."""
    return {key: value for key, value in query.items() if key not in names}
