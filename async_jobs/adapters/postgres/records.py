"""Records of attempts as statements take and give them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Final

import asyncpg

from async_jobs.adapters.postgres.rows import encoded
from async_jobs.domain.history import AttemptRecord, Outcome

_COLUMNS: Final = tuple(each.name for each in fields(AttemptRecord))


def records_json(records: Iterable[AttemptRecord | None]) -> str:
    """Return records as a JSON array, for a statement that keeps them with its changes."""
    kept = [record for record in records if record is not None]
    return encoded([{name: getattr(each, name) for name in _COLUMNS} for each in kept])


def record_of_row(row: asyncpg.Record) -> AttemptRecord:
    """Return a record as it was kept."""
    values: dict[str, Any] = {name: row[name] for name in _COLUMNS}
    return AttemptRecord(**{**values, "outcome": Outcome(row["outcome"])})


def aside_records(rows: Sequence[asyncpg.Record], now: Any) -> str:
    """Return the records of rows that are set aside, as JSON."""
    return records_json(
        AttemptRecord(
            job_id=row["id"],
            tenant_id=row["tenant_id"],
            use_case=row["use_case"],
            type=row["type"],
            attempt=row["attempts"],
            lease_seq=row["lease_seq"],
            worker_id=row["worker_id"],
            started_at=row["started_at"],
            ended_at=now,
            outcome=Outcome.SET_ASIDE,
        )
        for row in rows
    )
