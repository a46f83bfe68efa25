"""Processes of a cloud that its supervisor does not hold: found by what they carry."""

from __future__ import annotations

import os
import pwd
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from dozencloud.cloud.installation import CONSOLE_USER, Cloud

SERVERS = "qemu-system-"


def read(pid: int, name: str) -> list[bytes]:
    """The words of a file of /proc/PID, such as `cmdline`; none if the process is gone."""
    try:
        return Path("/proc", str(pid), name).read_bytes().split(b"\0")
    except OSError:
        return []


def alive(pid: int) -> bool:
    """The process runs: it is there, and no zombie that waits for its parent."""
    try:
        # proc(5): pid (name) state
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def children(pid: int) -> list[int]:
    """The processes that this one started and that are still there."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path("/proc", str(pid), "task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _network(pid: int | str) -> str:
    """Identity of a process's network namespace; empty if it is gone."""
    try:
        return str(Path("/proc", str(pid), "ns", "net").readlink())
    except OSError:
        return ""


def _own_network(cloud: Cloud) -> str:
    """Identity of the cloud's own network namespace; empty if it has none."""
    if cloud.namespace is None:
        return ""
    try:
        return f"net:[{Path('/run/netns', cloud.namespace).stat().st_ino}]"
    except OSError:
        return ""


def _is_worker(pid: int) -> bool:
    """An nginx of our users in our own network namespace."""
    folder = Path("/proc", str(pid))
    try:
        owner = pwd.getpwuid(folder.stat().st_uid).pw_name
        return (
            owner in ("dozen-gateway", CONSOLE_USER)
            and (folder / "comm").read_text() == "nginx\n"
            and _network(pid) == _network("self")
        )
    except (OSError, KeyError):
        return False


def find(cloud: Cloud, *, servers: bool = False) -> Iterator[int]:
    """Pids of this cloud's processes; with `servers`, its virtual machines instead.

    Services and their helpers inherit the marker in their environment; libvirt gives QEMU a clean
    one, but the paths on its command line are ours. nginx writes its title over its environment:
    it is known by the cloud's namespace, or by its users in the machine's.
    """
    marker = cloud.marker.encode()
    instances = f"{cloud.lib}/".encode()
    network = _own_network(cloud)
    masters = [
        f"nginx: master process nginx -c {cloud.etc}/{name}/nginx.conf -e stderr".encode()
        for name in ("gateway", "gate")
    ]
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        pid = int(folder.name)
        command = read(pid, "cmdline")
        program = Path(command[0].decode(errors="replace")).name if command else ""
        is_server = program.startswith(SERVERS) and any(instances in word for word in command)
        if servers or is_server:
            if servers and is_server:
                yield pid
        elif (
            marker in read(pid, "environ")
            or (command and command[0] in masters)
            or (network and _network(pid) == network)
            or (cloud.root is None and _is_worker(pid))
        ):
            yield pid


def commands(cloud: Cloud) -> Iterator[int]:
    """Pids of commands that a run of `dozen` started for this cloud, and of their children."""
    marker = cloud.run_marker.encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and marker in read(int(folder.name), "environ"):
            yield int(folder.name)


def mounted(path: str) -> bool:
    """Whether something is mounted there for any process, in whichever mount namespace.

    The kernel lets such a folder be removed from a namespace without the mount, and takes the mount
    away from the others then (`detach_mounts` of Linux, fs/namespace.c).
    """
    seen = set()
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if not folder.name.isdigit() or (name := (folder / "ns/mnt").readlink()) in seen:
                continue
            mounts = (folder / "mountinfo").read_text(errors="replace")
            seen.add(name)
            # proc(5): id parent major:minor root mount-point
            if any(line.split(" ", 5)[4] == path for line in mounts.splitlines()):
                return True
    return False


def end(cloud: Cloud, *, servers: bool = False, seconds: float = 10) -> None:
    """Ask this cloud's processes (or, instead, its servers) to end; make them after `seconds`."""
    _end(lambda: find(cloud, servers=servers), seconds)


def end_commands(cloud: Cloud, seconds: float = 10) -> None:
    """End what a killed run left at work: it would meddle with what the next one does."""
    _end(lambda: commands(cloud), seconds)


def _end(find: Callable[[], Iterator[int]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    asked: set[int] = set()
    while pids := {pid for pid in find() if alive(pid)}:
        late = time.monotonic() > deadline
        for pid in pids if late else pids - asked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        asked |= pids
        time.sleep(0.1)
