"""Into a server by SSH, with the cloud's own key."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dozencloud.cloud.installation import Cloud
from dozencloud.private import write_private

LOGIN_USER = "dozen"
SSH_PATIENCE = 30
"""s that ssh waits for a server; one that is emulated takes its time for the first bytes."""


@dataclass(frozen=True)
class KeyFiles:
    """Where the servers' key lies on this machine."""

    cloud: Cloud

    @property
    def key(self) -> Path:
        return self.cloud.etc / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.cloud.lib / "known_hosts"


def ssh(cloud: Cloud, address: str, *command: str) -> list[str]:
    """The command line that logs in to a server.

    Whoever may read the cloud's own key has it, and the cloud's list of known servers.
    """
    files = KeyFiles(cloud)
    options = []
    if os.access(files.key, os.R_OK):
        if not files.known_hosts.exists():
            write_private(files.known_hosts, "")  # ssh would make it for everybody to read
        options = ["-i", str(files.key), "-o", f"UserKnownHostsFile={files.known_hosts}"]
    options += ["-o", "StrictHostKeyChecking=accept-new", "-o", f"ConnectTimeout={SSH_PATIENCE}"]
    return ["ssh", *options, f"{LOGIN_USER}@{address}", *command]
