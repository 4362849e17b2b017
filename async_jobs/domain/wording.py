"""What the system itself says of failed attempts. It quotes nobody, and may be told anywhere.

All else in a job's errors are the words of handlers, which may quote a payload.
"""

from __future__ import annotations

from typing import Final

from async_jobs.domain.crashes import LEASE_EXPIRED
from async_jobs.domain.deadline import DEADLINE_MISSED
from async_jobs.domain.patience import NO_HANDLER_CAME
from async_jobs.domain.refused import OUTCOME_REFUSED

ASKED_FOR_A_RETRY: Final = "the handler asked for a retry"
CANCELLED_ITSELF: Final = "the handler cancelled itself"
INVALID_PAYLOAD: Final = "invalid payload"
"""What follows it names fields, and may quote an application's own validators."""
RETURNED_A_CLASS: Final = "the handler returned an exception's class: return an instance"
RETURNED_AN_AWAITABLE: Final = "the handler returned an awaitable; declare it async"
RETURNED_A_GENERATOR: Final = (
    "the handler returned a generator, of which nothing has run; return what it yields, or nothing"
)
STOPPED_UNASKED: Final = "the handler stopped unasked"
TIMED_OUT: Final = "timed out"

UNTELLABLE: Final = "the handler raised an exception that cannot be told"

OWN_WORDS: Final = (
    ASKED_FOR_A_RETRY,
    CANCELLED_ITSELF,
    DEADLINE_MISSED,
    INVALID_PAYLOAD,
    LEASE_EXPIRED,
    NO_HANDLER_CAME,
    OUTCOME_REFUSED,
    RETURNED_A_CLASS,
    RETURNED_AN_AWAITABLE,
    RETURNED_A_GENERATOR,
    STOPPED_UNASKED,
    UNTELLABLE,
)
"""An error that begins so is the system's own, that far."""
