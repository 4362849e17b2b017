"""Bugs in the SQL, beside those that the contract's own saboteurs plant there."""

from __future__ import annotations

from async_jobs.adapters.postgres import overview, store, table, tallies, turn
from tests.sabotage.edits.patches import Bug, Swap, bug
from tests.sabotage.saboteurs.on_postgres import Spoiled


def spoiled(name: str, what: str, *, breaks: str, statement: str, text: str, instead: str) -> Bug:
    """Return the bug of a statement in which `text` is something else."""
    sql = Spoiled(breaks, statement, text, instead).sql
    swaps = (Swap(module, "sql", sql) for module in (store, table, tallies, turn, overview))
    return bug(name, what, *swaps, breaks=breaks)


BUGS = (
    spoiled(
        "promote_forgets",
        "A job that comes due stays out of the indexes that schedulers look at.",
        breaks="UP-2",
        statement="promote_due",
        text="SET lane = 0",
        instead="SET lane = NULL",
    ),
    spoiled(
        "retention_by_creation",
        "The statement that forgets finished jobs goes by the time of their creation.",
        breaks="UP-1",
        statement="purge_jobs",
        text="finished_at < $2",
        instead="created_at < $2",
    ),
    spoiled(
        "cap_counts_claimed_only",
        "The statement that counts running jobs leaves hand-offs out.",
        breaks="LS-3",
        statement="running_counts",
        text="status = 'running'",
        instead="status = 'running' AND started_at IS NOT NULL",
    ),
    spoiled(
        "crashes_not_saved",
        "A save leaves the crashes as they were.",
        breaks="JS-2",
        statement="save_jobs",
        text="crashes = c.crashes",
        instead="crashes = j.crashes",
    ),
    spoiled(
        "first_start_not_saved",
        "A save leaves the first start as it was.",
        breaks="JS-2",
        statement="save_jobs",
        text="first_started_at = c.first_started_at",
        instead="first_started_at = j.first_started_at",
    ),
    spoiled(
        "success_forgets_the_first_start",
        "A success does not keep when the job started.",
        breaks="LS-8",
        statement="succeed_jobs",
        text="result = s.result::json",
        instead="result = s.result::json, started_at = NULL",
    ),
    spoiled(
        "aside_forgets_the_first_deadline",
        "A row that is set aside keeps no first deadline.",
        breaks="LS-6",
        statement="set_aside",
        text="nullif(coalesce(j.first_deadline_at, j.deadline_at), a.deadline_at)",
        instead="j.first_deadline_at",
    ),
    spoiled(
        "reaps_unclaimed_only",
        "The leases of dead workers are not found.",
        breaks="LS-4",
        statement="expired_leases",
        text="status = 'running'",
        instead="status = 'running' AND started_at IS NULL",
    ),
    spoiled(
        "batch_counts_twice_on_postgres",
        "The statement that adds a batch does not look whether it is there already.",
        breaks="TL-2",
        statement="add_tallies",
        text="WHERE s.number < excluded.number",
        instead="WHERE true",
    ),
    spoiled(
        "late_jobs_not_in_the_backlog",
        "The statement that looks at all that waits leaves out what was put behind others.",
        breaks="OV-6",
        statement="backlog",
        text="(VALUES (0), (1))",
        instead="(VALUES (0))",
    ),
)
