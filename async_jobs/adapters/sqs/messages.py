"""What a hand-off looks like on the wire, and what is made of what comes from there."""

from __future__ import annotations

import hashlib
import json
import re
from uuid import UUID

from async_jobs.domain.job import HandOff

# A hand-off takes about 80 characters. What is longer than this was put there by somebody else,
# and is not worth parsing: SQS carries bodies of up to 1 MiB.
BODY_CHARS_MAX = 1_024
LEASE_SEQ_MAX = 2**63 - 1

_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_GROUP = re.compile(r"[!-~]{1,128}")


class MalformedBodyError(ValueError):
    """A body is no hand-off; the text says why and never quotes it."""


def body_of(handoff: HandOff) -> str:
    """Return `{"job_id": …, "lease_seq": …}`, or the bare job id where there is no number."""
    if handoff.lease_seq is None:
        return str(handoff.job_id)
    fields = {"job_id": str(handoff.job_id), "lease_seq": handoff.lease_seq}
    return json.dumps(fields, separators=(",", ":"))


def group_of(tenant_id: str) -> str:
    """Return the message group that keeps one tenant's backlog from delaying the others.

    SQS allows 1-128 ASCII letters, digits and punctuation marks. A tenant of another name gets
    a digest of it, the same on every host.
    """
    if _GROUP.fullmatch(tenant_id):
        return tenant_id
    return f"sha256-{hashlib.sha256(tenant_id.encode(errors='surrogatepass')).hexdigest()}"


def handoff_of(body: str) -> HandOff:
    """Return the hand-off in a body; its tenant is empty, as the job's row knows it.

    Raises:
        MalformedBodyError: there is none.
    """
    if _ID.fullmatch(body):
        return HandOff(UUID(body), None, "")
    if len(body) > BODY_CHARS_MAX:
        raise MalformedBodyError(f"the body is longer than {BODY_CHARS_MAX:,} characters")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedBodyError("the body is neither JSON nor a job id") from None
    if not isinstance(fields, dict):
        raise MalformedBodyError("the body is not a JSON object")
    return HandOff(_job_id(fields.get("job_id")), _lease_seq(fields.get("lease_seq")), "")


def _job_id(value: object) -> UUID:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise MalformedBodyError("job_id is not a UUID")
    return UUID(value)


def _lease_seq(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LEASE_SEQ_MAX:
        raise MalformedBodyError("lease_seq is not a whole number from 0 to 2^63 - 1")
    return value
