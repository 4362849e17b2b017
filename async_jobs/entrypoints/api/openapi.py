"""Print the OpenAPI document of the HTTP API: `docs/openapi.json`.

python -m async_jobs.entrypoints.api.openapi            writes it if it is out of date
python -m async_jobs.entrypoints.api.openapi --check    exits 1 if it is
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from async_jobs.entrypoints.api.app import create_app
from async_jobs.entrypoints.diagram import DiagramError, find_root

COMMAND: Final = "python -m async_jobs.entrypoints.api.openapi"
DOCUMENT: Final = "docs/openapi.json"


def document() -> str:
    """Return the document as it is kept: indented JSON that ends with a line break."""
    app = create_app(_nobody, auth_token="nobody calls it")
    return json.dumps(app.openapi(), ensure_ascii=False, indent=2) + "\n"


def _nobody() -> NoReturn:
    raise AssertionError("the application is described, not called")


def main(arguments: Sequence[str] | None = None, *, root: Path | None = None) -> int:
    """Write or check the document; returns 0 when all is well, else 1.

    Args:
        arguments: the command line; the process's own when None.
        root: the repository; found from this module's place or the working directory when None.
    """
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Print the OpenAPI document of the HTTP API."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the file is out of date"
    )
    check = parser.parse_args(arguments).check
    here = Path(__file__).resolve().parents[3]
    try:
        path = (root or find_root([here, Path.cwd(), *Path.cwd().parents])) / DOCUMENT
    except DiagramError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    wanted = document()
    if path.is_file() and path.read_text(encoding="utf-8") == wanted:
        sys.stdout.write(f"{DOCUMENT} is up to date\n")
    elif check:
        sys.stderr.write(f"{DOCUMENT} differs from the routes; run `{COMMAND}`\n")
        return 1
    else:
        path.write_text(wanted, encoding="utf-8", newline="\n")
        sys.stdout.write(f"wrote {DOCUMENT}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
