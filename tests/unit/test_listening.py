"""Which queues a worker receives from, however they are named."""

from __future__ import annotations

import pytest

from async_jobs.domain.errors import ConfigurationError
from async_jobs.entrypoints.programs.loops import listening
from async_jobs.entrypoints.settings.config import AsyncJobsConfig

URL = "https://sqs.eu-central-1.amazonaws.com/123456789012"
DSN = {"ASYNC_JOBS_DB_DSN": "postgresql:///app"}


def configured(**variables: str) -> AsyncJobsConfig:
    prefixed = {f"ASYNC_JOBS_{name}": value for name, value in variables.items()}
    return AsyncJobsConfig.from_env(DSN | prefixed)


TWO = {"SQS_QUEUE_MAILS": f"{URL}/jobs-mails", "SQS_QUEUE_LABELS": f"{URL}/jobs-labels"}


@pytest.mark.parametrize(
    ("queues", "names"),
    [
        (["mails"], ["mails"]),
        (["mails", "labels", "mails"], ["mails", "labels"]),
        ([f"{URL}/jobs-mails"], ["mails"]),
        ([f"{URL}/jobs-mails/"], ["mails"]),
        ([f"{URL}/jobs-labels", "mails", "labels"], ["labels", "mails"]),
    ],
)
def test_a_queue_is_named_by_its_name_or_its_url(queues: list[str], names: list[str]) -> None:
    """Once each, in the order given."""
    config = configured(**TWO)

    assert listening(config, queues) == (config, names)


def test_a_url_means_every_queue_that_has_it() -> None:
    """Use cases may share one without saying so."""
    config = configured(SQS_QUEUE_MAILS=f"{URL}/shared", SQS_QUEUE_LABELS=f"{URL}/shared")

    assert listening(config, [f"{URL}/shared"])[1] == ["labels", "mails"]


def test_a_worker_may_know_nothing_but_a_url() -> None:
    """The queue is named like the last part of it, and SQS is what carries."""
    config, names = listening(configured(), [f"{URL}/mails", f"{URL}/labels/"])

    assert names == ["mails", "labels"]
    assert config.sqs_queue_urls == {"mails": f"{URL}/mails", "labels": f"{URL}/labels"}
    assert config.queue_backend == "sqs"


@pytest.mark.parametrize(
    ("variables", "queue", "told"),
    [
        (TWO, "mail", "'mail' is fed by no use case; known: labels, mails"),
        (TWO, f"{URL}/jobs-mail", "'jobs-mail' is fed by no use case; known: labels, mails"),
        (TWO, "https://me:hunter2@host/1/mails", "the queue 'mails' has another URL"),
        ({"QUEUE_BACKEND": "postgres"}, f"{URL}/mails", "ASYNC_JOBS_QUEUE_BACKEND is postgres"),
    ],
)
def test_a_queue_that_cannot_be_meant_is_refused(
    variables: dict[str, str], queue: str, told: str
) -> None:
    """With what is known, and without a URL, which may hold a password."""
    with pytest.raises(ConfigurationError) as caught:
        listening(configured(**variables), [queue])

    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)
