"""Processes of a cloud that its supervisor does not hold: found by what they carry."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dozencloud.cloud import Cloud

SERVERS = "qemu-system-"


def _read(pid: int, name: str) -> list[bytes]:
    try:
        return Path("/proc", str(pid), name).read_bytes().split(b"\0")
    except OSError:
        return []


def _alive(pid: int) -> bool:
    try:
        # pid (name) state: a zombie waits for its parent and does nothing any more.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def find(cloud: Cloud, *, servers: bool = False) -> Iterator[int]:
    """Pids of this cloud's processes; with `servers`, its virtual machines instead.

    Services and their helpers inherit the marker in their environment; libvirt gives QEMU a clean
    one, but the paths on its command line are ours.
    """
    marker = cloud.marker.encode()
    instances = f"{cloud.lib}/".encode()
    # nginx writes its title over its environment.
    gateway = f"nginx: master process nginx -c {cloud.etc}/gateway/nginx.conf -e stderr".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        pid = int(folder.name)
        if servers:
            command = _read(pid, "cmdline")
            program = Path(command[0].decode(errors="replace")).name if command else ""
            if program.startswith(SERVERS) and any(instances in word for word in command):
                yield pid
        elif marker in _read(pid, "environ") or gateway in _read(pid, "cmdline")[0:1]:
            yield pid


def end(cloud: Cloud, *, servers: bool = False, seconds: float = 10) -> None:
    """Ask them to end, and make them after `seconds`."""
    deadline = time.monotonic() + seconds
    asked: set[int] = set()
    while pids := {pid for pid in find(cloud, servers=servers) if _alive(pid)}:
        late = time.monotonic() > deadline
        for pid in pids if late else pids - asked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked |= pids
        time.sleep(0.1)
