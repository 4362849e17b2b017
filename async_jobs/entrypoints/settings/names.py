"""Names of variables, in a module that imports nothing heavy."""

from __future__ import annotations

from typing import Final

TOKEN_VARIABLE: Final = "ASYNC_JOBS_ENQUEUE_AUTH_TOKEN"
QUEUE_PREFIX: Final = "ASYNC_JOBS_SQS_QUEUE_"


def sqs_variable(queue: str) -> str:
    """Return the variable that sets the URL of a queue named like its use case."""
    return f"{QUEUE_PREFIX}{upper_of(queue)}"


def upper_of(use_case: str) -> str:
    """Return a use case as it stands in the name of a variable."""
    return use_case.upper().replace("-", "_").replace(".", "_").replace(" ", "_")
