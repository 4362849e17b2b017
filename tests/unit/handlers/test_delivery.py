"""Transports: what they write, how they fail, and how one is chosen."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from async_jobs.application.handling.outcomes import Reject, RetryAfter
from async_jobs.domain.errors import ConfigurationError
from async_jobs.handlers import delivery
from async_jobs.handlers.delivery import (
    Delivery,
    FileTransport,
    FlakyTransport,
    LogTransport,
    PermanentDeliveryError,
    TransientDeliveryError,
    deliver,
    set_transport,
    transport_from_env,
    use_transport,
)

JOB_ID = UUID(int=7)
MESSAGE = Delivery(
    idempotency_key=f"{JOB_ID}:1:3",
    job_id=JOB_ID,
    attempt=1,
    tenant_id="acme",
    channel="email",
    recipient="secret-local@shop.example",
    subject="secret subject",
    body="secret body",
)


class RecordingTransport:
    """Keeps what it takes over."""

    def __init__(self) -> None:
        self.messages: list[Delivery] = []

    async def deliver(self, message: Delivery) -> None:
        self.messages.append(message)


class FailingTransport:
    """Raises one error for everything."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def deliver(self, message: Delivery) -> None:
        raise self._error


@pytest.fixture(autouse=True)
def no_transport_is_chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts, and leaves, with neither a transport nor an environment."""
    monkeypatch.delenv(delivery.FILE_VARIABLE, raising=False)
    monkeypatch.delenv(delivery.FAILURE_SHARE_VARIABLE, raising=False)
    set_transport(None)
    yield
    set_transport(None)


# --- choosing -------------------------------------------------------------------------------


async def test_without_any_setting_a_delivery_goes_to_the_log() -> None:
    assert await deliver(MESSAGE) == "LogTransport"


async def test_the_environment_is_read_at_the_first_delivery_and_then_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(delivery.FILE_VARIABLE, str(tmp_path / "first.jsonl"))
    await deliver(MESSAGE)
    monkeypatch.setenv(delivery.FILE_VARIABLE, str(tmp_path / "second.jsonl"))
    await deliver(MESSAGE)

    assert len((tmp_path / "first.jsonl").read_text().splitlines()) == 2
    assert not (tmp_path / "second.jsonl").exists()


async def test_a_set_transport_goes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(delivery.FILE_VARIABLE, str(tmp_path / "unused.jsonl"))
    transport = RecordingTransport()
    set_transport(transport)

    assert await deliver(MESSAGE) == "RecordingTransport"
    assert transport.messages == [MESSAGE]
    assert not (tmp_path / "unused.jsonl").exists()


async def test_use_transport_lasts_for_its_block() -> None:
    outer = RecordingTransport()
    set_transport(outer)
    with use_transport(RecordingTransport()) as inner:
        await deliver(MESSAGE)
    await deliver(replace(MESSAGE, attempt=2))

    assert inner.messages == [MESSAGE]
    assert outer.messages == [replace(MESSAGE, attempt=2)]


async def test_an_error_in_the_block_gives_the_previous_transport_back_as_well() -> None:
    outer = RecordingTransport()
    set_transport(outer)
    with pytest.raises(RuntimeError), use_transport(FailingTransport(RuntimeError())):
        await deliver(MESSAGE)
    await deliver(MESSAGE)

    assert outer.messages == [MESSAGE]


def test_empty_variables_count_as_unset() -> None:
    environ = {delivery.FILE_VARIABLE: "", delivery.FAILURE_SHARE_VARIABLE: ""}

    assert isinstance(transport_from_env(environ), LogTransport)


def test_deliveries_fail_on_purpose_only_when_a_share_is_set_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    file = {delivery.FILE_VARIABLE: str(tmp_path / "out.jsonl")}
    assert isinstance(transport_from_env(file), FileTransport)
    assert caplog.text == ""

    flaky = transport_from_env({**file, delivery.FAILURE_SHARE_VARIABLE: "0.2"})

    assert isinstance(flaky, FlakyTransport)
    assert "fail on purpose" in caplog.text


@pytest.mark.parametrize("share", ["much", "-0.1", "1.1", "nan"])
def test_a_share_that_is_no_share_is_refused_by_name(share: str) -> None:
    with pytest.raises(ConfigurationError, match=r"ASYNC_JOBS_DEMO_FAILURE_SHARE.*from 0 to 1"):
        transport_from_env({delivery.FAILURE_SHARE_VARIABLE: share})


# --- errors become outcomes -----------------------------------------------------------------


async def test_a_permanent_error_rejects_the_job() -> None:
    set_transport(FailingTransport(PermanentDeliveryError("no such user")))
    with pytest.raises(Reject) as rejected:
        await deliver(MESSAGE)

    assert rejected.value.reason == "delivery refused: no such user"


async def test_a_transient_error_is_left_to_the_backoff() -> None:
    set_transport(FailingTransport(TransientDeliveryError("busy")))
    with pytest.raises(TransientDeliveryError, match="busy"):
        await deliver(MESSAGE)


@pytest.mark.parametrize(
    ("asked_seconds", "seconds"),
    [(12.5, 12.5), (0, 0.0), (-3, 0.0), (1e12, 86_400.0), (math.inf, 86_400.0)],
)
async def test_a_far_side_may_say_when_to_come_back_within_a_day(
    asked_seconds: float, seconds: float
) -> None:
    error = TransientDeliveryError("throttled", retry_after_seconds=asked_seconds)
    set_transport(FailingTransport(error))
    with pytest.raises(RetryAfter) as retry:
        await deliver(MESSAGE)

    assert retry.value.seconds == seconds
    assert retry.value.reason == "delivery failed: throttled"


async def test_a_wait_that_is_no_number_is_left_to_the_backoff() -> None:
    error = TransientDeliveryError("throttled", retry_after_seconds=math.nan)
    set_transport(FailingTransport(error))
    with pytest.raises(TransientDeliveryError):
        await deliver(MESSAGE)


async def test_an_error_of_another_kind_passes_unchanged() -> None:
    set_transport(FailingTransport(RuntimeError("a bug in the transport")))
    with pytest.raises(RuntimeError, match="a bug"):
        await deliver(MESSAGE)


# --- the log --------------------------------------------------------------------------------


async def test_the_log_transport_names_ids_channel_and_domain_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    await LogTransport().deliver(MESSAGE)

    assert str(JOB_ID) in caplog.text
    assert MESSAGE.idempotency_key in caplog.text
    assert "tenant_id=acme channel=email recipient_domain=shop.example" in caplog.text
    assert "secret" not in caplog.text


async def test_the_log_transport_never_claims_that_something_was_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    await LogTransport().deliver(replace(MESSAGE, channel="push", recipient="secret-user"))

    assert "written to this log and nowhere else" in caplog.text
    assert "sent" not in caplog.text
    assert "secret" not in caplog.text


def test_the_repr_of_a_delivery_hides_recipient_and_content() -> None:
    assert "secret" not in repr(MESSAGE)


# --- the file -------------------------------------------------------------------------------


async def test_the_file_gets_one_record_with_everything_in_it(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    await FileTransport(path).deliver(MESSAGE)

    assert json.loads(path.read_text()) == {
        "idempotency_key": f"{JOB_ID}:1:3",
        "job_id": str(JOB_ID),
        "attempt": 1,
        "tenant_id": "acme",
        "channel": "email",
        "recipient": "secret-local@shop.example",
        "subject": "secret subject",
        "body": "secret body",
    }
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("body", ["a\nb\r\nc", "a\u2028b\x85c", "grüße 🎉", "\x00", ""])
async def test_no_content_can_break_a_line(tmp_path: Path, body: str) -> None:
    path = tmp_path / "out.jsonl"
    await FileTransport(path).deliver(replace(MESSAGE, body=body))

    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["body"] == body


async def test_concurrent_deliveries_leave_whole_lines(tmp_path: Path) -> None:
    """Two transports write 200 records of 1 to 50 KiB to one file from many threads."""
    path = tmp_path / "out.jsonl"
    transports = [FileTransport(path), FileTransport(path)]
    messages = [
        replace(MESSAGE, idempotency_key=str(number), body=chr(65 + number % 26) * (number * 256))
        for number in range(1, 201)
    ]
    await asyncio.gather(
        *(
            transports[number % 2].deliver(message)
            for number, message in enumerate(messages, start=1)
        )
    )

    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert {record["idempotency_key"]: record["body"] for record in records} == {
        message.idempotency_key: message.body for message in messages
    }
    assert len(records) == len(messages)


async def test_a_repeated_execution_repeats_its_key(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for message in (MESSAGE, MESSAGE):
        await FileTransport(path).deliver(message)

    first, second = path.read_text().splitlines()
    assert first == second


async def test_a_file_that_cannot_be_written_is_a_transient_error(tmp_path: Path) -> None:
    transport = FileTransport(tmp_path / "missing" / "out.jsonl")

    with pytest.raises(TransientDeliveryError, match="cannot be written: No such file"):
        await transport.deliver(MESSAGE)


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits as Linux has them")
async def test_a_write_cut_short_is_a_transient_error(tmp_path: Path) -> None:
    """A file size limit stands in for a disk that fills up in the middle of a line."""
    import resource

    path = tmp_path / "out.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(TransientDeliveryError, match="cannot be written"):
            await FileTransport(path).deliver(replace(MESSAGE, body="x" * 200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert path.stat().st_size == 100_000


# --- failing on purpose ---------------------------------------------------------------------


def unlucky(transport: FlakyTransport) -> set[int]:
    return {number for number in range(1_000) if transport.is_unlucky(UUID(int=number))}


def test_the_share_and_the_seed_decide_which_jobs_are_unlucky() -> None:
    inner = RecordingTransport()
    one, same = FlakyTransport(inner, 0.2, seed=1), FlakyTransport(inner, 0.2, seed=1)
    other = FlakyTransport(inner, 0.2, seed=2)

    assert 150 < len(unlucky(one)) < 250
    assert unlucky(one) == unlucky(same)
    assert unlucky(one) != unlucky(other)
    assert unlucky(one) < unlucky(FlakyTransport(inner, 0.5, seed=1))


def test_the_ends_of_the_scale_are_never_and_always() -> None:
    assert not unlucky(FlakyTransport(RecordingTransport(), 0.0))
    assert len(unlucky(FlakyTransport(RecordingTransport(), 1.0))) == 1_000


async def test_an_unlucky_job_fails_its_first_attempts_and_then_gets_through() -> None:
    inner = RecordingTransport()
    flaky = FlakyTransport(inner, 1.0, failing_attempts=2)
    for attempt in (1, 2):
        with pytest.raises(TransientDeliveryError, match="on purpose"):
            await flaky.deliver(replace(MESSAGE, attempt=attempt))
    await flaky.deliver(replace(MESSAGE, attempt=3))

    assert [message.attempt for message in inner.messages] == [3]


async def test_a_lucky_job_passes_at_once() -> None:
    inner = RecordingTransport()
    await FlakyTransport(inner, 0.0).deliver(MESSAGE)

    assert inner.messages == [MESSAGE]


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="failure_share must be from 0 to 1"):
        FlakyTransport(RecordingTransport(), share)
