"""The verdict: what is wrong now, what matters most first, and what was kept of promises."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from async_jobs.domain.controls import Control
from async_jobs.domain.explain import Status, UseCaseStatus
from async_jobs.domain.tallies import Attained, Attainment

LATE_SHARE: Final = 0.01
"""More late starts than that in an hour are worth a line."""
FAILED_SHARE: Final = 0.1
"""More failed attempts than that in an hour are worth one: retries are for some."""
STEP_COUNT: Final = 12


class Level(StrEnum):
    """How much a line matters."""

    BAD = "bad"
    """Jobs wait that nobody starts."""
    WARN = "warn"
    """Some jobs wait for longer than they should, or may."""
    NOTE = "note"
    """As somebody ordered it."""


_LEVELS: Final[Mapping[str, Level]] = {
    "no_scheduler": Level.BAD,
    "queue_unattended": Level.BAD,
    "type_unattended": Level.BAD,
    "transports_differ": Level.BAD,
    "use_case_unknown": Level.BAD,
    "paused": Level.NOTE,
    "use_case_paused": Level.NOTE,
}
_ORDER: Final = list(Level)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One line of the verdict: what is so and what to do, and the page that shows more of it."""

    level: Level
    code: str
    sentence: str
    path: str = ""
    query: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A use case as a row of a table.

    Attributes:
        now: what it has to do.
        hour: what became of it in the last hour; None where nothing was told.
        on_time, late: first starts by step of that hour; late ones with those that never started.
        paused: whether all of it is.
    """

    now: UseCaseStatus
    hour: Attained | None
    on_time: Sequence[int]
    late: Sequence[int]
    paused: bool

    @property
    def filled(self) -> float | None:
        """The share of its capacity that is used."""
        return self.now.running / self.now.limit if self.now.limit else None

    @property
    def drained_in(self) -> float | None:
        """After how many seconds nothing would wait, if nothing came and starts went on so."""
        rate = self.now.starts_per_second
        if not self.now.pending:
            return 0.0
        return self.now.pending / rate if rate else None

    @property
    def unrest(self) -> tuple[float, int]:
        """What sorts those first that somebody should look at."""
        missed = 0 if self.hour is None else self.hour.late + self.hour.unstarted
        return (float(missed), self.now.pending)


def loads(
    status: Status, hour: Attainment, steps: Attainment | None, controls: Iterable[Control]
) -> list[Load]:
    """Return the use cases with what became of them, those to look at first at the beginning."""
    by_name = {each.use_case: each for each in hour.rows}
    paused = {each.scope.use_case for each in controls if each.is_pause and each.scope.is_use_case}
    on_time: dict[str | None, list[int]] = {}
    late: dict[str | None, list[int]] = {}
    for row, at in () if steps is None else _by_step(steps):
        on_time.setdefault(row.use_case, [0] * STEP_COUNT)[at] += row.on_time
        late.setdefault(row.use_case, [0] * STEP_COUNT)[at] += row.late + row.unstarted
    made = [
        Load(
            now=each,
            hour=by_name.get(each.use_case),
            on_time=on_time.get(each.use_case, ()),
            late=late.get(each.use_case, ()),
            paused=each.use_case in paused or each.limit == 0,
        )
        for each in status.use_cases
    ]
    return sorted(made, key=lambda each: (*(-n for n in each.unrest), each.now.use_case))


def _by_step(steps: Attainment) -> Iterator[tuple[Attained, int]]:
    size = (steps.until - steps.since) / STEP_COUNT
    for row in steps.rows:
        yield row, min(STEP_COUNT - 1, max(0, int((row.starting - steps.since) / size)))


def troubles(
    status: Status, use_cases: Iterable[Load], *, has_groups: bool = True
) -> list[Trouble]:
    """Return what is wrong, what matters most first; nothing if all is well.

    Args:
        status: who is there, and what keeps jobs waiting.
        use_cases: with what became of their jobs.
        has_groups: whether there is a page of error groups; else dead jobs are shown.
    """
    found = [
        Trouble(
            level=_LEVELS.get(each.code, Level.WARN),
            code=each.code,
            sentence=each.sentence,
            **_where(each.code, each.data),
        )
        for each in status.warnings
    ]
    for load in use_cases:
        if load.hour is not None:
            found += _missed(load.now.use_case, load.hour)
            found += _failing(load.now.use_case, load.hour, has_groups)
    return sorted(found, key=lambda each: _ORDER.index(each.level))


def _missed(use_case: str, hour: Attained) -> Iterator[Trouble]:
    missed = hour.late + hour.unstarted
    if missed > LATE_SHARE * (hour.on_time + missed):
        yield Trouble(
            level=Level.WARN,
            code="late",
            sentence=(
                f"{missed:,} of {hour.on_time + missed:,} first starts of {use_case!r} missed"
                " their deadline in the last hour: see what its jobs wait for."
            ),
            path="use-case",
            query={"name": use_case},
        )


def _failing(use_case: str, hour: Attained, has_groups: bool) -> Iterator[Trouble]:
    failed = sum(hour.attempts.get(how, 0) for how in _FAILURES)
    if failed > FAILED_SHARE * (hour.succeeded + failed):
        dead = f", and {hour.dead:,} jobs are dead" if hour.dead else ""
        yield Trouble(
            level=Level.WARN,
            code="failing",
            sentence=(
                f"{failed:,} of {hour.succeeded + failed:,} attempts of {use_case!r} failed in"
                f" the last hour{dead}: see what went wrong."
            ),
            path="errors" if has_groups else "jobs",
            query={"use_case": use_case}
            if has_groups
            else {"use_case": use_case, "status": "dead"},
        )


_FAILURES: Final = ("failed", "rejected", "lease_expired")


def _where(code: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the page that shows more of a warning."""
    if isinstance(use_case := data.get("use_case"), str):
        return {"path": "use-case", "query": {"name": use_case}}
    if code == "paused":
        return {"path": "controls", "query": {}}
    return {"path": "fleet", "query": {}}


def summed(rows: Iterable[Attained]) -> dict[str, float | int | None]:
    """Return the totals of some rows, and the share that was on time."""
    total = dict.fromkeys(("on_time", "late", "unstarted", "enqueued", "succeeded", "dead"), 0)
    for each in rows:
        for key in total:
            total[key] += getattr(each, key)
    promised = total["on_time"] + total["late"] + total["unstarted"]
    return {
        **total,
        "promised": promised,
        "attainment": total["on_time"] / promised if promised else None,
    }
