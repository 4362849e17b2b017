"""`send_email` and `send_notification`: payloads, what is handed over, and what is refused."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_jobs.application.handling.outcomes import Reject
from async_jobs.application.handling.registry import Handler, JobContext, job_registry
from async_jobs.domain.bounds import check_result
from async_jobs.domain.job import Payload
from async_jobs.handlers.delivery import Delivery, LogTransport, use_transport
from async_jobs.handlers.notifications import (
    SendEmail,
    SendNotification,
    address_problem,
    send_email,
    send_notification,
)

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
CTX = JobContext(
    job_id=UUID(int=7),
    tenant_id="acme",
    use_case="notifications",
    type="send_email",
    attempt=2,
    max_attempts=5,
    lease_seq=4,
    run_at=NOON,
    deadline_at=NOON,
)
EMAIL: Payload = {"to": "ada@shop.example", "subject": "Your order", "body": "It is on its way."}
NOTIFICATION: Payload = {"user_id": "user-1", "channel": "push", "text": "It is on its way."}


class RecordingTransport:
    """Keeps what it takes over."""

    def __init__(self) -> None:
        self.messages: list[Delivery] = []

    async def deliver(self, message: Delivery) -> None:
        self.messages.append(message)


def registered(type: str) -> Handler:
    handler = job_registry.get(type)
    assert handler is not None
    return handler


def refusal(type: str, payload: Payload) -> str:
    with pytest.raises(Reject) as rejected:
        registered(type).load(payload)
    return rejected.value.reason


# --- handing over ---------------------------------------------------------------------------


async def test_an_email_is_handed_over_with_the_keys_of_its_job() -> None:
    with use_transport(RecordingTransport()) as transport:
        result = await send_email(CTX, registered("send_email").load(EMAIL))

    assert result == {"channel": "email", "handed_to": "RecordingTransport"}
    assert transport.messages == [
        Delivery(
            idempotency_key=CTX.idempotency_key,
            job_id=CTX.job_id,
            attempt=2,
            tenant_id="acme",
            channel="email",
            recipient="ada@shop.example",
            subject="Your order",
            body="It is on its way.",
        )
    ]


@pytest.mark.parametrize("channel", ["push", "sms", "in_app"])
async def test_a_notification_is_handed_over_by_its_channel(channel: str) -> None:
    payload = registered("send_notification").load({**NOTIFICATION, "channel": channel})
    with use_transport(RecordingTransport()) as transport:
        result = await send_notification(CTX, payload)

    assert result == {"channel": channel, "handed_to": "RecordingTransport"}
    (message,) = transport.messages
    assert (message.channel, message.recipient) == (channel, "user-1")
    assert (message.subject, message.body) == (None, "It is on its way.")
    assert message.recipient_domain is None


async def test_an_email_needs_only_an_address() -> None:
    with use_transport(RecordingTransport()) as transport:
        await send_email(CTX, registered("send_email").load({"to": "a@b.example"}))

    (message,) = transport.messages
    assert (message.subject, message.body) == ("", "")


@given(st.builds(SendNotification, user_id=st.just("u"), text=st.text(min_size=1, max_size=4_000)))
async def test_any_valid_notification_gives_a_result_within_bounds(
    payload: SendNotification,
) -> None:
    with use_transport(RecordingTransport()):
        result = await send_notification(CTX, payload)

    check_result(result)


# --- refusing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({}, "payload.to: Field required"),
        ({**EMAIL, "cc": "x@y.example"}, "payload.cc: Extra inputs are not permitted"),
        ({**EMAIL, "subject": 7}, "payload.subject: Input should be a valid string"),
        ({**EMAIL, "subject": "a\r\nBcc: x@y.example"}, "payload.subject: must be one line"),
        ({**EMAIL, "subject": "s" * 999}, "payload.subject: String should have at most 998"),
        ({**EMAIL, "body": "b" * 100_001}, "payload.body: String should have at most 100000"),
        ({**EMAIL, "to": ["ada@shop.example"]}, "payload.to: Input should be a valid string"),
    ],
)
def test_an_invalid_email_is_refused_by_field(payload: Payload, told: str) -> None:
    assert told in refusal("send_email", payload)


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({**NOTIFICATION, "channel": "fax"}, "payload.channel: Input should be 'push', 'sms' or"),
        ({**NOTIFICATION, "text": ""}, "payload.text: String should have at least 1 character"),
        ({**NOTIFICATION, "text": "t" * 4_001}, "payload.text: String should have at most 4000"),
        ({**NOTIFICATION, "user_id": ""}, "payload.user_id: String should have at least 1"),
        ({**NOTIFICATION, "user_id": "a\nb"}, "payload.user_id: must be one line"),
        ({**NOTIFICATION, "user_id": 7}, "payload.user_id: Input should be a valid string"),
    ],
)
def test_an_invalid_notification_is_refused_by_field(payload: Payload, told: str) -> None:
    assert told in refusal("send_notification", payload)


@pytest.mark.parametrize(
    "address",
    [
        "a@b.example",
        "ada.lovelace+orders@mail.shop.example",
        "o'hara_1@shop-2.example",
        "root@localhost",
        "grüße@exämple.de",
        "उदाहरण@उदाहरण.भारत",
        f"{'a' * 64}@shop.example",
        f"a@{'b' * 63}.example",
    ],
)
def test_a_possible_address_is_taken(address: str) -> None:
    assert address_problem(address) is None


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("", "has no @"),
        ("ada.shop.example", "has no @"),
        ("@shop.example", "words joined by single dots"),
        ("ada@", "no host name"),
        (".ada@shop.example", "words joined by single dots"),
        ("ada..l@shop.example", "words joined by single dots"),
        ("a@b@shop.example", "words joined by single dots"),
        ("ada lovelace@shop.example", "a space or a control character"),
        ("ada@shop.example\n", "a space or a control character"),
        ("ada\x00@shop.example", "a space or a control character"),
        ("ada@shop..example", "no host name"),
        ("ada@-shop.example", "no host name"),
        ("ada@shop-.example", "no host name"),
        ("ada@shop_1.example", "no host name"),
        ("ada@127.0.0.1", "no host name"),
        (f"ada@{'b' * 64}.example", "no host name"),
        (f"{'a' * 65}@shop.example", "more than 64 bytes"),
        (f"{'ü' * 33}@shop.example", "more than 64 bytes"),
        (f"a@{'b.' * 130}example", "more than 254 characters"),
    ],
)
def test_an_impossible_address_kills_the_job_and_says_why(address: str, problem: str) -> None:
    reason = refusal("send_email", {**EMAIL, "to": address})

    assert "payload.to: must be one address such as name@example.com" in reason
    assert problem in reason


@given(st.text(st.sampled_from("aé7.@-_ \n\x00\ud800भि🎉"), max_size=80) | st.text(max_size=300))
def test_any_text_is_judged_and_a_possible_address_is_one_visible_word(text: str) -> None:
    if address_problem(text) is None:
        assert text.count("@") == 1
        assert text.isprintable()
        assert text == text.strip(" .@")


# --- secrets --------------------------------------------------------------------------------


async def test_nothing_of_the_content_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    email: Payload = {"to": "secret@shop.example", "subject": "secret", "body": "secret"}
    notification: Payload = {"user_id": "secret", "channel": "sms", "text": "secret"}
    with use_transport(LogTransport()):
        await send_email(CTX, registered("send_email").load(email))
        await send_notification(CTX, registered("send_notification").load(notification))

    assert caplog.text.count("delivery written") == 2
    assert "recipient_domain=shop.example" in caplog.text
    assert "secret" not in caplog.text


def test_neither_a_refusal_nor_a_repr_holds_values() -> None:
    email = SendEmail(to="secret@shop.example", subject="secret", body="secret")
    notification = SendNotification(user_id="user-1", channel="sms", text="secret")
    bad: Payload = {"to": "secret", "subject": "secret\n", "body": 7, "extra": "secret"}

    assert "secret" not in refusal("send_email", bad)
    assert "secret" not in f"{email!r} {notification!r}"
