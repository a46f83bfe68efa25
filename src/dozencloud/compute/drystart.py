"""Whether QEMU starts a 32-bit ARM guest under KVM: asked from QEMU, once for each kind of CPU.

That KVM has the capability and initialises such a vCPU is not all: QEMU sets more of its registers
and features, by its version.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from oslo_log import log

LOG = log.getLogger(__name__)

SECONDS = 60
"""A start takes 0.1 s on hardware, and some seconds on a machine that is itself emulated."""

_TALK = "".join(
    json.dumps({"execute": command}) + "\n"
    for command in ("qmp_capabilities", "query-status", "quit")
)


@dataclass(frozen=True)
class User:
    """Whom libvirt starts QEMU as."""

    uid: int
    gid: int

    @property
    def groups(self) -> list[int]:
        """All of the user's groups, as libvirt sets them: one of them may open /dev/kvm."""
        try:
            return os.getgrouplist(pwd.getpwuid(self.uid).pw_name, self.gid)
        except KeyError:  # no name
            return [self.gid]


def command(emulator: Path, cpus: Iterable[int]) -> list[str]:
    """QEMU under KVM with a 32-bit CPU, on those CPUs; it stops before the first instruction.

    SVE is left out as in the domains of such servers: where KVM offers it, QEMU does not by itself.
    """
    return [
        *("taskset", "-c", ",".join(map(str, cpus)), str(emulator)),
        *("-accel", "kvm", "-machine", "virt,gic-version=host"),
        *("-cpu", "host,aarch64=off,sve=off", "-m", "64", "-S"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio"),
    ]


def starts(words: Sequence[str], user: User) -> bool | None:
    """Whether the QEMU of that command line comes up; None where it did not say in time."""
    try:
        done = subprocess.run(
            words,
            input=_TALK,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            user=user.uid,
            group=user.gid,
            extra_groups=user.groups,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        LOG.warning("It stays unknown whether KVM starts 32-bit ARM guests: %s", error)
        return None
    came_up = done.returncode == 0 and '"status": "prelaunch"' in done.stdout
    if not came_up:
        LOG.info("KVM starts no 32-bit ARM guests: %s", done.stderr.strip()[-500:])
    return came_up


class Memory:
    """Answers on disk, for as long as kernel, QEMU and its user stay the same."""

    def __init__(self, path: Path, emulator: Path, user: User) -> None:
        self._path = path
        status = emulator.stat()
        self._valid_for = [
            *(os.uname().release, str(emulator), status.st_size, status.st_mtime_ns),
            *(user.uid, user.gid),
        ]

    def get(self, words: Sequence[str]) -> bool | None:
        """What was found out for this command line before."""
        return self._answers().get(" ".join(words))

    def put(self, words: Sequence[str], answer: bool) -> None:
        """Remember it, if the disk lets us: without, the next start takes longer."""
        content = {"for": self._valid_for, "starts": self._answers() | {" ".join(words): answer}}
        new = self._path.with_suffix(".new")
        try:
            new.write_text(json.dumps(content, indent=2) + "\n")
            new.replace(self._path)
        except OSError as error:
            LOG.warning("What QEMU said about 32-bit ARM guests cannot be kept: %s", error)

    def _answers(self) -> dict[str, bool]:
        try:
            content = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        valid = isinstance(content, dict) and content.get("for") == self._valid_for
        return dict(content["starts"]) if valid else {}
