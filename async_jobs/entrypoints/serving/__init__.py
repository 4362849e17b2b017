"""Serving: an ASGI application on a port, and the health of a program."""
