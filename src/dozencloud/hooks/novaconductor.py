"""Starts nova-conductor, which records what failed before a node was found."""

from __future__ import annotations


def main() -> None:
    """Take the command line of nova-conductor; return when it ends."""
    # First of all that is Nova's: it chooses between threads and eventlet for the whole process.
    from nova.cmd import conductor  # isort: skip
    from dozencloud.hooks import novafaults

    novafaults.install()
    conductor.main()
