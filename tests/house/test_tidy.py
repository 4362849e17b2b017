"""Style that matters is a test: sizes, names, and SQL that documents itself."""

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "async_jobs"
SQL = PACKAGE / "adapters" / "postgres" / "sql"

FILE_LINES_MAX = 450
FUNCTION_LINES_MAX = 60
STATEMENT_LINES_MAX = 60
VAGUE_NAMES = {"base", "common", "helpers", "manager", "misc", "utils"}
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")

# The one statement that may ask the server what time it is; `now` is a parameter of all others.
CLOCK_STATEMENT = "database_time"
SERVER_TIME = re.compile(
    r"\b(?:now\s*\(|current_(?:timestamp|date|time)\b|localtime(?:stamp)?\b"
    r"|(?:clock|statement|transaction)_timestamp\s*\(|timeofday\s*\()",
    re.IGNORECASE,
)
HEADER = re.compile(r"-- (?P<name>\w+): \S.*")
PARAMETER = re.compile(r"\$(\d+)")
TOLD_PARAMETERS = re.compile(r"\$(?P<first>\d+)(?:-\$(?P<last>\d+)|(?P<rest> on\b))?")
COMMENT = re.compile(r"--.*")


def sources(*suffixes: str) -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*") if path.suffix in suffixes)


def relative(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


def blemishes(name: str, statement: str) -> Iterator[str]:
    """Yield what is wrong with the SQL statement that the file `name`.sql holds."""
    lines = statement.strip().splitlines()
    header = list(itertools.takewhile(lambda line: line.startswith("--"), lines))
    sql = [code for line in lines if (code := COMMENT.sub("", line).strip())]
    body = "\n".join(sql).removesuffix(";")
    first = HEADER.fullmatch(header[0]) if header else None
    if first is None or first["name"] != name:
        yield f"the first line is not `-- {name}: what it does`"
    used = {int(number) for number in PARAMETER.findall(body)}
    told = parameters_told("\n".join(header), last=max(used, default=0))
    if told != used:
        yield f"the header tells of parameters {sorted(told)}, the statement has {sorted(used)}"
    if len(sql) > STATEMENT_LINES_MAX:
        yield f"{len(sql)} lines of SQL, at most {STATEMENT_LINES_MAX} are allowed"
    if name != CLOCK_STATEMENT and SERVER_TIME.search(body):
        yield "it asks the server for the time, which is a parameter"
    if ";" in body:
        yield "it is more than one statement"


def parameters_told(header: str, *, last: int) -> set[int]:
    """Return the numbers in `$1`, `$2-$4` and `$5 on`, the latter up to the last there is."""
    told: set[int] = set()
    for found in TOLD_PARAMETERS.finditer(header):
        start = int(found["first"])
        end = last if found["rest"] else int(found["last"] or start)
        told |= set(range(start, end + 1))
    return told


@pytest.mark.parametrize("path", sources(".py"), ids=relative)
def test_a_module_is_short_enough_to_be_read_at_once(path: Path) -> None:
    """A longer one is two rooms."""
    lines = path.read_text(encoding="utf-8").splitlines()

    assert len(lines) <= FILE_LINES_MAX


@pytest.mark.parametrize("path", sources(".py"), ids=relative)
def test_a_function_is_short_enough_to_be_read_at_once(path: Path) -> None:
    """Docstring and signature count, for they are read too."""
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    }

    assert not long


def test_a_module_is_named_after_what_is_in_it() -> None:
    """A drawer for everything is opened by nobody."""
    vague = [
        relative(path) for path in PACKAGE.rglob("*") if VAGUE_NAMES & set(path.stem.split("_"))
    ]

    assert not vague


def test_nothing_is_left_for_later_in_the_code() -> None:
    """What is not done stands in the issues, where somebody looks."""
    unfinished = [
        f"{relative(path)}:{number}"
        for path in sources(".py", ".sql", ".html", ".js", ".css")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if UNFINISHED.search(line)
    ]

    assert not unfinished


@pytest.mark.parametrize("path", sorted(SQL.rglob("*.sql")), ids=lambda path: path.stem)
def test_a_statement_is_named_documented_and_short(path: Path) -> None:
    """One file holds one statement, says what it does, and names each parameter."""
    found = list(blemishes(path.stem, path.read_text(encoding="utf-8")))

    assert not found


GOOD = "-- take: take what is due.\n--   $1 now timestamptz\nSELECT 1 WHERE $1 > run_at;\n"


@pytest.mark.parametrize(
    ("statement", "blemish"),
    [
        ("SELECT 1;\n", "the first line is not"),
        (GOOD.replace("take:", "give:"), "the first line is not"),
        (GOOD.replace("take: take what is due.", "take:"), "the first line is not"),
        (GOOD.replace("$1 >", "$1 > $2 +"), "the header tells of parameters"),
        (GOOD.replace("$1 now", "$1-$3 now"), "the header tells of parameters"),
        (GOOD.replace("$1 >", "run_at <"), "the header tells of parameters"),
        (GOOD.replace("> run_at", "> run_at AND\nTRUE" * STATEMENT_LINES_MAX), "lines of SQL"),
        (GOOD.replace("> run_at", "> Now()"), "asks the server for the time"),
        (GOOD.replace("> run_at", "> CURRENT_TIMESTAMP"), "asks the server for the time"),
        (GOOD.replace("> run_at", "> clock_timestamp()"), "asks the server for the time"),
        (GOOD + "SELECT 2;\n", "more than one statement"),
    ],
)
def test_a_blemish_is_found(statement: str, blemish: str) -> None:
    """The rules for SQL have been seen to fail."""
    assert not list(blemishes("take", GOOD))
    assert [found for found in blemishes("take", statement) if blemish in found]
