"""The ports in memory: for application tests, for the simulation, and for `dev --memory`.

Everything lives in one process and one event loop, and is gone with it.
"""
