"""Values as people read them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from async_jobs.domain.audit import Action, Operation
from async_jobs.domain.controls import Scope
from async_jobs.entrypoints.dashboard.charts import Frame, Series, bars, lines, nice
from async_jobs.entrypoints.dashboard.pages.use_case import marks_of
from async_jobs.entrypoints.dashboard.showing import (
    Addresses,
    instant,
    lasting,
    name,
    percent,
    rate,
    visible,
)
from async_jobs.testing.builders import an_id
from async_jobs.testing.clocks import NOW
from tools.vendored_files import differing

FRAME = Frame(NOW, timedelta(minutes=1), 10)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (0.0123, "12.3 ms"),
        (1.25, "1.2 s"),
        (59, "59 s"),
        (5_400, "1.5 h"),
        (9e5, "10 d"),
    ],
)
def test_a_duration_has_a_unit(seconds: float, told: str) -> None:
    """The largest that fits."""
    assert lasting(seconds) == told


def test_what_is_not_all_is_not_told_as_all() -> None:
    """One late job of a million is seen."""
    assert [percent(each) for each in (1.0, 0.999999, 0.5, None)] == [
        "100 %",
        "99.99 %",
        "50 %",
        "–",
    ]
    assert [rate(each) for each in (0.0, 0.01, 0.25, 1234.5)] == [
        "0/s",
        "0.6/min",
        "0.25/s",
        "1,234/s",
    ]


def test_nothing_in_a_text_is_hidden() -> None:
    """What has no glyph is told by its number, and what is markup is text."""
    assert visible("a\u202eb\u200b\x07\n") == "a\\u{202e}b\\u{200b}\\u{7}\n"
    assert name("<b>") == '<bdi class="name">&lt;b&gt;</bdi>'


def test_an_instant_is_told_by_its_distance() -> None:
    """With the instant itself for programs, and for who points at it."""
    told = instant(NOW - timedelta(minutes=5), NOW)

    assert told == (
        '<time datetime="2030-01-01T11:55:00+00:00" title="2030-01-01 11:55:00 UTC">'
        "5 min ago</time>"
    )


def test_values_go_into_the_query() -> None:
    """A name in a path could be a path."""
    assert Addresses("/ops")("tenant", name="../x?&=#", other=None) == (
        "/ops/tenant?name=..%2Fx%3F%26%3D%23"
    )


def test_a_chart_ends_on_a_round_number() -> None:
    """And draws what there is, with what it is called for who points at it."""
    drawn, top = bars(FRAME, [Series("<late>", "late", [0, 7] + [None] * 8)])

    assert (nice(54), top) == (60, 8)
    assert drawn.count("<rect") == 1
    assert "&lt;late&gt;: 7" in drawn
    assert lines(FRAME, [Series("p50", "p50", [None] * 10)])[0].count("<path") == 0


def test_pauses_are_marked_from_their_beginning_to_their_end() -> None:
    """By what operators did, newest first; a change of limits is an instant."""
    pause = {"limits": None, "until": None}
    one, other = an_id(), an_id()
    told = [
        (9, Action.LIMIT, None, {"limits": {"weight": 2}}, other),
        (7, Action.RESUME, pause, None, one),
        (2, Action.PAUSE, None, pause, one),
    ]
    operations = [
        Operation(
            id=an_id(),
            at=NOW + timedelta(minutes=minute),
            actor="ada",
            address="",
            action=action,
            control_id=control,
            scope=Scope(tenant_id="acme"),
            reason="slow",
            before=before,
            after=after,
        )
        for minute, action, before, after, control in told
    ]

    found = {each.label: each[:2] for each in marks_of(operations, now=FRAME.until)}

    assert found == {
        "paused by ada: slow": (NOW + timedelta(minutes=2), NOW + timedelta(minutes=7)),
        "limits changed by ada: slow": (NOW + timedelta(minutes=9), None),
    }


def test_what_is_served_of_others_is_what_was_fetched() -> None:
    """Each file by the sum that was noted when it came from the registry."""
    assert list(differing()) == []
