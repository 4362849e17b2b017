"""The rules: what a job is, what may happen to it, and which one goes next.

Standard library only; nothing here awaits, reads a clock, draws chance or logs.
"""
