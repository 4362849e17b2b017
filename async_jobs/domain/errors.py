"""Every error a caller can meet.

AsyncJobsError
├── InvalidJobError         a value at the door breaks a bound; names the field (a ValueError)
├── QuotaExceededError      the tenant has no room for what was asked
├── JobNotFoundError        no such job, or not this tenant's
├── ControlNotFoundError    no such control or operation, or not within the caller's reach
├── BulkNotFoundError       no such bulk operation, or not within the caller's reach
├── ControlChanged          somebody else changed the control meanwhile; nothing was changed
├── IllegalTransition       the job's state forbids what was asked of it
├── ConfigurationError      the environment or the wiring is wrong (a ValueError)
│   ├── MigrationDue        the database's tables are missing, or older than this version
│   └── MissingExtra        what is used needs an extra that is not installed (an ImportError)
├── Unavailable             a component did not answer; whether a write happened is unknown
│   └── TenantBusy          another open transaction admits the tenant's jobs; nothing was written
├── StoreRefused            the store said no, by a rule of its own; repeating does not help
├── AuthTokenError          the remote side refused the token
└── RemoteHttpError         the remote side answered with something unexpected
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID


class AsyncJobsError(Exception):
    """The root of the tree above."""


class InvalidJobError(AsyncJobsError, ValueError):
    """A value breaks a bound.

    Attributes:
        field: the path of the offending value, e.g. `payload.items[3].name`.
        problem: what is wrong with it and what is allowed. Never holds the value itself,
            because values may be secrets.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class QuotaExceededError(AsyncJobsError):
    """Admitting the call would take the tenant's pending jobs above its limit.

    Attributes:
        tenant_id: whose limit it is.
        limit: how many pending jobs the tenant may have.
        used: how many it had when it asked.
        asked: how many new ones the call would have added (duplicates are free).
    """

    def __init__(self, *, tenant_id: str, limit: int, used: int, asked: int) -> None:
        super().__init__(
            f"tenant {tenant_id!r} may have {limit} pending jobs; it has {used} and asked for"
            f" {asked} more"
        )
        self.tenant_id = tenant_id
        self.limit = limit
        self.used = used
        self.asked = asked


class JobNotFoundError(AsyncJobsError):
    """No job with this id exists, or it belongs to another tenant: the two look the same.

    Of a row that is there but is no job any more, `unreadable` tells why; else it is empty.
    """

    def __init__(self, job_id: UUID | str, *, unreadable: str = "") -> None:
        super().__init__(
            f"the row of job {job_id} cannot be read: {unreadable}"
            if unreadable
            else f"no job has the id {job_id}"
        )
        self.job_id = job_id
        self.unreadable = unreadable


class ControlNotFoundError(AsyncJobsError):
    """No control or operation with this id stands, or the caller does not reach it."""

    def __init__(self, of_id: UUID | str) -> None:
        super().__init__(f"no control or operation has the id {of_id}")
        self.id = of_id


class BulkNotFoundError(AsyncJobsError):
    """No bulk operation has this id, or the caller does not reach it."""

    def __init__(self, of_id: UUID | str) -> None:
        super().__init__(f"no bulk operation has the id {of_id}")
        self.id = of_id


class ControlChanged(AsyncJobsError):
    """What stands is not what the caller expected; nothing was changed.

    Attributes:
        version: of the control that stands; 0 where there is none.
        actor, reason: who put it, and why.
    """

    def __init__(self, version: int = 0, actor: str = "", reason: str = "") -> None:
        found = f"a control of version {version} stands there, by {actor!r}: {reason}"
        super().__init__(
            f"{found if version else 'no control stands there'};"
            " look at what stands, and say its version to change it"
        )
        self.version = version
        self.actor = actor
        self.reason = reason


_CANNOT: Final[Mapping[str, str]] = {
    "Leased": "be leased",
    "HandOffFailed": "fail to be handed off",
    "Claimed": "be claimed",
    "Renewed": "have its lease renewed",
    "Succeeded": "succeed",
    "Failed": "fail",
    "Rejected": "be rejected",
    "Snoozed": "be snoozed",
    "Released": "be released",
    "CancelRequested": "be cancelled",
    "Cancelled": "be cancelled",
    "LeaseExpired": "lose its lease",
    "SetAside": "be set aside",
    "Expired": "expire",
    "Retried": "be retried",
    "Amended": "be amended",
    "Restored": "be restored",
}
"""What an event does to a job, in words for people."""


class IllegalTransition(AsyncJobsError):
    """The event cannot happen to a job in this state; the job is unchanged.

    Attributes:
        state: the job's, as `Phase` names it.
        event: what was to happen, by the name of its class.
        why: what forbids it besides the state; empty where that is all.
    """

    def __init__(self, *, state: str, event: str, why: str = "") -> None:
        # A remote side may know other events, or answer with what is no name at all.
        what = _CANNOT.get(str(event), f"go through {event}")
        standing = str(state).replace("_", " ")
        super().__init__(f"a job that is {standing} cannot {what}{why and f': {why}'}")
        self.state = state
        self.event = event
        self.why = why


class ConfigurationError(AsyncJobsError, ValueError):
    """The environment or the wiring is wrong; one line per problem, no secrets."""


class MigrationDue(ConfigurationError):
    """The database's tables are missing or older than this version; `async-jobs migrate` is due."""


class MissingExtra(ConfigurationError, ImportError):
    """What is used needs packages that only an extra brings; the message says which to install."""


class Unavailable(AsyncJobsError):
    """A component did not answer; whether a write took effect is unknown.

    Repeating an enqueue is harmless when the request carries an id or a dedupe key.
    """


class TenantBusy(Unavailable):
    """Other transactions that enqueue for a tenant with `max_pending_jobs` did not end in time.

    Nothing was written. A transaction of the caller's in which it is raised has to be rolled back,
    and may be repeated.

    Attributes:
        tenant_ids: whose jobs were to be admitted; one of them, at least, is busy.
        waited_seconds: for how long at most; a shorter `lock_timeout` of the session's holds.
    """

    def __init__(self, tenant_ids: Sequence[str], waited_seconds: float) -> None:
        super().__init__(
            f"another transaction that enqueued for {', '.join(map(repr, tenant_ids))} did not end"
            f" within {waited_seconds:g} s or the session's lock_timeout, and until it does nobody"
            " else can: the jobs of a tenant with max_pending_jobs are counted. Enqueue last in a"
            " transaction, and commit at once"
        )
        self.tenant_ids = tuple(tenant_ids)
        self.waited_seconds = waited_seconds


class StoreRefused(AsyncJobsError):
    """The store said no: a constraint or trigger of the application, a value it cannot hold.

    Nothing was written, and the same call would be refused again.

    Attributes:
        refusal: the kind of refusal, and what raised it if that has a name: `CheckViolationError by
            jobs_one_region`, `RaiseError in guard()`. Never a value, as the error's own text may
            hold.
    """

    def __init__(self, message: str, refusal: str = "") -> None:
        super().__init__(message)
        self.refusal = refusal


class AuthTokenError(AsyncJobsError):
    """The remote side refused the token."""


class RemoteHttpError(AsyncJobsError):
    """The remote side gave an answer that is no part of the interface.

    Attributes:
        status: the HTTP status.
        excerpt: the first characters of the body, or why it was not read.
    """

    def __init__(self, status: int, excerpt: str) -> None:
        super().__init__(f"the remote side answered {status}: {excerpt}")
        self.status = status
        self.excerpt = excerpt
