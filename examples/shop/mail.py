"""A stand-in for an e-mail provider. Like most of them, it drops what it was sent before."""

from __future__ import annotations

import asyncpg

_refused_once: set[str] = set()


class MailboxUnknownError(Exception):
    """There is no such mailbox, today or tomorrow."""


class TooManyRequestsError(Exception):
    """Not now. `retry_after_seconds` is what the provider asks for."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("too many requests")
        self.retry_after_seconds = retry_after_seconds


async def send(pool: asyncpg.Pool, *, key: str, sent_as: str, recipient: str, body: str) -> None:
    """Take a mail over, once for a key.

    Args:
        pool: where this stand-in keeps what it was given.
        key: a mail with a known key is dropped.
        sent_as: the caller's own name for this request, for its support.
        recipient: nobody@... is unknown; a mail to busy@... is refused the first time.
        body: the text.
    """
    name = recipient.partition("@")[0]
    if name == "nobody":
        raise MailboxUnknownError(recipient)
    if name == "busy" and key not in _refused_once:
        _refused_once.add(key)
        raise TooManyRequestsError(retry_after_seconds=0.1)
    await pool.execute(
        "INSERT INTO shop_mails VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO NOTHING",
        *(key, sent_as, recipient, body),
    )
