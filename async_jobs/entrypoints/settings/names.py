"""Names of variables that the command line tells of, in a module that imports nothing heavy."""

from __future__ import annotations

from typing import Final

TOKEN_VARIABLE: Final = "ASYNC_JOBS_ENQUEUE_AUTH_TOKEN"
