"""Example handlers, for demonstrations and as patterns to copy.

Importing this package registers nothing. Each module registers its own handlers on
`async_jobs.job_registry` when it is imported, which a worker does for the modules named by
`ASYNC_JOBS_HANDLERS_MODULE`:

    async_jobs.handlers.notifications   send_email, send_notification
    async_jobs.handlers.messaging       label_message, analyze_conversation
    async_jobs.handlers.delivery        where the former two hand their messages over
"""
