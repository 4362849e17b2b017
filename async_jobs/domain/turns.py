"""What a dispatch turn is shown, and what it answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias
from uuid import UUID

from async_jobs.domain.scheduling import Blocked, Candidate


class RunningCount(NamedTuple):
    """How many jobs of a tenant run in a use case on a queue, claimed and not yet claimed.

    `strays` are those of the claimed ones whose worker was not asked for: it is gone, or new.
    `group` is the number that was given for the workers that have claimed; 0 is also what nobody
    has claimed, and strays.
    """

    use_case: str
    tenant_id: str
    queue: str
    claimed: int
    unclaimed: int
    strays: int = 0
    group: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a turn has been shown of one use case.

    Attributes:
        ready: ready jobs, of each tenant a beginning.
        late: jobs to bury, where late jobs expire.
        named: tenants whose jobs, if they have any, are among `ready`.
        whole: these are all ready jobs there are.
    """

    ready: Sequence[Candidate] = ()
    late: Sequence[Candidate] = ()
    named: Collection[str] = ()
    whole: bool = True

    @property
    def known(self) -> Collection[Candidate]:
        """All that was shown, each job once."""
        if not self.late:
            return self.ready
        return {c.id: c for c in (*self.ready, *self.late)}.values()


Chosen: TypeAlias = tuple[str, Candidate]
"""A use case, and a job of it to lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The answer of a turn.

    Attributes:
        chosen: what to lease, in order.
        expired: what to bury.
        blocked: why the others wait, if asked.
        late: the use cases that showed late jobs which go behind others.
        paused: jobs that stand where others could be shown, and may not start.
        more: what a use case had chosen found no place, and other jobs of its may find one: another
            turn has to follow.
    """

    chosen: Sequence[Chosen] = ()
    expired: Sequence[Candidate] = ()
    blocked: Mapping[UUID, Blocked] = field(default_factory=dict)
    late: AbstractSet[str] = frozenset()
    paused: Sequence[Chosen] = ()
    more: bool = False
