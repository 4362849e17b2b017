"""What options of the command line may be, in a module that the programs need not be loaded for."""

from __future__ import annotations

from enum import StrEnum

LOOPBACK = "127.0.0.1"
"""Where programs listen if they are not told otherwise."""


class LogFormat(StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """What is logged at least."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
