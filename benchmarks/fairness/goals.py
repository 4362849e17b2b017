"""What is to be reached, and which figures tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from benchmarks.fairness import cases
from benchmarks.fairness.units import Measured

TIMES_BOUND = "on time ÷ bound"


class Goal(NamedTuple):
    """A limit that the worst of some figures has to keep.

    Attributes:
        text: what it is about.
        figure: its name.
        sections: where it is looked for.
        limit: to be met.
        at_least: whether figures have to be at or above it, or else at or below it.
        applies: of the units in the sections.
    """

    text: str
    figure: str
    sections: tuple[str, ...]
    limit: float
    at_least: bool = True
    applies: Callable[[Measured], bool] = lambda found: True

    @property
    def told(self) -> str:
        """The limit as people read it."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"

    def worst(self, found: Iterable[Measured]) -> tuple[float, Measured] | None:
        """Return the figure that is farthest from the goal, and whose it is."""
        told = [
            (each.figures[self.figure], each)
            for each in found
            if each.unit.section in self.sections
            and self.figure in each.figures
            and self.applies(each)
        ]
        choose = min if self.at_least else max
        return choose(told, key=lambda pair: pair[0]) if told else None

    def met(self, value: float) -> bool:
        """Tell whether a figure keeps the limit."""
        return value >= self.limit if self.at_least else value <= self.limit


def _by_default(found: Measured) -> bool:
    """Late policies that are set by hand are shown, and not judged."""
    return "," not in found.unit.group


GOALS = (
    Goal(
        "first attempts on time ÷ the bound, feasible load",
        TIMES_BOUND,
        ("day", "blocked", "many", "herd", "priorities", "retries"),
        0.99,
        applies=lambda found: found.unit.group != "some",  # 107 % with the retries
    ),
    Goal("the same, 1.2 times overloaded", TIMES_BOUND, ("overload",), 0.95, applies=_by_default),
    Goal("quiet tenants on time beside a dump", cases.QUIET, ("noisy",), 0.99),
    Goal("Jain's index while backlogged", cases.JAIN, ("backlog",), 0.99),
    Goal("tenants never served while backlogged", cases.UNSERVED, ("backlog",), 0, at_least=False),
    Goal("p99 start moved by a dump, ticks", cases.MOVED, ("noisy",), 2, at_least=False),
    Goal("what a liar gains over its share", cases.GAIN, ("liar",), 0.01, at_least=False),
    Goal("urgent wait beside bulk ÷ EDF's", cases.TIMES_EDF, ("behind",), 1.2, at_least=False),
    Goal("leases that run out", cases.RAN_OUT, ("behind", "noisy"), 0, at_least=False),
    Goal("hidden urgent jobs on time ÷ EDF's", cases.TIMES_EDF_SEEN, ("hidden",), 0.999),
    Goal("rounds that a newcomer waits", cases.ROUNDS, ("newcomer",), 2, at_least=False),
    Goal("executed load, peak ÷ trough", cases.SWING, ("swing",), 1.4, at_least=False),
)
