"""What is logged while a handler runs tells whose job it is."""

from __future__ import annotations

import logging

from structlog.contextvars import bind_contextvars

from async_jobs.application.handling.registry import JobContext, running_job


def fields_of(context: JobContext) -> dict[str, object]:
    """Return what a line of a handler says of its job."""
    told: dict[str, object] = {
        "job_id": str(context.job_id),
        "attempt": context.attempt,
        "tenant_id": context.tenant_id,
        "use_case": context.use_case,
        "type": context.type,
    }
    return told if context.trace_id is None else told | {"trace_id": context.trace_id}


def bind_job(context: JobContext) -> None:
    """Bind the fields of a job to the context variables of structlog, in its attempt's own task.

    They are gone with that task. Loggers of structlog tell them wherever `merge_contextvars` is
    among their processors, as it is by default.
    """
    bind_contextvars(**fields_of(context))


class JobLogFilter(logging.Filter):
    """Gives log records the fields of the job whose handler logs them; keeps all records.

    For handlers of Python's logging that an application sets up: `handler.addFilter(
    JobLogFilter())`. Of a record that no job's handler has made, each field is None, so that a
    format can name them. What a record has already stays.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        job = running_job.get()
        fields = _NOBODYS if job is None else _NOBODYS | fields_of(job)
        for name, value in fields.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


_NOBODYS = dict.fromkeys(("job_id", "attempt", "tenant_id", "use_case", "type", "trace_id"))
