"""The files that pages need: read once, served from memory, known by their sum."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

FOLDER: Final = Path(__file__).parent / "static"
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".LICENSE": "text/plain; charset=utf-8",
}


class _File(NamedTuple):
    data: bytes
    media_type: str
    tag: str


class Files:
    """Answers requests for the files below `static`, and for no others."""

    def __init__(self) -> None:
        self._files = {
            path.relative_to(FOLDER).as_posix(): _File(
                data := path.read_bytes(),
                TYPES[path.suffix],
                f'"{hashlib.sha256(data).hexdigest()[:16]}"',
            )
            for path in sorted(FOLDER.rglob("*"))
            if path.suffix in TYPES
        }

    async def answer(self, request: Request) -> Response:
        """Return a file, or that the browser has it."""
        found = self._files.get(request.path_params["file"])
        if found is None:
            return Response("there is no such file\n", 404, media_type="text/plain")
        # Asked for again with each page, and answered without a body: an upgrade shows at once.
        headers = {"ETag": found.tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=304, headers=headers)
        return Response(found.data, headers=headers, media_type=found.media_type)
