"""QEMU's gdb stub, on for as long as one gdb is connected.

QEMU gets one end of a socket pair. Nothing listens and no file is there, so nobody else on the
machine can reach it, and the end of nova-compute is the end of the connection.
"""

from __future__ import annotations

import json
import secrets
import select
import socket
from typing import Any

from dozencloud.compute.debugging.gdbserial import ACKNOWLEDGED, packet

DETACH_SECONDS = 10
DETACH = packet(b"D;1")
"""With the process, which QEMU wants named if a gdb before us spoke of several."""


def connect(domain: Any) -> socket.socket:
    """Stop the running domain for a debugger; returns the debugger's end."""
    import libvirt_qemu

    ours, theirs = socket.socketpair()
    name = f"gdb-{secrets.token_hex(4)}"
    with theirs:
        monitor(domain, "gdbserver none")
        give = {"execute": "getfd", "arguments": {"fdname": name}}
        flags = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT
        libvirt_qemu.qemuMonitorCommandWithFiles(domain, json.dumps(give), [theirs.fileno()], flags)
        address = {"type": "fd", "data": {"str": name}}
        backend = {"type": "socket", "data": {"addr": address, "server": False}}
        add = {"execute": "chardev-add", "arguments": {"id": name, "backend": backend}}
        libvirt_qemu.qemuMonitorCommand(domain, json.dumps(add), flags)
        monitor(domain, f"gdbserver chardev:{name}")
    return ours


def release(domain: Any) -> None:
    """Take away the breakpoints that a debugger left, let the domain run, close the stub.

    `gdbserver none` alone leaves breakpoints behind that stop the domain for good. A new
    connection is needed because nobody knows where in a packet the last one ended.
    """
    with connect(domain) as end:
        end.sendall(ACKNOWLEDGED + DETACH)
        answer = b""
        while b"OK" not in answer and select.select([end], [], [], DETACH_SECONDS)[0]:
            if not (more := end.recv(4096)):
                break
            answer += more
    monitor(domain, "gdbserver none")


def monitor(domain: Any, words: str) -> None:
    """A command of QEMU's monitor, which has none for this among those for machines."""
    import libvirt_qemu

    libvirt_qemu.qemuMonitorCommand(domain, words, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP)
