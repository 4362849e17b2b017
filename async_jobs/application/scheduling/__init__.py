"""Scheduling: the scheduler's loop, its rounds of dispatching and its chores."""
