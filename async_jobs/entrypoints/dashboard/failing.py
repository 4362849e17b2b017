"""What a page says of an error: what it is called, and what to do about it."""

from __future__ import annotations

from async_jobs.domain.errors import (
    AsyncJobsError,
    AuthTokenError,
    BulkNotFoundError,
    ControlChanged,
    ControlNotFoundError,
    IllegalTransition,
    InvalidJobError,
    JobNotFoundError,
    MigrationDue,
    Unavailable,
)
from async_jobs.entrypoints.http.access import Forbidden
from async_jobs.entrypoints.http.problems import MIGRATION_DUE, UNAVAILABLE


def told_of(error: Exception) -> tuple[int, str, str]:
    """Return the status of an error, what it is called, and what to do about it."""
    match error:
        case Forbidden():
            return (
                403,
                "Not with this token",
                (f"{error}. Sign in by a token that has the scope and reaches the tenant."),
            )
        case JobNotFoundError() | ControlNotFoundError() | BulkNotFoundError():
            return (
                404,
                "Not there",
                (
                    f"{error}. It may have been purged after its retention, or your token may not"
                    " reach it."
                ),
            )
        case ControlChanged():
            return (
                409,
                "Somebody was faster",
                (f"{error}. Nothing was changed: look at what stands now, and decide anew."),
            )
        case IllegalTransition():
            return 409, "Not in this state", f"{error}. Look at the job as it stands now."
        case InvalidJobError():
            return 422, "That cannot be", str(error)
        case AuthTokenError():
            return (
                502,
                "The API refused",
                (f"{error}. Start the dashboard with a token that may do this."),
            )
        case MigrationDue():
            return 503, "The database is not ready", MIGRATION_DUE
        case Unavailable():
            return 503, "No answer", f"{UNAVAILABLE}. This page tries again by itself."
        case AsyncJobsError():
            return 502, "Not as expected", "What was asked did not answer as expected; see the log."
        case LookupError():
            return 404, "There is nothing here", "Choose from the menu."
    return 500, "Something went wrong on this side", "The error was logged."
