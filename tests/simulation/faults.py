"""What can go wrong, by name, and how often at each level."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

LEVELS = ("calm", "rough", "storm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often each thing goes wrong. All zero is a perfect world.

    Probabilities, by occasion:
        duplicates, drops, delays: of a hand-off on its way, delayed up to 15 minutes, by which
            it is overtaken.
        ghosts: that an acked message comes back within 15 minutes.
        refused_sends: that the transport refuses a hand-off, or the whole call.
        lost_acks: that an ack is not carried out.
        failpoints: that a process dies when it reaches a failpoint, or lingers there.
        unavailable_before: that a call of the store fails without any effect.
        unavailable_after: that it takes effect and its reply is lost.
        late_effects: that it takes effect after its caller has given up.
        slow_calls: that it takes seconds.
        lost_signals: that a wake-up is lost.
        hanging, stubborn, blocking, deadly: that a handler never returns, ignores its
            cancellation for a while, blocks the event loop of its process, or ends that.

    Times a lease's length (60 s before scaling), for the whole system:
        crashes: processes die, each after some more steps of its own.
        pauses: processes stand still, for up to three leases.
        restarts: processes are told to stop, and replaced.
        outages: the store, or all lanes, answer nobody for up to three leases.
        partitions: one process cannot reach the store, or anything, for up to three leases.
        purges: a lane loses all its messages.
        poison: somebody puts garbage, or a bare id, on a lane.
        corruption: a pending or running row becomes unreadable.

    And one constant:
        skew_seconds: how far the clocks of hosts may be from the truth, either way.
    """

    duplicates: float = 0.0
    drops: float = 0.0
    delays: float = 0.0
    ghosts: float = 0.0
    refused_sends: float = 0.0
    lost_acks: float = 0.0
    failpoints: float = 0.0
    unavailable_before: float = 0.0
    unavailable_after: float = 0.0
    late_effects: float = 0.0
    slow_calls: float = 0.0
    lost_signals: float = 0.0
    hanging: float = 0.0
    stubborn: float = 0.0
    blocking: float = 0.0
    deadly: float = 0.0
    crashes: float = 0.0
    pauses: float = 0.0
    restarts: float = 0.0
    outages: float = 0.0
    partitions: float = 0.0
    purges: float = 0.0
    poison: float = 0.0
    corruption: float = 0.0
    skew_seconds: float = 0.0

    def without(self, *names: str) -> Faults:
        """Return the same without some kinds."""
        return replace(self, **dict.fromkeys(names, 0.0))

    def only(self, *names: str) -> Faults:
        """Return the same with these kinds only.

        Raises:
            ValueError: there is no such kind.
        """
        known = [each.name for each in fields(Faults)]
        if unknown := sorted(set(names) - set(known)):
            raise ValueError(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
        return self.without(*(name for name in known if name not in names))

    @property
    def kinds(self) -> list[str]:
        """The names of what can happen."""
        return [each.name for each in fields(self) if getattr(self, each.name)]


ROUGH = Faults(
    duplicates=0.05,
    drops=0.03,
    delays=0.05,
    ghosts=0.03,
    refused_sends=0.02,
    lost_acks=0.03,
    failpoints=0.01,
    unavailable_before=0.005,
    unavailable_after=0.005,
    late_effects=0.002,
    slow_calls=0.01,
    lost_signals=0.1,
    hanging=0.02,
    stubborn=0.02,
    blocking=0.01,
    deadly=0.03,
    crashes=0.5,
    pauses=0.3,
    restarts=0.3,
    outages=0.05,
    partitions=0.4,
    purges=0.05,
    poison=0.3,
    corruption=0.05,
    skew_seconds=600.0,
)

STORM = Faults(
    duplicates=0.2,
    drops=0.15,
    delays=0.2,
    ghosts=0.1,
    refused_sends=0.1,
    lost_acks=0.15,
    failpoints=0.05,
    unavailable_before=0.03,
    unavailable_after=0.03,
    late_effects=0.01,
    slow_calls=0.05,
    lost_signals=0.4,
    hanging=0.05,
    stubborn=0.05,
    blocking=0.03,
    deadly=0.06,
    crashes=2.0,
    pauses=1.5,
    restarts=0.7,
    outages=0.2,
    partitions=1.0,
    purges=0.2,
    poison=1.0,
    corruption=0.1,
    skew_seconds=600.0,
)


def faults_of(level: str) -> Faults:
    """Return the faults of a level.

    Raises:
        ValueError: there is no such level.
    """
    levels: dict[str, Faults] = dict(zip(LEVELS, (Faults(), ROUGH, STORM), strict=True))
    try:
        return levels[level]
    except KeyError:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}; got {level!r}") from None
