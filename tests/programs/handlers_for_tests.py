"""Handlers that keep a record of their executions, apart from the database.

Each execution appends a line when it begins and, unless it is killed, one when it ends. Those
that hold wait for a file, so that tests decide how long they take.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from async_jobs import JobContext, Reject, Snooze, job_registry
from async_jobs.domain.job import JsonValue, Payload
from async_jobs.host import SystemClock

EXECUTIONS_VARIABLE = "EXECUTIONS_FILE"
GATE_VARIABLE = "GATE_FILE"
DEPLOYMENT_VARIABLE = "DEPLOYMENT"
BAD = "bad"
"""The deployment whose `send_email` fails, whatever it is given."""
LOOK_SECONDS = 0.01

_clock = SystemClock()


def _record(context: JobContext, what: str) -> None:
    line = {
        "what": what,
        "job_id": str(context.job_id),
        "attempt": context.attempt,
        "lease_seq": context.lease_seq,
        "pid": os.getpid(),
    }
    # One write to a file that only ever grows: lines of several processes never mix.
    file = os.open(os.environ[EXECUTIONS_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, (json.dumps(line) + "\n").encode())
    finally:
        os.close(file)


@contextmanager
def _recorded(context: JobContext) -> Iterator[None]:
    _record(context, "began")
    try:
        yield
    finally:
        _record(context, "ended")


def _gate_is_open() -> bool:
    return Path(os.environ[GATE_VARIABLE]).exists()


@job_registry.handler("succeed")
async def succeed(context: JobContext, payload: Payload) -> JsonValue:
    with _recorded(context):
        return {"attempt": context.attempt}


@job_registry.handler("succeed_in_a_thread")
def succeed_in_a_thread(context: JobContext, payload: Payload) -> JsonValue:
    with _recorded(context):
        return threading.current_thread().name


@job_registry.handler("take_a_while")
async def take_a_while(context: JobContext, payload: Payload) -> None:
    with _recorded(context):
        await _clock.sleep(0.3)


@job_registry.handler("fail_once")
async def fail_once(context: JobContext, payload: Payload) -> None:
    with _recorded(context):
        if context.attempt == 1:
            raise RuntimeError("the first attempt fails")


@job_registry.handler("snooze_once")
async def snooze_once(context: JobContext, payload: Payload) -> None:
    with _recorded(context):
        if context.lease_seq == 1:
            raise Snooze(1)


@job_registry.handler("send_receipt")
async def send_receipt(context: JobContext, payload: Payload) -> None:
    with _recorded(context):
        if os.environ.get(DEPLOYMENT_VARIABLE) == BAD:
            raise LookupError(f"no template for the message {payload['number']}")


@job_registry.handler("fail")
def fail(context: JobContext, payload: Payload) -> None:
    with _recorded(context):
        raise RuntimeError("every attempt fails")


@job_registry.handler("reject")
async def reject(context: JobContext, payload: Payload) -> None:
    with _recorded(context):
        logging.getLogger("an_application").info("rejecting %s", context.job_id)
        raise Reject("no attempt will do")


@job_registry.handler("log_an_exception")
async def log_an_exception(context: JobContext, payload: Payload) -> None:
    try:
        raise RuntimeError("caught")
    except RuntimeError:
        logging.getLogger("an_application").exception("something went wrong")


@job_registry.handler("end_the_process")
async def end_the_process(context: JobContext, payload: Payload) -> None:
    with _recorded(context):
        await _clock.sleep(0.1)  # by when others have begun
        os._exit(1)


@job_registry.handler("hold")
async def hold(context: JobContext, payload: Payload) -> None:
    with _recorded(context):
        while not _gate_is_open():
            await _clock.sleep(LOOK_SECONDS)


@job_registry.handler("hold_the_event_loop")
async def hold_the_event_loop(context: JobContext, payload: Payload) -> None:
    with _recorded(context):
        while not _gate_is_open():
            threading.Event().wait(LOOK_SECONDS)


@job_registry.handler("hold_in_a_thread")
def hold_in_a_thread(context: JobContext, payload: Payload) -> None:
    with _recorded(context):
        while not _gate_is_open():
            context.check_cancelled()
            threading.Event().wait(LOOK_SECONDS)
