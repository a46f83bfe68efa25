"""Nodes of a test's cloud: machines under roots of their own, used by their command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from testcloud import Guest, Tenant, TestCloud

from dozencloud.cloud.membership import Membership, membership
from dozencloud.host import processes


class Node(TestCloud):
    """A machine that joins, used by its command line."""

    def __init__(self, root: Path, name: str) -> None:
        super().__init__(root)
        self.name = name

    @property
    def given(self) -> Membership:
        found = membership(self.cloud)
        assert found is not None
        return found

    def share_paths(self, other: Node) -> None:
        """Have the other's path of its servers' disks lead to this node's own.

        On two machines both paths are the same.
        """
        supervisor = self.cloud.run / "supervisord.pid"
        daemons = (self.cloud.run / "libvirt" / f"{name}.pid" for name in ("libvirtd", "virtlogd"))
        folders = [str(each.cloud.lib / "compute" / "instances") for each in (self, other)]
        # libvirtd and virtlogd have namespaces of their own.
        for pid in (path.read_text().strip() for path in (supervisor, *daemons)):
            words = ["nsenter", f"--target={pid}", "--mount", "mount", "--bind", *folders]
            subprocess.run(words, check=True)

    def cut_power(self) -> None:
        """End all of its processes at once, its servers, too."""
        here = [*processes.find(self.cloud), *processes.find(self.cloud, servers=True)]
        # The supervisor first: it would start again what dies.
        here.insert(0, int(self.status()["supervisor"]["pid"]))
        for pid in here:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass
class Heard:
    """What passed on a wire: bytes, and whether the words did."""

    words: bytes
    size: int = 0
    found: bool = False


@contextmanager
def listening(device: str, words: bytes) -> Iterator[Heard]:
    """Hear all that passes through a network device of this machine."""
    heard, ended = Heard(words), threading.Event()
    everything = 3  # ETH_P_ALL in linux/if_ether.h
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(everything)) as wire:
        wire.bind((device, 0))
        wire.settimeout(0.2)

        def hear() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    frame = wire.recv(1 << 17)
                    heard.size += len(frame)
                    heard.found |= words in frame

        thread = threading.Thread(target=hear)
        thread.start()
        try:
            yield heard
        finally:
            ended.set()
            thread.join()


def token(cloud: TestCloud, *words: str) -> list[str]:
    """What `dozen node token` tells to run, without `sudo ./dozen`."""
    line = cloud.dozen("node", "token", *words).stdout.split()
    assert line[:3] == ["sudo", "./dozen", "join"]
    return line[2:]


def server_on(cloud: TestCloud, node: Node, admin: Tenant, name: str) -> Guest:
    """A server there, which may still be starting."""
    network = cloud.sdk.network.find_network("private")
    group = next(cloud.sdk.network.security_groups(name="ssh", project_id=admin.project))
    made = admin.create(name, network, group, availability_zone=f"nova:{node.name}")
    return admin.guest(made)


def condition(cloud: TestCloud, node: Node) -> str:
    rows = json.loads(cloud.dozen("node", "list", "--json").stdout)
    return next((str(r["condition"]) for r in rows if r["name"] == node.name), "")
