"""Handlers that keep a record of their executions, apart from the database.

A line when an execution begins, and one when its handler returns, raises or is stopped; what is
killed leaves only the first. Each result names the lease it was worked out under, so that the
outcome of a job can be traced to one execution.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from async_jobs import JobContext, Reject, job_registry
from async_jobs.domain.job import JsonValue, Payload
from async_jobs.host import SystemClock
from tests.kills.records import EXECUTIONS_VARIABLE, append

PROCESS: Final = f"{os.getpid()}-{secrets.token_hex(4)}"
"""Names this process among all that ever ran: process ids come back."""

_clock = SystemClock()


def _record(context: JobContext, what: str) -> None:
    line = {
        "what": what,
        "job_id": str(context.job_id),
        "attempt": context.attempt,
        "lease_seq": context.lease_seq,
        "process": PROCESS,
        "at": _clock.monotonic(),
    }
    append(Path(os.environ[EXECUTIONS_VARIABLE]), line)


@contextmanager
def _recorded(context: JobContext) -> Iterator[None]:
    _record(context, "began")
    try:
        yield
    except Exception:
        _record(context, "raised")
        raise
    except BaseException:
        _record(context, "stopped")
        raise
    _record(context, "returned")


def _result(context: JobContext) -> JsonValue:
    return {"lease_seq": context.lease_seq}


def _seconds(payload: Payload) -> float:
    seconds = payload["seconds"]
    assert isinstance(seconds, int | float)
    return float(seconds)


@job_registry.handler("kills.work")
async def work(context: JobContext, payload: Payload) -> JsonValue:
    with _recorded(context):
        await _clock.sleep(_seconds(payload))
        return _result(context)


@job_registry.handler("kills.work_in_a_thread")
def work_in_a_thread(context: JobContext, payload: Payload) -> JsonValue:
    with _recorded(context):
        threading.Event().wait(_seconds(payload))
        context.check_cancelled()
        return _result(context)


@job_registry.handler("kills.fail_first")
async def fail_first(context: JobContext, payload: Payload) -> JsonValue:
    with _recorded(context):
        await _clock.sleep(_seconds(payload))
        if context.attempt == 1:
            raise RuntimeError("the first attempt fails")
        return _result(context)


@job_registry.handler("kills.fail")
async def fail(context: JobContext, payload: Payload) -> None:
    with _recorded(context):
        await _clock.sleep(_seconds(payload))
        raise RuntimeError("every attempt fails")


@job_registry.handler("kills.reject")
async def reject(context: JobContext, payload: Payload) -> None:
    with _recorded(context):
        raise Reject("no attempt will do")
