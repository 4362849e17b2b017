"""The ports on Postgres: the system of record, and a transport that needs nothing else."""
