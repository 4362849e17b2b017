"""Bugs in what is searched for: conditions, pages, and how far a page has looked."""

from __future__ import annotations

from async_jobs.adapters.memory.catalog import MemoryCatalog
from async_jobs.adapters.postgres import conditions
from async_jobs.domain import filters
from async_jobs.domain.filters import Span
from tests.sabotage.edits.patches import Edit, bug

BUGS = (
    bug(
        "texts_match_anything",
        "What is to be in a payload is not looked for.",
        Edit(conditions._texts, "if query.payload_text is not None:", "if False:"),
        breaks="CA-1",
    ),
    bug(
        "span_with_its_end",
        "A range of instants holds its end, too.",
        Edit(Span.holds, "at < self.until", "at <= self.until"),
        breaks="CA-1",
    ),
    bug(
        "page_ends_where_it_found",
        "A page that finds nothing in what it looked at is the last one.",
        Edit(MemoryCatalog.search, "elif len(looked_at) > look_at:", "elif False:"),
        breaks="CA-2",
    ),
    bug(
        "page_looks_back_to_now",
        "A page that ends early says that it looked at everything.",
        Edit(
            MemoryCatalog.search,
            "looked_back_to=None if last is None else last.created_at",
            "looked_back_to=None",
        ),
        breaks="CA-3",
    ),
    bug(
        "count_without_at_least",
        "A count that did not look at all jobs says that it did.",
        Edit(
            MemoryCatalog.count,
            "found > limit or len(looked_at) > look_at",
            "found > limit",
        ),
        breaks="CA-4",
    ),
    bug(
        "unreadable_left_out_of_searches",
        "A search leaves rows out that are no jobs any more.",
        Edit(MemoryCatalog.search, "if self._rows.is_corrupt(job.id)", "if False"),
        breaks="CA-5",
    ),
    bug(
        "unknown_condition_ignored",
        "A mistyped condition means every job.",
        Edit(filters.query_of, "if name not in known:", "if False:"),
        breaks="CA-1",
    ),
    bug(
        "texts_looked_for_everywhere",
        "What no index knows is looked for among all jobs of all time.",
        Edit(filters.check_window, "if query.created.since is None:", "if False:"),
        breaks="CA-1",
    ),
)
