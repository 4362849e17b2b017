"""Where e-mails and notifications go: to a transport that the application chooses.

An application sets its own with `set_transport`. Without one, the first delivery takes what
the environment says, see `transport_from_env`; nothing leaves the machine by default.

DeliveryError
├── PermanentDeliveryError   no retry can help; the job becomes dead
└── TransientDeliveryError   the job is retried, by its backoff or when the transport says
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar
from uuid import UUID

from async_jobs.application.handling.outcomes import Reject, RetryAfter
from async_jobs.application.handling.registry import JobContext
from async_jobs.domain.errors import AsyncJobsError, ConfigurationError

FILE_VARIABLE = "ASYNC_JOBS_DELIVERY_FILE"
FAILURE_SHARE_VARIABLE = "ASYNC_JOBS_DEMO_FAILURE_SHARE"

RETRY_AFTER_SECONDS_MAX = 86_400.0
"""What a far side may ask for at most, so that it cannot park a job for a year."""

Channel = Literal["email", "push", "sms", "in_app"]

_logger = logging.getLogger(__name__)


class DeliveryError(AsyncJobsError):
    """A delivery failed. The message ends up in the job's history: no bodies, no addresses."""


class PermanentDeliveryError(DeliveryError):
    """No retry can help, e.g. the recipient does not exist."""


class TransientDeliveryError(DeliveryError):
    """A later attempt may succeed.

    Attributes:
        retry_after_seconds: when the far side wants to be asked again; None leaves it to the
            job's backoff. Cut to one day.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one recipient. Its repr names neither the recipient nor the content.

    Attributes:
        idempotency_key: the same for all attempts: what a far side that must never deliver
            twice should drop repetitions by.
        attempt: 1 for the first.
        recipient: an address for e-mails, else the id of a user.
        subject: of e-mails only.
    """

    idempotency_key: str
    job_id: UUID
    attempt: int
    tenant_id: str
    channel: Channel
    recipient: str = field(repr=False)
    subject: str | None = field(default=None, repr=False)
    body: str = field(repr=False)

    @property
    def recipient_domain(self) -> str | None:
        """The part of an e-mail address that may be logged; None for other channels."""
        return self.recipient.rpartition("@")[2] if self.channel == "email" else None

    @classmethod
    def of(
        cls,
        ctx: JobContext,
        *,
        channel: Channel,
        recipient: str,
        body: str,
        subject: str | None = None,
    ) -> Delivery:
        """Return the delivery that a job stands for."""
        return cls(
            idempotency_key=ctx.idempotency_key,
            job_id=ctx.job_id,
            attempt=ctx.attempt,
            tenant_id=ctx.tenant_id,
            channel=channel,
            recipient=recipient,
            subject=subject,
            body=body,
        )


class DeliveryTransport(Protocol):
    """Takes messages over.

    Promises that `deliver` returns only once the message is taken over. Does not promise to
    drop repetitions: after a crash the same message may come again.
    """

    async def deliver(self, message: Delivery) -> None:
        """Take one message over.

        Raises:
            PermanentDeliveryError: no retry can help.
            TransientDeliveryError: a later attempt may succeed.
        """
        ...


class LogTransport:
    """Writes to the log that there was a message, and sends nothing.

    Ids, the channel and the domain of the recipient are logged; contents never are.
    """

    async def deliver(self, message: Delivery) -> None:
        """Log one line. Never fails."""
        _logger.info(
            "delivery written to this log and nowhere else:"
            " job_id=%s idempotency_key=%s tenant_id=%s channel=%s recipient_domain=%s",
            message.job_id,
            message.idempotency_key,
            message.tenant_id,
            message.channel,
            message.recipient_domain or "-",
        )


class FileTransport:
    """Appends each message, content included, as one line of JSON to a file.

    Any number of processes may share the file, on a local disk: a line is one `write` in
    append mode. Only a disk that fills up in the middle of it can tear one; the job is then
    retried, and readers should pass over a line that is no JSON.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def deliver(self, message: Delivery) -> None:
        """Append one line.

        Raises:
            TransientDeliveryError: the file cannot be written; an operator can mend that.
        """
        # ASCII only: U+2028 and its like would end a line for some readers.
        line = json.dumps({**asdict(message), "job_id": str(message.job_id)}) + "\n"
        try:
            await asyncio.to_thread(self._append, line.encode("ascii"))
        except OSError as error:
            raise TransientDeliveryError(
                f"the delivery file cannot be written: {error.strerror}"
            ) from error

    def _append(self, line: bytes) -> None:
        # Opened each time, so that the file may be rotated; private, because it holds contents.
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            written_bytes = os.write(file, line)
            if written_bytes < len(line):
                os.write(file, b"\n")  # keeps the next line whole, if there is room for it
                raise OSError(None, f"{written_bytes} of {len(line)} bytes were written")
        finally:
            os.close(file)


class FlakyTransport:
    """Fails the first attempts of some jobs, for demonstrations of retries.

    Which jobs is decided by their ids and the seed alone, so that a demonstration can be
    repeated. Give such jobs more than `failing_attempts` attempts, or they end up dead.
    """

    def __init__(
        self,
        inner: DeliveryTransport,
        failure_share: float,
        seed: int = 0,
        *,
        failing_attempts: int = 1,
    ) -> None:
        if not 0 <= failure_share <= 1:
            raise ValueError("failure_share must be from 0 to 1")
        self._inner = inner
        self._failure_share = failure_share
        self._seed = seed
        self._failing_attempts = failing_attempts

    async def deliver(self, message: Delivery) -> None:
        """Fail on purpose, or pass the message on.

        Raises:
            TransientDeliveryError: on purpose.
        """
        if message.attempt <= self._failing_attempts and self.is_unlucky(message.job_id):
            raise TransientDeliveryError("this demonstration fails some first attempts on purpose")
        await self._inner.deliver(message)

    def is_unlucky(self, job_id: UUID) -> bool:
        """Return True for the jobs whose first attempts fail."""
        digest = hashlib.blake2b(f"{self._seed}:{job_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64 < self._failure_share


def transport_from_env(environ: Mapping[str, str] | None = None) -> DeliveryTransport:
    """Return the transport that the environment asks for; an empty variable counts as unset.

    `ASYNC_JOBS_DELIVERY_FILE` names the file of a `FileTransport`; without it a `LogTransport`
    is returned. `ASYNC_JOBS_DEMO_FAILURE_SHARE`, from 0 to 1, wraps it in a `FlakyTransport`.

    Raises:
        ConfigurationError: the share is not a number from 0 to 1.
    """
    environ = os.environ if environ is None else environ
    path = environ.get(FILE_VARIABLE)
    transport: DeliveryTransport = FileTransport(Path(path)) if path else LogTransport()
    share = environ.get(FAILURE_SHARE_VARIABLE)
    if not share:
        return transport
    try:
        flaky = FlakyTransport(transport, float(share))
    except ValueError:
        raise ConfigurationError(f"{FAILURE_SHARE_VARIABLE} must be a number from 0 to 1") from None
    _logger.warning("%s is set: some deliveries fail on purpose", FAILURE_SHARE_VARIABLE)
    return flaky


@dataclass(slots=True)
class _Chosen:
    transport: DeliveryTransport | None = None


# One per process: a worker's handlers all deliver by the same way.
_chosen = _Chosen()

TransportT = TypeVar("TransportT", bound=DeliveryTransport)


def set_transport(transport: DeliveryTransport | None) -> None:
    """Deliver by `transport` from now on; None asks the environment at the next delivery."""
    _chosen.transport = transport


@contextmanager
def use_transport(transport: TransportT) -> Iterator[TransportT]:
    """Deliver by `transport` inside the block, in the whole process."""
    before = _chosen.transport
    _chosen.transport = transport
    try:
        yield transport
    finally:
        _chosen.transport = before


async def deliver(message: Delivery) -> str:
    """Hand a message to the transport in use and return the transport's name.

    Raises:
        Reject: the transport says that no retry can help.
        RetryAfter: it failed and said when to try again.
        TransientDeliveryError: it failed; the job's backoff decides.
    """
    if _chosen.transport is None:
        _chosen.transport = transport_from_env()
    transport = _chosen.transport
    try:
        await transport.deliver(message)
    except PermanentDeliveryError as error:
        raise Reject(f"delivery refused: {error}") from error
    except TransientDeliveryError as error:
        seconds = error.retry_after_seconds
        if seconds is None or math.isnan(seconds):
            raise
        bounded_seconds = min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)
        raise RetryAfter(bounded_seconds, f"delivery failed: {error}") from error
    return type(transport).__name__
