"""Whether a service does its work: asked, not slept for."""

from __future__ import annotations

import http.client
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dozencloud.cloud.installation import Cloud
from dozencloud.host import processes
from dozencloud.host.network import namespace
from dozencloud.supervision.service import api_socket

if TYPE_CHECKING:
    pass
from dozencloud.supervision.client import Supervisor

# ---- readiness ----------------------------------------------------------------------------


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def http_status(path: Path, url: str, timeout: float = 15) -> int:
    """Status of a GET over a Unix socket; 0 where nobody answers."""
    connection = _UnixConnection(path, timeout)
    try:
        connection.request("GET", url)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def answers(cloud: Cloud, name: str, url: str) -> Callable[[], bool]:
    """Ready when the API says anything but a server error."""
    return lambda: 0 < http_status(api_socket(cloud, name), url) < 500


def listening(cloud: Cloud, port: int, address: str = "127.0.0.1") -> Callable[[], bool]:
    """Ready when somebody accepts connections on the port of an address of this machine."""

    def probe() -> bool:
        with namespace.within(cloud):
            client = socket.socket()
        with client:
            client.settimeout(2)
            return client.connect_ex((address, port)) == 0

    return probe


def accepting(path: Path) -> Callable[[], bool]:
    """Ready when somebody accepts connections on the Unix socket."""

    def probe() -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            return client.connect_ex(str(path)) == 0

    return probe


def running_since(cloud: Cloud, name: str, seconds: float) -> Callable[[], bool]:
    """Ready when the process has lived that long: for services that nobody can ask."""

    def probe() -> bool:
        process = Supervisor(cloud).process(name)
        alive = process.state in ("starting", "running")
        return alive and time.time() - process.started >= seconds

    return probe


def connected_to(cloud: Cloud, name: str, port: int, host: str = "127.0.0.1") -> Callable[[], bool]:
    """Ready when a process of the service has a connection to the port of that host.

    For services that nobody can ask: one that works through the broker connects to it when it
    begins to take requests.
    """

    def probe() -> bool:
        pid = Supervisor(cloud).process(name).pid
        try:
            address = socket.inet_aton(socket.gethostbyname(host))
        except OSError:  # no name service
            return False
        # Documentation/networking/proc_net_tcp: address:port in hex, as the machine holds them.
        remote = f"{int.from_bytes(address, sys.byteorder):08X}:{port:04X}"
        return any(remote in _connections(p) for p in _tree(pid)) if pid else False

    return probe


def _connections(pid: int) -> set[str]:
    """Remote ends of the TCP connections that the process holds, if ESTABLISHED (state 01)."""
    process = Path("/proc", str(pid))
    try:
        held = {str(link.readlink()) for link in (process / "fd").iterdir()}
        rows = [line.split() for line in (process / "net" / "tcp").read_text().splitlines()[1:]]
    except OSError:
        return set()
    return {row[2] for row in rows if row[3] == "01" and f"socket:[{row[9]}]" in held}


def _tree(pid: int) -> list[int]:
    """The process and its descendants."""
    found, todo = [], [pid]
    while todo:
        current = todo.pop()
        found.append(current)
        todo += processes.children(current)
    return found
