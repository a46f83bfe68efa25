"""Measures servers from inside: a small program is sent to them, runs, and is gone.

`program/` holds its source and, compiled, what is sent.
"""
