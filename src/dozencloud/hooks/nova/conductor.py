"""Nova's conductor."""

from __future__ import annotations


def main() -> None:
    """Take the command line of nova-conductor; return when it ends."""
    # First of all that is Nova's: it chooses between threads and eventlet for the whole process.
    from nova.cmd import conductor  # isort: skip
    from dozencloud.hooks.nova import faults, lastword, references

    references.use()
    faults.use()
    lastword.use()
    conductor.main()
