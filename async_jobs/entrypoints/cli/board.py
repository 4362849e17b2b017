"""What `async-jobs top` shows: a status as lines that fit a terminal of any size."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size

from async_jobs.domain.explain import QueueStatus, Status, UseCaseStatus
from async_jobs.domain.tallies import Attained, Attainment
from async_jobs.entrypoints.cli.operations import ordered
from async_jobs.entrypoints.programs.terminal import printable

GAP: Final = "  "
NARROWEST: Final = 6
"""So many cells of a name are left before the end of a line is cut off."""
BAR: Final = 10


class Seen(NamedTuple):
    """What one look has found; `attained` is None where nobody tells."""

    status: Status
    attained: Attainment | None = None


class Size(NamedTuple):
    """How many cells and lines there are."""

    width: int
    height: int


class _Section(NamedTuple):
    """A table, or lines without headings; its cells are harmless.

    `names` is how many columns at the left are names: these are cut where room is short.
    """

    rows: Sequence[Sequence[str]]
    headings: Sequence[str] = ()
    names: int = 1


def lines_of(seen: Seen, size: Size | None = None, footer: str = "") -> list[str]:
    """Return what is to be shown.

    Args:
        seen: what was found.
        size: no line is wider and there are no more; None leaves nothing out.
        footer: one line more at the end; empty for none.
    """
    sections = [each for each in _sections(seen) if each.rows]
    lines = [_summary(seen.status)]
    room = None if size is None else size.height - 1 - bool(footer)
    for section, rows in zip(sections, _rooms(sections, room), strict=True):
        if rows != 0:
            lines += ["", *_laid_out(section, rows, None if size is None else size.width)]
    if size is None:
        return [line.rstrip() for line in (*lines, *filter(None, [footer]))]
    lines = lines[: size.height - bool(footer)]
    if footer:
        lines += [""] * (size.height - 1 - len(lines)) + [printable(footer)]
    return [_cut(line.rstrip(), size.width) for line in lines]


def _sections(seen: Seen) -> Iterator[_Section]:
    status, attained = seen
    yield _Section([[f"warning: {printable(each.sentence)}"] for each in status.warnings])
    yield _Section([[printable(ordered(each))] for each in status.controls])
    by_use_case = _kept(attained, "use_case")
    yield _Section(
        [_use_case(each, by_use_case.get(each.use_case)) for each in _busiest(status.use_cases)],
        ("use case", "running", "waiting", "starts/s", "on time", "late", "unstarted"),
    )
    yield _Section(_tenants(attained), ("tenant", "starts", "on time", "late", "unstarted"))
    yield _Section(
        [_queue(each) for each in status.queues],
        ("queue", "workers", "busy", "slots busy", "unclaimed"),
    )
    yield _Section(
        [
            (
                printable(each.worker_id),
                printable(each.host),
                printable(", ".join(each.queues)),
                f"{each.busy}/{each.slots}",
                _bar(each.busy, each.slots),
            )
            for each in sorted(status.workers, key=lambda each: (-each.busy, each.worker_id))
        ],
        ("worker", "host", "queues", "busy", "slots busy"),
        names=3,
    )
    yield _Section(
        [
            (
                printable(each.scheduler_id),
                printable(each.host),
                printable(", ".join(each.leads)),
                _ago(each.ticked_at, status.at),
                f"{each.tick_seconds * 1_000:.1f} ms",
            )
            for each in status.schedulers
        ],
        ("scheduler", "host", "leads", "last tick", "took"),
        names=3,
    )


# --- cells --------------------------------------------------------------------------------------


class _Kept(NamedTuple):
    """How many of some first starts were as promised."""

    on_time: int = 0
    late: int = 0
    unstarted: int = 0

    def cells(self) -> tuple[str, str, str]:
        due = sum(self)
        # Rounded down: 100% is said of nothing that missed.
        share = "-" if not due else f"{math.floor(1000 * self.on_time / due) / 10:.4g}%"
        return share, f"{self.late:,}", f"{self.unstarted:,}"


def _kept(attained: Attainment | None, by: str) -> dict[str, _Kept]:
    sums = defaultdict[str, _Kept](_Kept)
    rows: Iterable[Attained] = () if attained is None else attained.rows
    for row in rows:
        one, name = (row.on_time, row.late, row.unstarted), getattr(row, by) or ""
        sums[name] = _Kept(*(a + b for a, b in zip(sums[name], one, strict=True)))
    return sums


def _summary(status: Status) -> str:
    pending = sum(each.pending for each in status.use_cases)
    more = "+" if any(each.at_least for each in status.use_cases) else ""
    running = sum(each.running for each in status.use_cases)
    parts = [
        f"{status.at:%Y-%m-%d %H:%M:%S} UTC",
        f"running {running:,}",
        f"waiting {pending:,}{more}",
    ]
    if status.workers:
        busy, slots = (sum(getattr(w, of) for w in status.workers) for of in ("busy", "slots"))
        parts.append(f"slots busy {busy}/{slots}")
    return GAP.join((*parts, f"warnings {len(status.warnings)}"))


def _busiest(use_cases: Iterable[UseCaseStatus]) -> list[UseCaseStatus]:
    return sorted(use_cases, key=lambda each: (-each.pending, -each.running, each.use_case))


def _use_case(each: UseCaseStatus, kept: _Kept | None) -> tuple[str, ...]:
    rate = each.starts_per_second
    return (
        printable(each.use_case),
        f"{each.running}/{'-' if each.limit is None else each.limit}",
        f"{each.pending:,}{'+' if each.at_least else ''}",
        "-" if rate is None else f"{rate:.3g}",
        *(("-", "-", "-") if kept is None else kept.cells()),
    )


def _tenants(attained: Attainment | None) -> list[tuple[str, ...]]:
    by_tenant = _kept(attained, "tenant_id")
    if not any(by_tenant):
        return []  # none is told apart
    most = sorted(by_tenant.items(), key=lambda each: (not each[0], -sum(each[1]), each[0]))
    return [
        (printable(name) or "(others)", f"{kept.on_time + kept.late:,}", *kept.cells())
        for name, kept in most
    ]


def _queue(each: QueueStatus) -> tuple[str, ...]:
    busy = f"{each.busy}/{each.slots}"
    bar = _bar(each.busy, each.slots)
    return printable(each.queue), str(each.workers), busy, bar, str(each.unclaimed)


def _bar(busy: int, slots: int) -> str:
    full = 0 if not slots else min(BAR, math.ceil(BAR * busy / slots))
    return "#" * full + "." * (BAR - full)


def _ago(then: datetime, now: datetime) -> str:
    return f"{max(0.0, (now - then).total_seconds()):.1f} s ago"


# --- room ---------------------------------------------------------------------------------------


def _rooms(sections: Sequence[_Section], room: int | None) -> list[int]:
    """Return how many rows each section may have: in turn, as long as there is room."""
    wanted = [len(each.rows) for each in sections]
    if room is None:
        return wanted
    given = [0] * len(sections)
    while room > 0:
        before = room
        for number, section in enumerate(sections):
            # The first row brings an empty line, the headings and the line about others along.
            more = 1 if given[number] else min(2, wanted[number])
            cost = more if given[number] else more + 1 + bool(section.headings)
            if given[number] < wanted[number] and cost <= room:
                given[number] += more
                room -= cost
        if room == before:
            break
    return given


def _laid_out(section: _Section, room: int, width: int | None) -> Iterator[str]:
    left_out = len(section.rows) - room
    shown = section.rows if left_out <= 0 else section.rows[: room - 1]
    if section.headings:
        yield from _table(section._replace(rows=shown), width)
    else:
        yield from (row[0] for row in shown)
    if left_out > 0:
        yield f"… {left_out + 1} more"


def _table(section: _Section, width: int | None) -> Iterator[str]:
    table = [section.headings, *section.rows]
    widths = [max(cell_len(row[column]) for row in table) for column in range(len(table[0]))]
    while width is not None and sum(widths) + len(GAP) * (len(widths) - 1) > width:
        widest = max(range(section.names), key=widths.__getitem__)
        if widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
    for row in table:
        yield GAP.join(
            set_cell_size(_cut(cell, wide), wide)
            if column < section.names
            else " " * (wide - cell_len(cell)) + cell
            for column, (cell, wide) in enumerate(zip(row, widths, strict=True))
        )


def _cut(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip() + "…" if width > 0 else ""
