"""A filter of jobs as conditions of a statement: the one place where it becomes SQL."""

from __future__ import annotations

import json
from typing import Final
from uuid import UUID

from async_jobs.domain.filters import SEVERAL, SPANS, JobQuery, as_in_json
from async_jobs.domain.job import JobStatus

_COLUMNS: Final = {
    "created": "created_at",
    "run_at": "run_at",
    "deadline": "deadline_at",
    "finished": "finished_at",
}


class Arguments(list[object]):
    """The arguments of a statement while it is written."""

    def add(self, value: object, kind: str) -> str:
        """Add one; returns what stands for it."""
        self.append(value)
        return f"${len(self)}::{kind}"


def where(query: JobQuery, arguments: Arguments) -> str:
    """Return the conditions of a query on `jobs AS j`, as `JobQuery.matches` has them.

    The text depends on which conditions there are, and on no value: they are arguments.
    """
    told = [*_names(query, arguments), *_instants(query, arguments), *_texts(query, arguments)]
    if query.attempts_min is not None:
        told.append(f"j.attempts >= {arguments.add(query.attempts_min, 'integer')}")
    if query.attempts_max is not None:
        told.append(f"j.attempts <= {arguments.add(query.attempts_max, 'integer')}")
    if query.error_group is not None:
        group = arguments.add(query.error_group, "text")
        told.append(
            f"EXISTS (SELECT FROM attempts AS a WHERE a.fingerprint = {group} AND a.job_id = j.id)"
        )
    return " AND ".join(told) or "true"


def _names(query: JobQuery, arguments: Arguments) -> list[str]:
    told = []
    if query.ids is not None:
        told.append(f"j.id = ANY({arguments.add(sorted(query.ids), 'uuid[]')})")
    if query.tenant_id is not None:
        told.append(f"j.tenant_id = {arguments.add(query.tenant_id, 'text')}")
    for several, column in SEVERAL.items():
        wanted = getattr(query, several)
        if wanted is not None:
            names = arguments.add(sorted(str(each) for each in wanted), "text[]")
            told.append(f"j.{column} = ANY({names})")
    if query.dedupe_key is not None:
        told.append(f"j.dedupe_key = {arguments.add(query.dedupe_key, 'text')}")
    if query.labels:
        told.append(f"j.labels @> {_labels(query, arguments)}")
    return told


def _labels(query: JobQuery, arguments: Arguments) -> str:
    return f"{arguments.add(json.dumps(dict(query.labels)), 'text')}::jsonb"


def _instants(query: JobQuery, arguments: Arguments) -> list[str]:
    told = []
    for name in SPANS:
        span, column = getattr(query, name), f"j.{_COLUMNS[name]}"
        if span.since is not None:
            told.append(f"{column} >= {arguments.add(span.since, 'timestamptz')}")
        if span.until is not None:
            told.append(f"{column} < {arguments.add(span.until, 'timestamptz')}")
    return told


def _texts(query: JobQuery, arguments: Arguments) -> list[str]:
    told = []
    if query.trace_id is not None:
        traceparent = "j.headers->>'traceparent'"
        pattern = arguments.add(f"^[0-9a-f]{{2}}-{query.trace_id}-", "text")
        told.append(f"{traceparent} ~ {pattern}")
    if query.payload_text is not None:
        # What comes by SQL may be written in ASCII alone.
        spellings = {as_in_json(query.payload_text, ascii_only=each) for each in (False, True)}
        found = [f"strpos(j.payload::text, {arguments.add(s, 'text')}) > 0" for s in spellings]
        told.append(f"({' OR '.join(found)})")
    if query.error_text is not None:
        told.append(f"strpos(j.last_error, {arguments.add(query.error_text, 'text')}) > 0")
    return told


def looked_at(
    query: JobQuery,
    bounds: tuple[UUID, UUID],
    most: int,
    arguments: Arguments,
    *,
    by_labels: bool = False,
) -> str:
    """Return what yields the jobs to look at for a query, newest first, `most` of them.

    Each way reads an index in the order of the ids and stops: by ids, by the error group, by
    tenant and status, or simply the newest. But for that of labels, which knows no order: all that
    have them are read, of which there are few or it takes too long.
    """
    if query.error_group is not None and query.ids is None:
        return (
            f"SELECT j.* FROM ({_befallen(query.error_group, bounds, most, arguments)}) AS a"
            " CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = a.job_id LIMIT 1) AS j"
            " ORDER BY a.job_id DESC"
        )
    newest = _newest(bounds, most, arguments)
    if query.ids is not None:
        ids = arguments.add(sorted(query.ids), "uuid[]")
        return f"SELECT j.* FROM jobs AS j WHERE j.id = ANY({ids}) AND {newest}"
    if by_labels:
        # Of a tenant's search no other tenant's job is where it goes on.
        of_tenant = ""
        if query.tenant_id is not None:
            of_tenant = f"j.tenant_id = {arguments.add(query.tenant_id, 'text')} AND "
        return (
            "SELECT j.* FROM (SELECT l.id FROM jobs AS l"
            f" WHERE l.labels @> {_labels(query, arguments)} OFFSET 0) AS l"
            " CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = l.id LIMIT 1) AS j"
            f" WHERE {of_tenant}{newest}"
        )
    if query.tenant_id is None:
        return f"SELECT j.* FROM jobs AS j WHERE {newest}"
    tenant = arguments.add(query.tenant_id, "text")
    # The index of a tenant's jobs is ordered within each status and leaves out what runs. Their
    # names are part of the text, for else nobody could tell that they are in it.
    parts = [
        f"(SELECT j.* FROM jobs AS j WHERE j.tenant_id = {tenant}"
        f" AND j.status = '{JobStatus(status).value}' AND {newest})"
        for status in sorted(query.statuses or JobStatus)
    ]
    return f"SELECT j.* FROM ({' UNION ALL '.join(parts)}) AS j ORDER BY j.id DESC LIMIT {most:d}"


def ids_looked_at(
    query: JobQuery,
    bounds: tuple[UUID, UUID],
    most: int,
    arguments: Arguments,
    *,
    by_labels: bool = False,
) -> str:
    """Return what yields `id` and `created_at` of the same; of what is gone by now, no instant."""
    if query.error_group is not None and query.ids is None:
        return (
            "SELECT a.job_id AS id, (SELECT created_at FROM jobs WHERE id = a.job_id) AS created_at"
            f" FROM ({_befallen(query.error_group, bounds, most, arguments)}) AS a"
        )
    jobs = looked_at(query, bounds, most, arguments, by_labels=by_labels)
    return f"SELECT j.id, j.created_at FROM ({jobs}) AS j"


def _newest(bounds: tuple[UUID, UUID], most: int, arguments: Arguments) -> str:
    first, last = (arguments.add(each, "uuid") for each in bounds)
    # A limit that the planner does not know it takes for a tenth of all there is.
    return f"j.id BETWEEN {first} AND {last} ORDER BY j.id DESC LIMIT {most:d}"


def _befallen(group: str, bounds: tuple[UUID, UUID], most: int, arguments: Arguments) -> str:
    """Return what yields the ids of jobs that met an error, as attempt records tell."""
    first, last = (arguments.add(each, "uuid") for each in bounds)
    return (
        f"SELECT DISTINCT a.job_id FROM attempts AS a WHERE a.fingerprint ="
        f" {arguments.add(group, 'text')} AND a.job_id BETWEEN {first} AND {last}"
        f" ORDER BY a.job_id DESC LIMIT {most:d}"
    )
