"""The tree of errors is the one that is drawn, and each error tells what it should."""

from uuid import UUID

import pytest

from async_jobs.domain import errors
from async_jobs.domain.errors import (
    AsyncJobsError,
    ConfigurationError,
    IllegalTransition,
    InvalidJobError,
    JobNotFoundError,
    QuotaExceededError,
    RemoteHttpError,
)
from async_jobs.domain.lifecycle import TRANSITIONS


def drawn_tree() -> dict[str, str]:
    """Read each error's parent off the drawing in the module's docstring."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        branch = line.lstrip("│├└─ ")
        depth = (len(line) - len(branch)) // 4
        name = branch.split(" ", 1)[0]
        if not name.isidentifier() or (depth == 0 and name != "AsyncJobsError"):
            continue
        path[depth:] = [name]
        if depth:
            parents[name] = path[depth - 1]
    return parents


def real_tree() -> dict[str, str]:
    """Return each error class of the module with the one it derives from."""
    parents: dict[str, str] = {}
    open_ends: list[type[AsyncJobsError]] = [AsyncJobsError]
    for parent in open_ends:
        for child in parent.__subclasses__():
            if child.__module__ == errors.__name__:
                parents[child.__name__] = parent.__name__
                open_ends.append(child)
    return parents


def test_the_drawn_tree_is_the_real_one() -> None:
    """The docstring shows every error of the module under its parent, and no other."""
    assert drawn_tree() == real_tree()


def test_every_error_of_the_module_belongs_to_the_tree() -> None:
    """Catching `AsyncJobsError` catches everything that is defined here."""
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }

    assert defined == {"AsyncJobsError", *real_tree()}


def test_an_invalid_job_names_the_field() -> None:
    """The message is the path and the problem."""
    error = InvalidJobError("payload.items[3]", "must be a finite number")

    assert str(error) == "payload.items[3]: must be a finite number"
    assert (error.field, error.problem) == ("payload.items[3]", "must be a finite number")


def test_an_exceeded_quota_carries_its_numbers() -> None:
    """Tenant, limit, used and asked can be read and are in the message."""
    error = QuotaExceededError(tenant_id="acme", limit=10, used=8, asked=3)

    assert (error.tenant_id, error.limit, error.used, error.asked) == ("acme", 10, 8, 3)
    assert str(error) == "tenant 'acme' may have 10 pending jobs; it has 8 and asked for 3 more"


def test_a_missing_job_names_the_id_only() -> None:
    """Nothing tells whether the job belongs to somebody else."""
    job_id = UUID(int=7)

    error = JobNotFoundError(job_id)

    assert error.job_id == job_id
    assert str(error) == f"no job has the id {job_id}"


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        ("", "a job that is dead cannot be claimed"),
        ("too late", "a job that is dead cannot be claimed: too late"),
    ],
)
def test_an_illegal_transition_names_state_and_event(why: str, expected: str) -> None:
    """The reason follows where there is one."""
    error = IllegalTransition(state="dead", event="Claimed", why=why)

    assert (error.state, error.event) == ("dead", "Claimed")
    assert str(error) == expected


@pytest.mark.parametrize("event", sorted({event.__name__ for _, event in TRANSITIONS}))
def test_an_illegal_transition_is_told_in_words(event: str) -> None:
    """Whatever the event: the names of classes and of constants are for programs."""
    told = str(IllegalTransition(state="handed_off", event=event))

    assert told.startswith("a job that is handed off cannot ")
    assert event not in told


def test_an_event_of_a_newer_version_is_told_by_its_name() -> None:
    """A remote side may know more than this one."""
    error = IllegalTransition(state="parked", event="Unparked")

    assert str(error) == "a job that is parked cannot go through Unparked"


def test_a_configuration_error_is_a_value_error() -> None:
    """Callers that know nothing of this library can catch it."""
    assert issubclass(ConfigurationError, ValueError)


def test_an_unexpected_answer_carries_status_and_excerpt() -> None:
    """What the remote side said can be read."""
    error = RemoteHttpError(502, "<html>")

    assert (error.status, error.excerpt) == (502, "<html>")
    assert str(error) == "the remote side answered 502: <html>"
