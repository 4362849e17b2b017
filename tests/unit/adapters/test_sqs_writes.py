"""How long an SQS lane may take to write."""

from __future__ import annotations

from typing import Any, cast

from async_jobs.adapters.sqs.queue import BATCH_MAX, BATCHES_IN_FLIGHT, SqsClient, SqsJobQueue
from async_jobs.testing.builders import a_handoff
from async_jobs.testing.clocks import ManualClock, let_others_run

URL = "https://sqs.eu-central-1.amazonaws.com/123456789012/orders"


class SlowClient:
    """SQS as it is when every request takes so many seconds."""

    def __init__(self, clock: ManualClock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self.requests = 0

    async def send_message_batch(self, *, QueueUrl: str, Entries: list[Any]) -> dict[str, Any]:  # noqa: N803
        self.requests += 1
        await let_others_run()
        self._clock.advance(self._seconds)
        return {"Successful": [{"Id": entry["Id"]} for entry in Entries], "Failed": []}


async def test_a_send_that_takes_too_long_is_given_up() -> None:
    """What was not sent by then is reported as failed, without another request."""
    clock = ManualClock()
    client = SlowClient(clock, seconds=2)
    queue = SqsJobQueue(cast("SqsClient", cast("Any", client)), "orders", URL, clock=clock)
    handoffs = [a_handoff() for _ in range(2 * BATCH_MAX * BATCHES_IN_FLIGHT)]

    sent = await queue.send(handoffs)

    failed = [each for each in sent if each.error is not None]
    assert [each.handoff for each in sent] == handoffs
    assert len(failed) > BATCH_MAX * BATCHES_IN_FLIGHT / 2
    assert all("did not answer" in str(each.error) for each in failed)
