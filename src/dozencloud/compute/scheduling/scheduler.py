"""Starts nova-scheduler with our manager: upstream has no option for it."""

from __future__ import annotations

BINARY = "nova-scheduler"
MANAGER = "dozencloud.compute.scheduling.manager.Scheduler"


def main() -> None:
    """Take the command line of nova-scheduler; return when it ends."""
    # First of all that is Nova's: it chooses between threads and eventlet for the whole process.
    from nova.cmd import scheduler  # isort: skip
    from nova.service import SERVICE_MANAGERS

    from dozencloud.hooks.nova import references

    references.use()
    SERVICE_MANAGERS[BINARY] = MANAGER
    scheduler.main()
