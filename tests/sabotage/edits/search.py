"""Bugs in what is searched for: conditions, pages, and how far a page has looked."""

from __future__ import annotations

from async_jobs.adapters.memory.catalog import MemoryCatalog
from async_jobs.adapters.postgres import conditions
from async_jobs.application.operating.searching import SearchService
from async_jobs.domain import error_groups, filters
from async_jobs.domain.filters import Span
from async_jobs.entrypoints.http.searching import SearchRoutes
from tests.sabotage.edits.patches import Edit, bug

BUGS = (
    bug(
        "texts_match_anything",
        "What is to be in a payload is not looked for.",
        Edit(conditions._texts, "if query.payload_text is not None:", "if False:"),
        breaks="CA-1",
    ),
    bug(
        "labels_match_anything",
        "What labels jobs are to have is not looked for.",
        Edit(conditions._names, "if query.labels:", "if False:"),
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
        Edit(MemoryCatalog.matching, "elif len(looked_at) > look_at:", "elif False:"),
        breaks="CA-2",
    ),
    bug(
        "page_looks_back_to_now",
        "A page that ends early says that it looked at everything.",
        Edit(
            MemoryCatalog.matching,
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
        Edit(MemoryCatalog.matching, "if self._rows.is_corrupt(job.id)", "if False"),
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
        breaks="SH-2",
    ),
    bug(
        "errors_of_all_time",
        "The errors of a time are those of all time.",
        Edit(error_groups.groups_of, "if span.holds(each.ended_at)", "if span"),
        breaks="CA-6",
    ),
    bug(
        "error_groups_never_more",
        "Where there are more groups than are told, nothing says so.",
        Edit(error_groups.groups_of, "more=len(groups) > limit", "more=False"),
        breaks="CA-6",
    ),
    bug(
        "search_from_the_beginning",
        "The second page of a search is the first one.",
        Edit(SearchService.search, "before=cursor", "before=None"),
        breaks="SH-1",
    ),
    bug(
        "count_of_what_is_not_checked",
        "What may not be searched for is counted.",
        Edit(SearchService.count, "check_window(check_query(query))", "check_query(query)"),
        breaks="SH-2",
    ),
    bug(
        "count_capped_low",
        "A count ends at ten.",
        Edit(SearchService.count, "limit=COUNTED_MAX", "limit=10"),
        breaks="SH-3",
    ),
    bug(
        "errors_of_every_tenant",
        "Who asks for the errors of one tenant is told of all.",
        Edit(SearchService.errors, "tenant_id=tenant_id", "tenant_id=None"),
        breaks="SH-4",
    ),
    bug(
        "search_beyond_its_tenants",
        "A token that is limited to a tenant finds jobs of others.",
        Edit(
            SearchRoutes.search,
            "asked.query if tenant_id is None else asked.query.within(tenant_id)",
            "asked.query",
        ),
        breaks="JS-6",
    ),
)
