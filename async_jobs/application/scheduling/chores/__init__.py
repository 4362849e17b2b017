"""Chores: what a scheduler does at intervals beside dispatching, one module each.

Each says what it is for, how much it does at once, and what a crash in the middle leaves.
"""
