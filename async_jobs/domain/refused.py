"""What becomes of an outcome that the store refuses to keep, by a rule of the application's own.

The job is told of it as what it is. Without that its lease would run out, and look like a crash.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from async_jobs.domain.bounds import bounded_error
from async_jobs.domain.events import Failed, JobEvent, Rejected, Snoozed, Succeeded

LEFT_OUT: Final = "result_left_out"
"""The one field of what is kept instead of a result that cannot be kept; it says why."""
OUTCOME_REFUSED: Final = "its outcome was refused"
TRIES_MAX: Final = 3
"""So many outcomes of an attempt are tried: a success, one without its result, a failure.

Each of two rules may refuse what names the other one: there would always be another to try.
"""


def without_result(problem: str) -> Succeeded:
    """Return a success whose result is left out, and why."""
    told = bounded_error(problem)
    return Succeeded({LEFT_OUT: told}, left_out=told)


def instead_of(event: JobEvent, refusal: str) -> JobEvent | None:
    """Return what may be kept instead of a refused outcome; None if there is nothing.

    A success first does without its result. What cannot be kept as it is fails the attempt, and
    says so; the rule may let go before the last one.
    """
    told = bounded_error(f"{OUTCOME_REFUSED}: {refusal}")
    match event:
        case Succeeded(result=result, left_out="") if result is not None:
            return without_result(f"result: the store refuses it ({refusal})")
        case Failed(error=error) | Rejected(error=error) if error != told:
            return replace(event, error=told)
        case Succeeded() | Snoozed():
            return Failed(told)
        case _:
            return None
