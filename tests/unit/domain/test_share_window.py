"""One window shared by several use cases: examples, then the property."""

from collections.abc import Mapping
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.domain.scheduling import Blocked, Candidate, Reason, Selection, share_window
from tests.unit.domain.candidates import backlogs, numbers, waiting, why_not


def chosen(*candidates: Candidate, blocked: Mapping[UUID, Blocked] | None = None) -> Selection:
    """Return a selection of these jobs."""
    return Selection(chosen=candidates, expired=(waiting(99),), blocked=blocked or {})


def test_a_window_that_fits_all_cuts_nothing() -> None:
    """The selections come back as they are."""
    selections = {"a": chosen(waiting(1)), "b": chosen(waiting(2))}

    assert share_window(selections, 2) == selections


def test_a_window_is_shared_by_earliest_deadline() -> None:
    """Each use case keeps the beginning of its own order; among them urgency decides."""
    selections = {
        "a": chosen(waiting(1, deadline=30), waiting(2, deadline=10)),
        "b": chosen(waiting(3, deadline=20), waiting(4, deadline=40)),
        "c": chosen(waiting(5, deadline=25)),
    }

    shared = share_window(selections, 3)

    kept = {name: numbers(selection.chosen) for name, selection in shared.items()}
    assert kept == {"a": [1], "b": [3], "c": [5]}


def test_what_a_window_cuts_is_blocked_by_it() -> None:
    """The reason is added to those there were; what expired stays expired."""
    known = {UUID(int=7): Blocked(Reason.NOT_DUE)}

    shared = share_window({"a": chosen(waiting(1), waiting(2), blocked=known)}, 1)["a"]

    assert why_not(shared) == {7: Blocked(Reason.NOT_DUE), 2: Blocked(Reason.WINDOW_FULL)}
    assert numbers(shared.expired) == [99]


def test_what_a_window_cuts_is_explained_only_if_asked() -> None:
    """Whoever needs no reasons gets the same jobs, and what was known stays."""
    known = {UUID(int=7): Blocked(Reason.NOT_DUE)}
    selections = {"a": chosen(waiting(1), waiting(2), blocked=known)}

    shared = share_window(selections, 1, explain=False)["a"]

    assert numbers(shared.chosen) == [1]
    assert why_not(shared) == {7: Blocked(Reason.NOT_DUE)}


@pytest.mark.parametrize("window", [0, -1])
def test_a_closed_window_cuts_everything(window: int) -> None:
    """Every use case keeps its place in the answer."""
    shared = share_window({"a": chosen(waiting(1)), "b": Selection()}, window)

    assert why_not(shared["a"]) == {1: Blocked(Reason.WINDOW_FULL)}
    assert shared["b"] == Selection()


@given(st.lists(backlogs(jobs_max=6), max_size=3), st.integers(-1, 12))
def test_a_shared_window_is_filled_by_earliest_deadline(
    backlog: list[list[Candidate]], window: int
) -> None:
    """As picking one by one: each time the use case whose next job has the earliest deadline
    gives that job. Never more than the window; no place is left free; orders stay.
    """
    selections = {
        f"use case {n}": Selection(
            chosen=tuple(job._replace(id=UUID(int=job.id.int + 100 * n)) for job in jobs)
        )
        for n, jobs in enumerate(backlog)
    }
    queues = {name: list(selection.chosen) for name, selection in selections.items()}
    kept: dict[str, list[Candidate]] = {name: [] for name in selections}
    for _ in range(window):
        ready = [name for name in queues if queues[name]]
        if ready:
            name = min(ready, key=lambda each: (queues[each][0].deadline_at, queues[each][0].id))
            kept[name].append(queues[name].pop(0))

    shared = share_window(selections, window)

    assert {name: list(selection.chosen) for name, selection in shared.items()} == kept
    for name, selection in shared.items():
        assert selection.blocked == {job.id: Blocked(Reason.WINDOW_FULL) for job in queues[name]}
