"""Starts nova-compute of a node that joined, whose account in RabbitMQ may do little.

Files go to other nodes through their libvirtd, where nodes trust each other.
"""

from __future__ import annotations


def main() -> None:
    """Take the command line of nova-compute; return when it ends."""
    # First of all that is Nova's: it chooses between threads and eventlet for the whole process.
    from nova.cmd import compute  # isort: skip
    from dozencloud.compute.joined import nodebus, peerfiles

    nodebus.use()
    peerfiles.use()
    compute.main()
