"""What commands print for people: tables that are cut off nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

PIPE_CHARACTERS = 2_000


def print_rows(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; its cells are harmless to a terminal already (`printable`).

    Args:
        headings: of the columns; the first of them is never wrapped. On a narrow terminal cells of
            the others go on in further lines.
        rows: a cell for each heading.
    """
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    # What cells hold is text, whatever markup it looks like.
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        # A pipe has no width: nothing is cut off for scripts.
        console.width = PIPE_CHARACTERS
    console.print(table)
