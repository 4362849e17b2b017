"""Bugs in actions over many jobs: which jobs, how often, and what is kept of it."""

from __future__ import annotations

from async_jobs.adapters.memory.bulk import MemoryBulk
from async_jobs.adapters.memory.rows import MemoryRows
from async_jobs.adapters.postgres.bulk import PostgresBulk, _Batch
from async_jobs.domain import bulk
from tests.sabotage.edits.patches import Edit, bug

BUGS = (
    bug(
        "bulk_operations_of_all",
        "Operations of other tenants are listed, too.",
        Edit(MemoryBulk.operations, "each.criteria.tenant_id in tenants", "True"),
        breaks="BU-1",
    ),
    bug(
        "bulk_takes_latecomers",
        "A bulk operation changes jobs that came after it began.",
        Edit(bulk.is_matched, "job.created_at <= operation.created_at and ", ""),
        breaks="BU-2",
    ),
    bug(
        "bulk_without_maximum",
        "A bulk operation goes on beyond its maximum.",
        Edit(bulk.after_batch, "batch.is_last or not after.left", "batch.is_last"),
        breaks="BU-2",
    ),
    bug(
        "bulk_forgets_its_place",
        "A batch does not keep how far it came.",
        Edit(bulk.after_batch, "cursor=batch.cursor or operation.cursor", "cursor=None"),
        breaks="BU-3",
    ),
    bug(
        "bulk_batch_in_pieces",
        "A batch is no transaction.",
        Edit(
            PostgresBulk._transaction,
            ' as connection,\n                connection.transaction(isolation="read_committed"),',
            " as connection,",
        ),
        breaks="BU-4",
    ),
    bug(
        "bulk_takes_keys_for_failures",
        "A retry that a dedupe key keeps out counts as failed.",
        Edit(_Batch._change, "if takes_a_key(error):", "if False:"),
        breaks="BU-5",
    ),
    bug(
        "bulk_deletes_what_runs",
        "A running job is deleted.",
        Edit(bulk.decide, "Skipped(job) if job.status is JobStatus.RUNNING else ", ""),
        breaks="BU-6",
    ),
    bug(
        "bulk_delete_leaves_records",
        "A deleted job leaves the records of its attempts.",
        Edit(MemoryRows.delete, "each.job_id != job.id", "True"),
        breaks="BU-6",
    ),
    bug(
        "bulk_undo_takes_back_others",
        "An undo takes back what was cancelled again since.",
        Edit(MemoryBulk._read, "at is None or job.finished_at == at", "True"),
        breaks="BU-7",
    ),
    bug(
        "bulk_undo_is_a_retry",
        "An undo gives new attempts and a new deadline.",
        Edit(bulk._event, "return Restored()", "return Retried()"),
        breaks="BU-7",
    ),
    bug(
        "bulk_without_audit",
        "A bulk operation leaves no audit.",
        Edit(PostgresBulk.create, "await add_operation(connection, audit, version)", "pass"),
        breaks="BU-8",
    ),
    bug(
        "bulk_forgets_too_early",
        "An operation that ended at the instant is forgotten, too.",
        Edit(MemoryBulk.forget, "each.ended_at < before", "each.ended_at <= before"),
        breaks="BU-9",
    ),
)
