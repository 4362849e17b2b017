"""Bugs in actions over many jobs: which jobs, how often, and what is kept of it."""

from __future__ import annotations

from async_jobs.adapters.memory.bulk import MemoryBulk
from async_jobs.adapters.memory.rows import MemoryRows
from async_jobs.adapters.postgres.bulk import PostgresBulk, _Batch
from async_jobs.application.operating import bulk as service
from async_jobs.application.operating.bulk import BulkService
from async_jobs.application.scheduling.chores.bulk import WorkingBulk
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
    bug(
        "bulk_preview_counts_nothing",
        "A preview says that no job matches.",
        Edit(BulkService.preview, "min(counted, COUNTED_MAX)", "0"),
        breaks="BS-1",
    ),
    bug(
        "bulk_by_any_token",
        "An operation begins by the token of another filter.",
        Edit(bulk.check_token, "digest != _digest(head, action, criteria, amendment)", "False"),
        breaks="BS-2",
    ),
    bug(
        "bulk_of_all_by_mistake",
        "A filter without a condition means every job.",
        Edit(bulk.check_bulk, "if criteria == JobQuery() and not all_jobs:", "if False:"),
        breaks="BS-3",
    ),
    bug(
        "bulk_pages_begin_anew",
        "Every page of operations is the first one.",
        Edit(BulkService.operations, "before=before", "before=None"),
        breaks="BS-4",
    ),
    bug(
        "bulk_undo_of_what_is_under_way",
        "An undo races the cancel that it undoes.",
        Edit(BulkService.undo, "if undone.state is BulkState.RUNNING:", "if False:"),
        breaks="BS-5",
    ),
    bug(
        "bulk_audit_without_what",
        "The audit does not say what was to be done.",
        Edit(BulkService._audit, "_described(operation) if begins else None", "None"),
        breaks="BS-6",
    ),
    bug(
        "bulk_operations_of_other_tenants",
        "A token with tenants stops the operations of others.",
        Edit(service._reached, "found.criteria.tenant_id not in tenants", "False"),
        breaks="BS-7",
    ),
    bug(
        "bulk_without_rest",
        "Batches follow each other at once.",
        Edit(WorkingBulk.work, "took * (1 / SHARE - 1)", "0.0"),
        breaks="BU-4",
    ),
    bug(
        "bulk_asked_about_in_vain",
        "Schedulers ask for operations while there is none.",
        Edit(WorkingBulk.is_due, "self._next_at is not None and", "self._next_at is None or"),
        breaks="BU-8",
    ),
)
