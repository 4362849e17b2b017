"""Checkpoints: what one process remembers for the one that takes over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from async_jobs.domain.job import JsonValue

CHECKPOINT: Final = "fairness"
"""The name of what schedulers remember of who had how much (`ServiceMemory.saved`)."""


class Checkpoints(Protocol):
    """Small states by name. Never for correctness: losing one costs no more than what it is for.

    Promises:
        CP-1 `load` returns what was saved last under the name, None if nothing is known.
        CP-2 What is saved under one name leaves the others alone.
        CP-3 What a caller does to a state after saving or loading it changes nothing here.

    Not promised: that a state outlives the database's crash.
    """

    async def save(self, name: str, state: Mapping[str, JsonValue]) -> None:
        """Replace what is known under a name. A state is at most a few MB of JSON.

        Raises:
            Unavailable: nobody answered; it may have been saved all the same.
        """
        ...

    async def load(self, name: str) -> Mapping[str, JsonValue] | None:
        """Return the state of a name.

        Raises:
            Unavailable: nobody answered.
        """
        ...
