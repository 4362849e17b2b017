"""Catalog: jobs by whatever is known of them, looked for no further than a bound."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from async_jobs.domain.error_groups import ErrorGroups, ErrorQuery
from async_jobs.domain.filters import FoundPage, JobQuery
from async_jobs.domain.outlook import Counted


class Catalog(Protocol):
    """Finds and counts jobs of a `Store` by any of their conditions.

    Queries have passed `check_query`. No call looks at more than `look_at` jobs, or takes more than
    some seconds, however many there are.

    Promises:
        CA-1 `matching` returns jobs that meet all conditions (`JobQuery.matches`) and no others, by
            descending id.
        CA-2 Pages by `next_cursor`, each however short, hold every job that matches and existed
            throughout, once; the last one has no cursor and is `complete`. A query that says when
            jobs were created may miss those whose ids are beyond `id_bounds`.
        CA-3 A page that ends before it has `limit` jobs, because it has looked at `look_at`, has a
            cursor and says how far it looked back.
        CA-4 `count` tells how many match, no more than `limit`, and says `at_least` unless it has
            looked at all.
        CA-5 A row that matches and is no job any more is told of in its page.
        CA-6 `error_groups` groups the errors that the latest `look_at` attempt records of a time
            tell of by fingerprint, use case and type: how many, since when and until when, and the
            last one. It says how far it looked back, and whether there are more groups than
            `limit`.

    Not promised: that pages of one search see one state.
    """

    async def matching(
        self, query: JobQuery, *, limit: int, look_at: int, before: UUID | None = None
    ) -> FoundPage:
        """Return at most `limit` jobs with ids below `before`."""
        ...

    async def count(self, query: JobQuery, *, limit: int, look_at: int) -> Counted:
        """Count jobs, the newest first."""
        ...

    async def error_groups(self, query: ErrorQuery, *, limit: int, look_at: int) -> ErrorGroups:
        """Return the groups of errors that happened most often."""
        ...
