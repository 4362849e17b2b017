"""The demo's workload: jobs of the example types over many tenants, each with its known fate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from async_jobs.domain.backoff import BackoffPolicy, BackoffType
from async_jobs.domain.job import EnqueueJobRequest, JobStatus, Payload
from async_jobs.domain.limits import TenantQuota, UseCaseConfig

NOISY = "noisy-tenant"
TENANTS = [NOISY, *(f"tenant-{number:02}" for number in range(1, 20))]
FAILURE_SHARE = 0.05
_SOON = BackoffPolicy(
    type=BackoffType.EXPONENTIAL, base_delay_seconds=0.5, max_delay_seconds=5.0, jitter=0.2
)

USE_CASES = {
    "notifications": UseCaseConfig(
        max_concurrent=40, default_delay_tolerance_seconds=5, default_backoff_policy=_SOON
    ),
    "message_analysis": UseCaseConfig(
        max_concurrent=20, default_delay_tolerance_seconds=15, default_backoff_policy=_SOON
    ),
    "reports": UseCaseConfig(
        max_concurrent=4, default_delay_tolerance_seconds=30, default_backoff_policy=_SOON
    ),
}
NOISY_MAX = 20
QUOTAS = {NOISY: TenantQuota(max_running=NOISY_MAX)}
HANDLERS = (
    "async_jobs.handlers.notifications",
    "async_jobs.handlers.messaging",
    "async_jobs.entrypoints.demo.handlers",
)
REPORT = "monthly_report"
REPORTS = 8
REPORT_SECONDS = 1.5

_MESSAGES = (
    "I was charged twice this month, please refund the second invoice.",
    "The export button crashes with an error every time I press it!",
    "Thanks a lot, the new dashboard is really great.",
    "How do I cancel my subscription before the renewal?",
    "This is urgent: nobody in our office can log in since this morning.",
    "Not bad at all, but the search could be faster.",
)


class Planned(NamedTuple):
    """A job to enqueue, and how it has to end."""

    request: EnqueueJobRequest
    fate: JobStatus


def workload(jobs: int) -> Iterator[Planned]:
    """Yield `jobs` jobs: four in ten are the noisy tenant's, and those come first.

    One e-mail in a hundred has an impossible address and has to end dead; everything else has
    to succeed, though one delivery in twenty fails at its first attempt. A few are reports, which
    take a while.
    """
    noisy = jobs * 4 // 10
    reports = {(jobs * part) // REPORTS for part in range(REPORTS)}
    for number in range(jobs):
        quiet = TENANTS[1 + number % (len(TENANTS) - 1)]
        tenant_id = NOISY if number < noisy else quiet
        if number in reports:
            yield _planned(tenant_id, "reports", REPORT, {"seconds": REPORT_SECONDS})
        else:
            yield _job(number, tenant_id)


def _job(number: int, tenant_id: str) -> Planned:
    match number % 4:
        case 0:
            impossible = number % 400 == 0
            to = "nobody at nowhere" if impossible else f"customer-{number}@example.com"
            payload: Payload = {"to": to, "subject": f"Receipt {number}", "body": "Thank you."}
            fate = JobStatus.DEAD if impossible else JobStatus.SUCCEEDED
            return _planned(tenant_id, "notifications", "send_email", payload, fate)
        case 1:
            payload = {"user_id": f"user-{number}", "channel": "push", "text": "It has shipped."}
            return _planned(tenant_id, "notifications", "send_notification", payload)
        case 2:
            text = _MESSAGES[number % len(_MESSAGES)]
            payload = {"message_id": f"message-{number}", "text": text}
            return _planned(tenant_id, "message_analysis", "label_message", payload)
        case _:
            return _planned(
                tenant_id, "message_analysis", "analyze_conversation", _conversation(number)
            )


def _conversation(number: int) -> Payload:
    return {
        "conversation_id": f"conversation-{number}",
        "messages": [
            {
                "author": ("customer", "agent")[turn % 2],
                "text": _MESSAGES[(number + turn) % len(_MESSAGES)],
                "sent_at": f"2030-01-01T12:{turn:02}:00Z",
            }
            for turn in range(2 + number % 10)
        ],
    }


def _planned(
    tenant_id: str,
    use_case: str,
    type: str,
    payload: Payload,
    fate: JobStatus = JobStatus.SUCCEEDED,
) -> Planned:
    request = EnqueueJobRequest(tenant_id=tenant_id, use_case=use_case, type=type, payload=payload)
    return Planned(request, fate)
