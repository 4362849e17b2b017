"""What a scrape is answered: the page, to those who may see it."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, NamedTuple

PATH: Final = "/metrics"
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Answer(NamedTuple):
    """An answer over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes


class ScrapePage:
    """Answers scrapes, by any thread.

    Args:
        page: makes the page, in Prometheus's text format.
        token: what a scrape has to bring as `Authorization: Bearer …`; None lets everybody scrape.
    """

    def __init__(self, page: Callable[[], bytes], token: str | None = None) -> None:
        self._page = page
        self._wanted = None if token is None else f"Bearer {token}".encode()

    def answer(self, authorization: bytes | None) -> Answer:
        """Return the answer to a scrape.

        Args:
            authorization: the header of this name, if there is one.
        """
        if self._wanted is not None and not self._may(authorization or b"", self._wanted):
            headers = {"content-type": "text/plain", "www-authenticate": "Bearer"}
            return Answer(HTTPStatus.UNAUTHORIZED, headers, b"the scrape token is missing or wrong")
        return Answer(HTTPStatus.OK, {"content-type": _TEXT}, self._page())

    def _may(self, authorization: bytes, wanted: bytes) -> bool:
        scheme, _, token = authorization.partition(b" ")
        given = b"Bearer " + token.strip() if scheme.lower() == b"bearer" else b""
        return hmac.compare_digest(given, wanted)
