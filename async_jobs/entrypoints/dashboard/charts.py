"""Charts as SVG that the server draws: classes and attributes only, so that no style is inline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from markupsafe import Markup

WIDTH: Final = 720.0
HEIGHT: Final = 160.0
SPARK_WIDTH: Final = 96.0
SPARK_HEIGHT: Final = 20.0
GRID_LINES: Final = 4
TICKS: Final = 6


class Series(NamedTuple):
    """One line or one part of each bar: what it is called, its class, and a value for each step."""

    label: str
    kind: str
    values: Sequence[float | None]


class Mark(NamedTuple):
    """A time that is marked: from the beginning to the end of a pause, or an instant of a change.

    `until` is None for an instant.
    """

    since: datetime
    until: datetime | None
    label: str


class Frame(NamedTuple):
    """The time that a chart shows."""

    since: datetime
    step: timedelta
    steps: int

    @property
    def until(self) -> datetime:
        """The end of the last step."""
        return self.since + self.step * self.steps

    def x(self, at: datetime) -> float:
        """Return where an instant is, within the chart."""
        part = (at - self.since) / (self.step * self.steps)
        return round(max(0.0, min(1.0, part)) * WIDTH, 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Return where the axis is labelled, in percent, and with what."""
        is_long = self.step * self.steps > timedelta(days=1)
        told = []
        for number in range(TICKS):
            at = self.since + self.step * self.steps * number / (TICKS - 1)
            text = f"{at.astimezone(UTC):%d %b %H:%M}" if is_long else f"{at.astimezone(UTC):%H:%M}"
            told.append((100 * number / (TICKS - 1), text))
        return told


def nice(top: float) -> float:
    """Return the next round number, so that an axis ends on one."""
    if top <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(top))
    return next(each * size for each in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if each * size >= top)


def bars(
    frame: Frame, series: Sequence[Series], marks: Iterable[Mark] = ()
) -> tuple[Markup, float]:
    """Return stacked bars, one for each step, and what the top of the chart stands for."""
    totals = [sum(each.values[at] or 0 for each in series) for at in range(frame.steps)]
    top = nice(max(totals, default=0.0))
    width = WIDTH / frame.steps
    drawn = [*_marks(frame, marks), *_grid()]
    for at in range(frame.steps):
        y = HEIGHT
        told = "".join(f"\n{each.label}: {each.values[at] or 0:,.0f}" for each in series)
        parts = Markup("")
        for each in series:
            high = (each.values[at] or 0) / top * HEIGHT
            if high <= 0:
                continue
            y -= high
            parts += Markup(
                '<rect class="{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/>'
            ).format(
                f"bar {each.kind}", at * width, max(0.0, y), max(0.5, width - 1), max(0.75, high)
            )
        if parts:
            title = f"{frame.since + frame.step * at:%Y-%m-%d %H:%M} UTC{told}"
            drawn.append(Markup("<g><title>{}</title>{}</g>").format(title, parts))
    return _svg(drawn), top


def lines(
    frame: Frame, series: Sequence[Series], *, top: float | None = None, marks: Iterable[Mark] = ()
) -> tuple[Markup, float]:
    """Return lines, broken where there is no value, and what the top of the chart stands for."""
    known = [value for each in series for value in each.values if value is not None]
    top = nice(max(known, default=0.0)) if top is None else top
    drawn = [*_marks(frame, marks), *_grid()]
    width = WIDTH / frame.steps
    for each in series:
        path, pen = [], "M"
        for at, value in enumerate(each.values):
            if value is None:
                pen = "M"
                continue
            y = HEIGHT - min(1.0, value / top) * HEIGHT
            # A value that stands alone is a line as well, as wide as its step.
            path.append(f"{pen}{at * width:.2f} {y:.2f}H{(at + 1) * width:.2f}")
            pen = "L"
        if path:
            drawn.append(
                Markup('<path class="{}" d="{}"/>').format(f"line {each.kind}", "".join(path))
            )
    return _svg(drawn), top


def spark(on_time: Sequence[int], late: Sequence[int]) -> Markup:
    """Return a small chart without any words: first starts, and above them the late ones."""
    steps = max(1, len(on_time))
    top = nice(max(map(sum, zip(on_time, late, strict=True)), default=0))
    width = SPARK_WIDTH / steps
    drawn = Markup("")
    for at, values in enumerate(zip(on_time, late, strict=True)):
        y = SPARK_HEIGHT
        for kind, value in zip(("on-time", "late"), values, strict=True):
            if value:
                high = value / top * SPARK_HEIGHT
                y -= high
                drawn += Markup(
                    '<rect class="bar {}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"/>'
                ).format(kind, at * width, y, width - 1, high)
    return Markup(
        '<svg class="spark" viewBox="0 0 {:g} {:g}" preserveAspectRatio="none"'
        ' aria-hidden="true">{}</svg>'
    ).format(SPARK_WIDTH, SPARK_HEIGHT, drawn)


def _svg(drawn: Iterable[Markup]) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {:g} {:g}" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(WIDTH, HEIGHT, Markup("").join(drawn))


def _grid() -> list[Markup]:
    return [
        Markup('<line class="grid" x1="0" x2="{:g}" y1="{:g}" y2="{:g}"/>').format(
            WIDTH, HEIGHT * number / GRID_LINES, HEIGHT * number / GRID_LINES
        )
        for number in range(GRID_LINES + 1)
    ]


def _marks(frame: Frame, marks: Iterable[Mark]) -> list[Markup]:
    drawn = []
    for each in marks:
        until = each.since if each.until is None else each.until
        if until < frame.since or each.since > frame.until:
            continue
        left = frame.x(each.since)
        width = max(1.5, frame.x(until) - left)
        kind = "change" if each.until is None else "pause"
        drawn.append(
            Markup(
                '<rect class="mark {}" x="{:.2f}" y="0" width="{:.2f}" height="{:g}">'
                "<title>{}</title></rect>"
            ).format(kind, left, width, HEIGHT, each.label)
        )
    return drawn
