"""python -m async_jobs.entrypoints.cli: what `async-jobs` is."""

from async_jobs.entrypoints.cli.main import main

main()
