"""Decisions: where content is cut, how trees grow, what has changed, what to fetch and write.

No I/O, no clock, no randomness, no threads: whatever comes from outside is an argument.
"""
