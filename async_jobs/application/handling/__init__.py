"""Handling: what handlers are registered with, given, and raise."""
