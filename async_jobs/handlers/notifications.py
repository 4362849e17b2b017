"""Example handlers that deliver something: `send_email` and `send_notification`.

Both are `async def`: they spend their time waiting for a transport. Neither claims that a
message reached anybody; the result says which transport took it over.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from async_jobs.application.handling.registry import JobContext, job_registry
from async_jobs.domain.job import JsonValue
from async_jobs.handlers.delivery import Delivery, deliver

ADDRESS_CHARACTERS_MAX = 254
"""Of a path without its angle brackets: RFC 5321, 4.5.3.1.3."""
LOCAL_PART_BYTES_MAX = 64
SUBJECT_CHARACTERS_MAX = 998
BODY_CHARACTERS_MAX = 100_000
USER_ID_CHARACTERS_MAX = 200
TEXT_CHARACTERS_MAX = 4_000

# RFC 5322, 3.2.3, opened to other scripts by RFC 6531: words joined by single dots.
_ATOM = r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_LOCAL_PART = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_DOMAIN_LABEL = re.compile(r"(?!-)[a-zA-Z0-9\u0080-\U0010ffff-]{1,63}(?<!-)")


def address_problem(address: str) -> str | None:
    """Return why no e-mail can ever go to `address`, or None when one might.

    Only the syntax is judged, of addresses as people have them: quoted local parts and
    numeric hosts in brackets are refused, although RFC 5321 knows them.
    """
    local_part, at, domain = address.rpartition("@")
    labels = domain.split(".")
    if not at:
        return "has no @"
    if len(address) > ADDRESS_CHARACTERS_MAX:
        return f"has more than {ADDRESS_CHARACTERS_MAX} characters"
    if not address.isprintable() or " " in address:
        return "holds a space or a control character"
    if not _LOCAL_PART.fullmatch(local_part):
        return "has something else than words joined by single dots before the @"
    if len(local_part.encode()) > LOCAL_PART_BYTES_MAX:
        return f"has more than {LOCAL_PART_BYTES_MAX} bytes before the @"
    if not all(_DOMAIN_LABEL.fullmatch(label) for label in labels) or labels[-1].isdecimal():
        return "has no host name after the @"
    return None


def _possible_address(address: str) -> str:
    problem = address_problem(address)
    if problem is not None:
        raise PydanticCustomError(
            "email_address",
            "must be one address such as name@example.com; this one {problem}",
            {"problem": problem},
        )
    return address


def _one_line(text: str) -> str:
    # A line break in a subject is how foreign headers are smuggled into an e-mail.
    if any(character < " " or character == "\x7f" for character in text):
        raise PydanticCustomError("one_line", "must be one line without control characters")
    return text


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class SendEmail(_Strict):
    """One e-mail to one address. Like RFC 5322, it demands neither a subject nor a body.

    An address that cannot exist fails the validation, so that its job is dead at once
    instead of being retried in vain.
    """

    to: Annotated[str, AfterValidator(_possible_address)] = Field(repr=False)
    subject: Annotated[
        str, Field(max_length=SUBJECT_CHARACTERS_MAX, repr=False), AfterValidator(_one_line)
    ] = ""
    body: Annotated[str, Field(max_length=BODY_CHARACTERS_MAX, repr=False)] = ""


class SendNotification(_Strict):
    """One short text to one user, by one channel."""

    user_id: Annotated[
        str, Field(min_length=1, max_length=USER_ID_CHARACTERS_MAX), AfterValidator(_one_line)
    ]
    channel: Literal["push", "sms", "in_app"]
    text: Annotated[str, Field(min_length=1, max_length=TEXT_CHARACTERS_MAX, repr=False)]


@job_registry.handler("send_email", timeout_seconds=30)
async def send_email(ctx: JobContext, payload: SendEmail) -> JsonValue:
    """Hand one e-mail to the transport."""
    message = Delivery.of(
        ctx, channel="email", recipient=payload.to, subject=payload.subject, body=payload.body
    )
    return {"channel": "email", "handed_to": await deliver(message)}


@job_registry.handler("send_notification", timeout_seconds=30)
async def send_notification(ctx: JobContext, payload: SendNotification) -> JsonValue:
    """Hand one notification to the transport."""
    message = Delivery.of(
        ctx, channel=payload.channel, recipient=payload.user_id, body=payload.text
    )
    return {"channel": payload.channel, "handed_to": await deliver(message)}
