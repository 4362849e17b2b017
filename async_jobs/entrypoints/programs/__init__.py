"""The programs: scheduler, worker and API as processes, with signals, logs and limits."""
