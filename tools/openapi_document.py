"""Print the OpenAPI document of the HTTP API: `docs/openapi.json`.

python -m tools.openapi_document            writes it if it is out of date
python -m tools.openapi_document --check    exits 1 if it is
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from async_jobs.entrypoints.http.app import create_app
from tools.generated_files import GeneratedFile, keep, text_of

COMMAND: Final = "python -m tools.openapi_document"
DOCUMENT: Final = "docs/openapi.json"


def document() -> str:
    """Return the document as it is kept: indented JSON that ends with a line break."""
    app = create_app(
        _nobody,
        operations_factory=_nobody,
        reports_factory=_nobody,
        steering_factory=_nobody,
        search_factory=_nobody,
        bulk_factory=_nobody,
        auth_token="nobody calls it",
    )
    return json.dumps(app.openapi(), ensure_ascii=False, indent=2) + "\n"


def _nobody() -> NoReturn:
    raise AssertionError("the application is described, not called")


def _files(root: Path) -> list[GeneratedFile]:
    path = root / DOCUMENT
    return [GeneratedFile(path, text_of(path), document())]


def main(arguments: Sequence[str] | None = None, *, root: Path | None = None) -> int:
    """Write or check the document; see `keep`."""
    description = "Print the OpenAPI document of the HTTP API."
    return keep(COMMAND, description, "the routes", _files, arguments=arguments, root=root)


if __name__ == "__main__":
    sys.exit(main())
